"""A function's derivative as a graph of linear operators, read off its program.

Forward-mode differentiation, with operators in place of vectors: the program is evaluated once, and the derivative of
every intermediate array by the input is kept as diag(c) S L, where L belongs to a *node* (the input, or the result of a
linear map), S selects entries (slices, padding, broadcasting) and c is what elementwise functions multiply by. A
convolution or a matrix product of such an array makes a new node; where two nodes meet, their sum is one.

    φ(W x + b)       -> diag(φ') W
    x + f(x)         -> I + J
    f(g(x))          -> J_f J_g, kept factored

A program that holds anything else that depends on the input (a softmax's maximum, a product of two activations over a
shared axis, a scan) has no such graph; its Jacobian is a black box.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.kronecker import Kronecker
from lax_linalg.operators.uniform_scaling import UniformScaling


class Term(NamedTuple):
    """One summand of a derivative: operator · diag(scale) · S · L, with L the derivative of `source`.

    Attributes:
        operator: what a linear map multiplies by; None for the identity.
        scale: factors, [k] or a number; None for ones.
        index: S as a static array: row r of S L is row index[r] of L, or zero for −1; None for the identity.
        source: the node.
    """

    operator: LinearOperator | None
    scale: jax.Array | None
    index: np.ndarray | None
    source: Node


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A point of the program that everything behind it depends on through one vector.

    Attributes:
        size: length of that vector.
        shape: shape of the array.
        terms: its derivative; () for the input.
        dominator: the last node that every path from the input to here leads through.
        depth: number of dominators.
    """

    size: int
    shape: tuple[int, ...]
    terms: tuple[Term, ...] = ()
    dominator: Node | None = None
    depth: int = 0


class Graph(NamedTuple):
    """The derivative of a whole function: `output` is a term without operator.

    Attributes:
        input: the node of x.
        output: diag(scale) S L of the last node; None if the function does not depend on x.
        nodes: every node from the input on, in the order of the program.
    """

    input: Node
    output: Term | None
    nodes: list[Node]


class _Opaque(Exception):
    """The program does something with the input that has no operator here."""


