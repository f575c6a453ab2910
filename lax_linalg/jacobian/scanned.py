"""Layers that a model runs by scan over stacked parameters, found in the model's program.

A module inside a scan sees that scan's tracers, so that its input cannot be recorded; the program shows it: a scan
whose carry depends on the model's input and whose stacked arrays depend on the parameters alone is a stack of layers,
and the carry is their input. The stack is named after the parameters that are scanned over.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from lax_linalg.jacobian.graph import CALLS
from lax_linalg.jacobian.trace import Call

_NEVER = frozenset()


class _Scan(NamedTuple):
    """One stack of layers in a program.

    Attributes:
        number: among the scans of the program, in its order.
        parameters: numbers of the state's leaves that are scanned over.
        carried: for each carry whether it depends on the input; only those make the layers' Jacobians.
        reason: why the layers have no Jacobians, or "".
    """

    number: int
    parameters: frozenset[int]
    carried: tuple[bool, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class _Program:
    """A model as a function of one example, with the shapes that it is traced for.

    Attributes:
        whole: hashable function (x_b, state).
        x_tree, x_avals: tree, shapes and dtypes of one example's arrays.
        tree, avals: the state's.
    """

    whole: Callable[..., Any]
    x_tree: Any
    x_avals: tuple[jax.ShapeDtypeStruct, ...]
    tree: Any
    avals: tuple[jax.ShapeDtypeStruct, ...]

    def closed(self) -> Any:
        """The jaxpr, which JAX keeps for the context that it was traced in."""
        with jax.ensure_compile_time_eval():
            x = jax.tree.unflatten(self.x_tree, self.x_avals)
            return jax.make_jaxpr(self.whole)(x, jax.tree.unflatten(self.tree, self.avals))

    def scan(self, number: int) -> Any:
        """The equation of one scan."""
        return _scan_equations(self.closed().jaxpr)[number]


def _body(eqn: Any) -> tuple[Any, tuple] | None:
    """The program that a call stands for, and its constants; None for anything else, and for custom derivatives."""
    if eqn.primitive.name not in CALLS or eqn.primitive.name.startswith("custom"):
        return None
    body = eqn.params[CALLS[eqn.primitive.name]]
    return (body.jaxpr, tuple(body.consts)) if hasattr(body, "consts") else (body, ())


def all_equations(jaxpr: Any) -> list[Any]:
    """The equations of a program with those of the calls in it in place of the calls, in order.

    Example:
        >>> [e.primitive.name for e in all_equations(jax.make_jaxpr(jax.jit(lambda x: 2 * jnp.sin(x)))(1.0).jaxpr)]
        ['sin', 'mul']
    """
    found = []
    for eqn in jaxpr.eqns:
        body = _body(eqn)
        found += [eqn] if body is None else all_equations(body[0])
    return found


def _scan_equations(jaxpr: Any) -> list[Any]:
    return [eqn for eqn in all_equations(jaxpr) if eqn.primitive.name == "scan"]


# --- which scans are stacks of layers ---


def _stacks(program: _Program) -> list[_Scan]:
    """All stacks of layers, from what each array of the program depends on: −1 is the input, k the state's leaf k."""
    scans: list[tuple[Any, list[frozenset[int]]]] = []
    examples = [frozenset({-1})] * len(program.x_avals)
    _depends(program.closed().jaxpr, [*examples, *(frozenset({k}) for k in range(len(program.avals)))], scans)
    stacks = (_stack(eqn, sources, number) for number, (eqn, sources) in enumerate(scans))
    return [stack for stack in stacks if stack]


def _depends(
    jaxpr: Any, given: list[frozenset[int]], scans: list[tuple[Any, list[frozenset[int]]]]
) -> list[frozenset[int]]:
    """What the results of a program depend on, by what its arguments do; `scans` gets its scans and their sources."""
    depends = dict(zip(jaxpr.invars, given))

    def of(v: Any) -> frozenset[int]:
        return _NEVER if hasattr(v, "val") else depends.get(v, _NEVER)

    for eqn in jaxpr.eqns:
        sources = [of(v) for v in eqn.invars]
        body = _body(eqn)
        if body is not None:
            results = _depends(body[0], sources, scans)
        else:
            if eqn.primitive.name == "scan":
                scans.append((eqn, sources))
            results = [_NEVER.union(*sources)] * len(eqn.outvars)
        depends.update(zip(eqn.outvars, results))
    return [of(v) for v in jaxpr.outvars]


