"""Tracy–Widom laws: the fluctuations of the largest eigenvalue about the edge."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import check_count, check_parameter

LEFT, RIGHT = -11.0, 13.0  # both tails beyond are below 1e-13
DEGREE = 160
ORDER = 96


@dataclasses.dataclass(frozen=True)
class TracyWidom(Law):
    """Limit law of the largest eigenvalue (β = 1 real, β = 2 complex), as location + scale · ξ.

    F₂(s) = det(I − K_Ai) and F₁(s) = det(I − V), V(x, y) = ½ Ai((x + y)/2), on L²(s, ∞): Fredholm determinants by
    Gauss–Legendre quadrature, stored once as a Chebyshev series (absolute accuracy about 1e-12 in float64).
    `wishart` and `gaussian` give the location and scale for a matrix of finite size.

    Args:
        beta: 1 or 2.
        location, scale: real, positive.

    Raises:
        LinearAlgebraError: for another β, or a scale that is not positive.

    Cost: about a second once for each β, then O(160) a value. Moments by quadrature (no closed form is known).

    Source: Tracy and Widom (1994, 1996); Bornemann (2010), On the numerical evaluation of Fredholm determinants;
    Ferrari and Spohn (2005) for F₁; Johnstone (2001) for the scaling.

    Example:
        >>> law = TracyWidom(beta=2)
        >>> round(law.mean, 8), round(law.moment(2) - law.mean**2, 8)
        (-1.77108681, 0.81319479)
    """

    beta: int = 1
    location: float = 0.0
    scale: float = 1.0

    quantity = "largest eigenvalue"
    ensemble = "independent draws, one a matrix"

    def __post_init__(self):
        if self.beta not in (1, 2):
            raise LinearAlgebraError(
                f"TracyWidom: β = {self.beta!r} is not supported; β must be 1 (real) or 2 (complex)"
            )
        check_parameter("TracyWidom", "location", self.location, "finite", True)
        check_parameter("TracyWidom", "scale", self.scale, "positive", self.scale > 0)

    @classmethod
    def wishart(cls, rows: int, columns: int, variance: float = 1.0, beta: int = 1) -> TracyWidom:
        """Law of the largest *squared* singular value of a rows × columns matrix with entries of variance v/columns.

        Location (√(n − 1) + √p)² and scale (√(n − 1) + √p)(1/√(n − 1) + 1/√p)^{1/3}, n and p the two sizes, for real
        entries; complex ones have n in place of n − 1.

        Source: Johnstone (2001), eqs. 1.3–1.4; Johansson (2000) for β = 2.

        Example:
            >>> law = TracyWidom.wishart(100, 100)
            >>> round(law.location, 3), round(law.scale, 4)
            (3.98, 0.1168)
        """
        rows, columns = check_count("rows", rows, 2), check_count("columns", columns, 2)
        long, short = max(rows, columns), min(rows, columns)
        a, b = math.sqrt(long - 1 if beta == 1 else long), math.sqrt(short)
        unit = variance / columns
        return cls(beta, (a + b) ** 2 * unit, (a + b) * (1 / a + 1 / b) ** (1 / 3) * unit)

    @classmethod
    def gaussian(cls, size: int, variance: float = 1.0, beta: int = 1) -> TracyWidom:
        """Law of the largest eigenvalue of a symmetric (Hermitian) Gaussian matrix whose bulk is Semicircle(variance).

        Location 2√v, scale √v N^{−2/3}.

        Source: Tracy and Widom (1996).

        Example:
            >>> TracyWidom.gaussian(1000).location
            2.0
        """
        root = math.sqrt(variance)
        return cls(beta, 2 * root, root * check_count("size", size) ** (-2 / 3))

    @property
    def support(self) -> tuple[float, float]:
        return -math.inf, math.inf

    @property
    def edge(self) -> float:
        """The location: where the bulk ends."""
        return self.location

    def _standard(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(position in [−1, 1] of the Chebyshev series, standardised x)."""
        s = (x - self.location) / self.scale
        return jnp.clip((2 * s - LEFT - RIGHT) / (RIGHT - LEFT), -1, 1), s

    def _density(self, x: jax.Array) -> jax.Array:
        position, s = self._standard(x)
        value = _clenshaw(_series(self.beta)[1], position) / self.scale
        return jnp.where((s > LEFT) & (s < RIGHT), jnp.maximum(value, 0.0), 0.0)

    def _distribution(self, x: jax.Array) -> jax.Array:
        position, s = self._standard(x)
        value = jnp.clip(_clenshaw(_series(self.beta)[0], position), 0, 1)
        return jnp.where(s <= LEFT, 0.0, jnp.where(s >= RIGHT, 1.0, value))

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        from lax_linalg.random_matrix.numerics import bisect_monotone

        low = jnp.full_like(probability, self.location + LEFT * self.scale)
        high = jnp.full_like(probability, self.location + RIGHT * self.scale)
        return bisect_monotone(self._distribution, probability, low, high, jnp.finfo(probability.dtype).nmant + 6)

    def _integer_moment(self, order: int) -> float:
        return self.expect(lambda x: x**order)

    def quadrature(self, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
        """Gauss–Legendre on the range that holds all but 1e-13 of the mass."""
        nodes, weights = np.polynomial.legendre.leggauss(count)
        density = np.polynomial.chebyshev.chebval(nodes, _series(self.beta)[1])
        s = 0.5 * (LEFT + RIGHT) + 0.5 * (RIGHT - LEFT) * nodes
        return self.location + self.scale * s, weights * density * 0.5 * (RIGHT - LEFT)

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Largest eigenvalues of `size` independent matrices, in the limit law, descending."""
        return jnp.sort(self.sample(key, size))[::-1]

    def __str__(self) -> str:
        return f"Tracy–Widom(β = {self.beta})"


def _clenshaw(coefficients: np.ndarray, x: jax.Array) -> jax.Array:
    """Σ c_k T_k(x) by Clenshaw's recurrence."""

    def step(state, c):
        last, before = state
        return (2 * x * last - before + c, last), None

    rest = jnp.asarray(coefficients[:0:-1], x.dtype)
    (last, before), _ = jax.lax.scan(step, (jnp.zeros_like(x), jnp.zeros_like(x)), rest)
    return x * last - before + jnp.asarray(coefficients[0], x.dtype)


def fredholm_determinant(beta: int, s: float) -> float:
    """F_β(s) by Gauss–Legendre quadrature of its Fredholm determinant (float64 on the host).

    Source: Bornemann (2010), section 4; Ferrari and Spohn (2005), eq. 5 for β = 1.

    Example:
        >>> round(fredholm_determinant(2, -2.0), 10)
        0.4132241425
    """
    from scipy.special import airy

    x, w = np.polynomial.legendre.leggauss(ORDER)
    # Beyond `end` the kernels are below rounding: Ai(16) = 4e-20.
    end = 16.0 if beta == 2 else 32.0 - s
    nodes, weights = s + (end - s) * (x + 1) / 2, (end - s) / 2 * w
    if beta == 2:
        ai, slope, *_ = airy(nodes)
        difference = nodes[:, None] - nodes[None, :]
        np.fill_diagonal(difference, 1.0)
        kernel = (ai[:, None] * slope[None, :] - slope[:, None] * ai[None, :]) / difference
        np.fill_diagonal(kernel, slope**2 - nodes * ai**2)
    else:
        kernel = 0.5 * airy((nodes[:, None] + nodes[None, :]) / 2)[0]
    root = np.sqrt(weights)
    return float(np.linalg.det(np.eye(ORDER) - root[:, None] * kernel * root[None, :]))


@functools.cache
def _series(beta: int) -> tuple[np.ndarray, np.ndarray]:
    """Chebyshev coefficients of F_β and of its derivative on [LEFT, RIGHT]."""
    angles = np.pi * (np.arange(DEGREE) + 0.5) / DEGREE
    points = 0.5 * (LEFT + RIGHT) + 0.5 * (RIGHT - LEFT) * np.cos(angles)
    values = np.array([fredholm_determinant(beta, s) for s in points])
    coefficients = 2 / DEGREE * np.cos(np.outer(np.arange(DEGREE), angles)) @ values
    coefficients[0] /= 2
    return coefficients, np.polynomial.chebyshev.chebder(coefficients) * 2 / (RIGHT - LEFT)
