"""The law of the squared slope φ'(√q z)², z ~ N(0, 1): the diagonal factor D² of a layer's Jacobian D W."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.random_matrix.activations import Activation
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import bisect_monotone, check_parameter, double_precision
from lax_linalg.random_matrix.s_transform import RationalS

RANGE = 8.5  # P(|z| > 8.5) = 2e-17
FLAT = 1e-13  # a stretch whose slope varies less is a point mass
DEEPEST = 16  # panels at a zero of the slope begin with 4^−16 of the widest
NODES = 16  # Gauss–Legendre nodes in a panel
INTERPOLATION = 14  # degree of the panel polynomials that continue φ'² into the complex plane
BEND = 0.25  # slope with which it leaves a turning point
SHIFT = 0.15  # how far the contour leaves the real axis, in units of the smaller of z and √q z


@dataclasses.dataclass(frozen=True)
class SlopeLaw(Law):
    """Law of φ'(√q z)² with z standard normal: μ_k = ∫Dz φ'(√q z)^{2k}.

    Piecewise linear activations give point masses; elsewhere the line is split where φ'² turns, and on each monotone
    branch the distribution follows from z itself.

    Args:
        activation: an `Activation`.
        length: q > 0, the variance of the pre-activations.

    Raises:
        LinearAlgebraError: for a length that is not positive and finite.

    Cost: O(bits) evaluations of φ' a value and branch.

    Source: Pennington, Schoenholz and Ganguli (2018), The emergence of spectral universality, section 4.

    Example:
        >>> from lax_linalg.random_matrix import as_activation
        >>> SlopeLaw(as_activation("relu"), 1.0).atoms
        ((0.0, 0.5), (1.0, 0.5))
    """

    activation: Activation
    length: float

    quantity = "squared singular values"
    ensemble = "squared slopes of independent Gaussian pre-activations"

    def __post_init__(self):
        check_parameter("SlopeLaw", "length", self.length, "positive", self.length > 0)

    def _squared_slope(self, z: jax.Array) -> jax.Array:
        return self.activation.slope(math.sqrt(self.length) * z) ** 2

    def _in_double(self, z: np.ndarray) -> np.ndarray:
        with double_precision():
            return np.asarray(self._squared_slope(jnp.asarray(z)))

    @functools.cached_property
    def _pieces(self) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float, float], ...]]:
        """(branches, flats): monotone stretches (a, b) of z, and stretches (a, b, value) of constant slope."""
        cuts = [c / math.sqrt(self.length) for c in self.activation.cuts]
        ends = [-RANGE, *[c for c in cuts if -RANGE < c < RANGE], RANGE]
        branches, flats = [], []
        for a, b in itertools.pairwise(ends):
            z = np.linspace(a, b, 2003)[1:-1]  # open interval: the slope may jump at its ends
            values = self._in_double(z)
            if np.ptp(values) <= FLAT * max(1.0, float(np.max(values))):
                flats.append((a, b, float(values[len(values) // 2])))
                continue
            steps = np.diff(values)
            rising = np.where(np.abs(steps) > 4e-16 * np.max(values), np.sign(steps), 0.0)  # not rounding errors
            turns = np.flatnonzero(rising[1:] * rising[:-1] < 0) + 1
            # The vertex of the parabola through three neighbours is where the slope turns, to the grid's third order.
            y0, y1, y2 = values[turns - 1], values[turns], values[turns + 1]
            vertex = z[turns] + 0.5 * (z[1] - z[0]) * (y0 - y2) / (y0 - 2 * y1 + y2)
            points = [a, *(self._zero_between(z[i - 1], z[i + 1], v) for i, v in zip(turns, vertex.tolist())), b]
            branches += list(itertools.pairwise(points))
        return tuple(branches), tuple(flats)

    def _zero_between(self, low: float, high: float, otherwise: float) -> float:
        """Where the slope passes through zero: there φ'² must reach it, or no mass comes close to zero."""
        with double_precision():
            ends = self.activation.slope(math.sqrt(self.length) * jnp.array([low, high]))
            if not float(ends[0]) * float(ends[1]) < 0:
                return otherwise
            sign = jnp.sign(ends[1])
            return float(
                bisect_monotone(
                    lambda t: sign * self.activation.slope(math.sqrt(self.length) * t),
                    jnp.array(0.0),
                    jnp.array(low),
                    jnp.array(high),
                    60,
                )
            )

    @functools.cached_property
    def atoms(self) -> tuple[tuple[float, float], ...]:  # type: ignore[override]
        masses: dict[float, float] = {}
        for a, b, value in self._pieces[1]:
            # The outermost stretches reach to infinity.
            low = 0.0 if a == -RANGE else _normal_cdf(a)
            high = 1.0 if b == RANGE else _normal_cdf(b)
            position = round(value, 13)
            masses[position] = masses.get(position, 0.0) + high - low
        return tuple(sorted(masses.items()))

    @functools.cached_property
    def _branch_values(self) -> np.ndarray:
        """φ'² at the two ends of every branch [branches, 2], approached from inside."""
        inward = 1e-12
        ends = np.array([(a + inward, b - inward) for a, b in self._pieces[0]]).reshape(-1, 2)
        return self._in_double(ends)

    @functools.cached_property
    def support(self) -> tuple[float, float]:  # type: ignore[override]
        values = [*self._branch_values.ravel().tolist(), *(position for position, _ in self.atoms)]
        if self._pieces[0]:  # saturation: the slopes far out
            values += self._in_double(np.array([-1e6, 1e6]) / math.sqrt(self.length)).tolist()
        return min(values), max(values)

    def _branch_preimages(self, x: jax.Array):
        """For each monotone branch: (a, b, whether it rises, the z with φ'² = x, whether x is within its range)."""
        for (a, b), (at_a, at_b) in zip(self._pieces[0], self._branch_values.tolist()):
            sign = 1.0 if at_b > at_a else -1.0
            z = bisect_monotone(
                lambda t, s=sign: s * self._squared_slope(t),
                sign * x,
                jnp.full_like(x, a),
                jnp.full_like(x, b),
                jnp.finfo(x.dtype).nmant + 8,
            )
            yield a, b, sign > 0, z, (x >= min(at_a, at_b)) & (x <= max(at_a, at_b))

    def _density(self, x: jax.Array) -> jax.Array:
        total = jnp.zeros_like(x)
        for _, _, _, z, inside in self._branch_preimages(x):
            slope = jax.jvp(self._squared_slope, (z,), (jnp.ones_like(z),))[1]
            density = jnp.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
            steep = inside & (jnp.abs(slope) > 0)
            total = total + jnp.where(steep, density / jnp.where(steep, jnp.abs(slope), 1.0), 0.0)
        return total

    def _distribution(self, x: jax.Array) -> jax.Array:
        total = sum((jnp.where(x >= position, mass, 0.0) for position, mass in self.atoms), jnp.zeros_like(x))
        for a, b, rises, z, _ in self._branch_preimages(x):
            cdf = jax.scipy.stats.norm.cdf
            total = total + (cdf(z) - cdf(a) if rises else cdf(b) - cdf(z))
        return total

    @functools.cached_property
    def _panels(self) -> list[tuple[float, float, float, float]]:
        """(start, end, branch start, branch end): at most half a unit wide, narrower towards inner branch ends.

        Towards zeros of the slope they shrink by factors of 4 down to the last nine digits: products are singular at
        zero there, and follow the law through all scales.
        """
        widest = 0.5 / max(1.0, math.sqrt(self.length))
        panels = []
        for (a, b), (at_a, at_b) in zip(self._pieces[0], self._branch_values.tolist()):
            half = 0.5 * (b - a)
            even = np.linspace(0.0, half, 1 + math.ceil(half / widest))

            def towards(end: float, value: float, half: float = half, even: np.ndarray = even) -> np.ndarray:
                if abs(end) == RANGE:
                    return even
                steps = 4.0 ** np.arange(-DEEPEST, 0) if value < FLAT else 2.0 ** np.arange(-4, 0)
                return np.array(sorted({0.0, *[g for g in widest * steps if g < half], *even.tolist()}))

            left, right = towards(a, at_a), towards(b, at_b)
            edges = [*(a + left), *(b - right[-2::-1])]
            panels += [(low, high, a, b) for low, high in itertools.pairwise(edges)]
        return panels

    def quadrature(self, count: int = NODES) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights by Gauss–Legendre panels in z, point masses included."""
        x, w = np.polynomial.legendre.leggauss(NODES)
        panels = np.array(self._panels).reshape(-1, 4)
        half = 0.5 * (panels[:, 1] - panels[:, 0])[:, None]
        z = panels[:, :1] + half * (x + 1)
        weights = half * w * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        return self._with_atoms(self._in_double(z).ravel(), weights.ravel())

    def _with_atoms(self, nodes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions = np.array([position for position, _ in self.atoms])
        masses = np.array([mass for _, mass in self.atoms])
        return np.concatenate([positions, nodes]), np.concatenate([masses, weights])

    def contour(self) -> tuple[np.ndarray, np.ndarray]:
        """Complex nodes and weights for 1/(u − d), Im u > 0, exact also where u comes close to the real axis.

        Each branch is bent to the side of the real z-axis where φ'² has a negative imaginary part, away from the pole
        at φ'(√q z)² = u. Only real evaluations of φ' are needed: every panel is continued by its Chebyshev interpolant.
        """
        x, w = np.polynomial.legendre.leggauss(NODES)
        chebyshev = np.cos(np.pi * (np.arange(INTERPOLATION) + 0.5) / INTERPOLATION)
        fit = np.linalg.inv(np.polynomial.chebyshev.chebvander(chebyshev, INTERPOLATION - 1))
        rises = {a: at_b > at_a for (a, _), (at_a, at_b) in zip(self._pieces[0], self._branch_values)}
        shift = SHIFT / max(1.0, math.sqrt(self.length))
        z = np.linspace(0.0, RANGE, 101)
        even = np.array_equal(self._in_double(z[1:]), self._in_double(-z[1:])) and not self.atoms
        nodes, weights = [], []
        for left, right, a, b in self._panels:
            if even and right <= 0:
                continue
            half = 0.5 * (right - left)
            t = left + half * (x + 1)
            # Distance to the nearer end of the branch; the outermost ends carry no mass and need no return.
            from_a = t - a if a > -RANGE else np.full_like(t, np.inf)
            from_b = b - t if b < RANGE else np.full_like(t, np.inf)
            distance = 1 / (1 / from_a + 1 / from_b)
            rate = distance**2 * ((from_a < np.inf) / from_a**2 - (from_b < np.inf) / from_b**2)
            side = -1.0 if rises[a] else 1.0
            grow = np.sqrt(1 + (BEND * distance / shift) ** 2)
            z = t + 1j * side * BEND * distance / grow
            dz = 1 + 1j * side * BEND * rate / grow**3
            coefficients = fit @ self._in_double(left + half * (chebyshev + 1))
            nodes.append(np.polynomial.chebyshev.chebval((z - left) / half - 1, coefficients))
            weights.append((2 if even else 1) * half * w * dz * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
        if not nodes:
            return self._with_atoms(np.zeros(0), np.zeros(0))
        values, mass = np.concatenate(nodes), np.concatenate(weights)
        keep = np.abs(mass) > 1e-19
        return self._with_atoms(values[keep], mass[keep])

    def _integer_moment(self, order: int) -> float:
        return self.expect(lambda d: d**order)

    def closed_s_transform(self) -> RationalS | None:
        if not self._pieces[0] and len(self.atoms) == 1 and self.atoms[0][0] > 0:  # a linear activation
            return RationalS(self.atoms[0][0], 0.0)
        return None

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        return jnp.sort(self._squared_slope(jax.random.normal(key, (size,))))[::-1]

    def __str__(self) -> str:
        return f"squared slope of {self.activation} at q = {self.length:.4g}"


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
