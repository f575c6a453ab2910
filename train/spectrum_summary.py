"""A layer's singular values over the probe inputs in a few numbers: in metrics.jsonl, the table and the report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import lax_linalg as la

QUANTITIES = ("sigma_max", "sigma_median", "sigma_min", "cond", "stable_rank", "effective_rank")


def summarize(singular_values: np.ndarray) -> dict[str, float]:
    """Summarise the spectra of one layer, each number of `la.summary` the median over the probe inputs.

    Args:
        singular_values: [..., k], k ≥ 1, in any order; the median is over all leading axes.

    Returns:
        A number for each of `QUANTITIES`; NaN where the spectrum is.

    Cost: O(B k log k) in double precision, on the host.

    Example:
        >>> [round(value, 3) for value in summarize(np.array([2.0, 1.0, 1.0])).values()]  # in the order of QUANTITIES
        [2.0, 1.0, 1.0, 2.0, 1.5, 2.828]
    """
    each = la.summary(np.asarray(singular_values, np.float64))
    return {name: float(np.median(getattr(each, name))) for name in QUANTITIES}


def summarize_partial(measured: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Summarise what is known of a layer that was measured partially, each number the median over the probe inputs.

    Args:
        measured: "largest_singular_values" and "residuals" [..., k], "frobenius" and "frobenius_error" [...].

    Returns:
        sigma_max = σ₁ and sigma_k, the last value found, each with its bound "…_within"; the estimates ‖J‖_F and
        stable_rank = ‖J‖_F²/σ₁², each with its error "…_error", of the rank to first order. What needs all values is
        not there.

    Example:
        >>> found = {"largest_singular_values": np.array([2.0, 1.0]), "residuals": np.array([0.01, 0.1])}
        >>> found |= {"frobenius": np.array(4.0), "frobenius_error": np.array(0.5)}
        >>> numbers = summarize_partial(found)
        >>> [round(numbers[name], 3) for name in ("sigma_max", "sigma_max_within", "stable_rank", "stable_rank_error")]
        [2.0, 0.01, 4.0, 1.04]
    """
    s, residuals = (np.asarray(measured[name], np.float64) for name in ("largest_singular_values", "residuals"))
    norm, error = (np.asarray(measured[name], np.float64) for name in ("frobenius", "frobenius_error"))
    largest, within = s[..., 0], residuals[..., 0]
    scale = np.where(largest == 0, 1.0, largest)
    ratio = norm / scale
    each = {
        "sigma_max": largest,
        "sigma_max_within": within,
        "sigma_k": s[..., -1],
        "sigma_k_within": residuals[..., -1],
        "frobenius": norm,
        "frobenius_error": error,
        "stable_rank": ratio**2,
        "stable_rank_error": 2 * ratio * (error / scale + ratio * within / scale),
    }
    return {name: float(np.median(value)) for name, value in each.items()}
