"""`MLP`: dense layers with an activation between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from flax import nnx

from models.activations import Activation, activation
from models.catalog import registry
from models.checks import probability, sizes
from models.dense import Dense
from models.initializers import Initializer
from models.lipschitz import Part, slope
from models.mean_field import HiddenLayers, variances

_activation = activation  # the constructor's argument of that name hides the function


@registry.register("mlp")
class MLP(nnx.Module):
    """A multilayer perceptron on flattened inputs: Dense, φ, …, Dense.

    Args:
        input_shape: one example's shape.
        num_classes: number of logits.
        widths: sizes of the hidden layers.
        activation: name or function φ.
        kernel_init: initializer of the hidden layers, or its name.
        dropout: probability with which a hidden unit is dropped in training.
        rngs: source of the initial weights and the dropout masks.

    Raises:
        UnknownNameError: for an unknown activation or initializer.
        DimensionMismatch: for sizes < 1.
        LinearAlgebraError: for a dropout outside [0, 1).

    Cost: O(Σ_l n_l n_{l+1}) an example.

    Example:
        >>> import jax.numpy as jnp
        >>> model = MLP(input_shape=(8, 8, 1), num_classes=10, widths=(32, 32), rngs=nnx.Rngs(0))
        >>> model(jnp.ones((5, 8, 8, 1))).shape
        (5, 10)
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int] = (128, 128),
        activation: str | Activation = "tanh",
        kernel_init: str | Initializer = "orthogonal",
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        widths = sizes("widths", widths)
        self.activation = _activation(activation)
        fan_in = (math.prod(input_shape), *widths)
        self.layers = nnx.List([Dense(m, n, kernel_init=kernel_init, rngs=rngs) for m, n in zip(fan_in, widths)])
        rate = probability("dropout", dropout)
        self.dropout = nnx.Dropout(rate, rngs=rngs if rate else None)  # without dropout the state holds parameters only
        self.head = Dense(fan_in[-1], num_classes, rngs=rngs)

    def parts(self, input_shape: Sequence[int]) -> list[Part]:
        """The operators and slopes in order, for `lipschitz_bound`.

        Args:
            input_shape: of one example.

        Returns:
            Parts of the chain from the flattened input to the logits.

        Example:
            >>> len(MLP(input_shape=(4,), num_classes=2, widths=(8,), rngs=nnx.Rngs(0)).parts((4,)))
            3
        """
        hidden = [part for layer in self.layers for part in (layer.operator(), slope(self.activation))]
        return [*hidden, self.head.operator()]

    def mean_field(self) -> HiddenLayers:
        """The layers between hidden units; the first, which sees the data, and the head are none of them.

        Example:
            >>> MLP(input_shape=(4,), num_classes=2, widths=(8, 8), rngs=nnx.Rngs(0)).mean_field().variances.keys()
            dict_keys(['layers/1'])
        """
        hidden = list(enumerate(self.layers))[1:]
        found = {
            f"layers/{i}": variances(layer.kernel[...], None if layer.bias is None else layer.bias[...])
            for i, layer in hidden
        }
        return HiddenLayers(self.activation.__name__, found)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers:
            x = self.dropout(self.activation(layer(x)))
        return self.head(x)
