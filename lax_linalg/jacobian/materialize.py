"""All entries of a Jacobian in tangent chunks: peak memory O(output + chunk), never O(n × activations).

The function is linearised once; unit tangents (or cotangents, where there are fewer outputs than inputs) are pushed
through the linear map a chunk at a time, and each chunk's columns (rows) are written into the output in place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from lax_linalg.errors import DimensionMismatch, UnknownNameError

MODES = ("auto", "forward", "reverse")


def chosen_mode(mode: str, m: int, n: int) -> str:
    """The direction in which an m×n Jacobian is formed: reverse for fewer rows than columns, unless asked otherwise.

    Raises:
        UnknownNameError: for a mode that is not "auto", "forward" or "reverse".

    Example:
        >>> chosen_mode("auto", 10, 512)
        'reverse'
    """
    if mode not in MODES:
        raise UnknownNameError.of("jacobian mode", mode, MODES)
    return mode if mode != "auto" else ("reverse" if m < n else "forward")


def chunk_size(f: Callable[..., jax.Array], x: Any, args: tuple, memory_budget: int) -> int:
    """How many tangents may travel together within `memory_budget` bytes, at least 1.

    A tangent is counted as three times the largest array that f computes: operand, result and one temporary.

    Args:
        f: function of (x, *args).
        x: input, or its shape and dtype.
        args: further arguments, alike.
        memory_budget: bytes.

    Returns:
        A positive integer.

    Raises:
        DimensionMismatch: for a budget that is not positive.

    Cost: one abstract evaluation of f.

    Example:
        >>> chunk_size(jnp.tanh, jax.ShapeDtypeStruct((256,), jnp.float32), (), 3 * 2**20)
        1024
    """
    if memory_budget < 1:
        raise DimensionMismatch(f"memory_budget is a positive number of bytes, got {memory_budget}")
    largest = max(_bytes(x), _largest_result(jax.make_jaxpr(f)(x, *args).jaxpr))
    return max(1, int(memory_budget // max(1, 3 * largest)))


def _bytes(aval: Any) -> int:
    dtype = getattr(aval, "dtype", None)
    inexact = dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
    return math.prod(aval.shape) * jnp.dtype(dtype).itemsize if inexact else 0


def _largest_result(jaxpr: Any) -> int:
    """Bytes of the largest floating-point array that a program or a program nested in it computes."""
    largest = 0
    for equation in jaxpr.eqns:
        largest = max(largest, *(_bytes(v.aval) for v in equation.outvars), 0)
        for parameter in equation.params.values():
            for item in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
                nested = getattr(item, "jaxpr", item)
                if hasattr(nested, "eqns"):
                    largest = max(largest, _largest_result(nested))
    return largest


@functools.partial(jax.jit, static_argnames=("f", "mode", "memory_budget", "mesh"))
def dense_jacobian(
    f: Callable[..., jax.Array],
    x: jax.Array,
    args: tuple = (),
    *,
    mode: str = "auto",
    memory_budget: int = 64 * 2**20,
    mesh: Mesh | None = None,
) -> jax.Array:
    """∂ vec f(x, *args) / ∂ vec x as a matrix, with vec in C order.

    Args:
        f: function of (x, *args) that gives one array; hashable, compiled once per function and shapes.
        x: where to differentiate, any shape, n = x.size.
        args: further arguments of f, held fixed.
        mode: "forward" (columns, by jvp), "reverse" (rows, by vjp) or "auto" (the smaller side).
        memory_budget: bytes that one chunk of tangents may take; the output comes on top.
        mesh: share the columns (rows in reverse mode) among all devices of this mesh; the matrix stays sharded where
            they divide evenly.

    Returns:
        The Jacobian [m, n].

    Raises:
        UnknownNameError: for an unknown mode.
        DimensionMismatch: for a budget that is not positive.

    Cost: min(m, n) products with the linearised f; O(mn + chunk) memory besides one evaluation's activations.

    Example:
        >>> print(dense_jacobian(jnp.square, jnp.array([1.0, 2.0])))
        [[2. 0.]
         [0. 4.]]
    """
    out = jax.eval_shape(f, x, *args)
    mode = chosen_mode(mode, out.size, x.size)
    chunk = chunk_size(f, x, args, memory_budget)

    def panel(x: jax.Array, args: tuple, start: jax.Array | int, count: int) -> jax.Array:
        """Columns (rows, in reverse mode) start … start + count − 1; those behind the last one are zero."""
        if mode == "forward":
            push = jax.linearize(lambda x: f(x, *args), x)[1]
            return _columns(push, x, out, start, count, chunk)
        pull = jax.vjp(lambda x: f(x, *args), x)[1]
        return _columns(lambda ct: pull(ct)[0], out, x, start, count, chunk).T

    total = x.size if mode == "forward" else out.size
    if mesh is None:
        return panel(x, args, 0, total)

    share = -(-total // mesh.size)
    axes = mesh.axis_names

    side = 1 if mode == "forward" else 0
    even = total % mesh.size == 0  # an uneven side cannot stay sharded: every device gets the whole

    def local(x: jax.Array, args: tuple) -> jax.Array:
        mine = panel(x, args, jax.lax.axis_index(axes) * share, share)
        if even:
            return mine
        return jax.lax.slice_in_dim(jax.lax.all_gather(mine, axes, axis=side, tiled=True), 0, total, axis=side)

    split = (PartitionSpec(axes, None), PartitionSpec(None, axes))[side] if even else PartitionSpec()
    return jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=split, check_vma=False)(x, args)


def _columns(
    apply: Callable[[jax.Array], jax.Array], domain: Any, codomain: Any, start: jax.Array | int, count: int, chunk: int
) -> jax.Array:
    """Columns start … start + count − 1 of the linear map `apply`, [codomain.size, count], `chunk` at a time."""

    def block(first: jax.Array | int, width: int) -> jax.Array:
        rows = first + jnp.arange(width)
        unit = (rows[:, None] == jnp.arange(domain.size)).astype(domain.dtype)
        return jax.vmap(apply)(unit.reshape(width, *domain.shape)).reshape(width, codomain.size).T

    if chunk >= count:
        return block(start, count)

    def write(i: jax.Array, matrix: jax.Array) -> jax.Array:
        at = jnp.minimum(i * chunk, count - chunk)  # the last chunk moves back instead of being padded
        return jax.lax.dynamic_update_slice(matrix, block(start + at, chunk), (0, at))

    return jax.lax.fori_loop(0, -(-count // chunk), write, jnp.zeros((codomain.size, count), codomain.dtype))
