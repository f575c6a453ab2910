"""Formal power series: exact moments of free products, by multiplying S-transforms term by term.

A series is the NumPy array of its coefficients, lowest order first, in float64. The moment series is
ψ(t) = Σ_{k≥1} m_k tᵏ; with χ its compositional inverse, S(m) = χ(m) (1 + m)/m.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lax_linalg.errors import LinearAlgebraError


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Product of two series, to the length of the first.

    Example:
        >>> multiply(np.array([1.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0])).tolist()
        [1.0, 2.0, 1.0]
    """
    return np.convolve(a, b)[: len(a)]


def power(a: np.ndarray, exponent: float) -> np.ndarray:
    """a^exponent for a real exponent and a₀ > 0, by the recurrence of Euler.

    Example:
        >>> power(np.array([1.0, 1.0, 0.0]), 0.5).tolist()
        [1.0, 0.5, -0.125]
    """
    result = np.zeros_like(a)
    result[0] = a[0] ** exponent
    for k in range(1, len(a)):
        j = np.arange(1, k + 1)
        result[k] = np.sum((exponent * j - (k - j)) * a[1 : k + 1] * result[k - j]) / (k * a[0])
    return result


def revert(a: np.ndarray) -> np.ndarray:
    """Compositional inverse of a series with a₀ = 0 and a₁ ≠ 0, by Lagrange inversion.

    Example:
        >>> revert(np.array([0.0, 1.0, 1.0, 0.0])).tolist()  # t + t²
        [0.0, 1.0, -1.0, 2.0]
    """
    reduced = a[1:]  # a(t)/t
    inverse = np.zeros_like(a)
    for k in range(1, len(a)):
        inverse[k] = power(reduced, -k)[k - 1] / k
    return inverse


def s_from_moments(moments: Sequence[float]) -> np.ndarray:
    """Series of S(m) from m_1, m_2, … with m_1 > 0; as many coefficients as moments.

    Source: Voiculescu (1987).

    Example:
        >>> s_from_moments([1.0, 2.0, 5.0]).tolist()  # Marchenko–Pastur: 1/(1 + m)
        [1.0, -1.0, 1.0]
    """
    if not moments or not moments[0] > 0:
        raise LinearAlgebraError(f"the S-transform needs a positive first moment, got {list(moments)!r}")
    chi = revert(np.concatenate([[0.0], np.asarray(moments, dtype=np.float64)]))
    reduced = chi[1:]
    return reduced + np.concatenate([[0.0], reduced[:-1]])


def moments_from_s(s: np.ndarray) -> np.ndarray:
    """m_1, m_2, … from the series of S: the inverse of `s_from_moments`.

    Example:
        >>> moments_from_s(np.array([1.0, -2.0, 3.0])).tolist()  # 1/(1 + m)²: Fuss–Catalan
        [1.0, 3.0, 12.0]
    """
    alternating = (-1.0) ** np.arange(len(s))  # 1/(1 + m)
    chi = np.concatenate([[0.0], multiply(s, alternating)])
    return revert(chi)[1:]
