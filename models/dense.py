"""`Dense`: y = x W + b on the last axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch
from models.checks import positive
from models.initializers import Initializer, initializer


class Dense(nnx.Module):
    """An affine layer on the last axis, y = x W + b, that knows its operator Wᵀ.

    Args:
        in_features, out_features: sizes ≥ 1.
        use_bias: add b [out_features].
        kernel_init, bias_init: initializer or its name.
        dtype: of the computation, into which x, W and b are cast; the one they promote to unless given.
        param_dtype: of the parameters.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1, or inputs whose last axis is not in_features.
        UnknownNameError: for an unknown initializer.

    Cost: 2 in_features out_features FLOPs an example.

    Example:
        >>> layer = Dense(3, 2, rngs=nnx.Rngs(0))
        >>> x = jnp.arange(3.0)
        >>> bool(jnp.allclose(layer(x), layer.operator((3,)) @ x, atol=1e-6))  # the bias starts at 0
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        kernel_init: str | Initializer = "orthogonal",
        bias_init: str | Initializer = "zeros",
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype
        self.in_features = positive("in_features", in_features)
        self.out_features = positive("out_features", out_features)
        shape = (self.in_features, self.out_features)
        self.kernel = nnx.Param(initializer(kernel_init)(rngs.params(), shape, param_dtype))
        self.bias = (
            nnx.Param(initializer(bias_init)(rngs.params(), shape[1:], param_dtype)) if use_bias else nnx.data(None)
        )

    def matrix(self) -> jax.Array:
        """W [in_features, out_features].

        Example:
            >>> Dense(3, 2, rngs=nnx.Rngs(0)).matrix().shape
            (3, 2)
        """
        return self.kernel[...]

    def __call__(self, x: jax.Array) -> jax.Array:
        if x.shape[-1:] != (self.in_features,):
            raise DimensionMismatch(f"{self._name} got an input of shape {x.shape}")
        x, W, b = promote_dtype((x, self.matrix(), self.bias and self.bias[...]), dtype=self.dtype)
        return x @ W if b is None else x @ W + b

    def operator(self, input_shape: Sequence[int] | None = None) -> la.LinearOperator:
        """The linear part as a matrix [out_features, in_features], Wᵀ.

        Args:
            input_shape: one example's shape; must be (in_features,).

        Returns:
            `la.Dense` of the transposed matrix.

        Raises:
            DimensionMismatch: for another input shape.

        Example:
            >>> Dense(3, 2, rngs=nnx.Rngs(0)).operator((3,))
            2×3 Dense{float32}
        """
        if input_shape is not None and tuple(input_shape) != (self.in_features,):
            raise DimensionMismatch(
                f"the operator of {self._name} acts on one example of shape ({self.in_features},), got "
                f"{tuple(input_shape)}"
            )
        return la.Dense(self.matrix().T)

    @property
    def _name(self) -> str:
        return f"{type(self).__name__} {self.in_features}→{self.out_features}"
