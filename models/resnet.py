"""`ResNet`: a residual classifier without normalisation layers, so that its Jacobians are those of its operators."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from models.activations import Activation, activation
from models.catalog import registry
from models.checks import positive, probability, sizes
from models.conv import Conv
from models.dense import Dense
from models.initializers import Initializer
from models.lipschitz import Part, Residual, slope
from models.residual import ResidualBlock

_activation = activation  # the constructor's argument of that name hides the function

POOLS = ("mean", "flatten")


@registry.register("resnet")
class ResNet(nnx.Module):
    """Stem, stages of residual blocks joined by strided convolutions, pooling, head.

    Stage s works on ⌈H/2^s⌉ × ⌈W/2^s⌉ images with widths[s] channels; its blocks are pre-activation `ResidualBlock`s.
    The default widths on 8×8 images give layers of at most 8·8·8 = 512 values: no layer's Jacobian is above 512×512.

    Args:
        input_shape: (H, W, channels) of one image.
        num_classes: number of logits.
        widths: channels of each stage.
        blocks: residual blocks in each stage.
        activation: name or function φ.
        scale: of the residual branches: "plain", "depth" (1/√L), "rezero" or "fixup" (whose head starts at 0 too).
        preactivation: φ before each convolution of a block, otherwise after it.
        padding: "zero" or "circular".
        kernel_init: initializer of the convolutions, or its name.
        pool: "mean" (over the image) or "flatten" in front of the head.
        dropout: probability with which a feature is dropped in front of the head in training.
        rngs: source of the initial weights and the dropout masks.

    Raises:
        UnknownNameError: for an unknown activation, scale, padding, initializer or pooling.
        DimensionMismatch: for sizes < 1, or inputs that are not images.
        LinearAlgebraError: for a dropout outside [0, 1).

    Cost: 2 · 9 H W widths² FLOPs a convolution and image.

    Example:
        >>> model = ResNet(input_shape=(8, 8, 1), num_classes=10, widths=(4, 8), rngs=nnx.Rngs(0))
        >>> model(jnp.ones((5, 8, 8, 1))).shape
        (5, 10)

    Source: He et al., arXiv:1603.05027.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int] = (8, 16, 32),
        blocks: int = 1,
        activation: str | Activation = "gelu",
        scale: str = "depth",
        preactivation: bool = True,
        padding: str = "zero",
        kernel_init: str | Initializer = "delta_orthogonal",
        pool: str = "flatten",
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        if len(input_shape) != 3:
            raise DimensionMismatch(f"resnet takes images (H, W, channels), got input_shape {tuple(input_shape)}")
        if pool not in POOLS:
            raise UnknownNameError.of("pool", pool, POOLS)
        widths, blocks = sizes("widths", widths), positive("blocks", blocks, minimum=0)
        height, width, channels = input_shape
        conv = {"padding": padding, "kernel_init": kernel_init, "rngs": rngs}
        depth = max(1, len(widths) * blocks)
        self.activation = _activation(activation)
        self.blocks_per_stage, self.pool = blocks, pool
        self.stem = Conv(channels, widths[0], 3, **conv)
        self.blocks = nnx.List(
            ResidualBlock(n, activation=activation, scale=scale, depth=depth, preactivation=preactivation, **conv)
            for n in widths
            for _ in range(blocks)
        )
        self.transitions = nnx.List(Conv(m, n, 3, strides=2, **conv) for m, n in itertools.pairwise(widths))
        for _ in widths[1:]:
            height, width = -(-height // 2), -(-width // 2)
        rate = probability("dropout", dropout)
        self.dropout = nnx.Dropout(rate, rngs=rngs if rate else None)  # without dropout the state holds parameters only
        features = widths[-1] * (height * width if pool == "flatten" else 1)
        head: dict[str, Any] = {"kernel_init": "zeros"} if scale == "fixup" else {}
        self.head = Dense(features, num_classes, rngs=rngs, **head)

    def parts(self, input_shape: Sequence[int]) -> list[Part]:
        """The operators, slopes and residual blocks in order, for `lipschitz_bound`.

        Args:
            input_shape: (H, W, channels) of one image.

        Returns:
            Parts of the chain from the image to the logits.

        Example:
            >>> len(ResNet(input_shape=(4, 4, 1), num_classes=2, widths=(2,), rngs=nnx.Rngs(0)).parts((4, 4, 1)))
            4
        """
        phi, shape = slope(self.activation), tuple(input_shape)
        chain: list[Part] = []

        def add(conv: Conv) -> None:
            nonlocal shape
            A = conv.operator(shape)
            chain.append(A)
            shape = (*A.out_spatial, A.out_channels)

        add(self.stem)
        for stage in range(len(self.transitions) + 1):
            if stage:
                chain.append(phi)
                add(self.transitions[stage - 1])
            for i in range(stage * self.blocks_per_stage, (stage + 1) * self.blocks_per_stage):
                block = self.blocks[i]
                inner = slope(block.activation)
                first, second = block.conv1.operator(shape), block.conv2.operator(shape)
                branch = (inner, first, inner, second) if block.preactivation else (first, inner, second, inner)
                chain.append(Residual(block.alpha, branch))
        chain.append(phi)
        if self.pool == "mean":
            pixels = shape[0] * shape[1]
            chain.append(la.Dense(jnp.tile(jnp.eye(shape[2]), (1, pixels)) / pixels))
        return [*chain, self.head.operator()]

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for stage in range(len(self.transitions) + 1):
            if stage:
                x = self.transitions[stage - 1](self.activation(x))
            for i in range(stage * self.blocks_per_stage, (stage + 1) * self.blocks_per_stage):
                x = self.blocks[i](x)
        x = self.activation(x)
        x = jnp.mean(x, axis=(1, 2)) if self.pool == "mean" else x.reshape(x.shape[0], -1)
        return self.head(self.dropout(x))
