"""Sums and products of windows and diagonal matrices, which are locally connected.

The window of A B at output m is that of A, every tap of which reads a window of B. With the stride S, the padding P and
the dilation D of each, tap e of B under tap t of A meets the input

    m S_A S_B − (P_A S_B + P_B) + (t D_A S_B + e D_B),

so the weights of all pairs (t, e) with the same last term add up to one weight of the product. A pair counts only where
tap t exists: what A reads in its padding is no output of B, whatever B's numbers are.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.operator import LinearOperator
from lax_linalg.errors import DenseLimitError
from lax_linalg.operators.convolution.algebra import by_group, centred, convolved, ungrouped
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.locally_connected import LocallyConnected, with_weights
from lax_linalg.operators.convolution.window import Window, existing, patches, positions
from lax_linalg.operators.convolution.window_entries import folded
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.lazy import Product, Sum
from lax_linalg.operators.uniform_scaling import UniformScaling, shift
from lax_linalg.verbs.arithmetic import add, inner, multiply, same_shape
from lax_linalg.verbs.basic import require_dense

# --- diagonal factors ---


@multiply.rule(Diagonal, Window, cost="O(out kernel)")
def _(A: Diagonal, B: Window) -> LinearOperator:
    """Every output's weights times its factor."""
    inner(A, B)
    if not _allowed((B.shape[0], math.prod(B.kernel_size) * B.kernel.shape[-2]), B):
        return Product((A, B))
    factors = A.diagonal.reshape(*B.out_spatial, *(1,) * (len(B.kernel_size) + 1), B.out_channels)
    return with_weights(B, factors * B.kernel)


@multiply.rule(Window, Diagonal, cost="O(out kernel)")
def _(A: Window, B: Diagonal) -> LinearOperator:
    """Every weight times the factor of the input that it meets."""
    inner(A, B)
    if not _allowed((A.shape[0], math.prod(A.kernel_size) * A.kernel.shape[-2]), A):
        return Product((A, B))
    factors = patches(A, B.diagonal.reshape(1, *A.spatial, A.in_channels))[0]  # type: ignore[misc]
    kernel = by_group(A.kernel, A.groups) * factors.reshape(*factors.shape[:-1], A.groups, -1, 1)
    kernel = jnp.moveaxis(kernel, -3, -2)
    return with_weights(A, kernel.reshape(*kernel.shape[:-2], -1))


# --- products ---


