"""What a model's forward pass did: one `Call` per layer, with the layer as a pure function and its own input.

Every kind of model comes down to a *structure* (static, hashable: the architecture) and a *state* (arrays). A
structure's `trace(state, inputs)` runs the model once and lists the calls; it is pure, so it works under `jit` with the
state as data.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.jacobian.arguments import Inputs
from lax_linalg.jacobian.operator import hoist, one_array

END_TO_END = "end_to_end"
Outputs = tuple[tuple[str, str], ...]
"""Pairs (pattern of layers, name of the output that is meant); "" stands for every layer that has such an output."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of one layer.

    Attributes:
        path: the layer's name, such as "blocks/0/conv1"; a second call of the same layer ends in "@2".
        function: static function (x_b, *args) -> y_b of one example; None if the call has no Jacobian.
        args: the layer's parameters.
        x: its input, [B, …].
        y: its output, [B, …].
        beside: its other arrays that differ from example to example, [B, …] each; the function takes them last.
        scan: for the layers that a module runs by scan: (step, xs) as `la.scan_jacobians` takes them, from x on.
        default: whether the layer is shown when no layers are asked for.
        reason: why the call has no Jacobian, or "".
        stacked: x and `beside` have an axis of calls in front, [L, B, …], of which each has its own Jacobians.

    Example:
        >>> Call("dense", None, (), None, None, False, "takes 2 arrays").reason
        'takes 2 arrays'
    """

    path: str
    function: Callable[..., jax.Array] | None
    args: tuple
    x: Any
    y: Any
    default: bool = True
    reason: str = ""
    beside: tuple = ()
    scan: tuple | None = None
    stacked: bool = False


class Structure(Protocol):
    """A model without its arrays."""

    def trace(self, state: Any, inputs: Inputs) -> list[Call]:
        """All calls in the order in which they began; the last one is the whole model, "end_to_end"."""
        ...

    def evaluation(self, state: Any) -> Structure:
        """The structure in evaluation mode, where a model has modes."""
        ...

    def template(self, state: Any) -> Any:
        """`state` with shapes in place of arrays, as `complete` compares with."""
        ...

    def complete(self, state: Any, template: Any) -> Any:
        """`state` as `trace` takes it, from what a training loop holds: a model, or its state."""
        ...


@dataclasses.dataclass(frozen=True)
class Chain:
    """Plain functions applied one after the other; each maps one example to one example.

    Example:
        >>> import jax.numpy as jnp
        >>> chain, state = chain_of([jnp.sin, jnp.cos])
        >>> [call.path for call in chain.trace(state, Inputs((jnp.ones((2, 3)),)))]
        ['0', '1', 'end_to_end']
    """

    names: tuple[str, ...]
    functions: tuple[Callable[..., jax.Array], ...]

    def __call__(self, x: jax.Array, *state: tuple) -> jax.Array:
        """The composition at one example."""
        for f, args in zip(self.functions, state):
            x = f(x, *args)
        return x

    @property
    def __name__(self) -> str:
        return END_TO_END

    def trace(self, state: tuple, inputs: Inputs) -> list[Call]:
        x = inputs.x[0]
        calls, first = [], x
        for name, f, args in zip(self.names, self.functions, state):
            with naming(name, "a plain function, which maps one example"):
                y = jax.vmap(lambda x, f=f, args=args: f(x, *args))(x)
            if not hasattr(y, "dtype") and name != self.names[-1]:
                raise LinearAlgebraError(
                    f"layer {name!r} returns a {type(y).__name__}, which the next layer cannot take; return one array"
                )
            reason = unfit([x], y, first.shape[0])
            calls.append(Call(name, None if reason else f, args, x, y, True, reason))
            x = y
        reason = unfit([first], x, first.shape[0])
        return [*calls, Call(END_TO_END, None if reason else self, tuple(state), first, x, True, reason)]

    def evaluation(self, state: Any) -> Chain:
        return self

    def template(self, state: Any) -> Any:
        return shapes(state)

    def complete(self, state: Any, template: Any) -> Any:
        chain, arrays = chain_of(state)
        if chain != self:
            raise LinearAlgebraError(
                "the functions given are not those that the probe was made with, up to their arrays"
            )
        require_same_shapes(arrays, template)
        return arrays


@contextlib.contextmanager
def naming(name: str, kind: str = "") -> Iterator[None]:
    """Whatever a layer raises carries the layer's name in its notes.

    Example:
        >>> try:
        ...     with naming("head"):
        ...         int("three")
        ... except ValueError as error:
        ...     print(error.__notes__)
        ["in layer 'head'"]
    """
    try:
        yield
    except LinearAlgebraError:  # names the layer itself
        raise
    except Exception as error:
        if not any(note.startswith("in layer ") for note in getattr(error, "__notes__", ())):
            error.add_note(f"in layer {name!r}" + f", {kind}" * bool(kind))
        raise


def unfit(arguments: Sequence[Any], y: Any, size: int) -> str:
    """Why a call with these arguments and this result has no Jacobian for each of `size` examples, or "".

    Example:
        >>> import jax.numpy as jnp
        >>> unfit([jnp.ones((4, 2))], (), 4)
        'returns a tuple, a Jacobian needs one array'
    """
    arrays = [a for a in arguments if hasattr(a, "dtype")]
    if not arrays:
        return "takes no arrays, a Jacobian needs one"
    try:
        hash(tuple(a for a in arguments if not hasattr(a, "dtype")))
    except TypeError:
        return "takes arguments that cannot be static"
    if not hasattr(y, "dtype"):
        return f"returns a {type(y).__name__}, a Jacobian needs one array"
    x = next((a for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)), arrays[0])
    for what, array in (("input", x), ("output", y)):
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            return (
                f"has an {what} of {array.dtype}, a Jacobian needs floating-point numbers, as by x.astype(jnp.float32)"
            )
        if array.shape[:1] != (size,):
            return f"has an {what} of shape {tuple(array.shape)}, whose first axis is not the batch of {size}"
    if jnp.iscomplexobj(x) != jnp.iscomplexobj(y):
        return f"maps {x.dtype} to {y.dtype}, whose Jacobian is not one matrix"
    return ""


def shapes(state: Any) -> Any:
    """Every array's shape and dtype in its place.

    Example:
        >>> import jax.numpy as jnp
        >>> shapes([jnp.ones(2)])
        [ShapeDtypeStruct(shape=(2,), dtype=float32)]
    """
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), state)


def require_same_shapes(state: Any, template: Any) -> None:
    """Raise `LinearAlgebraError` unless `state` has the tree and the arrays' shapes of `template`.

    Example:
        >>> import jax.numpy as jnp
        >>> require_same_shapes({"w": jnp.ones(2)}, {"w": jnp.ones(3)})
        Traceback (most recent call last):
        lax_linalg.errors.LinearAlgebraError: the state is of another architecture: ['w'] is [2], the probe was made for
        [3]
    """
    given, structure = jax.tree.flatten_with_path(state)
    wanted, expected = jax.tree.flatten_with_path(template)
    if structure != expected:
        names, needed = ({jax.tree_util.keystr(p) for p, _ in leaves} for leaves in (given, wanted))
        detail = ", ".join(sorted(needed - names)[:3] or sorted(names - needed)[:3]) or "the tree"
        verb = "is missing" if needed - names else "is not in the model"
        raise LinearAlgebraError(f"the state is of another architecture than the probe was made for: {detail} {verb}")
    for (path, a), (_, b) in zip(given, wanted):
        if jnp.shape(a) != b.shape:
            raise LinearAlgebraError(
                f"the state is of another architecture: {jax.tree_util.keystr(path)} is {list(jnp.shape(a))}, "
                f"the probe was made for {list(b.shape)}"
            )


def chain_of(functions: Mapping[str, Callable] | Sequence[Callable] | Callable) -> tuple[Chain, tuple]:
    """The chain of a dict, list or single function, and its state: the arrays inside the functions.

    Raises:
        UnknownNameError: if a function is called "end_to_end".
        LinearAlgebraError: if there are no functions, or some cannot be called.

    Example:
        >>> import jax.numpy as jnp
        >>> chain_of({"wave": jnp.sin})[0].names
        ('wave',)
    """
    if callable(functions):
        functions = {getattr(functions, "__name__", type(functions).__name__): functions}
    elif not isinstance(functions, Mapping):
        functions = {str(i): f for i, f in enumerate(functions)}
    if not functions:
        raise LinearAlgebraError("layer_jacobians needs at least one function")
    if END_TO_END in functions:
        raise UnknownNameError(f"{END_TO_END!r} is the name of the whole composition; give this function another name")
    pairs = [hoist(f) for f in functions.values()]
    return Chain(tuple(functions), tuple(f for f, _ in pairs)), tuple(args for _, args in pairs)


def structure_of(
    model: Any,
    x: Any,
    call_kwargs: Mapping[str, Any] | None = None,
    input: str | None = None,
    output: str | Mapping[str, str] | None = None,
) -> tuple[Structure, Any, Inputs]:
    """The structure, the state and the probe inputs of an NNX model, a Linen model, or plain functions.

    Args:
        model: an `nnx.Module`, a pair (Linen module, variables), a bound Linen module, one function, or a list or dict
            of functions that are applied one after the other.
        x, call_kwargs, input, output: as for `la.layer_jacobians`.

    Returns:
        (structure, state, inputs).

    Raises:
        LinearAlgebraError: for anything else.
        DimensionMismatch: for inputs that are not a batch, or that the model does not take.

    Example:
        >>> import jax.numpy as jnp
        >>> structure_of([jnp.sin], jnp.ones((1, 2)))[0].names
        ('0',)
    """
    head = model[0] if isinstance(model, tuple) and model else model
    if any(c.__module__.partition(".")[0] == "flax" for c in type(head).__mro__):
        from lax_linalg.integrations import flax

        outputs = () if output is None else (("", output),) if isinstance(output, str) else tuple(output.items())
        return flax.structure_of(model, x, call_kwargs or {}, input, outputs)
    given = {"call_kwargs": call_kwargs, "input": input, "output": output}
    if any(given.values()):
        names = ", ".join(name for name, value in given.items() if value)
        raise LinearAlgebraError(f"{names}: of Flax models; bind a plain function's others with functools.partial")
    if callable(model) or isinstance(model, (list, tuple, Mapping)):
        x = inputs_of(x)
        batch_of(x)
        return *chain_of(model), Inputs((x,))
    raise LinearAlgebraError(
        "expected an nnx.Module, a (linen module, variables) pair, a bound Linen module, or functions; "
        f"got a {type(model).__name__}"
    )


def inputs_of(x: Any) -> jax.Array:
    """The probe inputs as one array.

    Raises:
        DimensionMismatch: for anything else, such as the several inputs of a model.

    Example:
        >>> inputs_of([[1.0, 2.0]]).shape
        (1, 2)
    """
    remedy = "of a function of several inputs hold the others fixed: lambda x: f(x, other)"
    return one_array(x, "probe inputs are one array [B, …], of a Flax model also a tuple or dict of arrays", remedy)


def batch_of(x: Any) -> int:
    """The number of examples, the length of the first axis of all arrays in x.

    Raises:
        DimensionMismatch: unless x can be a batch of probe inputs.

    Example:
        >>> batch_of(jax.numpy.ones((2, 3)))
        2
    """
    found = [tuple(jnp.shape(a)) for a in jax.tree.leaves(x)]
    sizes = {shape[0] if shape else 0 for shape in found}
    if len(sizes) != 1 or 0 in sizes:
        raise DimensionMismatch(
            "probe inputs are a batch [B, …] of at least one example, with B the same for all arrays, got shape "
            f"{', '.join(map(str, found)) or 'none'}; give what all examples share as call_kwargs"
        )
    return sizes.pop()
