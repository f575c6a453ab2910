"""Lyapunov exponents of products of square Gaussian matrices at finite width, and their limit law."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import check_count, check_parameter, double_precision


@dataclasses.dataclass(frozen=True)
class GinibreLyapunov(Law):
    """Lyapunov exponents of W_T ⋯ W_1, real N × N with independent entries of variance v/N, as T → ∞.

        μ_i = ½ [log(2v/N) + ψ((N − i + 1)/2)],   i = 1 … N, descending.

    N point masses of 1/N each: `pdf` is zero and `atoms` lists the exponents. After T factors QR-accumulated exponents
    have mean μ_i exactly and standard deviation `standard_error(T)`, since log R_ii² is a sum of independent log χ².

    Args:
        size: N ≥ 1.
        variance: v > 0.

    Raises:
        LinearAlgebraError: when N is not a positive integer or the variance not positive.

    Cost: O(N).

    Source: Newman (1986), The distribution of Lyapunov exponents: exact results for random matrices.

    Example:
        >>> [round(float(mu), 4) for mu in GinibreLyapunov(2).exponents]
        [-0.2886, -0.9818]
    """

    size: int
    variance: float = 1.0

    quantity = "Lyapunov exponents"
    ensemble = "product of 200 Gaussian matrices, QR-accumulated"

    def __post_init__(self):
        object.__setattr__(self, "size", check_count("GinibreLyapunov: the size N", self.size))
        check_parameter("GinibreLyapunov", "variance", self.variance, "positive", self.variance > 0)

    @functools.cached_property
    def _exponents(self) -> np.ndarray:
        with double_precision():
            degrees = jnp.arange(self.size, 0, -1).astype(jnp.float64)
            return np.asarray(0.5 * (math.log(2 * self.variance / self.size) + jax.scipy.special.digamma(degrees / 2)))

    @property
    def exponents(self) -> jax.Array:
        """μ_1 ≥ … ≥ μ_N as an array [N]."""
        return jnp.asarray(self._exponents)

    def standard_error(self, depth: int) -> jax.Array:
        """Standard deviation [N] of the exponents measured from a product of `depth` factors: ½ √(ψ'((N−i+1)/2)/T).

        Example:
            >>> round(float(GinibreLyapunov(4).standard_error(100)[0]), 4)
            0.0402
        """
        depth = check_count("depth", depth)
        degrees = jnp.arange(self.size, 0, -1)
        return 0.5 * jnp.sqrt(jax.scipy.special.polygamma(1, degrees / 2) / depth)

    @property
    def support(self) -> tuple[float, float]:
        return float(self._exponents[-1]), float(self._exponents[0])

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        return tuple((mu, 1 / self.size) for mu in self._exponents[::-1].tolist())

    def _density(self, x: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)

    def _distribution(self, x: jax.Array) -> jax.Array:
        rising = jnp.asarray(self._exponents[::-1], x.dtype)
        return jnp.searchsorted(rising, x, side="right") / self.size

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        rising = jnp.asarray(self._exponents[::-1], probability.dtype)
        return rising[jnp.clip(jnp.ceil(probability * self.size).astype(int) - 1, 0, self.size - 1)]

    def _integer_moment(self, order: int) -> float:
        return float(np.mean(self._exponents**order))

    def spectrum(self, key: jax.Array, size: int | None = None, depth: int = 200) -> jax.Array:
        """Exponents [N] measured on one product of `depth` Gaussian matrices, QR-accumulated, descending.

        The law fixes N; a `size` that is given must equal it.
        """
        if size is not None:
            check_parameter("GinibreLyapunov.spectrum", "size", size, f"N = {self.size}", size == self.size)
        return _measured(key, math.sqrt(self.variance / self.size), self.size, check_count("depth", depth))

    def limit(self) -> LyapunovTriangle:
        """The law as N → ∞."""
        return LyapunovTriangle(self.variance)

    def __str__(self) -> str:
        return f"Ginibre Lyapunov exponents(N = {self.size})"


@dataclasses.dataclass(frozen=True)
class LyapunovTriangle(Law):
    """Lyapunov exponents of wide Gaussian products: e^{2μ}/v is uniform on [0, 1] (e^μ has a triangular density).

    f(μ) = 2 e^{2μ}/v for μ ≤ ½ log v. Moments of μ are those of ½(log v − E), E standard exponential.

    Source: Isopi and Newman (1992), The triangle law for Lyapunov exponents of large random matrices.

    Example:
        >>> LyapunovTriangle().mean, round(float(LyapunovTriangle().cdf(-0.5)), 5)
        (-0.5, 0.36788)
    """

    variance: float = 1.0

    quantity = "Lyapunov exponents"
    ensemble = "product of 200 Gaussian matrices, QR-accumulated"

    def __post_init__(self):
        check_parameter("LyapunovTriangle", "variance", self.variance, "positive", self.variance > 0)

    @property
    def support(self) -> tuple[float, float]:
        return -math.inf, 0.5 * math.log(self.variance)

    def _density(self, x: jax.Array) -> jax.Array:
        return jnp.where(x <= self.edge, 2 * jnp.exp(2 * jnp.minimum(x, self.edge)) / self.variance, 0.0)

    def _distribution(self, x: jax.Array) -> jax.Array:
        return jnp.exp(2 * jnp.minimum(x, self.edge)) / self.variance

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        return 0.5 * (jnp.log(probability) + math.log(self.variance))

    def _integer_moment(self, order: int) -> float:
        shift = self.edge
        terms = (math.comb(order, j) * shift ** (order - j) * (-0.5) ** j * math.factorial(j) for j in range(order + 1))
        return float(sum(terms))

    def quadrature(self, count: int = 80):
        nodes, weights = np.polynomial.laguerre.laggauss(min(count, 120))
        return self.edge - 0.5 * nodes, weights

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Exponents of one product of Gaussian matrices of order `size`, descending."""
        return GinibreLyapunov(size, self.variance).spectrum(key)

    def __str__(self) -> str:
        return "triangle law of Lyapunov exponents"


@functools.partial(jax.jit, static_argnames=("size", "depth"))
def _measured(key: jax.Array, scale: float, size: int, depth: int) -> jax.Array:
    """Exponents of one product of `depth` Gaussian matrices, descending."""

    def step(frame, step_key):
        q, r = jnp.linalg.qr(scale * jax.random.normal(step_key, (size, size)) @ frame)
        return q, jnp.log(jnp.abs(jnp.diagonal(r)))

    _, logs = jax.lax.scan(step, jnp.eye(size), jax.random.split(key, depth))
    return jnp.sort(jnp.mean(logs, axis=0))[::-1]
