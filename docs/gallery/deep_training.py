"""Plain tanh networks of 1,000 and 10,000 convolutions learn digits.

python -m scripts.train --flagfile=scripts/presets/deep_conv_1000.flags --workdir=runs/deep_1000
python -m scripts.train --flagfile=scripts/presets/deep_conv_10000.flags --workdir=runs/deep_10000
python -m docs.gallery.deep_training runs/deep_1000 runs/deep_10000

keeps the curves of those runs in docs/gallery/deep_training.csv and draws docs/gallery/deep_training.png; without
arguments it draws the kept curves. Left, the loss of every training batch and of the held-out examples (marked); right,
the accuracy on the latter.
"""

from __future__ import annotations

import csv
import json
import pathlib
import sys
from collections.abc import Sequence

from matplotlib.figure import Figure

CURVES = pathlib.Path(__file__).with_suffix(".csv")
PICTURE = pathlib.Path(__file__).with_suffix(".png")
COLOURS = ("#0072b2", "#d55e00")


def keep(workdirs: Sequence[pathlib.Path], out: pathlib.Path = CURVES) -> None:
    """Write the training and held-out losses of runs as rows (layers, kind, step, loss, accuracy)."""
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["layers", "kind", "step", "loss", "accuracy"])
        for workdir in workdirs:
            options = json.loads((workdir / "config.json").read_text())["model_options"]
            layers = dict(part.split("=") for part in options.split(","))["depth"]
            for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
                if line["kind"] in ("train", "eval"):
                    numbers = (f"{line['loss']:.4g}", f"{line['accuracy']:.4g}")
                    writer.writerow([layers, line["kind"], line["step"], *numbers])


def draw(curves: pathlib.Path = CURVES, out: pathlib.Path = PICTURE) -> None:
    """Loss and accuracy by step, a colour for each depth."""
    with curves.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for layers, colour in zip(dict.fromkeys(row["layers"] for row in rows), COLOURS):
        of = {
            kind: [row for row in rows if (row["layers"], row["kind"]) == (layers, kind)] for kind in ("train", "eval")
        }
        points = {
            (kind, name): ([int(row["step"]) for row in of[kind]], [float(row[name]) for row in of[kind]])
            for kind in of
            for name in ("loss", "accuracy")
        }
        label = f"{int(layers):,} layers"
        left.plot(*points["train", "loss"], color=colour, linewidth=0.8, alpha=0.5)
        left.plot(*points["eval", "loss"], "o-", color=colour, label=label)
        right.plot(*points["eval", "accuracy"], "o-", color=colour, label=label)
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    right.set(xlabel="step", ylabel="accuracy on held-out digits", ylim=(0, 1))
    right.legend(frameon=False, loc="lower right")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    if sys.argv[1:]:
        keep([pathlib.Path(name) for name in sys.argv[1:]])
    draw()
