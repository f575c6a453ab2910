"""Products with circulant and Toeplitz matrices by the fast Fourier transform, and where it is not worth it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

# Up to this many rows and columns a product with the gathered dense matrix takes as long as three FFTs (`python -m
# benchmarks.toeplitz` prints both around it), and is exact to rounding in every component.
DIRECT_SIZE = 64


@functools.lru_cache
def fft_size(n: int) -> int:
    """The smallest 2^a 3^b 5^c that is at least n, a length for which the FFT is fast on every platform.

    Example:
        >>> fft_size(7), fft_size(1001)
        (8, 1024)
    """
    best = 1 << max(n - 1, 0).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << max(-(-n // odd) - 1, 0).bit_length())
            odd *= 3
        fives *= 5
    return best


def fft_columns(x: jax.Array, n: int) -> jax.Array:
    """The DFT of length n of each column of x [≤ n, k], zero-padded; the half spectrum [n // 2 + 1, k] where x is real.

    Example:
        >>> import jax.numpy as jnp
        >>> fft_columns(jnp.ones((3, 1)), 4).shape
        (3, 1)
    """
    # axis −1 is the one XLA transforms; for one column the transposes are free
    x = x.T
    return (jnp.fft.fft(x, n) if jnp.iscomplexobj(x) else jnp.fft.rfft(x, n)).T


def ifft_columns(y: jax.Array, n: int, dtype: jnp.dtype) -> jax.Array:
    """The inverse of `fft_columns`, of length n and real if `dtype` is.

    Example:
        >>> import jax.numpy as jnp
        >>> print(ifft_columns(fft_columns(jnp.ones((3, 1)), 4), 4, jnp.float32).T.round(4))
        [[1. 1. 1. 0.]]
    """
    y = y.T
    x = jnp.fft.ifft(y, n) if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.fft.irfft(y, n)
    return x.astype(dtype).T


def use_direct(shape: tuple[int, int], dtype: jnp.dtype) -> bool:
    """Whether the product is better formed with the dense matrix: small, or of integers, which an FFT would round.

    Example:
        >>> import jax.numpy as jnp
        >>> use_direct((8, 8), jnp.float32), use_direct((4096, 4096), jnp.float32), use_direct((4096, 4096), jnp.int32)
        (True, False, True)
    """
    return max(shape) <= DIRECT_SIZE or not jnp.issubdtype(dtype, jnp.inexact)


def circular_convolution(c: jax.Array, X: jax.Array, n: int) -> jax.Array:
    """Σ_j c_{(i − j) mod n} X[j, :] for i < n, with c [≤ n] and X [≤ n, k] zero-padded to length n.

    Half precision is transformed in float32. Cost: O(n log n) per column.

    Example:
        >>> import jax.numpy as jnp
        >>> print(circular_convolution(jnp.array([0.0, 1.0]), jnp.array([[1.0], [2.0], [3.0]]), 3).T.round(4))
        [[3. 1. 2.]]
    """
    compute = jnp.promote_types(X.dtype, jnp.float32)
    c, Y = c.astype(compute), X.astype(compute)
    return ifft_columns(fft_columns(c[:, None], n) * fft_columns(Y, n), n, compute).astype(X.dtype)


@functools.partial(jax.jit, static_argnames=("m", "n"))
def toeplitz_entries(v: jax.Array, m: int, n: int) -> jax.Array:
    """The matrix [m, n] with entries v[i − j + n − 1], from its diagonals v [m + n − 1], the top right one first.

    Example:
        >>> import jax.numpy as jnp
        >>> print(toeplitz_entries(jnp.array([3.0, 1.0, 2.0]), 2, 2))
        [[1. 3.]
         [2. 1.]]
    """
    if m == 0 or n == 0:
        return jnp.zeros((m, n), v.dtype)
    return v[jnp.arange(m)[:, None] - jnp.arange(n)[None, :] + n - 1]


def toeplitz_product(v: jax.Array, X: jax.Array, m: int) -> jax.Array:
    """T X for the Toeplitz matrix T [m, n] with diagonals v as in `toeplitz_entries` and X [n, k].

    Embeds T in a circulant matrix of a size of at least m + n − 1 that the FFT is fast for.

    Example:
        >>> import jax.numpy as jnp
        >>> print(toeplitz_product(jnp.array([3.0, 1.0, 2.0]), jnp.ones((2, 1)), 2).T)
        [[4. 3.]]
    """
    n, k = X.shape
    if 0 in (m, n, k):
        return jnp.zeros((m, k), X.dtype)
    if use_direct((m, n), X.dtype):
        return jnp.matmul(toeplitz_entries(v, m, n).astype(X.dtype), X, precision="highest")
    # the linear convolution is longer than the transform, but what wraps around lands in the first n − 1 entries
    return circular_convolution(v, X, fft_size(m + n - 1))[n - 1 : m + n - 1]
