"""S-transforms: the logarithms that add up when free random matrices are multiplied.

With M(z) = Σ_k m_k z⁻ᵏ the moment generating function, S(m) = (1 + m) / (m M⁻¹(m)), and for free factors
S_{AB} = S_A S_B (Voiculescu, 1987). Closed forms are kept as −log S with its derivative and with its contribution to

    Φ(z) = −∫_z^∞ M(s) ds/s,      P(X > x) = Im Φ(x + i0) / π,

so that the distribution function of a product needs no integration.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.random_matrix.law import Law


class ClosedForm(Protocol):
    """−log S as a function of p = 1 + m (small p keeps its digits); `xp` is numpy or jax.numpy."""

    def minus_log(self, xp: Any, p: Any) -> Any:
        """−log S(m)."""
        ...

    def derivative(self, p: Any) -> Any:
        """d(−log S)/dm."""
        ...

    def tail(self, xp: Any, p: Any) -> Any:
        """−m log S(m) + ∫₀^m log S: the contribution to Φ, up to a real constant."""
        ...


@dataclasses.dataclass(frozen=True)
class RationalS:
    """S(m) = 1 / (v (1 + c m)ᵏ): Marchenko–Pastur of ratio c, powers of it, and constants (c = 0).

    Example:
        >>> float(RationalS(scale=2.0, ratio=1.0).minus_log(np, 0.5))
        0.0
    """

    scale: float
    ratio: float
    power: int = 1

    def minus_log(self, xp, p):
        value = np.log(self.scale)
        return value + self.power * xp.log((1 - self.ratio) + self.ratio * p) if self.ratio else value + 0 * p

    def derivative(self, p):
        return self.power * self.ratio / ((1 - self.ratio) + self.ratio * p)

    def tail(self, xp, p):
        if not self.ratio:
            return 0 * p
        return self.power * (p - xp.log((1 - self.ratio) + self.ratio * p) / self.ratio)


@dataclasses.dataclass(frozen=True)
class ExponentialS:
    """S(m) = e^{−c(1+2m)}: the free multiplicative law of many small residual steps.

    Example:
        >>> float(ExponentialS(0.5).minus_log(np, 1.0))
        0.5
    """

    rate: float

    def minus_log(self, xp, p):
        return self.rate * (2 * p - 1)

    def derivative(self, p):
        return 2 * self.rate + 0 * p

    def tail(self, xp, p):
        return self.rate * (p - 1) ** 2


def s_transform(law: Law, m: jax.typing.ArrayLike) -> jax.Array:
    """S-transform of a law on [0, ∞) at real m in (a − 1, 0), a the mass at zero.

    S(m) = (1 + m) / (m M⁻¹(m)) with M(z) = E X/(z − X): closed form where the law has one, else M is inverted on the
    negative axis (bisection on the law's quadrature, then Newton).

    Args:
        law: a law of squared singular values.
        m: real array [...], a − 1 < m < 0.

    Returns:
        S(m), same shape.

    Raises:
        LinearAlgebraError: when the law has negative values, or m is outside (a − 1, 0).

    Cost: O(count · nodes) for the numerical route.

    Source: Voiculescu (1987); Mingo and Speicher, Free Probability and Random Matrices (2017), chapter 4.

    Example:
        >>> from lax_linalg.random_matrix import MarchenkoPastur
        >>> round(float(s_transform(MarchenkoPastur(1.0), -0.5)), 6)  # 1 / (1 + m)
        2.0
    """
    values = np.asarray(m, dtype=np.float64)
    zero_mass = sum(mass for position, mass in law.atoms if position == 0)
    if law.support[0] < 0:
        raise LinearAlgebraError(f"s_transform needs a law on [0, ∞), {law} starts at {law.support[0]:g}")
    if np.any(values <= zero_mass - 1) or np.any(values >= 0):
        raise LinearAlgebraError(f"s_transform of {law}: m must lie in ({zero_mass - 1:g}, 0), got {m}")
    closed = law.closed_s_transform()
    if closed is not None:
        return jnp.asarray(np.exp(-closed.minus_log(np, 1 + values)))
    return jnp.asarray(numerical_s_transform(*law.quadrature(), values))


def numerical_s_transform(nodes: np.ndarray, weights: np.ndarray, m: np.ndarray) -> np.ndarray:
    """S-transform of the measure Σ wᵢ δ(xᵢ), xᵢ ≥ 0, at real m in (a − 1, 0) (float64).

    Example:
        >>> round(float(numerical_s_transform(np.array([2.0]), np.array([1.0]), np.array(-0.5))), 12)
        0.5
    """
    m = np.asarray(m, dtype=np.float64)
    low, high = np.full(m.shape, -700.0), np.full(m.shape, 700.0)
    one_plus_m = 1 + m
    for _ in range(80):  # M rises from a − 1 to 0 as −z goes from 0 to ∞
        middle = 0.5 * (low + high)
        r = np.exp(middle)[..., None]
        below = np.sum(weights * r / (r + nodes), axis=-1) < one_plus_m
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return one_plus_m / (-m * np.exp(0.5 * (low + high)))
