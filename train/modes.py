"""Modes covered and the share of good samples of GANs over several seeds, with and without spectral normalisation."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Iterator
from typing import NamedTuple

from train.config import TrainConfig
from train.errors import ConfigError
from train.loop import train_and_evaluate

# Modes and per cent of high quality in the papers, as PacGAN (arXiv:1712.04086, tables 1 and 2) and VEEGAN report them.
PAPERS = {
    "ring": "GAN 6.3, 98.2 %; PacGAN2 7.9, 95.6 %; VEEGAN 8, 52.9 %",
    "grid": "GAN 17.3, 94.8 %; PacGAN2 23.8, 91.3 %; VEEGAN 24.6, 40 %",
}


class Outcome(NamedTuple):
    """One kind of run over its seeds: modes and high quality at the end, a number for each seed."""

    task: str
    normalisation: str
    modes: list[float]
    quality: list[float]

    @property
    def row(self) -> str:
        """A line of the Markdown table."""
        modes, quality = (statistics.mean(values) for values in (self.modes, self.quality))
        least = f"{min(self.modes):.0f}, {100 * min(self.quality):.1f} %"
        papers = PAPERS.get(self.task, "—")
        shown = f"{modes:.1f} | {100 * quality:.1f} % | {least}"
        return f"| {self.task} | {self.normalisation} | {len(self.modes)} | {shown} | {papers} |"


HEAD = (
    "| task | normalisation | seeds | modes | high quality | worst seed | papers (modes, high quality) |\n"
    "| --- | --- | ---: | ---: | ---: | --- | --- |"
)


def compare(
    presets: dict[str, TrainConfig], workdir: str | pathlib.Path, seeds: int, steps: int = 0
) -> Iterator[Outcome]:
    """Train each preset with and without spectral normalisation, once for each seed.

    Args:
        presets: configuration of each task, with normalisation=spectral among its model's options.
        workdir: folder of the runs, which are resumed where they stopped.
        seeds: how many, 0 to seeds − 1.
        steps: updates instead of the preset's; 0 for the preset's.

    Returns:
        An iterator of `Outcome`, each as soon as its runs are done; it ends when a run is interrupted.

    Raises:
        ConfigError: for fewer than one seed, or a preset that is not of a normalised GAN.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds={seeds}: at least one is needed")
    for task, preset in presets.items():
        if "normalisation=spectral" not in preset.model_options:
            raise ConfigError(f"the preset {task} has no normalisation=spectral among its model options to leave out")
    for task, preset in presets.items():
        for normalisation in ("spectral", "none"):
            ends = []
            for seed in range(seeds):
                folder = pathlib.Path(workdir) / f"{task}_{normalisation}_{seed}"
                options = preset.model_options.replace("normalisation=spectral", f"normalisation={normalisation}")
                config = dataclasses.replace(
                    preset,
                    model_options=options,
                    seed=seed,
                    steps=steps or preset.steps,
                    workdir=str(folder),
                    display="none",
                    tensorboard=False,
                )
                if train_and_evaluate(config, folder)["status"] == "interrupted":
                    return  # the same command continues from here
                lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
                ends.append([line for line in lines if line["kind"] == "eval"][-1])
            yield Outcome(
                task, normalisation, [line["modes"] for line in ends], [line["high_quality"] for line in ends]
            )
