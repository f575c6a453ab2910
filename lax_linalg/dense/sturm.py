"""Bisection with Sturm counts: singular values of bidiagonal matrices and roots of tridiagonal ones' eigenvalues.

Positive floating-point numbers are ordered as the integers of the same bits, so that a value is found bit by bit, in as
many steps as there are bits, whatever its magnitude.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def first_without(holds: Callable[[jax.Array], jax.Array], start: jax.Array, bits: int) -> jax.Array:
    """The smallest floating-point number x for which a property does not hold that holds up to some number only.

    Args:
        holds: of numbers [...], elementwise.
        start: numbers ≥ 0 for which it is taken to hold, [...].
        bits: how many of their bits may change; 31 and 63 are all bits of positive numbers in float32 and float64.

    Example:
        >>> import jax.numpy as jnp
        >>> print(first_without(lambda x: x * x < 9, jnp.zeros((1,)), 31))
        [3.]
    """
    dtype = start.dtype
    integer = jnp.int32 if dtype == jnp.float32 else jnp.int64

    # one array as the state, so that XLA makes one loop of a step
    def bit(k: jax.Array, x: jax.Array) -> jax.Array:
        candidate = x + lax.shift_left(jnp.ones((), integer), (bits - 1 - k).astype(integer))
        return jnp.where(holds(lax.bitcast_convert_type(candidate, dtype)), candidate, x)

    x = lax.fori_loop(0, bits, bit, lax.bitcast_convert_type(start, integer))
    return lax.bitcast_convert_type(x + 1, dtype)


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


@jax.jit
def bidiagonal_singular_values(z: jax.Array) -> jax.Array:
    """Singular values, descending, of the bidiagonal matrix with entries z as in `count_below`.

    Each value has the relative accuracy of the entries, which no method that forms the matrix reaches. NaN unless all
    entries are finite.

    Cost: O(n²) per bit, O(n) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> print(bidiagonal_singular_values(jnp.array([1e-20, 0.0, 3.0])))
        [3.e+00 1.e-20]
    """
    n = (z.shape[0] + 1) // 2
    smaller = jnp.arange(n)[::-1]  # how many singular values are smaller than the wanted one
    bits = 8 * z.dtype.itemsize - 1
    values = first_without(lambda x: count_below(z, x) <= smaller, jnp.zeros_like(z[:n]), bits)
    values = jnp.where(values > jnp.finfo(z.dtype).tiny, values, 0)
    return jnp.where(jnp.isfinite(z).all(), values, jnp.nan)


SHIFT = 2.0**-40
"""Added to eigenvalues relative to their bound: far above the rounding of double precision, and taken off again."""


def qd_count_below(q: jax.Array, e: jax.Array, x: jax.Array) -> jax.Array:
    """How many eigenvalues of BᵀB are below each x, B bidiagonal with squared entries q and e; a differential qd step.

    Half the steps of `count_below`, each exact for entries that differ by a few ε, relatively; squares must not
    underflow. Written out step by step, for small n.

    Args:
        q: squares of the diagonal, [n, ...]; the matrices are the trailing axes.
        e: squares of the off-diagonal, [n − 1, ...].
        x: shifts [k, ...].

    Example:
        >>> import jax.numpy as jnp
        >>> print(qd_count_below(jnp.array([1.0, 9.0]), jnp.array([0.0]), jnp.array([0.5, 4.0, 10.0])))
        [0 1 2]

    Source: Fernando & Parlett, Accurate singular values and differential qd algorithms, Numer. Math. 67 (1994).
    """
    tiny = jnp.finfo(q.dtype).tiny
    d = q[0] - x
    negative = jnp.zeros(d.shape, jnp.int32)
    for next_q, next_e in zip(q[1:], e):
        pivot = d + next_e
        pivot = jnp.where(jnp.abs(pivot) < tiny, -tiny, pivot)
        negative = negative + (pivot < 0)
        d = next_q * (d / pivot) - x
    return negative + (d < 0)


def tridiagonal_root_eigenvalues(d: jax.Array, e: jax.Array) -> jax.Array:
    """√λ, descending, in single precision, for positive semidefinite tridiagonal matrices in double precision.

    With T + sI = BᵀB, s = 2⁻⁴⁰ times a bound of ‖T‖, rounding leaves the factorisation positive; bisection in single
    precision finds the eigenvalues of BᵀB to a relative accuracy of a few ε, and s is taken off. The roots have the
    relative accuracy of single precision, but for an error of a few n ε₆₄ ‖T‖ in their squares.

    Args:
        d: diagonals [N, n], float64.
        e: off-diagonals [N, n − 1], float64.

    Returns:
        [N, n], float32; NaN for a matrix that is not finite. To be called under `jax.enable_x64`.

    Cost: O(29 n²) for each matrix.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> with jax.enable_x64(True):
        ...     print(tridiagonal_root_eigenvalues(jnp.array([[1.0, 4.0, 0.0]]), jnp.zeros((1, 2))).round(5))
        [[2. 1. 0.]]
    """
    n = d.shape[-1]
    bound = jnp.max(jnp.abs(d), -1) + 2 * jnp.max(jnp.abs(e), -1, initial=0)
    unit = jnp.where(bound > 0, bound, 1)
    diagonal, squares = (d / unit[:, None]).T + SHIFT, ((e / unit[:, None]) ** 2).T

    def pivot(q: jax.Array, entries: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        ratio = entries[1] / q
        return entries[0] - ratio, (q, ratio)

    last, (first, ratios) = lax.scan(pivot, diagonal[0], (diagonal[1:], squares))
    q, ratios = jnp.concatenate([first, last[None]]).astype(jnp.float32), ratios.astype(jnp.float32)
    smaller = n - 1 - lax.broadcasted_iota(jnp.int32, (n, 1), 0)  # not an array that a program holds as a constant
    start = jnp.full_like(diagonal, SHIFT / 2, jnp.float32)
    # 29 bits lead from below the shift past the bound
    found = first_without(lambda x: qd_count_below(q, ratios, x) <= smaller, start, 29)
    middle = found.astype(d.dtype) * (1 - 2.0**-24.5)  # of the last step, between neighbours in single precision
    roots = jnp.sqrt(jnp.maximum(middle - SHIFT, 0) * bound).astype(jnp.float32)
    return jnp.where(jnp.isfinite(bound), roots, jnp.nan).T
