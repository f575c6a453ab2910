"""Memory: orthogonal networks learn to copy 10 symbols over a delay, and they and an IRNN to add two numbers.

python -m docs.gallery.memory

draws docs/gallery/memory.png from the curves in docs/gallery/curves.csv (docs/gallery/curves.py says how they were
made): losses of training batches over that of the best guess without memory, left 10 log 8/(T + 20) for copying, right
1/6 for adding two marked numbers out of T.
"""

from __future__ import annotations

import itertools
import pathlib
import statistics

from matplotlib.figure import Figure

from docs.gallery import curves
from train.tasks import tasks

PICTURE = pathlib.Path(__file__).with_suffix(".png")
COLOURS = ("#0072b2", "#d55e00", "#00835f", "#cc79a7")
WINDOW = 5  # points of a median that is drawn over each noisy curve


def main(out: pathlib.Path = PICTURE) -> None:
    """Draw the losses over the baselines of their tasks, on a logarithmic axis."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    points = [point for point in curves.read() if point.kind == "train"]
    for ax, (name, usual) in zip(axes, {"copying": "orthogonal", "adding": "IRNN"}.items()):
        of_task = [point for point in points if point.task.startswith(f"{name}_")]
        for (run, curve), colour in zip(itertools.groupby(of_task, lambda point: point.run), COLOURS):
            steps, losses, baselines = zip(*((point.step, point.loss, tasks[point.task].baseline) for point in curve))
            ratios = [loss / baseline for loss, baseline in zip(losses, baselines)]
            _, delay, *kind = run.split("_")
            label = f"T = {int(delay):,}, {kind[0].replace('gaussian', 'Gaussian') if kind else usual}"
            ax.semilogy(steps, ratios, color=colour, linewidth=0.6, alpha=0.4)
            middle = [statistics.median(ratios[max(0, i - WINDOW + 1) : i + 1]) for i in range(len(ratios))]
            ax.semilogy(steps, middle, label=label, color=colour, linewidth=1.6)
        ax.axhline(1, color="#555555", linestyle="--", linewidth=1)
        ax.annotate("without memory", (1, 1), xycoords=("axes fraction", "data"), ha="right", xytext=(0, 4),
                    textcoords="offset points", fontsize=9, color="#555555")  # fmt: skip
        ax.set(title=name, xlabel="step", xlim=(0, None))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    axes[0].set(ylabel="training loss over the best without memory")
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
