"""Accuracy of the demonstration's network on digits that it never saw, over several splits of the data and seeds.

Each split takes other test and validation images out of the 1,797 and starts from another seed. The preset was chosen
on validation images alone, of split 0 (the demonstration's own) and of splits that are not among these. Of the two
runs of a split, without and with the regulariser, the better one is the one with the higher validation accuracy, and
what counts is its test accuracy.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import tempfile
from typing import Any

from benchmarks.harness import Row
from scripts.flags import preset
from train.config import TrainConfig
from train.loop import train_and_evaluate

PRESET = pathlib.Path(__file__).parent.parent / "scripts" / "presets" / "digits_resnet.flags"
SPLITS = range(1, 7)
QUIET = {"spectrum_every": 0, "eval_every": 0, "checkpoint_every": 0, "tensorboard": False, "display": "none"}


def measure(regularizer: str, split: int) -> dict[str, Any]:
    """The summary of the preset's run with that split and seed, without probes and checkpoints: they change nothing."""
    with tempfile.TemporaryDirectory() as workdir:
        changes = {"regularizer": regularizer, "split_seed": split, "seed": split, "workdir": workdir, **QUIET}
        return train_and_evaluate(dataclasses.replace(preset(TrainConfig, PRESET), **changes), workdir)


def row(name: str, runs: list[dict[str, Any]], target: str = "") -> Row:
    """The mean test accuracy of some runs, and its spread."""
    test = [run["test_accuracy"] for run in runs]
    validation = statistics.mean(run["eval_accuracy"] for run in runs)
    detail = (
        f"mean {statistics.mean(test):.4f} ± {statistics.stdev(test):.4f} (s.d. over {len(test)} splits and seeds), "
        f"lowest {min(test):.4f}; on validation images {validation:.4f}"
    )
    return Row(name, statistics.mean(test), "test accuracy", target, detail)


def rows() -> list[Row]:
    """Without and with the regulariser, and of each pair the run that the validation images prefer."""
    runs = {regularizer: [measure(regularizer, split) for split in SPLITS] for regularizer in ("none", "so")}
    better = [max(pair, key=lambda run: run["eval_accuracy"]) for pair in zip(*runs.values())]
    return [
        row("digits, no regulariser", runs["none"]),
        row("digits, soft orthogonality", runs["so"]),
        row("digits, the better of each pair by validation", better, "≥ 0.97"),
    ]


if __name__ == "__main__":
    for one in rows():
        print(one)
