"""The phase diagram of mean field with networks on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.plot.style import INK, axes, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def phase_diagram(
    activation: Any,
    networks: Mapping[str, tuple[float, float]] | None = None,
    *,
    weight_variance: tuple[float, float] = (0.5, 3.0),
    bias_variance: tuple[float, float] = (0.0, 0.6),
    points: int = 48,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """The mean-field phases of an activation, with the critical line and the places of networks.

    Colour is log₁₀ χ₁, how fast gradients grow (χ₁ > 1, chaotic) or vanish (χ₁ < 1, ordered) from layer to layer.

    Args:
        activation: a name such as "tanh", a function or an `Activation`.
        networks: name -> (σ_w², σ_b²).
        weight_variance, bias_variance: the ranges of the axes.
        points: grid points along each axis.
        title, ax: of the picture; where it goes.

    Returns:
        The Matplotlib axes.

    Raises:
        LinearAlgebraError: for an empty range, or an activation that mean field does not know.

    Cost: as `lax_linalg.random_matrix.phase_diagram`, points² fixed points.

    Example:
        >>> import lax_linalg as la
        >>> ax = la.plot.phase_diagram("tanh", {"mine": (1.5, 0.05)}, points=4)
        >>> [t.get_text() for t in ax.texts]
        ['ordered', 'chaotic', 'mine']
    """
    from lax_linalg.random_matrix import as_activation, phase_diagram as chi_on_grid

    ax = axes(ax)
    from matplotlib.patheffects import withStroke

    for name, (low, high) in {"weight_variance": weight_variance, "bias_variance": bias_variance}.items():
        if not 0 <= low < high:
            raise LinearAlgebraError(f"{name} is a range (low, high) with 0 ≤ low < high, got ({low}, {high})")
    w = np.linspace(*weight_variance, points)
    b = np.linspace(*bias_variance, points)
    b[0] = max(b[0], 1e-6 * b[-1])  # without any bias the length of an ordered network is exactly 0
    chi = np.asarray(chi_on_grid(activation, w, b)).T
    log = np.log10(np.maximum(chi, 1e-12))
    reach = max(float(np.nanpercentile(np.abs(log), 98)), 0.05)
    mesh = ax.pcolormesh(w, b, log, cmap="RdBu_r", vmin=-reach, vmax=reach, shading="gouraud", rasterized=True)
    if np.nanmin(log) < 0 < np.nanmax(log):
        ax.contour(w, b, log, [0.0], colors=INK, linewidths=1.6)
        ax.plot([], [], color=INK, linewidth=1.6, label=r"critical line, $\chi_1 = 1$")
    for word, inside in (("ordered", log < -0.02), ("chaotic", log > 0.02)):
        if inside.any():
            k, j = (np.median(i) for i in np.nonzero(inside))
            where = np.interp(j, np.arange(points), w), np.interp(k, np.arange(points), b)
            ax.text(*where, word, ha="center", va="center", fontsize=11, color=INK, style="italic")
    halo = [withStroke(linewidth=2.5, foreground="white")]  # readable across the line
    for number, (name, (x, y)) in enumerate((networks or {}).items()):
        ax.plot([x], [y], "osD^v"[number % 5], color=INK, mec="white", markersize=9, zorder=4, clip_on=False)
        ax.annotate(
            name, (x, y), (8, 5), textcoords="offset points", fontsize=9, color=INK, zorder=5, path_effects=halo
        )
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02, shrink=0.9)
    bar.set_label(r"$\log_{10}\chi_1$", fontsize=9)
    bar.outline.set_visible(False)
    ax.set(xlim=weight_variance, ylim=bias_variance, xlabel=r"$\sigma_w^2$", ylabel=r"$\sigma_b^2$")
    legend(ax)
    ax.set_title(title or f"mean field of {as_activation(activation)}", fontsize=11, color=INK)
    return ax
