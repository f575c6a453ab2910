"""`Convolution`: the linear map of a convolutional layer on channels-last images flattened in C order.

In one dimension with one channel it is the seed formula W[m, j] = Σ_t w_t δ_{j, mS−P+t}: row m holds the kernel at
offset mS − P, so stride 1 gives a (banded) Toeplitz matrix and circular padding a circulant one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from lax_linalg.errors import DimensionMismatch, UnknownNameError
from lax_linalg.operators.base import LinearOperator, operator
from lax_linalg.verbs.arithmetic import scale

Padding = str | int | Sequence[int | tuple[int, int]]


@operator(data=("kernel",), meta=("spatial", "stride", "padding", "dilation", "groups"))
class Convolution(LinearOperator):
    """Convolution (cross-correlation, as in every deep-learning framework) with a kernel, in 1 or 2 dimensions.

    y[m, o] = Σ_{t, i} w[t, i, o] x[m S − P + t D, i] in each spatial dimension.

    Args:
        kernel: [k, cin / groups, cout] or [kh, kw, cin / groups, cout] (HWIO).
        spatial: input size, n, (n,) or (H, W).
        stride: S, one number or one per dimension.
        padding: "zero" (keeps the size at stride 1: (k − 1) // 2 in front, k // 2 behind), "circular" (the same sizes,
            wrapped around), "valid" (none), or zero padding by explicit (front, behind) pairs.
        dilation: D, one number or one per dimension.
        groups: number of groups of channels.

    Raises:
        DimensionMismatch: kernels larger than the padded input, groups that do not divide, non-positive sizes.

    Cost: one XLA convolution per product, O(H W k² cin cout / groups).

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.Convolution(jnp.ones((3, 3, 16, 16)), (16, 16))
        4096×4096 Convolution{float32} 3×3, 16→16, stride 1, pad 1
        >>> print(la.materialize(la.Convolution(jnp.array([1.0, 2, 3])[:, None, None], 4)))
        [[2. 3. 0. 0.]
         [1. 2. 3. 0.]
         [0. 1. 2. 3.]
         [0. 0. 1. 2.]]
    """

    kernel: jax.Array
    spatial: tuple[int, ...] | int
    stride: tuple[int, ...] | int = 1
    padding: Padding = "zero"
    dilation: tuple[int, ...] | int = 1
    groups: int = 1

    def _validate(self) -> None:
        if jnp.ndim(self.kernel) not in (3, 4):
            raise DimensionMismatch(
                f"a kernel is [k, cin, cout] or [kh, kw, cin, cout], got shape {list(jnp.shape(self.kernel))}"
            )
        d = jnp.ndim(self.kernel) - 2
        for name in ("spatial", "stride", "dilation"):
            object.__setattr__(self, name, _per_dimension(name, getattr(self, name), d))
        object.__setattr__(self, "padding", self._normal_padding(d))
        if not isinstance(self.groups, int) or self.groups < 1:
            raise DimensionMismatch(f"groups must be a positive integer, got {self.groups}")
        if self.kernel.shape[-1] % self.groups:
            raise DimensionMismatch(
                f"{self.groups} groups do not divide the kernel's {self.kernel.shape[-1]} output channels"
            )
        for n, k, (front, behind) in zip(self.spatial, self.extent, self.pads):  # type: ignore[arg-type]
            if n + front + behind < k:
                raise DimensionMismatch(
                    f"a kernel that spans {k} does not fit an input of {n} with padding ({front}, {behind}): no output"
                )

    def _normal_padding(self, d: int) -> str | tuple[tuple[int, int], ...]:
        padding = self.padding
        if isinstance(padding, str):
            if padding == "circular":
                return padding
            if padding == "valid":
                return ((0, 0),) * d
            if padding == "zero":
                return tuple(((k - 1) // 2, k // 2) for k in self.extent)
            raise UnknownNameError.of("padding", padding, ("zero", "circular", "valid"))
        sides = (padding,) * d if isinstance(padding, int) else tuple(padding)
        pairs = tuple((p, p) if isinstance(p, int) else tuple(p) for p in sides)
        if len(pairs) != d or any(len(p) != 2 or min(p) < 0 for p in pairs):
            raise DimensionMismatch(f"padding takes {d} (front, behind) pairs of non-negative sizes, got {padding!r}")
        return pairs  # type: ignore[return-value]

    @property
    def extent(self) -> tuple[int, ...]:
        """What the dilated kernel spans in each dimension, (k − 1) D + 1."""
        dilation = (self.dilation,) * (self.kernel.ndim - 2) if isinstance(self.dilation, int) else self.dilation
        return tuple((k - 1) * s + 1 for k, s in zip(self.kernel.shape[-2 - len(dilation) : -2], dilation))

    @property
    def circular(self) -> bool:
        return self.padding == "circular"

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """(front, behind) sizes of the padding in each dimension."""
        if self.circular:
            return tuple(((k - 1) // 2, k // 2) for k in self.extent)
        return self.padding  # type: ignore[return-value]

    @property
    def in_channels(self) -> int:
        return self.kernel.shape[-2] * self.groups

    @property
    def out_channels(self) -> int:
        return self.kernel.shape[-1]

    @property
    def out_spatial(self) -> tuple[int, ...]:
        """Spatial size of the output, ⌊(n + front + behind − extent) / S⌋ + 1."""
        sizes = zip(self.spatial, self.pads, self.extent, self.stride)  # type: ignore[arg-type]
        return tuple((n + sum(p) - k) // s + 1 for n, p, k, s in sizes)

    @property
    def shape(self) -> tuple[int, int]:
        return math.prod(self.out_spatial) * self.out_channels, math.prod(self.spatial) * self.in_channels  # type: ignore[arg-type]

    def apply(self, x: jax.Array) -> jax.Array:
        """The convolution of images [batch, *spatial, cin], giving [batch, *out_spatial, cout]."""
        d = len(self.spatial)  # type: ignore[arg-type]
        pads: tuple[tuple[int, int], ...] = self.pads
        if self.circular:
            x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="wrap")
            pads = ((0, 0),) * d
        letters = "HW"[:d]
        return lax.conv_general_dilated(
            x,
            self.kernel.astype(x.dtype),
            window_strides=self.stride,  # type: ignore[arg-type]
            padding=pads,
            rhs_dilation=self.dilation,  # type: ignore[arg-type]
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
            feature_group_count=self.groups,
            precision=lax.Precision.HIGHEST,
        )

    def _matmat(self, X: jax.Array) -> jax.Array:
        images = X.T.reshape(X.shape[1], *self.spatial, self.in_channels)  # type: ignore[misc]
        return self.apply(images).reshape(X.shape[1], self.shape[0]).T

    def _describe(self) -> str:
        def joined(values: Sequence[int]) -> str:
            return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))

        k = "×".join(map(str, self.kernel.shape[-2 - len(self.spatial) : -2]))  # type: ignore[arg-type]
        parts = [k, f"{self.in_channels}→{self.out_channels}", f"stride {joined(self.stride)}"]  # type: ignore[arg-type]
        if self.circular:
            parts.append("circular")
        elif len({q for p in self.pads for q in p}) == 1:
            parts.append(f"pad {self.pads[0][0]}")
        else:
            parts.append("pad " + "×".join(f"({a},{b})" for a, b in self.pads))
        if set(self.dilation) != {1}:  # type: ignore[arg-type]
            parts.append(f"dilation {joined(self.dilation)}")  # type: ignore[arg-type]
        if self.groups > 1:
            parts.append(f"{self.groups} groups")
        return ", ".join(parts)


@scale.rule(Convolution, cost="O(kernel)")
def _(A: Convolution, alpha) -> Convolution:
    """Scaled kernel."""
    return Convolution(alpha * A.kernel, A.spatial, A.stride, A.padding, A.dilation, A.groups)


def _per_dimension(name: str, value: int | Sequence[int], d: int) -> tuple[int, ...]:
    values = (value,) * d if isinstance(value, int) else tuple(value)
    if len(values) != d or any(not isinstance(v, int) or v < 1 for v in values):
        raise DimensionMismatch(f"{name} takes a positive integer or {d} of them, got {value!r}")
    return values
