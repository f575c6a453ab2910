"""The pointwise nonlinearities by name."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.registry import Registry

Activation = Callable[[jax.Array], jax.Array]

activations: Registry[Activation] = Registry("activation")


@activations.register("identity")
def identity(x: jax.Array) -> jax.Array:
    """φ(x) = x: turns a network into a product of its operators.

    Args:
        x: array of any shape.

    Returns:
        The same array.

    Example:
        >>> identity(2.0)
        2.0
    """
    return x


for _function in (jnp.tanh, jax.nn.relu, jax.nn.gelu, jax.nn.silu, jax.nn.elu, jax.nn.softplus, jax.nn.hard_tanh):
    activations.register(_function.__name__)(_function)
activations.register("erf")(jax.lax.erf)


def activation(given: str | Activation) -> Activation:
    """The activation of that name, or the given function itself.

    Args:
        given: a registered name or a function of one array.

    Returns:
        The function.

    Raises:
        UnknownNameError: for a name that is not registered.

    Example:
        >>> float(activation("tanh")(0.0))
        0.0
    """
    return activations[given] if isinstance(given, str) else given
