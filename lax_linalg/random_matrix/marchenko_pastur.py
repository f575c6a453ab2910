"""Marchenko–Pastur: squared singular values of a Gaussian matrix."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from lax_linalg.dense import platform
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import arc_area, check_parameter, safe_sqrt
from lax_linalg.random_matrix.s_transform import RationalS
from lax_linalg.random_matrix.transforms import SingularValues


@dataclasses.dataclass(frozen=True)
class MarchenkoPastur(Law):
    """Squared singular values of an m × n matrix with independent entries of variance v/n, as m/n → c.

    These are all m eigenvalues of W Wᵀ, so for c > 1 there is a mass 1 − 1/c at zero. With a, b = v(1 ∓ √c)²,
    the density is √((b − x)(x − a)) / (2π c v x). For the min(m, n) values that `svdvals` returns, take
    `singular_values()`, or `nonzero()` for their squares.

    Args:
        ratio: c = rows / columns > 0.
        variance: v > 0; a layer initialised with variance σ_w²/fan_in has v = σ_w².

    Raises:
        LinearAlgebraError: for a ratio or variance that is not positive and finite.

    Cost: O(1) an evaluation, all in closed form.

    Source: Marchenko and Pastur (1967).

    Example:
        >>> law = MarchenkoPastur(ratio=0.25)
        >>> law.support, round(float(law.pdf(1.0)), 5), round(float(law.cdf(1.0)), 5)
        ((0.25, 2.25), 0.6164, 0.55339)
    """

    ratio: float = 1.0
    variance: float = 1.0

    quantity = "squared singular values"
    ensemble = "Gaussian matrix"

    def __post_init__(self):
        check_parameter("MarchenkoPastur", "ratio", self.ratio, "positive (rows / columns)", self.ratio > 0)
        check_parameter("MarchenkoPastur", "variance", self.variance, "positive", self.variance > 0)

    @property
    def bulk(self) -> tuple[float, float]:
        """Support of the continuous part."""
        root = math.sqrt(self.ratio)
        return self.variance * (1 - root) ** 2, self.variance * (1 + root) ** 2

    @property
    def support(self) -> tuple[float, float]:
        low, high = self.bulk
        return (0.0 if self.ratio > 1 else low), high

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        return ((0.0, 1 - 1 / self.ratio),) if self.ratio > 1 else ()

    def _density(self, x: jax.Array) -> jax.Array:
        low, high = self.bulk
        inside = (x > low) & (x < high)
        safe = jnp.where(inside, x, 0.5 * (low + high))
        value = safe_sqrt((high - safe) * (safe - low)) / (2 * jnp.pi * self.ratio * self.variance * safe)
        return jnp.where(inside, value, 0.0)

    def _distribution(self, x: jax.Array) -> jax.Array:
        low, high = self.bulk
        below = sum(mass for _, mass in self.atoms)
        return below + arc_area(jnp.clip(x, low, high), low, high) / (2 * jnp.pi * self.ratio * self.variance)

    def _integer_moment(self, order: int) -> float:
        """Narayana: vᵏ Σ_r cʳ/(r+1) binom(k, r) binom(k−1, r)."""
        total = sum(self.ratio**r * (math.comb(order, r) * math.comb(order - 1, r) // (r + 1)) for r in range(order))
        return self.variance**order * total

    def nonzero(self) -> MarchenkoPastur:
        """The law without its mass at zero: the min(m, n) squared singular values.

        Example:
            >>> MarchenkoPastur(ratio=4.0).nonzero()
            MarchenkoPastur(ratio=0.25, variance=4.0)
        """
        return MarchenkoPastur(1 / self.ratio, self.variance * self.ratio) if self.ratio > 1 else self

    def singular_values(self) -> SingularValues:
        """Law of the min(m, n) singular values, as `svdvals` returns them (without structural zeros).

        Example:
            >>> MarchenkoPastur(ratio=4.0).singular_values().support
            (1.0, 3.0)
        """
        return SingularValues(self.nonzero())

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """All `size` eigenvalues of W Wᵀ of one Gaussian matrix with `size` rows, descending (zeros included)."""
        columns = max(1, round(size / self.ratio))
        matrix = jax.random.normal(key, (size, columns)) * math.sqrt(self.variance / columns)
        values = platform.svdvals(matrix) ** 2
        return jnp.concatenate([values, jnp.zeros((size - values.shape[0],), values.dtype)])

    def closed_s_transform(self) -> RationalS:
        return RationalS(self.variance, self.ratio)

    def __str__(self) -> str:
        return f"Marchenko–Pastur(ratio {self.ratio:g}, variance {self.variance:g})"
