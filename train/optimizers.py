"""Optimisers and schedules by name: each optimiser is an Optax transformation made from the run's configuration.

Gradients and parameters are flat dictionaries from "layer/path/name" to an array (train/state.py), so a rule about some
parameters is a rule about their names and shapes.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Any

import optax
import optax.contrib

from lax_linalg.core.registry import Registry
from lax_linalg.errors import UnknownNameError
from train import orthogonal_steps
from train.config import TrainConfig
from train.errors import ConfigError
from train.regularizers import chosen_layers, kernel_layers

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
    return optax.adam(learning_rate, b1=config.beta1)


@optimizers.register("adamw")
def adamw(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, b1=config.beta1, weight_decay=config.weight_decay)


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
            first = max(0, array.ndim - 4)  # axes in front of a convolution's kernel index kernels
            return optax.contrib.MuonDimensionNumbers(tuple(range(first, array.ndim - 1)), array.ndim - 1)

        return {name: matrix(array) for name, array in params.items()}

    return optax.contrib.muon(learning_rate, weight_decay=config.weight_decay, muon_weight_dimension_numbers=dimensions)


@optimizers.register("landing")
def landing(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    """The landing flow for the kernels that `orthogonal` names, Adam for the rest."""
    step = orthogonal_steps.landing(learning_rate, factor=lambda name: rate_factor(config.learning_rates, name))
    return _with_adam(step, learning_rate, config)


@optimizers.register("riemannian")
def riemannian(learning_rate: optax.Schedule, config: TrainConfig) -> optax.GradientTransformation:
    """Riemannian gradient descent with momentum for the kernels that `orthogonal` names, Adam for the rest."""
    step = orthogonal_steps.riemannian(
        learning_rate, config.momentum, factor=lambda name: rate_factor(config.learning_rates, name)
    )
    return _with_adam(step, learning_rate, config)


def _with_adam(
    step: optax.GradientTransformation, learning_rate: optax.Schedule, config: TrainConfig
) -> optax.GradientTransformation:
    """`step` for the chosen kernels, whose group's learning rate it has applied itself, and Adam for the rest."""

    def labels(params: Any) -> dict[str, str]:
        kernels = kernel_layers(params)
        chosen = {kernels[layer] for layer in chosen_layers(list(kernels), config.orthogonal)}
        return {name: "orthogonal" if name in chosen else "rest" for name in params}

    rest = optax.chain(optax.adam(learning_rate), scale_groups(config.learning_rates))
    return optax.partition({"orthogonal": step, "rest": rest}, labels)


def rate_factor(text: str, name: str) -> float:
    """The factor on the learning rate of a parameter: that of the last matching rule, or 1.

    Args:
        text: rules "pattern=factor,pattern=factor" over parameter paths.
        name: path of a parameter.

    Raises:
        ConfigError: for rules that are not of this form, or a negative factor.

    Example:
        >>> rate_factor("*/bias=2,head/*=0.1", "head/bias")
        0.1
    """
    matching = [factor for pattern, factor in _rules(text) if fnmatch.fnmatchcase(name, pattern)]
    return matching[-1] if matching else 1.0


def rate_factors(text: str, params: Any) -> dict[str, float]:
    """The factor on the learning rate of every parameter.

    Args:
        text: rules "pattern=factor,pattern=factor" over parameter paths; later ones win.
        params: parameters by path.

    Returns:
        Path -> factor.

    Raises:
        ConfigError: for rules that are not of this form, or a negative factor.
        UnknownNameError: for a pattern that matches no parameter.

    Example:
        >>> rate_factors("*/bias=2", {"head/kernel": 0, "head/bias": 0})
        {'head/kernel': 1.0, 'head/bias': 2.0}
    """
    for pattern, _ in _rules(text):
        if not fnmatch.filter(params, pattern):
            raise UnknownNameError.of("parameter", pattern, params)
    return {name: rate_factor(text, name) for name in params}


def scale_groups(text: str) -> optax.GradientTransformation:
    """Multiply the updates of each group of parameters by its factor: a learning rate for each group.

    Args:
        text: rules as in `rate_factors`.

    Returns:
        An Optax transformation of flat dictionaries.

    Example:
        >>> scale = scale_groups("*/bias=2")
        >>> scale.update({"head/bias": 1.0, "head/kernel": 1.0}, scale.init({}))[0]
        {'head/bias': 2.0, 'head/kernel': 1.0}
    """

    def scaled(updates: Any, params: Any = None) -> Any:
        return {
            name: update if isinstance(update, optax.MaskedNode) else rate_factor(text, name) * update
            for name, update in updates.items()
        }

    return optax.stateless(scaled)


def _rules(text: str) -> list[tuple[str, float]]:
    rules = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        pattern, _, factor = part.rpartition("=")
        try:
            rules.append((pattern.strip(), float(factor)))
        except ValueError:
            raise ConfigError(f"--learning_rates={text}: {part!r} is not of the form pattern=factor") from None
        if not pattern or not 0 <= rules[-1][1] < float("inf"):
            raise ConfigError(f"--learning_rates={text}: {part!r} must name a pattern and a finite factor ≥ 0")
    return rules


def make_optimizer(config: TrainConfig, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The configured optimiser for `steps` updates, after gradient clipping if asked for, and its learning rate.

    Raises:
        UnknownNameError: when the optimiser or the schedule is not registered; at `init`, when a rule of
            `learning_rates` or a pattern of `orthogonal` matches nothing.
        ConfigError: for `learning_rates` that cannot be read.

    Example:
        >>> optimizer, learning_rate = make_optimizer(TrainConfig(optimizer="sgd", learning_rate=0.5), steps=10)
        >>> float(learning_rate(3))
        0.5
    """
    learning_rate = make_schedule(config.schedule, config.learning_rate, steps, config.warmup_steps)
    optimizer = optimizers[config.optimizer](learning_rate, config)
    if config.learning_rates:
        if config.optimizer not in ("landing", "riemannian"):  # these scale the step itself, not its result
            optimizer = optax.chain(optimizer, scale_groups(config.learning_rates))
        optimizer = _checked(optimizer, config.learning_rates)
    if config.clip_norm > 0:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    return optimizer, learning_rate


def _checked(optimizer: optax.GradientTransformation, rules: str) -> optax.GradientTransformation:
    """The same, refusing at its start rules that match no parameter."""

    def init(params: Any) -> Any:
        rate_factors(rules, params)
        return optimizer.init(params)

    return optax.GradientTransformation(init, optimizer.update)
