"""`Jacobian`: the derivative of a function at a point as a linear operator, by jvp and vjp."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lax_linalg.core.batch import Batch
from lax_linalg.core.dense import Dense
from lax_linalg.core.dispatch import Tracer, require_finite
from lax_linalg.core.eager_checks import undefined_unless
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.errors import DenseLimitError, DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.jacobian.graph import derivative_graph
from lax_linalg.jacobian.materialize import chosen_mode, chunk_size, directions, pull_of, push_of
from lax_linalg.jacobian.positions import position_blocks, positions_of
from lax_linalg.jacobian.reuse import formed
from lax_linalg.jacobian.routes import METHODS, Route, plan
from lax_linalg.jacobian.structured import operator_of
from lax_linalg.operators.assemble import sorted_descending
from lax_linalg.operators.lazy import Product, Sum
from lax_linalg.verbs.arithmetic import conj, transpose
from lax_linalg.verbs.basic import compute_dtype, dense, diag, materialize, require_dense
from lax_linalg.verbs.eigen import eigvals, sorted_eigenvalues
from lax_linalg.verbs.functions import power
from lax_linalg.verbs.norms import norm, opnorm, scaled_norm
from lax_linalg.verbs.svd import svdvals

DEFAULT_MEMORY_BUDGET = 64 * 2**20


@operator(data=("x", "args"), meta=("f", "out", "memory_budget", "mode", "mesh", "transposed", "conjugated", "method"))
class Jacobian(LinearOperator):
    """∂ vec f(x, *args) / ∂ vec x, matrix-free; made by `la.jacobian`, which checks f and x.

    Attributes:
        f: hashable function of (x, *args); static, so an equal f compiles nothing again.
        x: where f is differentiated, any shape.
        args: further arguments of f, held fixed.
        out: shape and dtype of f(x).
        memory_budget: bytes that a chunk of tangents may take when the matrix is formed.
        mode: "auto", "forward" or "reverse", the direction in which the matrix is formed.
        mesh: devices that share the columns when the matrix is formed, or None.
        transposed, conjugated: stands for the transpose, the conjugate, or with both the adjoint.
        method: how the matrix is formed: "structured", "coloured", "dense", or "auto" for the least counted cost.

    Cost: a product with a vector is one jvp (vjp if transposed), a small multiple of the cost of f.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> J = la.jacobian(jnp.sin, jnp.zeros((2, 3)))
        >>> J
        6×6 Jacobian{float32} of sin at (2, 3)
        >>> print(J.T @ jnp.ones(6))
        [1. 1. 1. 1. 1. 1.]
    """

    f: Callable[..., jax.Array]
    x: jax.Array
    out: jax.ShapeDtypeStruct
    args: tuple = ()
    memory_budget: int = DEFAULT_MEMORY_BUDGET
    mode: str = "auto"
    mesh: Mesh | None = None
    transposed: bool = False
    conjugated: bool = False
    method: str = "auto"

    @property
    def shape(self) -> tuple[int, int]:
        m, n = math.prod(self.out.shape), self.x.size
        return (n, m) if self.transposed else (m, n)

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(self.out.dtype)

    @property
    def structure(self) -> LinearOperator | None:
        """The Jacobian as structured operators, with products kept factored; None where the program gives none.

        A layer φ(W x + b) is Diagonal · Dense or Diagonal · Convolution, a residual block I + J, a network the product.

        Example:
            >>> import jax.numpy as jnp, lax_linalg as la
            >>> la.jacobian(lambda x: x + jnp.tanh(jnp.ones((2, 2)) @ x), jnp.zeros(2)).structure.terms
            (2×2 UniformScaling{float32}, 2×2 Product{float32} of 2 factors)
        """
        A = structure_at(self.f, self.x, self.args)
        if A is None:
            return None
        A = transpose(A) if self.transposed else A
        return conj(A) if self.conjugated else A

    def route(self, method: str | None = None) -> Route:
        """How the matrix would be formed, with the counted cost of every way that can serve.

        Example:
            >>> import jax.numpy as jnp, lax_linalg as la
            >>> la.jacobian(jnp.sort, jnp.zeros(3)).route().method
            'dense'
        """
        return plan(self.f, self.x, self.args, method or self.method, self.mode, self.memory_budget, self.mesh).route

    def _matmat(self, X: jax.Array) -> jax.Array:
        if jnp.iscomplexobj(X) and not jnp.issubdtype(self.dtype, jnp.complexfloating):
            return self._matmat(X.real) + 1j * self._matmat(X.imag)
        return jax.vmap(self._product(X.dtype), in_axes=1, out_axes=1)(X)

    def _product(self, dtype: Any) -> Callable[[jax.Array], jax.Array]:
        """v -> A v for real vectors, or for any where A is complex; linearised once."""
        if self.transposed:
            apply, domain = pull_of(self.f, self.x, self.args), self.out
        else:
            apply, domain = push_of(self.f, self.x, self.args), self.x

        def column(v: jax.Array) -> jax.Array:
            v = v.conj() if self.conjugated else v
            y = apply(v.astype(domain.dtype).reshape(domain.shape)).reshape(-1)
            return (y.conj() if self.conjugated else y).astype(dtype)

        return column

    def _computed(self) -> Jacobian:
        """J itself: its precision is that of f."""
        return self

    def _describe(self) -> str:
        adverb = {
            (False, False): "",
            (True, False): "transposed, ",
            (False, True): "conjugated, ",
            (True, True): "adjoint, ",
        }
        return f"{adverb[self.transposed, self.conjugated]}of {function_name(self.f)} at {tuple(self.x.shape)}"


@materialize.rule(Jacobian, cost="min(m, n) products; as many as colours; or the parameters of one structured map")
def _(
    A: Jacobian,
    *,
    memory_budget: int | None = None,
    mode: str | None = None,
    mesh: Mesh | None = None,
    method: str | None = None,
    out: jax.Array | None = None,
) -> jax.Array:
    """By structure, by coloured products or by all products, whichever costs least; exact each way.

    `out`, a matrix of the same shape and dtype, gives its memory for the result and is gone afterwards. Where it was
    formed here and its zeros stand in the same places, as after an update of a layer's parameters, they are not written
    again.
    """
    try:
        require_dense(A)
    except DenseLimitError as error:
        raise DenseLimitError(
            f"the Jacobian of {function_name(A.f)} is above the limit: {error}, la.svds(A, k), la.norm(A), la.diag(A)"
        ) from None
    mode, mesh, method = mode or A.mode, mesh or A.mesh, method or A.method
    memory_budget = A.memory_budget if memory_budget is None else memory_budget
    if out is not None:
        wanted = A.shape[::-1] if A.transposed else A.shape
        if out.shape != wanted or out.dtype != A.dtype:
            raise DimensionMismatch(
                f"out must be {wanted[0]}×{wanted[1]} {A.dtype.name}, got {list(out.shape)} {out.dtype.name}"
            )
        if not isinstance(out, Tracer) and out.is_deleted():
            raise LinearAlgebraError("out was given away or deleted before; pass the last result, or leave it out")
    matrix = formed(A.f, A.x, A.args, out=out, method=method, mode=mode, memory_budget=memory_budget, mesh=mesh)
    matrix = matrix.T if A.transposed else matrix
    return matrix.conj() if A.conjugated else matrix


@functools.partial(jax.jit, static_argnames="f")
def structure_at(f: Callable[..., jax.Array], x: jax.Array, args: tuple) -> LinearOperator | None:
    """The operators that the program of f gives at x; None where it gives none.

    Example:
        >>> structure_at(jnp.tanh, jnp.zeros(3), ())
        3×3 Diagonal{float32}
    """
    graph = derivative_graph(f, x, args)
    out = jax.eval_shape(f, x, *args)
    return None if graph is None else operator_of(graph, math.prod(out.shape), out.dtype)


@functools.partial(jax.jit, static_argnames=("f", "memory_budget"))
def blocks_at(f: Callable[..., jax.Array], x: jax.Array, args: tuple, memory_budget: int) -> jax.Array | None:
    """The blocks [P, m, n] of a Jacobian that acts on P positions alone, in the order of `positions_of`; None else.

    Example:
        >>> blocks_at(jax.nn.softmax, jnp.zeros((5, 3)), (), 2**20).shape
        (5, 3, 3)
    """
    positions = positions_of(f, x, args)
    return None if positions is None else position_blocks(f, x, args, positions, memory_budget)


def _blocks(A: Jacobian) -> jax.Array | None:
    return blocks_at(A.f, A.x, A.args, A.memory_budget) if A.method == "auto" and A.mesh is None else None


@svdvals.rule(Jacobian, cost="cost of svdvals of its one structure, of its blocks by positions, or of the matrix")
def _(A: Jacobian) -> jax.Array:
    """Those of the structured operator where the program is one linear map, or of what it does at each position."""
    structure = structure_at(A.f, A.x, A.args) if A.method in ("auto", "structured") and A.mesh is None else None
    if structure is not None and not isinstance(structure, (Product, Sum)):
        return svdvals(structure)
    blocks = _blocks(A)
    if blocks is None:
        return svdvals.fallback(A)
    return sorted_descending(svdvals(Batch(Dense, blocks)).ravel())


@eigvals.rule(Jacobian, cost="cost of eigvals of its blocks by positions, or of the matrix")
def _(A: Jacobian) -> jax.Array:
    """Those of what the program does at each position, where it leaves the positions in their places."""
    positions = positions_of(A.f, A.x, A.args) if A.out.shape == A.x.shape else None
    blocks = _blocks(A) if positions is not None and positions.inputs == positions.outputs else None
    if blocks is None:
        return eigvals.fallback(A)
    values = sorted_eigenvalues(eigvals(Batch(Dense, blocks)).ravel())
    return sorted_eigenvalues(values.conj()) if A.conjugated else values


def _streamed(A: Jacobian, reduce: Callable[..., jax.Array], *each: jax.Array) -> jax.Array:
    """reduce(column of A, *each) for the columns numbered by the first of `each`, in chunks within the budget."""
    dtype = compute_dtype(A.dtype)
    product = A._product(dtype)

    def of_column(numbers: tuple[jax.Array, ...]) -> jax.Array:
        unit = jnp.zeros(A.shape[1], dtype).at[numbers[0]].set(1)
        return reduce(product(unit), *numbers[1:])

    together = min(chunk_size(A.f, A.x, A.args, A.memory_budget), len(each[0]))
    return jax.lax.map(of_column, each, batch_size=together)


def _by_columns(A: Jacobian) -> bool:
    """Whether the matrix is formed, or its columns are made, by products with A rather than with its transpose."""
    (m, n), only = (A.out.size, A.x.size), directions(A.f, A.x, A.args).only
    return (chosen_mode(A.mode, m, n, only) == "reverse") == A.transposed


def _is_large(A: Jacobian) -> bool:
    """Whether the matrix is above `la.dense_limit`."""
    try:
        require_dense(A, compute_dtype(A.dtype))
    except DenseLimitError:
        return True
    return False


def _finite(values: jax.Array, answer: jax.Array) -> jax.Array:
    """The answer; `NonFiniteError`, or NaN under jit, where a streamed column is not finite."""
    finite = require_finite(values, "work on the columns of Jacobian")
    return answer if finite is None else undefined_unless(finite, answer)


@norm.rule(Jacobian, cost="O(mn) where the matrix fits; min(m, n) products in chunks above the dense limit")
def _(A: Jacobian, p: float = 2) -> jax.Array:
    """Norm of the norms of columns, or of rows where these are fewer, streamed above the dense limit; exact."""
    if not _is_large(A):
        return norm.fallback(A, p)
    A = A if _by_columns(A) else _transposed(A)
    norms = _streamed(A, lambda column: scaled_norm(column, p), jnp.arange(A.shape[1]))
    return _finite(norms, scaled_norm(norms, p))


@opnorm.rule(Jacobian, cost="cost of svdvals (p = 2); O(mn) where the matrix fits, n or m products above the limit")
def _(A: Jacobian, p: float = 2) -> jax.Array:
    """Columns (p = 1) or rows (p = inf) streamed above the dense limit; exact."""
    if p not in (1, jnp.inf) or not _is_large(A):
        return opnorm.fallback(A, p)
    A = A if p == 1 else _transposed(A)
    sums = _streamed(A, lambda column: scaled_norm(column, 1), jnp.arange(A.shape[1]))
    return _finite(sums, jnp.max(sums))


@diag.rule(Jacobian, cost="O(mn) where the matrix fits; as many products as entries above the dense limit")
def _(A: Jacobian, k: int = 0) -> jax.Array:
    """One entry of each column, or of each row, streamed above the dense limit; exact."""
    if not _is_large(A):
        return diag.fallback(A, k)
    m, n = A.shape
    i = jnp.arange(max(0, min(m + min(k, 0), n - max(k, 0))))
    row, column = i - min(k, 0), i + max(k, 0)
    if not _by_columns(A):
        A, row, column = _transposed(A), column, row
    return _streamed(A, lambda entries, at: entries[at], column, row).astype(A.dtype)


@power.rule(Jacobian, cost="O(1), lazy, for integers; O(n³ log p) else, and in half precision")
def _(A: Jacobian, p: complex | jax.Array) -> LinearOperator:
    """Repeated squaring; in half precision of the matrix, since f would round every product."""
    half = jnp.finfo(A.dtype).bits < 32
    return power.fallback(Dense(dense(A)) if half else A, p)


@transpose.rule(Jacobian, cost="O(1)")
def _(A: Jacobian) -> Jacobian:
    """vjp in place of jvp."""
    return _transposed(A)


def _transposed(A: Jacobian) -> Jacobian:
    return dataclasses.replace(A, transposed=not A.transposed)


@conj.rule(Jacobian, cost="O(1)")
def _(A: Jacobian) -> Jacobian:
    """Conjugates around the product; A itself where it is real."""
    complex_valued = jnp.issubdtype(A.dtype, jnp.complexfloating)
    return dataclasses.replace(A, conjugated=not A.conjugated) if complex_valued else A


def jacobian(
    f: Callable[..., jax.Array],
    x: jax.Array,
    *args: Any,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    mode: str = "auto",
    mesh: Mesh | None = None,
    method: str = "auto",
) -> Jacobian:
    """The Jacobian of f at x as an operator, J = ∂ vec f(x, *args) / ∂ vec x with vec in C order.

    Args:
        f: function from one array to one array, of any shapes. Arrays inside a callable pytree
            (`jax.tree_util.Partial`, an equinox module) become data of the operator, so that equal structures share one
            compilation.
        x: floating-point or complex array of any shape; for complex x, f must be holomorphic.
        *args: further arguments of f, held fixed.
        memory_budget: bytes that a chunk of tangents may take when the matrix is formed.
        mode: direction in which the matrix is formed: "forward", "reverse" or "auto" (the smaller side).
        mesh: a `jax.sharding.Mesh` whose devices share the work when the matrix is formed, by any method; it stays
            sharded, by columns or, of compositions of convolutions, by rows, where these can be shared evenly.
        method: how the matrix is formed: "structured" (read off the program: convolutions, matrix products and
            elementwise functions), "coloured" (sparse: entries that share no row travel together), "dense" (all
            products), or "auto" (the least counted cost). Each gives the exact matrix.

    Returns:
        A `Jacobian` of shape [f(x).size, x.size]; `la.materialize(J)`, `la.svdvals(J)`, `J @ v`, `J.T` …

    Raises:
        LinearAlgebraError: for integer x or f(x), for several or no outputs, for f that maps real to complex or back.
        UnknownNameError: for an unknown mode or method.
        DimensionMismatch: for an x that is not one array, and a memory budget that is no positive number.
        DenseLimitError: on forming a matrix above `la.dense_limit`.

    Cost: one abstract evaluation of f.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> J = la.jacobian(lambda x: jnp.tanh(A @ x), jnp.zeros(2))
        >>> bool((la.materialize(J) == A).all())
        True
    """
    x = one_array(x, "x is one array", "give others as further arguments: la.jacobian(f, x, *others)")
    require_inexact("x", x.dtype, "convert it, x.astype(jnp.float32), or differentiate with respect to what it indexes")
    chosen_mode(mode, 1, 1)
    if method not in METHODS:
        raise UnknownNameError.of("jacobian method", method, METHODS)
    require_bytes(memory_budget)
    f, arrays = hoist(f)
    args = (*arrays, *args)
    out = output_of(f, x, args)
    return Jacobian(f, x, out, args, int(memory_budget), mode, mesh, method=method)


def one_array(x: Any, expected: str, remedy: str) -> jax.Array:
    """x as an array; what holds several is not stacked.

    Raises:
        DimensionMismatch: for tuples, dicts, None, strings, and lists that are not the rows of an array.

    Example:
        >>> one_array([1.0, 2.0], "", "").shape
        (2,)
    """
    try:
        if x is None or isinstance(x, (tuple, Mapping, str)):
            raise TypeError
        return jnp.asarray(x)
    except (TypeError, ValueError):
        raise DimensionMismatch(f"{expected}, got a {type(x).__name__}; {remedy}") from None


def require_bytes(memory_budget: Any) -> None:
    """Raise `DimensionMismatch` unless a memory budget is a positive number.

    Example:
        >>> require_bytes(64 * 2**20)
    """
    if not (isinstance(memory_budget, (int, float, np.integer)) and memory_budget >= 1):
        raise DimensionMismatch(f"memory_budget is a positive number of bytes, got {memory_budget!r}")


def output_of(f: Callable[..., Any], x: Any, args: tuple, name: str | None = None) -> jax.ShapeDtypeStruct:
    """Shape and dtype of f(x, *args), after checking that it has a Jacobian.

    Raises:
        LinearAlgebraError: unless f gives one floating-point array, real for real x and complex for complex x.

    Example:
        >>> output_of(jnp.sum, jnp.ones(3), ()).shape
        ()
    """
    name = name or function_name(f)
    out = jax.eval_shape(f, x, *args)
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise LinearAlgebraError(
            f"{name} must return one array to have a Jacobian, it returns a {type(out).__name__}; "
            "select one output, for example lambda x: f(x)[0]"
        )
    require_inexact(f"the output of {name}", out.dtype, "return floating-point values")
    is_complex = jnp.issubdtype(out.dtype, jnp.complexfloating)
    if is_complex != jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise LinearAlgebraError(
            f"{name} maps {x.dtype} to {out.dtype}: the Jacobian of a function between real and complex arrays is not "
            "one matrix; split the complex side into real and imaginary parts"
        )
    return jax.ShapeDtypeStruct(out.shape, out.dtype)


def require_inexact(what: str, dtype: Any, remedy: str) -> None:
    """Raise `LinearAlgebraError` unless the dtype is floating-point or complex.

    Example:
        >>> require_inexact("x", jnp.float32, "")
    """
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise LinearAlgebraError(f"a Jacobian needs floating-point or complex numbers, {what} is {dtype}; {remedy}")


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """A callable pytree without its arrays: called with x and the arrays, it puts them back and calls the whole.

    Example:
        >>> f, arrays = hoist(jax.tree_util.Partial(jnp.add, jnp.ones(2)))
        >>> print(f(jnp.zeros(2), *arrays))
        [1. 1.]
    """

    structure: Any
    leaves: tuple[Hashable, ...]

    def __call__(self, x: jax.Array, *rest: Any) -> jax.Array:
        count = sum(leaf is _ARRAY for leaf in self.leaves)
        arrays = iter(rest[:count])
        leaves = [next(arrays) if leaf is _ARRAY else leaf for leaf in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)(x, *rest[count:])

    def __str__(self) -> str:
        leaves = [None] * len(self.leaves)
        return type(jax.tree.unflatten(self.structure, leaves)).__name__


class _Array:
    """Marks the place of an array."""


_ARRAY = _Array()


def hoist(f: Callable[..., Any]) -> tuple[Callable[..., Any], tuple]:
    """Take the arrays out of a callable pytree: (static function of (x, *arrays, …), arrays).

    Args:
        f: any callable; a plain function comes back as it is, with no arrays.

    Returns:
        The function and the tuple of arrays.

    Raises:
        LinearAlgebraError: if f cannot be called, is NumPy's, or its static part cannot be hashed.

    Example:
        >>> hoist(jnp.sin) == (jnp.sin, ())
        True
    """
    if not callable(f):
        raise LinearAlgebraError(f"a Jacobian needs a function, got a {type(f).__name__}")
    if isinstance(f, np.ufunc):
        raise LinearAlgebraError(f"np.{f.__name__} cannot be differentiated; use jax.numpy in place of NumPy")
    leaves, structure = jax.tree.flatten(f)
    if len(leaves) == 1 and leaves[0] is f:
        static: Any = f
        arrays: tuple = ()
    else:
        arrays = tuple(leaf for leaf in leaves if hasattr(leaf, "dtype"))
        static = Rebuilt(structure, tuple(_ARRAY if hasattr(leaf, "dtype") else leaf for leaf in leaves))
    try:
        hash(static)
    except TypeError as error:
        raise LinearAlgebraError(f"{function_name(f)} cannot be a static part of a program: {error}") from None
    return static, arrays


def function_name(f: Any) -> str:
    """What to call a function in messages.

    Example:
        >>> function_name(jnp.tanh)
        'tanh'
    """
    return getattr(f, "__name__", None) or (str(f) if isinstance(f, Rebuilt) else type(f).__name__)
