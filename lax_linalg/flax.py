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
import functools
import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

try:
    from flax import linen, nnx
except ImportError as error:
    raise ImportError("lax_linalg.flax needs Flax: pip install flax") from error

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError
from lax_linalg.jacobian.scanned import scanned_calls
from lax_linalg.jacobian.trace import END_TO_END, ONE_INPUT, Call, naming, require_same_shapes, shapes, unfit


def structure_of(model: Any, call_kwargs: Mapping[str, Any]) -> tuple[NNXStructure | LinenStructure, Any]:
    """The structure and the state of an NNX module, a (Linen module, variables) pair, or a bound Linen module.

    Args:
        model: the Flax model.
        call_kwargs: static keyword arguments of its call.

    Returns:
        (structure, state).

    Raises:
        LinearAlgebraError: for a Linen module without variables, or call_kwargs that cannot be hashed.

    Example:
        >>> import jax.numpy as jnp
        >>> structure, state = structure_of(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), {})
        >>> [c.path for c in structure.trace(state, jnp.ones((1, 2)))]
        ['end_to_end']
    """
    kwargs = tuple(sorted(call_kwargs.items()))
    try:
        hash(kwargs)
    except TypeError:
        raise LinearAlgebraError(
            f"call_kwargs must be static (numbers, strings, None), got {dict(call_kwargs)}; close over arrays instead"
        ) from None
    if isinstance(model, nnx.Module):
        graphdef, state = nnx.split(model)
        return NNXStructure(Static(graphdef), kwargs), nnx.as_pure(state)  # variables would remember who traced them
    if isinstance(model, linen.Module):
        if model.scope is None:
            raise LinearAlgebraError(
                f"the Linen module {type(model).__name__} has no variables; give (module, variables) or module.bind(…)"
            )
        model = model.unbind()
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[0], linen.Module):
        return LinenStructure(Static(model[0]), kwargs), model[1]
    raise LinearAlgebraError(
        f"expected an nnx.Module or a (linen module, variables) pair, got a {type(model).__name__}"
    )


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
    """Collects the calls of one forward pass over a batch of `size` examples, in the order in which they began."""

    def __init__(self, size: int):
        self.size = size
        self.level = _trace_level()
        self.calls: list[Call | None] = []
        self.counts: dict[str, int] = {}

    def begin(self, path: str) -> tuple[int, str] | None:
        """Take a place for a call; None inside a transformation, which traces a layer as often as it likes."""
        if _trace_level() != self.level:
            if path not in self.counts:
                self.counts[path] = 0
                reason = f"has no visible input: it is called {_HIDDEN}"
                self.calls.append(Call(path, None, (), None, None, True, reason))
            return None
        count = self.counts[path] = self.counts.get(path, 0) + 1
        self.calls.append(None)
        return len(self.calls) - 1, path if count == 1 else f"{path}@{count}"

    def end(self, ticket: tuple[int, str] | None, layer: Any, args: tuple, kwargs: dict, y: Any, default: bool) -> None:
        """Record a call; `layer(template, name)` gives (static function, parameters)."""
        if ticket is None:
            return
        index, name = ticket
        leaves, structure = jax.tree.flatten((args, kwargs))
        arrays = list({id(leaf): leaf for leaf in leaves if hasattr(leaf, "dtype")}.values())
        inputs = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)] or arrays[:1]
        reason = unfit(inputs + [leaf for leaf in leaves if not hasattr(leaf, "dtype")], y, self.size)
        if reason:
            self.calls[index] = Call(name, None, (), None, y, default, reason)
            return
        found = []
        for k, x in enumerate(inputs):
            path = name if len(inputs) == 1 else f"{name}:{k}"
            others = [a for a in arrays if a is not x]
            beside = [a for a in others if a.shape[:1] == (self.size,)]
            shared = [a for a in others if a.shape[:1] != (self.size,)]
            places = {id(x): _INPUT}
            places |= {id(a): _Beside(i, False) for i, a in enumerate(shared)}
            places |= {id(a): _Beside(len(shared) + i, True) for i, a in enumerate(beside)}
            template = Template(structure, tuple(places.get(id(leaf), leaf) for leaf in leaves))
            function, parameters = layer(template, path)
            reason = unfit([x], y, self.size)
            args = (parameters, *shared)
            found.append(Call(path, None if reason else function, args, x, y, default, reason, tuple(beside)))
        self.calls[index] = found[0]
        self.calls += found[1:]

    def result(self) -> list[Call]:
        return [call for call in self.calls if call is not None]


