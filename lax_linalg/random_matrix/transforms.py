"""Laws made from laws: singular values from squared ones (√X) and a change of scale (s·X)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import check_parameter


@dataclasses.dataclass(frozen=True)
class SingularValues(Law):
    """Pushforward of a law of squared singular values under the square root: pdf(s) = 2 s f(s²), cdf(s) = F(s²).

    Example:
        >>> from lax_linalg.random_matrix import MarchenkoPastur
        >>> law = SingularValues(MarchenkoPastur(1.0))
        >>> law.support, round(float(law.pdf(1.0)), 5)  # the quarter circle √(4 − s²)/π
        ((0.0, 2.0), 0.55133)
    """

    squared: Law

    quantity = "singular values"

    def __post_init__(self):
        if self.squared.support[0] < 0 or self.squared.quantity != "squared singular values":
            raise LinearAlgebraError(
                f"singular_values: {self.squared} is a law of {self.squared.quantity}; only squared singular values"
                " have a square root here"
            )

    @property
    def ensemble(self) -> str | None:  # type: ignore[override]
        return self.squared.ensemble

    @property
    def support(self) -> tuple[float, float]:
        low, high = self.squared.support
        return math.sqrt(low), math.sqrt(high)

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        return tuple((math.sqrt(position), mass) for position, mass in self.squared.atoms)

    def _density(self, x: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0.0, 2 * jnp.abs(x) * self.squared.pdf(x * x))

    def _distribution(self, x: jax.Array) -> jax.Array:
        return self.squared.cdf(x * x)

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        return jnp.sqrt(self.squared.quantile(probability))

    def _integer_moment(self, order: int) -> float:
        return self.squared.moment(order / 2)

    def quadrature(self, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
        nodes, weights = self.squared.quadrature(count)
        return np.sqrt(nodes), weights

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        return jnp.sqrt(self.squared.spectrum(key, size))

    def __str__(self) -> str:
        return f"singular values of {self.squared}"


@dataclasses.dataclass(frozen=True)
class Scaled(Law):
    """The law of factor · X.

    Example:
        >>> from lax_linalg.random_matrix import MarchenkoPastur
        >>> round(Scaled(MarchenkoPastur(0.25), 2.0).mean, 6)
        2.0
    """

    base: Law
    factor: float

    def __post_init__(self):
        check_parameter("Scaled", "factor", self.factor, "positive", self.factor > 0)

    @property
    def quantity(self) -> str:  # type: ignore[override]
        return self.base.quantity

    @property
    def ensemble(self) -> str | None:  # type: ignore[override]
        return self.base.ensemble

    @property
    def support(self) -> tuple[float, float]:
        low, high = self.base.support
        return low * self.factor, high * self.factor

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        return tuple((position * self.factor, mass) for position, mass in self.base.atoms)

    def _density(self, x: jax.Array) -> jax.Array:
        return self.base._density(x / self.factor) / self.factor

    def _distribution(self, x: jax.Array) -> jax.Array:
        return self.base.cdf(x / self.factor)

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        return self.factor * self.base.quantile(probability)

    def _integer_moment(self, order: int) -> float:
        return self.factor**order * self.base.moment(order)

    def quadrature(self, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
        nodes, weights = self.base.quadrature(count)
        return self.factor * nodes, weights

    def free_factors(self) -> tuple[Law, ...]:
        from lax_linalg.random_matrix.haar import Haar

        return (Haar(self.factor), *self.base.free_factors())

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        return self.factor * self.base.spectrum(key, size)

    def __str__(self) -> str:
        return f"{self.factor:g} × {self.base}"
