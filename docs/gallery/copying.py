"""Copying 10 symbols over a delay of T steps: orthogonal networks learn it, a Gaussian tanh network does not.

for run in copying_200 copying_200_gaussian copying_1000 copying_2000; do
  python -m scripts.train --flagfile=scripts/presets/$run.flags --workdir=runs/$run
done
python -m docs.gallery.copying runs/copying_*

keeps the curves of those runs in docs/gallery/copying.csv, beside the others there, and draws docs/gallery/copying.png;
without arguments it draws the kept curves. Losses are over 10 log 8/(T + 20), that of the best guess without memory.
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


COLUMNS = ("run", "task", "step", "loss", "accuracy")


def keep(workdirs: Sequence[pathlib.Path], out: pathlib.Path = CURVES) -> None:
    """Write the training losses of runs as rows (run, task, step, loss, accuracy) instead of their earlier ones."""
    kept = []
    if out.exists():
        with out.open(newline="") as file:
            kept = list(csv.DictReader(file))
    for workdir in workdirs:
        task = json.loads((workdir / "config.json").read_text())["task"]
        kept = [row for row in kept if row["run"] != workdir.name]
        for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
            if line["kind"] == "train":
                numbers = (f"{line['loss']:.4g}", f"{line['accuracy']:.4g}")
                kept.append(dict(zip(COLUMNS, (workdir.name, task, line["step"], *numbers))))
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)


def draw(curves: pathlib.Path = CURVES, out: pathlib.Path = PICTURE) -> None:
    """The losses over the baseline of their task, on a logarithmic axis."""
    runs: dict[str, list[tuple[int, float]]] = {}
    with curves.open(newline="") as file:
        for row in csv.DictReader(file):
            baseline = tasks[row["task"]].baseline
            assert baseline is not None
            runs.setdefault(row["run"], []).append((int(row["step"]), float(row["loss"]) / baseline))
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    ax = figure.subplots()
    for (run, curve), colour in zip(runs.items(), COLOURS):
        _, delay, *kind = run.split("_")
        label = f"T = {int(delay):,}, {kind[0].capitalize() if kind else 'orthogonal'}"
        ax.semilogy(*zip(*curve), label=label, color=colour, linewidth=1.6)
    ax.axhline(1, color="#555555", linestyle="--", linewidth=1)
    ax.annotate("without memory", (1, 1), xycoords=("axes fraction", "data"), ha="right", xytext=(0, 4),
                textcoords="offset points", fontsize=9, color="#555555")  # fmt: skip
    ax.set(xlabel="step", ylabel="training loss over the best without memory", xlim=(0, None))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    if sys.argv[1:]:
        keep([pathlib.Path(name) for name in sys.argv[1:]])
    draw()
