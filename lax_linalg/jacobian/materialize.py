"""All entries of a Jacobian in tangent chunks: peak memory O(output + chunk), never O(n × activations).

The function is linearised once; unit tangents (or cotangents, where there are fewer outputs than inputs) are pushed
through the linear map a chunk at a time, and each chunk's columns (rows) are written into the output in place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lax_linalg.canonical import canonical
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError

MODES = ("auto", "forward", "reverse")
_ONE_WAY = frozenset({"custom_vjp_call", "while", "pure_callback", "io_callback"})
"""What may have a derivative in one direction only, or in none."""


class Directions(NamedTuple):
    """Which of a function's derivatives JAX has: forward J v, reverse Jᴴ w.

    Example:
        >>> Directions(True, True).only is None
        True
    """

    forward: bool
    reverse: bool

    @property
    def only(self) -> str | None:
        """The one direction that there is; None if there are both."""
        return None if self.forward and self.reverse else "forward" if self.forward else "reverse"


def directions(f: Callable[..., jax.Array], x: Any, args: tuple, jaxpr: Any = None) -> Directions:
    """In which directions f can be differentiated: a `custom_vjp` has no forward rule, a `while_loop` no reverse one.

    Args:
        f: function of (x, *args).
        x: input, or its shape and dtype.
        args: further arguments, alike.
        jaxpr: the program of f, if it is known.

    Raises:
        LinearAlgebraError: if there is none, as of a callback to Python.

    Cost: one abstract evaluation of f, more where one of these is in the program.

    Example:
        >>> directions(lambda x: jax.lax.while_loop(lambda x: x < 9, lambda x: 2 * x, x), jnp.ones(()), ())
        Directions(forward=True, reverse=False)
    """
    jaxpr = jax.make_jaxpr(f)(x, *args).jaxpr if jaxpr is None else jaxpr
    if not _ONE_WAY & set(primitive_names(jaxpr)):
        return Directions(True, True)
    x = jax.ShapeDtypeStruct(jnp.shape(x), x.dtype)
    out = jax.eval_shape(f, x, *args)

    def rule(derivative: Callable[..., Any], along: Any) -> str:
        try:
            names = primitive_names(jax.make_jaxpr(derivative)(x, along, args).jaxpr)
        except (TypeError, ValueError, NotImplementedError) as error:
            return str(error).partition("\n")[0]
        return "a custom_vjp has no forward rule" if "custom_lin" in names else ""

    forward = rule(lambda x, v, args: jax.jvp(lambda x: f(x, *args), (x,), (v,))[1], x)
    reverse = rule(lambda x, w, args: jax.vjp(lambda x: f(x, *args), x)[1](w), out)
    if forward and reverse:
        raise LinearAlgebraError(f"has no derivative: {forward}")
    return Directions(not forward, not reverse)


def push_of(f: Callable[..., jax.Array], x: jax.Array, args: tuple = ()) -> Callable[[jax.Array], jax.Array]:
    """v -> J v, linearised once; where f has a reverse rule only, by transposing that.

    Example:
        >>> print(push_of(jnp.square, jnp.array([3.0]))(jnp.ones(1)))
        [6.]
    """
    if directions(f, x, args).forward:
        return canonical(jax.linearize(lambda x: f(x, *args), x)[1], x)
    y, pull = jax.vjp(lambda x: f(x, *args), x)
    transposed = jax.linear_transpose(lambda ct: pull(ct)[0], y)
    return canonical(lambda v: transposed(v)[0], x)


def pull_of(f: Callable[..., jax.Array], x: jax.Array, args: tuple = ()) -> Callable[[jax.Array], jax.Array]:
    """w -> Jᵀ w, linearised once.

    Raises:
        LinearAlgebraError: for a function without a reverse rule, naming the remedy.

    Example:
        >>> print(pull_of(jnp.square, jnp.array([3.0]))(jnp.ones(1)))
        [6.]
    """
    if not directions(f, x, args).reverse:
        raise LinearAlgebraError(
            f"{getattr(f, '__name__', type(f).__name__)} cannot be differentiated in reverse (a while_loop), which "
            "products with the transpose need; form the matrix, la.materialize(J), or run the loop by jax.lax.scan"
        )
    y, pull = jax.vjp(lambda x: f(x, *args), x)
    return canonical(lambda w: pull(w)[0], y)


def chosen_mode(mode: str, m: int, n: int, only: str | None = None) -> str:
    """The direction in which an m×n Jacobian is formed: reverse for fewer rows than columns, unless asked otherwise.

    `only` is the one direction that there is.

    Raises:
        UnknownNameError: for a mode that is not "auto", "forward" or "reverse".

    Example:
        >>> chosen_mode("auto", 10, 512)
        'reverse'
    """
    if mode not in MODES:
        raise UnknownNameError.of("jacobian mode", mode, MODES)
    return mode if mode != "auto" else only or ("reverse" if m < n else "forward")


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


def program_cost(jaxpr: Any) -> float:
    """FLOPs of one product with the linearised program, in those of matrix products: twice the multiplications.

    Example:
        >>> program_cost(jax.make_jaxpr(lambda W, x: jnp.tanh(W @ x))(jnp.ones((4, 3)), jnp.ones(3)).jaxpr)
        32.0
    """
    cost = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        nested = nested_programs(equation)
        size = sum(math.prod(v.aval.shape) for v in equation.outvars if _bytes(v.aval))
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            spec = equation.params["dimension_numbers"].rhs_spec
            cost += convolution_factor(kernel[spec[1]]) * 2 * size * math.prod(kernel) / kernel[spec[0]]
        elif name == "dot_general":
            over = equation.params["dimension_numbers"][0][0]
            cost += 2 * size * math.prod(equation.invars[0].aval.shape[a] for a in over)
        elif nested:
            times = equation.params.get("length", 1) if name == "scan" else 1
            cost += times * max(program_cost(n) for n in nested)
        else:
            cost += 2 * size
    return cost


def convolution_factor(channels: int) -> float:
    """How many times longer a FLOP takes in a convolution than in a matrix product, by input channels of a group.

    XLA's convolutions on a CPU spend about the same time on an output value and tap whatever the channels, several
    times more below eight of them; benchmarks/jacobian_routes.py shows what the counts lead to.

    Example:
        >>> convolution_factor(1), convolution_factor(8), convolution_factor(64)
        (260.0, 4.5, 1.0)
    """
    return max(1.0, (36.0 if channels >= 8 else 260.0) / channels)


def _bytes(aval: Any) -> int:
    dtype = getattr(aval, "dtype", None)
    inexact = dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
    return math.prod(aval.shape) * jnp.dtype(dtype).itemsize if inexact else 0


def _largest_result(jaxpr: Any) -> int:
    """Bytes of the largest floating-point array that a program or a program nested in it computes."""
    largest = 0
    for equation in jaxpr.eqns:
        largest = max(largest, *(_bytes(v.aval) for v in equation.outvars), 0)
        largest = max([largest, *map(_largest_result, nested_programs(equation))])
    return largest


def primitive_names(jaxpr: Any) -> list[str]:
    """The names of a program's operations, those of the programs in it included.

    Example:
        >>> primitive_names(jax.make_jaxpr(jax.jit(jnp.sin))(1.0).jaxpr)
        ['jit', 'sin']
    """
    programs = [program for equation in jaxpr.eqns for program in nested_programs(equation)]
    nested = [name for program in programs for name in primitive_names(program)]
    return [equation.primitive.name for equation in jaxpr.eqns] + nested


def nested_programs(equation: Any) -> list[Any]:
    """The programs that an equation holds: of a call, a scan, a conditional …

    Example:
        >>> (equation,) = jax.make_jaxpr(jax.jit(jnp.sin))(1.0).jaxpr.eqns
        >>> [len(program.eqns) for program in nested_programs(equation)]
        [1]
    """
    found = []
    for parameter in equation.params.values():
        for item in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
            nested = getattr(item, "jaxpr", item)
            if hasattr(nested, "eqns"):
                found.append(nested)
    return found


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
    mode = chosen_mode(mode, out.size, x.size, directions(f, x, args).only)
    chunk = chunk_size(f, x, args, memory_budget)

    def panel(x: jax.Array, args: tuple, start: jax.Array | int, count: int) -> jax.Array:
        """Columns (rows, in reverse mode) start … start + count − 1; those behind the last one are zero."""
        if mode == "forward":
            return columns_of(push_of(f, x, args), x, out, count, chunk, start)
        return columns_of(pull_of(f, x, args), out, x, count, chunk, start).T

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


def columns_of(
    apply: Callable[[jax.Array], jax.Array],
    domain: Any,
    codomain: Any,
    count: int,
    chunk: int,
    start: jax.Array | int = 0,
    labels: np.ndarray | None = None,
) -> jax.Array:
    """Columns of the linear map `apply`, `chunk` at a time: those of the unit vectors, or sums of columns by label.

    Args:
        apply: linear function from arrays like `domain` to arrays like `codomain`.
        domain, codomain: shapes and dtypes.
        count: how many columns.
        chunk: how many at a time.
        start: number of the first.
        labels: a number for each entry of the domain; column c is then the image of all entries with label c.

    Returns:
        [codomain.size, count].

    Example:
        >>> aval = jax.ShapeDtypeStruct((3,), jnp.float32)
        >>> print(columns_of(lambda v: 2 * v, aval, aval, 2, 8, labels=np.array([0, 1, 0])))
        [[2. 0.]
         [0. 2.]
         [2. 0.]]
    """
    label = jnp.arange(domain.size) if labels is None else jnp.asarray(labels)

    def block(first: jax.Array | int, width: int) -> jax.Array:
        rows = first + jnp.arange(width)
        unit = (rows[:, None] == label).astype(domain.dtype)
        return jax.vmap(apply)(unit.reshape(width, *domain.shape)).reshape(width, codomain.size).T

    if chunk >= count:
        return block(start, count)

    def write(i: jax.Array, matrix: jax.Array) -> jax.Array:
        at = jnp.minimum(i * chunk, count - chunk)  # the last chunk moves back instead of being padded
        return jax.lax.dynamic_update_slice(matrix, block(start + at, chunk), (0, at))

    return jax.lax.fori_loop(0, -(-count // chunk), write, jnp.zeros((codomain.size, count), codomain.dtype))
