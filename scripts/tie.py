"""Tie the locally connected layers of a trained network to their nearest convolutions: how far, and what it costs.

python -m scripts.train --task=digits --model=local --workdir=runs/local && python -m scripts.tie --workdir=runs/local
"""

from __future__ import annotations

from absl import flags as absl_flags

from scripts import flags

WORKDIR = absl_flags.DEFINE_string("workdir", "", "folder of a run of --model=local (required)")
STEP = absl_flags.DEFINE_integer("step", None, "step of the checkpoint; the last by default")


def main() -> None:
    if not WORKDIR.value:
        raise absl_flags.Error("--workdir is required: the folder of a run that scripts.train made")
    from train.tying import tie_run

    found = tie_run(WORKDIR.value, STEP.value)
    print(f"checkpoint {found.step}: distance to the nearest convolution, ‖A − tie(A)‖ / ‖A‖")
    for layer, distance in found.distances.items():
        print(f"  {layer:<24} {distance:.4f}")
    for name in found.before:
        print(f"test {name:<12} {found.before[name]:.4f} -> {found.after[name]:.4f} tied")


if __name__ == "__main__":
    flags.run(main)
