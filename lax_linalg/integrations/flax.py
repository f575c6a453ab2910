"""The bridge to Flax: finds the layers of any NNX or Linen model and captures each layer's own input.

NNX: the model is rebuilt as a private copy, whose submodules get a recording subclass of their own class, so nothing
that another thread can see is touched and there is nothing to restore. Linen: `linen.intercept_methods`. In both, calls
that happen inside a JAX transformation (scan, remat, jit …) see that transformation's tracers and are not recorded.
Stacks of layers that are run by scan are found in the model's program instead; an NNX module may also declare its own
by a method `scan_layers`, and one that runs over time its states by `state_samples` and `state_step`.
"""

from __future__ import annotations

import contextvars
import dataclasses
import fnmatch
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

try:
    from flax import linen, nnx
except ImportError as error:
    raise ImportError("lax_linalg.integrations.flax needs Flax: pip install flax") from error

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.jacobian.arguments import (
    Inputs,
    Template,
    arguments_of,
    chosen_output,
    named_arrays,
    template_of,
)
from lax_linalg.jacobian.scanned import all_equations, evaluate, scanned_calls
from lax_linalg.jacobian.trace import (
    END_TO_END,
    Call,
    Outputs,
    batch_of,
    inputs_of,
    naming,
    require_same_shapes,
    shapes,
    unfit,
)


def structure_of(
    model: Any, x: Any, call_kwargs: Mapping[str, Any], input: str | None, output: Outputs
) -> tuple[NNXStructure | LinenStructure, Any, Inputs]:
    """The structure, the state and the inputs of an NNX module, a (Linen module, variables) pair, or a bound module.

    Args:
        model: the Flax model.
        x, call_kwargs, input, output: as for `la.layer_jacobians`, the output as pairs (pattern, name).

    Returns:
        (structure, state, inputs).

    Raises:
        LinearAlgebraError: for a Linen module without variables, or call_kwargs that cannot be hashed.
        DimensionMismatch: for inputs that the model does not take.
        UnknownNameError: for an `input` that is not there.

    Example:
        >>> import jax.numpy as jnp
        >>> structure, state, inputs = structure_of(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jnp.ones((1, 2)), {}, None, ())
        >>> [c.path for c in structure.trace(state, inputs)]
        ['end_to_end']
    """
    if isinstance(model, nnx.Module):
        graphdef, state = nnx.split(model)
        call, inputs = _call_of(model, x, call_kwargs, input)
        # variables would remember who traced them, hence the pure state
        return NNXStructure(Static(graphdef), call, input is not None, output), nnx.as_pure(state), inputs
    if isinstance(model, linen.Module):
        if model.scope is None:
            raise LinearAlgebraError(
                f"the Linen module {type(model).__name__} has no variables; give (module, variables) or module.bind(…)"
            )
        model = model.unbind()
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[0], linen.Module):
        call, inputs = _call_of(model[0], x, call_kwargs, input)
        return LinenStructure(Static(model[0]), call, input is not None, output), model[1], inputs
    raise LinearAlgebraError(
        f"expected an nnx.Module or a (linen module, variables) pair, got a {type(model).__name__}"
    )


def _call_of(model: Any, x: Any, call_kwargs: Mapping[str, Any], input: str | None) -> tuple[Template, Inputs]:
    """A model's call and its arrays."""
    name = type(model).__name__
    if not callable(model):
        raise LinearAlgebraError(
            f"{name} has no __call__; give a function of one example: lambda x: model.f(x[None])[0]"
        )
    x = jax.tree.map(jnp.asarray, x) if isinstance(x, (tuple, Mapping)) else inputs_of(x)
    size = batch_of(x)
    apart = {k: v for k, v in call_kwargs.items() if k in _LINEN_APPLY} if isinstance(model, linen.Module) else {}
    of_call = {k: v for k, v in call_kwargs.items() if k not in apart}
    try:
        signature = inspect.signature(model.__call__)
    except ValueError:  # a call without a signature
        signature = None
    try:
        args, kwargs = arguments_of(signature, x, of_call)
    except TypeError as error:
        given = "one array" if hasattr(x, "dtype") else f"the inputs {', '.join(map(repr, named_arrays(x)))}"
        raise DimensionMismatch(
            f"{name} cannot be called with {given} and call_kwargs {', '.join(of_call) or 'none'}: {error}; give a "
            "tuple of inputs in the order of the call, or a dict by name, and what all examples share as call_kwargs"
        ) from None
    leaves, structure = jax.tree.flatten((args, kwargs | apart))
    static = [leaf for leaf in leaves if not hasattr(leaf, "dtype")]
    try:
        hash(tuple(static))
    except TypeError:
        raise LinearAlgebraError(
            f"call_kwargs are arrays, numbers, strings, None, and containers of them, got {dict(call_kwargs)}"
        ) from None
    arrays = named_arrays(x)
    if input is not None and input not in arrays:
        raise UnknownNameError.of("input", input, list(arrays))
    chosen = arrays[input] if input is not None else next((a for a in arrays.values() if _inexact(a)), None)
    chosen = next(iter(arrays.values())) if chosen is None else chosen
    return template_of(leaves, structure, chosen, size, [a for a in leaves if not any(a is b for b in arrays.values())])


