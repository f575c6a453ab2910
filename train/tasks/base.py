"""What a task is: data, the preparation of a batch, and the loss of a model on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from lax_linalg.registry import Registry
from train.data import Data

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
    """A supervised problem: everything the loop asks of it is pure and runs inside the jitted step.

    Attributes:
        input_shape: of one input, without the batch axis.
        num_classes: outputs of the model.
        load: data_dir -> the arrays in memory.
        prepare: raw batch -> batch with the model's input under "input".
        augment: (key, raw batch) -> raw batch; used with --augment.
        per_example: (model, prepared batch) -> "loss" and other measures, each [B].
    """

    input_shape: tuple[int, ...]
    num_classes: int
    load: Callable[[str], Data]
    prepare: Callable[[Batch], Batch]
    augment: Callable[[jax.Array, Batch], Batch]
    per_example: Callable[[Any, Batch], dict[str, jax.Array]]


tasks: Registry[Task] = Registry("task")
