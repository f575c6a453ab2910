"""The complex Schur decomposition."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import require_differentiable
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import at_unit_scale
from lax_linalg.verbs.basic import dense


class Schur(NamedTuple):
    """A = Z T Zᴴ: T [n, n] upper triangular, Z [n, n] unitary, values [n] = diag T; unpacks as `T, Z, values = F`.

    Example:
        >>> import lax_linalg as la
        >>> la.schur([[2.0]]).T.shape
        (1, 1)
    """

    T: jax.Array
    Z: jax.Array
    values: jax.Array


@verb(algorithm="LAPACK's Hessenberg QR of the materialised matrix.", cost="O(n³)", square=True)
def schur(A: LinearOperator) -> Schur:
    """Complex Schur decomposition A = Z T Zᴴ.

    Args:
        A: square operator or array [n, n].

    Returns:
        `Schur(T, Z, values)`, complex, the eigenvalues in the algorithm's order.

    Raises:
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Differentiable where the eigenvalues are simple; Z is determined up to a phase for each column, and the derivative
    is the one that leaves the phases alone, (Zᴴ dZ)_jj = 0.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> T, Z, values = la.schur(A)
        >>> bool(jnp.allclose(Z @ T @ Z.conj().T, A, atol=1e-6))
        True

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 7.1 and 7.5.
    """
    a = dense(A)
    T, Z = schur_form(a.astype(jnp.result_type(a.dtype, jnp.complex64)))
    if isinstance(T, Tracer):
        w = jax.lax.stop_gradient(jnp.diagonal(T))
        gaps = jnp.abs(w[:, None] - w[None, :]) + jnp.diag(jnp.full(w.shape, jnp.inf, w.real.dtype))
        simple = jnp.min(gaps, initial=jnp.inf) > w.size * jnp.finfo(w.dtype).eps * jnp.max(jnp.abs(w), initial=0)
        require_differentiable(T, simple, "schur has no derivative where eigenvalues repeat")
    return Schur(T, Z, jnp.diagonal(T))


def schur_form(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """T and Z of a complex matrix [n, n], differentiable.

    Example:
        >>> import jax.numpy as jnp
        >>> T, Z = schur_form(jnp.eye(2, dtype=complex))
        >>> T.shape
        (2, 2)
    """
    return _FORM(a)


@jax.custom_jvp
def _form(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    T, Z = platform.schur(a)
    return jnp.triu(T), Z


@_form.defjvp
def _form_jvp(primals, tangents):
    # with M = Zᴴ dA Z and the skew Ω = Zᴴ dZ = L − Lᴴ: dT = M + T Ω − Ω T, whose strictly lower part vanishes,
    # T L − L T = −M there. Column j of L solves (T − t_jj I) l_j = −m_j + Σ_{k<j} l_k t_kj in the rows below j.
    (a,), (da,) = primals, tangents
    T, Z = _form(a)
    M = Z.conj().T @ da @ Z
    L = _rotation(T, M)
    omega = L - L.conj().T
    return (T, Z), (jnp.triu(M + T @ omega - omega @ T), Z @ omega)


_FORM = at_unit_scale(_form, 1, 0)


@jax.jit
def _rotation(T: jax.Array, M: jax.Array) -> jax.Array:
    """The strictly lower L with T L − L T = −M below the diagonal."""
    n = T.shape[-1]
    rows = jnp.arange(n)
    identity = jnp.eye(n, dtype=T.dtype)

    def column(L: jax.Array, j: jax.Array) -> tuple[jax.Array, None]:
        below = rows > j
        # rows and columns up to j become those of the identity: the system is that of the rows below
        system = jnp.where(below[:, None] & below[None, :], T - T[j, j] * identity, identity)
        right = jnp.where(below, -M[:, j] + L @ jnp.where(rows < j, T[:, j], 0), 0)
        return L.at[:, j].set(jax.scipy.linalg.solve_triangular(system, right)), None

    L, _ = jax.lax.scan(column, jnp.zeros_like(M), rows)
    return L
