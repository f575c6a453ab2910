"""The models by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx

from lax_linalg.core.registry import Registry
from lax_linalg.errors import UnknownNameError
from models.checks import positive, sizes

registry: Registry[Callable[..., nnx.Module]] = Registry("model")
OPEN = "**"


def create(
    name: str, *, input_shape: Sequence[int] = (8, 8, 1), num_classes: int = 10, rngs: nnx.Rngs, **options: Any
) -> Any:
    """Build the model of that name.

    Args:
        name: one of `models.registry.names()`.
        input_shape: one example's shape, without the batch.
        num_classes: number of logits.
        rngs: source of the initial weights.
        **options: the model's own options; see its class.

    Returns:
        An NNX module, model(x [B, *input_shape]) -> logits [B, num_classes].

    Raises:
        UnknownNameError: for an unknown model, option, or name among the options.
        DimensionMismatch: for sizes that are not positive or do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> model = create("mlp", input_shape=(4,), num_classes=3, widths=(8,), rngs=nnx.Rngs(0))
        >>> model(jnp.ones((2, 4))).shape
        (2, 3)
    """
    build = registry[name]
    allowed = options_of(build, "input_shape", "num_classes")
    for option in options:
        if option not in allowed and OPEN not in allowed:
            raise UnknownNameError.of(f"option of model {name!r}:", option, allowed)
    shape = sizes("input_shape", input_shape)
    return build(input_shape=shape, num_classes=positive("num_classes", num_classes), rngs=rngs, **options)


def options_of(build: Callable[..., Any], *others: str) -> tuple[str, ...]:
    """The names of the options of a class or function, without `rngs` and the `others`.

    Args:
        build: class or function.
        others: names of parameters that are no options.

    Returns:
        Names; `OPEN` among them says that it hands further options on.

    Example:
        >>> options_of(lambda size, *, gain=1.0, rngs: None, "size")
        ('gain',)
    """
    function: Any = build.__init__ if isinstance(build, type) else build  # NNX's metaclass hides a class's signature
    return tuple(
        OPEN if p.kind is p.VAR_KEYWORD else p.name
        for p in inspect.signature(function).parameters.values()
        if p.name not in ("self", "rngs", *others)
    )
