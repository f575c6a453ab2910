"""Where the taps of a convolution land: pure integers, known before anything is computed.

In one dimension output m reads input j = m S − p + t D with tap t, where that input exists; a convolution in d
dimensions is the product of d such axes, so that everything below is one-dimensional.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import DimensionMismatch, UnknownNameError

Padding = str | int | Sequence[int | tuple[int, int]]
Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Axis:
    """One dimension of a convolution.

    Attributes:
        inputs, outputs, taps: numbers of positions and of kernel entries.
        stride, front, dilation: S, p and D of j = m S − p + t D.
        circular: whether j counts modulo `inputs`; `taps` then span at most `inputs`.

    Example:
        >>> print(Axis(inputs=3, outputs=3, taps=3, stride=1, front=1, dilation=1, circular=False).table)
        [[1 2 3]
         [0 1 2]
         [3 0 1]]
    """

    inputs: int
    outputs: int
    taps: int
    stride: int
    front: int
    dilation: int
    circular: bool

    def tap(self, m: np.ndarray, j: np.ndarray) -> np.ndarray:
        """The tap by which output m reads input j, `taps` where there is none."""
        distance = j - m * self.stride + self.front
        if self.circular:
            distance = distance % self.inputs
        t, rest = np.divmod(distance, self.dilation)
        return np.where((rest == 0) & (t >= 0) & (t < self.taps), t, self.taps).astype(np.int32)

    @functools.cached_property
    def table(self) -> np.ndarray:
        """`tap` of all outputs and inputs, [outputs, inputs]."""
        return self.tap(np.arange(self.outputs)[:, None], np.arange(self.inputs)[None, :])

    @functools.cached_property
    def reads(self) -> np.ndarray:
        """The input that each output reads with each tap, −1 where it lies in the padding, [outputs, taps]."""
        j = np.arange(self.outputs)[:, None] * self.stride - self.front + np.arange(self.taps)[None, :] * self.dilation
        return j % self.inputs if self.circular else np.where((j >= 0) & (j < self.inputs), j, -1)

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """How many outputs read an input with each tap, [taps]."""
        return np.sum(self.reads >= 0, axis=0)


@dataclass(frozen=True)
class Part:
    """Connected components of an axis that look alike: the outputs and inputs of each, and their common tap table.

    Attributes:
        table: taps as in `Axis.table`, [p, q].
        rows, columns: the outputs [count, p] and inputs [count, q] of each component.
    """

    table: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


@functools.lru_cache(maxsize=256)
def parts(axis: Axis) -> tuple[Part, ...]:
    """The connected components of "output m reads input j", those with the same taps together.

    A stride of at least the kernel's size leaves one component per output; a dilation D leaves D interleaved ones. The
    matrix is the direct sum of its components; inputs and outputs in none of them are zero columns and rows.

    Example:
        >>> patches = Axis(inputs=4, outputs=2, taps=2, stride=2, front=0, dilation=1, circular=False)
        >>> [(p.table.tolist(), p.columns.tolist()) for p in parts(patches)]
        [([[0, 1]], [[0, 1], [2, 3]])]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    m, t = np.nonzero(axis.reads >= 0)
    j = axis.reads[m, t]
    nodes = axis.outputs + axis.inputs
    graph = coo_array((np.ones(m.size), (m, axis.outputs + j)), shape=(nodes, nodes))
    _, label = connected_components(graph, directed=False)
    outputs, inputs = label[: axis.outputs], label[axis.outputs :]
    alike: dict[tuple, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for component in np.intersect1d(outputs, inputs):
        rows, columns = np.flatnonzero(outputs == component), np.flatnonzero(inputs == component)
        table = axis.tap(rows[:, None], columns[None, :])
        order = np.lexsort(table[::-1])  # a component that wraps around differs only in the order of its inputs
        table, columns = table[:, order], columns[order]
        alike.setdefault((table.shape, table.tobytes()), []).append((table, rows, columns))
    return tuple(Part(found[0][0], *(np.stack([f[i] for f in found]) for i in (1, 2))) for found in alike.values())


def flat_index(axes: Iterable[np.ndarray], sizes: Sequence[int], channels: np.ndarray, count: int) -> np.ndarray:
    """Positions of (i₁, i₂, …, channel) in a flattened image of these sizes and `count` channels, as an outer product.

    Example:
        >>> print(flat_index([np.array([0, 2])], [3], np.arange(2), 2))
        [[0 1]
         [4 5]]
    """
    index = np.zeros((), np.int64)
    for positions, size in zip(axes, sizes):
        index = index[..., None] * size + positions
    return index[..., None] * count + channels


def gather_taps(kernel: jax.Array, tables: Sequence[np.ndarray]) -> jax.Array:
    """The kernel's entries laid out as a matrix by one tap table [p_a, q_a] for each spatial axis.

    Args:
        kernel: [*taps, cin, cout].
        tables: taps, with the number of taps where the entry is zero.

    Returns:
        The matrix [p₁ p₂ … cout, q₁ q₂ … cin].

    Example:
        >>> import jax.numpy as jnp
        >>> print(gather_taps(jnp.array([5.0, 6.0])[:, None, None], [np.array([[0, 1], [2, 0]])]))
        [[5. 6.]
         [0. 5.]]
    """
    d = len(tables)
    for a in reversed(range(d)):
        kernel = jnp.take(kernel, tables[a], axis=a, mode="fill", fill_value=0)
    p, q = (int(np.prod([t.shape[i] for t in tables], dtype=int)) for i in (0, 1))
    cin, cout = kernel.shape[2 * d :]
    kernel = kernel.transpose(*range(0, 2 * d, 2), 2 * d + 1, *range(1, 2 * d, 2), 2 * d)
    return kernel.reshape(p * cout, q * cin)


def per_dimension(name: str, value: int | Sequence[int], d: int) -> tuple[int, ...]:
    """A positive integer, or one for each of d dimensions, as a tuple.

    Raises:
        DimensionMismatch: for anything else.

    Example:
        >>> per_dimension("stride", 2, 2)
        (2, 2)
    """
    values = (value,) * d if isinstance(value, int | np.integer) else tuple(value)
    if len(values) != d or any(not isinstance(v, int | np.integer) or v < 1 for v in values):
        raise DimensionMismatch(f"{name} takes a positive integer or {d} of them, got {value!r}")
    return tuple(int(v) for v in values)


def same_pads(extent: Sequence[int]) -> Pads:
    """The (front, behind) padding that keeps the size at stride 1: (k − 1) // 2 in front and k // 2 behind.

    Example:
        >>> same_pads((3, 4))
        ((1, 1), (1, 2))
    """
    return tuple(((k - 1) // 2, k // 2) for k in extent)


def normal_padding(padding: Padding, extent: Sequence[int]) -> str | Pads:
    """"circular", or the explicit (front, behind) pairs of a padding given in any of its forms.

    Raises:
        UnknownNameError, DimensionMismatch: for anything else.

    Example:
        >>> normal_padding("valid", (3,)), normal_padding(1, (3, 3))
        (((0, 0),), ((1, 1), (1, 1)))
    """
    d = len(extent)
    if isinstance(padding, str):
        if padding == "circular":
            return padding
        if padding == "valid":
            return ((0, 0),) * d
        if padding == "zero":
            return same_pads(extent)
        raise UnknownNameError.of("padding", padding, ("zero", "circular", "valid"))
    sides = (padding,) * d if isinstance(padding, int) else tuple(padding)
    pairs = tuple((p, p) if isinstance(p, int) else tuple(p) for p in sides)
    if len(pairs) != d or any(len(p) != 2 or min(p) < 0 for p in pairs):
        raise DimensionMismatch(f"padding takes {d} (front, behind) pairs of non-negative sizes, got {padding!r}")
    return pairs  # type: ignore[return-value]
