"""Pointwise nonlinearities by name, with the places where they are not smooth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.registry import Registry
from lax_linalg.errors import LinearAlgebraError


@dataclasses.dataclass(frozen=True)
class Activation:
    """An elementwise function and its kinks.

    Args:
        name: what errors and pictures call it.
        function: elementwise JAX function.
        kinks: pre-activations where the function or its slope jumps; integrals are cut there. Zero is always cut.

    Example:
        >>> leaky = Activation("leaky", lambda x: jnp.where(x > 0, x, 0.1 * x), kinks=(0.0,))
        >>> leaky.slope(jnp.array([-1.0, 2.0])).tolist()
        [0.10000000149011612, 1.0]
    """

    name: str
    function: Callable[[jax.Array], jax.Array]
    kinks: tuple[float, ...] = ()

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(x)

    def slope(self, x: jax.Array) -> jax.Array:
        """φ'(x), elementwise."""
        return jax.jvp(self.function, (x,), (jnp.ones_like(x),))[1]

    @property
    def cuts(self) -> tuple[float, ...]:
        """Where integrals over the pre-activation are cut: the kinks and zero."""
        return tuple(sorted({0.0, *self.kinks}))

    def __str__(self) -> str:
        return self.name


activations: Registry[Activation] = Registry("activation")

for _activation in (
    Activation("linear", lambda x: x),
    Activation("tanh", jnp.tanh),
    Activation("erf", jax.scipy.special.erf),
    Activation("sigmoid", jax.nn.sigmoid),
    Activation("softplus", jax.nn.softplus),
    Activation("silu", jax.nn.silu),
    Activation("gelu", lambda x: jax.nn.gelu(x, approximate=False)),
    Activation("sin", jnp.sin),
    Activation("relu", lambda x: jnp.where(x > 0, x, 0.0), kinks=(0.0,)),
    Activation("leaky_relu", lambda x: jnp.where(x > 0, x, 0.01 * x), kinks=(0.0,)),
    Activation("elu", jax.nn.elu, kinks=(0.0,)),
    Activation("selu", jax.nn.selu, kinks=(0.0,)),
    Activation("hard_tanh", lambda x: jnp.where(jnp.abs(x) < 1, x, jnp.sign(x)), kinks=(-1.0, 1.0)),
):
    activations.register(_activation.name)(_activation)


def as_activation(activation: str | Activation | Callable[[jax.Array], jax.Array]) -> Activation:
    """An `Activation` from a registered name, an elementwise callable, or itself.

    A plain callable counts as smooth away from zero; give `Activation(name, function, kinks=...)` for one that is not.

    Raises:
        UnknownNameError: for a name that is not registered.

    Example:
        >>> as_activation("relu").kinks, as_activation(jnp.tanh).name
        ((0.0,), 'tanh')
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        return activations[activation]
    if callable(activation):
        return Activation(getattr(activation, "__name__", "activation"), activation)
    raise LinearAlgebraError(
        f"an activation is a name ({', '.join(activations.names())}), a function or an Activation, got {activation!r}"
    )


def scaled_cuts(activation: Activation, length: jax.Array | float) -> jax.Array:
    """The cuts in units of the standard normal z, where the pre-activation is √length · z.

    Example:
        >>> scaled_cuts(activations["hard_tanh"], 4.0).tolist()
        [-0.5, 0.0, 0.5]
    """
    return jnp.asarray(np.array(activation.cuts)) / jnp.sqrt(length)
