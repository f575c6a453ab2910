"""Data sets as arrays in memory: for training, for selection, and for the final report."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from train.errors import DataError

Arrays = dict[str, np.ndarray]


class Data(NamedTuple):
    """Arrays by name, such as "image" and "label", each with the examples along its first axis.

    `validation` is for every choice that is made during or after training; `test` is measured at the end.
    """

    train: Arrays
    test: Arrays
    validation: Arrays | None = None

    @property
    def held_out(self) -> Arrays:
        """What is measured during training: the validation examples, or the test ones where there are none."""
        return self.test if self.validation is None else self.validation


def split_off(arrays: Arrays, count: int, seed: int) -> tuple[Arrays, Arrays]:
    """Take `count` examples away at random, of each label in the same proportion: a function of (arrays, count, seed).

    Args:
        arrays: examples along the first axes, with their "label".
        count: how many to take.
        seed: of the choice.

    Returns:
        (the rest, those taken), both in random order.

    Raises:
        DataError: when there would be fewer than one of each label on either side.

    Example:
        >>> rest, taken = split_off({"label": np.repeat([0, 1], [30, 10])}, count=8, seed=0)
        >>> np.bincount(rest["label"]).tolist(), np.bincount(taken["label"]).tolist()
        ([24, 8], [6, 2])
    """
    from sklearn.model_selection import train_test_split

    label = arrays["label"]
    examples, classes = len(label), len(np.unique(label))
    if not classes <= count <= examples - classes:
        raise DataError(
            f"{count} of {examples} examples cannot be held out: between {classes} and {examples - classes} can, "
            "so that each label is on both sides"
        )
    parts = train_test_split(np.arange(examples), test_size=count, stratify=label, random_state=seed)
    rest, taken = ({name: array[part] for name, array in arrays.items()} for part in parts)
    return rest, taken
