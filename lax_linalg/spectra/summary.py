"""Numbers that summarise a spectrum of singular values."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lax_linalg.dense.scaling import over_unit, unit_of


class SpectrumSummary(NamedTuple):
    """What `summary` gives; every field has the batch shape of the spectrum.

    Attributes:
        sigma_max, sigma_median, sigma_min: largest, median and smallest singular value.
        cond: condition number σ_max/σ_min, inf for a singular matrix.
        stable_rank: ‖A‖_F²/‖A‖₂², between 1 and the rank.
        effective_rank: exp of the entropy of σ_i/Σσ.
        log_volume: Σ log σ_i, −inf for a singular matrix; log |det| where the matrix is square.

    Example:
        >>> float(summary(jnp.array([2.0, 1.0])).cond)
        2.0
    """

    sigma_max: jax.Array
    sigma_median: jax.Array
    sigma_min: jax.Array
    cond: jax.Array
    stable_rank: jax.Array
    effective_rank: jax.Array
    log_volume: jax.Array


def summary(singular_values: ArrayLike) -> SpectrumSummary:
    """Largest, median, smallest, cond = σ₁/σ_k, stable rank Σσ²/σ₁², effective rank exp H(σ/Σσ), log-volume Σ log σ.

    Args:
        singular_values: [..., k], non-negative, in any order along the last axis, k ≥ 1.

    Returns:
        A `SpectrumSummary` of arrays [...]: of NumPy's, in the precision of the argument, unless a JAX array is given.
        For the zero matrix the ranks are 0; a NaN makes all of them NaN.

    Cost: O(k log k).

    Example:
        >>> s = summary(jnp.ones((3, 4)))
        >>> print(s.stable_rank, s.effective_rank.round(4))
        [4. 4. 4.] [4. 4. 4.]

    Source: stable rank: Rudelson & Vershynin (2007), doi:10.1145/1255443.1255449; effective rank: Roy & Vetterli,
    The effective rank (EUSIPCO 2007), definition 1.
    """
    on: Any = jnp if isinstance(singular_values, jax.Array) else np
    with np.errstate(divide="ignore", invalid="ignore"):
        return _summary(on.asarray(singular_values), on)


def _summary(s: Any, on: Any) -> SpectrumSummary:
    # against overflow of the squares, those by which derivatives of quotients divide too
    near_one = over_unit(s, unit_of(s, axis=-1)) if on is jnp and jnp.issubdtype(s.dtype, jnp.floating) else s
    largest, smallest = near_one.max(-1), near_one.min(-1)
    zero = largest == 0
    scaled = near_one / on.where(zero, 1, largest)[..., None]
    p = scaled / on.where(zero, 1, scaled.sum(-1))[..., None]
    entropy = -on.sum(on.where(p == 0, 0, p * on.log(on.where(p == 0, 1, p))), axis=-1)
    return SpectrumSummary(
        sigma_max=s.max(-1),
        sigma_median=on.median(s, axis=-1),
        sigma_min=s.min(-1),
        cond=on.where(smallest == 0, on.inf, largest / on.where(smallest == 0, 1, smallest)),
        stable_rank=on.sum(scaled**2, axis=-1),
        effective_rank=on.where(zero, 0, on.exp(entropy)),
        log_volume=on.sum(on.log(s), axis=-1),
    )
