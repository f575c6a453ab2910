"""The QR factorisation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.concrete import above_rounding, require_differentiable
from lax_linalg.dispatch import verb
from lax_linalg.operators.base import LinearOperator
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
        columns are independent, for wide A too.

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
    Q, R = jnp.linalg.qr(a)
    independent = above_rounding(jnp.diagonal(R), max(m, n))
    require_differentiable(R, independent, f"qr has no derivative where the first {k} columns are dependent")
    return QR(Q, R)
