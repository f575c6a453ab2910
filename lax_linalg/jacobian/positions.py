"""Layers that act on every position alone: tokens of a sequence, pixels of an image.

Their Jacobians are block-diagonal up to the order of rows and columns, one block a position. Which axes of the input
are positions is read off the program: along such an axis every result depends on its own slice of the input only. Then
one tangent that is the same at all positions gives a column of all blocks at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.jacobian.graph import CALLS, ELEMENTWISE
from lax_linalg.jacobian.materialize import chosen_mode, chunk_size, directions, pull_of, push_of

_HELD, _MIXED = -1, -2
"""Of an array that does not depend on the input, and of one in which positions have met; else the axis of positions."""

_POINTWISE = ELEMENTWISE | {"eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "is_finite", "stop_gradient"}
_REDUCTIONS = frozenset("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin".split())  # noqa: SIM905
_CUMULATIVE = frozenset("cumsum cumprod cummax cummin cumlogsumexp".split())  # noqa: SIM905


class Positions(NamedTuple):
    """The axes of positions: those of the input and, in the same order, those of the output.

    Example:
        >>> Positions((0,), (1,)).inputs
        (0,)
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def positions_of(f: Callable[..., jax.Array], x: Any, args: tuple = ()) -> Positions | None:
    """The axes along which f acts on every position alone, None where there are none.

    Args:
        f: function of (x, *args) that gives one array.
        x: input, or its shape and dtype.
        args: further arguments, which may differ from position to position.

    Cost: one abstract evaluation of f.

    Example:
        >>> W, tokens = jnp.ones((3, 3)), jnp.zeros((5, 3))
        >>> positions_of(lambda x: jnp.tanh(x @ W), tokens)
        Positions(inputs=(0,), outputs=(0,))
        >>> positions_of(lambda x: jax.nn.softmax(x @ x.T) @ x, tokens) is None
        True
    """
    jaxpr = jax.make_jaxpr(f)(x, *args).jaxpr
    found = []
    for axis, size in enumerate(x.shape):
        if size > 1:
            (state,) = _follow(jaxpr, [axis, *[_HELD] * (len(jaxpr.invars) - 1)])
            if state not in (_HELD, _MIXED):
                found.append((axis, state))
    return Positions(tuple(a for a, _ in found), tuple(b for _, b in found)) if found else None


def block_shape(positions: Positions, x: Any, out: Any) -> tuple[int, int, int]:
    """(P, m, n): the number of positions and the shape of a block.

    Example:
        >>> block_shape(Positions((0,), (1,)), jnp.zeros((5, 3)), jnp.zeros((4, 5)))
        (5, 4, 3)
    """
    count = math.prod(x.shape[axis] for axis in positions.inputs)
    return count, math.prod(out.shape) // count, math.prod(x.shape) // count


def position_blocks(
    f: Callable[..., jax.Array], x: jax.Array, args: tuple, positions: Positions, memory_budget: int
) -> jax.Array:
    """The Jacobians of all positions, [P, m, n], in C order of the positions and of the features.

    Args:
        f: function of (x, *args) that gives one array.
        x: input.
        args: further arguments.
        positions: what `positions_of` found.
        memory_budget: bytes that the tangents under way may take.

    Cost: min(m, n) products, instead of those of all positions.

    Example:
        >>> x = jnp.array([[0.0, 1.0], [2.0, 3.0]])
        >>> print(position_blocks(lambda x: x * x.sum(1, keepdims=True), x, (), Positions((0,), (0,)), 2**20))
        [[[1. 0.]
          [1. 2.]]
        <BLANKLINE>
         [[7. 2.]
          [3. 8.]]]
    """
    out = jax.eval_shape(f, x, *args)
    count, m, n = block_shape(positions, x, out)
    mode = chosen_mode("auto", m, n, directions(f, x, args).only)
    reverse = mode == "reverse"
    product = (pull_of if reverse else push_of)(f, x, args)
    given = out if reverse else x
    given_axes, taken_axes = positions[::-1] if reverse else positions
    features = [size for axis, size in enumerate(given.shape) if axis not in given_axes]
    spread = [1 if axis in given_axes else size for axis, size in enumerate(given.shape)]

    def line(number: jax.Array) -> jax.Array:
        unit = jax.nn.one_hot(number, math.prod(features), dtype=given.dtype).reshape(spread)
        result = product(jnp.broadcast_to(unit, given.shape))
        return jnp.moveaxis(result, taken_axes, range(len(taken_axes))).reshape(count, -1)

    chunk = min(chunk_size(f, x, args, memory_budget), math.prod(features))
    lines = jax.lax.map(line, jnp.arange(math.prod(features)), batch_size=chunk)
    return lines.transpose(1, 0, 2) if reverse else lines.transpose(1, 2, 0)


