"""`LocallyConnected`: a convolution's window with weights of its own at every position, or tied to a convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from models.activations import Activation, activation
from models.catalog import registry
from models.checks import positive, sizes
from models.conv import Conv, Padding, checked_padding, window
from models.dense import Dense
from models.initializers import Initializer, initializer
from models.lipschitz import Part, slope

_activation = activation  # the constructor's argument of that name hides the function

KINDS = ("local", "tied", "conv")


class LocallyConnected(nnx.Module):
    """A locally connected layer plus bias on images [..., H, W, cin] or sequences [..., n, cin] of one size.

    y[m, o] = b[m, o] + Σ_{t, i} w[m, t, i, o] x[m S − P + t D, i]: the matrix of a convolution, with free entries in
    every row. Tied (w[m] = w, b[m] = b), it is the convolution.

    Args:
        in_features, out_features: channels cin and cout.
        kernel_size: (kh, kw) or one number for both; (k,) for sequences.
        input_size: (H, W) or (n,) of the inputs, which sets the number of positions.
        strides, padding, kernel_dilation, groups: as in `Conv`.
        tied: share the weights and biases between the positions.
        use_bias: add b.
        kernel_init: initializer of one position's kernel, or its name; drawn for each position and group.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1, kernels larger than the padded input, strides that leave no output, groups
            that do not divide the channels, or inputs of another size.
        UnknownNameError: for an unknown padding or initializer.

    Cost: 2 H' W' kh kw cin cout / groups FLOPs an image; reads every weight once.

    Example:
        >>> layer = LocallyConnected(1, 2, 3, (8, 8), strides=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((5, 8, 8, 1))).shape, layer.kernel.shape
        ((5, 4, 4, 2), (4, 4, 3, 3, 1, 2))
        >>> layer.operator((8, 8, 1))
        32×64 LocallyConnected{float32} 3×3, 1→2, stride 2, pad 1
    """

    shared = False  # for the regularisers: each position's kernel is a matrix of its own

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        input_size: int | Sequence[int],
        *,
        strides: int | Sequence[int] = 1,
        padding: Padding = "zero",
        kernel_dilation: int | Sequence[int] = 1,
        groups: int = 1,
        tied: bool = False,
        use_bias: bool = True,
        kernel_init: str | Initializer = "orthogonal",
        rngs: nnx.Rngs,
    ):
        self.in_features = positive("in_features", in_features)
        self.out_features = positive("out_features", out_features)
        self.kernel_size, self.strides, self.kernel_dilation = window(kernel_size, strides, kernel_dilation)
        d = len(self.kernel_size)
        self.input_size = sizes("input_size", input_size, length=d)
        self.padding, self.groups, self.tied = checked_padding(padding, d), positive("groups", groups), bool(tied)
        if self.in_features % self.groups or self.out_features % self.groups:
            raise DimensionMismatch(
                f"{self.groups} groups must divide the channels, got {self.in_features}→{self.out_features}"
            )
        one = (*self.kernel_size, self.in_features // self.groups, self.out_features // self.groups)
        geometry = la.Convolution(jnp.zeros((*one[:-1], self.out_features)), *self._geometry())
        positions = () if tied else geometry.out_spatial
        init = initializer(kernel_init)
        keys = jax.random.split(rngs.params(), self.groups * math.prod(positions))
        draws = jax.vmap(lambda key: init(key, one, jnp.float32))(keys)
        draws = draws.reshape(*positions, self.groups, *one)
        self.kernel_copies = len(positions)
        kernel = jnp.moveaxis(draws, len(positions), -2)
        self.kernel = nnx.Param(kernel.reshape(*positions, *one[:-1], self.out_features))
        self.bias = nnx.Param(jnp.zeros((*positions, self.out_features))) if use_bias else nnx.data(None)

    def _geometry(self) -> tuple:
        return self.input_size, self.strides, self.padding, self.kernel_dilation, self.groups

    def operator(self, input_shape: Sequence[int] | None = None) -> la.LocallyConnected | la.Convolution:
        """The linear part, on images flattened in C order.

        Args:
            input_shape: (H, W, cin) or (n, cin), the layer's own size.

        Returns:
            `la.LocallyConnected`, or `la.Convolution` of a tied layer.

        Raises:
            DimensionMismatch: for another size.

        Example:
            >>> LocallyConnected(1, 1, (3,), 5, tied=True, rngs=nnx.Rngs(0)).operator((5, 1))
            5×5 Convolution{float32} 3, 1→1, stride 1, pad 1
        """
        own = (*self.input_size, self.in_features)
        if input_shape is not None and tuple(input_shape) != own:
            raise DimensionMismatch(f"this locally connected layer takes inputs {own}, got {tuple(input_shape)}")
        structure = la.Convolution if self.tied else la.LocallyConnected
        return structure(self.kernel[...], *self._geometry())

    def tie(self) -> tuple[Conv, jax.Array]:
        """The nearest convolutional layer, and how far it is.

        Returns:
            (`Conv` with the kernel of the nearest convolution and the mean bias, ‖A − tie(A)‖_F / ‖A‖_F).

        Example:
            >>> conv, distance = LocallyConnected(1, 1, 3, 6, tied=True, rngs=nnx.Rngs(0)).tie()
            >>> float(distance)
            0.0
        """
        A: Any = self.operator()
        nearest = A if self.tied else A.tie()
        conv = Conv(
            self.in_features,
            self.out_features,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            kernel_dilation=self.kernel_dilation,
            groups=self.groups,
            use_bias=self.bias is not None,
            kernel_init="zeros",
            rngs=nnx.Rngs(0),
        )
        conv.kernel = nnx.Param(nearest.kernel)
        if self.bias is not None:
            conv.bias = nnx.Param(jnp.mean(self.bias[...].reshape(-1, self.out_features), axis=0))
        gap = jnp.zeros(()) if self.tied else jnp.linalg.norm(la.materialize(A) - la.materialize(nearest)) / la.norm(A)
        return conv, gap

    def __call__(self, x: jax.Array) -> jax.Array:
        d = len(self.kernel_size)
        A = self.operator(x.shape[-d - 1 :])
        y = A.apply(x.reshape(-1, *x.shape[-d - 1 :]))
        if self.bias is not None:
            y = y + self.bias[...]
        return y.reshape(*x.shape[: -d - 1], *y.shape[1:])


@registry.register("local")
class LocalNet(nnx.Module):
    """Locally connected, tied or convolutional layers of stride 2 with an activation, and a dense head.

    Args:
        input_shape: (H, W, channels) or (n, channels) of one example.
        num_classes: number of logits.
        widths: channels of each layer.
        kind: "local", "tied" (locally connected with shared weights) or "conv".
        kernel_size, padding: as in `Conv`, one number.
        activation: name or function φ.
        rngs: source of the initial weights.

    Raises:
        UnknownNameError: for an unknown kind, activation or padding.
        DimensionMismatch: for sizes < 1, or kernels that do not fit.

    Cost: that of the convolutions.

    Example:
        >>> model = LocalNet(input_shape=(8, 8, 1), num_classes=10, widths=(4,), rngs=nnx.Rngs(0))
        >>> model(jnp.ones((5, 8, 8, 1))).shape
        (5, 10)
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int] = (8, 16),
        kind: str = "local",
        kernel_size: int = 3,
        padding: Padding = "zero",
        activation: str | Activation = "tanh",
        rngs: nnx.Rngs,
    ):
        if kind not in KINDS:
            raise UnknownNameError.of("kind of layer", kind, KINDS)
        if len(input_shape) not in (2, 3):
            raise DimensionMismatch(f"local takes images (H, W, cin) or sequences (n, cin), got {tuple(input_shape)}")
        self.activation = _activation(activation)
        shape, window_size = tuple(input_shape), (kernel_size,) * (len(input_shape) - 1)
        options: Any = {"strides": 2, "padding": padding, "rngs": rngs}
        self.layers = nnx.List()
        for width in sizes("widths", widths):
            if kind == "conv":
                layer: Any = Conv(shape[-1], width, window_size, **options)
            else:
                layer = LocallyConnected(shape[-1], width, window_size, shape[:-1], tied=kind == "tied", **options)
            self.layers.append(layer)
            shape = (*layer.operator(shape).out_spatial, width)
        self.head = Dense(math.prod(shape), num_classes, rngs=rngs)

    def parts(self, input_shape: Sequence[int]) -> list[Part]:
        """The operators and slopes in order, for `lipschitz_bound`.

        Args:
            input_shape: of one example.

        Returns:
            Parts of the chain from the input to the logits.

        Example:
            >>> len(LocalNet(input_shape=(8, 8, 1), num_classes=2, widths=(4,), rngs=nnx.Rngs(0)).parts((8, 8, 1)))
            3
        """
        shape, chain = tuple(input_shape), []
        for layer in self.layers:
            A = layer.operator(shape)
            chain += [A, slope(self.activation)]
            shape = (*A.out_spatial, A.out_channels)
        return [*chain, self.head.operator()]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.head(x.reshape(x.shape[0], -1))
