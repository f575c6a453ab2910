"""`Convolution`: the linear map of a convolutional layer on channels-last images flattened in C order.

In one dimension with one channel it is the seed formula W[m, j] = Σ_t w_t δ_{j, mS−P+t}: row m holds the kernel at
offset mS − P, so stride 1 gives a (banded) Toeplitz matrix and circular padding a circulant one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from lax_linalg.core.operator import operator
from lax_linalg.operators.convolution.window import Padding, Window, scatter
from lax_linalg.verbs.basic import materialize

if TYPE_CHECKING:
    from lax_linalg.operators.convolution.locally_connected import LocallyConnected


@operator(data=("kernel",), meta=("spatial", "stride", "padding", "dilation", "groups"), linear=complex)
class Convolution(Window):
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

    _axes: ClassVar[dict[int, int]] = {3: 1, 4: 2}
    _layout: ClassVar[str] = "[k, cin, cout] or [kh, kw, cin, cout]"

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

    def untie(self) -> LocallyConnected:
        """The same matrix as a locally connected map, one copy of the kernel for each output position.

        Example:
            >>> import jax.numpy as jnp, lax_linalg as la
            >>> la.Convolution(jnp.ones((3, 1, 1)), 8).untie()
            8×8 LocallyConnected{float32} 3, 1→1, stride 1, pad 1
        """
        from lax_linalg.operators.convolution.locally_connected import with_weights

        return with_weights(self, jnp.broadcast_to(self.kernel, (*self.out_spatial, *self.kernel.shape)))


@materialize.rule(Convolution, cost="O(mn)")
def _(A: Convolution) -> jax.Array:
    """The kernel scattered into the rows of every output."""
    return scatter(A, jnp.broadcast_to(A.kernel, (*A.out_spatial, *A.kernel.shape)))
