"""The circular law and its products: eigenvalues of non-symmetric Gaussian matrices in the complex plane."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.dense import platform
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import as_float, check_count, check_parameter


@dataclasses.dataclass(frozen=True)
class CircularLaw:
    """Eigenvalues of a product of L square matrices with independent entries of variance v/n, as n → ∞.

    Planar density |z|^{2/L−2} / (π L r^{2/L}) on |z| ≤ r = v^{L/2}; P(|z| ≤ s) = (s/r)^{2/L}. This is a law in the
    plane, so `pdf` is per unit area and `cdf` is that of the modulus; `modulus()` is the law of |z| on the line.
    Real matrices have in addition about √(2n/π) real eigenvalues, invisible in the limit.

    Args:
        factors: L ≥ 1.
        variance: v > 0 of each factor.

    Raises:
        LinearAlgebraError: when L is not a positive integer or the variance not positive.

    Cost: O(1) an evaluation.

    Source: Ginibre (1965); Girko (1984); Burda, Janik and Waclaw (2010) for products.

    Example:
        >>> round(float(CircularLaw().pdf(0.5j)), 5), round(float(CircularLaw(factors=2).cdf(0.25)), 5)
        (0.31831, 0.25)
    """

    factors: int = 1
    variance: float = 1.0

    quantity = "eigenvalues"
    ensemble = "product of Gaussian matrices"

    def __post_init__(self):
        object.__setattr__(self, "factors", check_count("CircularLaw: the number of factors", self.factors))
        check_parameter("CircularLaw", "variance", self.variance, "positive", self.variance > 0)

    @property
    def edge(self) -> float:
        """The spectral radius r = v^{L/2}."""
        return self.variance ** (self.factors / 2)

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest modulus."""
        return 0.0, self.edge

    def pdf(self, z: jax.typing.ArrayLike) -> jax.Array:
        """Density per unit area at complex z (any shape); infinite at zero for L ≥ 2."""
        radius = as_float(jnp.abs(jnp.asarray(z)))
        scaled = radius / self.edge
        density = scaled ** (2 / self.factors - 2) / (jnp.pi * self.factors * self.edge**2)
        return jnp.where(scaled <= 1, density, 0.0)

    def cdf(self, radius: jax.typing.ArrayLike) -> jax.Array:
        """P(|z| ≤ radius)."""
        return self.modulus().cdf(radius)

    def quantile(self, probability: jax.typing.ArrayLike) -> jax.Array:
        """Radius of the disc that holds the given share of the eigenvalues."""
        return self.modulus().quantile(probability)

    def moments(self, count: int) -> jax.Array:
        """E |z|ᵏ = 2 rᵏ/(2 + kL), k = 1 … count (E zᵏ = 0 by symmetry)."""
        return self.modulus().moments(count)

    def modulus(self) -> Modulus:
        """The law of |z| on [0, r].

        Example:
            >>> round(CircularLaw().modulus().mean, 6)
            0.666667
        """
        return Modulus(self.factors, self.edge)

    def sample(self, key: jax.Array, count: int) -> jax.Array:
        """`count` independent complex draws from the law itself."""
        radius_key, angle_key = jax.random.split(key)
        radius = self.modulus().sample(radius_key, count)
        angle = jax.random.uniform(angle_key, (count,), maxval=2 * np.pi)
        return radius * jnp.exp(1j * angle)

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Eigenvalues of one product of L real Gaussian matrices of order `size`, by falling modulus (in float64)."""
        factors = [jax.random.normal(factor_key, (size, size)) for factor_key in jax.random.split(key, self.factors)]
        with jax.enable_x64(True):
            product = jnp.eye(size)
            for factor in factors:
                product = factor.astype(float) @ product * math.sqrt(self.variance / size)
            values = platform.eigvals(product)
            values = values[jnp.argsort(-jnp.abs(values))]
        return values.astype(complex)

    def __str__(self) -> str:
        return "circular law" if self.factors == 1 else f"circular law of {self.factors} factors"


@dataclasses.dataclass(frozen=True)
class Modulus(Law):
    """Law of |z| under the (product) circular law: F(s) = (s/r)^{2/L}.

    Example:
        >>> Modulus(factors=1, radius=2.0).moments(2).tolist()
        [1.3333333730697632, 2.0]
    """

    factors: int
    radius: float

    quantity = "moduli of eigenvalues"
    ensemble = "product of Gaussian matrices"

    @property
    def support(self) -> tuple[float, float]:
        return 0.0, self.radius

    def _density(self, x: jax.Array) -> jax.Array:
        inside = (x > 0) & (x <= self.radius)
        safe = jnp.where(inside, x, self.radius)
        value = 2 / (self.factors * self.radius) * (safe / self.radius) ** (2 / self.factors - 1)
        return jnp.where(inside, value, 0.0)

    def _distribution(self, x: jax.Array) -> jax.Array:
        return jnp.clip(x / self.radius, 0, 1) ** (2 / self.factors)

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        return self.radius * probability ** (self.factors / 2)

    def _integer_moment(self, order: int) -> float:
        return self.moment(float(order))

    def moment(self, order: float) -> float:
        """E |z|ᵏ = 2 rᵏ/(2 + kL) for every real k > −2/L."""
        check_parameter("Modulus.moment", "order", order, f"above {-2 / self.factors:g}", order > -2 / self.factors)
        return 2 * self.radius**order / (2 + order * self.factors)

    def quadrature(self, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
        """Gauss–Legendre in t = √F: |z| = r t^L is a polynomial there."""
        x, w = np.polynomial.legendre.leggauss(min(count, 100))
        t = (x + 1) / 2
        return self.radius * t**self.factors, w * t

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        return jnp.abs(CircularLaw(self.factors, self.radius ** (2 / self.factors)).spectrum(key, size))

    def __str__(self) -> str:
        return f"moduli of the {CircularLaw(self.factors)}"
