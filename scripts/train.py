"""Train a network and watch the spectra of its layer Jacobians; the same command again resumes the run.

python -m scripts.train --flagfile=scripts/presets/digits_resnet.flags --workdir=runs/digits
"""

from __future__ import annotations

from scripts import flags
from train.config import TrainConfig

flags.define(TrainConfig)


def main() -> None:
    config = flags.parsed(TrainConfig)
    # After the flags are read, so that --help and a wrong flag answer at once.
    from train.display import closing
    from train.loop import train_and_evaluate

    summary = train_and_evaluate(config, config.workdir)
    if config.display != "none":
        print(closing(summary, config.workdir))


if __name__ == "__main__":
    flags.run(main)
