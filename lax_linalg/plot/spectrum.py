"""The histogram of a spectrum with the law over it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.plot.style import BLUE, INK, RED, axes, legend, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lax_linalg.random_matrix import Law


def spectrum(
    values: Any,
    law: Law | None = None,
    *,
    bins: int | None = None,
    label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Histogram of a real spectrum with the law's density over it.

    Args:
        values: eigenvalues or (squared) singular values, as the law means them; any shape.
        law: from `lax_linalg.random_matrix`; its point masses are drawn as stems of that share.
        bins: of the histogram; 2√(number of values), from 12 to 80, unless given.
        label: what the values are.
        title, ax: of the picture; where it goes.

    Returns:
        The Matplotlib axes.

    Raises:
        LinearAlgebraError: without values, or when one is complex or not finite.

    Example:
        >>> import numpy as np, lax_linalg as la
        >>> from lax_linalg.random_matrix import Semicircle
        >>> ax = la.plot.spectrum(np.linspace(-1.9, 1.9, 50), Semicircle())
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('eigenvalues', 'density')
    """
    x = np.asarray(values).ravel()
    if np.iscomplexobj(x):
        raise LinearAlgebraError("a histogram is of real numbers; draw the moduli of complex eigenvalues")
    if x.size == 0 or not np.isfinite(x).all():
        raise LinearAlgebraError(f"a histogram needs finite values, got {x.size}, {np.isfinite(x).sum()} finite")
    x = x.astype(float)
    ax = axes(ax)
    bins = bins or int(np.clip(2 * np.sqrt(x.size), 12, 80))
    heights, *_ = ax.hist(
        x, bins, density=True, color=BLUE, alpha=0.35, edgecolor=BLUE, linewidth=0.4, label=label or f"{x.size} values"
    )
    tallest = float(np.max(heights))
    if law is not None:
        low, high = law.support
        finite_high = high if math.isfinite(high) else float(x.max())
        finite_low = low if math.isfinite(low) else float(x.min())
        # points crowd at both ends, where densities have square roots or poles
        grid = finite_low + (finite_high - finite_low) * np.sin(np.linspace(0.004, np.pi / 2 - 0.004, 400)) ** 2
        density = np.asarray(law.pdf(grid))
        ax.plot(grid, density, color=RED, linewidth=1.8, label=_law_name(law))
        for position, mass in law.atoms:
            ax.plot([position, position], [0, mass * tallest], color=RED, linewidth=3, solid_capstyle="butt")
            ax.annotate(
                f"mass {mass:.2g}",
                (position, mass * tallest),
                (4, 2),
                textcoords="offset points",
                fontsize=9,
                color=RED,
            )
        if math.isfinite(high):
            ax.axvline(high, color=RED, linewidth=1, linestyle=":")
            ax.annotate(
                f"edge {number(high)}",
                (high, 0.97),
                (-4, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=9,
                color=RED,
            )
        interior = np.sort(density[np.isfinite(density)])
        tallest = max(tallest, min(float(interior[-20]), 2 * tallest))
    ax.set(ylim=(0, 1.12 * tallest), xlabel=law.quantity if law is not None else label or "value", ylabel="density")
    legend(ax)
    ax.set_title(title, fontsize=11, color=INK)
    return ax


def _law_name(law: Law) -> str:
    """The law's usual name: the class's words, joined by a dash where they are two persons."""
    name = type(getattr(law, "squared", law)).__name__  # the law of √X goes by the name of X's
    words = "".join(f" {c}" if c.isupper() and i else c for i, c in enumerate(name)).split()
    people = {"Marchenko", "Pastur", "Fuss", "Catalan", "Tracy", "Widom"}
    return f"{'–'.join(words)} law" if people.issuperset(words) else " ".join([words[0], *map(str.lower, words[1:])])
