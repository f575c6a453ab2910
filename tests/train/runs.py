"""Small runs for the tests of training."""

from __future__ import annotations

import pathlib
from typing import Any

import chex
import numpy as np
import orbax.checkpoint as ocp

from train import checkpoints
from train.config import TrainConfig


def small(workdir: pathlib.Path, **changes: Any) -> TrainConfig:
    """A configuration whose run takes about a second: a narrow MLP with dropout, so that every kind of state moves."""
    values: dict[str, Any] = {
        "model": "mlp",
        "model_options": "widths=(16,),dropout=0.1",
        "augment": True,
        "steps": 40,
        "batch_size": 32,
        "log_every": 5,
        "eval_every": 20,
        "checkpoint_every": 10,
        "tensorboard": False,
        "display": "none",
        "workdir": str(workdir),
    }
    return TrainConfig(**(values | changes))


def saved_arrays(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path, read without the program's own code."""
    found: dict[str, np.ndarray] = {}
    folder = checkpoints.step_folder(pathlib.Path(workdir).absolute() / checkpoints.FOLDER, step)
    for item in (checkpoints.MODEL, checkpoints.TRAINER):
        tree = ocp.StandardCheckpointer().restore(folder / item)
        for path, leaf in _leaves(tree):
            found[f"{item}/{path}"] = leaf
    return found


def _leaves(tree: Any, path: str = ""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}/{key}")
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{path}/{index}")
    elif tree is not None:
        yield path, np.asarray(_raw(tree))


def _raw(leaf: Any) -> Any:
    import jax

    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def assert_same_run(one: pathlib.Path, other: pathlib.Path, step: int) -> None:
    """The same bytes of metrics.jsonl and the same bits in the checkpoint of `step`."""
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    first, second = saved_arrays(one, step), saved_arrays(other, step)
    assert len(first) > 10
    chex.assert_trees_all_equal(first, second)