_LINEN_APPLY = ("rngs", "mutable", "method")
"""Arguments of `linen.Module.apply` itself."""


# --- what the two have in common: recording calls ---


@dataclasses.dataclass(frozen=True, eq=False)
class Static:
    """A static value that may be unhashable (a module with a list among its attributes): then it equals itself only.

    Example:
        >>> Static((1,)) == Static((1,)), Static([1]) == Static([1])
        (True, False)
    """

    value: Any

    def _key(self) -> Any:
        try:
            hash(self.value)
        except TypeError:
            return id(self.value)
        return self.value

    def __hash__(self) -> int:
        return hash(self._key())

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Static) and self._key() == other._key()


class Recorder:
    """Collects the calls of one forward pass over a batch of examples, in the order in which they began.

    The input of a call inside a JAX transformation is that transformation's tracer. With `marks`, such calls put a mark
    with all their arrays into the program instead, and `arrive` records them where the program is evaluated.
    """

    def __init__(self, inputs: Inputs, outputs: Outputs, *, marking: bool = False):
        self.size = inputs.size
        self.shared = inputs.shared
        self.outputs = outputs
        self.level = _trace_level()
        self.calls: list[list[Call]] = []  # one list for each call
        self.counts: dict[str, int] = {}
        self.active: set[str] = set()
        self.marks: list[_Mark] | None = [] if marking else None

    def call(self, module: _Watched, method: str, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """Run a module's method and record the call."""
        name, own = module.name, method == "__call__"
        if not own and (name in self.active or not any(map(_inexact, jax.tree.leaves((args, kwargs))))):
            return run(*args, **kwargs)  # a part of another call of the same module, or no map between arrays
        path = name if own else f"{name}.{method}"
        hidden = _trace_level() != self.level
        place = self._begin(path, hidden, own)
        parameters = module.parameters() if hidden and self.marks is not None else None
        outermost = name not in self.active
        self.active.add(name)
        try:
            with naming(path):
                y = run(*args, **kwargs)
        finally:
            if outermost:
                self.active.discard(name)
        if hidden and self.marks is not None:
            return self._mark(path, method, module, parameters, args, kwargs, y)
        if place is not None:
            index, called = place
            found = self.by_each(called, method, module.layer, module.parameters(), args, kwargs, y)
            default = module.default()
            found = [dataclasses.replace(call, default=default and (own or not call.reason)) for call in found]
            self.calls[index] = found
            if own and args:
                self.calls.append(module.declared(called, args[0], y))
        return y

    def _begin(self, path: str, hidden: bool, own: bool) -> tuple[int, str] | None:
        """Take a place for a call; None inside a transformation, which traces a layer as often as it likes."""
        if self.marks is not None:
            return None
        if hidden:
            if path not in self.counts:
                self.counts[path] = 0
                reason = f"has no visible input: it is called {_HIDDEN}"
                self.calls.append([Call(path, None, (), None, None, own, reason)])
            return None
        self.calls.append([])
        return len(self.calls) - 1, self._numbered(path)

    def _numbered(self, path: str) -> str:
        count = self.counts[path] = self.counts.get(path, 0) + 1
        return path if count == 1 else f"{path}@{count}"

    def by_each(
        self,
        name: str,
        method: str,
        layer: Callable[[Template, str], Layer],
        parameters: Any,
        args: tuple,
        kwargs: dict,
        y: Any,
        among: Sequence[Any] | None = None,
    ) -> list[Call]:
        """One call, differentiated by each of its arrays, or by those `among` given ones."""
        leaves, structure = jax.tree.flatten((args, kwargs))
        arrays = list({id(leaf): leaf for leaf in leaves if hasattr(leaf, "dtype")}.values())
        arrays = arrays if among is None else list(among)
        inputs = [a for a in arrays if _inexact(a)] or arrays[:1]
        static = [leaf for leaf in leaves if not hasattr(leaf, "dtype")]
        found = []
        for k, x in enumerate(inputs):
            path = name if len(inputs) == 1 else f"{name}:{k}"
            output, reason = chosen_output(x, y, self.size, self._wanted(name, y))
            value = None if reason else named_arrays(y)[output]
            reason = reason or unfit([x, *static], value, self.size)
            if reason:
                found.append(Call(path, None, (), None, value, True, reason))
                continue
            template, given = template_of(leaves, structure, x, self.size, self.shared)
            function = layer(dataclasses.replace(template, output=output, method=method), path)
            args = (parameters, *given.shared)
            found.append(Call(path, function, args, x, value, True, "", given.x[1:]))
        return found or [Call(name, None, (), None, None, True, unfit(static, y, self.size))]

    def _wanted(self, name: str, y: Any) -> str | None:
        """The output that was asked for; for all layers ("") only where there is one of this name."""
        for pattern, output in self.outputs:
            if pattern == "" and output in named_arrays(y):
                return output
            if pattern and fnmatch.fnmatchcase(name, pattern):
                return output
        return None

    def _mark(
        self, path: str, method: str, module: _Watched, parameters: Any, args: tuple, kwargs: dict, y: Any
    ) -> Any:
        """The result y, followed in the program by a mark that takes the call's arrays."""
        assert self.marks is not None
        results, tree = jax.tree.flatten(y)
        through = next((i for i, leaf in enumerate(results) if _inexact(leaf)), None)
        if through is None:
            return y
        leaves, structure = jax.tree.flatten((args, kwargs, parameters, y))
        arrays = [leaf for leaf in leaves if hasattr(leaf, "dtype")]
        static = [_ARRAY if hasattr(leaf, "dtype") else leaf for leaf in leaves]
        results[through] = _mark_p.bind(results[through], *arrays, number=len(self.marks))
        self.marks.append(_Mark(path, method, module, structure, static, [jnp.shape(a) for a in arrays]))
        return jax.tree.unflatten(tree, results)

    def arrive(self, number: int, arrays: Sequence[Any]) -> list[Call]:
        """The calls of a mark, at the values that came to it in the program."""
        assert self.marks is not None
        mark = self.marks[number]
        if [jnp.shape(a) for a in arrays] != mark.shapes:  # vmap put axes in front
            return []
        values = iter(arrays)
        leaves = [next(values) if leaf is _ARRAY else leaf for leaf in mark.static]
        args, kwargs, parameters, y = jax.tree.unflatten(mark.structure, leaves)
        name = self._numbered(mark.path)
        found = self.by_each(name, mark.method, mark.module.layer, parameters, args, kwargs, y)
        return [dataclasses.replace(call, default=mark.module.default()) for call in found]

    def result(self, run: Callable[[Any, Inputs, Recorder], Any], state: Any, inputs: Inputs) -> list[Call]:
        """All calls; `run` is the pass that was recorded, run again where calls were inside a transformation."""
        calls = list(itertools.chain.from_iterable(self.calls))
        if not any(call.reason.endswith(_HIDDEN) for call in calls):
            return calls
        second = Recorder(inputs, self.outputs, marking=True)

        def program(state: Any, inputs: Inputs) -> list:
            second.level = _trace_level()
            return list(named_arrays(run(state, inputs, second)).values())

        closed = jax.make_jaxpr(program)(state, inputs)
        seen: dict[str, list[Call]] = {}

        def visit(eqn: Any, given: list, _: list) -> None:
            if eqn.primitive is _mark_p:
                for call in second.arrive(eqn.params["number"], given[1:]):
                    seen.setdefault(second.marks[eqn.params["number"]].path, []).append(call)  # type: ignore[index]

        if any(eqn.primitive is _mark_p for eqn in all_equations(closed.jaxpr)):
            evaluate(closed.jaxpr, closed.consts, jax.tree.leaves((state, inputs)), visit)
        return [found for call in calls for found in (seen.get(call.path, [call]) if call.reason else [call])]


class _Array:
    """Marks the place of an array."""


_ARRAY = _Array()


class _Watched(NamedTuple):
    """A module whose calls are recorded.

    Attributes:
        name: its path.
        layer: (template, name) -> the module as a pure function.
        parameters: gives that function's argument after x.
        default: says whether its calls are shown unless asked for.
        declared: (path, x, y) -> the calls of what the module declares, of one of its calls.
    """

    name: str
    layer: Callable[[Template, str], Layer]
    parameters: Callable[[], Any]
    default: Callable[[], bool]
    declared: Callable[[str, Any, Any], list[Call]] = lambda path, x, y: []


class _Mark(NamedTuple):
    """What a mark in a program stands for: a call without its arrays."""

    path: str
    method: str
    module: _Watched
    structure: Any
    static: list
    shapes: list[tuple[int, ...]]


_mark_p = jax.extend.core.Primitive("layer_call")
"""Its first operand, unchanged; the others only come along."""

_mark_p.def_impl(lambda through, *_, number: through)
_mark_p.def_abstract_eval(lambda through, *_, number: through)
batching.primitive_batchers[_mark_p] = lambda args, axes, number: (_mark_p.bind(*args, number=number), axes[0])
ad.primitive_jvps[_mark_p] = lambda primals, tangents, number: (_mark_p.bind(*primals, number=number), tangents[0])
mlir.register_lowering(_mark_p, lambda context, through, *_, number: [through])


def _with_stacks(calls: list[Call], layer: Layer, state: Any, inputs: Inputs, *, collections: int = 0) -> list[Call]:
    """The calls with those of the stacks of layers that run inside a scan.

    They are looked for where some layer could not be watched; `collections` names in front of a parameter's path are
    not a module's.
    """
    if not any(call.reason.endswith(_HIDDEN) for call in calls):
        return calls
    covered: dict[str, list[str]] = {}

    def name_of(paths: list[tuple]) -> str:
        own = [path[1 + collections : -1] for path in paths if path[0].idx == 0]  # of (state, shared inputs)
        modules = [[str(getattr(k, "key", getattr(k, "name", k))) for k in path] for path in own]
        same = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*modules))
        name = "/".join(names[0] for names in same)
        covered[f"{name}/depth" if name else "depth"] = ["/".join(m) + "/" for m in modules]
        return name

    stacks = scanned_calls(Whole(layer), (state, inputs.shared), inputs.x, name_of)
    known = {call.path for call in calls}
    stacks = [call for call in stacks if call.path not in known]
    found = []
    for call in calls:
        holders = [path for path, ms in covered.items() if any(m.startswith(f"{call.path}/") for m in ms)]
        if call.reason.endswith(_HIDDEN) and holders:
            call = dataclasses.replace(call, default=False, reason=f"{call.reason}; its layers are {holders[0]!r}")
        found.append(call)
    return [*found, *stacks]