def _counts(eqn: Any) -> tuple[int, int]:
    """How many inputs of a scan are constants and how many are carried; since jax 0.11 as trees of the arguments."""
    if "num_consts" in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carries, _ = eqn.params["ft_in"].unpack()
    return len(consts), len(carries)


def _stack(eqn: Any, sources: list[frozenset[int]], number: int) -> _Scan | None:
    consts, carries = _counts(eqn)
    held, carried, over = sources[:consts], sources[consts : consts + carries], sources[consts + carries :]
    parameters = _NEVER.union(*over)
    if not parameters or -1 in parameters or not any(-1 in c for c in carried):
        return None
    body = eqn.params["jaxpr"].jaxpr
    for _ in range(carries):  # what a carry depends on may come to it through others, one after the other
        reached = _depends(body, [*held, *carried, *over], [])[:carries]
        carried = [a | b for a, b in zip(carried, reached)]
    moves = tuple(-1 in c for c in carried)
    avals = [v.aval for v, moved in zip(body.invars[consts : consts + carries], moves) if moved]
    reason = ""
    if any(-1 in h for h in held):
        reason = "reads, beside what is carried from layer to layer, other arrays that depend on the input"
    elif not all(jnp.issubdtype(a.dtype, jnp.floating) for a in avals):
        reason = "carries " + ", ".join(jnp.dtype(a.dtype).name for a in avals) + " from layer to layer"
    return _Scan(number, parameters, moves, reason)


# --- values ---


class _Found(Exception):
    """Carries a scan's operands and results out of the walk through the program."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def _operands(program: _Program, stack: _Scan, x: tuple, leaves: tuple) -> tuple[Any, ...]:
    """(h, h', xs, constants) of a stack at a batch of examples: its first and last carry, and what all examples share.

    The carries that do not depend on the input, such as counters, become part of xs.
    """
    closed = program.closed()
    eqn = _scan_equations(closed.jaxpr)[stack.number]
    consts, carries = _counts(eqn)

    def capture(x: Sequence[Any]) -> tuple[tuple, tuple, tuple]:
        try:
            evaluate(closed.jaxpr, closed.consts, [*x, *leaves], stop)
        except _Found as found:
            operands, results = found.args
            carried = [(a, b) for a, b, m in zip(operands[consts:], results, stack.carried) if m]
            return tuple(a for a, _ in carried), tuple(b for _, b in carried), tuple(operands)
        raise AssertionError("the scan is not in the program")

    def stop(reached: Any, operands: list, results: list) -> None:
        if reached is eqn:
            raise _Found(operands, results)

    h, last, _ = jax.vmap(capture)(x)
    operands = capture([jnp.zeros(a.shape, a.dtype) for a in program.x_avals])[
        2
    ]  # for what does not depend on the input
    held, still, over = operands[:consts], operands[consts : consts + carries], operands[consts + carries :]
    fixed = tuple(a for a, moved in zip(still, stack.carried) if not moved)
    zeros = [jnp.zeros(v.aval.shape, v.aval.dtype) for v in eqn.params["jaxpr"].jaxpr.invars[consts : consts + carries]]
    if eqn.params["reverse"]:
        over = jax.tree.map(lambda a: a[::-1], over)

    def advance(state: tuple, x: tuple) -> tuple[tuple, tuple]:
        return _layer(eqn, stack, tuple(z for z, m in zip(zeros, stack.carried) if m), state, x, held)[1], state

    trajectory = jax.lax.scan(advance, fixed, over)[1] if fixed else ()
    return _flat(h), _flat(last), (over, trajectory), held


def _layer(eqn: Any, stack: _Scan, h: tuple, fixed: tuple, x: tuple, held: tuple) -> tuple[tuple, tuple]:
    """One layer: (h', what is carried besides)."""
    moving, still = iter(h), iter(fixed)
    carry = [next(moving) if moved else next(still) for moved in stack.carried]
    out = jaxpr_as_fun(eqn.params["jaxpr"])(*held, *carry, *x)[: len(carry)]
    moved = tuple(a for a, m in zip(out, stack.carried) if m)
    return moved, tuple(a for a, m in zip(out, stack.carried) if not m)


def _flat(h: tuple) -> jax.Array:
    """The carries [B, …] as one array, which one alone is already."""
    return h[0] if len(h) == 1 else jnp.concatenate([a.reshape(len(a), -1) for a in h], axis=1)


def evaluate(jaxpr: Any, consts: Any, values: Sequence[Any], visit: Callable[[Any, list, list], None]) -> list:
    """The results of a program; `visit` sees each equation with its operands and results, those of calls too.

    Example:
        >>> closed, seen = jax.make_jaxpr(jax.jit(lambda x: 2 * jnp.cos(x)))(0.0), []
        >>> (y,) = evaluate(closed.jaxpr, closed.consts, [0.0], lambda eqn, *_: seen.append(eqn.primitive.name))
        >>> float(y), seen
        (2.0, ['cos', 'mul', 'jit'])
    """
    known = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, values))
    for eqn in jaxpr.eqns:
        given = [v.val if hasattr(v, "val") else known[v] for v in eqn.invars]
        body = _body(eqn)
        if body is not None:
            results = evaluate(*body, given, visit)
        else:
            bound = eqn.primitive.bind(*given, **eqn.primitive.get_bind_params(eqn.params))
            results = list(bound) if eqn.primitive.multiple_results else [bound]
        visit(eqn, given, results)
        known.update(zip(eqn.outvars, results))
    return [v.val if hasattr(v, "val") else known[v] for v in jaxpr.outvars]


