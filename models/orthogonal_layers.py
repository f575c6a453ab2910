"""Dense layers and convolutions that are orthogonal by construction, whatever their parameters, by the Cayley map.

A circular convolution is orthogonal when the matrix of each frequency is unitary, so that each is taken through the
Cayley map. A stride s first moves the s × s pixels of a cell into the channels, which is a permutation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch
from models.checks import positive, sizes
from models.dense import Dense
from models.initializers import Initializer, initializer


def semi_orthogonal(W: jax.Array) -> jax.Array:
    """Matrices with orthonormal columns (tall) or rows (wide) from any matrices, by the Cayley map.

    For tall W = [U; V] with U square: A = U − Uᴴ + VᴴV and Q = [(I − A)(I + A)⁻¹; −2V (I + A)⁻¹]. I + A is never
    singular, since its Hermitian part is I + VᴴV.

    Args:
        W: [..., m, n], real or complex; half precision is computed in single precision and rounded.

    Returns:
        Q [..., m, n] of the same dtype with QᴴQ = I if m ≥ n, else QQᴴ = I.

    Cost: O(m n min(m, n)) a matrix.

    Example:
        >>> Q = semi_orthogonal(jnp.arange(6.0).reshape(3, 2))
        >>> bool(jnp.allclose(Q.T @ Q, jnp.eye(2), atol=1e-5))
        True

    Source: Trockman and Kolter, arXiv:2104.07167, section 4 and appendix A.
    """
    m, n = W.shape[-2:]
    if (raised := _single(W)).dtype != W.dtype:
        return semi_orthogonal(raised).astype(W.dtype)
    if m < n:
        return _adjoint(semi_orthogonal(_adjoint(W)))
    U, V = W[..., :n, :], W[..., n:, :]
    A = U - _adjoint(U) + _adjoint(V) @ V
    identity = jnp.eye(n, dtype=W.dtype)
    return jnp.concatenate([identity - A, -2 * V], axis=-2) @ jnp.linalg.inv(identity + A)


def _single(x: jax.Array) -> jax.Array:
    """The same numbers in at least single precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _adjoint(W: jax.Array) -> jax.Array:
    return jnp.conj(jnp.swapaxes(W, -1, -2))