_HIDDEN = "inside a JAX transformation (scan, vmap, remat, jit …)"


def _trace_level() -> Any:
    return jax.extend.core.get_opaque_trace_state(convention="nnx")


def _inexact(array: Any) -> bool:
    return hasattr(array, "dtype") and bool(jnp.issubdtype(array.dtype, jnp.inexact))


@dataclasses.dataclass(frozen=True)
class Layer:
    """One module's call as a pure function (x_b, parameters, *held) -> y_b of one example."""

    module: Static
    template: Template
    name: str = dataclasses.field(compare=False)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, x: jax.Array, parameters: Any, *held: Any) -> jax.Array:
        return self.template.result(self.on(parameters, *self.template.fill(x, held)))[0]

    def on(self, parameters: Any, args: tuple, kwargs: dict) -> Any:
        """What the module returns for a batch."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Whole:
    """A model as a function of one example's arrays and of what all examples share, giving all arrays it returns."""

    layer: Layer

    def __call__(self, x: tuple, given: tuple[Any, tuple]) -> list[jax.Array]:
        state, shared = given
        args, kwargs = self.layer.template.fill(x[0], [*shared, *x[1:]])
        return list(named_arrays(self.layer.on(state, args, kwargs)).values())


def _refuse_training_mode(name: str, module: Any, arguments: Mapping[str, Any]) -> None:
    """Raise if a layer's result depends on the other examples or on chance."""

    def option(key: str) -> Any:
        given = arguments.get(key)
        return getattr(module, key, None) if given is None else given

    if option("use_running_average") is False:
        raise LinearAlgebraError(
            f"layer {name!r} normalises with the batch's own statistics, so one example has no Jacobian of its own; "
            "evaluate with running averages: model.eval(), or use_running_average=True"
        )
    rate = getattr(module, "rate", getattr(module, "dropout_rate", 0))
    if option("deterministic") is False and rate:
        raise LinearAlgebraError(
            f"layer {name!r} drops units at random (rate {rate}); make it deterministic: model.eval(), or "
            "deterministic=True"
        )


