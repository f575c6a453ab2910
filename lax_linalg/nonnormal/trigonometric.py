"""A certificate that a Hermitian trigonometric polynomial of degree one is positive definite on the whole unit circle.

ψ(θ) = Q − e^{−iθ} B − e^{iθ} Bᴴ ⪰ 0 for every θ decides whether a circle or a line keeps clear of a pseudospectrum and
whether a disc holds a numerical range. By Fejér and Riesz a positive ψ factorises as (L ᴴ− e^{−iθ}W)ᴴ(Lᴴ − e^{−iθ}W).
However the factors were found, multiplying out gives

    ψ(θ) ⪰ λ_min(Q − L Lᴴ − WᴴW) − 2‖B − L W‖ for every θ,

so two residuals of small matrices prove a statement about a continuum, without sampling and without trusting an
iteration. The factors come from X + BᴴX⁻¹B = Q, X = L Lᴴ, by cyclic reduction, which converges quadratically.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lax_linalg.nonnormal.inputs import double_precision

_MOST_REDUCTIONS = 40


def proves_positive(q: np.ndarray, b: np.ndarray, margin: float) -> bool:
    """Whether Q − e^{−iθ}B − e^{iθ}Bᴴ ⪰ 0 is proved for every θ.

    Args:
        q: Hermitian [n, n].
        b: [n, n].
        margin: a guess of some part of the least eigenvalue over all θ; the factors are sought for Q − margin·I, so
            that their residuals may be as large as the margin.

    Returns:
        True: proved, with an allowance of 4 n ε ‖Q‖ for the rounding in the residuals. False: nothing known.

    Cost: O(n³) a reduction, some log₂ √(‖Q‖/margin) of them.

    Source: J. Engwerda, A. Ran, A. Rijkeboer, Linear Algebra Appl. 186 (1993); B. Meini, Math. Comp. 71 (2002).
    """
    if not margin > 0:
        return False
    norm = float(np.linalg.norm(q, 2))
    allowance = 4 * len(q) * float(np.finfo(float).eps) * norm
    if not allowance < margin:
        return False
    # sizes are rounded up, so that few programs are compiled: a decoupled identity changes nothing
    n, padded = len(q), -(-len(q) // 8) * 8
    q_full, b_full = np.eye(padded, dtype=complex), np.zeros((padded, padded), complex)
    q_full[:n, :n], b_full[:n, :n] = q / norm, b / norm
    with double_precision():
        slack = float(_residual_bound(jnp.asarray(q_full), jnp.asarray(b_full), margin / norm))
    return margin + norm * slack - allowance >= 0


@jax.jit
def _residual_bound(q: jax.Array, b: jax.Array, margin: float) -> jax.Array:
    """λ_min(Q' − LLᴴ − WᴴW) − 2‖B − LW‖ for Q' = Q − margin; −inf when a factor does not exist."""
    shifted = q - margin * jnp.eye(len(q), dtype=q.dtype)

    def reduce(state):
        count, _, q_k, b_k, x = state
        factor = jnp.linalg.cholesky(q_k)
        left = jax.scipy.linalg.solve_triangular(factor, b_k, lower=True)
        right = jax.scipy.linalg.solve_triangular(factor, b_k.conj().T, lower=True)
        down, up = left.conj().T @ left, right.conj().T @ right  # Bᴴ Q⁻¹ B and B Q⁻¹ Bᴴ
        return count + 1, jnp.linalg.norm(down), q_k - down - up, right.conj().T @ left, x - down

    def unfinished(state):
        count, change, *_ = state
        # NaN, a failed Cholesky factorisation, compares false and stops
        return (count < _MOST_REDUCTIONS) & (change > 1e-16)

    *_, x = lax.while_loop(unfinished, reduce, (0, jnp.asarray(jnp.inf, shifted.real.dtype), shifted, b, shifted))
    x = (x + x.conj().T) / 2
    factor = jnp.linalg.cholesky(x)
    w = jax.scipy.linalg.solve_triangular(factor, b, lower=True)
    gap = shifted - factor @ factor.conj().T - w.conj().T @ w
    bound = jnp.linalg.eigvalsh((gap + gap.conj().T) / 2)[0] - 2 * jnp.linalg.norm(b - factor @ w)
    return jnp.where(jnp.isfinite(bound), bound, -jnp.inf)
