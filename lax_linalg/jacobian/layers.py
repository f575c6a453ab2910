"""`layer_jacobians`: every layer's Jacobian at the layer's own input, and the end-to-end one, for a batch of inputs."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from lax_linalg.core.batch import Batch, Stack
from lax_linalg.core.dispatch import Tracer
from lax_linalg.errors import LinearAlgebraError, NonFiniteError, UnknownNameError
from lax_linalg.jacobian.arguments import Inputs
from lax_linalg.jacobian.materialize import directions
from lax_linalg.jacobian.operator import DEFAULT_MEMORY_BUDGET, Jacobian, require_bytes
from lax_linalg.jacobian.scan import scan_jacobians
from lax_linalg.jacobian.trace import Call, Structure, structure_of

T = TypeVar("T")


class ByLayer(dict[str, T]):
    """Something of every layer by its path, in the model's order; `skipped` says which layers have none and why.

    Example:
        >>> list(jax.tree.map(len, ByLayer({"stem": "ab", "head": "c"})))  # a plain dict would come back sorted
        ['stem', 'head']
    """

    def __init__(self, found: Mapping[str, T] | Iterable = (), skipped: Mapping[str, str] | None = None):
        super().__init__(found)
        self.skipped = dict(skipped or {})

    def __missing__(self, path: str) -> T:
        if path in self.skipped:
            raise UnknownNameError(f"layer {path!r} {self.skipped[path]}")
        several = [name for name in self if name.rpartition(":")[0] == path]
        if several:
            names = ", ".join(map(repr, several))
            raise UnknownNameError(f"layer {path!r} takes several arrays and has a Jacobian by each: {names}")
        raise UnknownNameError.of("layer", path, self)


class LayerJacobians(ByLayer[Batch]):
    """Batches of Jacobians by layer path; `skipped` says which layers have none and why.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.layer_jacobians([jnp.tanh], jnp.zeros((1, 2))).skipped
        {}
    """


def _register(kind: type[ByLayer]) -> None:
    jax.tree_util.register_pytree_with_keys(
        kind,
        lambda d: ([(jax.tree_util.DictKey(k), v) for k, v in d.items()], (tuple(d), tuple(d.skipped.items()))),
        lambda aux, values: kind(zip(aux[0], values), dict(aux[1])),
    )


_register(ByLayer)
_register(LayerJacobians)


def layer_jacobians(
    model: Any,
    x: Any,
    layers: Iterable[str] | str | None = None,
    *,
    call_kwargs: Mapping[str, Any] | None = None,
    input: str | None = None,
    output: str | Mapping[str, str] | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> LayerJacobians:
    """The Jacobian of every layer at the layer's own input, J_l = ∂ y_l / ∂ x_l, for each example of a batch.

    The model runs once, on the batch; a layer is then the pure function of one example that its module computes. The
    model's parameters are data of the operators, so the whole works under `jit` with the model's state as an argument.

    Args:
        model: any `nnx.Module`, a pair (Linen module, variables), a bound Linen module, or plain functions: one, a
            list, or a dict by name. Flax models map batches, plain functions one example, as in `jax.vmap` and
            `la.jacobian`; arrays inside callable pytrees (equinox modules) are data too.
        x: probe inputs [B, …]. Of a Flax model of several inputs a tuple in the order of its call, or a dict by name:
            images, tokens, masks, every array with an axis of examples in front.
        layers: names or patterns (`fnmatch`: "blocks/*", "end_to_end"). Without, every layer and block that has
            parameters, and "end_to_end".
        call_kwargs: keyword arguments of a Flax model's call that all examples share: {"train": False}, a mask
            [1, 1, T, T], a PRNG key; of a Linen model also {"rngs": {"noise": key}}.
        input: name of the input by which the whole model is differentiated, "image", "1" or "batch/image", the others
            held fixed. Unless given, by the only floating-point input, and by each ("end_to_end:0", …) if several are.
        output: name of the output that is meant where a layer returns several arrays, "logits" or "0"; for some layers
            only, a dict by pattern. Unless given, the array of the input's shape, else the only floating-point array.
        memory_budget: bytes that the chunks of tangents may take when one layer's Jacobians are formed.

    Returns:
        A dict from path, such as "blocks/0/conv1", to a `Batch` of B operators: `la.svdvals(batch)` is [B, k],
        `la.materialize(batch)` [B, m, n], `batch[b]` one `Jacobian`. The second call of one layer is "path@2"; what is
        used through another method is "path.method", such as "embed.attend"; a layer of several arrays has a Jacobian
        by each, "path:0", "path:1" …, with the others held fixed (the same array given twice, as in self-attention,
        counts as one), which "path" selects all. Layers that a Flax model runs by scan over stacked parameters are
        under "path/depth", a `Stack` over depth of batches; an NNX module may declare them by a method `scan_layers()`
        that returns (step, xs) as for `la.scan_jacobians`. One that runs over time and declares states by
        `state_samples(x)`, (h [L, B, n], u [L, B, …], shared), and its step by `state_step(h, u, shared)`, has ∂h'/∂h
        under "path/time" in the same way. Layers within `jit` and `remat` are found like others. Layers that have no
        Jacobian (integers, calls inside another transformation, code that fails on one example) are listed with the
        reason in the dict's `skipped`, and refused if asked for by name.

    Raises:
        UnknownNameError: for a pattern that no layer matches, and an input that is not there.
        LinearAlgebraError: for a layer that was asked for by name and has no Jacobian, or is in training mode (batch
            statistics, dropout).
        NonFiniteError: if an activation is NaN or infinite, naming the first layer that made it so (outside of `jit`).
        DimensionMismatch: if x is not a batch, or the model takes other arguments.

    Cost: one forward pass, two where layers are within `jit` or `remat`; products and matrices are computed when a verb
    asks for them.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> W = jnp.array([[2.0, 0.0], [0.0, 3.0]])
        >>> J = la.layer_jacobians({"linear": lambda x: W @ x, "tanh": jnp.tanh}, jnp.zeros((1, 2)))
        >>> {path: la.svdvals(batch).tolist() for path, batch in J.items()}
        {'linear': [[3.0, 2.0]], 'tanh': [[1.0, 1.0]], 'end_to_end': [[3.0, 2.0]]}
    """
    require_bytes(memory_budget)
    structure, state, inputs = structure_of(model, x, call_kwargs, input, output)
    return jacobians_of(structure, state, inputs, patterns_of(layers), memory_budget)


def patterns_of(layers: Iterable[str] | str | None) -> tuple[str, ...] | None:
    """The patterns as a tuple; one string is one pattern.

    Example:
        >>> patterns_of("stem")
        ('stem',)
    """
    return layers if layers is None else ((layers,) if isinstance(layers, str) else tuple(layers))


def jacobians_of(
    structure: Structure, state: Any, inputs: Inputs, patterns: tuple[str, ...] | None, memory_budget: int
) -> LayerJacobians:
    """`layer_jacobians` of a structure and its state; pure."""
    with jax.default_matmul_precision("highest"):  # that of the verbs, so that they share its results
        calls = structure.trace(state, inputs)
    require_finite_activations(calls, inputs)
    skipped: dict[str, str] = {}
    batches: dict[str, Batch] = {}
    for call in select(calls, patterns):
        if call.reason:
            skipped[call.path] = call.reason
        elif call.scan is not None:
            batches[call.path] = stack_of(call, memory_budget)
        elif call.stacked:
            assert call.function is not None
            make = JacobianAt(call.function, _one_of(call.y[0]), max(1, memory_budget // call.x.shape[1]), True)
            batches[call.path] = Stack(BatchAt(make), (call.x, *call.beside), call.args)
        else:
            batches[call.path] = layer_batch(call, memory_budget)
    if not batches:
        reasons = "; ".join(f"layer {path!r} {reason}" for path, reason in skipped.items())
        raise LinearAlgebraError(f"no layer of the model has a Jacobian: {reasons}")
    return LayerJacobians(batches, skipped)


def select(calls: list[Call], patterns: tuple[str, ...] | None) -> list[Call]:
    """The calls that the patterns choose, in the model's order; without patterns those shown by default.

    Raises:
        UnknownNameError: for a pattern that matches nothing.
        LinearAlgebraError: for a pattern that matches only layers without a Jacobian.

    Example:
        >>> x = jax.numpy.ones((1, 2))
        >>> [c.path for c in select([Call("stem", jax.numpy.sin, (), x, x)], ("st*",))]
        ['stem']
    """
    if patterns is None:
        return [able(call) for call in calls if call.default]
    chosen: dict[int, Call] = {}
    for pattern in patterns:
        matches = {i: able(call) for i, call in enumerate(calls) if _matches(call.path, pattern)}
        if not matches:
            raise UnknownNameError.of("layer", pattern, [call.path for call in calls])
        if all(call.reason for call in matches.values()):
            raise LinearAlgebraError("; ".join(f"layer {call.path!r} {call.reason}" for call in matches.values()))
        chosen |= matches
    return [chosen[i] for i in sorted(chosen)]


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern selects a path; "up" selects "up:0" and "up:1" too."""
    whole, _, number = path.rpartition(":")
    return fnmatch.fnmatchcase(path, pattern) or (number.isdigit() and fnmatch.fnmatchcase(whole, pattern))


