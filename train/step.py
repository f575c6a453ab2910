"""The jitted programs of training: one update, one evaluation, and the gradient of an update that was refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from train.config import TrainConfig
from train.errors import ConfigError
from train.optimizers import make_optimizer, make_schedule, rate_factors
from train.regularizers import make_penalty
from train.sharding import replicated, split_batch
from train.state import Arrays, ModelDef, TrainState, initial_state, split
from train.tasks import Task


class Gradient(NamedTuple):
    """What one differentiation gives."""

    objective: jax.Array
    params: Arrays  # its gradient
    measures: Arrays  # means over the batch, and the penalty
    rest: Arrays  # the model's other variables after the pass
    batch: Arrays  # as the model took it
    decay: Arrays  # strength · gradient of a decoupled penalty; empty otherwise


class TrainStep(NamedTuple):
    """What a run is made of, all functions of the configuration alone.

    Attributes:
        definition: the model without its numbers.
        initial: the state after zero updates.
        update: (state, data, order) -> (state, metrics), which reuses the old state's memory.
        evaluate: (params, rest, data) -> scalars.
        gradient: (state, data, order) -> `Gradient`.
    """

    definition: ModelDef
    initial: TrainState
    update: Callable[[TrainState, Arrays, jax.Array], tuple[TrainState, Arrays]]
    evaluate: Callable[[Arrays, Arrays, Arrays], Arrays]
    gradient: Callable[[TrainState, Arrays, jax.Array], Gradient]


def make_step(config: TrainConfig, steps: int, task: Task, mesh: Mesh) -> TrainStep:
    """The programs of a run of `steps` updates, and its initial state.

    Raises:
        UnknownNameError: when a name in the configuration is not registered, or a pattern of layers selects none.
        ConfigError: when options do not fit the model or each other.
        LinearAlgebraError: when the regulariser is to act on the operator of a layer that has none.
    """
    optimizer, learning_rate = make_optimizer(config, steps)
    definition, initial = initial_state(config, optimizer)
    gradient = _make_gradient(config, steps, task, definition, initial, mesh)
    update = _make_update(config, optimizer, learning_rate, gradient)
    return TrainStep(definition, initial, update, make_evaluate(task, definition), jax.jit(gradient))


def make_order(config: TrainConfig, examples: int, mesh: Mesh) -> Callable[[int], jax.Array]:
    """The order of the examples in the epoch of a step: a random permutation, a function of (seed, epoch) alone.

    Returns:
        order(step) -> [examples] indices, the same array during an epoch of examples // batch_size steps.

    Raises:
        ConfigError: when one batch needs more examples than there are.
    """
    batches = examples // config.batch_size
    if batches == 0:
        raise ConfigError(f"--batch_size={config.batch_size} is more than the {examples} training examples")
    key = jax.random.fold_in(jax.random.key(config.seed), 2)  # apart from initialisation and noise
    permutation = jax.jit(
        lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), examples), out_shardings=replicated(mesh)
    )
    current: tuple[int, jax.Array] | None = None

    def order(step: int) -> jax.Array:
        nonlocal current
        if current is None or current[0] != step // batches:
            current = (step // batches, permutation(step // batches))
        return current[1]

    return order


def _make_gradient(
    config: TrainConfig, steps: int, task: Task, definition: ModelDef, initial: TrainState, mesh: Mesh
) -> Callable[[TrainState, Arrays, jax.Array], Gradient]:
    """The gradient of loss + strength(step)·R on the batch of the state's step, as a function (state, data, order).

    With `regularizer_decoupled` the penalty is left out of the loss and its gradient given apart.
    """
    model = definition.merge(initial.params, initial.rest)
    example = jnp.zeros((1, *task.input_shape), task.input_dtype) if config.regularizer_on == "operator" else None
    penalty = make_penalty(config.regularizer, config.regularizer_layers, initial.params, model, example)
    decoupled = config.regularizer_decoupled and config.regularizer != "none"
    strength = make_schedule(config.regularizer_schedule, config.regularizer_strength, steps)

    def objective(params: Arrays, rest: Arrays, batch: Arrays, step: jax.Array):
        model: Any = definition.merge(params, rest)
        model.train()
        of_examples = task.per_example(model, batch)
        chex.assert_shape(list(of_examples.values()), (config.batch_size,))  # a task may be a plugin's
        measures = {name: jnp.mean(values) for name, values in of_examples.items()}
        measures["penalty"] = jax.lax.stop_gradient(penalty(params)) if decoupled else penalty(params)
        total = measures["loss"] + (0 if decoupled else strength(step) * measures["penalty"])
        return total, (measures, split(model)[2])

    def gradient(state: TrainState, data: Arrays, order: jax.Array) -> Gradient:
        batches = order.size // config.batch_size
        start = (state.step % batches) * config.batch_size
        index = jax.lax.dynamic_slice(order, (start,), (config.batch_size,))
        batch = {name: array[index] for name, array in data.items()}
        batch = jax.lax.with_sharding_constraint(batch, split_batch(mesh))
        if config.augment:
            batch = task.augment(jax.random.fold_in(state.key, state.step), batch)
        batch = task.prepare(batch)
        differentiate = jax.value_and_grad(objective, has_aux=True)
        (total, (measures, rest)), gradient = differentiate(state.params, state.rest, batch, state.step)
        slope = jax.grad(penalty)(state.params) if decoupled else {}
        decay = {name: strength(state.step) * values for name, values in slope.items()}
        return Gradient(total, gradient, measures, rest, batch, decay)

    return gradient


def _make_update(
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    gradient: Callable[[TrainState, Arrays, jax.Array], Gradient],
) -> Callable[[TrainState, Arrays, jax.Array], tuple[TrainState, Arrays]]:
    """One update as a jitted function (state, data, order) -> (state, metrics) that reuses the old state's memory.

    An update whose loss or gradient is not finite is refused: the state keeps its parameters and counts the refusal in
    `nonfinite`. With on_nonfinite=stop it then stays as it is for good, which lets the host find out later without a
    loss.
    """
    stop = config.on_nonfinite == "stop"

    def update(state: TrainState, data: Arrays, order: jax.Array) -> tuple[TrainState, Arrays]:
        factors = rate_factors(config.learning_rates, state.params)
        total, grads, measures, rest, _, decay = gradient(state, data, order)
        updates: Any
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        rate = learning_rate(state.step if stop else state.step - state.nonfinite)  # counts the updates applied
        for name, slope in decay.items():
            updates[name] = updates[name] - (factors[name] * rate * slope).astype(slope.dtype)
        params = optax.apply_updates(state.params, updates)
        before, after = (state.params, state.rest, state.opt_state), (params, rest, opt_state)
        chex.assert_trees_all_equal_shapes_and_dtypes(before, after)  # so may the optimiser and the model

        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(total) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(decay))
        accept = finite & (state.nonfinite == 0) if stop else finite
        params, rest, opt_state = jax.tree.map(lambda new, old: jnp.where(accept, new, old), after, before)
        nonfinite = state.nonfinite + jnp.where(finite, 0, 1)
        metrics = measures | {"grad_norm": norm, "learning_rate": rate, "nonfinite": nonfinite}
        step = state.step + (accept.astype(jnp.int32) if stop else 1)
        return TrainState(step, params, rest, opt_state, state.key, nonfinite), metrics

    return jax.jit(update, donate_argnums=0)


def make_evaluate(task: Task, definition: ModelDef, chunk: int = 512) -> Callable[[Arrays, Arrays, Arrays], Arrays]:
    """The means of the task's measures over a whole data set, as a jitted function (params, rest, data) -> scalars.

    The data are taken in chunks so that activations of `chunk` examples at most are in memory; the last one is filled
    up with examples that count nothing.
    """

    def evaluate(params: Arrays, rest: Arrays, data: Arrays) -> Arrays:
        model: Any = definition.merge(params, rest)
        model.eval()
        examples = next(iter(data.values())).shape[0]
        size = min(chunk, examples)
        index = jnp.arange(-(-examples // size) * size).reshape(-1, size)

        def sums(index: jax.Array) -> Arrays:
            batch = {name: array[jnp.minimum(index, examples - 1)] for name, array in data.items()}
            measured = task.per_example(model, task.prepare(batch))
            return {name: jnp.sum(jnp.where(index < examples, values, 0)) for name, values in measured.items()}

        means = {name: jnp.sum(values) / examples for name, values in jax.lax.map(sums, index).items()}
        return means | (task.whole(model, task.prepare(data)) if task.whole else {})

    return jax.jit(evaluate)
