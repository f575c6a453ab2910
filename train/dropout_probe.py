"""Dropout as covariance during training: what each dropout does to its inputs' covariance, predicted and drawn.

Over the held-out examples the inputs of a dropout have mean μ and covariance Σ; after it the covariance is
Σ' = Σ + p/(1 − p) 𝒟(Σ + μμᵀ) (inverted form). Draws of the masks give the same up to their standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from train.errors import ConfigError
from train.state import Arrays, ModelDef
from train.tasks import Task

LARGEST = 2048  # numbers at a dropout, above which its covariance is not formed


def make_dropout_probe(
    task: Task, definition: ModelDef, params: Arrays, rest: Arrays, held_out: Any, examples: int = 128, draws: int = 16
) -> Callable[[Arrays, Arrays], Arrays]:
    """A jitted function (params, rest) -> the numbers below for every dropout of the model, as "path/number".

    variance: tr Σ' / tr Σ, by how much dropout raises the total variance. monte_carlo: the same by draws.
    error: ‖Σ'_drawn − Σ'‖_F / ‖Σ'‖_F. standard_error: what that is expected to be, from the scatter of the draws.

    Args:
        task, definition, params, rest: of the run.
        held_out: arrays of examples.
        examples: how many of them.
        draws: of the masks.

    Raises:
        ConfigError: when the model has no dropout, or none of at most 2,048 numbers.

    Cost: one forward pass; draws · examples · n² multiply-adds for a dropout of n numbers.
    """
    batch = task.prepare({name: jnp.asarray(array[:examples]) for name, array in held_out.items()})

    def probe(params: Arrays, rest: Arrays) -> Arrays:
        model: Any = definition.merge(params, rest)
        found: Arrays = {}
        for name, (rate, x) in inputs_of_dropouts(model, batch["input"]).items():
            x = x.reshape(len(x), -1)
            if x.shape[1] <= LARGEST:
                key = jax.random.fold_in(jax.random.key(0), len(found))
                found |= {f"{name}/{number}": value for number, value in compare(key, x, rate, draws).items()}
        return found

    if not jax.eval_shape(probe, params, rest):
        raise ConfigError(f"--dropout_every: the model has no dropout of at most {LARGEST} numbers with a rate above 0")
    return jax.jit(probe)


def compare(key: jax.Array, x: jax.Array, p: float, draws: int) -> Arrays:
    """Predicted against drawn covariance of inverted dropout on the examples x.

    Args:
        key: of the masks.
        x: [B, n]; its B rows are the distribution.
        p: probability with which a number is dropped.
        draws: masks for each example, ≥ 2.

    Returns:
        "variance", "monte_carlo", "error", "standard_error".

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (50, 3))
        >>> found = compare(jax.random.key(1), x, 0.5, draws=200)
        >>> bool(found["error"] < 4 * found["standard_error"])
        True
    """
    mean = jnp.mean(x, axis=0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    predicted = la.dropout_covariance(mean, covariance, p, inverted=True)

    def drawn(key: jax.Array) -> jax.Array:
        kept = jax.random.bernoulli(key, 1 - p, x.shape)
        off = jnp.where(kept, x / (1 - p), 0) - mean  # the mean stays, so this is unbiased
        return off.T @ off / len(x)

    def add(sums: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        difference = drawn(key) - predicted
        return (sums[0] + difference, sums[1] + jnp.sum(difference**2)), None

    zero = (jnp.zeros_like(predicted), jnp.zeros((), predicted.dtype))
    (total, squares), _ = jax.lax.scan(add, zero, jax.random.split(key, draws))
    gap = total / draws
    scatter = (squares - draws * jnp.sum(gap**2)) / (draws - 1)  # E ‖one draw − its expectation‖²
    norm, trace = jnp.linalg.norm(predicted), jnp.trace(covariance)
    return {
        "variance": jnp.trace(predicted) / trace,
        "monte_carlo": jnp.trace(predicted + gap) / trace,
        "error": jnp.linalg.norm(gap) / norm,
        "standard_error": jnp.sqrt(jnp.maximum(scatter, 0) / draws) / norm,
    }


class _Tap:
    """Stands in for a dropout in evaluation: the identity, which keeps what it is given."""

    def __init__(self, name: str, rate: float, found: dict[str, tuple[float, jax.Array]]):
        self.name, self.rate, self.found = name, rate, found

    def __call__(self, x: jax.Array, **_: Any) -> jax.Array:
        count = sum(name.partition("@")[0] == self.name for name in self.found)
        self.found[self.name if not count else f"{self.name}@{count + 1}"] = (self.rate, x)
        return x


def inputs_of_dropouts(model: nnx.Module, x: jax.Array) -> dict[str, tuple[float, jax.Array]]:
    """Rate and input of every dropout with a positive rate, in the order of the calls; later calls as path@2 and so on.

    Args:
        model: a module of which nothing else is needed afterwards: its dropouts are taken out.
        x: a batch of inputs.

    Returns:
        Path -> (rate, input [B, …]).

    Example:
        >>> import models
        >>> mlp = models.create("mlp", widths=(4, 4), dropout=0.5, rngs=nnx.Rngs(0))
        >>> list(inputs_of_dropouts(mlp, jnp.ones((2, 8, 8, 1))))
        ['dropout', 'dropout@2']
    """
    model.eval()
    found: dict[str, tuple[float, jax.Array]] = {}
    modules = dict(nnx.iter_modules(model))
    for path, module in modules.items():
        if isinstance(module, nnx.Dropout) and module.rate > 0:
            object.__setattr__(modules[path[:-1]], str(path[-1]), _Tap("/".join(map(str, path)), module.rate, found))
    model(x)  # type: ignore[operator]
    return found
