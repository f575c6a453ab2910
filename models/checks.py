"""Checks of the numbers that models are built from, with one message each."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError


def positive(name: str, value: Any, *, minimum: int = 1) -> int:
    """`value` as an integer ≥ `minimum`.

    Args:
        name: what the number is, for the message.
        value: any integer type.
        minimum: the smallest number allowed.

    Returns:
        A Python integer.

    Raises:
        DimensionMismatch: for anything else, naming what was given.

    Example:
        >>> positive("width", -3)
        Traceback (most recent call last):
        lax_linalg.errors.DimensionMismatch: width must be an integer ≥ 1, got -3
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if number < minimum or isinstance(value, bool):
        raise DimensionMismatch(f"{name} must be an integer ≥ {minimum}, got {value!r}")
    return number


def sizes(name: str, values: Any, *, length: int | None = None, minimum: int = 1) -> tuple[int, ...]:
    """`values` as a tuple of integers ≥ `minimum`; one number stands for `length` equal ones.

    Args:
        name: what the numbers are, for the message.
        values: a sequence of integers, or one integer where `length` is given.
        length: how many there must be.
        minimum: the smallest number allowed.

    Returns:
        A tuple of Python integers.

    Raises:
        DimensionMismatch: for anything else, naming what was given.

    Example:
        >>> sizes("kernel_size", 3, length=2)
        (3, 3)
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        if length is None:
            raise DimensionMismatch(f"{name} must be a sequence of integers, got {values!r}")
        values = (values,) * length
    if length is not None and len(values) != length:
        raise DimensionMismatch(f"{name} takes {length} integers, got {values!r}")
    return tuple(positive(name, v, minimum=minimum) for v in values)


def probability(name: str, value: Any) -> float:
    """`value` as a number in [0, 1).

    Args:
        name: what the number is, for the message.
        value: any real number.

    Returns:
        A Python float.

    Raises:
        LinearAlgebraError: outside [0, 1).

    Example:
        >>> probability("dropout", 0.5)
        0.5
    """
    if isinstance(value, (int, float)) and 0 <= value < 1:
        return float(value)
    raise LinearAlgebraError(f"{name} must be a number in [0, 1), got {value!r}")
