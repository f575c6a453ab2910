"""The verbs every other one rests on: entries, size, element type, diagonal and trace."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.dispatch import require_finite, verb
from lax_linalg.core.eager_checks import undefined_unless
from lax_linalg.core.operator import LinearOperator, as_operator
from lax_linalg.errors import DenseLimitError

_dense_limit = jax.make_user_context(4 * 2**30)
_factored_side = jax.make_user_context(None)


def dense_limit(bytes: int) -> contextlib.AbstractContextManager[None]:
    """Set the size in bytes up to which a verb may form a dense matrix (4 GiB unless set).

    Args:
        bytes: the limit for one matrix, or for those of all members of a batch that is mapped over together (`Batch`,
            `jax.vmap`); it holds within the ``with`` block, also while ``jit`` traces.

    Example:
        >>> import lax_linalg as la
        >>> with la.dense_limit(100):
        ...     la.materialize(la.I(10))
        Traceback (most recent call last):
        lax_linalg.errors.DenseLimitError: a dense 10×10 float32 matrix takes 400 B, the limit is 100 B; raise it with
        la.dense_limit(bytes) or stay matrix-free: A @ x
    """
    return _dense_limit(bytes)


def require_dense(A: Any, dtype: Any = None, shape: tuple[int, int] | None = None) -> None:
    """Raise `DenseLimitError` if a dense matrix for A, or those for all members of a mapped batch, are above the limit.

    Args:
        A: the operator, whose parameters tell what `jax.vmap` maps over.
        dtype, shape: of the matrix, those of A unless given.
    """
    require_dense_stack(1, shape or A.shape, jnp.dtype(dtype or A.dtype), jax.tree.leaves(A))


def require_dense_stack(count: int, shape: tuple[int, ...], dtype: jnp.dtype, parameters: Sequence[Any] = ()) -> None:
    """`require_dense` for `count` matrices, and as many more as `jax.vmap` makes of them by mapping over `parameters`.

    Example:
        >>> with dense_limit(100):
        ...     require_dense_stack(3, (3, 3), jnp.dtype("float32"))
        Traceback (most recent call last):
        lax_linalg.errors.DenseLimitError: 3 dense 3×3 float32 matrices take 108 B, the limit is 100 B; raise it with
        la.dense_limit(bytes) or stay matrix-free: A @ x
    """
    size = count * math.prod(shape) * dtype.itemsize
    if size > _dense_limit.value:
        which = "a dense {}×{} {} matrix takes" if count == 1 else f"{count} dense {{}}×{{}} {{}} matrices take"
        raise DenseLimitError(
            f"{which.format(*shape, dtype.name)} {_bytes(size)}, the limit is {_bytes(_dense_limit.value)}; raise it "
            "with la.dense_limit(bytes) or stay matrix-free: A @ x"
        )
    tracers = [x for x in parameters if isinstance(x, Tracer)]
    if not tracers:
        return

    @jax.custom_batching.custom_vmap  # the one place that learns how many matrices there are
    def one(*_: jax.Array) -> tuple[()]:
        return ()

    @one.def_vmap
    def _(members: int, _: Any, *parameters: jax.Array) -> tuple[tuple[()], tuple[()]]:
        require_dense_stack(members * count, shape, dtype, parameters)
        return (), ()

    one(*jax.lax.stop_gradient(tracers))


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


@verb(algorithm="Products with the unit vectors of the smaller side.", cost="min(m, n) products", finite=False)
def materialize(A: LinearOperator) -> jax.Array:
    """The dense matrix, all entries of A.

    Args:
        A: operator or array of shape [m, n].

    Returns:
        The dense matrix [m, n].

    Raises:
        DenseLimitError: above `dense_limit`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.Diagonal([1.0, 2.0])))
        [[1. 0.]
         [0. 2.]]
    """
    m, n = A.shape
    require_dense(A)
    if m < n:
        return (A.T @ jnp.eye(m, dtype=A.dtype)).T
    return A @ jnp.eye(n, dtype=A.dtype)


def factored_side(limit: int) -> contextlib.AbstractContextManager[None]:
    """A block in which `dense` refuses matrices with a smaller side above the limit, whoever would factorise them.

    Example:
        >>> with factored_side(2):
        ...     dense(jnp.eye(3))
        Traceback (most recent call last):
        lax_linalg.errors.DenseLimitError: a 3×3 matrix would be factorised, the limit is a smaller side of 2
    """
    return _factored_side(limit)


def dense(A: LinearOperator) -> jax.Array:
    """The guarded dense fallback: entries in a dtype that factorisations run in (half precision becomes float32).

    Where finite parameters give an entry that overflows it raises `NonFiniteError`; under ``jit`` all entries are NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> dense(jnp.ones((2, 2), jnp.bfloat16)).dtype
        dtype('float32')
    """
    from lax_linalg.core.dense import Dense

    A, limit = as_operator(A), _factored_side.value
    if limit is not None:
        if min(A.shape) > limit:
            m, n = A.shape
            raise DenseLimitError(f"a {m}×{n} matrix would be factorised, the limit is a smaller side of {limit}")
        require_dense(A, compute_dtype(A.dtype))
    array = materialize(A._computed())
    array = array.astype(compute_dtype(array.dtype))
    if isinstance(A, Dense):  # the verb has looked at its entries
        return array
    finite = require_finite(array, f"work on the materialised {type(A).__name__}")
    return array if finite is None else undefined_unless(finite, array)


def compute_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype in which spectra of `dtype` are computed: float32 for half precision, the default float for integers.

    Example:
        >>> import jax.numpy as jnp
        >>> compute_dtype(jnp.bfloat16)
        dtype('float32')
    """
    if not jnp.issubdtype(dtype, jnp.inexact):
        return jnp.dtype(jnp.result_type(float))
    return jnp.promote_types(dtype, jnp.float32)