def _arguments(function: Any, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
    try:
        return inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # the call itself gives the better message
        return kwargs


# --- NNX ---


@dataclasses.dataclass(frozen=True)
class FlaxStructure:
    """A Flax model without its arrays.

    Attributes:
        module: the NNX model's graph definition, or the Linen module.
        call: its call.
        only: whether the whole model is differentiated by the first of the inputs alone, or by each.
        outputs: pairs (pattern of layers, name of the output that is meant).
    """

    module: Static
    call: Template
    only: bool = False
    outputs: Outputs = ()

    def _calls(
        self, layer: Callable[[Template, str], Layer], recorder: Recorder, state: Any, inputs: Inputs, y: Any
    ) -> list[Call]:
        """Those of the whole model."""
        args, kwargs = self.call.whole(inputs)
        among = inputs.x[:1] if self.only else inputs.x
        return recorder.by_each(END_TO_END, "__call__", layer, state, args, kwargs, y, among)


@dataclasses.dataclass(frozen=True)
class NNXStructure(FlaxStructure):
    """An NNX model: its graph definition and its call."""

    def trace(self, state: Any, inputs: Inputs) -> list[Call]:
        """All calls of the model's submodules and of the model itself."""
        pristine = dict(nnx.iter_modules(nnx.merge(self.module.value, state)))
        unwatched: dict[str, Call] = {}
        watched: dict[str, Any] = {}

        def run(state: Any, inputs: Inputs, recorder: Recorder) -> Any:
            model = nnx.merge(self.module.value, state)
            for path, module in list(nnx.iter_modules(model)):
                if not path or not callable(module):
                    continue
                name = "/".join(map(str, path))
                try:
                    object.__setattr__(module, "__class__", _recording(type(module)))
                    object.__setattr__(module, _PATH, name)  # which a transformation's copies of the module keep
                    watched[name] = pristine[path]
                except TypeError as error:
                    reason = f"cannot be watched: {error}"
                    unwatched[name] = Call(name, None, (), None, None, False, reason)
            args, kwargs = self.call.whole(inputs)
            _refuse_training_mode(END_TO_END, model, kwargs)
            token = _watch.set((recorder, watched))
            try:
                return model(*args, **kwargs)
            finally:
                _watch.reset(token)

        recorder = Recorder(inputs, self.outputs)
        y = run(state, inputs, recorder)
        calls = recorder.result(run, state, inputs)
        seen = {path.partition(".")[0] for path in recorder.counts}
        for name, module in watched.items():
            if name not in seen and _has_parameters(module):
                reason = f"is not called, or only {_HIDDEN}"
                unwatched[name] = Call(name, None, (), None, None, True, reason)

        def layer(template: Template, name: str) -> NNXLayer:
            return NNXLayer(self.module, template, name)

        end = self._calls(layer, recorder, state, inputs, y)
        if end[0].function is not None:
            calls += _scanned(nnx.merge(self.module.value, state), "", end[0].x, end[0].y)
        calls = [*calls, *unwatched.values()]
        return [*_with_stacks(calls, layer(self.call, END_TO_END), state, inputs), *end]

    def evaluation(self, state: Any) -> NNXStructure:
        """The same with every submodule in evaluation mode."""
        model = nnx.merge(self.module.value, state)
        model.eval()
        return dataclasses.replace(self, module=Static(nnx.graphdef(model)))

    def template(self, state: Any) -> Any:
        """Shapes of the arrays; the random streams themselves, which evaluation does not draw from."""
        variables = nnx.to_flat_state(nnx.state(nnx.merge(self.module.value, state)))
        pure = [(p, nnx.as_pure(v) if isinstance(v, nnx.RngState) else shapes(nnx.as_pure(v))) for p, v in variables]
        return nnx.from_flat_state(pure)

    def complete(self, state: Any, template: Any) -> Any:
        """The arrays of this architecture out of a model, its full state, or its state without random streams."""
        given = dict(nnx.to_flat_state(nnx.as_pure(nnx.state(state) if isinstance(state, nnx.Module) else state)))
        flat = [
            (p, given.get(p, None if isinstance(v, jax.ShapeDtypeStruct) else v))
            for p, v in nnx.to_flat_state(template)
        ]
        missing = ["/".join(map(str, p)) for p, v in flat if v is None]
        if missing:
            raise LinearAlgebraError(
                f"the state lacks {', '.join(missing[:3])}{' …' if missing[3:] else ''}; "
                "give all of nnx.state(model), random streams excepted"
            )
        complete = nnx.from_flat_state(flat)
        require_same_shapes(complete, template)
        return complete


class NNXLayer(Layer):
    """One NNX module's call; `module` is its graph definition, the parameters its state."""

    def on(self, parameters: Any, args: tuple, kwargs: dict) -> Any:
        return getattr(nnx.merge(self.module.value, parameters), self.template.method)(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class _NNXStep:
    """What a module declares as one step, as a pure function."""

    graphdef: Static
    name: str = dataclasses.field(compare=False)

    @property
    def __name__(self) -> str:
        return self.name


class NNXScanStep(_NNXStep):
    """The body of the scan that a module declares: (h, x_l, state) -> h' or (h', y)."""

    def __call__(self, h: jax.Array, x: Any, state: Any) -> Any:
        step, _ = nnx.merge(self.graphdef.value, state).scan_layers()
        return step(h, x)


class NNXStateStep(_NNXStep):
    """The step over time that a module declares: (h, (state, shared), u) -> h' of one example."""

    def __call__(self, h: jax.Array, given: tuple[Any, Any], u: Any) -> jax.Array:
        state, shared = given
        return nnx.merge(self.graphdef.value, state).state_step(h, u, shared)


def _scanned(module: Any, prefix: str, x: Any, y: Any) -> list[Call]:
    """The calls of a stack's layers, and of a recurrent state, of modules that declare them."""
    calls = []
    if callable(getattr(module, "scan_layers", None)):
        _, xs = module.scan_layers()
        graphdef, state = nnx.split(module)
        name = f"{prefix}depth"
        step: Any = NNXScanStep(Static(graphdef), name)
        calls.append(Call(name, None, (nnx.as_pure(state),), x, y, scan=(step, xs)))
    if callable(getattr(module, "state_samples", None)):
        graphdef, state = nnx.split(module)  # before the pass below, which may count calls
        h, u, shared = module.state_samples(x)
        name = f"{prefix}time"
        step = NNXStateStep(Static(graphdef), name)
        calls.append(Call(name, step, ((nnx.as_pure(state), shared),), h, h, beside=(u,), stacked=True))
    return calls


_watch: contextvars.ContextVar[tuple[Recorder, dict[str, Any]] | None] = contextvars.ContextVar("watch", default=None)
_PATH = "_lax_linalg_path"


@functools.cache
def _recording(cls: type) -> type:
    """A subclass of a module's class, of the same name, that reports its calls to the recorder in `_watch`."""

    def reporting(method: str) -> Callable[..., Any]:
        original = getattr(cls, method)

        @functools.wraps(original)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            recorder, watched = _watch.get() or (None, {})
            name = getattr(self, _PATH, None)
            _refuse_training_mode(name or cls.__name__, self, _arguments(original, self, *args, **kwargs))
            if recorder is None or name not in watched:
                return original(self, *args, **kwargs)
            pristine = watched[name]
            graphdef = nnx.graphdef(pristine)

            def layer(template: Template, name: str) -> NNXLayer:
                return NNXLayer(Static(graphdef), template, name)

            def parameters() -> Any:  # within a transformation those that it traces
                return nnx.as_pure(nnx.state(pristine if recorder.marks is None else self))

            def declared(path: str, x: Any, y: Any) -> list[Call]:
                return _scanned(pristine, f"{path}/", x, y)

            module = _Watched(name, layer, parameters, lambda: _has_parameters(pristine), declared)
            return recorder.call(module, method, functools.partial(original, self), args, kwargs)

        return run

    body: dict[str, Any] = {method: reporting(method) for method in _methods(cls)}
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), body, pytree=cls._pytree__is_pytree)  # type: ignore[attr-defined]


