"""The intervals that carry the continuous part of an implicit law, each with a table of the solution."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from lax_linalg.random_matrix.implicit_solver import Equations, density, solve

COARSE = 300  # points that look for the bands
FINE, FINEST = 257, 2056  # nodes in each band: as many as give the mean to MEAN, which is known exactly
MEAN = 1e-10
LOWEST = -690.0  # log of the smallest float64
SILENT = 1e-10  # density per unit of log x that counts as zero
APART = 1e-6  # distance in log x that is kept from point masses


@dataclasses.dataclass(frozen=True)
class Band:
    """One interval (low, high) of the support in log x; h, w and cdf at the midpoints of equal angles.

    log x = low + (high − low) sin²(angle/2): edges are square-root singularities, which the angle makes smooth.
    `before` is the distribution function at the left end, `truncated` says that the band in truth reaches to zero.
    """

    low: float
    high: float
    h: np.ndarray
    w: tuple[np.ndarray, ...]
    cdf: np.ndarray
    before: float
    mass: float
    truncated: bool

    @property
    def angles(self) -> np.ndarray:
        return np.pi * (np.arange(len(self.h)) + 0.5) / len(self.h)

    def log_x(self, angle):
        """log x at an angle in [0, π]; NumPy and JAX arrays."""
        xp = np if isinstance(angle, np.ndarray) else jnp
        return self.low + (self.high - self.low) * xp.sin(angle / 2) ** 2

    def quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """x and mass at the nodes; of a truncated band the mass below, which is a node at its end."""
        weights = density(self.h) * 0.5 * (self.high - self.low) * np.sin(self.angles) * np.pi / len(self.h)
        nodes = np.exp(self.log_x(self.angles))
        if not self.truncated:
            return nodes, weights
        rest = max(self.mass - float(np.sum(weights)), 0.0)
        return np.append(nodes, math.exp(self.low)), np.append(weights, rest)


def find_bands(
    equations: Equations,
    bottom: float,
    top: float,
    middle: float,
    width: float,
    atoms: list[tuple[float, float]],
) -> tuple[Band, ...]:
    """The bands between the bounds `bottom` and `top` (log x), looked for on the scale `width` around `middle`.

    `atoms` are (log position, mass) of the point masses away from zero, where the solution has poles.
    """
    truncated = math.isinf(bottom)
    if not truncated:
        bottom = equations.edge(above=False) or bottom
    top = equations.edge(above=True) or top
    # Point masses at the outer ends are poles of the solution, not bands.
    inside = APART if any(abs(position - top) < APART for position, _ in atoms) else 1e-14
    ends = max(bottom, LOWEST), top - inside
    scale = 0.05 * width
    first_angle, last_angle = (math.asinh((end - middle) / scale) for end in ends)
    grid = middle + scale * np.sinh(np.linspace(first_angle, last_angle, COARSE))
    first, last = _runs(_hear(equations, grid[1:-1], atoms))
    if len(first) == 0:
        return ()
    starts = _refine(equations, grid[first], grid[first + 1], atoms)
    stops = _refine(equations, grid[last + 2], grid[last + 1], atoms)
    # The outer edges are known exactly.
    starts = np.where((first == 0) & (not truncated), bottom, starts)
    stops = np.where((last == COARSE - 3) & (inside < APART), top, stops)
    # The midpoint rule in the angle is spectrally accurate between square-root edges, but an edge next to a point mass
    # makes it wait for nodes that resolve their distance.
    count, continuous = FINE, math.exp(middle) - sum(mass * math.exp(position) for position, mass in atoms)
    while True:
        angles = np.pi * (np.arange(count) + 0.5) / count
        logs = [low + (high - low) * np.sin(angles / 2) ** 2 for low, high in zip(starts, stops)]
        solutions = [solve(equations, log_x) for log_x in logs]
        weights = [
            density(h) * np.sin(angles) * 0.5 * np.pi * (high - low) / count
            for (h, _), low, high in zip(solutions, starts, stops)
        ]
        first = sum(float(np.sum(weight * np.exp(log_x))) for weight, log_x in zip(weights, logs))
        if abs(first - continuous) <= MEAN * math.exp(middle) or 2 * count > FINEST:
            break
        count *= 2
    masses = [float(np.sum(weight)) for weight in weights]
    # A band that is cut off on its way to zero, or is alone, takes what the others leave.
    if truncated or len(masses) == 1:
        masses[0] = 1 - equations.zero_mass - sum(mass for _, mass in atoms) - sum(masses[1:])
    bands: list[Band] = []
    for (h, w), low, high, mass in zip(solutions, starts.tolist(), stops.tolist(), masses):
        before = equations.zero_mass + sum(m for position, m in atoms if position < low) + sum(b.mass for b in bands)
        cdf = np.maximum.accumulate(np.clip(1 - equations.tail(np, h, w), before, before + mass))
        bands.append(Band(low, high, h, w, cdf, before, mass, truncated and not bands))
    return tuple(bands)


def _hear(equations: Equations, log_x: np.ndarray, atoms: list[tuple[float, float]]) -> np.ndarray:
    """Whether there is density, away from point masses."""
    loud = density(solve(equations, log_x)[0]) > SILENT
    for position, _ in atoms:
        loud &= abs(log_x - position) > APART
    return loud


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last indices of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return edges[::2], edges[1::2] - 1


def _refine(equations: Equations, silent: np.ndarray, loud: np.ndarray, atoms: list[tuple[float, float]]) -> np.ndarray:
    """Where the density vanishes between a silent and a loud point each: 16-section, every edge at once."""
    share = np.linspace(0.0, 1.0, 17)[1:-1]
    rows = np.arange(len(silent))
    for _ in range(11):
        points = silent[:, None] + (loud - silent)[:, None] * share
        hears = _hear(equations, points.ravel(), atoms).reshape(points.shape)
        first = np.argmax(np.column_stack([hears, np.ones(len(silent), bool)]), axis=1)
        padded = np.column_stack([silent, points, loud])
        silent, loud = padded[rows, first], padded[rows, first + 1]
    return loud