def _with_stacks(
    calls: list[Call], whole: Any, state: Any, x: jax.Array, reason: str, *, collections: int = 0
) -> list[Call]:
    """The calls with those of the stacks of layers that run inside a scan.

    They are looked for where some layer could not be watched; `collections` names in front of a parameter's path are
    not a module's.
    """
    if reason or not any(call.reason.endswith(_HIDDEN) for call in calls):
        return calls
    covered: dict[str, list[str]] = {}

    def name_of(paths: list[tuple]) -> str:
        modules = [[str(getattr(k, "key", getattr(k, "name", k))) for k in path[collections:-1]] for path in paths]
        same = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*modules))
        name = "/".join(names[0] for names in same)
        covered[f"{name}/depth" if name else "depth"] = ["/".join(m) + "/" for m in modules]
        return name

    stacks = scanned_calls(whole, state, x, name_of)
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


class _Input:
    """Marks the places of the array that a call is differentiated by among its arguments."""


_INPUT = _Input()


@dataclasses.dataclass(frozen=True)
class _Beside:
    """Marks the place of another array: its number, and whether it differs from example to example."""

    number: int
    batched: bool


@dataclasses.dataclass(frozen=True)
class Template:
    """A call's arguments without their arrays."""

    structure: Any
    leaves: tuple

    def fill(self, x: jax.Array, others: tuple) -> tuple[tuple, dict]:
        """The arguments for a batch of the one example x."""

        def put(leaf: Any) -> Any:
            if leaf is _INPUT:
                return x[None]
            if isinstance(leaf, _Beside):
                return others[leaf.number][None] if leaf.batched else others[leaf.number]
            return leaf

        return jax.tree.unflatten(self.structure, [put(leaf) for leaf in self.leaves])


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


def _require_one_input(model: Any, x: jax.Array, kwargs: Mapping[str, Any]) -> None:
    """Raise unless a model can be called with x and the keyword arguments alone."""
    name = type(model).__name__
    if not callable(model):
        raise LinearAlgebraError(
            f"{name} has no __call__; give a function of one example: lambda x: model.f(x[None])[0]"
        )
    try:
        inspect.signature(model.__call__).bind(x, **kwargs)
    except TypeError as error:
        raise DimensionMismatch(
            f"{name} cannot be called with one array and call_kwargs {dict(kwargs)}: {error}; of a model with several "
            f"inputs {ONE_INPUT}"
        ) from None
    except ValueError:  # a call without a signature
        return


# --- NNX ---


@dataclasses.dataclass(frozen=True)
class NNXStructure:
    """An NNX model without its arrays: its graph definition and the keyword arguments of its call."""

    graphdef: Static
    kwargs: tuple = ()

    def trace(self, state: Any, x: jax.Array) -> list[Call]:
        """All calls of the model's submodules and of the model itself."""
        pristine = dict(nnx.iter_modules(nnx.merge(self.graphdef.value, state)))
        model = nnx.merge(self.graphdef.value, state)
        recorder, paths, skipped = Recorder(x.shape[0]), {}, []
        for path, module in list(nnx.iter_modules(model)):
            if not path or not callable(module):
                continue
            name = "/".join(map(str, path))
            try:
                object.__setattr__(module, "__class__", _recording(type(module)))
                paths[id(module)] = (name, pristine[path])
            except TypeError as error:
                skipped.append(Call(name, None, (), None, None, False, f"cannot be watched: {error}"))
        _require_one_input(model, x, dict(self.kwargs))
        _refuse_training_mode(END_TO_END, model, dict(self.kwargs))
        token = _watch.set((recorder, paths))
        try:
            y = model(x, **dict(self.kwargs))
        finally:
            _watch.reset(token)
        calls = recorder.result()
        seen = {call.path for call in calls}
        for name, module in paths.values():
            if name not in seen and _has_parameters(module):
                reason = f"is not called, or only {_HIDDEN}"
                skipped.append(Call(name, None, (), None, None, True, reason))
        template = Template(*_static_template(self.kwargs))
        whole = NNXLayer(self.graphdef, template, END_TO_END)
        reason = unfit([x], y, x.shape[0])
        end = Call(END_TO_END, None if reason else whole, (state,), x, y, True, reason)
        calls += _scanned(nnx.merge(self.graphdef.value, state), "", x, y)
        return [*_with_stacks([*calls, *skipped], whole, state, x, reason), end]

    def evaluation(self, state: Any) -> NNXStructure:
        """The same with every submodule in evaluation mode."""
        model = nnx.merge(self.graphdef.value, state)
        model.eval()
        return NNXStructure(Static(nnx.graphdef(model)), self.kwargs)

    def template(self, state: Any) -> Any:
        """Shapes of the arrays; the random streams themselves, which evaluation does not draw from."""
        variables = nnx.to_flat_state(nnx.state(nnx.merge(self.graphdef.value, state)))
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


