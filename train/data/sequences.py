"""Sequences that test memory: symbols to copy after a delay, and pairs of numbers to add up."""

from __future__ import annotations

import numpy as np

from train.data import Arrays, Data

TRAIN, TEST = 131_072, 2_000
RECALLED = 10  # symbols to remember
SYMBOLS = 8


def copying(data_dir: str = "", split_seed: int = 0) -> Data:
    """131,072 training and 2,000 test examples of 10 symbols out of 1…8, uniform and independent, whatever the delay.

    Example:
        >>> copying().train["symbols"].shape
        (131072, 10)

    Source: Hochreiter and Schmidhuber, Neural Computation 9 (1997); in this form Arjovsky et al., arXiv:1511.06464.
    """

    def draw(count: int, part: int) -> Arrays:
        symbols = np.random.default_rng([split_seed, part]).integers(1, SYMBOLS + 1, (count, RECALLED), dtype=np.uint8)
        return {"symbols": symbols, "label": np.zeros(count, np.int32)}

    return Data(draw(TRAIN, 0), draw(TEST, 1))


def adding(data_dir: str = "", split_seed: int = 0) -> Data:
    """131,072 training and 2,000 test examples as keys, from which the device draws the numbers and the two places.

    Example:
        >>> adding().test["key"].shape
        (2000, 2)
    """

    def draw(count: int, part: int) -> Arrays:
        key = np.random.default_rng([split_seed, part, 2]).integers(0, 2**32, (count, 2), dtype=np.uint32)
        return {"key": key, "label": np.zeros(count, np.int32)}

    return Data(draw(TRAIN, 0), draw(TEST, 1))
