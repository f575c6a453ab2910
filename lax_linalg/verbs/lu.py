"""The LU factorisation with partial pivoting."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import require_differentiable
from lax_linalg.core.operator import LinearOperator, MatrixLike
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.solve import solve


class LU(NamedTuple):
    """A[p] = L U: L [m, k] unit lower, U [k, n] upper triangular, p [m] the permutation of the rows, k = min(m, n).

    It stands for A in every verb: ``la.solve(F, b)``, ``la.inv(F)`` and ``la.det(F)`` use the factors.

    Example:
        >>> import lax_linalg as la
        >>> print(la.lu([[0.0, 2.0], [1.0, 0.0]]).p)
        [1 0]
    """

    L: jax.Array
    U: jax.Array
    p: jax.Array

    def solve(self, b: MatrixLike) -> jax.Array:
        """A⁻¹ b for a square A and b [n] or [n, k], in O(n²) per column."""
        return solve(self, b)


@verb(algorithm="LAPACK's LU with partial pivoting of the materialised matrix.", cost="O(mn min(m, n))")
def lu(A: LinearOperator) -> LU:
    """LU factorisation with partial pivoting, A[p] = L U.

    Args:
        A: operator or array [m, n].

    Returns:
        `LU(L, U, p)`. It exists for every matrix: a singular one has a zero on the diagonal of U.

    Raises:
        NotDifferentiableError: on differentiating where the first k columns of a tall A are dependent, or the first
            m − 1 of one with m ≤ n, of which the last pivot may be zero; NaN under ``jit``.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> L, U, p = la.lu(A)
        >>> bool(jnp.allclose(A[p], L @ U))
        True

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 3.4.
    """
    a = dense(A)
    m, n = a.shape
    k = min(m, n)
    if k == 0:
        return LU(jnp.zeros((m, 0), a.dtype), jnp.zeros((0, n), a.dtype), jnp.arange(m))
    L, U, p = _lu(a) if m > n else _wide_lu(a)
    r = n if m > n else m - 1
    pivots = jnp.abs(jnp.diagonal(U))
    independent = jnp.all(pivots[:r] > max(m, n) * jnp.finfo(U.dtype).eps * jnp.max(pivots))
    require_differentiable(U, independent, f"lu has no derivative where the first {r} columns are dependent")
    return LU(L, U, p)


@jax.jit
def _lu(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    m, n = a.shape
    k = min(m, n)
    packed, _, p = jax.lax.linalg.lu(a)
    return jnp.tril(packed[:, :k], -1) + jnp.eye(m, k, dtype=a.dtype), jnp.triu(packed[:k]), p


_wide_lu = jax.custom_jvp(_lu)


@_wide_lu.defjvp
def _wide_lu_jvp(primals, tangents):
    # M = L⁻¹ P dA = (L⁻¹ dL) U + dU; the last column of L is constant, so that the first m − 1 columns of U suffice:
    # L⁻¹ dL is the strictly lower part of M₁ U₁⁻¹ (JAX's rule divides by the last pivot, too)
    (a,), (da,) = primals, tangents
    L, U, p = _wide_lu(a)
    r = a.shape[0] - 1
    M = jax.scipy.linalg.solve_triangular(L, da[p], lower=True, unit_diagonal=True)
    lower = jnp.tril(jax.scipy.linalg.solve_triangular(U[:r, :r].T, M[:, :r].T, lower=True).T, -1)
    dL = jnp.pad(L @ lower, ((0, 0), (0, 1)))
    constant: Any = np.zeros(p.shape, jax.dtypes.float0)
    return (L, U, p), (dL, jnp.triu(M - lower @ U[:r]), constant)
