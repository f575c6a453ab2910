"""Data sets as arrays in memory: a training part and a held-out part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


class Data(NamedTuple):
    """Arrays by name, such as "image" and "label", each with the examples along its first axis."""

    train: Arrays
    test: Arrays
