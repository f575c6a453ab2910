"""The QR factorisation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import require_differentiable
from lax_linalg.core.operator import FACTORED, LinearOperator, MatrixLike, as_operator
from lax_linalg.errors import DimensionMismatch
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.solve import solve


class QR(NamedTuple):
    """A = Q R: Q [m, k] with orthonormal columns, R [k, n] upper triangular, k = min(m, n); unpacks as `Q, R = F`.

    Example:
        >>> import lax_linalg as la
        >>> la.qr([[3.0], [4.0]]).Q.shape
        (2, 1)
    """

    Q: jax.Array
    R: jax.Array

    def solve(self, b: MatrixLike) -> jax.Array:
        """The least-squares solution R⁻¹ Qᴴ b of A x = b, for m ≥ n, independent columns and b [m] or [m, k]."""
        return _solve(self, b)


class PivotedQR(NamedTuple):
    """A[:, p] = Q R with a diagonal of R whose moduli do not increase: Q [m, k], R [k, n], p [n].

    Example:
        >>> import lax_linalg as la
        >>> print(la.pivoted_qr([[0.0, 2.0], [1.0, 0.0]]).p)
        [1 0]
    """

    Q: jax.Array
    R: jax.Array
    p: jax.Array

    def solve(self, b: MatrixLike) -> jax.Array:
        """The least-squares solution of A x = b, for m ≥ n, independent columns and b [m] or [m, k]."""
        return _solve(QR(self.Q, self.R), b)[jnp.argsort(self.p)]


def _solve(F: QR, b: MatrixLike) -> jax.Array:
    if F.R.shape[0] < F.R.shape[1]:
        raise DimensionMismatch(f"a {F.Q.shape[0]}×{F.R.shape[1]} system has many solutions; la.lstsq gives the least")
    return solve(FACTORED[QR](F).factors[1], as_operator(F.Q).H @ jnp.asarray(b))  # type: ignore[attr-defined]


@verb(algorithm="LAPACK's Householder QR of the materialised matrix.", cost="O(mn min(m, n))")
def qr(A: LinearOperator, *, full: bool = False) -> QR:
    """QR factorisation A = Q R, thin unless `full`.

    Args:
        A: operator or array [m, n].
        full: return Q [m, m] and R [m, n], which have no derivatives for m > n.

    Returns:
        `QR(Q, R)`; the signs of the diagonal of R are the algorithm's. Differentiable where the first min(m, n)
        columns are independent; for a real A with m ≤ n the first m − 1 are enough.

    Raises:
        NotDifferentiableError: on differentiating where those columns are dependent; NaN under ``jit``.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> Q, R = la.qr(A)
        >>> bool(jnp.allclose(A, Q @ R, atol=1e-5))
        True

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 5.2.
    """
    a = dense(A)
    m, n = a.shape
    k = min(m, n)
    if full and m > n:
        return QR(*jnp.linalg.qr(a, mode="complete"))
    if k == 0:
        return QR(jnp.zeros((m, 0), a.dtype), jnp.zeros((0, n), a.dtype))
    wide = m <= n and not jnp.iscomplexobj(a)
    Q, R = _wide_qr(a) if wide else jnp.linalg.qr(a)
    r = m - 1 if wide else k
    pivots = jnp.abs(jnp.diagonal(R))
    independent = jnp.all(pivots[:r] > max(m, n) * jnp.finfo(a.dtype).eps * jnp.max(pivots))
    require_differentiable(R, independent, f"qr has no derivative where the first {r} columns are dependent")
    return QR(Q, R)


@verb(algorithm="LAPACK's QR with column pivoting, then that of the permuted columns.", cost="O(mn min(m, n))")
def pivoted_qr(A: LinearOperator) -> PivotedQR:
    """QR factorisation with column pivoting, A[:, p] = Q R with |r₁₁| ≥ |r₂₂| ≥ …, which reveals the rank.

    Args:
        A: operator or array [m, n].

    Returns:
        `PivotedQR(Q, R, p)`, differentiable as `qr` at a fixed p.

    Raises:
        NotDifferentiableError, DenseLimitError, NonFiniteError: as `qr`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = jnp.array([[1.0, 9.0], [2.0, 9.0]])
        >>> Q, R, p = la.pivoted_qr(A)
        >>> bool(jnp.allclose(A[:, p], Q @ R, atol=1e-5))
        True

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 5.4.2.
    """
    a = dense(A)
    if 0 in a.shape:
        return PivotedQR(*qr(a), jnp.arange(a.shape[1]))
    _, _, p = jax.lax.linalg.qr(jax.lax.stop_gradient(a), pivoting=True, full_matrices=False)  # type: ignore[misc]
    return PivotedQR(*qr(a[:, p]), p)


@jax.custom_jvp
def _wide_qr(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    Q, R = jnp.linalg.qr(a)
    return Q, R


@_wide_qr.defjvp
def _wide_qr_jvp(primals, tangents):
    # Qᵀ dA = Ω R + dR with the skew Ω = Qᵀ dQ, which its first m − 1 columns determine: strictly below the diagonal
    # they are those of Qᵀ dA₁ R₁⁻¹. JAX's rule divides by the last pivot, too. That of a complex matrix must not be
    # zero: LAPACK makes it real, and its phase that of the last column of Q.
    (a,), (da,) = primals, tangents
    Q, R = _wide_qr(a)
    r = a.shape[0] - 1
    M = Q.T @ da
    lower = jnp.tril(jax.scipy.linalg.solve_triangular(R[:r, :r].T, M[:, :r].T, lower=True).T, -1)
    lower = jnp.pad(lower, ((0, 0), (0, 1)))
    omega = lower - lower.T
    return (Q, R), (Q @ omega, jnp.triu(M - omega @ R))