def able(call: Call) -> Call:
    """The call, without its function and with the reason where that fails on one example.

    Example:
        >>> def broken(x):
        ...     raise ValueError("not today")
        >>> able(Call("wave", broken, (), jax.numpy.ones((1, 2)), jax.numpy.ones((1, 2)))).reason
        'fails on one example alone: ValueError: not today'
    """
    if call.function is None or call.stacked:
        return call
    x, *beside = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (call.x, *call.beside))
    reason = ""
    try:
        program = jax.make_jaxpr(call.function)(x, *call.args, *beside)
        (out,) = program.out_avals
        if out.shape != call.y.shape[1:]:
            reason = f"gives {list(out.shape)} for one example alone and {list(call.y.shape[1:])} in a batch"
        directions(call.function, x, (*call.args, *beside), program.jaxpr)
    except LinearAlgebraError as error:
        reason = str(error)
    except Exception as error:  # whatever a layer of someone else's raises
        reason = f"fails on one example alone: {type(error).__name__}: " + str(error).partition("\n")[0]
    return dataclasses.replace(call, function=None, reason=reason) if reason else call


def require_finite_activations(calls: list[Call], inputs: Inputs) -> None:
    """Raise `NonFiniteError` naming the first layer that turned finite numbers into others; traced values pass."""
    if any(isinstance(a, Tracer) for a in (*inputs.x, *(call.y for call in calls))):
        return
    if not all(_finite(x) for x in inputs.x):
        raise NonFiniteError("the probe inputs hold NaN or infinity")
    broken = [call for call in calls if (call.function or call.scan) and _finite(call.x) and not _finite(call.y)]
    if not broken:
        return
    culprit = broken[0]
    for call in broken[1:]:  # a block begins before the layers in it, of which one may be to blame
        if call.path.startswith(f"{culprit.path}/"):
            culprit = call
    if culprit.scan is not None:
        stack_of(culprit, DEFAULT_MEMORY_BUDGET)  # raises with the layer's number
    bad = int(np.sum(~np.isfinite(np.asarray(culprit.y))))
    raise NonFiniteError(
        f"layer {culprit.path!r} turns finite inputs into {bad} NaN or infinite values of {culprit.y.size}; "
        "look at its parameters and at the size of its input"
    )


