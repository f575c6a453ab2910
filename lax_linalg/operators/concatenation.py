"""Matrices of blocks side by side and on top of each other: sums of the blocks put in their places."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from lax_linalg.core.operator import LinearOperator, MatrixLike, as_part
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.selection import Selection


def block(rows: Sequence[Sequence[MatrixLike]]) -> LinearOperator:
    """The matrix of the given blocks, [[A, B], [C, D]].

    Args:
        rows: the rows of blocks, operators or arrays; blocks of a row have one height and the rows one width.

    Returns:
        The operator, a lazy sum of the blocks in their places, whose products are those of the blocks.

    Raises:
        DimensionMismatch: unless the sizes fit, or without a block.

    Example:
        >>> import lax_linalg as la
        >>> A = la.Circulant([1.0, 2.0])
        >>> print(la.block([[A, la.I(2)], [la.I(2), A]]) @ [1.0, 0.0, 0.0, 1.0])
        [1. 3. 3. 1.]
    """
    return vcat(*(hcat(*row) for row in rows))


def hcat(*blocks: MatrixLike) -> LinearOperator:
    """Blocks of one height side by side, [A B …]; as `block`.

    Example:
        >>> import lax_linalg as la
        >>> la.hcat(la.I(2), la.Circulant([1.0, 2.0])).shape
        (2, 4)
    """
    parts = _parts(blocks, 0, "hcat puts blocks of one height side by side")
    ends = np.cumsum([part.shape[1] for part in parts])
    total = int(ends[-1])
    placed = [part @ Selection(jnp.arange(end - part.shape[1], end), total) for part, end in zip(parts, ends)]
    return sum(placed[1:], placed[0])


def vcat(*blocks: MatrixLike) -> LinearOperator:
    """Blocks of one width on top of each other; as `block`.

    Example:
        >>> import lax_linalg as la
        >>> la.vcat(la.I(2), la.Circulant([1.0, 2.0])).shape
        (4, 2)
    """
    parts = _parts(blocks, 1, "vcat puts blocks of one width on top of each other")
    ends = np.cumsum([part.shape[0] for part in parts])
    rows = np.arange(ends[-1])
    placed = []
    for part, end in zip(parts, ends):
        m = part.shape[0]
        inside = (rows >= end - m) & (rows < end)
        placed.append(Selection(jnp.asarray(np.where(inside, rows - (end - m), -1)), m) @ part)
    return sum(placed[1:], placed[0])


def _parts(blocks: Sequence[MatrixLike], axis: int, rule: str) -> list[LinearOperator]:
    parts = [as_part(part) for part in blocks]
    if not parts:
        raise DimensionMismatch(f"{rule}, got none")
    if len({part.shape[axis] for part in parts}) > 1:
        sizes = ", ".join("{}×{}".format(*part.shape) for part in parts)
        raise DimensionMismatch(f"{rule}, got {sizes}")
    return parts