@multiply.rule(Window, Window, cost="O(out k_A² k_B² c³), or lazy")
def _(A: Window, B: Window) -> LinearOperator:
    """The weights of B under each of A's, added where they meet the same input; lazy if the product is no sparser."""
    inner(A, B)
    if A.spatial != B.out_spatial or A.circular != B.circular:
        return Product((A, B))
    if A.circular and any(n % s for n, s in zip(B.spatial, B.stride)):  # type: ignore[arg-type]
        return Product((A, B))  # what A wraps around ends where B's image does not
    if isinstance(A, Convolution) and isinstance(B, Convolution) and (found := convolved(A, B)) is not None:
        return found
    groups = A.groups if A.groups == B.groups else 1
    steps = [a * s for a, s in zip(A.dilation, B.stride)]  # type: ignore[arg-type]
    extent = tuple((k - 1) * s + e for k, s, e in zip(A.kernel_size, steps, B.extent))
    channels = (B.in_channels // groups, A.out_channels)
    size = math.prod(extent) * channels[0]
    if size > B.shape[1] or not _allowed((A.shape[0], size), A, B):
        return Product((A, B))
    a, b = (by_group(W.kernel if groups == W.groups else ungrouped(W), groups) for W in (A, B))
    d, out = len(extent), A.out_spatial
    letters = ("hw"[:d], "pq"[:d])
    here = "" if isinstance(A, Convolution) else letters[0]
    there = "" if isinstance(B, Convolution) else letters[0]
    total = jnp.zeros((*out, *extent, channels[0], groups, A.out_channels // groups), jnp.result_type(a, b))
    for tap in itertools.product(*map(range, A.kernel_size)):
        places = [j[:, t] for j, t in zip(positions(A), tap)]
        exists = [e[:, t] for e, t in zip(existing(A), tap)]
        inside = functools.reduce(np.logical_and.outer, exists).reshape(*out, *(1,) * (d + 3))
        if not inside.any():
            continue
        weights = a[(*(slice(None),) * len(here), *tap)]  # [*out, group, mid, o]
        under = b
        if there:
            under = b[np.ix_(*(j % n if A.circular else np.clip(j, 0, n - 1) for j, n in zip(places, B.out_spatial)))]
        part = jnp.einsum(
            f"{here}gmo,{there}{letters[1]}gim->{here or there}{letters[1]}igo",
            weights,
            under,
            precision=jax.lax.Precision.HIGHEST,
        )
        part = part if inside.all() else jnp.where(inside, part, 0)
        where = [slice(o, o + e, s) for o, e, s in zip((t * s for t, s in zip(tap, steps)), B.extent, B.dilation)]  # type: ignore[arg-type]
        total = total.at[(*(slice(None),) * d, *where)].add(part)
    kernel = total.reshape(*total.shape[:-2], -1)
    front = [fa * s + fb for (fa, _), (fb, _), s in zip(A.pads, B.pads, B.stride)]  # type: ignore[arg-type]
    strides = tuple(s * t for s, t in zip(A.stride, B.stride))  # type: ignore[arg-type]
    return _placed(kernel, front, B.spatial, strides, A.out_spatial, circular=A.circular, groups=groups)  # type: ignore[arg-type]


# --- sums ---


@add.rule(Diagonal, Window, cost="O(out kernel)")
def _(A: Diagonal, B: Window) -> LinearOperator:
    """The factors added to the taps that meet the output's own index, where in- and output are images of one size."""
    same_shape(A, B)
    one = _one_tap(A.diagonal, B)
    return Sum((A, B)) if one is None else add(one, B)


@add.rule(Window, Diagonal, cost="O(out kernel)")
def _(A: Window, B: Diagonal) -> LinearOperator:
    """B + A: addition commutes."""
    return add(B, A)


@add.rule(Window, Window, cost="O(kernel)")
def _(A: Window, B: Window) -> LinearOperator:
    """Sum of the kernels, moved so that both meet the same inputs; a convolution if both are."""
    same_shape(A, B)
    if A.geometry == B.geometry:
        # the kernel of a locally connected map has more axes than that of a convolution, which broadcasts to them
        return max(A, B, key=lambda W: jnp.ndim(W.kernel)).with_kernel(A.kernel + B.kernel)
    if A.spatial != B.spatial or A.stride != B.stride or A.circular != B.circular or A.out_spatial != B.out_spatial:
        return Sum((A, B))
    groups = A.groups if A.groups == B.groups else 1
    both = folded(A), folded(B)
    front = [max(p[0] for p in pads) for pads in zip(*(W.pads for W in both))]
    back = [max(e - p[0] for e, p in at) for at in zip(*(zip(W.extent, W.pads) for W in both))]
    extent = tuple(f + b for f, b in zip(front, back))
    local = any(isinstance(W, LocallyConnected) for W in both)
    size = math.prod(extent) * A.in_channels // groups
    if local and (size > A.shape[1] or not _allowed((A.shape[0], size), A, B)):
        return Sum((A, B))
    total: jax.Array | float = 0.0
    for W in both:
        lead = W.kernel.ndim - 2 - len(extent)
        kernel = W.kernel if groups == W.groups else ungrouped(W)
        sizes = zip(front, extent, W.pads, W.extent, W.dilation)  # type: ignore[arg-type]
        edges = [(f - p[0], n - f + p[0] - e, s - 1) for f, n, p, e, s in sizes]
        edges = [(0, 0, 0)] * lead + edges + [(0, 0, 0)] * 2
        total = total + jax.lax.pad(kernel, jnp.zeros((), kernel.dtype), edges)
    return _placed(total, front, A.spatial, A.stride, A.out_spatial, circular=A.circular, groups=groups)  # type: ignore[arg-type]


@add.rule(Window, UniformScaling, cost="O(kernel)", precedence=2)
def _(A: Window, B: UniformScaling) -> LinearOperator:
    """The number added to the tap that meets the output's own index, where in- and output are images of one size."""
    B = shift(A, B)
    one = _one_tap(B.value, A)
    return add.fallback(A, B) if one is None else add(A, one)


# --- what they share ---


def _allowed(shape: tuple[int, int], *operators: LinearOperator) -> bool:
    """Whether weights of this shape are within `la.dense_limit`."""
    try:
        require_dense(operators[0], jnp.result_type(*(A.dtype for A in operators)), shape)
    except DenseLimitError:
        return False
    return True


def _one_tap(values: jax.Array, like: Window) -> Window | None:
    """The diagonal matrix of these values, or of one number, as a window over the images of `like`, None if it is none.

    A tap of its own for each channel does it, between images of one size.
    """
    d, channels = len(like.out_spatial), like.in_channels
    if like.spatial != like.out_spatial or set(like.stride) != {1} or like.out_channels != channels:  # type: ignore[arg-type]
        return None
    padding = "circular" if like.circular else "valid"
    if jnp.ndim(values) == 0:
        return Convolution(jnp.broadcast_to(values, (*(1,) * (d + 1), channels)), like.spatial, 1, padding, 1, channels)
    kernel = values.reshape(*like.out_spatial, *(1,) * (d + 1), channels)
    return LocallyConnected(kernel, like.spatial, 1, padding, 1, channels)


def _placed(
    kernel: jax.Array,
    front: Sequence[int],
    spatial: tuple[int, ...],
    stride: tuple[int, ...],
    out: tuple[int, ...],
    *,
    circular: bool,
    groups: int,
) -> Window:
    """The window, without dilation, of these weights whose tap number `front` meets the input m S at output m."""
    d = len(spatial)
    lead = kernel.ndim - 2 - d
    kind = LocallyConnected if lead else Convolution
    if circular:
        return folded(kind(centred(kernel, front, lead), spatial, stride, "circular", 1, groups))
    extent = kernel.shape[lead : lead + d]
    behind = [max(0, (m - 1) * s + k - f - n) for m, s, k, f, n in zip(out, stride, extent, front, spatial)]
    return kind(kernel, spatial, stride, tuple(zip(front, behind)), 1, groups)
