"""Optimisers and schedules by name: each optimiser is an Optax transformation made from the run's configuration.

Gradients and parameters are flat dictionaries from "layer/path/name" to an array (train/state.py), so a rule about some
parameters is a rule about their names and shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax
import optax.contrib

from lax_linalg.registry import Registry
from train.config import TrainConfig

optimizers: Registry[Callable[[optax.Schedule, TrainConfig], optax.GradientTransformation]] = Registry("optimizer")
schedules: Registry[Callable[[float, int], optax.Schedule]] = Registry("schedule")


@schedules.register("constant")
def constant(value: float, steps: int) -> optax.Schedule:
    return optax.constant_schedule(value)


@schedules.register("cosine")
def cosine(value: float, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(value, steps)


@schedules.register("linear")
def linear(value: float, steps: int) -> optax.Schedule:
    return optax.linear_schedule(value, 0.0, steps)


def make_schedule(name: str, value: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """A schedule over `steps` updates: a linear rise to `value`, then the named decay to zero (or none).

    Raises:
        UnknownNameError: when no schedule has this name.

    Example:
        >>> schedule = make_schedule("linear", 1.0, steps=20, warmup_steps=10)
        >>> [round(float(schedule(step)), 2) for step in (0, 5, 10, 15, 20)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    decay = schedules[name](value, max(steps - warmup_steps, 1))
    if warmup_steps == 0:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, value, warmup_steps), decay], [warmup_steps])


@optimizers.register("adam")
def adam(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    return optax.adam(learning_rate)


@optimizers.register("adamw")
def adamw(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=config.weight_decay)


@optimizers.register("sgd")
def sgd(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    return optax.sgd(learning_rate)


@optimizers.register("momentum")
def momentum(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=config.momentum, nesterov=True)


@optimizers.register("rmsprop")
def rmsprop(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    return optax.rmsprop(learning_rate, decay=0.99)


@optimizers.register("muon")
def muon(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    """Muon for kernels, reshaped to (all other axes) × (output channels); Adam for the rest (Jordan et al. 2024)."""

    def dimensions(params: Any) -> Any:
        def matrix(array: Any) -> optax.contrib.MuonDimensionNumbers | None:
            if getattr(array, "ndim", 0) < 2:  # Optax also calls this with Adam's parameters masked out
                return None
            return optax.contrib.MuonDimensionNumbers(tuple(range(array.ndim - 1)), array.ndim - 1)

        return {name: matrix(array) for name, array in params.items()}

    return optax.contrib.muon(learning_rate, weight_decay=config.weight_decay, muon_weight_dimension_numbers=dimensions)


def make_optimizer(config: TrainConfig, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The configured optimiser for `steps` updates, behind gradient clipping if asked for, and its learning rate.

    Raises:
        UnknownNameError: when the optimiser or the schedule is not registered.

    Example:
        >>> optimizer, learning_rate = make_optimizer(TrainConfig(optimizer="sgd", learning_rate=0.5), steps=10)
        >>> float(learning_rate(3))
        0.5
    """
    learning_rate = make_schedule(config.schedule, config.learning_rate, steps, config.warmup_steps)
    optimizer = optimizers[config.optimizer](learning_rate, config)
    if config.clip_norm > 0:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    return optimizer, learning_rate
