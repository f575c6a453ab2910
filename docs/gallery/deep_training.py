"""Plain tanh networks of 1,000 and 10,000 convolutions learn digits.

python -m docs.gallery.deep_training

draws docs/gallery/deep_training.png from the curves in docs/gallery/curves.csv (docs/gallery/curves.py says how they
were made). Left, the loss of every training batch and of the held-out examples (marked); right, the accuracy on the
latter.
"""

from __future__ import annotations

import itertools
import pathlib

from matplotlib.figure import Figure

from docs.gallery import curves

PICTURE = pathlib.Path(__file__).with_suffix(".png")
COLOURS = ("#0072b2", "#d55e00")


def main(out: pathlib.Path = PICTURE) -> None:
    """Draw loss and accuracy by step, a colour for each depth."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    deep = [point for point in curves.read() if point.run.startswith("deep_conv_")]
    for (run, points), colour in zip(itertools.groupby(deep, lambda point: point.run), COLOURS):
        curve = list(points)
        train, held_out = ([point for point in curve if point.kind == kind] for kind in ("train", "eval"))
        label = f"{int(run.removeprefix('deep_conv_')):,} layers"
        steps = [point.step for point in held_out]
        left.plot(*zip(*((point.step, point.loss) for point in train)), color=colour, linewidth=0.8, alpha=0.5)
        left.plot(steps, [point.loss for point in held_out], "o-", color=colour, label=label)
        right.plot(steps, [point.accuracy for point in held_out], "o-", color=colour, label=label)
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    right.set(xlabel="step", ylabel="accuracy on held-out digits", ylim=(0, 1))
    right.legend(frameon=False, loc="lower right")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
