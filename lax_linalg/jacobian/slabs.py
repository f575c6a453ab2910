"""Entries of Diagonal · Convolution by contiguous slabs: every element is written once, none is multiplied by zero.

An output row of an image depends on k input rows. In the last spatial dimension the kernel's k rows give k small dense
matrices [W' cout, W cin]; side by side they are one contiguous slab of the matrix, written at the place of each output
row. In one dimension the small matrix is the whole.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.verbs.basic import require_dense

Memory = Callable[[Hashable], jax.Array | None]
"""Gives, for a pattern of places, a matrix that is zero outside of it; what is inside does not matter.

None where there is no memory yet: then the matrix may as well be formed at once, zeros and all.
"""
ONE_PASS = 8
"""As many pieces does XLA on a CPU put side by side in the pass that forms them; more are formed first, then copied."""


def matrix_for(pattern: Hashable, shape: tuple[int, ...], dtype: Any, into: Memory | None) -> jax.Array:
    """A matrix to write the places of a pattern into: from `into`, or new zeros.

    Example:
        >>> print(matrix_for("diagonal", (2, 2), jnp.float32, None))
        [[0. 0.]
         [0. 0.]]
    """
    matrix = None if into is None else into(pattern)
    return jnp.zeros(shape, dtype) if matrix is None else matrix


def convolution_entries(
    A: Convolution,
    rows: jax.Array | None = None,
    *,
    transposed: bool = False,
    into: Memory | None = None,
) -> jax.Array:
    """diag(rows) A, all entries, as [m, n] or transposed.

    Args:
        A: a convolution in one or two dimensions.
        rows: factors of the rows, [m]; ones unless given.
        transposed: give the transpose [n, m].
        into: gives the matrix that the entries are written into; new zeros unless given. The pattern stands for the
            slabs' places, which follow from shapes alone.

    Returns:
        The dense matrix in the dtype of A and the factors.

    Raises:
        DenseLimitError: above `la.dense_limit`.

    Cost: one write of mn zeros and one of mn k/H entries, or for up to eight output rows in new memory one write of
    both; O(k W' W cin cout) FLOPs.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Convolution(jnp.array([1.0, 2.0, 3.0])[:, None, None], 3)
        >>> print(convolution_entries(A, jnp.array([1.0, 10.0, 100.0])))
        [[  2.   3.   0.]
         [ 10.  20.  30.]
         [  0. 100. 200.]]
    """
    m, n = A.shape
    dtype = A.dtype if rows is None else jnp.result_type(A.dtype, rows.dtype)
    require_dense(A, dtype)
    if len(A.out_spatial) == 1:
        matrix = _last_dimension(full_kernel(A).astype(dtype)[None], A)[:, 0]
        matrix = matrix if rows is None else matrix * rows[:, None]
        return matrix.T if transposed else matrix

    taps = row_matrices(A).astype(dtype)
    height = A.out_spatial[0]
    p, k, q = taps.shape
    scales = None if rows is None else rows.reshape(height, p, 1)
    shape = (*A.kernel.shape[:2], A.in_channels, A.out_channels)
    pattern = ("slabs", transposed, shape, A.spatial, A.stride, A.dilation, A.pads, A.circular)
    matrix = None if into is None else into(pattern)
    if matrix is None and height <= ONE_PASS:
        strips = _placed(taps, A, 0, scales)
        if transposed:
            return jnp.stack([strip.reshape(p, n).T for strip in strips], axis=1).reshape(n, m).astype(dtype)
        return jnp.stack(strips).reshape(m, n).astype(dtype)
    matrix = jnp.zeros((n, m) if transposed else (m, n), dtype) if matrix is None else matrix

    def write(matrix: jax.Array, h: jax.Array | int, row: jax.Array | int, slab: jax.Array) -> jax.Array:
        """Put kernel rows side by side [p, … q] at output row h, beginning at the input row `row`."""
        slab = (slab if scales is None else slab * scales[h]).astype(matrix.dtype)
        at = (h * p, row * q)
        return jax.lax.dynamic_update_slice(matrix, slab.T if transposed else slab, at[::-1] if transposed else at)

    stride, dilation, front = A.stride[0], A.dilation[0], A.pads[0][0]  # type: ignore[index]
    size = A.spatial[0]  # type: ignore[index]
    if dilation == 1 and not A.circular and k <= size:
        # k input rows for every output row: at the borders they are moved inwards, with zeros for those beyond
        low, high = front, max((height - 1) * stride - front + k - size, 0)
        side_by_side = jnp.pad(taps.reshape(p, k * q), ((0, 0), (high * q, low * q)))

        def shifted(h: jax.Array, matrix: jax.Array) -> jax.Array:
            row = h * stride - front
            inside = jnp.clip(row, 0, size - k)
            slab = jax.lax.dynamic_slice(side_by_side, (0, (high + inside - row) * q), (p, k * q))
            return write(matrix, h, inside, slab)

        return jax.lax.fori_loop(0, height, shifted, matrix)
    first, inner = _interior(height, size, stride, front, (k - 1) * dilation)
    if inner:

        def spread(h: jax.Array, matrix: jax.Array) -> jax.Array:
            for t in range(k):
                matrix = write(matrix, h, h * stride - front + t * dilation, taps[:, t])
            return matrix

        matrix = jax.lax.fori_loop(first, first + inner, spread, matrix)
    for h in itertools.chain(range(first), range(first + inner, height)):
        at: dict[int, jax.Array] = {}  # taps that wrap around to one input row add up
        for t in range(k):
            row = h * stride - front + t * dilation
            if A.circular:
                row %= size
            if 0 <= row < size:
                at[row] = at[row] + taps[:, t] if row in at else taps[:, t]
        for row, block in at.items():
            matrix = write(matrix, h, row, block)
    return matrix


def _placed(taps: jax.Array, A: Convolution, axis: int, scales: jax.Array | None = None) -> list[jax.Array]:
    """For every output place along an axis taps [p, k, q] at the input places that they meet, [p, size, q].

    `scales` [H, p, 1] are the factors of each place's rows.
    """
    size, stride, dilation, front = A.spatial[axis], A.stride[axis], A.dilation[axis], A.pads[axis][0]  # type: ignore[index]
    reach, zero = (taps.shape[1] - 1) * dilation + 1, jnp.zeros((), taps.dtype)
    strips = []
    for h in range(A.out_spatial[axis]):
        first = h * stride - front
        laps = [first]
        if A.circular:  # what goes beyond the last place comes again from the first on
            laps = [first % size - lap * size for lap in range(-(-(first % size + reach) // size))]
        here = taps if scales is None else taps * scales[h][:, None]
        edges = [((0, 0, 0), (at, size - at - reach, dilation - 1), (0, 0, 0)) for at in laps]
        strips.append(functools.reduce(jnp.add, [jax.lax.pad(here, zero, e) for e in edges]))
    return strips


def row_matrices(A: Convolution) -> jax.Array:
    """The kernel's rows side by side, each as the matrix of its convolution along the width: [W' cout, k, W cin].

    Example:
        >>> import lax_linalg as la
        >>> row_matrices(la.Convolution(jnp.ones((3, 5, 2, 4)), (8, 6))).shape
        (24, 3, 12)
    """
    return _last_dimension(full_kernel(A), A)


def _interior(height: int, size: int, stride: int, front: int, reach: int) -> tuple[int, int]:
    """The first output row whose window lies within the input, and how many there are."""
    inside = [h for h in range(height) if h * stride >= front and h * stride - front + reach < size]
    return (inside[0], len(inside)) if inside else (height, 0)


def full_kernel(A: Convolution) -> jax.Array:
    """The kernel with its groups as a block-diagonal one of all channels, [k…, cin, cout]."""
    if A.groups == 1:
        return A.kernel
    spatial, (cin, cout) = A.kernel.shape[:-2], A.kernel.shape[-2:]
    kernel = A.kernel.reshape(*spatial, cin, A.groups, cout // A.groups)
    same = jnp.eye(A.groups, dtype=kernel.dtype)
    return jnp.einsum("...igo,gh->...higo", kernel, same).reshape(*spatial, A.groups * cin, cout)


def _last_dimension(kernel: jax.Array, A: Convolution) -> jax.Array:
    """The matrices of the convolutions along the last dimension, [W' cout, t, W cin] for kernel [t, s, cin, cout]."""
    k, size, axis = kernel.shape[1], A.spatial[-1], len(A.out_spatial) - 1  # type: ignore[index]
    width, stride, dilation, front = A.out_spatial[-1], A.stride[-1], A.dilation[-1], A.pads[-1][0]  # type: ignore[index]
    if width <= ONE_PASS:
        t, _, cin, cout = kernel.shape
        strips = _placed(kernel.transpose(3, 0, 1, 2).reshape(cout * t, k, cin), A, axis)
        return jnp.stack(strips).reshape(width * cout, t, size * cin)
    at = np.arange(width)[:, None] * stride - front + np.arange(k) * dilation
    at = at % size if A.circular else at
    place = at[:, :, None] == np.arange(size)  # [W', s, W]
    if place.sum(axis=1).max(initial=0) <= 1:  # every entry comes from at most one tap, or from the zero behind them
        tap = np.where(place.any(axis=1), place.argmax(axis=1), k)
        taps = jnp.pad(kernel.transpose(3, 0, 1, 2), ((0, 0), (0, 0), (0, 1), (0, 0)))
        matrices = taps[:, :, tap].transpose(2, 0, 1, 3, 4)  # [W', cout, t, W, cin]
    else:  # a kernel that wraps around onto itself
        matrices = jnp.einsum(
            "tsio,swv->wotvi", kernel, place.transpose(1, 0, 2).astype(kernel.dtype), precision="highest"
        )
    return matrices.reshape(width * kernel.shape[3], kernel.shape[0], size * kernel.shape[2])
