"""Tasks of memory: copying after a delay, adding two marked numbers, and images read pixel by pixel.

Each has a baseline, the loss of the best prediction that remembers nothing.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch
from train.data import digits, idx, mnist_subset, sequences
from train.data.sequences import RECALLED, SYMBOLS
from train.tasks.base import Batch, Task, tasks
from train.tasks.classification import cross_entropy, standardise


def copying_sequences(batch: Batch, delay: int) -> Batch:
    """Input and target of the copying task as one-hot [B, T + 20, 10] and classes [B, T + 20].

    Input: the 10 symbols, T − 1 blanks, a marker, 10 blanks. Target: T + 10 blanks, then the symbols.

    Example:
        >>> batch = copying_sequences({"symbols": jnp.full((1, 10), 3, jnp.uint8)}, delay=2)
        >>> jnp.argmax(batch["input"][0], -1)[9:13].tolist(), batch["target"][0][11:].tolist()
        ([3, 0, 9, 0], [0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3])
    """
    symbols = batch["symbols"].astype(jnp.int32)
    count = symbols.shape[0]
    blanks, marker = jnp.zeros((count, delay + 10), jnp.int32), jnp.full((count, 1), SYMBOLS + 1)
    given = jnp.concatenate([symbols, blanks[:, : delay - 1], marker, blanks[:, :RECALLED]], axis=1)
    return {
        **batch,
        "input": jax.nn.one_hot(given, SYMBOLS + 2),
        "target": jnp.concatenate([blanks, symbols], axis=1),
    }


def recall(model: Any, batch: Batch) -> dict[str, jax.Array]:
    """Cross-entropy averaged over all T + 20 positions, and the share of the 10 symbols that are right; each [B].

    Raises:
        DimensionMismatch: when the model does not answer at every time.
    """
    logits, target = model(batch["input"]), batch["target"]
    if logits.shape[:-1] != target.shape:
        raise DimensionMismatch(
            f"copying needs logits at every time, {list(target.shape)} of them, the model gives {list(logits.shape)}; "
            "use --model=rnn --model_options=outputs=every"
        )
    right = jnp.argmax(logits[:, -RECALLED:], -1) == target[:, -RECALLED:]
    return {
        # with integer labels the gradient is a scatter, which XLA folds for seconds where the target is constant
        "loss": jnp.mean(optax.softmax_cross_entropy(logits, jax.nn.one_hot(target, logits.shape[-1])), axis=1),
        "accuracy": jnp.mean(right.astype(logits.dtype), axis=1),
    }


def state_spectra(model: Any, batch: Batch, steps: int = 100) -> dict[str, jax.Array]:
    """The state Jacobians J_t = ∂h_t/∂h_{t−1} along the start of one held-out sequence, in four numbers.

    Args:
        model: a network with `state_jacobians`, else nothing is measured.
        batch: prepared examples.
        steps: how many times are taken.

    Returns:
        "lyapunov_max" and "lyapunov_min" (nats a step), "state_sigma_max" and "state_sigma_min" (over ten times).

    Cost: O(steps n³), once an evaluation.
    """
    if not hasattr(model, "state_jacobians"):
        return {}
    J = la.materialize(model.state_jacobians(batch["input"][0, :steps]))
    exponents = la.lyapunov_exponents(J).exponents
    sigma = jax.vmap(la.svdvals)(J[:: max(1, len(J) // 10)])
    return {
        "lyapunov_max": exponents[0],
        "lyapunov_min": exponents[-1],
        "state_sigma_max": jnp.max(sigma),
        "state_sigma_min": jnp.min(sigma),
    }


def copying_baseline(delay: int) -> float:
    """10 log 8 / (T + 20): blanks are certain, the 10 symbols are guessed.

    Example:
        >>> round(copying_baseline(200), 4)
        0.0945
    """
    return RECALLED * math.log(SYMBOLS) / (delay + 20)


def copying(delay: int) -> Task:
    """Repeat 10 symbols after a delay of T steps."""
    return Task(
        input_shape=(delay + 20, SYMBOLS + 2),
        num_classes=SYMBOLS + 1,
        load=sequences.copying,
        prepare=functools.partial(copying_sequences, delay=delay),
        augment=lambda key, batch: batch,
        per_example=recall,
        whole=state_spectra,
        baseline=copying_baseline(delay),
    )


def adding_sequences(batch: Batch, length: int) -> Batch:
    """T uniform numbers and a marker that is 1 at one place of each half, [B, T, 2], and the sum of the two marked.

    Example:
        >>> batch = adding_sequences({"key": jnp.zeros((1, 2), jnp.uint32)}, length=6)
        >>> x, total = batch["input"][0], batch["target"][0]
        >>> x[:, 1].sum().item(), bool(jnp.allclose(x[:, 0] @ x[:, 1], total))
        (2.0, True)
    """

    def draw(data: jax.Array) -> tuple[jax.Array, jax.Array]:
        numbers, first, second = jax.random.split(jax.random.wrap_key_data(data, impl="threefry2x32"), 3)
        half = length // 2
        places = jax.random.randint(first, (), 0, half), jax.random.randint(second, (), half, length)
        marker = jnp.zeros(length).at[jnp.array(places)].set(1.0)
        values = jax.random.uniform(numbers, (length,))
        return jnp.stack([values, marker], axis=-1), values @ marker

    inputs, total = jax.vmap(draw)(batch["key"])
    return {**batch, "input": inputs, "target": total}


def squared_error(model: Any, batch: Batch) -> dict[str, jax.Array]:
    """(output − target)², [B], and whether the error is below 0.04."""
    error = model(batch["input"])[:, 0] - batch["target"]
    return {"loss": error**2, "accuracy": (jnp.abs(error) < 0.04).astype(error.dtype)}


def adding(length: int) -> Task:
    """Add the two marked numbers; the best guess without memory is 1, with a mean squared error of 1/6."""
    return Task(
        input_shape=(length, 2),
        num_classes=1,
        load=sequences.adding,
        prepare=functools.partial(adding_sequences, length=length),
        augment=lambda key, batch: batch,
        per_example=squared_error,
        whole=state_spectra,
        baseline=1 / 6,
    )


@functools.cache
def permutation(pixels: int) -> np.ndarray:
    """The fixed order of the pixels in the permuted tasks, that of the literature for 784.

    Example:
        >>> sorted(permutation(64).tolist()) == list(range(64))
        True
    """
    return np.random.RandomState(92916).permutation(pixels)


def pixels(load: Any, side: int, mean: float, std: float, permuted: bool) -> Task:
    """Classify an image that is read pixel by pixel, in rows or in a fixed random order."""

    def prepare(batch: Batch) -> Batch:
        batch = standardise(batch, (mean,), (std,))
        sequence = batch["input"].reshape(-1, side * side, 1)
        return {**batch, "input": sequence[:, permutation(side * side)] if permuted else sequence}

    return Task(
        input_shape=(side * side, 1),
        num_classes=10,
        load=load,
        prepare=prepare,
        augment=lambda key, batch: batch,
        per_example=cross_entropy,
        whole=state_spectra,
        baseline=math.log(10),
    )


for _delay in (200, 1000, 2000):
    tasks.register(f"copying_{_delay}")(copying(_delay))
for _length in (200, 750):
    tasks.register(f"adding_{_length}")(adding(_length))
for _prefix, _permuted in (("pixel", False), ("permuted", True)):
    tasks.register(f"{_prefix}_digits")(pixels(digits.load, 8, 4.88, 6.02, _permuted))
    tasks.register(f"{_prefix}_mnist")(pixels(idx.load, 28, 33.3, 78.6, _permuted))
    tasks.register(f"{_prefix}_mnist_5k")(pixels(mnist_subset.load, 28, 33.3, 78.6, _permuted))
