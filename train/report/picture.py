"""One still picture of runs side by side: loss and conditioning, singular values by step, eigenvalues."""

from __future__ import annotations

import io
import pathlib
from typing import Any

import numpy as np

from lax_linalg.errors import LinearAlgebraError
from train.files import write_atomically
from train.report.load import Run, load_runs
from train.report.payload import LayerSeries, collect
from train.spectrum_summary import summarize

COLORS = ("#0072b2", "#d55e00", "#00835f", "#a8538a")  # as on the page
MOST_RUNS = len(COLORS)
MOST_CURVES = 48
INK, SOFT, GRID = "#17202b", "#556070", "#dfe3e9"


def write_picture(workdirs: list[str], out: str | pathlib.Path) -> pathlib.Path:
    """Draw the runs into one file, whose ending says the format: .png, .svg or .pdf.

    On the left loss and end-to-end condition number by step, for all runs; then for each run the end-to-end singular
    values by step, and the eigenvalues of the worst conditioned square layer at the last analysed step.

    Args:
        workdirs: directories that training wrote, one to four.
        out: the file to write.

    Returns:
        Its path.

    Raises:
        LinearAlgebraError: a workdir holds no run or no spectra, there are too many, or the ending is no format.
        OSError: the file cannot be written; an older one stays whole.

    Cost: one pass over the spectrum files.

    Example:
        >>> write_picture(["no/such/run"], "picture.png")
        Traceback (most recent call last):
        lax_linalg.errors.LinearAlgebraError: there is no run at no/such/run...
    """
    out = pathlib.Path(out)
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise LinearAlgebraError(f"{out}: a picture's name ends in .png, .svg or .pdf")
    runs = load_runs(workdirs)
    if len(runs) > MOST_RUNS:
        raise LinearAlgebraError(f"a picture shows at most {MOST_RUNS} runs side by side, got {len(runs)}")
    for run in runs:
        if not run.steps:
            raise LinearAlgebraError(f"{run.workdir} has no spectra to draw; train it with --spectrum_every=50")
    buffer = io.BytesIO()
    draw(runs).savefig(buffer, format=out.suffix[1:])
    write_atomically(out, _few_colors(buffer) if out.suffix == ".png" else buffer.getvalue())
    return out


def _few_colors(buffer: io.BytesIO) -> bytes:
    """A PNG with a palette of 256 colours: a third of the bytes, and no difference to the eye."""
    from PIL import Image

    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def draw(runs: list[Run]) -> Any:
    """The picture as a Matplotlib figure."""
    import matplotlib
    from matplotlib.figure import Figure

    series = [collect(run, run.steps) for run in runs]
    style: Any = {
        "font.size": 10, "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": SOFT,
        "ytick.color": SOFT, "axes.grid": True, "grid.color": GRID, "axes.axisbelow": True, "axes.spines.top": False,
        "axes.spines.right": False, "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "svg.hashsalt": "lax-linalg",
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4 + 3.1 * len(runs), 5.8), dpi=150, layout="constrained")
        axes = figure.subplots(2, 1 + len(runs), width_ratios=[1.2, *[1.0] * len(runs)])
        whole, square = telling_layers(series)
        last = [layers[square].eigenvalues for layers in series if square in layers]
        radius = 1.08 * max([1.0, *(float(np.abs(clouds[max(clouds)]).max()) for clouds in last if clouds)])
        _curves(axes[0, 0], runs)
        _conditioning(axes[1, 0], runs, series, whole)
        for column, (run, layers) in enumerate(zip(runs, series), start=1):
            _spectrum(axes[0, column], run, layers.get(whole), whole, COLORS[column - 1])
            _eigenvalues(axes[1, column], run, layers.get(square), square, COLORS[column - 1])
            axes[1, column].set(xlim=(-radius, radius), ylim=(-radius, radius))
        _same_limits(axes[0, 1:], "y")
        _same_limits(axes[:, 0], "x")
        for axis in (*axes[0], axes[1, 0]):
            axis.set_xlabel("step")
        return figure


