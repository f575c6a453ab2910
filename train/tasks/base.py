"""What a task is: data, the preparation of a batch, and the loss of a model on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.core.registry import Registry
from train.config import TrainConfig
from train.data import Data, split_off

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
    """A supervised problem: everything the loop asks of it is pure and runs inside the jitted step.

    Attributes:
        input_shape: of one input, without the batch axis.
        num_classes: outputs of the model.
        load: (data_dir, split_seed) -> the arrays in memory; the seed where the task has no test set of its own.
        prepare: raw batch -> batch with the model's input under "input".
        augment: (key, raw batch) -> raw batch; used with --augment.
        per_example: (model, prepared batch) -> "loss" and other measures, each [B].
        input_dtype: of the prepared input.
        whole: (model, prepared held-out examples, all of them) -> further numbers of an evaluation, for those that are
            no means over examples.
        baseline: loss of the best prediction that makes no use of the input's past (or of the input), where one is
            known.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    load: Callable[[str, int], Data]
    prepare: Callable[[Batch], Batch]
    augment: Callable[[jax.Array, Batch], Batch]
    per_example: Callable[[Any, Batch], dict[str, jax.Array]]
    input_dtype: Any = jnp.float32
    whole: Callable[[Any, Batch], dict[str, jax.Array]] | None = None
    baseline: float | None = None

    def data(self, config: TrainConfig) -> Data:
        """The arrays of a run, with --validation of the training examples set aside: a function of the configuration.

        Raises:
            DataError: when a file is missing or damaged, or so many examples cannot be set aside.
        """
        parts = self.load(config.data_dir, config.split_seed)
        if not config.validation:
            return parts
        train, validation = split_off(parts.train, config.validation, config.split_seed)
        return parts._replace(train=train, validation=validation)


tasks: Registry[Task] = Registry("task")
