"""All spectra of an analysis in one picture, with what chance explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.plot.style import BLUE, INK, RED, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lax_linalg.analysis import Analysis


def analysis(found: Analysis, *, of: str = "weight", title: str = "", ax: Axes | None = None) -> Axes:
    """A column of singular values for each layer, with a bar at the edge of random entries' spectra.

    Args:
        found: from `la.analyze`.
        of: "weight" or "jacobian".
        title, ax: of the picture; where it goes.

    Returns:
        The Matplotlib axes.

    Raises:
        LinearAlgebraError: if the analysis has no such layers.

    Example:
        >>> import numpy as np, lax_linalg as la
        >>> ax = la.plot.analysis(la.analyze({"head": np.diag([3.0, 2.0])}))
        >>> ax.get_ylabel()
        'singular values'
    """
    rows = [row for row in found.rows if row.get("of") == of and (row["layer"], of) in found.spectra]
    if not rows:
        raise LinearAlgebraError(f"the analysis has no spectrum of a {of}; what it has is of weights or jacobians")
    ax = axes(ax)
    for place, row in enumerate(rows):
        s = np.ravel(found.spectra[row["layer"], of])
        s = s[s > 0]
        ax.plot(place + np.linspace(-0.3, 0.3, s.size), np.sort(s), ".", color=BLUE, markersize=2.5, alpha=0.6)
        if row.get("edge") is not None:
            ax.plot([place - 0.4, place + 0.4], [row["edge"]] * 2, color=RED, linewidth=1.5)
    ax.set(yscale="log", ylabel="singular values")
    ax.set_xticks(range(len(rows)), [row["layer"] for row in rows], rotation=45, ha="right")
    ax.set_title(title, fontsize=11, color=INK)
    return ax