@verb(algorithm="Read off.", cost="O(1)", finite=False)
def size(A: LinearOperator) -> tuple[int, int]:
    """Rows and columns, (m, n), known without computing.

    Example:
        >>> import lax_linalg as la
        >>> la.size(la.Diagonal([1.0, 2.0]))
        (2, 2)
    """
    return A.shape


@verb(algorithm="Read off.", cost="O(1)", finite=False, sizeless=True)
def eltype(A: LinearOperator) -> jnp.dtype:
    """The dtype of the entries, known without computing.

    Example:
        >>> import lax_linalg as la
        >>> la.eltype(la.Diagonal([1.0, 2.0]))
        dtype('float32')
    """
    return jnp.dtype(A.dtype)


@verb(algorithm="Diagonal of the materialised matrix.", cost="O(mn)", finite=False)
def diag(A: LinearOperator, k: int = 0) -> jax.Array:
    """The k-th diagonal, the main one unless k is given; positive ones are above it.

    Returns:
        The entries A[i, i + k], [min(m, n)] for k = 0.

    Example:
        >>> import lax_linalg as la
        >>> print(la.diag(la.I(2)), la.diag([[1.0, 2.0], [3.0, 4.0]], 1))
        [1. 1.] [2.]
    """
    if k == 0:
        return jnp.diagonal(materialize(A))
    return diag(A[:, k:] if k > 0 else A[-k:])


@verb(algorithm="Sum of the diagonal.", cost="cost of diag", square=True, finite=False, promote=True)
def tr(A: LinearOperator) -> jax.Array:
    """Trace, tr A = Σ_i A[i, i].

    Raises:
        DimensionMismatch: unless A is square.

    Example:
        >>> import lax_linalg as la
        >>> float(la.tr(la.Diagonal([1.0, 2.0])))
        3.0
    """
    d = diag(A)
    return jnp.sum(d.astype(compute_dtype(d.dtype)))
