"""The Airy function and its derivative in float64 on the host, for the Tracy–Widom determinants."""

from __future__ import annotations

import functools

import numpy as np

LEFT, RIGHT, STEP, TERMS = -24.0, 60.0, 0.25, 16


def _airy_by_contour(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ai, Ai' = ∫ (1, is) exp(i(s³/3 + x s)) ds / 2π on the line Im s = η, by the trapezoid rule.

    η = √x passes through the saddle for x > 1; for negative x a small shift keeps the cancellation harmless.
    """
    shift = np.where(x > 1, np.sqrt(np.maximum(x, 1.0)), 1 / np.sqrt(1 + np.maximum(-x, 0.0)))[:, None]
    reach, count = 7.0, 1200
    t = (np.arange(-count, count + 1) / count * reach)[None, :] / np.sqrt(shift)
    s = t + 1j * shift
    values = np.exp(1j * (s**3 / 3 + x[:, None] * s)) * (reach / count) / np.sqrt(shift) / (2 * np.pi)
    return np.sum(values, axis=1).real, np.sum(1j * s * values, axis=1).real


@functools.cache
def _centres() -> tuple[np.ndarray, np.ndarray]:
    """Taylor coefficients [centres, TERMS] of Ai about multiples of STEP: a_{n+2} = (x₀ a_n + a_{n−1})/((n+1)(n+2))."""
    x = np.arange(LEFT, RIGHT + STEP / 2, STEP)
    coefficients = np.zeros((len(x), TERMS))
    coefficients[:, 0], coefficients[:, 1] = _airy_by_contour(x)
    coefficients[:, 2] = x * coefficients[:, 0] / 2
    for n in range(1, TERMS - 2):
        coefficients[:, n + 2] = (x * coefficients[:, n] + coefficients[:, n - 1]) / ((n + 1) * (n + 2))
    return x, coefficients


def airy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ai(x) and Ai'(x) for −24 ≤ x ≤ 60, to about 1e-13 of the largest value nearby.

    Example:
        >>> ai, slope = airy(np.array([0.0]))
        >>> round(float(ai[0]), 10), round(float(slope[0]), 10)
        (0.3550280539, -0.2588194038)
    """
    x = np.asarray(x, dtype=np.float64)
    centres, coefficients = _centres()
    nearest = np.rint((x - LEFT) / STEP).astype(int)
    h = x - centres[nearest]
    value, slope = np.zeros_like(x), np.zeros_like(x)
    for n in reversed(range(TERMS)):
        slope = slope * h + value
        value = value * h + coefficients[nearest, n]
    return value, slope
