"""`LocallyConnected`: a convolution whose weights are not shared, W[m, j] with K free entries in row m."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.operator import operator
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.window import Padding, Window, existing, occurrences, patches, scatter
from lax_linalg.verbs.basic import materialize


@operator(data=("kernel",), meta=("spatial", "stride", "padding", "dilation", "groups"), linear=complex)
class LocallyConnected(Window):
    """The sparse matrix of a locally connected layer in 1 or 2 dimensions: every output has a kernel of its own.

    y[m, o] = Σ_{t, i} w[m, t, i, o] x[m S − P + t D, i] in each spatial dimension; weights that fall in the zero
    padding have no entry in the matrix.

    Args:
        kernel: [out, k, cin / groups, cout] or [out_h, out_w, kh, kw, cin / groups, cout].
        spatial: input size, n, (n,) or (H, W).
        stride: S, one number or one per dimension.
        padding: "zero", "circular", "valid" or explicit (front, behind) pairs, as for `Convolution`.
        dilation: D, one number or one per dimension.
        groups: number of groups of channels.

    Raises:
        DimensionMismatch: as `Convolution`, and for a kernel whose leading axes are not the size of the output.

    Cost: one batched matrix product of the patches, O(out k² cin cout / groups) per product; reads every weight once.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.LocallyConnected(jnp.array([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None], 3, padding="valid")
        >>> A
        2×3 LocallyConnected{float32} 2, 1→1, stride 1, pad 0
        >>> print(la.materialize(A))
        [[1. 2. 0.]
         [0. 3. 4.]]
        >>> print(la.materialize(A.tie()))
        [[2. 3. 0.]
         [0. 2. 3.]]
    """

    kernel: jax.Array
    spatial: tuple[int, ...] | int
    stride: tuple[int, ...] | int = 1
    padding: Padding = "zero"
    dilation: tuple[int, ...] | int = 1
    groups: int = 1

    _axes: ClassVar[dict[int, int]] = {4: 1, 6: 2}
    _layout: ClassVar[str] = "[out, k, cin, cout] or [out_h, out_w, kh, kw, cin, cout]"

    def _validate(self) -> None:
        super()._validate()
        d = len(self.out_spatial)
        if self.kernel.shape[:d] != self.out_spatial:
            raise DimensionMismatch(
                f"this window has outputs at {list(self.out_spatial)} positions, the kernel holds weights for "
                f"{list(self.kernel.shape[:d])}"
            )

    def apply(self, x: jax.Array) -> jax.Array:
        """The map of images [batch, *spatial, cin], giving [batch, *out_spatial, cout]."""
        seen = patches(self, x)
        letters = "hwpq" if len(self.out_spatial) == 2 else "hp"
        out = letters[: len(letters) // 2]
        cin, cout = self.kernel.shape[-2:]
        y = jnp.einsum(
            f"z{letters}gi,{letters}igo->z{out}go",
            seen.reshape(*seen.shape[:-1], self.groups, cin),
            self.kernel.reshape(*self.kernel.shape[:-1], self.groups, cout // self.groups).astype(x.dtype),
            precision=jax.lax.Precision.HIGHEST,
        )
        return y.reshape(x.shape[0], *self.out_spatial, cout)

    def _matmat(self, X: jax.Array) -> jax.Array:
        images = X.T.reshape(X.shape[1], *self.spatial, self.in_channels)  # type: ignore[misc]
        return self.apply(images).reshape(X.shape[1], self.shape[0]).T

    def tie(self) -> Convolution:
        """The nearest convolution in the Frobenius norm: every tap's mean over the outputs where it exists.

        Parameter sharing as an orthogonal projection: ‖A‖² = ‖A.tie()‖² + ‖A − A.tie()‖². A tap that exists nowhere
        is 0.

        Example:
            >>> import jax.numpy as jnp, lax_linalg as la
            >>> A = la.LocallyConnected(jnp.array([[9.0, 2.0], [3.0, 4.0]])[:, :, None, None], 2, padding=((1, 0),))
            >>> print(A.tie().kernel[:, 0, 0])  # the 9 lies in the padding
            [3. 3.]
        """
        mask, count = existing_weights(self), occurrences(self)[..., None, None]
        kernel = jnp.where(mask, self.kernel, 0)
        total = jnp.sum(kernel.astype(_float(kernel.dtype)), axis=tuple(range(len(self.out_spatial))))
        return Convolution(
            total / np.maximum(count, 1), self.spatial, self.stride, self.padding, self.dilation, self.groups
        )


def _float(dtype: jnp.dtype) -> jnp.dtype:
    return jnp.dtype(jnp.result_type(dtype, jnp.bfloat16) if not jnp.issubdtype(dtype, jnp.inexact) else dtype)


def existing_weights(A: Window) -> np.ndarray:
    """Whether each tap exists at each output, [*out, *K, 1, 1].

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> print(existing_weights(la.Convolution(jnp.ones((3, 1, 1)), 2))[..., 0, 0].astype(int))
        [[0 1 1]
         [1 1 0]]
    """
    masks = existing(A)
    grid = masks[0] if len(masks) == 1 else masks[0][:, None, :, None] & masks[1][None, :, None, :]
    return grid[..., None, None]


def with_weights(A: Window, kernel: jax.Array) -> LocallyConnected:
    """The locally connected map with A's geometry and these weights, [*out, *K, cin / groups, cout].

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> with_weights(la.Convolution(jnp.ones((3, 1, 1)), 2), jnp.ones((2, 3, 1, 1)))
        2×2 LocallyConnected{float32} 3, 1→1, stride 1, pad 1
    """
    return LocallyConnected(kernel, A.spatial, A.stride, A.padding, A.dilation, A.groups)


@materialize.rule(LocallyConnected, cost="O(mn)")
def _(A: LocallyConnected) -> jax.Array:
    """The weights scattered into their rows."""
    return scatter(A, A.kernel)
