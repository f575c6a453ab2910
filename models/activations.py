"""The pointwise nonlinearities by name."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.core.registry import Registry
from lax_linalg.errors import DimensionMismatch
from models.checks import positive

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


def group_sort(size: int) -> Activation:
    """GroupSort: sort each group of `size` consecutive channels (the last axis), ascending.

    Its Jacobian is a permutation wherever it exists, so gradients keep their norm: 1-Lipschitz without loss.

    Args:
        size: of a group, ≥ 1; must divide the number of channels.

    Returns:
        A function of an array [..., channels].

    Raises:
        DimensionMismatch: on use, when `size` does not divide the channels.

    Example:
        >>> print(group_sort(2)(jnp.array([3.0, 1.0, 0.0, 2.0])))
        [1. 3. 0. 2.]

    Source: Anil, Lucas and Grosse, arXiv:1811.05381, section 4.1.
    """
    size = positive("size of a group", size)

    def sort(x: jax.Array) -> jax.Array:
        if x.shape[-1] % size:
            raise DimensionMismatch(f"groups of {size} do not divide {x.shape[-1]} channels")
        groups = x.reshape(*x.shape[:-1], -1, size)
        if size == 2:
            low, high = jnp.min(groups, axis=-1), jnp.max(groups, axis=-1)
            return jnp.stack([low, high], axis=-1).reshape(x.shape)
        return jnp.sort(groups, axis=-1).reshape(x.shape)

    sort.__name__ = "maxmin" if size == 2 else f"groupsort{size}"
    return sort


activations.register("maxmin")(group_sort(2))
activations.register("groupsort4")(group_sort(4))


@activations.register("leaky_relu")
def leaky_relu(x: jax.Array) -> jax.Array:
    """φ(x) = max(x, 0.2 x).

    Args:
        x: array of any shape.

    Returns:
        An array of the same shape.

    Example:
        >>> print(leaky_relu(jnp.array([-1.0, 1.0])))
        [-0.2  1. ]
    """
    return jax.nn.leaky_relu(x, 0.2)


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
