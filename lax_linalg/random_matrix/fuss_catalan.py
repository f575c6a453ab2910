"""Fuss–Catalan: squared singular values of a product of square Gaussian matrices."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.dense import platform
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import bisect_monotone, check_count, check_parameter
from lax_linalg.random_matrix.s_transform import RationalS


@dataclasses.dataclass(frozen=True)
class FussCatalan(Law):
    """Squared singular values of W_L ⋯ W_1, square with independent entries of variance 1/n, times `variance`.

    With φ in (0, π/(L+1)),

        x = sin^{L+1}((L+1)φ) / (sin φ sin^L(Lφ)),    f(x) = sin²φ sin^{L−1}(Lφ) / (π sin^L((L+1)φ)),

    moments binom(Lk+k, k)/(Lk+1), right edge (L+1)^{L+1}/L^L; f ~ x^{−L/(L+1)} at zero. P(X > x) is
    ((L+1)φ − L sin φ sin((L+1)φ)/sin(Lφ))/π.

    Args:
        factors: L ≥ 1; L = 1 is Marchenko–Pastur with ratio 1.
        variance: overall scale v of the squared values, σ_w^{2L} for a deep linear network.

    Raises:
        LinearAlgebraError: when L is not a positive integer or the variance not positive.

    Cost: O(bits) a value, for the inversion x ↦ φ.

    Source: Banica, Belinschi, Capitaine, Collins (2011); Penson and Życzkowski (2011), eqs. 14, 16; the density in φ
    is Haagerup and Möller (2013).

    Example:
        >>> law = FussCatalan(2)
        >>> round(law.edge, 4), law.moments(3).tolist(), round(float(law.cdf(1.0)), 4)
        (6.75, [1.0, 3.0, 12.0], 0.6858)
    """

    factors: int
    variance: float = 1.0

    quantity = "squared singular values"
    ensemble = "product of Gaussian matrices"

    def __post_init__(self):
        object.__setattr__(self, "factors", check_count("FussCatalan: the number of factors", self.factors))
        check_parameter("FussCatalan", "variance", self.variance, "positive", self.variance > 0)

    @property
    def support(self) -> tuple[float, float]:
        n = self.factors
        return 0.0, self.variance * math.exp((n + 1) * math.log(n + 1) - n * math.log(n))

    def _angles(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """φ and δ = π/(L+1) − φ from t = log(δ/φ), so that both ends of the range are resolved."""
        top = jnp.pi / (self.factors + 1)
        return top * jax.nn.sigmoid(-t), top * jax.nn.sigmoid(t)

    def _log_x(self, t: jax.Array) -> jax.Array:
        """log x/v, falling in δ → 0 and so rising in t."""
        n = self.factors
        phi, delta = self._angles(t)
        return (n + 1) * jnp.log(jnp.sin((n + 1) * delta)) - jnp.log(jnp.sin(phi)) - n * jnp.log(jnp.sin(n * phi))

    def _solve(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """φ, δ and whether 0 < x < edge, with the implicit derivative of φ in x."""
        inside = (x > 0) & (x < self.edge)
        target = jnp.log(jnp.where(inside, x, 0.5 * self.edge) / self.variance)
        limit = 80.0 if x.dtype == jnp.float64 else 40.0
        ends = jnp.full_like(x, limit)
        steps = jnp.finfo(x.dtype).nmant + 12
        t = jax.lax.stop_gradient(bisect_monotone(self._log_x, target, -ends, ends, steps))
        value, slope = jax.jvp(self._log_x, (t,), (jnp.ones_like(t),))
        # A last Newton step carries the derivative; where x no longer resolves t (at the edge) it is left out.
        flat = slope < 1e2 * jnp.finfo(x.dtype).eps
        t = t + jnp.where(flat, 0.0, (target - value) / jnp.where(flat, 1.0, slope))
        return *self._angles(t), inside

    def _density(self, x: jax.Array) -> jax.Array:
        n = self.factors
        phi, delta, inside = self._solve(x)
        log_density = 2 * jnp.log(jnp.sin(phi)) + (n - 1) * jnp.log(jnp.sin(n * phi))
        log_density = log_density - n * jnp.log(jnp.sin((n + 1) * delta))
        return jnp.where(inside, jnp.exp(log_density) / (jnp.pi * self.variance), 0.0)

    def _distribution(self, x: jax.Array) -> jax.Array:
        n = self.factors
        phi, delta, inside = self._solve(x)
        # 1 − P(X > x), written with δ so that small probabilities keep their digits.
        below = ((n + 1) * delta + n * jnp.sin(phi) * jnp.sin((n + 1) * delta) / jnp.sin(n * phi)) / jnp.pi
        return jnp.where(inside, below, jnp.where(x <= 0, 0.0, 1.0))

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        n = self.factors

        def below(t):
            phi, delta = self._angles(t)
            return ((n + 1) * delta + n * jnp.sin(phi) * jnp.sin((n + 1) * delta) / jnp.sin(n * phi)) / jnp.pi

        ends = jnp.full_like(probability, 80.0 if probability.dtype == jnp.float64 else 40.0)
        steps = jnp.finfo(probability.dtype).nmant + 12
        return self.variance * jnp.exp(self._log_x(bisect_monotone(below, probability, -ends, ends, steps)))

    def _integer_moment(self, order: int) -> float:
        n = self.factors
        return self.variance**order * (math.comb(n * order + order, order) // (n * order + 1))

    def moment(self, order: float) -> float:
        """E X^s = vˢ Γ(s(L+1)+1) / (Γ(s+1) Γ(sL+2)) for every real s > −1/(L+1).

        Example:
            >>> round(FussCatalan(1).moment(0.5), 6)  # 8/(3π)
            0.848826
        """
        if float(order).is_integer() and order >= 0:
            return super().moment(order)
        n = self.factors
        if order <= -1 / (n + 1):
            raise LinearAlgebraError(f"{self}: the moment of order {order:g} is infinite; orders > −1/{n + 1} exist")
        logarithm = math.lgamma(order * (n + 1) + 1) - math.lgamma(order + 1) - math.lgamma(order * n + 2)
        return self.variance**order * math.exp(logarithm)

    def quadrature(self, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
        """Gauss–Legendre in φ: exact to rounding for polynomials."""
        n = self.factors
        x, w = np.polynomial.legendre.leggauss(min(count, 100))
        delta = np.pi / (n + 1) * (x + 1) / 2
        phi = np.pi / (n + 1) - delta

        top = (n + 1) * np.log(np.sin((n + 1) * delta)) - np.log(np.sin(phi)) - n * np.log(np.sin(n * phi))
        # dF/dδ by the product rule.
        ratio = np.sin(phi) / np.sin(n * phi)
        ratio_rate = -(np.cos(phi) * np.sin(n * phi) - n * np.sin(phi) * np.cos(n * phi)) / np.sin(n * phi) ** 2
        rate = (n + 1) + n * (ratio_rate * np.sin((n + 1) * delta) + ratio * (n + 1) * np.cos((n + 1) * delta))
        return self.variance * np.exp(top), rate * w / (2 * (n + 1))

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Squared singular values of one product of L Gaussian matrices of order `size`, descending."""
        product = jnp.eye(size)
        for factor_key in jax.random.split(key, self.factors):
            product = jax.random.normal(factor_key, (size, size)) @ product / math.sqrt(size)
        return self.variance * platform.svdvals(product) ** 2

    def closed_s_transform(self) -> RationalS:
        return RationalS(self.variance, 1.0, self.factors)

    def __str__(self) -> str:
        scale = "" if self.variance == 1 else f", variance {self.variance:g}"
        return f"Fuss–Catalan({self.factors} factors{scale})"
