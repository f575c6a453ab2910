"""What the page draws of a layer's non-normality: pseudospectra with the numerical range, and the transient curve.

The analysis looks at J/c with c = max(1, ρ(J)); pseudospectra and numerical range are scaled back to J here, so that
they lie around the eigenvalues that the page shows, and the curve stays that of J/c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

PREFIX = "nonnormal_"
NUMBERS = 2_000
"""Floats that one layer and step takes: 40² values of σ_min, 64 boundary points, 65 powers."""


def taken(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The arrays that `train.nonnormality` made, without their prefix; None where there are none or they are NaN.

    Example:
        >>> taken({"singular_values": np.ones(3)}) is None
        True
    """
    found = {key.removeprefix(PREFIX): values for key, values in arrays.items() if key.startswith(PREFIX)}
    needed = {"scale", "kreiss", "transient", "pseudospectrum", "box", "numerical_range", "projected"}
    return found if needed <= set(found) and np.isfinite(found["pseudospectrum"]).all() else None


def thinned(steps: list[int], most: int) -> list[int]:
    """At most `most` of the steps, evenly spread, the last among them.

    Example:
        >>> thinned([0, 10, 20, 30, 40], 3)
        [0, 20, 40]
    """
    if len(steps) <= most:
        return steps
    if most < 2:
        return steps[-1:] * max(most, 0)
    return [steps[i] for i in np.linspace(0, len(steps) - 1, most).round().astype(int)]


def described(
    found: dict[int, dict[str, np.ndarray]], order: int, most: int, add: Callable[[Any], list[int]]
) -> dict[int, dict[str, Any]]:
    """The page's description of one layer at its analysed steps.

    Args:
        found: step -> what `taken` gave.
        order: n of the Jacobian.
        most: steps that may be kept.
        add: puts numbers into the page's block and returns where.

    Returns:
        step -> places of the numbers in the block, the box, and the bounds: JSON-able, None for what is not finite.

    Example:
        >>> described({}, 5, 10, lambda values: [0, 0])
        {}
    """
    return {step: _one(found[step], order, add) for step in thinned(sorted(found), most)}


def _one(found: dict[str, np.ndarray], order: int, add: Callable[[Any], list[int]]) -> dict[str, Any]:
    scale = float(found["scale"])
    boundary = np.append(found["numerical_range"], found["numerical_range"][:1]) * scale
    lower, upper = (float(x) for x in found["kreiss"])
    return {
        "sigma": add(found["pseudospectrum"] + math.log10(scale)),
        "box": [float(x) * scale for x in found["box"]],
        "range": add([boundary.real, boundary.imag]),
        "transient": add(found["transient"]),
        "scale": scale,
        "lower": lower if math.isfinite(lower) else None,
        "upper": math.e * order * upper if math.isfinite(upper) else None,
        "projected": bool(found["projected"]),
    }
