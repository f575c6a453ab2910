"""Copying 10 symbols over a delay: an orthogonal network learns it, a Gaussian tanh network does not.

python -m scripts.train --flagfile=scripts/presets/copying_200.flags --workdir=runs/copying_200
python -m scripts.train --flagfile=scripts/presets/copying_200_gaussian.flags --workdir=runs/copying_200_gaussian
python -m docs.gallery.copying runs/copying_200 runs/copying_200_gaussian

keeps the curves of those runs in docs/gallery/copying.csv and draws docs/gallery/copying.png; without arguments it
draws the kept curves. The broken line is 10 log 8/(T + 20), the loss of the best guess without memory.
"""

from __future__ import annotations

import csv
import json
import pathlib
import sys
from collections.abc import Sequence

from matplotlib.figure import Figure

from train.tasks import tasks

CURVES = pathlib.Path(__file__).with_suffix(".csv")
PICTURE = pathlib.Path(__file__).with_suffix(".png")
COLOURS = ("#0072b2", "#d55e00", "#00835f", "#cc79a7")


def keep(workdirs: Sequence[pathlib.Path], out: pathlib.Path = CURVES) -> None:
    """Write the training losses of runs as rows (run, task, step, loss, accuracy)."""
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "task", "step", "loss", "accuracy"])
        for workdir in workdirs:
            task = json.loads((workdir / "config.json").read_text())["task"]
            for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
                if line["kind"] == "train":
                    writer.writerow(
                        [workdir.name, task, line["step"], f"{line['loss']:.4g}", f"{line['accuracy']:.4g}"]
                    )


def draw(curves: pathlib.Path = CURVES, out: pathlib.Path = PICTURE) -> None:
    """The losses on a logarithmic axis, each under the baseline of its task."""
    runs: dict[tuple[str, str], list[tuple[int, float]]] = {}
    with curves.open(newline="") as file:
        for row in csv.DictReader(file):
            runs.setdefault((row["run"], row["task"]), []).append((int(row["step"]), float(row["loss"])))
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    ax = figure.subplots()
    for ((run, _), curve), colour in zip(runs.items(), COLOURS):
        ax.semilogy(*zip(*curve), label=run.replace("_", " "), color=colour, linewidth=1.6)
    for task in {task for _, task in runs}:
        baseline = tasks[task].baseline
        assert baseline is not None
        ax.axhline(baseline, color="#555555", linestyle="--", linewidth=1)
        ax.annotate(f"without memory {baseline:.4f}", (1, baseline), xycoords=("axes fraction", "data"), ha="right",
                    xytext=(0, 4), textcoords="offset points", fontsize=9, color="#555555")  # fmt: skip
    ax.set(xlabel="step", ylabel="training loss (cross-entropy a position)", xlim=(0, None))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    if sys.argv[1:]:
        keep([pathlib.Path(name) for name in sys.argv[1:]])
    draw()
