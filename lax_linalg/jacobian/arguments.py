"""The arguments and results of a call: what it is differentiated by, what is held fixed, which output is meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """The arrays of a call on a batch of B examples.

    Attributes:
        x: what the call may be differentiated by, and everything else that differs from example to example: arrays
            [B, …], the chosen one first.
        shared: arrays that all examples share.

    Example:
        >>> Inputs((jnp.ones((2, 3)),)).size
        2
    """

    x: tuple[Any, ...]
    shared: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """The number of examples."""
        return self.x[0].shape[0]


class _Input:
    """Marks the place of the array that a call is differentiated by."""


INPUT = _Input()


@dataclasses.dataclass(frozen=True)
class Held:
    """Marks the place of another array: its number, and whether it differs from example to example.

    Example:
        >>> Held(0, batched=True)
        Held(number=0, batched=True)
    """

    number: int
    batched: bool


@dataclasses.dataclass(frozen=True)
class Template:
    """A call without its arrays: the method, the places of the arguments, and the result that is meant.

    Attributes:
        structure: the tree of (args, kwargs).
        leaves: its leaves, with marks in place of arrays.
        output: name of the result among `named_arrays`.
        method: the method that is called.

    Example:
        >>> Template(jax.tree.structure(((0,), {})), (INPUT,)).fill(jnp.ones(3), ())[0][0].shape
        (1, 3)
    """

    structure: Any
    leaves: tuple
    output: str = ""
    method: str = "__call__"

    def fill(self, x: jax.Array, held: Sequence[Any]) -> tuple[tuple, dict]:
        """The arguments for a batch of the one example x; `held` has what all examples share first."""
        return self._put(x[None], [a[None] if batched else a for a, batched in zip(held, self._batched)])

    def whole(self, inputs: Inputs) -> tuple[tuple, dict]:
        """The arguments for all examples."""
        return self._put(inputs.x[0], [*inputs.shared, *inputs.x[1:]])

    def result(self, y: Any) -> Any:
        """The array that is meant of what the call returns."""
        return named_arrays(y)[self.output]

    @property
    def _batched(self) -> list[bool]:
        marks = {leaf.number: leaf.batched for leaf in self.leaves if isinstance(leaf, Held)}
        return [marks[number] for number in sorted(marks)]

    def _put(self, x: Any, held: Sequence[Any]) -> tuple[tuple, dict]:
        leaves = [x if v is INPUT else held[v.number] if isinstance(v, Held) else v for v in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


def template_of(
    leaves: Sequence[Any], structure: Any, x: Any, size: int, shared: Sequence[Any] = ()
) -> tuple[Template, Inputs]:
    """A call's template and arrays, to be differentiated by x, one of its leaves.

    Args:
        leaves, structure: the flattened (args, kwargs).
        x: the array, which may stand in several places.
        size: number of examples: other arrays whose first axis has this length differ from example to example,
        shared: except for these.

    Example:
        >>> leaves, structure = jax.tree.flatten(((jnp.ones((2, 3)), jnp.ones(4)), {"train": False}))
        >>> template, inputs = template_of(leaves, structure, leaves[0], 2)
        >>> len(inputs.x), len(inputs.shared)
        (1, 1)
    """
    others = list({id(a): a for a in leaves if hasattr(a, "dtype") and a is not x}.values())
    fixed = {id(a) for a in shared}
    batched = [a for a in others if jnp.shape(a)[:1] == (size,) and id(a) not in fixed]
    common = [a for a in others if not any(a is b for b in batched)]
    places: dict[int, Any] = {id(x): INPUT}
    places |= {id(a): Held(i, False) for i, a in enumerate(common)}
    places |= {id(a): Held(len(common) + i, True) for i, a in enumerate(batched)}
    return Template(structure, tuple(places.get(id(v), v) for v in leaves)), Inputs((x, *batched), tuple(common))


def named_arrays(tree: Any) -> dict[str, Any]:
    """The arrays of a tuple, dict, dataclass … by name, such as "0", "logits" or "cache/keys"; "" for one array alone.

    Example:
        >>> list(named_arrays({"logits": jnp.ones(2), "cache": (jnp.ones(1), None)}))
        ['cache/0', 'logits']
    """
    found: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if hasattr(leaf, "dtype"):
            found[name] = leaf
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):  # one that JAX does not know
            for key, array in named_arrays({f.name: getattr(leaf, f.name) for f in dataclasses.fields(leaf)}).items():
                found[f"{name}/{key}" if name else key] = array
    return found


def chosen_output(x: Any, y: Any, size: int, wanted: str | None = None) -> tuple[str, str]:
    """Which array of a result y is differentiated: (its name, why there is none or "").

    The only array; else that of the input's shape; else the only floating-point array with an axis of examples; else
    the only one.

    Example:
        >>> chosen_output(jnp.ones((2, 3)), (jnp.ones((2, 3)), jnp.ones(2)), 2)
        ('0', '')
        >>> chosen_output(jnp.ones((2, 3)), (jnp.ones((2, 4)), jnp.ones((2, 4))), 2)[1]
        "returns a tuple of several arrays, '0', '1'; say which one is meant, output='0'"
    """
    arrays = named_arrays(y)
    if wanted is not None:
        if wanted in arrays:
            return wanted, ""
        return "", f"has no output {wanted!r}; it returns {', '.join(map(repr, arrays)) or type(y).__name__}"
    if not arrays:
        return "", f"returns a {type(y).__name__} without arrays, a Jacobian needs one"
    floats = [name for name, a in arrays.items() if jnp.issubdtype(a.dtype, jnp.inexact)]
    shaped = [name for name in floats if arrays[name].shape == jnp.shape(x)]
    batched = [name for name in floats if arrays[name].shape[:1] == (size,)]
    for names in (list(arrays), shaped, batched, floats):
        if len(names) == 1:
            return names[0], ""
    if not floats:
        return next(iter(arrays)), ""  # its dtype is the reason
    several = shaped or batched or floats
    return "", (
        f"returns a {type(y).__name__} of several arrays, {', '.join(map(repr, several))}; say which one is meant, "
        f"output={several[0]!r}"
    )


def arguments_of(signature: Any, x: Any, call_kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a model's call from its probe inputs: a tuple is positional, a dict by name where that fits.

    Args:
        signature: `inspect.Signature` of the call, or None.
        x: an array, or a tuple or dict of arrays.
        call_kwargs: further keyword arguments.

    Raises:
        TypeError: if the call does not take such arguments.

    Example:
        >>> import inspect
        >>> arguments_of(inspect.signature(lambda image, mask: image), {"image": 1, "mask": 2}, {})
        ((), {'image': 1, 'mask': 2})
        >>> arguments_of(inspect.signature(lambda batch: batch), {"image": 1, "mask": 2}, {})
        (({'image': 1, 'mask': 2},), {})
    """
    choices: list[tuple[tuple, dict[str, Any]]] = [((x,), {**call_kwargs})]
    if isinstance(x, Mapping):
        choices.insert(0, ((), {**x, **call_kwargs}))
    elif isinstance(x, tuple):
        choices.insert(0, (x, {**call_kwargs}))
    if signature is None:
        return choices[0]
    failure: TypeError | None = None
    for args, kwargs in choices:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            failure = failure or error
        else:
            return args, kwargs
    assert failure is not None
    raise failure
