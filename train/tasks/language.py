"""Skip-gram: from a word to the words around it, on CPython's help or the text file that `data_dir` names."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.data import Data, text
from train.errors import DataError
from train.tasks.base import Batch, Task, tasks

VOCABULARY, WINDOW = 2000, 5


def load(data_dir: str = "", split_seed: int = 0) -> Data:
    """All pairs of words at most 5 apart, those of every tenth stretch of 1,000 running words held out.

    Example:
        >>> data = load()
        >>> sorted(data.train), len(data.train["word"]) > 5 * len(data.test["word"])
        (['context', 'word'], True)

    Raises:
        DataError: when the text cannot be read, or is too short to hold some of it out.
    """
    numbers = text.corpus(text.read(data_dir), VOCABULARY).numbers
    stretches = np.array_split(numbers, max(10, len(numbers) // 1000))
    parts = ([s for i, s in enumerate(stretches) if (i + split_seed) % 10 != 9], stretches[9 - split_seed % 10 :: 10])
    arrays = []
    for part in parts:
        found = [text.pairs(stretch, WINDOW) for stretch in part if len(stretch) > WINDOW]
        if not found:
            raise DataError(f"a text of {len(numbers)} words is too short; {10 * (WINDOW + 1)} are needed at least")
        word, context = (np.concatenate([pair[side] for pair in found]).astype(np.int32) for side in (0, 1))
        arrays.append({"word": word, "context": context})
    return Data(*arrays)


def context_loss(model: Any, batch: Batch) -> dict[str, jax.Array]:
    """Cross-entropy of the context word under softmax(model(word)); [B]."""
    return {"loss": optax.softmax_cross_entropy_with_integer_labels(model(batch["input"]), batch["context"])}


tasks.register("skipgram")(
    Task(
        input_shape=(),
        num_classes=VOCABULARY,
        load=load,
        prepare=lambda batch: {**batch, "input": batch["word"]},
        augment=lambda key, batch: batch,
        per_example=context_loss,
        input_dtype=jnp.int32,
    )
)
