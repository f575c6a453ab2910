"""Bisection with Sturm counts: singular values of bidiagonal matrices, each to full relative accuracy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def count_below(z: jax.Array, x: jax.Array) -> jax.Array:
    """How many singular values of the bidiagonal matrix with entries z are below each x > 0, [k].

    The eigenvalues of the symmetric tridiagonal matrix [2n, 2n] with zero diagonal and z beside it are ± the singular
    values; the count is exact for entries that differ from z by a few ε, relatively.

    Args:
        z: d_1, e_1, d_2, e_2 … d_n, the moduli of diagonal and off-diagonal in turns, [2n − 1].
        x: positive shifts, [k].

    Example:
        >>> import jax.numpy as jnp
        >>> print(count_below(jnp.array([1.0, 0.0, 3.0]), jnp.array([0.5, 2.0, 4.0])))
        [0 1 2]

    Source: Demmel & Kahan, Accurate singular values of bidiagonal matrices, SIAM J. Sci. Stat. Comput. (1990), sec. 7.
    """
    n = (z.shape[0] + 1) // 2
    tiny = jnp.finfo(z.dtype).tiny

    def step(state: tuple[jax.Array, jax.Array], entry: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        q, negative = state
        q = -x - entry * (entry / q)
        q = jnp.where(jnp.abs(q) < tiny, -tiny, q)
        return (q, negative + (q < 0)), None

    (_, negative), _ = lax.scan(step, (-x, jnp.ones(x.shape, jnp.int32)), z)
    return negative - n


def bidiagonal_singular_values(z: jax.Array) -> jax.Array:
    """Singular values, descending, of the bidiagonal matrix with entries z as in `count_below`.

    Bisection over the floating-point numbers themselves: as many steps as they have bits, whatever their magnitude.
    Each value has the relative accuracy of the entries, which no method that forms the matrix reaches.

    Cost: O(n²) per bit, O(n) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> print(bidiagonal_singular_values(jnp.array([1e-20, 0.0, 3.0])))
        [3.e+00 1.e-20]
    """
    n = (z.shape[0] + 1) // 2
    dtype = z.dtype
    integer = jnp.int32 if dtype == jnp.float32 else jnp.int64
    wanted = jnp.arange(n)[::-1]  # how many singular values are smaller
    pairs = jnp.pad(z, (1, 0)) + jnp.pad(z, (0, 1))
    bound = lax.bitcast_convert_type(jnp.max(pairs) * (1 + 4 * jnp.finfo(dtype).eps), integer)

    def halve(_: jax.Array, interval: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = interval
        middle = low + (high - low) // 2
        below = count_below(z, lax.bitcast_convert_type(middle, dtype)) > wanted
        return jnp.where(below, low, middle), jnp.where(below, middle, high)

    # positive floating-point numbers are ordered as the integers of the same bits
    low = jnp.zeros((n,), integer)
    _, high = lax.fori_loop(0, jnp.iinfo(integer).bits - 1, halve, (low, jnp.broadcast_to(bound, (n,))))
    values = lax.bitcast_convert_type(high, dtype)
    return jnp.where(values > jnp.finfo(dtype).tiny, values, 0)