# What acts entry by entry; every result that is no number (a comparison) has no derivative.
ELEMENTWISE = frozenset(
    """abs acos acosh add add_any asin asinh atan atan2 atanh cbrt clamp convert_element_type copy copy_p cos cosh
    custom_jvp_call digamma div erf erf_inv erfc exp exp2 expm1 integer_pow lgamma log log1p logistic
    max min mul neg nextafter pow reduce_precision rem round rsqrt select_n sign sin sinh sqrt square sub tan
    tanh""".split()  # noqa: SIM905
)
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat2": "jaxpr"}
CALLS |= {"checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
MOVES = frozenset(
    ("slice", "rev", "transpose", "broadcast_in_dim", "pad", "concatenate", "squeeze", "expand_dims", "reshape")
)
CUT = frozenset({"stop_gradient"})


def derivative_graph(
    f: Callable[..., jax.Array], x: jax.Array, args: tuple = (), *, required: bool = False
) -> Graph | None:
    """The graph of the derivative of f at x, or None where the program is not made of the maps above.

    Args:
        f: function of (x, *args) that gives one array.
        x: where to differentiate.
        args: further arguments of f, held fixed.
        required: raise instead of returning None.

    Raises:
        LinearAlgebraError: if required, naming the operation that has no operator.

    Cost: one evaluation of f, and of the derivatives of its elementwise functions.

    Example:
        >>> graph = derivative_graph(lambda x: jnp.tanh(2.0 * x), jnp.zeros(3))
        >>> len(graph.nodes), graph.output.scale.shape
        (1, (3,))
        >>> derivative_graph(jnp.sort, jnp.zeros(3)) is None
        True
    """
    closed = jax.make_jaxpr(f)(x, *args)
    start = Node(math.prod(x.shape), tuple(x.shape))
    walk = _Walk(start)
    flat = jax.tree.leaves((x, args))
    derivatives: list[Term | None] = [Term(None, None, None, start), *[None] * (len(flat) - 1)]
    try:
        _, (out,) = walk.run(closed.jaxpr, closed.consts, flat, derivatives)
    except _Opaque as error:
        if required:
            raise LinearAlgebraError(
                f"the Jacobian of {getattr(f, '__name__', type(f).__name__)} has no structure: {error} depends on the "
                "input and is no convolution, matrix product or elementwise function; use method='auto' or 'dense'"
            ) from None
        return None
    return Graph(start, out, walk.nodes)


class _Walk:
    """Evaluates a program and collects its nodes."""

    def __init__(self, start: Node):
        self.nodes = [start]

    def node(self, shape: Sequence[int], terms: tuple[Term, ...]) -> Term:
        """A new node with these terms, as the derivative of an array."""
        dominator: Any = terms[0].source  # every walk up ends at the input at the latest
        for term in terms[1:]:
            other: Any = term.source
            while dominator is not other:
                if dominator.depth >= other.depth:
                    dominator = dominator.dominator
                else:
                    other = other.dominator
        made = Node(math.prod(shape), tuple(shape), terms, dominator, dominator.depth + 1)
        self.nodes.append(made)
        return Term(None, None, None, made)

    def settle(self, term: Term, shape: Sequence[int]) -> Term:
        """The same derivative as that of a node of its own."""
        return self.node(shape, (term,)) if term.scale is not None or term.index is not None else term

    def run(self, jaxpr: Any, consts: Sequence, values: Sequence, derivatives: Sequence) -> tuple[list, list]:
        """Values and derivatives of a program's results."""
        known = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, values))
        slope = dict(zip(jaxpr.invars, derivatives))

        def value(v: Any) -> Any:
            return v.val if hasattr(v, "val") else known[v]

        def derivative(v: Any) -> Term | None:
            return None if hasattr(v, "val") else slope.get(v)

        for eqn in jaxpr.eqns:
            given, terms = [value(v) for v in eqn.invars], [derivative(v) for v in eqn.invars]
            with eqn.ctx.manager:
                results, found = self.step(eqn, given, terms)
            known.update(zip(eqn.outvars, results))
            slope.update(zip(eqn.outvars, found))
        return [value(v) for v in jaxpr.outvars], [derivative(v) for v in jaxpr.outvars]

    def step(self, eqn: Any, values: list, terms: list) -> tuple[list, list]:
        """Values and derivatives of one equation's results."""
        name = eqn.primitive.name
        numbers = any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars)  # a call may give others too
        if not any(terms) or not numbers or name in CUT:
            results = _bind(eqn, values)
            return results, [None] * len(results)
        if name in ELEMENTWISE and _elementwise(eqn, terms):
            return _entries(eqn, values), [self.elementwise(eqn, values, terms)]
        if name in CALLS and not name.startswith("custom"):  # custom derivatives hold for the whole call only
            body = eqn.params[CALLS[name]]
            jaxpr, consts = (body.jaxpr, body.consts) if hasattr(body, "consts") else (body, ())
            return self.run(jaxpr, consts, values, terms)
        rule = getattr(self, f"rule_{name}", self.moved if name in MOVES else None)
        if rule is None:
            raise _Opaque(name)
        return _bind(eqn, values), [rule(eqn, values, terms)]

    def elementwise(self, eqn: Any, values: list, terms: list) -> Term:
        """Σ_k diag(∂y/∂a_k) over the operands; one term where they share their node."""
        shape = tuple(eqn.outvars[0].aval.shape)
        parts = [(k, t) for k, t in enumerate(terms) if t is not None]
        scaled = [t._replace(scale=_times(_slope(eqn, values, k), t.scale, shape)) for k, t in parts]
        first = scaled[0]
        if all(t.source is first.source and _same(t.index, first.index) for t in scaled):
            total = scaled[0].scale
            for t in scaled[1:]:
                total = (1.0 if total is None else total) + (1.0 if t.scale is None else t.scale)
            return first._replace(scale=_shaped(total, eqn.outvars[0].aval.dtype))
        return self.node(shape, tuple(t._replace(scale=_flat(t.scale)) for t in scaled))

    def moved(self, eqn: Any, values: list, terms: list) -> Term:
        """Entries moved, repeated, dropped or set: the same is done with their positions."""
        shapes = [jnp.shape(v) for v in values]
        dependent = [(k, t) for k, t in enumerate(terms) if t is not None]
        out = tuple(eqn.outvars[0].aval.shape)
        if len(dependent) == 1 and math.prod(shapes[dependent[0][0]]) == math.prod(out):
            k, t = dependent[0]
            positions = _positions(eqn, shapes, {k: np.arange(math.prod(out), dtype=np.int32)})
            if np.array_equal(positions, np.arange(positions.size)):  # the flattened array is the same
                scale = t.scale if t.scale is None or jnp.ndim(t.scale) == 0 else t.scale.reshape(out)
                return t._replace(scale=scale)
        settled = []
        for k, t in dependent:
            settled.append((k, self.settle(_flattened(t), shapes[k]) if t.scale is not None else t))
        source = settled[0][1].source
        if any(t.source is not source for _, t in settled):
            raise _Opaque(eqn.primitive.name)
        index = {}
        for k, t in settled:
            index[k] = np.arange(math.prod(shapes[k]), dtype=np.int32) if t.index is None else t.index
        return Term(None, None, _positions(eqn, shapes, index), source)

    def linear(self, operator: LinearOperator, term: Term, shape: Sequence[int]) -> Term:
        """The node of operator · term."""
        return self.node(shape, (_flattened(term)._replace(operator=operator),))

    def rule_conv_general_dilated(self, eqn: Any, values: list, terms: list) -> Term:
        image, kernel = values
        term, params = terms[0], eqn.params
        d = jnp.ndim(image) - 2
        last = (0, d + 1, *range(1, d + 1))  # batch, feature, spatial: images are channels-last
        numbers = params["dimension_numbers"]
        plain = (
            terms[1] is None
            and term is not None
            and d in (1, 2)
            and image.shape[0] == 1
            and (numbers.lhs_spec, numbers.out_spec) == (last, last)
            and params["batch_group_count"] == 1
            and set(params["lhs_dilation"]) == {1}
            and min(itertools.chain.from_iterable(params["padding"])) >= 0
        )
        if not plain:
            raise _Opaque("conv_general_dilated")
        assert term is not None
        o, i, *spatial = numbers.rhs_spec
        kernel = jnp.transpose(kernel, (*spatial, i, o))
        sizes, padding = tuple(image.shape[1:-1]), tuple(map(tuple, params["padding"]))
        options: dict[str, Any] = {"stride": tuple(params["window_strides"]), "dilation": tuple(params["rhs_dilation"])}
        options["groups"] = params["feature_group_count"]
        wrapped = _unwrapped(term, sizes, image.shape[-1], kernel.shape[:-2], options["dilation"], padding)
        if wrapped is not None:
            term, sizes, padding = term._replace(index=None), wrapped, "circular"
        return self.linear(Convolution(kernel, sizes, padding=padding, **options), term, eqn.outvars[0].aval.shape)

    def rule_dot_general(self, eqn: Any, values: list, terms: list) -> Term:
        (contract, batch) = eqn.params["dimension_numbers"]
        k = 0 if terms[0] is not None else 1
        if all(t is not None for t in terms) or any(batch):
            raise _Opaque("dot_general")
        axes, shape = tuple(contract[k]), jnp.shape(values[k])
        other, over = values[1 - k], tuple(contract[1 - k])
        if other.size == 0:
            raise _Opaque("dot_general")
        free = [a for a in range(other.ndim) if a not in over]
        matrix = jnp.transpose(other, (*free, *over)).reshape(-1, math.prod(other.shape[a] for a in over))
        count, rank = len(axes), len(shape)
        operator: LinearOperator = Dense(matrix)
        rest = math.prod(shape) // matrix.shape[1]
        if axes == tuple(range(rank - count, rank)) and (rest == 1 or k == 0):  # X Wᵀ: the free axes of X stay in front
            operator = Kronecker(_identity(rest, matrix.dtype), operator) if rest > 1 else operator
        elif axes == tuple(range(count)) and (rest == 1 or k == 1):  # W X: they stay behind
            operator = Kronecker(operator, _identity(rest, matrix.dtype)) if rest > 1 else operator
        else:
            raise _Opaque("dot_general")
        return self.linear(operator, terms[k], eqn.outvars[0].aval.shape)

    def rule_reduce_window_sum(self, eqn: Any, values: list, terms: list) -> Term:
        """Sums over windows of channels-last images: a convolution with ones, each channel by itself."""
        shape, params = jnp.shape(values[0]), eqn.params
        window, strides = tuple(params["window_dimensions"]), tuple(params["window_strides"])
        padding, edges = tuple(map(tuple, params["padding"])), (0, len(shape) - 1)
        plain = (
            len(shape) in (3, 4)
            and shape[0] == 1
            and all(window[e] == strides[e] == 1 and padding[e] == (0, 0) for e in edges)
            and set(params["base_dilation"]) == {1}
        )
        if not plain:
            raise _Opaque("reduce_window_sum")
        kernel = jnp.ones((*window[1:-1], 1, shape[-1]), values[0].dtype)
        operator = Convolution(
            kernel,
            shape[1:-1],
            stride=strides[1:-1],
            padding=padding[1:-1],
            dilation=tuple(params["window_dilation"])[1:-1],
            groups=shape[-1],
        )
        return self.linear(operator, terms[0], eqn.outvars[0].aval.shape)


