"""`Conv`: a convolutional layer on channels-last images or sequences."""

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
    """A convolution plus bias on images [..., H, W, cin] or sequences [..., n, cin], that knows its operator.

    Args:
        in_features, out_features: channels cin and cout.
        kernel_size: (kh, kw) or one number for both; (k,) for sequences.
        strides: output steps, one number or one for each axis.
        padding: "zero" (keeps the size at stride 1), "circular", "valid", or ((top, bottom), (left, right)).
        kernel_dilation: spacing of the taps, one number or one for each axis.
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
        self.kernel_size, self.strides, self.kernel_dilation = window(kernel_size, strides, kernel_dilation)
        self.groups = positive("groups", groups)
        if self.in_features % self.groups or self.out_features % self.groups:
            raise DimensionMismatch(
                f"{self.groups} groups must divide the channels, got {self.in_features}→{self.out_features}"
            )
        self.padding = checked_padding(padding, len(self.kernel_size))
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
        d = len(self.kernel_size)
        if x.ndim < d + 1:
            raise DimensionMismatch(
                f"Conv takes {'images [..., H, W' if d == 2 else 'sequences [..., n'}, {self.in_features}], "
                f"got shape {x.shape}"
            )
        lead = x.shape[: -d - 1]
        A = self.operator(x.shape[-d - 1 :])
        images = x.reshape(math.prod(lead), *x.shape[-d - 1 :])
        pads: Any = A.pads
        if A.circular:
            images, pads = jnp.pad(images, ((0, 0), *pads, (0, 0)), mode="wrap"), "VALID"
        letters = "HW"[:d]
        y = jax.lax.conv_general_dilated(
            images,
            self.kernel[...],
            self.strides,
            pads,
            rhs_dilation=self.kernel_dilation,
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
            feature_group_count=self.groups,
            precision=self.precision,
        )
        if self.bias is not None:
            y = y + self.bias[...]
        return y.reshape(*lead, *y.shape[1:])

    def operator(self, input_shape: Sequence[int]) -> la.Convolution:
        """The linear part at one input size, on images flattened in C order.

        Args:
            input_shape: (H, W, cin) or (n, cin) of one example.

        Returns:
            `la.Convolution` of shape [H' W' cout, H W cin].

        Raises:
            DimensionMismatch: for another number of axes or channels, or an input smaller than the kernel.

        Example:
            >>> Conv(4, 4, 3, padding="circular", rngs=nnx.Rngs(0)).operator((8, 8, 4))
            256×256 Convolution{float32} 3×3, 4→4, stride 1, circular
        """
        d = len(self.kernel_size)
        if len(input_shape) != d + 1 or input_shape[-1] != self.in_features:
            raise DimensionMismatch(
                f"Conv {self.in_features}→{self.out_features} takes "
                f"{'images (H, W' if d == 2 else 'sequences (n'}, {self.in_features}), got {tuple(input_shape)}"
            )
        return la.Convolution(
            self.kernel[...],
            tuple(input_shape[:d]),
            stride=self.strides,
            padding=self.padding,
            dilation=self.kernel_dilation,
            groups=self.groups,
        )


def window(
    kernel_size: int | Sequence[int], strides: int | Sequence[int], dilation: int | Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Sizes of a sliding window as tuples of one number for each axis: one or two axes, two for a single number.

    Args:
        kernel_size: (k,), (kh, kw) or one number.
        strides, dilation: one number or one for each axis.

    Returns:
        (kernel_size, strides, dilation).

    Raises:
        DimensionMismatch: for numbers < 1, or more than two axes.

    Example:
        >>> window((3,), 2, 1)
        ((3,), (2,), (1,))
    """
    axes = len(kernel_size) if isinstance(kernel_size, Sequence) else 2
    if axes not in (1, 2):
        raise DimensionMismatch(f"kernel_size takes 1 or 2 integers, got {kernel_size!r}")
    named = (("kernel_size", kernel_size), ("strides", strides), ("kernel_dilation", dilation))
    size, stride, spacing = (sizes(name, value, length=axes) for name, value in named)
    return size, stride, spacing


def checked_padding(padding: Padding, axes: int) -> str | tuple[tuple[int, int], ...]:
    """A padding by name, or one (front, behind) pair for each axis.

    Args:
        padding: "zero", "circular", "valid" or pairs.
        axes: how many pairs there must be.

    Returns:
        The name or a tuple of pairs.

    Raises:
        UnknownNameError: for another name.
        DimensionMismatch: for anything else.

    Example:
        >>> checked_padding([(1, 0)], 1)
        ((1, 0),)
    """
    if isinstance(padding, str):
        if padding not in ("zero", "circular", "valid"):
            raise UnknownNameError.of("padding", padding, ("zero", "circular", "valid"))
        return padding
    if not isinstance(padding, Sequence) or len(padding) != axes:
        pairs = "((top, bottom), (left, right))" if axes == 2 else "((front, behind),)"
        raise DimensionMismatch(f'padding is "zero", "circular", "valid" or {pairs}, got {padding!r}')
    checked = (sizes("padding", pair, length=2, minimum=0) for pair in padding)
    return tuple((front, behind) for front, behind in checked)
