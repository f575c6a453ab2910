"""Henrici's departure from normality."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import at_unit_scale
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.norms import scaled_norm


@verb(
    algorithm="Frobenius norm of the strictly upper part of the Schur form.",
    cost="O(25 n³)",
    square=True,
    sizeless=True,
)
def henrici(A: LinearOperator) -> jax.Array:
    """Henrici's departure from normality, √(‖A‖_F² − Σ|λ|²): 0 exactly for normal matrices.

    It is computed as the Frobenius norm of the strictly upper part N of the Schur form A = Z (Λ + N) Zᴴ, so the two
    nearly equal sums are never subtracted and the error is O(n ε ‖A‖_F).

    Args:
        A: square operator or array [n, n]; batches by `jax.vmap`.

    Returns:
        A real scalar in the units of A.

    Raises:
        DimensionMismatch: unless A is square.
        NonFiniteError: for NaN or infinity.

    Runs under `jit` and `vmap`. Its derivative ‖A‖_F d‖A‖_F − Re Σ λ̄ dλ, over the departure, exists where A is
    diagonalisable and not normal; at a normal matrix it is set to 0.

    Example:
        >>> import lax_linalg as la
        >>> float(la.henrici([[2.0, 3.0], [0.0, 1.0]]))
        3.0

    Source: P. Henrici, Numer. Math. 4 (1962); Trefethen & Embree, Spectra and Pseudospectra (2005), § 48.
    """
    return _DEPARTURE(dense(A))


@henrici.rule(Diagonal, cost="O(1)")
def _(A: Diagonal) -> jax.Array:
    """Zero: a diagonal matrix is normal."""
    return jnp.zeros((), jnp.finfo(A.dtype).dtype)


@henrici.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> jax.Array:
    """Zero: a multiple of the identity is normal."""
    return jnp.zeros((), jnp.finfo(A.dtype).dtype)


@jax.custom_jvp
def _departure(a: jax.Array) -> jax.Array:
    t, _ = platform.schur(a)
    return scaled_norm(jnp.triu(t, 1))


@_departure.defjvp
def _departure_jvp(primals, tangents):
    # ½ d(h²) = Re⟨A, dA⟩ − Re Σ λ̄_i dλ_i with Σ λ̄_i dλ_i = tr(V Λ̄ V⁻¹ dA)
    (a,), (da,) = primals, tangents
    h = _departure(a)
    w, v = jax.lax.stop_gradient(platform.eig(a))
    g = a.conj() - jnp.linalg.solve(v.T, (v * w.conj()).T).astype(v.dtype)
    # below rounding h carries no digits and neither does its gradient
    floor = a.shape[0] * jnp.finfo(h.dtype).eps * scaled_norm(a)
    safe = jnp.where(h > floor, h, 1)
    return h, jnp.where(h > floor, jnp.real(jnp.sum(g * da)) / safe, 0)


_DEPARTURE = at_unit_scale(_departure, 1)
