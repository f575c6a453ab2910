"""`Conv`: a two-dimensional convolutional layer on channels-last images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from models.checks import positive, sizes
from models.initializers import Initializer, initializer

Padding = str | Sequence[tuple[int, int]]


class Conv(nnx.Module):
    """A convolution plus bias on images [..., H, W, cin], that knows its operator `la.Convolution`.

    Args:
        in_features, out_features: channels cin and cout.
        kernel_size: (kh, kw) or one number for both.
        strides: output steps, one number or two.
        padding: "zero" (keeps the size at stride 1), "circular", "valid", or ((top, bottom), (left, right)).
        kernel_dilation: spacing of the taps, one number or two.
        groups: the channels are convolved in this many separate groups.
        use_bias: add b [cout].
        kernel_init, bias_init: initializer or its name; drawn group by group.
        param_dtype: dtype of the parameters.
        precision: of the convolution in the forward pass, as in `jax.lax`.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1, groups that do not divide the channels, or inputs that do not fit.
        UnknownNameError: for an unknown padding or initializer.

    Cost: 2 H' W' kh kw cin cout / groups FLOPs an image, for an output of H' × W'.

    Example:
        >>> layer = Conv(1, 2, 3, strides=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((5, 8, 8, 1))).shape
        (5, 4, 4, 2)
        >>> layer.operator((8, 8, 1)).shape
        (32, 64)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        strides: int | Sequence[int] = 1,
        padding: Padding = "zero",
        kernel_dilation: int | Sequence[int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        kernel_init: str | Initializer = "orthogonal",
        bias_init: str | Initializer = "zeros",
        param_dtype: Any = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        rngs: nnx.Rngs,
    ):
        self.in_features = positive("in_features", in_features)
        self.out_features = positive("out_features", out_features)
        self.kernel_size = sizes("kernel_size", kernel_size, length=2)
        self.strides = sizes("strides", strides, length=2)
        self.kernel_dilation = sizes("kernel_dilation", kernel_dilation, length=2)
        self.groups = positive("groups", groups)
        if self.in_features % self.groups or self.out_features % self.groups:
            raise DimensionMismatch(
                f"{self.groups} groups must divide the channels, got {self.in_features}→{self.out_features}"
            )
        self.padding = _padding(padding)
        self.precision = precision
        cout = self.out_features // self.groups
        shape = (*self.kernel_size, self.in_features // self.groups, cout)
        init = initializer(kernel_init)
        blocks = [init(rngs.params(), shape, param_dtype) for _ in range(self.groups)]
        self.kernel = nnx.Param(jnp.concatenate(blocks, axis=-1))
        self.bias = (
            nnx.Param(initializer(bias_init)(rngs.params(), (self.out_features,), param_dtype))
            if use_bias
            else nnx.data(None)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        if x.ndim < 3:
            raise DimensionMismatch(f"Conv takes images [..., H, W, {self.in_features}], got shape {x.shape}")
        lead = x.shape[:-3]
        A = self.operator(x.shape[-3:])
        images = x.reshape(math.prod(lead), *x.shape[-3:])
        pads: Any = A.pads
        if A.circular:
            images, pads = jnp.pad(images, ((0, 0), *pads, (0, 0)), mode="wrap"), "VALID"
        y = jax.lax.conv_general_dilated(
            images,
            self.kernel[...],
            self.strides,
            pads,
            rhs_dilation=self.kernel_dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
            precision=self.precision,
        )
        if self.bias is not None:
            y = y + self.bias[...]
        return y.reshape(*lead, *y.shape[1:])

    def operator(self, input_shape: Sequence[int]) -> la.Convolution:
        """The linear part at one input size, on images flattened in C order.

        Args:
            input_shape: (H, W, cin) of one example.

        Returns:
            `la.Convolution` of shape [H' W' cout, H W cin].

        Raises:
            DimensionMismatch: for another number of axes or channels, or an input smaller than the kernel.

        Example:
            >>> Conv(4, 4, 3, padding="circular", rngs=nnx.Rngs(0)).operator((8, 8, 4))
            256×256 Convolution{float32} 3×3, 4→4, stride 1, circular
        """
        if len(input_shape) != 3 or input_shape[-1] != self.in_features:
            raise DimensionMismatch(
                f"Conv {self.in_features}→{self.out_features} takes images (H, W, {self.in_features}), "
                f"got {tuple(input_shape)}"
            )
        return la.Convolution(
            self.kernel[...],
            tuple(input_shape[:2]),
            stride=self.strides,
            padding=self.padding,
            dilation=self.kernel_dilation,
            groups=self.groups,
        )


def _padding(padding: Padding) -> str | tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding not in ("zero", "circular", "valid"):
            raise UnknownNameError.of("padding", padding, ("zero", "circular", "valid"))
        return padding
    if not isinstance(padding, Sequence) or len(padding) != 2:
        raise DimensionMismatch(
            f'padding is "zero", "circular", "valid" or ((top, bottom), (left, right)), got {padding!r}'
        )
    pairs = (sizes("padding", pair, length=2, minimum=0) for pair in padding)
    return tuple((front, behind) for front, behind in pairs)
