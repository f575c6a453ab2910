"""`DeepConvNet`: a plain tanh network of any number of convolutions by one scan, without skips or normalisation."""

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
from models.conv import Conv
from models.dense import Dense
from models.initializers import critical_point, delta_orthogonal, orthogonal
from models.mean_field import HiddenLayers, variances

PADDINGS = ("zero", "circular")
_activation = activation  # the constructor's argument of that name hides the function


class ConvStack(nnx.Module):
    """L layers h ← φ(conv(h) + b) of equal shape, run by one `jax.lax.scan` over stacked parameters.

    Args:
        features: channels c.
        depth: number of layers L.
        kernel_size: (kh, kw) or one number.
        padding: "zero" or "circular".
        activation: name or function φ.
        q: variance of the pre-activations, which sets σ_w and σ_b on the critical line of φ.
        remat: keep only every √L-th state for the backward pass and compute the others again.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1.
        UnknownNameError: for an unknown activation or padding.
        LinearAlgebraError: for q ≤ 0.

    Cost: L convolutions; memory for L states in training, 2√L with `remat`.

    Example:
        >>> ConvStack(2, depth=6, rngs=nnx.Rngs(0))(jnp.ones((1, 4, 4, 2))).shape
        (1, 4, 4, 2)

    Source: Xiao et al., arXiv:1806.05393.
    """

    kernel_copies = 1  # leading axes of the kernel that index layers, for the regularisers
    groups = 1

    def __init__(
        self,
        features: int,
        *,
        depth: int,
        kernel_size: int | Sequence[int] = 3,
        activation: str | Activation = "tanh",
        padding: str = "zero",
        q: float = 0.025,
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        self.depth, self.remat = positive("depth", depth), bool(remat)
        self.activation = _activation(activation)
        weight, bias = critical_point(self.activation, q)
        if padding not in PADDINGS:
            raise UnknownNameError.of("padding of a deep stack", str(padding), PADDINGS)
        self.padding, self.strides, self.kernel_dilation = padding, (1, 1), (1, 1)
        shape = (*sizes("kernel_size", kernel_size, length=2), positive("features", features), features)
        keys = jax.random.split(rngs.params(), self.depth)
        self.kernel = nnx.Param(jax.vmap(lambda key: delta_orthogonal(weight**0.5)(key, shape))(keys))
        noise = jax.random.normal(rngs.params(), (self.depth, features))
        self.bias = nnx.Param(max(bias, 0.0) ** 0.5 * noise)

    def step(self, h: jax.Array, layer: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        """One layer, as `jax.lax.scan` and `la.scan_jacobians` take it.

        Args:
            h: images [B, H, W, c].
            layer: its kernel [k, k, c, c] and bias [c].

        Returns:
            (the next h, None).

        Example:
            >>> stack = ConvStack(2, depth=1, rngs=nnx.Rngs(0))
            >>> stack.step(jnp.ones((1, 4, 4, 2)), (stack.kernel[0], stack.bias[0]))[0].shape
            (1, 4, 4, 2)
        """
        kernel, bias = layer
        return self.activation(same_convolution(h, kernel, self.padding == "circular") + bias), None

    def jacobians(self, x: jax.Array) -> la.Stack:
        """The Jacobian of every layer at its own input.

        Args:
            x: images [B, H, W, c].

        Returns:
            A `Stack` over depth of batches: `la.svdvals` gives [L, B, HWc].

        Example:
            >>> la.svdvals(ConvStack(1, depth=3, rngs=nnx.Rngs(0)).jacobians(jnp.zeros((1, 2, 2, 1)))).shape
            (3, 1, 4)
        """
        step, layers = self.scan_layers()
        return la.scan_jacobians(step, x, layers, batched=True)

    def scan_layers(self) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        """The step of the scan and the stacked parameters, by which `la.layer_jacobians` finds every layer.

        Example:
            >>> step, (kernel, bias) = ConvStack(2, depth=3, rngs=nnx.Rngs(0)).scan_layers()
            >>> kernel.shape, bias.shape
            ((3, 3, 3, 2, 2), (3, 2))
        """
        return self.step, (self.kernel[...], self.bias[...])

    def __call__(self, x: jax.Array) -> jax.Array:
        _, layers = self.scan_layers()

        def run(h: jax.Array, some: Any) -> tuple[jax.Array, None]:
            return jax.lax.scan(self.step, h, some)

        if not self.remat:
            return run(x, layers)[0]
        inner = max(k for k in range(1, math.isqrt(self.depth) + 1) if self.depth % k == 0)
        segments = jax.tree.map(lambda a: a.reshape(-1, inner, *a.shape[1:]), layers)
        return jax.lax.scan(jax.checkpoint(run), x, segments)[0]


def same_convolution(x: jax.Array, kernel: jax.Array, circular: bool = False) -> jax.Array:
    """The convolution of stride 1 that keeps the size: the k² shifted images times the kernel's matrix, one product.

    Args:
        x: images [B, H, W, cin].
        kernel: [kh, kw, cin, cout].
        circular: pad by wrapping around instead of zeros.

    Returns:
        Images [B, H, W, cout], those of `la.Convolution`.

    Cost: 2 B H W kh kw cin cout FLOPs and a copy of kh kw images; on small images several times faster on the CPU than
    XLA's convolution.

    Example:
        >>> float(same_convolution(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)))[0, 0, 0, 0])
        4.0
    """
    _, height, width, _ = x.shape
    kh, kw, cin, cout = kernel.shape
    pads = ((0, 0), ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2), (0, 0))
    padded = jnp.pad(x, pads, mode="wrap" if circular else "constant")
    shifted = [padded[:, i : i + height, j : j + width] for i in range(kh) for j in range(kw)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(kh * kw * cin, cout)


@registry.register("deep_conv")
class DeepConvNet(nnx.Module):
    """Stem, a stack of equal tanh convolutions by one scan, and a dense head on the flattened image.

    On the critical line with delta-orthogonal kernels every layer's Jacobian starts near an isometry, so that thousands
    of layers train without skips or normalisation. The stem brings standardised inputs to the variance q.

    Args:
        input_shape: (H, W, channels) of one image.
        num_classes: number of logits.
        depth: convolutions in the stack.
        channels: of the stack.
        kernel_size, activation, padding, q, remat: see `ConvStack`.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1, or inputs that are not images.
        UnknownNameError: for an unknown activation or padding.

    Cost: 2 k² H W channels² FLOPs a layer and image; compile time does not depend on the depth.

    Example:
        >>> model = DeepConvNet(input_shape=(8, 8, 1), num_classes=10, depth=20, channels=4, rngs=nnx.Rngs(0))
        >>> model(jnp.ones((5, 8, 8, 1))).shape
        (5, 10)

    Source: Xiao et al., arXiv:1806.05393 (10,000 layers).
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        depth: int = 100,
        channels: int = 8,
        kernel_size: int | Sequence[int] = 3,
        activation: str | Activation = "tanh",
        padding: str = "zero",
        q: float = 0.025,
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        if len(input_shape) != 3:
            raise DimensionMismatch(f"deep_conv takes images (H, W, channels), got input_shape {tuple(input_shape)}")
        height, width, colours = input_shape
        self.stem = Conv(colours, channels, kernel_size, kernel_init=orthogonal(q**0.5), padding=padding, rngs=rngs)
        self.stack = ConvStack(
            channels,
            depth=depth,
            kernel_size=kernel_size,
            activation=activation,
            padding=padding,
            q=q,
            remat=remat,
            rngs=rngs,
        )
        self.head = Dense(height * width * channels, num_classes, kernel_init="lecun", rngs=rngs)

    def mean_field(self) -> HiddenLayers:
        """The layers of the stack.

        Example:
            >>> model = DeepConvNet(input_shape=(8, 8, 1), num_classes=10, depth=5, channels=4, rngs=nnx.Rngs(0))
            >>> model.mean_field().variances["stack"].shape
            (5, 2)
        """
        found = variances(self.stack.kernel[...], self.stack.bias[...], copies=self.stack.kernel_copies)
        return HiddenLayers(self.stack.activation.__name__, {"stack": found})

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.stack(self.stack.activation(self.stem(x)))
        return self.head(h.reshape(h.shape[0], -1))
