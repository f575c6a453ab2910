"""`UniformScaling` λI, and the identity `I` that takes its size from what it meets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dispatch import verbs
from lax_linalg.core.operator import Entries, LinearOperator, operator, whole_number
from lax_linalg.dense.branch import principal
from lax_linalg.dense.scaling import moduli
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.verbs.arithmetic import add, inner, multiply, same_shape, scale, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense
from lax_linalg.verbs.cholesky import cholesky
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet
from lax_linalg.verbs.eigen import eigen, eigvals
from lax_linalg.verbs.functions import exp, log, sqrt
from lax_linalg.verbs.lu import lu
from lax_linalg.verbs.norms import cond, norm, opnorm
from lax_linalg.verbs.polar import polar
from lax_linalg.verbs.predicates import (
    isdiag,
    ishermitian,
    isnormal,
    isposdef,
    issymmetric,
    istril,
    istriu,
    isunitary,
)
from lax_linalg.verbs.qr import qr
from lax_linalg.verbs.schur import schur
from lax_linalg.verbs.solve import by_columns, inv, lstsq, pinv, require_nonzero, solve
from lax_linalg.verbs.svd import svd, svdvals


@operator(data=("value",), meta=("n",), linear=complex)
class UniformScaling(LinearOperator):
    """The multiple λI of the identity, of size n or of the size of what it is combined with.

    Args:
        value: the number λ.
        n: its size; None adapts, as Julia's `I` does.

    Raises:
        DimensionMismatch: when the size of an unsized one is needed.

    Example:
        >>> import lax_linalg as la
        >>> la.I(3)
        3×3 UniformScaling{float32}
        >>> print(la.materialize([[1.0, 2.0], [3.0, 4.0]] + 2 * la.I))
        [[3. 2.]
         [3. 6.]]
    """

    value: jax.Array
    n: int | None = None

    def _validate(self) -> None:
        if jnp.ndim(self.value) != 0:
            raise DimensionMismatch(f"UniformScaling takes a number, got shape {list(jnp.shape(self.value))}")
        if self.n is not None:
            object.__setattr__(self, "n", whole_number("UniformScaling: the size n", self.n))

    def __call__(self, n: int) -> UniformScaling:
        """λI of size n."""
        return UniformScaling(self.value, n)

    @property
    def shape(self) -> tuple[int, int]:
        if self.n is None:
            raise DimensionMismatch("I has no size of its own; write la.I(n)")
        return self.n, self.n

    @property
    def unsized(self) -> bool:
        return self.n is None

    def _of_size(self, n: int) -> UniformScaling:
        return self(n) if self.unsized else self

    @property
    def first_column(self) -> jax.Array:
        """λ and zeros, [n]: λI is circulant and triangular Toeplitz."""
        return jnp.zeros(self.shape[:1], self.dtype).at[:1].set(self.value)

    def _apply(self, X: jax.Array) -> jax.Array:
        if self.n is None:
            return self.value.astype(jnp.result_type(self.value, X)) * X
        return super()._apply(X)

    def __rmatmul__(self, other: Entries) -> jax.Array:
        if self.n is None:
            return self @ other
        return super().__rmatmul__(other)

    def _matmat(self, X: jax.Array) -> jax.Array:
        return self.value.astype(X.dtype) * X

    def __repr__(self) -> str:
        if self.n is None and hasattr(self.value, "dtype"):
            return f"UniformScaling{{{self.value.dtype.name}}} of any size"
        return super().__repr__()


def _diagonal(A: UniformScaling) -> jax.Array:
    return jnp.full(A.shape[:1], A.value)


@materialize.rule(UniformScaling, cost="O(n²)")
def _(A: UniformScaling) -> jax.Array:
    """λ on the diagonal."""
    require_dense(A)
    return A.value * jnp.eye(A.shape[0], dtype=A.dtype)


@diag.rule(UniformScaling, cost="O(n)")
def _(A: UniformScaling) -> jax.Array:
    """λ repeated."""
    return _diagonal(A)


@transpose.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> UniformScaling:
    """The matrix itself."""
    return A


@svdvals.rule(UniformScaling, cost="O(n)")
def _(A: UniformScaling) -> jax.Array:
    """|λ| repeated."""
    return moduli(_diagonal(A).astype(compute_dtype(A.dtype)))


@eigvals.rule(UniformScaling, cost="O(n)")
def _(A: UniformScaling) -> jax.Array:
    """λ repeated."""
    return _diagonal(A).astype(jnp.result_type(compute_dtype(A.dtype), jnp.complex64))


def _computed(A: UniformScaling) -> jax.Array:
    return A.value.astype(compute_dtype(A.dtype))


def _complex(A: UniformScaling) -> jax.Array:
    return A.value.astype(jnp.result_type(compute_dtype(A.dtype), jnp.complex64))


@det.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> jax.Array:
    """λⁿ."""
    return _computed(A) ** A.shape[0]


@logabsdet.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> LogAbsDet:
    """n log |λ|."""
    n, value = A.shape[0], _computed(A)
    if n == 0:
        return LogAbsDet(jnp.zeros((), jnp.abs(value).dtype), jnp.ones((), value.dtype))
    return LogAbsDet(n * jnp.log(moduli(value)), jnp.sign(value) ** n)


@solve.rule(UniformScaling, cost="O(n) per column")
@by_columns
def _(A: UniformScaling, b: jax.Array) -> jax.Array:
    """Division by λ."""
    require_nonzero(A.value[None], "solve")
    return b / A.value.astype(b.dtype)


def _pseudo(value: jax.Array, atol: jax.Array | float) -> jax.Array:
    keep = jnp.abs(value) > atol
    return jnp.where(keep, 1 / jnp.where(keep, value, 1), 0)


@lstsq.rule(UniformScaling, cost="O(n) per column")
@by_columns
def _(A: UniformScaling, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Division by λ, or zero if it vanishes."""
    return _pseudo(A.value.astype(b.dtype), atol) * b


