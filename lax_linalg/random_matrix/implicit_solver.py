"""The equations of a free multiplicative product, solved for its Stieltjes transform on the real axis.

Unknowns at a point z: h = (1 + m)/m of the product, with m = zG(z) − 1, and for every factor that is known only as a
measure its subordination point u_j = e^{w_j} with M_j(u_j) = m. S-transforms multiply, so with −log S_j = w_j − log h,

    log z = log h + Σ_closed −log S_i(m) + Σ_measures n_j (w_j − log h).

h is nearly linear in u both far from a measure and next to a narrow one, which keeps Newton's steps good. On the
negative axis everything is real and monotone. From there the solution is followed along |z| = const with the angle
falling from π to 0: for Im z > 0 it is unique and analytic, so Newton's iteration cannot pick a wrong branch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lax_linalg.random_matrix.s_transform import ClosedForm

# Angles of the path as fractions of π: geometric, because a narrow spectrum is felt only at small angles.
PATH = 0.6 ** np.arange(1, 31)
STEPS, LAST_STEPS = 3, 18


@dataclasses.dataclass(frozen=True)
class Measure:
    """A factor that appears `count` times, as nodes and weights on a contour bent away from the upper half plane.

    `real_nodes` and `real_weights` integrate over the law itself, for points off its support.
    """

    nodes: np.ndarray
    weights: np.ndarray
    real_nodes: np.ndarray
    real_weights: np.ndarray
    count: int

    def transforms(self, xp: Any, w: Any) -> tuple[Any, Any]:
        """h = p/m and dh/dw at u = e^w, where p = E u/(u − d), m = E d/(u − d), dm/dw = −E u d/(u − d)²."""
        u = xp.exp(w)
        nodes, weights = self.nodes.astype(w.dtype), self.weights.astype(w.dtype)
        inverse = 1 / (u[..., None] - nodes)
        p, m = u * (inverse @ weights), inverse @ (weights * nodes)
        rate = u * ((inverse * inverse) @ (weights * nodes))
        return p / m, rate / (m * m)

    def log_potential(self, xp: Any, w: Any) -> Any:
        """E log(1 − d/u)."""
        inside = 1 - self.nodes.astype(w.dtype) / xp.exp(w)[..., None]
        return xp.log(inside) @ self.weights.astype(w.dtype)

    def on_negative_axis(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(p, −m) at u = −r, without cancellation."""
        inverse = 1 / (r[:, None] + self.real_nodes)
        return (r[:, None] * inverse) @ self.real_weights, inverse @ (self.real_weights * self.real_nodes)

    def outside(self, m: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log u, dm/dlog u) at real u above the support where m > 0 is given, or below it where p < 0 is."""
        above = m[0] > 0
        end = self.real_nodes.max() if above else self.real_nodes.min()
        mass = self.real_weights * self.real_nodes
        low, high = np.full(m.shape, -60.0), np.full(m.shape, 60.0)
        u = inverse = np.empty(0)
        for _ in range(64):  # m and p fall as u rises
            s = 0.5 * (low + high)
            u = end * (1 + np.exp(s)) if above else end / (1 + np.exp(-s))
            inverse = 1 / (u[:, None] - self.real_nodes)
            too_large = inverse @ mass > m if above else u * (inverse @ self.real_weights) > p
            low, high = np.where(too_large, s, low), np.where(too_large, high, s)
        return np.log(u), -u * (inverse**2 @ mass)


@dataclasses.dataclass(frozen=True)
class Equations:
    """closed: (form, count) pairs; measures: the factors known numerically; zero_mass: the product's atom at zero."""

    closed: tuple[tuple[ClosedForm, int], ...]
    measures: tuple[Measure, ...]
    zero_mass: float

    @property
    def measure_count(self) -> int:
        return sum(measure.count for measure in self.measures)

    def log_z(self, xp: Any, h: Any, w: tuple[Any, ...]) -> Any:
        # Im h ≥ 0 on the whole path, so the principal branch of log h is the continuous one.
        value = (1 - self.measure_count) * xp.log(h)
        for form, count in self.closed:
            value = value + count * form.minus_log(xp, h / (h - 1))
        for measure, wj in zip(self.measures, w):
            value = value + measure.count * wj
        return value

    def newton(self, xp: Any, log_z: Any, h: Any, w: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """One Newton step on all unknowns, eliminated by hand to the scalar equation for h."""
        residual = self.log_z(xp, h, w) - log_z
        slope = (1 - self.measure_count) / h
        for form, count in self.closed:
            slope = slope - count * form.derivative(h / (h - 1)) / (h - 1) ** 2
        offsets, rates = [], []
        for measure, wj in zip(self.measures, w):
            hj, rate = measure.transforms(xp, wj)
            residual = residual + measure.count * (h - hj) / rate
            slope = slope + measure.count / rate
            offsets.append(h - hj)
            rates.append(rate)
        step = -residual / slope
        # Half the distance to the branch points 0 and 1 is as far as a linear model can be trusted.
        limit = 0.5 * xp.minimum(abs(h), abs(h - 1))
        step = step * xp.minimum(1.0, limit / xp.maximum(abs(step), 1e-37))
        moved = tuple(wj + (offset + step) / rate for wj, offset, rate in zip(w, offsets, rates))
        return h + step, moved

    def upper(self, xp: Any, h: Any, w: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The solution of the upper half plane: where Im h < 0 the conjugate solves the conjugate problem."""
        flip = h.imag < 0
        return xp.where(flip, h.conj(), h), tuple(xp.where(flip, wj.conj(), wj) for wj in w)

    def tail(self, xp: Any, h: Any, w: tuple[Any, ...]) -> Any:
        """P(X > x) = Im Φ / π."""
        p = h / (h - 1)
        phi = (self.measure_count - 1) * xp.log(p)
        for form, count in self.closed:
            phi = phi + count * form.tail(xp, p)
        for measure, wj in zip(self.measures, w):
            phi = phi + measure.count * measure.log_potential(xp, wj)
        return phi.imag / np.pi

    def edge(self, above: bool) -> float | None:
        """log of an end of the support: the first extremum of the real function z(m), m from 0 up or from −1 down.

        None when z(m) is monotone, as next to a point mass or an inverse square root.
        """
        low, high = -30.0, 60.0
        with np.errstate(all="ignore"):
            for _ in range(12):
                t = np.linspace(low, high, 65)
                m = np.exp(t) if above else -1 - np.exp(t)
                p = 1 + np.exp(t) if above else -np.exp(t)
                log_h = np.log1p(np.exp(-t)) if above else -np.log1p(np.exp(-t))
                log_z = (1 - self.measure_count) * log_h
                slope = (self.measure_count - 1) / (m * p)
                for form, count in self.closed:
                    log_z = log_z + count * form.minus_log(np, p)
                    slope = slope + count * form.derivative(p)
                for measure in self.measures:
                    log_u, rate = measure.outside(m, p)
                    log_z = log_z + measure.count * log_u
                    slope = slope + measure.count / rate
                turned = np.flatnonzero(~np.isfinite(log_z) | (slope >= 0))
                if len(turned) == 0 or turned[0] == 0:
                    return None
                low, high = t[turned[0] - 1], t[turned[0]]
        return float(log_z[turned[0] - 1])


def density(h: Any) -> Any:
    """−Im p/π, the density per unit of log x."""
    return h.imag / abs(h - 1) ** 2 / np.pi


def solve(equations: Equations, log_x: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """h and w at x + i0 for real log x [n] (float64 on the host).

    Where Newton's iteration did not arrive (only within rounding of a point mass), h is real: no density.

    Cost: about 110 Newton steps, each O(n · nodes).
    """
    with np.errstate(all="ignore"):
        h, w = _negative_axis(equations, log_x)
        for angle in PATH:
            for _ in range(STEPS):
                h, w = equations.upper(np, *equations.newton(np, log_x + 1j * np.pi * angle, h, w))
        for _ in range(LAST_STEPS):
            h, w = equations.upper(np, *equations.newton(np, log_x + 0j, h, w))
        error = abs(equations.log_z(np, h, w) - log_x)
        for measure, wj in zip(equations.measures, w):
            error = np.maximum(error, abs(measure.transforms(np, wj)[0] / h - 1))
        lost = ~(error < 1e-6)
    return np.where(lost, h.real, h), w


def _negative_axis(equations: Equations, log_x: np.ndarray) -> tuple[Any, tuple[Any, ...]]:
    """The real solution at z = −x: everything is tabulated along p, which rises with x, then interpolated."""
    s = 4.0 * np.sinh(np.linspace(-5.8, 5.8, 2001))  # ±660, dense where the measures live
    if equations.measures:
        r = np.exp(s)
        p, minus_m = equations.measures[0].on_negative_axis(r)
        # Below its own mass at zero a measure's p is not reached; the product's is the largest of them.
        keep = (p > equations.zero_mass * (1 + 1e-12)) & (p > 0) & (minus_m > 0)
        p, minus_m, columns = p[keep], minus_m[keep], [s[keep]]
        for other in equations.measures[1:]:
            columns.append(np.interp(p, other.on_negative_axis(r)[0], s))
    else:
        free = 1 - equations.zero_mass
        p = equations.zero_mass + free / (1 + np.exp(-s))
        minus_m = free / (1 + np.exp(s))
        columns = []
    log_minus_h = np.log(p) - np.log(minus_m)
    log_minus_z = (1 - equations.measure_count) * log_minus_h
    for form, count in equations.closed:
        log_minus_z = log_minus_z + count * form.minus_log(np, p)
    for measure, column in zip(equations.measures, columns):
        log_minus_z = log_minus_z + measure.count * column
    order = np.argsort(log_minus_z)
    start = -np.exp(np.interp(log_x, log_minus_z[order], log_minus_h[order]))
    w = tuple(np.interp(log_x, log_minus_z[order], column[order]) + 1j * np.pi for column in columns)
    return start.astype(np.complex128), w
