"""Entries of compositions of two-dimensional convolutions, by bands of image rows.

A row of the output image depends on a few rows of the input image only. The derivative is built from the output to the
input: after each convolution, output row h is one matrix [p, b·q] over the b input rows that it reaches, p and q being
the values in one row of either image. A convolution takes such a band to a wider one by one matrix product, since its
taps are the same for every h and b; what each b gives is added up where it is used. Zeros outside of the band are
neither multiplied nor stored.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.jacobian.graph import Graph, Node, Term
from lax_linalg.jacobian.slabs import ONE_PASS, Memory, row_matrices
from lax_linalg.operators.convolution.convolution import Convolution

FEW = 4
"""Parts of a band that are cheaper to add where they are used than in a pass of its own."""


class Unsupported(Exception):
    """The graph has something else than convolutions of images, scalings and sums."""


class Diagonal(NamedTuple):
    """diag(scale) from an image onto itself; None for the identity."""

    scale: jax.Array | None


class _Part(NamedTuple):
    """Blocks [h, p, b, q] of a band, from its output row `row` and its input row `offset` on.

    What is meant is blocks · diag(factors) with `factors` [height, q] of the input image; ones if it is None.
    """

    blocks: jax.Array
    row: int = 0
    offset: int = 0
    factors: Any = None


class _Band(NamedTuple):
    """Output row h by input row stride · h − front + b: blocks[h, :, b, :]; of no meaning where there is no such row.

    `shape` is that of the blocks, (H, p, width, q); they are the sum of `parts`, which are none where costs are
    counted; h counts from `first`, 0 unless it is a share.
    """

    shape: tuple[int, int, int, int]
    parts: tuple[_Part, ...]
    stride: int
    front: int
    first: Any = 0

    @property
    def width(self) -> int:
        return self.shape[2]

    @property
    def blocks(self) -> jax.Array:
        """All blocks, zero where no part is."""
        if len(self.parts) == 1 and self.parts[0].blocks.shape == self.shape:
            return self.multiplied(self.parts[0])
        total = jnp.zeros(self.shape, self.parts[0].blocks.dtype)
        for part in self.parts:
            count, _, width, _ = part.blocks.shape
            at = slice(part.row, part.row + count), slice(None), slice(part.offset, part.offset + width)
            total = total.at[at].add(self.multiplied(part))
        return total

    def multiplied(self, part: _Part) -> jax.Array:
        """The blocks of a part with its factors."""
        if part.factors is None:
            return part.blocks
        count, _, width, _ = part.blocks.shape
        rows = self.rows()[part.row : part.row + count, part.offset : part.offset + width]
        clip = np.clip if isinstance(rows, np.ndarray) else jnp.clip
        return part.blocks * part.factors[clip(rows, 0, part.factors.shape[0] - 1)][:, None]

    def few(self) -> _Band:
        """The same of one part, unless the parts are so few that they may as well be added where they are used."""
        return self if len(self.parts) <= FEW else self._replace(parts=(_Part(self.blocks),))

    def column(self, low: int, high: int, b: int) -> jax.Array:
        """blocks[low:high, :, b], [h, p, q], of a band of one part where `first` is static and all rows are inside."""
        (part,) = self.parts
        blocks = part.blocks[low:high, :, b]
        if part.factors is None:
            return blocks
        first = low * self.stride - self.front + b
        return blocks * part.factors[first : first + (high - low - 1) * self.stride + 1 : self.stride][:, None]

    def rows(self) -> Any:
        """The input row of each block, [H, width]; static where `first` is."""
        return (np.arange(self.shape[0])[:, None] + self.first) * self.stride - self.front + np.arange(self.width)

    def inside(self, height: int) -> Any:
        """Whether an image of that height has the row."""
        return (self.rows() >= 0) & (self.rows() < height)


def banded_cost(graph: Graph, *, shared: bool = False) -> float | None:
    """FLOPs, and entries written beside the output, of `banded_entries`; None where it cannot serve.

    With `shared`, those of all shares of `banded_rows`, which leave nothing out at the image's borders.

    Example:
        >>> import lax_linalg as la
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> conv = la.Convolution(jnp.ones((3, 3, 1, 1)), (9, 9))
        >>> f = lambda x: conv.apply(jnp.tanh(conv.apply(x[None])))[0]
        >>> banded_cost(derivative_graph(f, jnp.zeros((9, 9, 1))))
        128304.0
    """
    walk = Walk.counted(graph, shared=shared)
    return None if walk is None else walk.cost


def banded_entries(graph: Graph, shape: tuple[int, int], dtype: Any, *, into: Memory | None = None) -> jax.Array:
    """All entries [m, n] of a derivative that `banded_cost` can serve; `into` as for `convolution_entries`.

    Example:
        >>> import lax_linalg as la
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> conv = la.Convolution(jnp.ones((3, 1, 1, 1)), (4, 1))
        >>> graph = derivative_graph(lambda x: conv.apply(conv.apply(x[None]))[0], jnp.zeros((4, 1, 1)))
        >>> print(banded_entries(graph, (4, 4), jnp.float32))
        [[2. 2. 1. 0.]
         [2. 3. 2. 1.]
         [1. 2. 3. 2.]
         [0. 1. 2. 2.]]
    """
    band, height = Walk(dtype).band(graph), image_of(graph.input)[0]
    count, p, width, q = band.shape
    pattern = ("bands", shape, band.shape, height, band.stride, band.front)
    matrix = None if into is None else into(pattern)
    if matrix is None and count <= ONE_PASS:
        band = band.few()
        return jnp.stack([_output_row(band, h, height) for h in range(count)]).reshape(shape).astype(dtype)
    matrix = jnp.zeros(shape, dtype) if matrix is None else matrix
    blocks, rows, inside = band.blocks.astype(dtype), band.rows(), band.inside(height)
    whole = np.flatnonzero(inside.all(axis=1))
    first, inner = (int(whole[0]), whole.size) if whole.size else (count, 0)

    def write(h: jax.Array, matrix: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(
            matrix, blocks[h].reshape(p, width * q), (h * p, (h * band.stride - band.front) * q)
        )

    if inner:
        matrix = jax.lax.fori_loop(first, first + inner, write, matrix)
    for h in (*range(first), *range(first + inner, count)):
        reached = np.flatnonzero(inside[h])
        if reached.size:
            low, high = int(reached[0]), int(reached[-1]) + 1
            part = blocks[h, :, low:high].reshape(p, (high - low) * q)
            matrix = jax.lax.dynamic_update_slice(matrix, part, (h * p, int(rows[h, low]) * q))
    return matrix


def _output_row(band: _Band, h: int, height: int) -> jax.Array:
    """All entries of one output row, [p, height · q], the sum of the parts at their places."""
    p, q = band.shape[1], band.shape[3]
    total: Any = jnp.zeros((p, height * q), band.parts[0].blocks.dtype)
    for blocks, row, offset, factors in band.parts:
        if row <= h < row + blocks.shape[0]:
            first = h * band.stride - band.front + offset
            low, high = max(0, -first), min(blocks.shape[2], height - first)
            if low < high:
                part = blocks[h - row, :, low:high]
                part = part if factors is None else part * factors[first + low : first + high]
                edges = ((first + low) * q, (height - first - high) * q)
                total = total + jnp.pad(part.reshape(p, (high - low) * q), ((0, 0), edges))
    return total


def banded_rows(graph: Graph, first: jax.Array, count: int, dtype: Any) -> jax.Array:
    """The rows of the matrix that belong to the output image's rows first … first + count − 1, [count · p, n].

    `first` may be traced, as a device's share is.

    Example:
        >>> import lax_linalg as la
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> conv = la.Convolution(jnp.ones((3, 1, 1, 1)), (4, 1))
        >>> graph = derivative_graph(lambda x: conv.apply(conv.apply(x[None]))[0], jnp.zeros((4, 1, 1)))
        >>> print(banded_rows(graph, jnp.int32(2), 2, jnp.float32))
        [[1. 2. 3. 2.]
         [0. 1. 2. 2.]]
    """
    band = Walk(dtype, first, count).band(graph)
    blocks, height = band.blocks.astype(dtype), image_of(graph.input)[0]
    _, p, width, q = band.shape
    total = image_of(graph.output.source)[0]  # type: ignore[union-attr]
    front, back = max(band.front, 0), max((total - 1) * band.stride - band.front + width - height, 0)
    matrix = jnp.zeros((count * p, (front + height + back) * q), dtype)

    def write(h: jax.Array, matrix: jax.Array) -> jax.Array:
        column = ((first + h) * band.stride - band.front + front) * q
        return jax.lax.dynamic_update_slice(matrix, blocks[h].reshape(p, width * q), (h * p, column))

    return jax.lax.fori_loop(0, count, write, matrix)[:, front * q : (front + height) * q]


def image_rows(graph: Graph) -> int:
    """How many rows the output's image has, which `banded_rows` can share.

    Example:
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> image_rows(derivative_graph(jnp.tanh, jnp.zeros((8, 6, 2))))
        8
    """
    assert graph.output is not None
    return image_of(graph.output.source)[0]


class Walk:
    """Carries the derivative of the output by each node from the last node to the input.

    Args:
        dtype: of the entries; None to count costs only.
        first, count: a share of the output image's rows; all of them unless given.
    """

    def __init__(self, dtype: Any, first: Any = None, count: int = 0):
        self.dtype, self.first, self.count, self.cost = dtype, first, count, 0.0
        self.shared, self.peak, self.rows = first is not None, 0, 0

    @classmethod
    def counted(cls, graph: Graph, *, shared: bool = False) -> Self | None:
        """The walk without numbers, for its `cost` and its `peak`, the entries of its largest array; None if it cannot.

        Example:
            >>> import lax_linalg as la
            >>> from lax_linalg.jacobian.graph import derivative_graph
            >>> conv = la.Convolution(jnp.ones((3, 1, 1, 1)), (4, 1))
            >>> graph = derivative_graph(lambda x: conv.apply(conv.apply(x[None]))[0], jnp.zeros((4, 1, 1)))
            >>> Walk.counted(graph).peak
            30
        """
        walk = cls(None)
        walk.shared = shared
        try:
            walk.band(graph)
        except Unsupported:
            return None
        return walk

    def height(self, node: Node) -> int:
        """How many rows of a node's image are at hand, where it is the output's."""
        return image_of(node)[0] if self.first is None else self.count

    def share(self, values: jax.Array) -> jax.Array:
        """The share of what there is for each of the output image's rows, [H, …]."""
        return values if self.first is None else jax.lax.dynamic_slice_in_dim(values, self.first, self.count)

    def band(self, graph: Graph) -> _Band:
        out = graph.output
        if out is None or out.operator is not None or out.index is not None:
            raise Unsupported
        self.rows = image_of(out.source)[0]
        pending: dict[int, list[Diagonal | _Band]] = {id(out.source): [Diagonal(out.scale)]}
        for node in reversed(graph.nodes[1:]):
            if id(node) not in pending:
                continue
            total = self.total(pending.pop(id(node)), node)
            for term in node.terms:
                pending.setdefault(id(term.source), []).append(self.through(total, term, node))
        found = self.total(pending.pop(id(graph.input), []), graph.input)
        if isinstance(found, Diagonal):
            raise Unsupported
        return found

    def through(self, left: Diagonal | _Band, term: Term, node: Node) -> Diagonal | _Band:
        """left · operator · diag(scale), `left` ending at `node`."""
        A = term.operator
        if term.index is not None:
            raise Unsupported
        if A is None:
            if not isinstance(left, Diagonal):
                return left if term.scale is None else self.scaled(left, term.scale, term.source)
            return Diagonal(_times(left.scale, term.scale))
        if not isinstance(A, Convolution) or len(A.out_spatial) != 2 or A.circular:
            raise Unsupported
        if (*A.spatial, A.in_channels) != image_of(term.source):  # type: ignore[misc]
            raise Unsupported
        return self.scaled(self.convolved(left, A, node), term.scale, term.source)

    def convolved(self, left: Diagonal | _Band, A: Convolution, node: Node) -> _Band:
        """left · A as a band."""
        k, stride, dilation, front = A.kernel.shape[0], A.stride[0], A.dilation[0], A.pads[0][0]  # type: ignore[index]
        reach = (k - 1) * dilation + 1
        height, p, q = image_of(node)[0], math.prod(image_of(node)[1:]), A.spatial[1] * A.in_channels  # type: ignore[index]
        origin = 0 if self.first is None else self.first
        if isinstance(left, Diagonal):
            shape = (self.height(node), p, reach, q)
            self.cost += 2.0 * math.prod(shape)
            self.peak = max(self.peak, math.prod(shape))
            if self.dtype is None:
                return _Band(shape, (), stride, front)
            taps = row_matrices(A)
            blocks = jnp.zeros((p, reach, q), A.dtype).at[:, ::dilation].set(taps) if dilation > 1 else taps
            rows = jnp.ones((), blocks.dtype) if left.scale is None else left.scale
            rows = self.share(jnp.broadcast_to(rows.reshape(-1), (height * p,)).reshape(height, p, 1, 1))
            return _Band(shape, (_Part(blocks[None] * rows),), stride, front, origin)
        steps, rows, width, r = left.shape
        shape = (steps, rows, stride * (width - 1) + reach, q)
        self.cost += 4.0 * math.prod(shape)
        self.peak = max(self.peak, math.prod(shape))
        inside = left.inside(height)
        # with shares, which rows there are is not known to the program: all take part, some as zeros
        known = np.ones((steps, width), bool) if self.shared else inside
        # the rows that the image in between does not have take no part
        taken = [(int(h[0]), int(h[-1]) + 1, b) for b in range(width) if (h := np.flatnonzero(known[:, b])).size]
        count = sum(high - low for low, high, _ in taken)
        self.cost += 2.0 * count * rows * r * k * q
        self.peak = max(self.peak, count * rows * k * q)
        if self.dtype is None:
            return _Band(shape, (), stride * left.stride, stride * left.front + front)
        if self.shared:
            left = left._replace(parts=(_Part(jnp.where(inside[:, None, :, None], left.blocks, 0)),))
        elif [part.blocks.shape for part in left.parts] != [left.shape]:
            left = left._replace(parts=(_Part(left.blocks),))
        stacked = jnp.concatenate([left.column(low, high, b).reshape(-1, r) for low, high, b in taken])
        taps = row_matrices(A).reshape(r, k * q).astype(stacked.dtype)
        products = (stacked @ taps).reshape(count, rows, k, q)
        if dilation > 1:
            edges = ((0, 0, 0), (0, 0, 0), (0, 0, dilation - 1), (0, 0, 0))
            products = jax.lax.pad(products, jnp.zeros((), products.dtype), edges)
        parts, at = [], 0
        for low, high, b in taken:
            parts.append(_Part(products[at : at + high - low], low, stride * b))
            at += high - low
        return _Band(shape, tuple(parts), stride * left.stride, stride * left.front + front, origin)

    def scaled(self, band: _Band, scale: jax.Array | None, source: Node) -> _Band:
        """band · diag(scale)."""
        height, q = image_of(source)[0], math.prod(image_of(source)[1:])
        if self.dtype is None or scale is None:
            return band
        if jnp.ndim(scale) == 0:
            return band._replace(parts=tuple(part._replace(blocks=part.blocks * scale) for part in band.parts))
        # rows picked by number are computed once: XLA does not repeat a gather for every entry that it is a factor of
        factors = scale.reshape(height, q).at[np.arange(height)].get(mode="promise_in_bounds")
        before = (1.0 if part.factors is None else part.factors for part in band.parts)
        return band._replace(parts=tuple(part._replace(factors=factors * f) for part, f in zip(band.parts, before)))

    def diagonal_sum(self, diagonals: list[Diagonal]) -> Any:
        """The factors of a sum of diagonals; None for ones."""
        scale: Any = diagonals[0].scale if diagonals else None
        for part in diagonals[1:]:
            scale = (1.0 if scale is None else scale) + (1.0 if part.scale is None else part.scale)
        return scale

    def total(self, parts: list[Diagonal | _Band], node: Node) -> Diagonal | _Band:
        """The sum of what leads to one node."""
        bands = [part for part in parts if isinstance(part, _Band)]
        diagonals = [part for part in parts if isinstance(part, Diagonal)]
        if not parts:
            raise Unsupported
        scale = self.diagonal_sum(diagonals)
        if not bands:
            return Diagonal(scale)
        fronts = [band.front for band in bands] + [0] * bool(diagonals)
        backs = [band.width - band.front for band in bands] + [1] * bool(diagonals)
        if {band.stride for band in bands} != {bands[0].stride} or (diagonals and bands[0].stride != 1):
            raise Unsupported
        front, back = max(fronts), max(backs)
        count, p, _, q = bands[0].shape
        shape = (count, p, front + back, q)
        self.cost += 2.0 * math.prod(shape) * (len(parts) - 1)
        if self.dtype is None:
            return _Band(shape, (), bands[0].stride, front)
        moved = [part._replace(offset=part.offset + front - b.front) for b in bands for part in b.parts]
        if diagonals:
            values = jnp.ones((), moved[0].blocks.dtype) if scale is None else jnp.asarray(scale)
            values = self.share(jnp.broadcast_to(values.reshape(-1), (image_of(node)[0] * p,)).reshape(-1, p))
            here = jnp.where(jnp.eye(p, dtype=bool)[:, None], values[:, :, None, None], 0)
            moved.append(_Part(here, 0, front))
        return _Band(shape, tuple(moved), bands[0].stride, front, bands[0].first)


def image_of(node: Node) -> tuple[int, ...]:
    """(H, W, channels) of one image, which may be a batch of one."""
    shape = node.shape[1:] if len(node.shape) == 4 and node.shape[0] == 1 else node.shape
    if len(shape) != 3:
        raise Unsupported
    return shape


def _times(a: jax.Array | None, b: jax.Array | None) -> jax.Array | None:
    if a is None or b is None:
        return b if a is None else a
    return (a.reshape(-1) if jnp.ndim(a) else a) * (b.reshape(-1) if jnp.ndim(b) else b)
