"""Laws defined by an implicit equation for their Stieltjes transform: free products, Jacobians, residual networks."""

from __future__ import annotations

import abc
import collections
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.random_matrix import series
from lax_linalg.random_matrix.bands import Band, find_bands
from lax_linalg.random_matrix.haar import Haar
from lax_linalg.random_matrix.implicit_solver import Equations, Measure, density
from lax_linalg.random_matrix.law import Law

NEWTON_STEPS = 8


class ImplicitLaw(Law):
    """A law whose S-transform is a product of closed forms and of S-transforms of measures.

    The solution is tabulated once in float64 and polished by Newton steps in the argument's precision, so that `pdf`
    and `cdf` are as exact as the equation in that precision.
    """

    quantity = "squared singular values"

    @abc.abstractmethod
    def free_factors(self) -> tuple[Law, ...]:
        """The free factors; repeated ones count as powers."""

    @functools.cached_property
    def _counted(self) -> tuple[tuple[Law, int], ...]:
        return tuple(collections.Counter(self.free_factors()).items())

    @functools.cached_property
    def _single(self) -> Law | None:
        """The law itself, rescaled, when all factors but one are constants: then nothing is convolved."""
        factors = self.free_factors()
        rest = [factor for factor in factors if not isinstance(factor, Haar)]
        if rest == [self] or len(rest) > 1:
            return None
        scale = math.prod(factor.variance for factor in factors if isinstance(factor, Haar))
        return rest[0].scaled(scale) if rest else Haar(scale)

    @functools.cached_property
    def atoms(self) -> tuple[tuple[float, float], ...]:  # type: ignore[override]
        """For free factors, mass{ab} = mass{a} + mass{b} − 1 where positive; at zero the larger of the two."""
        current: dict[float, float] = {1.0: 1.0}
        for factor, count in self._counted:
            for _ in range(count):
                merged: dict[float, float] = {}
                for a, mass_a in current.items():
                    for b, mass_b in factor.atoms:
                        if a > 0 and b > 0 and mass_a + mass_b > 1 + 1e-12:
                            merged[a * b] = merged.get(a * b, 0.0) + mass_a + mass_b - 1
                zero = max(current.get(0.0, 0.0), dict(factor.atoms).get(0.0, 0.0))
                current = {**merged, 0.0: zero} if zero > 0 else merged
        return tuple(sorted(current.items()))

    @functools.cached_property
    def _equations(self) -> Equations:
        closed, measures = [], []
        for factor, count in self._counted:
            form = factor.closed_s_transform()
            if form is not None:
                closed.append((form, count))
            else:
                measures.append(Measure(*factor.contour(), *factor.quadrature(), count))
        return Equations(tuple(closed), tuple(measures), dict(self.atoms).get(0.0, 0.0))

    @functools.cached_property
    def _bands(self) -> tuple[Band, ...]:
        if sum(mass for _, mass in self.atoms) > 1 - 1e-12:
            return ()
        lows, highs = zip(*(factor.support for factor in self.free_factors()))
        return find_bands(
            self._equations,
            bottom=sum(math.log(v) for v in lows) if min(lows) > 0 else -math.inf,
            top=sum(math.log(v) for v in highs),
            middle=math.log(self.mean),
            width=math.sqrt(math.log1p(self.relative_variance)),
            atoms=[(math.log(position), mass) for position, mass in self.atoms if position > 0],
        )

    @functools.cached_property
    def support(self) -> tuple[float, float]:  # type: ignore[override]
        if self._single is not None:
            return self._single.support
        positions = [position for position, _ in self.atoms]
        lows = [0.0 if band.truncated else math.exp(band.low) for band in self._bands]
        return min(positions + lows), max(positions + [math.exp(band.high) for band in self._bands])

    @property
    def bands(self) -> tuple[tuple[float, float], ...]:
        """The intervals of the continuous part, in order.

        Example:
            >>> from lax_linalg.random_matrix import ResidualJacobian
            >>> [tuple(round(v, 4) for v in band) for band in ResidualJacobian(0.5).bands]
            [(0.1249, 8.0081)]
        """
        if self._single is not None and isinstance(self._single, ImplicitLaw):
            return self._single.bands
        return tuple((0.0 if band.truncated else math.exp(band.low), math.exp(band.high)) for band in self._bands)

    def _solution(self, band: Band, log_x: Any):
        """h and w at log x inside the band: table look-up, then Newton in the working precision."""
        fraction = (log_x - band.low) / (band.high - band.low)
        inside = (fraction > 0) & (fraction < 1)
        target = jnp.where(inside, log_x, 0.5 * (band.low + band.high))
        angle = 2 * jnp.arcsin(jnp.sqrt(jnp.where(inside, fraction, 0.5)))
        complex_type = jnp.complex128 if log_x.dtype == jnp.float64 else jnp.complex64

        def look_up(table):
            real = jnp.interp(angle, band.angles, table.real)
            imaginary = jnp.interp(angle, band.angles, table.imag)
            return (real + 1j * imaginary).astype(complex_type)

        def polish(state):
            state = self._equations.newton(jnp, target.astype(complex_type), *state)
            return self._equations.upper(jnp, *state)

        start = jax.lax.stop_gradient((look_up(band.h), tuple(look_up(wj) for wj in band.w)))
        state = jax.lax.stop_gradient(jax.lax.fori_loop(0, NEWTON_STEPS, lambda _, s: polish(s), start))
        error = jnp.abs(self._equations.log_z(jnp, *state) - target)
        lost = ~(error < 1e-2 * (1 + jnp.abs(target)) * math.sqrt(jnp.finfo(log_x.dtype).eps))
        state = jax.tree.map(lambda a, b: jnp.where(lost, b, a), state, start)
        # One more step outside stop_gradient carries the implicit derivative.
        return polish(state), inside

    def _density(self, x: jax.Array) -> jax.Array:
        if self._single is not None:
            return self._single._density(x)
        positive = x > 0
        safe = jnp.where(positive, x, 1.0)
        total = jnp.zeros_like(x)
        for band in self._bands:
            (h, _), inside = self._solution(band, jnp.log(safe))
            total = total + jnp.where(inside & positive, density(h) / safe, 0.0)
        return total

    def _distribution(self, x: jax.Array) -> jax.Array:
        if self._single is not None:
            return self._single._distribution(x)
        log_x = jnp.log(jnp.where(x > 0, x, 1.0))
        total = sum((jnp.where(x >= position, mass, 0.0) for position, mass in self.atoms), jnp.zeros_like(x))
        for band in self._bands:
            state, inside = self._solution(band, log_x)
            value = jnp.clip(1 - self._equations.tail(jnp, *state) - band.before, 0, band.mass)
            share = jnp.where(inside, value, jnp.where(log_x >= band.high, band.mass, 0.0))
            total = total + jnp.where(x > 0, share, 0.0)
        return total

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        if self._single is not None:
            return self._single._inverse_distribution(probability)
        pieces = [(position, mass, None) for position, mass in self.atoms]
        pieces += [(math.exp(band.high), band.mass, band) for band in self._bands]
        result, before = jnp.zeros_like(probability), 0.0
        for end, mass, band in sorted(pieces, key=lambda piece: piece[0]):
            value = jnp.full_like(probability, end) if band is None else band_quantile(self, band, probability - before)
            result = jnp.where(probability > before, value, result)
            before += mass
        return result

    def _integer_moment(self, order: int) -> float:
        product = np.eye(1, order)[0]
        for factor, count in self._counted:
            s = series.s_from_moments([factor.moment(k) for k in range(1, order + 1)])
            product = series.multiply(product, series.power(s, count))
        return float(series.moments_from_s(product)[-1])

    def quadrature(self, count: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights from the bands' own tables (midpoints in the angle), point masses included.

        Mass and moments are right to 1e-8 relative to their size, for slopes that pass through zero (GELU, SiLU) as
        well; what lies below the last digits of such a law is a node at the lower end. The law's `moment` is exact.
        """
        if self._single is not None:
            return self._single.quadrature()
        parts = [band.quadrature() for band in self._bands]
        nodes = np.concatenate([[position for position, _ in self.atoms], *(part[0] for part in parts)])
        return nodes, np.concatenate([[mass for _, mass in self.atoms], *(part[1] for part in parts)])


def band_quantile(law: ImplicitLaw, band: Band, share: jax.Array) -> jax.Array:
    """x with continuous mass `share` of the band to its left: safeguarded Newton in the angle, where it is smooth."""
    table = jnp.asarray(np.concatenate([[0.0], band.cdf - band.before, [band.mass]]), share.dtype)
    angles = jnp.asarray(np.concatenate([[0.0], band.angles, [np.pi]]), share.dtype)
    cell = jnp.clip(jnp.searchsorted(table, share, side="right") - 1, 0, len(band.angles))
    low, high = angles[cell], angles[cell + 1]
    gap = table[cell + 1] - table[cell]
    fraction = jnp.where(gap > 0, (share - table[cell]) / jnp.where(gap > 0, gap, 1.0), 0.5)
    guess = low + (high - low) * jnp.clip(fraction, 0, 1)

    def step(_, state):
        low, high, angle = state
        (h, w), _ = law._solution(band, band.log_x(angle))
        error = 1 - law._equations.tail(jnp, h, w) - band.before - share
        low, high = jnp.where(error < 0, angle, low), jnp.where(error < 0, high, angle)
        rate = density(h) * 0.5 * (band.high - band.low) * jnp.sin(angle)
        newton = angle - error / jnp.where(rate > 0, rate, 1.0)
        trusted = (newton >= low) & (newton <= high) & (rate > 0)
        return low, high, jnp.where(trusted, newton, 0.5 * (low + high))

    return jnp.exp(band.log_x(jax.lax.fori_loop(0, 8, step, (low, high, guess))[2]))
