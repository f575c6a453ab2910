"""Corners and sums of orthogonal matrices: Wachter's law and the arcsine law."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.dense import platform
from lax_linalg.random_matrix import series
from lax_linalg.random_matrix.haar import haar_orthogonal
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import arc_area, check_parameter, safe_sqrt


@dataclasses.dataclass(frozen=True)
class Wachter(Law):
    """Squared singular values (all p) of the p × q corner of a Haar orthogonal n × n matrix, p/n → a, q/n → b.

        f(x) = √((x − x₋)(x₊ − x)) / (2πa x(1 − x)),    x± = (√(a(1 − b)) ± √(b(1 − a)))²,

    with mass max(0, 1 − b/a) at zero and max(0, (a + b − 1)/a) at one: a truncated orthogonal matrix is an isometry on
    what the cut leaves whole. a = b = ½ is the arcsine law on [0, 1]; a, b → 0 is Marchenko–Pastur.

    Args:
        rows: a in (0, 1), the share of the rows that is kept.
        columns: b in (0, 1), the share of the columns.

    Raises:
        LinearAlgebraError: for a share outside (0, 1).

    Cost: O(1) an evaluation; moments by power series, O(order²).

    Source: Wachter (1980), The limiting empirical measure of multiple discriminant ratios; Collins (2005), Product of
    random projections, Jacobi ensembles and universality problems.

    Example:
        >>> law = Wachter(0.5, 0.5)
        >>> law.support, round(float(law.cdf(0.25)), 6), [round(float(m), 6) for m in law.moments(3)]
        ((0.0, 1.0), 0.333333, [0.5, 0.375, 0.3125])
    """

    rows: float
    columns: float

    quantity = "squared singular values"
    ensemble = "corner of a Haar orthogonal matrix"

    def __post_init__(self):
        for name, value in (("rows", self.rows), ("columns", self.columns)):
            check_parameter("Wachter", name, value, "a share in (0, 1)", 0 < value < 1)

    @property
    def bulk(self) -> tuple[float, float]:
        """x₋ and x₊."""
        first, second = math.sqrt(self.rows * (1 - self.columns)), math.sqrt(self.columns * (1 - self.rows))
        return (first - second) ** 2, min(1.0, (first + second) ** 2)

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        masses = (0.0, 1 - self.columns / self.rows), (1.0, (self.rows + self.columns - 1) / self.rows)
        return tuple((position, mass) for position, mass in masses if mass > 0)

    @property
    def support(self) -> tuple[float, float]:
        ends = [*self.bulk, *(position for position, _ in self.atoms)]
        return min(ends), max(ends)

    def _density(self, x: jax.Array) -> jax.Array:
        low, high = self.bulk
        inside = (x > low) & (x < high)
        safe = jnp.where(inside, x, 0.5 * (low + high))
        value = safe_sqrt((high - safe) * (safe - low)) / (2 * jnp.pi * self.rows * safe * (1 - safe))
        return jnp.where(inside, value, 0.0)

    def _distribution(self, x: jax.Array) -> jax.Array:
        low, high = self.bulk
        y = jnp.clip(x, low, high)
        # 1/(x(1 − x)) = 1/x + 1/(1 − x), and the second term is the first of the mirrored law.
        whole = math.pi * (1 - 0.5 * (low + high) - math.sqrt((1 - low) * (1 - high)))
        area = arc_area(y, low, high) + whole - arc_area(1 - y, 1 - high, 1 - low)
        below = sum((jnp.where(x >= position, mass, 0.0) for position, mass in self.atoms), jnp.zeros_like(x))
        return below + area / (2 * jnp.pi * self.rows)

    def _integer_moment(self, order: int) -> float:
        """1/a times those of P Q P for free projections of traces a and b, S(m) = (1 + m)²/((a + m)(b + m))."""
        product = np.eye(1, order)[0]
        for share in (self.rows, self.columns):
            product = series.multiply(product, series.s_from_moments([share] * order))
        return float(series.moments_from_s(product)[-1]) / self.rows

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """All `size` eigenvalues of C Cᵀ, descending (zeros included), for the corner with `size` rows."""
        whole = max(size + 1, round(size / self.rows))
        corner = haar_orthogonal(key, whole)[:size, : max(1, round(whole * self.columns))]
        values = platform.svdvals(corner) ** 2
        return jnp.concatenate([values, jnp.zeros((size - values.shape[0],), values.dtype)])

    def __str__(self) -> str:
        return f"Wachter(rows {self.rows:g}, columns {self.columns:g})"


@dataclasses.dataclass(frozen=True)
class Arcsine(Law):
    """Eigenvalues of √v (Q + Qᵀ), Q Haar orthogonal: f(x) = 1/(π√(4v − x²)) on (−2√v, 2√v).

    They are twice the real parts of Q's eigenvalues, which lie uniformly on the circle. Even moments: vᵏ binom(2k, k).

    Args:
        variance: v > 0.

    Raises:
        LinearAlgebraError: for a variance that is not positive and finite.

    Cost: O(1) an evaluation.

    Source: Nica and Speicher, Lectures on the Combinatorics of Free Probability (2006), lecture 1 (u + u* of a Haar
    unitary).

    Example:
        >>> Arcsine().moments(4).tolist(), round(float(Arcsine().cdf(1.0)), 6)
        ([0.0, 2.0, 0.0, 6.0], 0.666667)
    """

    variance: float = 1.0

    ensemble = "Q + Qᵀ of a Haar orthogonal matrix"

    def __post_init__(self):
        check_parameter("Arcsine", "variance", self.variance, "positive", self.variance > 0)

    @property
    def support(self) -> tuple[float, float]:
        radius = 2 * math.sqrt(self.variance)
        return -radius, radius

    def _density(self, x: jax.Array) -> jax.Array:
        gap = (self.edge - x) * (self.edge + x)
        inside = gap > 0
        return jnp.where(inside, 1 / (jnp.pi * jnp.sqrt(jnp.where(inside, gap, 1.0))), 0.0)

    def _distribution(self, x: jax.Array) -> jax.Array:
        return 0.5 + jnp.arcsin(jnp.clip(x / self.edge, -1, 1)) / jnp.pi

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        return self.edge * jnp.sin(jnp.pi * (probability - 0.5))

    def _integer_moment(self, order: int) -> float:
        return 0.0 if order % 2 else float(self.variance ** (order // 2) * math.comb(order, order // 2))

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Eigenvalues of one √v (Q + Qᵀ) of order `size`, descending: in equal pairs, as Q's are conjugate."""
        orthogonal = haar_orthogonal(key, size)
        return platform.eigvalsh(math.sqrt(self.variance) * (orthogonal + orthogonal.T))[::-1]

    def __str__(self) -> str:
        return f"arcsine(variance {self.variance:g})"
