"""Entries of compositions of two-dimensional convolutions, by windows of pixels.

As by bands (bands.py), but a pixel of the output is known to depend on a window of the input in both dimensions: the
derivative of the channels at output pixel (h, w) is one matrix [channels, a·b·channels'] over the a×b input pixels that
it reaches. A convolution takes all windows to wider ones by one matrix product, since its taps are the same
everywhere. For images several times larger than the windows; bands have fewer entries to place where they are not.

Pixels beside the image are zeros in those products, so that an infinite tap, or NaN, makes NaN of entries at the border
that it is no part of. The product of the convolutions' dense matrices and `jax.jacobian` have more such entries.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.jacobian.bands import Diagonal, Unsupported, Walk, image_of
from lax_linalg.jacobian.graph import Graph, Node
from lax_linalg.jacobian.slabs import ONE_PASS, Memory, full_kernel
from lax_linalg.operators.convolution.convolution import Convolution

PLACING = 8.0
"""FLOPs of matrix products that moving one entry of a window to its place takes the time of."""


class _Window(NamedTuple):
    """Output pixel (h, w) by input pixel stride · (h, w) − front + (a, b): blocks[h, w, :, a, b, :].

    `blocks` is [H, W, channels, A, B, channels'], or its shape where costs are counted; entries of pixels that the
    image does not have are of no meaning, or zeros if it is `clean`. h counts from `first`, 0 unless it is a share.
    """

    blocks: Any
    stride: tuple[int, ...]
    front: tuple[int, ...]
    first: Any = 0
    clean: bool = False

    def pixels(self, axis: int) -> Any:
        """The input's coordinate of each entry along an axis, [H, A] or [W, B]; static where `first` is."""
        count, width = self.blocks.shape[axis], self.blocks.shape[3 + axis]
        numbers = np.arange(count)[:, None] + (self.first if axis == 0 else 0)
        return numbers * self.stride[axis] - self.front[axis] + np.arange(width)


def windowed_cost(graph: Graph) -> float | None:
    """FLOPs, and entries written beside the output, of `windowed_entries`; None where it cannot serve.

    Example:
        >>> import lax_linalg as la
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> conv = la.Convolution(jnp.ones((3, 3, 1, 1)), (9, 9))
        >>> f = lambda x: conv.apply(jnp.tanh(conv.apply(x[None])))[0]
        >>> windowed_cost(derivative_graph(f, jnp.zeros((9, 9, 1))))
        62208.0
    """
    walk = WindowWalk.counted(graph)
    return None if walk is None else walk.cost


def windowed_entries(graph: Graph, shape: tuple[int, int], dtype: Any, *, into: Memory | None = None) -> jax.Array:
    """All entries [m, n] of a derivative that `windowed_cost` can serve; `into` as for `convolution_entries`.

    Example:
        >>> import lax_linalg as la
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> conv = la.Convolution(jnp.ones((3, 1, 1, 1)), (4, 1))
        >>> graph = derivative_graph(lambda x: conv.apply(conv.apply(x[None]))[0], jnp.zeros((4, 1, 1)))
        >>> print(windowed_entries(graph, (4, 4), jnp.float32))
        [[2. 2. 1. 0.]
         [2. 3. 2. 1.]
         [1. 2. 3. 2.]
         [0. 1. 2. 2.]]
    """
    window: Any = WindowWalk(dtype).band(graph)
    sizes = image_of(graph.input)[:2]
    height, width, o, a, b, i = window.blocks.shape
    blocks = window.blocks.reshape(height, width * o, a, b * i).astype(dtype)
    pattern = ("windows", shape, window.blocks.shape, sizes, window.stride, window.front)
    matrix = None if into is None else into(pattern)
    if matrix is None and max(height, width) <= ONE_PASS:
        return _placed(window, sizes).astype(dtype).reshape(shape)
    matrix = jnp.zeros(shape, dtype) if matrix is None else matrix
    matrix = matrix.reshape(height, width * o, sizes[0], sizes[1] * i)
    # the same number of input rows for every output row: at the borders they are moved inwards, with zeros for the rest
    first_rows, count = window.pixels(0)[:, 0], min(a, sizes[0])
    shift = np.clip(first_rows, 0, sizes[0] - count) - first_rows
    before, behind = max(0, -int(shift.min())), max(0, int(shift.max()) + count - a)

    def put(h: jax.Array, matrix: jax.Array) -> jax.Array:
        first = h * window.stride[0] - window.front[0]
        row = jnp.clip(first, 0, sizes[0] - count)
        strip = jnp.pad(jax.lax.dynamic_index_in_dim(blocks, h, 0), ((0, 0), (0, 0), (before, behind), (0, 0)))
        moved = jax.lax.dynamic_slice_in_dim(strip, row - first + before, count, axis=2)
        return _put(matrix, moved, window, sizes[1], h, row)

    matrix = jax.lax.fori_loop(0, height, put, matrix)
    return matrix.reshape(shape)


def _placed(window: _Window, sizes: tuple[int, ...]) -> jax.Array:
    """The windows at their places along the width, then along the height, [H, W, o, H', W', i]."""
    placed = window.blocks
    for axis in (1, 0):
        pieces = []
        for h in range(placed.shape[axis]):
            first, width = h * window.stride[axis] - window.front[axis], placed.shape[3 + axis]
            edges = [(0, 0, 0)] * 5
            edges[2 + axis] = (first, sizes[axis] - first - width, 0)
            piece = jax.lax.index_in_dim(placed, h, axis, keepdims=False)
            pieces.append(jax.lax.pad(piece, jnp.zeros((), piece.dtype), edges))
        placed = jnp.stack(pieces, axis)
    return placed


def windowed_rows(graph: Graph, first: jax.Array, count: int, dtype: Any) -> jax.Array:
    """The rows of the matrix that belong to the output image's rows first … first + count − 1, [count · p, n].

    `first` may be traced, as a device's share is.

    Example:
        >>> import lax_linalg as la
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> conv = la.Convolution(jnp.ones((3, 1, 1, 1)), (4, 1))
        >>> graph = derivative_graph(lambda x: conv.apply(conv.apply(x[None]))[0], jnp.zeros((4, 1, 1)))
        >>> print(windowed_rows(graph, jnp.int32(2), 2, jnp.float32))
        [[1. 2. 3. 2.]
         [0. 1. 2. 2.]]
    """
    window: Any = WindowWalk(dtype, first, count).band(graph)
    sizes = image_of(graph.input)[:2]
    _, width, o, a, b, i = window.blocks.shape
    blocks = window.blocks.reshape(count, width * o, a, b * i).astype(dtype)
    total = image_of(graph.output.source)[0]  # type: ignore[union-attr]
    stride, offset = window.stride[0], window.front[0]
    front, back = max(offset, 0), max((total - 1) * stride - offset + a - sizes[0], 0)
    matrix = jnp.zeros((count, width * o, front + sizes[0] + back, sizes[1] * i), dtype)

    def put(h: jax.Array, matrix: jax.Array) -> jax.Array:
        strip = jax.lax.dynamic_index_in_dim(blocks, h, 0)
        return _put(matrix, strip, window, sizes[1], h, (first + h) * stride - offset + front)

    matrix = jax.lax.fori_loop(0, count, put, matrix)
    return matrix[:, :, front : front + sizes[0]].reshape(count * width * o, -1)


def _put(matrix: jax.Array, strip: jax.Array, window: _Window, size: int, h: Any, row: Any) -> jax.Array:
    """One output row's windows [1, W·o, a, B·i] in a matrix [H, W·o, H', W'·i], at the input's row `row`."""
    _, width, o, _, _, i = window.blocks.shape
    columns = window.pixels(1)
    for w in range(width):
        reached = np.flatnonzero((columns[w] >= 0) & (columns[w] < size))
        if reached.size:
            first, last = int(reached[0]), int(reached[-1]) + 1
            part = strip[:, w * o : (w + 1) * o, :, first * i : last * i]
            matrix = jax.lax.dynamic_update_slice(matrix, part, (h, w * o, row, int(columns[w, first]) * i))
    return matrix


class WindowWalk(Walk):
    """Carries the derivative of the output by each node from the last node to the input, as windows."""

    def band(self, graph: Graph) -> Any:
        window: Any = super().band(graph)
        self.cost += PLACING * math.prod(window.blocks.shape)
        height, width, o, a, *_ = window.blocks.shape
        if max(height, width) <= ONE_PASS:
            self.peak = max(self.peak, height * width * o * a * math.prod(image_of(graph.input)[1:]))
        return window

    def convolved(self, left: Any, A: Convolution, node: Node) -> Any:
        kernel = full_kernel(A)
        k, (cin, cout) = kernel.shape[:2], kernel.shape[2:]
        reach = tuple((t - 1) * d + 1 for t, d in zip(k, A.dilation))  # type: ignore[arg-type]
        front, stride = tuple(pair[0] for pair in A.pads), tuple(A.stride)  # type: ignore[arg-type]
        height, width, channels = image_of(node)
        origin = 0 if self.first is None else self.first
        if isinstance(left, Diagonal):
            shape = (self.height(node), width, channels, *reach, cin)
            self.cost += 2.0 * math.prod(shape)
            self.peak = max(self.peak, math.prod(shape))
            if self.dtype is None:
                return _Window(jax.ShapeDtypeStruct(shape, A.dtype), stride, front)
            taps = jnp.zeros((*reach, cin, cout), kernel.dtype)
            taps = taps.at[:: A.dilation[0], :: A.dilation[1]].set(kernel) if reach != k else kernel  # type: ignore[index]
            blocks = taps.transpose(3, 0, 1, 2)
            rows = jnp.ones((), blocks.dtype) if left.scale is None else left.scale
            rows = jnp.broadcast_to(rows.reshape(-1), (height * width * channels,))
            rows = self.share(rows.reshape(height, width, channels, 1, 1, 1))
            return _Window(blocks * rows, stride, front, origin)
        rows, columns, o, a, b, _ = left.blocks.shape
        wider = tuple(s * (n - 1) + r for s, n, r in zip(stride, (a, b), reach))
        shape = (rows, columns, o, *wider, cin)
        self.cost += 2.0 * math.prod(left.blocks.shape) * math.prod(wider) * cin + 4.0 * math.prod(shape)
        self.peak = max(self.peak, math.prod(shape), a * b * channels * math.prod(wider) * cin)
        strides = tuple(s * t for s, t in zip(stride, left.stride))
        fronts = tuple(s * f + g for s, f, g in zip(stride, left.front, front))
        if self.dtype is None:
            return _Window(jax.ShapeDtypeStruct(shape, A.dtype), strides, fronts)  # type: ignore[arg-type]
        blocks = left.blocks
        if not left.clean:
            at = [(left.pixels(axis) >= 0) & (left.pixels(axis) < size) for axis, size in enumerate((height, width))]
            inside = at[0][:, None, None, :, None, None] & at[1][None, :, None, None, :, None]
            everywhere = isinstance(inside, np.ndarray) and inside.all()
            blocks = blocks if everywhere else jnp.where(inside, blocks, 0)
        # taps [a, b, cout, A, B, cin] of window pixel (a, b) at the wider window's pixels, zeros where it has none
        taps, zero = kernel.transpose(3, 0, 1, 2).astype(blocks.dtype), jnp.zeros((), blocks.dtype)
        for axis, n in ((1, b), (0, a)):
            free = wider[axis] - reach[axis]
            edges = [[(0, 0, 0)] * taps.ndim for _ in range(n)]
            for t in range(n):
                edges[t][axis - 3] = (stride[axis] * t, free - stride[axis] * t, A.dilation[axis] - 1)  # type: ignore[index]
            taps = jnp.stack([jax.lax.pad(taps, zero, e) for e in edges])
        product = blocks.reshape(-1, a * b * cout) @ taps.reshape(a * b * cout, -1)
        return _Window(product.reshape(shape), strides, fronts, origin)  # type: ignore[arg-type]

    def scaled(self, band: Any, scale: jax.Array | None, source: Node) -> Any:
        if self.dtype is None or scale is None:
            return band
        if jnp.ndim(scale) == 0:
            return band._replace(blocks=band.blocks * scale)
        reached = self.reached(scale.reshape(image_of(source)), band)
        blocks = band.blocks.reshape(*band.blocks.shape[:-2], -1)  # pixels side by side with their channels
        return band._replace(blocks=(blocks * reached[:, :, None]).reshape(band.blocks.shape), clean=True)

    def reached(self, image: jax.Array, window: _Window) -> jax.Array:
        """Each window's piece of an image, [H, W, a, b·channels], zeros beside it."""
        size, (a, b), channels = image.shape[:2], window.blocks.shape[3:5], image.shape[2]
        last = ((self.rows - 1) * window.stride[0], (window.blocks.shape[1] - 1) * window.stride[1])
        edges = [(f, max(0, at - f + n - s)) for f, at, n, s in zip(window.front, last, (a, b), size)]
        padded = jnp.pad(image, (*edges, (0, 0)))
        padded = padded.reshape(padded.shape[0], -1)

        def piece(h: jax.Array, w: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(padded, (h, w), (a, b * channels))

        rows = (jnp.arange(window.blocks.shape[0]) + window.first) * window.stride[0]
        columns = jnp.arange(window.blocks.shape[1]) * window.stride[1] * channels
        return jax.vmap(lambda h: jax.vmap(lambda w: piece(h, w))(columns))(rows)

    def total(self, parts: list, node: Node) -> Any:
        windows = [part for part in parts if isinstance(part, _Window)]
        diagonals = [part for part in parts if isinstance(part, Diagonal)]
        if not windows:
            return super().total(parts, node)
        identity = self.diagonal_sum(diagonals)
        fronts = [window.front for window in windows] + [(0, 0)] * bool(diagonals)
        backs = [tuple(n - f for n, f in zip(w.blocks.shape[3:5], w.front)) for w in windows]
        backs += [(1, 1)] * bool(diagonals)
        if {w.stride for w in windows} != {windows[0].stride} or (diagonals and windows[0].stride != (1, 1)):
            raise Unsupported
        front, back = (
            (max(f[0] for f in fronts), max(f[1] for f in fronts)),
            (max(b[0] for b in backs), max(b[1] for b in backs)),
        )
        height, width, o, *_, i = windows[0].blocks.shape
        shape = (height, width, o, front[0] + back[0], front[1] + back[1], i)
        self.cost += 2.0 * math.prod(shape) * (len(parts) - 1)
        if self.dtype is None:
            return _Window(jax.ShapeDtypeStruct(shape, windows[0].blocks.dtype), windows[0].stride, front)
        total: Any = 0
        for w in windows:
            edges = [
                (front[x] - w.front[x], shape[3 + x] - w.blocks.shape[3 + x] - front[x] + w.front[x]) for x in (0, 1)
            ]
            total = total + (
                jnp.pad(w.blocks, ((0, 0), (0, 0), (0, 0), *edges, (0, 0))) if any(map(any, edges)) else w.blocks
            )
        if diagonals:
            values = jnp.ones((), total.dtype) if identity is None else jnp.asarray(identity)
            values = jnp.broadcast_to(values.reshape(-1), (image_of(node)[0] * width * o,))
            values = self.share(values.reshape(-1, width, o, 1, 1, 1))
            here = np.zeros((o, *shape[3:]), bool)
            here[np.arange(o), front[0], front[1], np.arange(o)] = True
            total = total + jnp.where(here, values, 0)
        clean = all(window.clean for window in windows)
        return _Window(total, windows[0].stride, front, windows[0].first, clean)