def _identity(n: int, dtype: Any) -> UniformScaling:
    return UniformScaling(jnp.ones((), dtype), n)


def _bind(eqn: Any, values: list) -> list:
    result = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return list(result) if eqn.primitive.multiple_results else [result]


def _entries(eqn: Any, values: list) -> list:
    """Results of an elementwise equation, whose operands go without the axis of a batch of one.

    Mapped over examples it then is what a model computes for the batch, and the compiler does it once for both.
    """
    shape = tuple(eqn.outvars[0].aval.shape)
    if len(shape) < 2 or shape[0] != 1 or eqn.primitive.name.startswith("custom"):
        return _bind(eqn, values)
    return [y[None] for y in _bind(eqn, [v[0] if jnp.ndim(v) == len(shape) else v for v in values])]


def _elementwise(eqn: Any, terms: list) -> bool:
    """Whether the equation acts entry by entry on its dependent operands."""
    if len(eqn.outvars) != 1:
        return False
    shape = eqn.outvars[0].aval.shape
    if any(t is not None and v.aval.shape != shape for v, t in zip(eqn.invars, terms)):
        return False
    if not eqn.primitive.name.startswith("custom"):
        return True
    body = eqn.params["call_jaxpr"]
    return _entrywise(getattr(body, "jaxpr", body), shape)