def telling_layers(series: list[dict[str, LayerSeries]]) -> tuple[str, str]:
    """The layers to draw: the end-to-end one (or the last), and of the square ones the worst conditioned at the end."""
    names = list(dict.fromkeys(name for layers in series for name in layers))
    worst: dict[str, float] = {}
    for layers in series:
        for name, layer in layers.items():
            if layer.eigenvalues:
                cond = summarize(layer.singular_values[-1])["cond"]
                worst[name] = max(worst.get(name, 0.0), cond if np.isfinite(cond) else 0.0)
    whole = "end_to_end" if "end_to_end" in names else names[-1]
    return whole, max(worst, key=lambda name: worst[name]) if worst else whole


def _curves(axis: Any, runs: list[Run]) -> None:
    for run, color in zip(runs, COLORS):
        for kind, width, alpha in (("train", 0.8, 0.35), ("eval", 1.8, 1.0)):
            lines = [line for line in run.metrics.get(kind, []) if line.get("loss") is not None]
            label = f"{run.name}, {run.held_out}" if kind == "eval" else None
            x, y = [line["step"] for line in lines], [line["loss"] for line in lines]
            axis.plot(x, y, color=color, linewidth=width, alpha=alpha, label=label)
    axis.set_yscale("log")
    axis.set_title("loss (thin: training batches)")
    axis.legend(frameon=False, fontsize=9)


def _conditioning(axis: Any, runs: list[Run], series: list[dict[str, LayerSeries]], layer: str) -> None:
    for run, layers, color in zip(runs, series, COLORS):
        if layer in layers:
            cond = [summarize(values)["cond"] for values in layers[layer].singular_values]
            # A Jacobian that is singular up to rounding has no condition number to draw.
            known = [(step, value) for step, value in zip(layers[layer].steps, cond) if value < 1e6]
            axis.plot(
                *zip(*known) if known else ((), ()), color=color, linewidth=1.8, marker="o", ms=2.5, label=run.name
            )
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.set_title(f"condition number, {layer}")


def _spectrum(axis: Any, run: Run, layer: LayerSeries | None, name: str, color: str) -> None:
    import matplotlib

    axis.set_title(f"{run.name}: singular values, {name}", color=color)
    axis.set_yscale("log")
    if layer is None:
        return
    values = np.array([np.median(one, axis=0) for one in layer.singular_values])
    noise = values.max(1, keepdims=True) * values.shape[1] * np.finfo(np.float32).eps
    values = np.where(values > noise, values, np.nan)
    count = values.shape[1]
    shown = np.unique(np.linspace(0, count - 1, min(count, MOST_CURVES)).round().astype(int))
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(shown)))
    for index, shade in zip(shown, shades):
        axis.plot(layer.steps, values[:, index], color=shade, linewidth=1.1)
    axis.axhline(1.0, color=SOFT, linewidth=0.8, linestyle=":")


def _eigenvalues(axis: Any, run: Run, layer: LayerSeries | None, name: str, color: str) -> None:
    axis.set_aspect("equal")
    angle = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(angle), np.sin(angle), color=INK, linewidth=0.9, linestyle=":")
    axis.set_xlabel("Re λ")
    if layer is None or not layer.eigenvalues:
        axis.set_title(f"{run.name}: no eigenvalues", color=color, loc="center")
        return
    step = max(layer.eigenvalues)
    values = layer.eigenvalues[step].ravel()
    size = 4 if values.size > 200 else 10
    axis.scatter(np.real(values), np.imag(values), s=size, color=color, alpha=0.55, linewidths=0)
    axis.set_title(f"{run.name}: eigenvalues, {name}", color=color, loc="center")


def _same_limits(axes: Any, kind: str) -> None:
    limits = [getattr(axis, f"get_{kind}lim")() for axis in axes]
    for axis in axes:
        getattr(axis, f"set_{kind}lim")(min(low for low, _ in limits), max(high for _, high in limits))
