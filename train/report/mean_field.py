"""What the page draws of mean field: the phases of the runs' activations, and where the hidden layers lie in them.

A layer's place is (σ_w², σ_b²) as `models.mean_field` measures it on the weights of a checkpoint; a run's own is the
mean over its hidden layers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

GRID = 36
"""Points along each axis of the diagram."""

LINE = 800
MOST_LAYERS = 64
"""Layers of a run that are drawn one by one, evenly spread over the depth."""


class Places(NamedTuple):
    """A run's activation, and at each analysed step (σ_w², σ_b²) of its hidden layers [L, 2]."""

    activation: str
    steps: dict[int, np.ndarray]


def places(layers: Mapping[str, Mapping[int, tuple[str, np.ndarray]]]) -> Places | None:
    """Put the layers of a run together.

    Args:
        layers: name -> step -> (activation, variances [L, 2]), as the analysis wrote them.

    Returns:
        The run's `Places`, without steps at which a number is not finite; None when there is nothing to draw.

    Example:
        >>> found = places({"layers/1": {0: ("tanh", np.array([[1.0, 0.0]]))}, "head": {}})
        >>> found.activation, found.steps[0].tolist()
        ('tanh', [[1.0, 0.0]])
    """
    steps: dict[int, list[np.ndarray]] = {}
    names = set()
    for found in layers.values():
        for step, (name, variances) in found.items():
            names.add(name)
            steps.setdefault(step, []).append(np.asarray(variances, np.float64))
    whole = {step: np.concatenate(parts) for step, parts in sorted(steps.items())}
    whole = {step: values for step, values in whole.items() if np.isfinite(values).all()}
    return Places(names.pop(), whole) if whole and len(names) == 1 else None


def described(place: Places | None, add: Callable[[Any], list[int]]) -> dict[str, Any] | None:
    """The page's description of one run: for each step its own point, then those of its layers.

    Example:
        >>> described(Places("tanh", {0: np.array([[1.0, 0.0], [2.0, 0.5]])}), lambda values: np.ravel(values).tolist())
        {'activation': 'tanh', 'layers': 2, 'steps': {0: [1.5, 1.0, 2.0, 0.25, 0.0, 0.5]}}
    """
    if place is None:
        return None
    count = len(next(iter(place.steps.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_LAYERS)).round().astype(int))
    points = {step: add(np.vstack([v.mean(0), v[chosen]]).T) for step, v in place.steps.items()}
    return {"activation": place.activation, "layers": count, "steps": points}


def diagram(found: list[Places], add: Callable[[Any], list[int]]) -> dict[str, Any] | None:
    """The diagram that all the runs' points lie on, through all their steps.

    Args:
        found: of the runs that have any.
        add: puts numbers into the page's block and returns where.

    Returns:
        The ranges "x" of σ_w² and "y" of σ_b², and by activation the critical "line" (σ_w² then σ_b²) and log₁₀ "chi"
        on a grid of the ranges, rows of equal σ_b², NaN where lengths grow without bound; None without runs, or for
        activations that are not registered.

    Cost: a few seconds an activation, most of them compilation.

    Example:
        >>> diagram([], lambda values: [0, 0])
    """
    from models.mean_field import as_activation

    known = {place.activation: as_activation(place.activation) for place in found}
    found = [place for place in found if known[place.activation] is not None]
    if not found:
        return None
    points = np.concatenate([values for place in found for values in place.steps.values()])
    x, y = ranges(points)
    phases = {}
    for name in dict.fromkeys(place.activation for place in found):
        chi, line = phases_of(name, x, y)
        phases[name] = {"line": add(line), "chi": add(chi)}
    return {"x": x, "y": y, "side": GRID, "phases": phases}


def ranges(points: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Axes that hold all the points [k, 2] with a margin: σ_w² to both sides, σ_b² from zero.

    Example:
        >>> ranges(np.array([[1.0, 0.0], [2.0, 0.1]]))
        ((0.5, 2.5), (0.0, 0.14))
    """
    (left, _), (right, top) = points.min(0).tolist(), points.max(0).tolist()
    margin = max(0.5 * (right - left), 0.1 * right, 1e-3)
    high = 1.4 * top if top > 0 else 0.05
    return (round(max(left - margin, 0.0), 12), round(right + margin, 12)), (0.0, round(high, 12))


@functools.cache
def phases_of(name: str, x: tuple[float, float], y: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """log₁₀ χ₁ on the grid [GRID, GRID], rows of equal σ_b², and the critical line [2, k], NaN where it is outside.

    Example:
        >>> chi, line = phases_of("tanh", (0.5, 2.5), (0.0, 0.2))
        >>> bool(chi[0, 0] < 0 < chi[0, -1]), round(float(np.interp(2.0, *line)), 3)
        (True, 0.104)
    """
    import jax

    from lax_linalg.random_matrix import critical_line, phase_diagram
    from lax_linalg.random_matrix.numerics import double_precision
    from models.mean_field import as_activation

    activation = as_activation(name)
    weights, biases = np.linspace(*x, GRID), np.linspace(*y, GRID)
    weights[0] = max(weights[0], 1e-6 * x[1])
    biases[0] = 1e-6 * y[1]  # without any bias the length of an ordered network is exactly 0
    lengths = np.geomspace(1e-8, 1e4, LINE)
    with np.errstate(invalid="ignore", divide="ignore"), double_precision():
        chi = np.log10(np.asarray(phase_diagram(activation, weights, biases))).T
        line = np.array(jax.vmap(functools.partial(critical_line, activation))(lengths))
    line[1] = np.where(np.abs(line[1]) < 1e-12 * lengths, 0.0, line[1])
    fine = np.linspace(0, LINE - 1, 5 * LINE)  # so that it ends near the axes' ends
    line = np.stack([np.interp(fine, np.arange(LINE), values) for values in line])
    inside = (line[0] >= x[0]) & (line[0] <= x[1]) & (line[1] >= 0) & (line[1] <= y[1])
    if not inside.any():
        return chi, np.empty((2, 0))
    if np.ptp(line, axis=1).max() < 1e-9:  # every length is critical at one point, as He's for ReLU
        return chi, line[:, :1]
    first, last = np.flatnonzero(inside)[[0, -1]]
    return chi, np.where(inside, line, np.nan)[:, first : last + 1]
