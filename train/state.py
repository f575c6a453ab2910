"""The state of training as plain dictionaries of arrays, and the way between them and a Flax module.

Parameters are named by their path ("blocks/0/conv1/kernel"). A flat dictionary is flattened by JAX in compiled code at
every dispatch, is what Optax and the regularisers want, and is readable in a checkpoint.
"""

from __future__ import annotations

import ast
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from train.config import TrainConfig
from train.errors import ConfigError

Arrays = dict[str, jax.Array]


class TrainState(NamedTuple):
    """What one update maps to the next; together with the configuration it determines the rest of the run."""

    step: jax.Array  # updates done
    params: Arrays
    rest: Arrays  # the model's other variables: statistics, random-number counters
    opt_state: Any
    key: jax.Array  # constant; step k draws from fold_in(key, k)
    nonfinite: jax.Array  # updates refused because the loss or a gradient was NaN or infinite


@dataclasses.dataclass(frozen=True)
class ModelDef:
    """The static part of a Flax module: what turns its arrays back into a module."""

    graphdef: Any
    params_def: Any
    rest_def: Any

    def merge(self, params: Arrays, rest: Arrays) -> nnx.Module:
        """The module with these arrays."""
        states = [
            jax.tree.unflatten(treedef, [arrays[name] for name in names])
            for arrays, (treedef, names) in ((params, self.params_def), (rest, self.rest_def))
        ]
        return nnx.merge(self.graphdef, *states)


def split(model: nnx.Module) -> tuple[ModelDef, Arrays, Arrays]:
    """Take a module apart into its static definition, its parameters by path, and its other variables by path."""
    graphdef, *states = nnx.split(model, nnx.Param, ...)
    (params, params_def), (rest, rest_def) = (_flatten(state) for state in states)
    return ModelDef(graphdef, params_def, rest_def), params, rest


def _flatten(state: Any) -> tuple[Arrays, Any]:
    leaves, treedef = jax.tree_util.tree_flatten_with_path(state)
    names = tuple(jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value") for path, _ in leaves)
    return dict(zip(names, (leaf for _, leaf in leaves))), (treedef, names)


def build_model(config: TrainConfig) -> nnx.Module:
    """The freshly initialised module of a run, from its task, model, model options and seed.

    Raises:
        UnknownNameError: when the task or the model is not registered.
        ConfigError: when the model does not take an option.

    Example:
        >>> model = build_model(TrainConfig(model="mlp"))
        >>> model(jnp.ones((2, 8, 8, 1))).shape
        (2, 10)
    """
    import models
    from train.tasks import tasks

    task = tasks[config.task]
    options = parse_options(config.model_options)
    try:
        return models.create(
            config.model,
            input_shape=task.input_shape,
            num_classes=task.num_classes,
            rngs=nnx.Rngs(config.seed),
            **options,
        )
    except TypeError as error:
        raise ConfigError(
            f"--model_options={config.model_options} does not fit model {config.model!r}: {error}"
        ) from error


def parse_options(text: str) -> dict[str, Any]:
    """Read options written as keyword arguments; a bare word is a string.

    Raises:
        ConfigError: when the text is not of that form.

    Example:
        >>> parse_options("widths=(8, 16), activation=tanh, skip=True")
        {'widths': (8, 16), 'activation': 'tanh', 'skip': True}
    """
    try:
        call = ast.parse(f"options({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        return {
            option.arg: option.value.id if isinstance(option.value, ast.Name) else ast.literal_eval(option.value)
            for option in call.keywords
            if option.arg is not None
        }
    except (ValueError, SyntaxError):
        raise ConfigError(f"--model_options={text!r} must be written as name=value,name=value") from None


def initial_state(config: TrainConfig, optimizer: optax.GradientTransformation) -> tuple[ModelDef, TrainState]:
    """The state after zero updates, a function of the configuration alone."""
    definition, params, rest = split(build_model(config))
    key = jax.random.fold_in(jax.random.key(config.seed), 1)  # apart from the keys that initialised the model
    step, nonfinite = (jnp.array(0, jnp.int32) for _ in range(2))  # two buffers: each is donated
    return definition, TrainState(step, params, rest, optimizer.init(params), key, nonfinite)
