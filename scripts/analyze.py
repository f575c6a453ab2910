"""Compute full spectra of all layer Jacobians and weights at every checkpoint of a run; resumes where it stopped.

python -m scripts.analyze --workdir=runs/a --steps=0,last
"""

from __future__ import annotations

from absl import flags as absl_flags

from scripts import flags

WORKDIR = absl_flags.DEFINE_string("workdir", "", "folder of a run, or several separated by commas (required)")
STEPS = absl_flags.DEFINE_string("steps", "", "checkpoints to analyse, for example 0,500,last; all by default")
LAYERS = absl_flags.DEFINE_string("layers", "*", "layers to analyse, for example blocks/*,end_to_end")
INPUTS = absl_flags.DEFINE_integer("inputs", 0, "number of probe inputs; 0 takes that of the run", lower_bound=0)
PROCESSES = absl_flags.DEFINE_integer("processes", 1, "number of processes that share the checkpoints", lower_bound=1)
NONNORMALITY = absl_flags.DEFINE_integer(
    "nonnormality",
    64,
    "analyse non-normality exactly up to this order and by projection above it; 0 turns it off",
    lower_bound=0,
)


def main() -> None:
    if not WORKDIR.value:
        raise absl_flags.Error("--workdir is required: the folder of a run that scripts.train made")
    from train.analysis import analyze
    from train.analysis_display import follow

    for workdir in filter(None, map(str.strip, WORKDIR.value.split(","))):
        results = analyze(
            workdir,
            steps=STEPS.value,
            layers=LAYERS.value,
            inputs=INPUTS.value,
            processes=PROCESSES.value,
            nonnormality=NONNORMALITY.value,
        )
        follow(results, workdir)


if __name__ == "__main__":
    flags.run(main)