@inv.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> UniformScaling:
    """1/λ."""
    require_nonzero(A.value[None], "inv")
    return UniformScaling(1 / _computed(A), A.n)


@pinv.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling, *, rtol: float | None = None, atol: jax.Array | float = 0) -> UniformScaling:
    """1/λ, or zero if λ vanishes."""
    return UniformScaling(_pseudo(_computed(A), atol), A.n)


@exp.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> UniformScaling:
    """e^λ."""
    return UniformScaling(jnp.exp(_computed(A)), A.n)


@log.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> UniformScaling:
    """log λ."""
    require_nonzero(A.value[None], "log")
    return UniformScaling(principal("log", _complex(A)), A.n)


@sqrt.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> UniformScaling:
    """√λ."""
    return UniformScaling(principal("sqrt", _complex(A)), A.n)


def _as_diagonal(name: str) -> Callable[..., Any]:
    def rule(A: UniformScaling, *args: Any, **options: Any) -> Any:
        """That of the diagonal matrix."""
        return verbs[name](Diagonal(_diagonal(A)), *args, **options)

    return rule


@norm.rule(UniformScaling, cost="O(n)")
def _(A: UniformScaling, p: float = 2) -> jax.Array:
    """That of the diagonal matrix."""
    return norm(Diagonal(_diagonal(A._of_size(1) if p == np.inf else A)), p)


for _verb in (opnorm, cond, eigen, schur, svd, polar, qr, lu, cholesky):
    _cost = "O(n)" if _verb in (norm, opnorm, cond) else "O(n²), the size of the factors"
    _verb.rule(UniformScaling, cost=_cost)(_as_diagonal(_verb.name))
for _predicate in (issymmetric, ishermitian, isposdef, isunitary, isnormal, isdiag, istriu, istril):
    _predicate.rule(UniformScaling, cost="O(n)")(_as_diagonal(_predicate.name))


# --- sums: I takes the other term's size ---


@add.rule(UniformScaling, UniformScaling, cost="O(1)", precedence=1)
def _(A: UniformScaling, B: UniformScaling) -> UniformScaling:
    """Sum of the numbers."""
    n = A.n if B.n is None else B.n
    if n is not None:
        same_shape(A._of_size(n), B._of_size(n))
    return UniformScaling(A.value + B.value, n)


@add.rule(UniformScaling, LinearOperator, cost="cost of add", precedence=1)
def _(A: UniformScaling, B: LinearOperator) -> LinearOperator:
    """B + λI: addition commutes."""
    return add(B, A)


@add.rule(LinearOperator, UniformScaling, cost="cost of add", precedence=1)
def _(A: LinearOperator, B: UniformScaling) -> LinearOperator:
    """The sum with λI of A's size."""
    return add.fallback(A, shift(A, B))


@conversion(UniformScaling, Diagonal)
def _(A: UniformScaling, like: LinearOperator | None) -> Diagonal:
    return Diagonal(_diagonal(A))


def shift(A: LinearOperator, B: UniformScaling) -> UniformScaling:
    """B of A's size, its number of the dtype that A + B has: that of A, if B's was written as a number of Python."""
    m, n = A.shape
    if m != n:
        raise DimensionMismatch(f"A + λI needs a square matrix, got {m}×{n}")
    B = B._of_size(n)
    same_shape(A, B)
    return UniformScaling(B.value.astype(jnp.result_type(A.dtype, B.value)), n)


# --- products: λI is a number ---


@multiply.rule(UniformScaling, UniformScaling, cost="O(1)", precedence=1)
def _(A: UniformScaling, B: UniformScaling) -> UniformScaling:
    """Product of the numbers."""
    n = A.n if B.n is None else B.n
    if n is not None:
        inner(A._of_size(n), B._of_size(n))
    return UniformScaling(A.value * B.value, n)


@multiply.rule(UniformScaling, LinearOperator, cost="cost of scale", precedence=1)
def _(A: UniformScaling, B: LinearOperator) -> LinearOperator:
    """Scaled B."""
    inner(A._of_size(B.shape[0]), B)
    return scale(B, A.value)


@multiply.rule(LinearOperator, UniformScaling, cost="cost of scale", precedence=1)
def _(A: LinearOperator, B: UniformScaling) -> LinearOperator:
    """Scaled A."""
    inner(A, B._of_size(A.shape[1]))
    return scale(A, B.value)
