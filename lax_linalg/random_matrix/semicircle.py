"""The semicircle (eigenvalues, symmetric Gaussian matrix) and the quarter circle (singular values, square one)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.dense import platform
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import check_parameter, safe_sqrt


@dataclasses.dataclass(frozen=True)
class Semicircle(Law):
    """Eigenvalues of a symmetric n × n matrix with off-diagonal entries of variance v/n (GOE), as n → ∞.

    f(x) = √(4v − x²) / (2πv) on [−2√v, 2√v]; even moments vᵏ Catalan(k), odd ones zero.

    Args:
        variance: v > 0.

    Raises:
        LinearAlgebraError: for a variance that is not positive and finite.

    Cost: O(1) an evaluation.

    Source: Wigner (1955).

    Example:
        >>> Semicircle().moments(4).tolist(), round(float(Semicircle().pdf(0.0)), 5)
        ([0.0, 1.0, 0.0, 2.0], 0.31831)
    """

    variance: float = 1.0

    quantity = "eigenvalues"
    ensemble = "symmetric Gaussian matrix"

    def __post_init__(self):
        check_parameter("Semicircle", "variance", self.variance, "positive", self.variance > 0)

    @property
    def radius(self) -> float:
        """2√v."""
        return 2 * math.sqrt(self.variance)

    @property
    def support(self) -> tuple[float, float]:
        return -self.radius, self.radius

    def _density(self, x: jax.Array) -> jax.Array:
        return safe_sqrt((self.radius - x) * (self.radius + x)) / (2 * jnp.pi * self.variance)

    def _distribution(self, x: jax.Array) -> jax.Array:
        y = jnp.clip(x / self.radius, -1, 1)
        return 0.5 + (y * safe_sqrt((1 - y) * (1 + y)) + jnp.arcsin(y)) / jnp.pi

    def _integer_moment(self, order: int) -> float:
        if order % 2:
            return 0.0
        half = order // 2
        return self.variance**half * (math.comb(order, half) // (half + 1))

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Eigenvalues of one symmetric Gaussian matrix of order `size`, descending."""
        square = jax.random.normal(key, (size, size))
        symmetric = (square + square.T) * math.sqrt(self.variance / (2 * size))
        return platform.eigvalsh(symmetric)[::-1]

    def __str__(self) -> str:
        return f"semicircle(variance {self.variance:g})"


@dataclasses.dataclass(frozen=True)
class QuarterCircle(Law):
    """Singular values of a square matrix with independent entries of variance v/n: f(s) = √(4v − s²)/(πv), s ≥ 0.

    The same as `MarchenkoPastur(1.0, v).singular_values()`, with the moments (4v)^{k/2} Γ((k+1)/2) / (√π Γ(k/2+2)).

    Args:
        variance: v > 0.

    Raises:
        LinearAlgebraError: for a variance that is not positive and finite.

    Cost: O(1) an evaluation.

    Source: Marchenko and Pastur (1967), ratio 1.

    Example:
        >>> QuarterCircle().support, round(QuarterCircle().mean, 6)  # 8/(3π)
        ((0.0, 2.0), 0.848826)
    """

    variance: float = 1.0

    quantity = "singular values"
    ensemble = "square Gaussian matrix"

    def __post_init__(self):
        check_parameter("QuarterCircle", "variance", self.variance, "positive", self.variance > 0)

    @property
    def support(self) -> tuple[float, float]:
        return 0.0, 2 * math.sqrt(self.variance)

    def _density(self, x: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0.0, 2 * Semicircle(self.variance).pdf(x))

    def _distribution(self, x: jax.Array) -> jax.Array:
        return 2 * Semicircle(self.variance)._distribution(x) - 1

    def _integer_moment(self, order: int) -> float:
        return self.moment(float(order))

    def moment(self, order: float) -> float:
        """E s^k for every real k > −1."""
        check_parameter("QuarterCircle.moment", "order", order, "above −1", order > -1)
        gamma = math.gamma((order + 1) / 2) / (math.sqrt(math.pi) * math.gamma(order / 2 + 2))
        return (4 * self.variance) ** (order / 2) * gamma

    def quadrature(self, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
        """Gauss–Legendre in the angle s = 2√v sin θ, where the law is (4/π) cos²θ dθ."""
        x, w = np.polynomial.legendre.leggauss(min(count, 100))
        angle = np.pi / 4 * (x + 1)
        return 2 * math.sqrt(self.variance) * np.sin(angle), w * np.cos(angle) ** 2

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Singular values of one square Gaussian matrix of order `size`, descending."""
        matrix = jax.random.normal(key, (size, size)) * math.sqrt(self.variance / size)
        return platform.svdvals(matrix)

    def __str__(self) -> str:
        return f"quarter circle(variance {self.variance:g})"
