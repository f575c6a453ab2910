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
    from train.tasks import tasks

    baseline = tasks[config.task].baseline
    if config.display != "none" and baseline is not None:
        print(f"baseline: a loss of {baseline:.4g} needs no memory", flush=True)
    summary = train_and_evaluate(config, config.workdir)
    if config.display != "none":
        print(closing(summary, config.workdir))
        if baseline is not None and summary["eval_loss"]:
            share = summary["eval_loss"] / baseline
            print(f"{summary['held_out']} loss {summary['eval_loss']:.4g}, {share:.3g} of the baseline {baseline:.4g}")


if __name__ == "__main__":
    flags.run(main)
