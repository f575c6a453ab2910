"""What parameter sharing costs a trained network: its locally connected layers tied to their nearest convolutions."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from models import LocallyConnected
from train import checkpoints, config as configs
from train.errors import CheckpointError, ConfigError
from train.state import split
from train.step import make_evaluate
from train.tasks import tasks


class Tied(NamedTuple):
    """Relative distance ‖A − tie(A)‖_F / ‖A‖_F of each layer, and the test measures before and after all are tied."""

    step: int
    distances: dict[str, float]
    before: dict[str, float]
    after: dict[str, float]


def tie_run(workdir: str | pathlib.Path, step: int | None = None) -> Tied:
    """Tie every locally connected layer of a run's checkpoint to its nearest convolution, and measure both networks.

    Args:
        workdir: folder of a run.
        step: which checkpoint; the last by default.

    Returns:
        `Tied`; the run itself is left as it is.

    Raises:
        ConfigError: when `workdir` holds no run, or its model has no locally connected layer.
        CheckpointError: when there is no usable checkpoint of that step.
    """
    config = configs.load(workdir)
    available = checkpoints.steps(pathlib.Path(workdir))
    if not available:
        raise CheckpointError(f"no checkpoints in {workdir}: there is nothing to tie yet")
    step = available[-1] if step is None else step
    model: Any = checkpoints.restore(workdir, step)
    task = tasks[config.task]
    test = jax.tree.map(jnp.asarray, task.data(config).test)

    def measure(model: nnx.Module) -> dict[str, float]:
        definition, params, rest = split(model)
        return {name: float(value) for name, value in make_evaluate(task, definition)(params, rest, test).items()}

    layers = [(path, module) for path, module in nnx.iter_modules(model) if isinstance(module, LocallyConnected)]
    if not layers:
        raise ConfigError(f"{workdir}: model {config.model!r} has no locally connected layer; train --model=local")
    before, distances = measure(model), {}
    for path, layer in layers:
        conv, distance = layer.tie()
        distances["/".join(map(str, path))] = float(distance)
        owner: Any = model
        for name in path[:-1]:
            owner = owner[name] if isinstance(name, int) else getattr(owner, str(name))
        if isinstance(path[-1], int):
            owner[path[-1]] = conv
        else:
            setattr(owner, str(path[-1]), conv)
    return Tied(step, distances, before, measure(model))
