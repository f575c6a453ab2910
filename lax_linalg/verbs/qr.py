"""The QR factorisation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import require_differentiable
from lax_linalg.core.operator import LinearOperator
from lax_linalg.verbs.basic import dense


class QR(NamedTuple):
    """A = Q R: Q [m, k] with orthonormal columns, R [k, n] upper triangular, k = min(m, n); unpacks as `Q, R = F`.

    Example:
        >>> import lax_linalg as la
        >>> la.qr([[3.0], [4.0]]).Q.shape
        (2, 1)
    """

    Q: jax.Array
    R: jax.Array


@verb(algorithm="LAPACK's Householder QR of the materialised matrix.", cost="O(mn min(m, n))")
def qr(A: LinearOperator) -> QR:
    """Thin QR factorisation A = Q R.

    Args:
        A: operator or array [m, n].

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
    if k == 0:
        return QR(jnp.zeros((m, 0), a.dtype), jnp.zeros((0, n), a.dtype))
    wide = m <= n and not jnp.iscomplexobj(a)
    Q, R = _wide_qr(a) if wide else jnp.linalg.qr(a)
    r = m - 1 if wide else k
    pivots = jnp.abs(jnp.diagonal(R))
    independent = jnp.all(pivots[:r] > max(m, n) * jnp.finfo(a.dtype).eps * jnp.max(pivots))
    require_differentiable(R, independent, f"qr has no derivative where the first {r} columns are dependent")
    return QR(Q, R)


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
