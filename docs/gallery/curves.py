"""Curves of training runs, kept in docs/gallery/curves.csv so that pictures of them can be drawn without the runs.

for run in copying_200 copying_200_gaussian copying_1000 copying_2000 adding_200 adding_200_orthogonal deep_conv_1000 \\
    deep_conv_10000; do
  python -m scripts.train --flagfile=scripts/presets/$run.flags --workdir=runs/$run
done
python -m docs.gallery.curves runs/*

keeps the losses of training batches and held-out examples; curves of other runs stay as they are.
"""

from __future__ import annotations

import csv
import json
import pathlib
import sys
from collections.abc import Iterable
from typing import NamedTuple

CURVES = pathlib.Path(__file__).with_suffix(".csv")


class Point(NamedTuple):
    """One line of a run's metrics: `kind` is "train" (one batch) or "eval" (the held-out examples)."""

    run: str
    task: str
    kind: str
    step: int
    loss: float
    accuracy: float


def keep(workdirs: Iterable[pathlib.Path], path: pathlib.Path = CURVES) -> None:
    """Write the curves of runs, named as their folders, instead of earlier ones of the same name."""
    kept = read(path) if path.exists() else []
    for workdir in workdirs:
        task = json.loads((workdir / "config.json").read_text())["task"]
        kept = [point for point in kept if point.run != workdir.name]
        for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
            if line["kind"] in ("train", "eval"):
                kept.append(Point(workdir.name, task, *(line[name] for name in Point._fields[2:])))
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Point._fields)
        writer.writerows(point._replace(loss=f"{point.loss:.4g}", accuracy=f"{point.accuracy:.4g}") for point in kept)


def read(path: pathlib.Path = CURVES) -> list[Point]:
    """All points that are kept, runs in the order in which they came."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Point(row["run"], row["task"], row["kind"], int(row["step"]), float(row["loss"]), float(row["accuracy"]))
        for row in rows
    ]


if __name__ == "__main__":
    keep(pathlib.Path(name) for name in sys.argv[1:])
