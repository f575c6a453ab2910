"""Count the modes that GANs cover and their good samples, over seeds, with and without spectral normalisation.

python -m scripts.modes --seeds=5 --workdir=runs/modes          ring of 8 and grid of 25, as a table
python -m scripts.modes --tasks=digit_images --seeds=3 --workdir=runs/modes
"""

from __future__ import annotations

import pathlib

from absl import flags as absl_flags

from lax_linalg.errors import UnknownNameError
from scripts import flags

TASKS = absl_flags.DEFINE_list("tasks", ["ring", "grid"], "presets to run")
SEEDS = absl_flags.DEFINE_integer("seeds", 5, "number of runs of each kind", lower_bound=1)
STEPS = absl_flags.DEFINE_integer("steps", 0, "number of updates; 0 takes that of the preset", lower_bound=0)
WORKDIR = absl_flags.DEFINE_string("workdir", "", "folder for the runs (required)")


PRESETS = pathlib.Path(__file__).parent / "presets"


def presets_there() -> list[str]:
    """The names of the presets of GANs."""
    return sorted(path.stem for path in PRESETS.glob("*.flags") if "--model=gan" in path.read_text())


flags.NAMES["tasks"] = presets_there


def main() -> None:
    from train.config import TrainConfig
    from train.modes import HEAD, compare

    if not WORKDIR.value:
        raise absl_flags.Error("--workdir is required: the folder to write the runs to")
    for task in TASKS.value:
        if task not in presets_there():
            raise UnknownNameError.of("preset", task, presets_there())
    presets = {task: flags.preset(TrainConfig, PRESETS / f"{task}.flags") for task in TASKS.value}
    print(HEAD, flush=True)
    for outcome in compare(presets, WORKDIR.value, SEEDS.value, STEPS.value):
        print(outcome.row, flush=True)


if __name__ == "__main__":
    flags.run(main)