def _follow(jaxpr: Any, given: list[int]) -> list[int]:
    """The axis of positions of each result, by that of each argument."""
    states: dict[Any, int] = dict(zip(jaxpr.invars, given))

    def of(v: Any) -> int:
        return _HELD if hasattr(v, "val") else states.get(v, _HELD)

    for eqn in jaxpr.eqns:
        sources = [of(v) for v in eqn.invars]
        name = eqn.primitive.name
        if all(source == _HELD for source in sources):
            results = [_HELD] * len(eqn.outvars)
        elif _MIXED in sources:
            results = [_MIXED] * len(eqn.outvars)
        elif name in CALLS and CALLS[name] in eqn.params:
            body = eqn.params[CALLS[name]]
            results = _follow(getattr(body, "jaxpr", body), sources)
        else:
            results = [_moved(name, eqn, sources)] * len(eqn.outvars)
        states.update(zip(eqn.outvars, results))
    return [of(v) for v in jaxpr.outvars]


def _moved(name: str, eqn: Any, sources: list[int]) -> int:
    """The axis of positions of an equation's results, or `_MIXED`."""
    params, (first, *_) = eqn.params, eqn.invars
    axes = {source for source in sources if source != _HELD}
    axis = next(iter(axes))
    if name == "dot_general":
        return _of_product(params["dimension_numbers"], sources, eqn)
    if name == "conv_general_dilated":
        return _of_convolution(params, sources, eqn)
    if len(axes) > 1:
        return _MIXED
    out = eqn.outvars[0].aval.shape
    if name in _POINTWISE:
        shapes = [v.aval.shape for v, source in zip(eqn.invars, sources) if source != _HELD]
        return axis if all(len(s) == len(out) and s[axis] == out[axis] for s in shapes) else _MIXED  # others may be 1
    if name in _REDUCTIONS:
        return _MIXED if axis in params["axes"] else axis - sum(a < axis for a in params["axes"])
    if name in _CUMULATIVE:
        return _MIXED if axis == params["axis"] else axis
    if name in ("concatenate", "sort"):
        return _MIXED if axis == params["dimension"] else axis
    if name == "split":
        return _MIXED if axis == params["axis"] else axis
    if sources[0] == _HELD or any(source != _HELD for source in sources[1:]):
        return _MIXED
    shape = first.aval.shape
    if name == "broadcast_in_dim":
        return params["broadcast_dimensions"][axis]
    if name == "transpose":
        return params["permutation"].index(axis)
    if name == "squeeze":
        return axis - sum(a < axis for a in params["dimensions"])
    if name == "expand_dims":
        return next(i for i in range(len(out)) if i - sum(a < i for a in params["dimensions"]) == axis)
    if name == "rev":
        return _MIXED if axis in params["dimensions"] else axis
    if name == "slice":
        whole = params["start_indices"][axis] == 0 and params["limit_indices"][axis] == shape[axis]
        return axis if whole and (params["strides"] or (1,) * len(shape))[axis] == 1 else _MIXED
    if name == "pad":
        return axis if tuple(params["padding_config"][axis]) == (0, 0, 0) else _MIXED
    if name == "reshape" and params["dimensions"] is None:
        behind = math.prod(shape[axis + 1 :])
        kept = [i for i, size in enumerate(out) if size == shape[axis] and math.prod(out[i + 1 :]) == behind]
        return kept[0] if kept else _MIXED
    return _MIXED


def _of_product(numbers: Any, sources: list[int], eqn: Any) -> int:
    contracted, batched = numbers
    places = []
    for side, (v, source) in enumerate(zip(eqn.invars, sources)):
        if source == _HELD:
            continue
        if source in contracted[side]:
            return _MIXED
        if source in batched[side]:
            places.append(tuple(batched[side]).index(source))
            continue
        if all(s != _HELD for s in sources):  # a row of one side meets all rows of the other
            return _MIXED
        free = [a for a in range(v.aval.ndim) if a not in contracted[side] and a not in batched[side]]
        before = len(batched[0])
        if side:
            before += eqn.invars[0].aval.ndim - len(contracted[0]) - len(batched[0])
        places.append(before + free.index(source))
    return places[0] if len(set(places)) == 1 else _MIXED


def _of_convolution(params: Any, sources: list[int], eqn: Any) -> int:
    if sources[1] != _HELD:
        return _MIXED
    numbers, axis = params["dimension_numbers"], sources[0]
    place = numbers.lhs_spec.index(axis)  # of batch, features, space …
    if place == 0 and params["batch_group_count"] == 1:
        return numbers.out_spec[0]
    if place < 2:
        return _MIXED
    d = place - 2
    alone = (
        eqn.invars[1].aval.shape[numbers.rhs_spec[place]] == 1
        and params["window_strides"][d] == 1
        and tuple(params["padding"][d]) == (0, 0)
        and params["lhs_dilation"][d] == 1
    )
    return numbers.out_spec[place] if alone else _MIXED