@dataclasses.dataclass(frozen=True)
class NNXLayer:
    """One NNX module as a pure function (x_b, state, *others) -> y_b of one example."""

    graphdef: Static
    template: Template
    name: str = dataclasses.field(compare=False)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, x: jax.Array, state: Any, *others: jax.Array) -> jax.Array:
        args, kwargs = self.template.fill(x, others)
        return nnx.merge(self.graphdef.value, state)(*args, **kwargs)[0]


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


def _static_template(kwargs: tuple) -> tuple[Any, tuple]:
    leaves, structure = jax.tree.flatten(((_INPUT,), dict(kwargs)))
    return structure, tuple(leaves)


_watch: contextvars.ContextVar[tuple[Recorder, dict] | None] = contextvars.ContextVar("watch", default=None)


@functools.cache
def _recording(cls: type) -> type:
    """A subclass of a module's class, of the same name, that reports its calls to the recorder in `_watch`."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder, paths = _watch.get() or (None, {})
        name, pristine = paths.get(id(self), (None, None))
        if recorder is None or name is None:  # a transformation's own copy of the module
            _refuse_training_mode(cls.__name__, self, _arguments(cls.__call__, self, *args, **kwargs))
            return cls.__call__(self, *args, **kwargs)
        ticket = recorder.begin(name)
        _refuse_training_mode(name, self, _arguments(cls.__call__, self, *args, **kwargs))
        with naming(name):
            y = cls.__call__(self, *args, **kwargs)

        def layer(template: Template, name: str) -> tuple[NNXLayer, Any]:
            graphdef, state = nnx.split(pristine)
            return NNXLayer(Static(graphdef), template, name), nnx.as_pure(state)

        recorder.end(ticket, layer, args, kwargs, y, _has_parameters(pristine))
        if ticket is not None and args:
            recorder.calls += _scanned(pristine, f"{ticket[1]}/", args[0], y)
        return y

    body = {"__call__": __call__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), body, pytree=cls._pytree__is_pytree)  # type: ignore[attr-defined]


def _has_parameters(module: Any) -> bool:
    return bool(jax.tree.leaves(nnx.state(module, nnx.Param)))


# --- Linen ---


@dataclasses.dataclass(frozen=True)
class LinenStructure:
    """A Linen module and the keyword arguments of its call; the state is its variables."""

    module: Static
    kwargs: tuple = ()

    def trace(self, state: Any, x: jax.Array) -> list[Call]:
        """All calls of the model's submodules and of the model itself."""
        recorder = Recorder(x.shape[0])

        def intercept(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
            module, path = context.module, "/".join(context.module.path)
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            _refuse_training_mode(path or END_TO_END, module, _arguments(context.orig_method, *args, **kwargs))
            if not path:
                return call(*args, **kwargs)
            ticket = recorder.begin(path)
            with naming(path):
                y = call(*args, **kwargs)
            variables = _variables(module)

            def layer(template: Template, name: str) -> tuple[LinenLayer, Any]:
                return LinenLayer(Static(module.unbind()[0]), template, name), variables

            recorder.end(ticket, layer, args, kwargs, y, "params" in variables)
            return y

        _require_one_input(self.module.value, x, dict(self.kwargs))
        with linen.intercept_methods(intercept):
            y = self.module.value.apply(state, x, **dict(self.kwargs))
        whole = LinenLayer(self.module, Template(*_static_template(self.kwargs)), END_TO_END)
        reason = unfit([x], y, x.shape[0])
        end = Call(END_TO_END, None if reason else whole, (state,), x, y, True, reason)
        return [*_with_stacks(recorder.result(), whole, state, x, reason, collections=1), end]

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


@dataclasses.dataclass(frozen=True)
class LinenLayer:
    """One Linen module as a pure function (x_b, variables, *others) -> y_b of one example."""

    module: Static
    template: Template
    name: str = dataclasses.field(compare=False)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, x: jax.Array, variables: Any, *others: jax.Array) -> jax.Array:
        args, kwargs = self.template.fill(x, others)
        return self.module.value.apply(variables, *args, **kwargs)[0]