def _finite(array: Any) -> bool:
    return not jax.numpy.issubdtype(array.dtype, jax.numpy.inexact) or bool(np.isfinite(np.asarray(array)).all())


@dataclasses.dataclass(frozen=True)
class JacobianAt:
    """Makes the Jacobian of a layer at one example: (x_b, *args) -> `Jacobian`, or ((x_b, *beside_b), *args)."""

    function: Callable[..., jax.Array]
    out: jax.ShapeDtypeStruct
    memory_budget: int
    beside: bool = False

    def __call__(self, x: Any, *args: Any) -> Jacobian:
        x, *others = x if self.beside else (x,)
        return Jacobian(self.function, x, self.out, (*args, *others), self.memory_budget)


@dataclasses.dataclass(frozen=True)
class BatchAt:
    """Makes the Jacobians of one member of a stack: ((x_l, *beside_l), *args) -> `Batch`."""

    make: JacobianAt

    def __call__(self, at: Any, *args: Any) -> Batch:
        return Batch(self.make, at, args)


def _one_of(y: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(y.shape[1:], y.dtype)


def stack_of(call: Call, memory_budget: int) -> Stack:
    """The operators of all layers that a module runs by scan.

    Example:
        >>> x = jax.numpy.zeros((2, 3))
        >>> call = Call("depth", None, (), x, x, scan=(lambda h, a: a * jax.numpy.sin(h), jax.numpy.ones(5)))
        >>> stack_of(call, 2**20)
        5 × 2 × 3×3 Jacobian{float32} of <lambda> at (3,)
    """
    assert call.scan is not None
    step, xs = call.scan
    budget = max(1, memory_budget // call.x.shape[0])
    name = f"layer {call.path!r}"
    return scan_jacobians(step, call.x, xs, *call.args, batched=True, memory_budget=budget, name=name)


def layer_batch(call: Call, memory_budget: int) -> Batch:
    """The operators of one call.

    Example:
        >>> call = Call("wave", jax.numpy.sin, (), jax.numpy.zeros((2, 3)), jax.numpy.zeros((2, 3)))
        >>> layer_batch(call, 2**20)
        2 × 3×3 Jacobian{float32} of sin at (3,)
    """
    assert call.function is not None
    make = JacobianAt(call.function, _one_of(call.y), max(1, memory_budget // call.x.shape[0]), bool(call.beside))
    return Batch(make, (call.x, *call.beside) if call.beside else call.x, call.args)
