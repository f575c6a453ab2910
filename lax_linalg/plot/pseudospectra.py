"""Contours of pseudospectra with eigenvalues and numerical range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.plot.style import GREEN, INK, RED, axes, legend, one_at_a_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lax_linalg.nonnormal import NumericalRange, Pseudospectrum

# As many contours as the eye tells apart.
_MOST_LEVELS = 9


def pseudospectrum(
    P: Pseudospectrum,
    *,
    levels: Sequence[float] | None = None,
    numerical_range: NumericalRange | None = None,
    unit_circle: bool = False,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Contours of ε-pseudospectra with the eigenvalues, and the numerical range around them.

    Args:
        P: what `la.pseudospectrum` returned for one matrix.
        levels: the values of ε; powers of ten (or roots of ten, in a narrow range) by default.
        numerical_range: what `la.numerical_range` returned, drawn as a dashed boundary.
        unit_circle: draw |z| = 1, the edge of stability of powers.
        title, ax: of the picture; where it goes.

    Returns:
        The Matplotlib axes.

    Raises:
        DimensionMismatch: for a batch; choose one of it.
        LinearAlgebraError: for levels that are not positive, or without Matplotlib.

    Example:
        >>> import lax_linalg as la
        >>> P = la.pseudospectrum([[0.0, 1.0], [0.0, 0.0]], grid=9)
        >>> ax = la.plot.pseudospectrum(P, levels=[0.1, 0.5])
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('Re z', 'Im z')
    """
    if np.ndim(P.sigma_min) != 2:
        raise one_at_a_time(P.sigma_min, 2, "P")
    log = P.log10_sigma_min
    powers = _powers(log) if levels is None else np.log10(_positive(levels))
    ax = axes(ax, (6.4, 5.0))
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap

    shades = ListedColormap(colormaps["Blues_r"](np.linspace(0.12, 0.88, max(len(powers), 2)))[: len(powers)])
    # one shade a level: the set Λ_ε of the smallest ε is darkest, and outside of the largest one the paper is white
    bottom = min(float(log.min()), powers[0]) - 1
    edges = np.concatenate([[bottom], powers])
    filled = ax.contourf(P.x, P.y, log, edges, cmap=shades, norm=BoundaryNorm(edges, len(powers)))
    ax.contour(P.x, P.y, log, powers, colors=INK, linewidths=0.5, linestyles="solid")
    if numerical_range is not None:
        w = np.append(numerical_range.points, numerical_range.points[..., :1])
        ax.plot(np.real(w), np.imag(w), color=RED, linewidth=1.4, linestyle=(0, (5, 2)), label="numerical range")
    if unit_circle:
        turn = np.linspace(0, 2 * np.pi, 361)
        ax.plot(np.cos(turn), np.sin(turn), color=GREEN, linewidth=1.6, linestyle=":", label="|z| = 1")
    name = "Ritz values" if P.inner else "eigenvalues"
    ax.plot(np.real(P.eigenvalues), np.imag(P.eigenvalues), ".", color=INK, markersize=5, label=name)
    ax.set(xlim=(P.x[0], P.x[-1]), ylim=(P.y[0], P.y[-1]), xlabel="Re z", ylabel="Im z", aspect="equal")
    bar = ax.figure.colorbar(filled, ax=ax, ticks=powers, shrink=0.9, pad=0.02, spacing="uniform")
    bar.ax.set_yticklabels([_power_of_ten(p) for p in powers], fontsize=9)
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label("ε, from inside (Arnoldi projection)" if P.inner else "ε", fontsize=9)
    legend(ax, below=True)
    ax.set_title(title, fontsize=11, color=INK)
    return ax


def _positive(levels: Sequence[float]) -> np.ndarray:
    chosen = np.unique(np.asarray(levels, float))
    if chosen.size == 0 or not (np.isfinite(chosen).all() and chosen[0] > 0):
        raise LinearAlgebraError(f"levels are values of ε > 0, got {list(levels)}")
    return chosen


def _powers(log: np.ndarray) -> np.ndarray:
    """Exponents of the default levels: whole ones, every second … or fractions, so that there are at most 9 of them."""
    # the largest level still closes within the picture: the least value on its frame
    frame = np.concatenate([log[0], log[-1], log[:, 0], log[:, -1]])
    top, bottom = float(frame.min()), float(log.min())
    if top - bottom < 1e-6:
        top = float(log.max())
    for step in (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0):
        last = math.floor(top / step) * step
        first = math.ceil(max(bottom, last - 16.0) / step) * step
        count = round((last - first) / step) + 1
        if count <= _MOST_LEVELS:
            return np.linspace(first, last, max(count, 1)) if count >= 1 else np.array([top])
    return np.array([top])


def _power_of_ten(exponent: float) -> str:
    if abs(exponent - round(exponent)) < 1e-9:
        return rf"$10^{{{round(exponent)}}}$"
    return f"{10**exponent:.3g}"
