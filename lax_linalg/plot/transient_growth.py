"""Transient growth under the bounds of its Kreiss constant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lax_linalg.plot.style import BLUE, GREEN, GRID, INK, RED, SOFT, axes, label_at, legend, number, one_at_a_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lax_linalg.nonnormal import KreissConstant, TransientGrowth

_KREISS = r"$\mathcal{K}$"


def transient_growth(
    growth: TransientGrowth,
    *,
    kreiss: KreissConstant | None = None,
    order: int | None = None,
    decay: float | None = None,
    continuous: bool = False,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """The curve ‖Aᵏ‖ (or ‖e^{tA}‖) with its maximum, between the bounds that its Kreiss constant puts on it.

    Args:
        growth: what `la.transient_growth` returned for one matrix.
        kreiss: what `la.kreiss_constant` returned: 𝒦 ≤ sup ‖Aᵏ‖ ≤ e n 𝒦.
        order: n, for the upper of these bounds; without it only the lower one is drawn.
        decay: the spectral radius (the spectral abscissa if `continuous`), for the asymptotic rate beside the curve.
        continuous: the curve is ‖e^{tA}‖.
        title, ax: of the picture; where it goes.

    Returns:
        The Matplotlib axes.

    Raises:
        DimensionMismatch: for a batch; choose one of it.

    Example:
        >>> import lax_linalg as la
        >>> A = [[0.5, 4.0], [0.0, 0.5]]
        >>> ax = la.plot.transient_growth(la.transient_growth(A), kreiss=la.kreiss_constant(A), order=2)
        >>> ax.texts[-1].get_text()
        'max 4.06 at k = 1'
    """
    if np.ndim(growth.norms) != 1:
        raise one_at_a_time(growth.norms, 1, "growth")
    ax = axes(ax)
    time, curve = ("t", r"$\|e^{tA}\|$") if continuous else ("k", r"$\|A^k\|$")
    positive = growth.norms > 0
    ax.plot(
        growth.times[positive],
        growth.norms[positive],
        color=BLUE,
        linewidth=1.8,
        marker="" if continuous or len(growth.norms) > 80 else ".",
        label=curve,
        zorder=3,
    )
    low = float(growth.norms[positive].min())
    if decay is not None:
        rate = np.exp(decay * growth.times) if continuous else decay**growth.times
        name = r"$e^{\alpha t}$, spectral abscissa" if continuous else r"$\rho^k$, spectral radius"
        ax.plot(growth.times, rate, color=SOFT, linewidth=1.2, linestyle=":", label=name)
    right, ceiling = growth.times[-1], math.inf
    if kreiss is not None:
        ax.axhline(kreiss.lower, color=GREEN, linewidth=1.2, linestyle="--")
        label_at(ax, right, kreiss.lower, f"{_KREISS} ≥ {number(kreiss.lower)}", GREEN)
        ceiling = math.e * order * kreiss.upper if order else math.inf
        if math.isfinite(ceiling):
            ax.axhline(ceiling, color=RED, linewidth=1.2, linestyle="--")
            ax.axhspan(kreiss.lower, ceiling, color=GREEN, alpha=0.06, linewidth=0)
            label_at(ax, right, ceiling, f"e n {_KREISS} ≤ {number(ceiling)}", RED)
    ax.plot([growth.argmax], [growth.maximum], "o", color=BLUE, markersize=6, zorder=4)
    at = f"{growth.argmax:.3g}" if continuous else f"{int(growth.argmax)}"
    ax.annotate(
        f"max {number(growth.maximum)} at {time} = {at}",
        (growth.argmax, growth.maximum),
        (8, 6),
        textcoords="offset points",
        fontsize=9,
        color=INK,
    )
    ax.set_yscale("log")
    ax.set(xlabel="time t" if continuous else "power k", ylabel=curve, xlim=(0, right * 1.001 or 1))
    top = max(growth.maximum, ceiling if math.isfinite(ceiling) else growth.maximum)
    ax.set_ylim(low / 8, top * 5)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    legend(ax)
    ax.set_title(title, fontsize=11, color=INK)
    return ax