def _methods(cls: type) -> list[str]:
    """`__call__` and the public methods that `nnx.Module` does not have."""
    names = [name for name in dir(cls) if not name.startswith("_") and not hasattr(nnx.Module, name)]
    return ["__call__", *(name for name in names if inspect.isfunction(inspect.getattr_static(cls, name)))]


def _has_parameters(module: Any) -> bool:
    return bool(jax.tree.leaves(nnx.state(module, nnx.Param)))


# --- Linen ---


@dataclasses.dataclass(frozen=True)
class LinenStructure(FlaxStructure):
    """A Linen module and its call; the state is its variables."""

    def trace(self, state: Any, inputs: Inputs) -> list[Call]:
        """All calls of the model's submodules and of the model itself."""

        def run(state: Any, inputs: Inputs, recorder: Recorder) -> Any:
            def intercept(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
                module, path, method = context.module, "/".join(context.module.path), context.method_name
                if method != "__call__" and (method.startswith("_") or hasattr(linen.Module, method)):
                    return call(*args, **kwargs)
                _refuse_training_mode(path or END_TO_END, module, _arguments(context.orig_method, *args, **kwargs))
                if not path:
                    return call(*args, **kwargs)

                def layer(template: Template, name: str) -> LinenLayer:
                    return LinenLayer(Static(module.unbind()[0]), template, name)

                def parameters() -> dict[str, Any]:
                    return _variables(module)

                watched = _Watched(path, layer, parameters, lambda: "params" in parameters())
                return recorder.call(watched, method, call, args, kwargs)

            args, kwargs = self.call.whole(inputs)
            with linen.intercept_methods(intercept):
                return self.module.value.apply(state, *args, **kwargs)

        recorder = Recorder(inputs, self.outputs)
        y = run(state, inputs, recorder)
        calls = recorder.result(run, state, inputs)

        def layer(template: Template, name: str) -> LinenLayer:
            return LinenLayer(self.module, template, name)

        end = self._calls(layer, recorder, state, inputs, y)
        return [*_with_stacks(calls, layer(self.call, END_TO_END), state, inputs, collections=1), *end]

    def evaluation(self, state: Any) -> LinenStructure:
        """The same: a Linen model's mode is an argument of its call."""
        return self

    def template(self, state: Any) -> Any:
        return shapes(state)

    def complete(self, state: Any, template: Any) -> Any:
        """The variables, out of themselves, a (module, variables) pair or a bound module."""
        if isinstance(state, linen.Module):
            state = state.variables
        variables = state[1] if isinstance(state, tuple) else state
        require_same_shapes(variables, template)
        return variables


def _variables(module: Any) -> dict[str, Any]:
    """A bound module's variables, with those of the modules that it was given.

    A module made in the method that gives it away, as in `RNN(LSTMCell(4))(x)`, keeps its variables there; alone, the
    module looks for them under the attribute's name.
    """
    variables = dict(module.variables)
    for field in dataclasses.fields(module):
        if field.name in ("parent", "name"):
            continue
        for name, child in _modules(field.name, getattr(module, field.name)):
            for collection, found in _variables(child).items() if child.scope is not None else ():
                variables[collection] = {**variables.get(collection, {}), name: found}
    return variables


def _modules(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The modules in an attribute, by the names that Linen gives them."""
    if isinstance(value, linen.Module):
        yield name, value
    elif isinstance(value, (list, tuple, Mapping)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _modules(f"{name}_{key}", item)


class LinenLayer(Layer):
    """One Linen module's call; the parameters are its variables."""

    def on(self, parameters: Any, args: tuple, kwargs: dict) -> Any:
        method = None if self.template.method == "__call__" else self.template.method
        options = {} if method is None else {"method": method}
        return self.module.value.apply(parameters, *args, **kwargs, **options)
