"""Transposes and products of convolutions that are convolutions again.

B with the stride S_B and then A with the stride S_A read x[q S_A S_B + e_a S_B + e_b]: together they are one window
with the stride S_A S_B, whose kernel is that of A with gaps of S_B, convolved with that of B,

    w[e, i, o] = Σ_{e_a S_B + e_b = e} Σ_m w_B[e_b, i, m] w_A[e_a, m, o].

That is so wherever A reads nothing but outputs of B: on circles (where S_B divides their length), and for an A without
padding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.window import Window
from lax_linalg.operators.convolution.window_entries import folded
from lax_linalg.operators.lazy import Transpose
from lax_linalg.verbs.arithmetic import transpose


@transpose.rule(Convolution, cost="O(kernel)")
def _(A: Convolution) -> LinearOperator:
    """Convolution with the kernel turned by half a turn and the channels exchanged, for stride 1; else lazy."""
    reach = [k - 1 for k in A.extent]
    if set(A.stride) != {1} or (not A.circular and any(max(p) > r for p, r in zip(A.pads, reach))):  # type: ignore[arg-type]
        return Transpose(A)
    kernel, dilation = A.kernel, A.dilation
    if A.circular and any(r % 2 for r in reach):
        # the window of an even extent leans to one side: make room on the other
        kernel, dilation = spread(A.kernel, A.dilation), 1  # type: ignore[arg-type]
        for axis, r in enumerate(reach):
            if r % 2:
                kernel = jnp.concatenate([jnp.zeros_like(jax.lax.slice_in_dim(kernel, 0, 1, axis=axis)), kernel], axis)
    d, groups = len(reach), A.groups
    kernel = jnp.flip(kernel, tuple(range(d)))
    kernel = kernel.reshape(*kernel.shape[:-1], groups, -1)
    kernel = jnp.moveaxis(kernel, -1, -3)  # [*K, cout / groups, cin / groups, groups]
    kernel = jnp.swapaxes(kernel, -1, -2).reshape(*kernel.shape[:-2], -1)
    padding = A.padding if A.circular else tuple((r - f, r - b) for r, (f, b) in zip(reach, A.pads))
    return Convolution(kernel, A.out_spatial, 1, padding, dilation, groups)


def convolved(A: Convolution, B: Convolution) -> Convolution | None:
    """A B with the kernels convolved: both circular, or the left one without padding; else None.

    Example:
        >>> A = Convolution(jnp.ones((2, 1, 1)), 3, padding="valid")
        >>> convolved(Convolution(jnp.ones((2, 1, 1)), 2, padding="valid"), A).kernel[:, 0, 0].tolist()
        [1.0, 2.0, 1.0]
    """
    strides = tuple(a * b for a, b in zip(A.stride, B.stride))  # type: ignore[arg-type]
    if A.circular and B.circular and all(n % s == 0 for n, s in zip(B.spatial, B.stride)):  # type: ignore[arg-type]
        outer, behind = folded(A), folded(B)
        kernel, groups = _convolved(outer, behind)  # type: ignore[arg-type]
        kernel = centred(kernel, [fa * s + fb for (fa, _), (fb, _), s in zip(outer.pads, behind.pads, B.stride)])  # type: ignore[arg-type]
        return folded(Convolution(kernel, B.spatial, strides, "circular", 1, groups))  # type: ignore[return-value]
    if not A.circular and not B.circular and max(max(p) for p in A.pads) == 0:
        kernel, groups = _convolved(A, B)
        return Convolution(kernel, B.spatial, strides, B.padding, 1, groups)
    return None


def _convolved(A: Convolution, B: Convolution) -> tuple[jax.Array, int]:
    """The kernel of A B without dilation, and its number of groups."""
    groups = A.groups if A.groups == B.groups else 1
    wide = groups == 1
    steps = tuple(a * s for a, s in zip(A.dilation, B.stride))  # type: ignore[arg-type]
    # [*K, groups, channels in, channels out] of one group
    b, a = (by_group(ungrouped(W) if wide else W.kernel, groups) for W in (B, A))
    extent = tuple((k - 1) * s + e for k, s, e in zip(A.kernel_size, steps, B.extent))
    if min(math.prod(A.kernel_size), math.prod(B.kernel_size)) > 64:
        kernel = _by_fourier(spread(a, steps), spread(b, B.dilation), extent)  # type: ignore[arg-type]
    else:
        kernel = _tap_by_tap(a, b, steps, B.dilation, extent)  # type: ignore[arg-type]
    kernel = jnp.moveaxis(kernel, -3, -2)
    return kernel.reshape(*extent, kernel.shape[-3], -1), groups


def by_group(kernel: jax.Array, groups: int) -> jax.Array:
    return jnp.moveaxis(kernel.reshape(*kernel.shape[:-1], groups, -1), -2, -3)


def _tap_by_tap(
    a: jax.Array, b: jax.Array, steps: tuple[int, ...], dilation: tuple[int, ...], extent: tuple[int, ...]
) -> jax.Array:
    """Σ of b shifted by every tap of a, or of a by every tap of b, whichever has fewer."""
    d = len(extent)
    few, few_steps, many, many_steps = (a, steps, b, dilation)
    if math.prod(b.shape[:d]) < math.prod(a.shape[:d]):
        few, few_steps, many, many_steps = b, dilation, a, steps
    channels = (a.shape[-3], b.shape[-2], a.shape[-1])
    total = jnp.zeros((*extent, *channels), jnp.result_type(a, b))
    for tap in itertools.product(*map(range, few.shape[:d])):
        pair = (many, few[tap]) if few is a else (few[tap], many)
        offsets = [t * s for t, s in zip(tap, few_steps)]
        where = tuple(slice(o, o + (k - 1) * s + 1, s) for o, k, s in zip(offsets, many.shape, many_steps))
        total = total.at[where].add(jnp.matmul(*pair))
    return total


def _by_fourier(a: jax.Array, b: jax.Array, extent: tuple[int, ...]) -> jax.Array:
    """The same by FFTs that have room for the whole kernel, where both have many taps."""
    axes = tuple(range(len(extent)))
    products = jnp.matmul(*(jnp.fft.fftn(w, extent, axes) for w in (b, a)))
    kernel = jnp.fft.ifftn(products, axes=axes)
    return kernel if jnp.iscomplexobj(a) or jnp.iscomplexobj(b) else kernel.real


def ungrouped(A: Window) -> jax.Array:
    """The kernel [*K, cin, cout] of the same map without groups, zero between different ones."""
    g = A.groups
    w = A.kernel.reshape(*A.kernel.shape[:-1], g, -1)
    w = jnp.einsum("...igo,gh->...higo", w, jnp.eye(g, dtype=w.dtype))
    return w.reshape(*A.kernel.shape[:-2], A.in_channels, A.out_channels)


def centred(kernel: jax.Array, fronts: Sequence[int], lead: int = 0) -> jax.Array:
    """Zeros around a kernel whose tap number `front` belongs to offset 0, so that a circular window puts it there."""
    widths = [(0, 0)] * kernel.ndim
    for axis, front in enumerate(fronts, start=lead):
        behind = kernel.shape[axis] - 1 - front
        widths[axis] = (max(0, behind - front - 1), max(0, front - behind))
    return jnp.pad(kernel, widths)


def spread(kernel: jax.Array, steps: tuple[int, ...]) -> jax.Array:
    """The kernel with steps − 1 zeros between its taps in each dimension."""
    d = len(steps)
    if math.prod(steps) == 1:
        return kernel
    shape = tuple((k - 1) * step + 1 for k, step in zip(kernel.shape, steps))
    where = tuple(slice(None, None, step) for step in steps)
    return jnp.zeros((*shape, *kernel.shape[d:]), kernel.dtype).at[where].set(kernel)