def _entrywise(jaxpr: Any, shape: tuple[int, ...]) -> bool:
    """Whether a program is made of elementwise functions of arrays of one shape and of numbers."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in CALLS:
            body = eqn.params[CALLS[name]]
            if not _entrywise(getattr(body, "jaxpr", body), shape):
                return False
        elif name in ("broadcast_in_dim",):
            if eqn.invars[0].aval.shape not in ((), shape):
                return False
        elif name not in ELEMENTWISE and name not in ("gt", "lt", "ge", "le", "eq", "ne", "and", "or", "not", *CUT):
            return False
        if any(v.aval.shape not in ((), shape) for v in (*eqn.invars, *eqn.outvars)):
            return False
    return True


def _slope(eqn: Any, values: list, k: int) -> jax.Array | None:
    """∂ result / ∂ operand k, entry by entry; None for ones."""
    name = eqn.primitive.name
    if name in ("add", "add_any", "copy", "copy_p", "reduce_precision") or (name == "sub" and k == 0):
        return None
    if name == "convert_element_type":
        return None
    if name in ("sub", "neg"):
        return jnp.asarray(-1.0, values[k].dtype)
    if name == "mul" and jnp.ndim(values[1 - k]) == 0 and jnp.ndim(values[k]) > 0:
        other = values[1 - k]
        return None if isinstance(other, (float, int, np.generic, np.ndarray)) and other == 1 else jnp.asarray(other)
    if name == "div" and k == 0 and jnp.ndim(values[1]) == 0 and jnp.ndim(values[k]) > 0:
        return 1 / jnp.asarray(values[1])

    def along(v: jax.Array) -> jax.Array:
        (result,) = _bind(eqn, [*values[:k], v, *values[k + 1 :]])
        return result

    at = jnp.asarray(values[k])
    return jax.jvp(along, (at,), (jnp.ones_like(at),))[1]


def _times(slope: jax.Array | None, scale: jax.Array | None, shape: tuple[int, ...]) -> jax.Array | None:
    if slope is None or scale is None:
        return slope if scale is None else scale
    if jnp.ndim(scale) and tuple(scale.shape) != shape:
        scale = scale.reshape(shape)
    return slope * scale


def _shaped(total: Any, dtype: Any) -> jax.Array | None:
    return None if total is None else jnp.asarray(total, dtype)


def _flat(scale: jax.Array | None) -> jax.Array | None:
    return scale if scale is None or jnp.ndim(scale) == 0 else scale.reshape(-1)


def _flattened(term: Term) -> Term:
    return term._replace(scale=_flat(term.scale))


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _positions(eqn: Any, shapes: list, index: dict[int, np.ndarray]) -> np.ndarray:
    """What the equation does to positions: the operands' entries by number, −1 where something else is put."""
    operands = [index[k].reshape(s) if k in index else np.full(s, -1, np.int32) for k, s in enumerate(shapes)]
    with jax.ensure_compile_time_eval(), jax.default_device(_cpu()):
        (result,) = _bind(eqn, [jnp.asarray(a) for a in operands])
    return np.asarray(result, np.int32).reshape(-1)


def _cpu() -> Any:
    with contextlib.suppress(RuntimeError):
        return jax.devices("cpu")[0]
    return None


def _unwrapped(
    term: Term, padded: tuple, channels: int, kernel: Sequence[int], dilation: tuple, padding: tuple
) -> tuple[int, ...] | None:
    """The size of the images that circular padding made `padded`, or None if they were not padded so."""
    if term.index is None or term.scale is not None or any(p for pair in padding for p in pair):
        return None
    pads = [(((k - 1) * s) // 2, ((k - 1) * s + 1) // 2) for k, s in zip(kernel, dilation)]
    sizes = tuple(n - sum(p) for n, p in zip(padded, pads))
    if min(sizes) < 1 or math.prod(sizes) * channels != term.source.size:
        return None
    positions = np.arange(term.source.size, dtype=np.int32).reshape(*sizes, channels)
    return sizes if np.array_equal(np.pad(positions, (*pads, (0, 0)), mode="wrap").reshape(-1), term.index) else None
