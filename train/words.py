"""Where word vectors come from: a text by PPMI and SVD, a run of the skip-gram task, or a file."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

import models
from train import checkpoints, config as configs
from train.data import text
from train.errors import CheckpointError, ConfigError
from train.tasks.language import VOCABULARY


def vectors_of(path: str = "", workdir: str = "", vectors: str = "", width: int = 64, window: int = 5) -> Any:
    """Word vectors from a file of vectors, else from a run, else from a text.

    Args:
        path: a text file; CPython's help topics if empty.
        workdir: folder of a run of the task skipgram.
        vectors: file of vectors.
        width, window: of PPMI and SVD.

    Returns:
        `models.WordVectors`.

    Raises:
        ConfigError: when the workdir holds no skip-gram.
        CheckpointError: when it has no usable checkpoint.
        DataError, LinearAlgebraError: when a file cannot be used.

    Example:
        >>> vectors_of(width=8).vectors.shape
        (2000, 8)
    """
    if vectors:
        return models.load_vectors(vectors)
    if workdir:
        config = configs.load(workdir)
        if config.task != "skipgram":
            raise ConfigError(f"{workdir} is a run of task {config.task!r}; train --task=skipgram --model=skipgram")
        steps = checkpoints.steps(pathlib.Path(workdir))
        if not steps:
            raise CheckpointError(f"no checkpoints in {workdir}")
        model: Any = checkpoints.restore(workdir, steps[-1])
        words = text.corpus(text.read(config.data_dir), VOCABULARY).words
        return models.WordVectors(words, np.asarray(model.embedding[...])[: len(words)])
    words, numbers = text.corpus(text.read(path), VOCABULARY)
    return models.ppmi_svd(words, text.cooccurrences(numbers, len(words), window), min(width, len(words)))
