"""Modes that GANs cover and the share of their good samples, over seeds, with and without spectral normalisation.

python -m scripts.modes --seeds=5 --workdir=runs/modes          ring of 8 and grid of 25, as a table
python -m scripts.modes --tasks=digit_images --seeds=3 --workdir=runs/modes
"""

from __future__ import annotations

import pathlib

from absl import flags as absl_flags

from lax_linalg.errors import UnknownNameError
from scripts import flags

TASKS = absl_flags.DEFINE_list("tasks", ["ring", "grid"], "presets of scripts/presets")
SEEDS = absl_flags.DEFINE_integer("seeds", 5, "runs of each kind", lower_bound=1)
STEPS = absl_flags.DEFINE_integer("steps", 0, "updates; 0: the preset's", lower_bound=0)
WORKDIR = absl_flags.DEFINE_string("workdir", "", "folder of the runs (required)")


def main() -> None:
    from train.config import TrainConfig
    from train.modes import HEAD, compare

    if not WORKDIR.value:
        raise absl_flags.Error("--workdir is required: the folder to write the runs to")
    files = {path.stem: path for path in (pathlib.Path(__file__).parent / "presets").glob("*.flags")}
    for task in TASKS.value:
        if task not in files:
            raise UnknownNameError.of("preset", task, sorted(files))
    presets = {task: flags.preset(TrainConfig, files[task]) for task in TASKS.value}
    print(HEAD, flush=True)
    for outcome in compare(presets, WORKDIR.value, SEEDS.value, STEPS.value):
        print(outcome.row, flush=True)


if __name__ == "__main__":
    flags.run(main)
