"""The look that all pictures share: axes without a window, ink and accents, short numbers, quiet legends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, GRID = "#17202b", "#556070", "#e6e9ee"
BLUE, RED, GREEN = "#0072b2", "#d55e00", "#00835f"


def axes(ax: Axes | None = None, size: tuple[float, float] = (6.4, 4.4)) -> Axes:
    """`ax` itself, or the axes of a new figure, in the house style; no window is opened and no global state touched.

    Raises:
        LinearAlgebraError: when Matplotlib is not installed.

    Example:
        >>> axes().figure.get_size_inches().tolist()
        [6.4, 4.4]
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise LinearAlgebraError("pictures need Matplotlib: pip install 'lax-linalg[full]'") from None
    if ax is None:
        ax = Figure(figsize=size, layout="constrained").add_subplot()
    ax.tick_params(colors=SOFT, labelcolor=INK, labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(SOFT)
    ax.set_axisbelow(True)
    return ax


def number(value: float) -> str:
    """Three digits, in powers of ten where they are shorter.

    Example:
        >>> number(4.0623), number(123456.0)
        ('4.06', '1.23e+05')
    """
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def label_at(ax: Axes, x: float, y: float, text: str, color: str) -> None:
    """A word on a horizontal line, above its right end."""
    ax.annotate(text, (x, y), (-4, 3), textcoords="offset points", ha="right", fontsize=9, color=color)


def legend(ax: Axes, below: bool = False) -> None:
    """A legend of what has a label, inside where there is room or below the axes; none when nothing has."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    place: dict[str, Any] = {"loc": "best", "facecolor": "white", "framealpha": 0.8, "edgecolor": "none"}
    if below:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": len(handles), "frameon": False}
    ax.legend(handles, labels, fontsize=9, **place)


def one_at_a_time(values: Any, ndim: int, name: str) -> DimensionMismatch:
    """The error for a result over a batch.

    Example:
        >>> str(one_at_a_time(np.ones((3, 5)), 1, "growth"))
        'one picture shows one matrix, this is a batch [3]: draw jax.tree.map(lambda x: x[i], growth)'
    """
    batch = list(np.shape(values)[:-ndim])
    return DimensionMismatch(
        f"one picture shows one matrix, this is a batch {batch}: draw jax.tree.map(lambda x: x[i], {name})"
    )
