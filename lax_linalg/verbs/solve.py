"""Linear systems, least squares, inverses and pseudo-inverses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import decided, known_not_finite
from lax_linalg.core.operator import LinearOperator, MatrixLike
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import moduli, over_unit, unit_of
from lax_linalg.errors import DimensionMismatch, SingularError
from lax_linalg.verbs.basic import compute_dtype, dense, materialize

M = TypeVar("M", bound=LinearOperator)
P = ParamSpec("P")


def by_columns(
    rule: Callable[Concatenate[M, jax.Array, P], jax.Array],
) -> Callable[Concatenate[M, MatrixLike, P], jax.Array]:
    """Let a rule of `solve` or `lstsq` see its right-hand side as columns [m, k] of the dtype it computes in.

    Example:
        >>> import lax_linalg as la
        >>> la.solve(la.I(2), [1, 2]).dtype  # a vector of integers reached the rule as one column of floats
        dtype('float32')
    """

    @functools.wraps(rule)
    def solved(A: M, b: MatrixLike, *args: P.args, **options: P.kwargs) -> jax.Array:
        if isinstance(b, LinearOperator):
            b = materialize(b if A.unsized else b._of_size(A.shape[0]))
        B = jnp.asarray(b)
        if A.unsized and B.ndim in (1, 2):
            return solved(A._of_size(B.shape[0]), B, *args, **options)  # type: ignore[arg-type]
        if B.ndim not in (1, 2) or B.shape[0] != A.shape[0]:
            m, n = A.shape
            raise DimensionMismatch(
                f"a {m}×{n} system takes a right-hand side [{m}] or [{m}, k], got shape {list(B.shape)}"
            )
        B = B.astype(compute_dtype(jnp.result_type(A.dtype, B.dtype)))
        return rule(A, B, *args, **options) if B.ndim == 2 else rule(A, B[:, None], *args, **options)[:, 0]

    return solved


def require_nonzero(pivots: jax.Array, name: str) -> None:
    """Raise `SingularError` with the index of the first zero in `pivots`, if their values are known.

    Example:
        >>> import jax.numpy as jnp
        >>> require_nonzero(jnp.array([1.0, 0.0]), "solve")
        Traceback (most recent call last):
        lax_linalg.errors.SingularError: solve: the matrix is singular, pivot 1 is zero; la.lstsq and la.pinv accept it
    """
    if decided(jnp.all(pivots != 0)) is not False:
        return
    index = int(jnp.argmax(pivots == 0))
    remedy = "la.lstsq and la.pinv accept it" if name in ("solve", "inv") else "add a small multiple of I"
    raise SingularError(f"{name}: the matrix is singular, pivot {index} is zero; {remedy}", index=index)


def _solve_square(a: jax.Array, B: jax.Array, name: str) -> jax.Array:
    if 0 in B.shape:
        return B
    X = jnp.linalg.solve(a.astype(B.dtype), B)
    # a zero pivot always leaves a non-finite column, so that regular systems pay for no second factorisation
    if known_not_finite(X):
        require_nonzero(jnp.diagonal(jax.lax.linalg.lu(a)[0]), name)
    return X


@verb(algorithm="LU with partial pivoting of the materialised matrix; least squares if rectangular.", cost="O(n³)")
@by_columns
def solve(A: LinearOperator, b: jax.Array) -> jax.Array:
    """Solution of A x = b, Julia's A \\ b: by LU where A is square, in the least-squares sense where it is not.

    Args:
        A: operator or array [m, n].
        b: right-hand side [m] or [m, k]; an operator is materialised.

    Returns:
        x, [n] or [n, k], with ‖A x − b‖ = O(ε) ‖A‖ ‖x‖ for square A.

    Raises:
        SingularError: for a square A with a zero pivot, with its index; under ``jit`` the result is inf or NaN instead.
        DimensionMismatch: unless b has m rows.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 4.0]))
        [1. 1.]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 3.4.
    """
    m, n = A.shape
    return _solve_square(dense(A), b, "solve") if m == n else lstsq(A, b)


def default_rtol(shape: tuple[int, int], dtype: Any) -> float:
    """The relative threshold below which singular values count as zero, max(m, n) ε.

    Example:
        >>> default_rtol((2, 2), "float32") < 1e-6
        True
    """
    return max(shape) * float(jnp.finfo(dtype).eps)


def reciprocals(s: jax.Array, rtol: float, atol: jax.Array | float = 0) -> jax.Array:
    """1/s where |s| > max(atol, rtol · max |s|), else 0: the pseudo-inverse of a diagonal.

    Example:
        >>> import jax.numpy as jnp
        >>> print(reciprocals(jnp.array([2.0, 0.0]), 1e-6))
        [0.5 0. ]
    """
    modulus = moduli(s)
    keep = modulus > jnp.maximum(atol, rtol * jnp.max(modulus, initial=0))
    return jnp.where(keep, 1 / jnp.where(keep, s, 1), 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _least_squares(a: jax.Array, B: jax.Array, atol: jax.Array, rtol: float, of_adjoint: bool) -> jax.Array:
    """A⁺ B, or A⁺ᴴ B where `of_adjoint`: one and the same SVD of A, so that XLA merges those of the derivative."""
    U, s, Vt = platform.svd(a)
    if of_adjoint:
        U, Vt = Vt.conj().T, U.conj().T
    return Vt.conj().T @ (reciprocals(s, rtol, atol)[:, None] * (U.conj().T @ B))


@_least_squares.defjvp
def _least_squares_jvp(rtol, of_adjoint, primals, tangents):
    # Golub & Pereyra (1973), eq. 4.12: dA⁺ = −A⁺ dA A⁺ + A⁺ A⁺ᴴ dAᴴ (I − A A⁺) + (I − A⁺ A) dAᴴ A⁺ᴴ A⁺
    (a, B, atol), (da, dB, _) = primals, tangents
    h, dh = (a.conj().T, da.conj().T) if of_adjoint else (a, da)

    def pseudo(Y: jax.Array, adjoint: bool) -> jax.Array:
        return _least_squares(a, Y, atol, rtol, adjoint != of_adjoint)

    X = pseudo(B, False)
    Z = dh.conj().T @ pseudo(X, True)
    W = pseudo(dh.conj().T @ (B - h @ X), True)
    return X, pseudo(dB - dh @ X + W - h @ Z, False) + Z


@verb(algorithm="SVD of the materialised matrix, small singular values dropped.", cost="O(mn min(m, n))")
@by_columns
def lstsq(A: LinearOperator, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Least-squares solution of smallest norm, x = A⁺ b = argmin ‖A x − b‖₂, for any shape and rank.

    Args:
        A: operator or array [m, n].
        b: right-hand side [m] or [m, k].
        rtol: singular values up to max(atol, rtol · σ₁) count as zero; max(m, n) ε unless given.
        atol: the absolute threshold.

    Returns:
        x, [n] or [n, k]. Differentiable, also where singular values repeat, as long as the rank does not change.

    Raises:
        DimensionMismatch: unless b has m rows.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.lstsq([[1.0], [1.0]], [1.0, 3.0]).round(4))
        [2.]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 5.5.
    """
    a = dense(A).astype(b.dtype)
    if 0 in a.shape:
        return jnp.zeros((a.shape[1], b.shape[1]), b.dtype)
    unit = unit_of(a)
    threshold = jnp.asarray(atol, unit.dtype) / unit
    rtol = default_rtol(A.shape, a.dtype) if rtol is None else rtol
    return over_unit(_least_squares(over_unit(a, unit), b, threshold, rtol, False), unit)