# --- as calls ---


@dataclasses.dataclass(frozen=True)
class ScannedLayer:
    """The body of a stack as `la.scan_jacobians` takes it: (h, x_l, constants) -> h', on a batch [B, …]."""

    program: _Program
    stack: _Scan
    shapes: tuple[tuple[int, ...], ...]
    name: str = dataclasses.field(compare=False)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, h: jax.Array, x: tuple, held: tuple) -> jax.Array:
        eqn = self.program.scan(self.stack.number)
        over, fixed = x
        ends = np.cumsum([math.prod(s) for s in self.shapes])[:-1]

        def one(h: jax.Array) -> tuple:
            parts = [h] if len(self.shapes) == 1 else [p.reshape(s) for p, s in zip(jnp.split(h, ends), self.shapes)]
            return _layer(eqn, self.stack, tuple(parts), fixed, over, held)[0]

        return _flat(jax.vmap(one)(h))


def scanned_calls(whole: Callable[..., Any], state: Any, x: Any, name_of: Callable[[list[tuple]], str]) -> list[Call]:
    """The calls of all stacks of layers that a model runs by scan.

    Args:
        whole: hashable function (x_b, state) of one example.
        state: its parameters.
        x: a batch of inputs [B, …], an array or a pytree of them.
        name_of: the module's name from the paths, in the state, of the parameters that are scanned over.

    Returns:
        A call for each stack, with its `scan`, or with the reason why it has none.

    Example:
        >>> W = jnp.ones((5, 2, 2))
        >>> f = lambda x, W: jax.lax.scan(lambda h, W: (jnp.tanh(W @ h), None), x, W)[0]
        >>> (call,) = scanned_calls(f, W, jnp.ones((3, 2)), lambda paths: "stack")
        >>> call.path, call.x.shape
        ('stack/depth', (3, 2))
    """
    paths, tree = jax.tree.flatten_with_path(state)
    leaves = tuple(leaf for _, leaf in paths)
    avals = tuple(jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)) for a in leaves)
    examples, x_tree = jax.tree.flatten(x)
    one = tuple(jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in examples)
    program = _Program(whole, x_tree, one, tree, avals)
    calls: list[Call] = []
    for stack in _stacks(program):
        name = name_of([paths[k][0] for k in sorted(stack.parameters)])
        path = f"{name}/depth" if name else "depth"
        same = sum(call.path.partition("@")[0] == path for call in calls)
        path = f"{path}@{same + 1}" if same else path
        if stack.reason:
            calls.append(Call(path, None, (), None, None, True, stack.reason))
            continue
        h, last, xs, held = _operands(program, stack, tuple(examples), leaves)
        eqn = program.scan(stack.number)
        start, carries = _counts(eqn)
        carried = eqn.params["jaxpr"].jaxpr.invars[start : start + carries]
        shapes = tuple(tuple(v.aval.shape) for v, moved in zip(carried, stack.carried) if moved)
        step = ScannedLayer(program, stack, shapes, path)
        calls.append(Call(path, None, (held,), h, last, True, "", (), (step, xs)))
    return calls