class OrthogonalDense(Dense):
    """y = x Q + b with a (semi-)orthogonal Q: into at least as many features it keeps norms, into fewer it projects.

    Args:
        in_features, out_features: sizes ≥ 1.
        use_bias: add b [out_features], 0 at the start.
        kernel_init: of the matrix that the Cayley map takes to Q, or its name.
        dtype, param_dtype: see `Dense`.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1, or inputs whose last axis is not in_features.
        UnknownNameError: for an unknown initializer.

    Cost: 2 in out FLOPs an example, and O(in out min(in, out)) a pass for Q.

    Example:
        >>> layer = OrthogonalDense(3, 5, rngs=nnx.Rngs(0))
        >>> bool(jnp.allclose(jnp.linalg.norm(layer(jnp.ones(3))), 3**0.5, atol=1e-5))
        True
        >>> layer.operator((3,)).shape
        (5, 3)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        kernel_init: str | Initializer = "gaussian",
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options: Any = {"use_bias": use_bias, "kernel_init": kernel_init, "dtype": dtype, "param_dtype": param_dtype}
        super().__init__(in_features, out_features, rngs=rngs, **options)

    def matrix(self) -> jax.Array:
        """Q [in_features, out_features].

        Example:
            >>> jax.eval_shape(OrthogonalDense(3, 3, rngs=nnx.Rngs(0)).matrix).shape
            (3, 3)
        """
        return semi_orthogonal(self.kernel[...])


class OrthogonalConv(nnx.Module):
    """A circular convolution on images of one size whose operator is exactly (semi-)orthogonal.

    The kernel is free and small; the orthogonal one is as large as the image (over the stride), decaying away from its
    centre. With stride s and cout ≥ s² cin it keeps norms.

    Args:
        in_features, out_features: channels cin, cout.
        kernel_size: (kh, kw) or one number, of the free kernel on the image after the stride.
        input_size: (H, W) of the images.
        strides: s, which must divide H and W.
        use_bias: add b [cout], 0 at the start.
        kernel_init: of the free kernel [kh, kw, s² cin, cout], or its name.
        param_dtype: of the parameters; half precision is transformed in single precision.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1, a stride that does not divide, a kernel larger than the image after it, or
            inputs of another size.
        UnknownNameError: for an unknown initializer.

    Cost: with N = H W / s² and c = s² cin, O(N log N (c + cout) + N c cout) an image and O(N c cout min(c, cout)) a
        pass.

    Example:
        >>> layer = OrthogonalConv(1, 4, 3, input_size=(8, 8), strides=2, rngs=nnx.Rngs(0))
        >>> y = nnx.jit(lambda layer, x: layer(x))(layer, jnp.ones((8, 8, 1)))
        >>> y.shape, bool(jnp.allclose(jnp.linalg.norm(y), 8, rtol=1e-5))
        ((4, 4, 4), True)

    Source: Trockman and Kolter, arXiv:2104.07167, section 4.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        input_size: Sequence[int],
        strides: int = 1,
        use_bias: bool = True,
        kernel_init: str | Initializer = "gaussian",
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.in_features = positive("in_features", in_features)
        self.out_features = positive("out_features", out_features)
        self.kernel_size = sizes("kernel_size", kernel_size, length=2)
        self.input_size = sizes("input_size", input_size, length=2)
        s = self.strides = positive("strides", strides)
        if any(size % s for size in self.input_size):
            raise DimensionMismatch(f"strides={s} must divide the images' sides, got {self.input_size}")
        self.grid = (self.input_size[0] // s, self.input_size[1] // s)
        if any(k > n for k, n in zip(self.kernel_size, self.grid)):
            raise DimensionMismatch(f"a kernel of {self.kernel_size} does not fit {self.grid} pixels")
        shape = (*self.kernel_size, s * s * in_features, out_features)
        self.kernel = nnx.Param(initializer(kernel_init)(rngs.params(), shape, param_dtype))
        self.bias = nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else nnx.data(None)

    def matrices(self) -> jax.Array:
        """The unitary matrix of each frequency, [H/s, W/s // 2 + 1, s² cin, cout]: the half spectrum of a real kernel.

        Example:
            >>> layer = OrthogonalConv(1, 4, 3, input_size=(8, 8), strides=2, rngs=nnx.Rngs(0))
            >>> jax.eval_shape(layer.matrices)
            ShapeDtypeStruct(shape=(4, 3, 4, 4), dtype=complex64)
        """
        return semi_orthogonal(jnp.fft.rfft2(_single(self.kernel[...]), s=self.grid, axes=(0, 1)))

    def __call__(self, x: jax.Array) -> jax.Array:
        self._check(x.shape[-3:])
        (h, w), s = self.grid, self.strides
        cells = x.reshape(*x.shape[:-3], h, s, w, s, self.in_features)
        cells = jnp.moveaxis(cells, -4, -3).reshape(*x.shape[:-3], h, w, -1)
        spectrum = jnp.fft.rfft2(_single(cells), axes=(-3, -2))
        y = jnp.fft.irfft2(jnp.einsum("...hwi,hwio->...hwo", spectrum, self.matrices()), s=(h, w), axes=(-3, -2))
        y = y.astype(jnp.promote_types(x.dtype, self.kernel[...].dtype))
        return y if self.bias is None else y + self.bias[...]

    def operator(self, input_shape: Sequence[int]) -> la.Convolution:
        """The linear part: a circular convolution with a kernel of the images' size.

        Args:
            input_shape: (H, W, cin) of one example.

        Returns:
            `la.Convolution` of shape [H W cout / s², H W cin].

        Raises:
            DimensionMismatch: for another input shape.

        Example:
            >>> layer = OrthogonalConv(1, 4, 2, input_size=(4, 4), strides=2, rngs=nnx.Rngs(0))
            >>> nnx.jit(lambda layer: layer.operator((4, 4, 1)))(layer)
            16×16 Convolution{float32} 4×4, 1→4, stride 2, circular
        """
        self._check(input_shape)
        (h, w), s = self.grid, self.strides
        taps = jnp.fft.irfft2(self.matrices(), s=(h, w), axes=(0, 1)).astype(self.kernel[...].dtype)
        # y[p] = Σ_a x_cells[p − a] taps[a]; as a correlation the tap that meets x[s p + u] stands at u + front
        taps = jnp.roll(taps[::-1, ::-1], 1, axis=(0, 1)).reshape(h, w, s, s, self.in_features, self.out_features)
        kernel = jnp.moveaxis(taps, 1, 2).reshape(h * s, w * s, self.in_features, self.out_features)
        A = la.Convolution(kernel, self.input_size, stride=s, padding="circular")
        front = tuple(pair[0] for pair in A.pads)
        return la.Convolution(jnp.roll(kernel, front, axis=(0, 1)), self.input_size, stride=s, padding="circular")

    def _check(self, shape: Sequence[int]) -> None:
        if tuple(shape) != (*self.input_size, self.in_features):
            raise DimensionMismatch(
                f"OrthogonalConv {self.in_features}→{self.out_features} takes images "
                f"{(*self.input_size, self.in_features)}, got {tuple(shape)}"
            )
