"""The law of orthogonal matrices: every singular value is the same."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from lax_linalg.dense import platform
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import check_count, check_parameter
from lax_linalg.random_matrix.s_transform import RationalS


@dataclasses.dataclass(frozen=True)
class Haar(Law):
    """Squared singular values of an orthogonal matrix times √v: a unit mass at v (dynamical isometry).

    Eigenvalues of the matrix itself lie uniformly on the circle of radius √v. Being a point mass it has no density:
    `pdf` is zero everywhere and `atoms` holds everything.

    Args:
        variance: v > 0, the common squared singular value.

    Raises:
        LinearAlgebraError: for a variance that is not positive and finite.

    Cost: O(1).

    Source: Saxe, McClelland and Ganguli (2014), for its role in deep networks.

    Example:
        >>> Haar().atoms, Haar().moments(3).tolist(), float(Haar().cdf(0.99))
        (((1.0, 1.0),), [1.0, 1.0, 1.0], 0.0)
    """

    variance: float = 1.0

    quantity = "squared singular values"
    ensemble = "Haar orthogonal matrix"

    def __post_init__(self):
        check_parameter("Haar", "variance", self.variance, "positive", self.variance > 0)

    @property
    def support(self) -> tuple[float, float]:
        return self.variance, self.variance

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        return ((float(self.variance), 1.0),)

    def _density(self, x: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)

    def _distribution(self, x: jax.Array) -> jax.Array:
        return jnp.where(x >= self.variance, 1.0, 0.0)

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        return jnp.full_like(probability, self.variance)

    def _integer_moment(self, order: int) -> float:
        return float(self.variance**order)

    def moment(self, order: float) -> float:
        return float(self.variance**order)

    def quadrature(self, count: int = 1):
        return super().quadrature(1)

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Squared singular values of √v Q, Q drawn from the orthogonal group: constant up to rounding."""
        orthogonal = haar_orthogonal(key, size)
        return self.variance * platform.svdvals(orthogonal) ** 2

    def closed_s_transform(self) -> RationalS:
        return RationalS(self.variance, 0.0)

    def __str__(self) -> str:
        return f"orthogonal(squared singular value {self.variance:g})"


def haar_orthogonal(key: jax.Array, size: int) -> jax.Array:
    """A matrix [size, size] drawn uniformly from the orthogonal group.

    QR of a Gaussian matrix with the signs of R's diagonal moved into Q; without them the law is not Haar.

    Raises:
        LinearAlgebraError: when `size` is not a positive integer.

    Cost: O(size³).

    Source: Mezzadri (2007), How to generate random matrices from the classical compact groups, section 4.

    Example:
        >>> q = haar_orthogonal(jax.random.key(0), 4)
        >>> bool(jnp.allclose(q.T @ q, jnp.eye(4), atol=1e-5))
        True
    """
    gaussian = jax.random.normal(key, (check_count("size", size), size))
    q, r = jnp.linalg.qr(gaussian)
    return q * jnp.sign(jnp.diagonal(r))
