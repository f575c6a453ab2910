"""The end-to-end Jacobian of a deep residual network with small branches."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from lax_linalg.dense import platform
from lax_linalg.random_matrix.implicit import ImplicitLaw
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import check_parameter
from lax_linalg.random_matrix.s_transform import ExponentialS


@dataclasses.dataclass(frozen=True)
class ResidualJacobian(ImplicitLaw):
    """Squared singular values of Π_l (I + Y_l), many small independent branch Jacobians Y_l.

    The Stieltjes transform solves G = (zG − 1) e^{c(1 − 2zG)}, that is S(m) = e^{−c(1+2m)}, whatever the activation:
    only c = Σ_l E‖Y_l‖_F²/N, the sum of the branches' mean squared singular values, matters. Moments
    (e^{ck}/k) L^{(1)}_{k−1}(−2ck) (Laguerre), mean eᶜ, relative variance 2c, and X ~ 1/X: log X is symmetric.

    Args:
        strength: c > 0; c = L σ_w² ∫Dz φ'² for L branches φ-then-Gaussian with weight variance σ_w²/N.

    Raises:
        LinearAlgebraError: for a strength that is not positive and finite.

    Cost: O(1) a value after a table of 400 points.

    Source: Tarnowski, Warchoł, Jastrzębski, Tabor and Nowak (2019), Dynamical isometry is achieved in residual
    networks in a universal way for any activation function.

    Example:
        >>> law = ResidualJacobian(0.5)
        >>> round(law.mean, 6), round(law.relative_variance, 6), round(law.support[0] * law.support[1], 6)
        (1.648721, 1.0, 1.0)
    """

    strength: float

    ensemble = "product of 100 factors I + √(c/100) Gaussian"

    def __post_init__(self):
        check_parameter("ResidualJacobian", "strength", self.strength, "positive", self.strength > 0)

    def free_factors(self) -> tuple[Law, ...]:
        return (self,)

    def closed_s_transform(self) -> ExponentialS:
        return ExponentialS(self.strength)

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:  # type: ignore[override]
        return ()

    @property
    def support(self) -> tuple[float, float]:  # type: ignore[override]
        """Where dz/dm = 0: m(1 + m) = 1/(2c)."""
        root = math.sqrt(1 + 2 / self.strength)
        m = 0.5 * (root - 1)
        high = math.exp(math.log1p(1 / m) + self.strength * root)
        return 1 / high, high

    def _integer_moment(self, order: int) -> float:
        x = 2 * self.strength * order
        laguerre = sum(math.comb(order, j + 1) * x**j / math.factorial(j) for j in range(order))
        return math.exp(self.strength * order) / order * laguerre

    def spectrum(self, key: jax.Array, size: int, depth: int = 100) -> jax.Array:
        """Squared singular values of one product of `depth` factors I + √(c/depth) G, descending."""
        product = _product(key, math.sqrt(self.strength / (depth * size)), size, depth)
        return platform.svdvals(product) ** 2

    def __str__(self) -> str:
        return f"residual Jacobian(c = {self.strength:g})"


@functools.partial(jax.jit, static_argnames=("size", "depth"))
def _product(key: jax.Array, scale: float, size: int, depth: int) -> jax.Array:
    """Π (I + scale · G_l), G_l standard Gaussian."""

    def step(product, step_key):
        return product + scale * jax.random.normal(step_key, (size, size)) @ product, None

    return jax.lax.scan(step, jnp.eye(size), jax.random.split(key, depth))[0]