@verb(algorithm="LU with partial pivoting of the materialised matrix.", cost="O(n³)", square=True)
def inv(A: LinearOperator) -> LinearOperator:
    """Inverse A⁻¹ as an operator, structured where the structure is closed under inversion and dense elsewhere.

    Args:
        A: square operator or array [n, n].

    Returns:
        The operator A⁻¹ of shape (n, n). For one right-hand side `solve` is faster and more accurate.

    Raises:
        SingularError: if a pivot is zero, with its index; under ``jit`` the entries are inf or NaN instead.
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> la.inv(la.Diagonal([2.0, 4.0]))
        2×2 Diagonal{float32}
        >>> print(la.inv([[2.0, 0.0], [0.0, 4.0]]) @ [2.0, 4.0])
        [1. 1.]
    """
    from lax_linalg.core.dense import Dense

    a = dense(A)
    return Dense(_solve_square(a, jnp.eye(a.shape[0], dtype=a.dtype), "inv"))


@verb(algorithm="SVD of the materialised matrix, small singular values dropped.", cost="O(mn min(m, n))")
def pinv(A: LinearOperator, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """Moore–Penrose pseudo-inverse A⁺ as an operator.

    Args:
        A: operator or array [m, n].
        rtol: singular values up to max(atol, rtol · σ₁) count as zero; max(m, n) ε unless given.
        atol: the absolute threshold.

    Returns:
        The operator A⁺ of shape (n, m). Differentiable as long as the rank does not change.

    Raises:
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.pinv([[2.0, 0.0], [0.0, 0.0]])))
        [[0.5 0. ]
         [0.  0. ]]
    """
    from lax_linalg.core.dense import Dense

    return Dense(lstsq(A, jnp.eye(A.shape[0], dtype=compute_dtype(A.dtype)), rtol=rtol, atol=atol))
