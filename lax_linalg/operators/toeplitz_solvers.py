"""Direct methods for square Toeplitz systems in O(n²): Levinson with the Gohberg–Semencul formula, Schur's algorithm.

Matrices are given by their diagonals v [2n − 1], T[i, j] = v[i − j + n − 1].
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lax_linalg.operators.fourier import toeplitz_entries, toeplitz_product
from lax_linalg.verbs.norms import scaled_norm

# Up to this size LAPACK's LU takes no longer than the recursion's n steps (`python -m benchmarks.toeplitz` times both).
RECURSION_SIZE = 512
MAX_REFINEMENTS = 8  # each gains as many digits as the recursion left; what needs more is left to LU


class Levinson(NamedTuple):
    """x with T x ≈ b and its normwise backward error; unpacks as `x, backward_error = F`.

    Example:
        >>> import lax_linalg as la
        >>> la.levinson(la.Toeplitz([2.0]), [4.0]).x.shape
        (1,)
    """

    x: jax.Array
    backward_error: jax.Array


def frobenius(v: jax.Array) -> jax.Array:
    """‖T‖_F.

    Example:
        >>> import jax.numpy as jnp
        >>> float(frobenius(jnp.array([4.0, 0.0, 3.0])))
        5.0
    """
    n = (v.shape[0] + 1) // 2
    lengths = n - jnp.abs(jnp.arange(2 * n - 1) - (n - 1))
    return scaled_norm(jnp.sqrt(lengths.astype(jnp.finfo(v.dtype).dtype)) * v)


def backward_errors(v: jax.Array, X: jax.Array, residual: jax.Array, B: jax.Array) -> jax.Array:
    """‖b − T x‖ / (‖T‖_F ‖x‖ + ‖b‖) of each column, [k]: the relative change of T and b that x is exact for.

    Example:
        >>> import jax.numpy as jnp
        >>> print(backward_errors(jnp.array([1.0]), jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones((1, 1))))
        [1.]
    """
    size, of_x, of_b = (jax.vmap(scaled_norm, 1)(Y) for Y in (residual, X, B))
    scale = frobenius(v) * of_x + of_b
    return jnp.where(scale > 0, size / jnp.where(scale > 0, scale, 1), size)


@jax.jit
def inverse_corners(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first and the last column of T⁻¹ by Levinson's recursion over the leading minors; NaN if one of them is 0.

    Cost: O(n²) operations, O(n) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> print(inverse_corners(jnp.array([0.0, 2.0, 0.0]))[0])
        [0.5 0. ]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 4.7.7 (Trench).
    """
    n = (v.shape[0] + 1) // 2
    column = v[n - 1 :]
    row = jnp.concatenate([v[: n - 1][::-1], jnp.zeros((1,), v.dtype)])  # t_{−1} … t_{−(n−1)}, 0
    first = jnp.zeros((n,), v.dtype).at[0].set(1 / column[0])
    # the entries t_k … t_1 of row k, then zeros, are a window of the reversed column with t_0 taken away
    window = jnp.concatenate([column[:0:-1], jnp.zeros((n,), v.dtype)])

    def step(state: tuple[jax.Array, jax.Array], k: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        f, g = state  # T_k f = e_0 and T_k g = e_{k−1} for the leading minor of order k
        shifted = jnp.roll(g, 1)
        below, above = lax.dynamic_slice(window, (n - 1 - k,), (n,)) @ f, row @ g
        scale = 1 / (1 - below * above)
        return (scale * (f - below * shifted), scale * (shifted - above * f)), None

    (f, g), _ = lax.scan(step, (first, first), jnp.arange(1, n))
    return f, g


def gohberg_semencul(f: jax.Array, g: jax.Array, R: jax.Array) -> jax.Array:
    """T⁻¹ R = (L(f) U(g) − L(Z g) U(Z f)) R / f_0 from the first and last column f, g of T⁻¹ by triangular products.

    Cost: O(n log n) per column.

    Example:
        >>> import jax.numpy as jnp
        >>> print(gohberg_semencul(jnp.array([0.5, 0.0]), jnp.array([0.0, 0.5]), jnp.ones((2, 1))).T)
        [[0.5 0.5]]

    Source: Gohberg & Semencul (1972); Heinig & Rost, Algebraic Methods for Toeplitz-like Matrices (1984).
    """
    n = f.shape[0]
    zeros = jnp.zeros((n - 1,), f.dtype)

    def lower(c: jax.Array, X: jax.Array) -> jax.Array:
        return toeplitz_product(jnp.concatenate([zeros, c]), X, n)

    def upper(last_column: jax.Array, X: jax.Array) -> jax.Array:
        return toeplitz_product(jnp.concatenate([last_column, zeros]), X, n)

    # last columns: of U(g) it is g itself; of U(Z f) it is (f_1 … f_{n−1}, 0)
    f_up = jnp.concatenate([f[1:], jnp.zeros((1,), f.dtype)])
    g_down = jnp.concatenate([jnp.zeros((1,), g.dtype), g[:-1]])
    return (lower(f, upper(g, R)) - lower(g_down, upper(f_up, R))) / f[0]


def tolerance(n: int, dtype: jnp.dtype) -> float:
    """The backward error up to which the fast solution is as good as LU's, whose growth is of the order √n ε.

    Example:
        >>> tolerance(1024, "float32") < 2e-6
        True
    """
    return max(4.0, n**0.5 / 4) * float(jnp.finfo(dtype).eps)


def fast_solve(v: jax.Array, B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """X ≈ T⁻¹ B [n, k] and its backward errors [k], refined until they are below `tolerance` or no longer shrink.

    Cost: O(n²) operations once, O(n log n) per column and refinement, O(n) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> x, error = fast_solve(jnp.array([1.0, 3.0, 2.0]), jnp.array([[4.0], [5.0]]))
        >>> print(x.T.round(4))
        [[1. 1.]]
    """
    n = B.shape[0]
    f, g = inverse_corners(v)

    def measured(X: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        residual = B - toeplitz_product(v, X, n)
        return X, residual, backward_errors(v, X, residual, B)

    def refine(state: tuple) -> tuple:
        count, (X, residual, errors), _ = state
        better = measured(X + gohberg_semencul(f, g, residual))
        shrinks = jnp.max(better[2]) < jnp.max(errors)
        kept = jax.tree.map(lambda new, old: jnp.where(shrinks, new, old), better, (X, residual, errors))
        return count + 1, kept, shrinks

    def unfinished(state: tuple) -> jax.Array:
        count, (_, _, errors), shrinks = state
        return shrinks & (jnp.max(errors) > tolerance(n, v.dtype)) & (count < MAX_REFINEMENTS)

    start = measured(gohberg_semencul(f, g, B))
    _, (X, _, errors), _ = lax.while_loop(unfinished, refine, (0, start, jnp.asarray(True)))
    return X, errors


def solve_toeplitz(v: jax.Array, B: jax.Array) -> jax.Array:
    """X with T X = B [n, k] and a backward error as small as LU's, for every nonsingular T.

    Levinson's recursion is unstable where a leading minor is nearly singular; the error that is left after refinement
    is measured, and LAPACK's LU of the dense matrix solves again what is not accurate. Differentiable in v and B.

    Args:
        v: diagonals [2n − 1] of B's dtype, n ≥ 1.
        B: right-hand sides [n, k], k ≥ 1.

    Cost: O(n²) operations, O(n³) where LU has to step in (under ``vmap`` it always does).

    Example:
        >>> import jax.numpy as jnp
        >>> print(solve_toeplitz(jnp.array([1.0, 3.0, 2.0]), jnp.array([[4.0], [5.0]])).T.round(4))
        [[1. 1.]]
    """
    n = B.shape[0]
    fixed = lax.stop_gradient(v)

    def checked(_, R: jax.Array) -> jax.Array:
        X, errors = fast_solve(fixed, R)
        # a NaN compares false
        accurate = jnp.all(errors <= tolerance(n, v.dtype))
        return lax.cond(accurate, lambda: X, lambda: jnp.linalg.solve(toeplitz_entries(fixed, n, n), R))

    return lax.custom_linear_solve(
        lambda X: toeplitz_product(v, X, n),
        B,
        solve=checked,
        # reversing rows and columns transposes a Toeplitz matrix
        transpose_solve=lambda _, R: checked(_, R[::-1])[::-1],
    )


@jax.jit
def schur_cholesky(column: jax.Array) -> jax.Array:
    """L with L Lᴴ = T for the Hermitian positive definite Toeplitz matrix T with first column [n]; NaN if T is not.

    Each column of L is a generator of T − Z T Zᴴ, turned by one mixed hyperbolic rotation: backward stable.

    Cost: O(n²) operations.

    Example:
        >>> import jax.numpy as jnp
        >>> print(schur_cholesky(jnp.array([4.0, 2.0])).round(4))
        [[2.    0.   ]
         [1.    1.7321]]

    Source: Bojanczyk, Brent, de Hoog & Sweet, On the stability of the Bareiss and related Toeplitz factorization
    algorithms, SIAM J. Matrix Anal. (1995).
    """
    n = column.shape[0]
    corner = jnp.sqrt(column[0].real).astype(column.dtype)
    u = (column / corner).at[0].set(corner)

    def step(state: tuple[jax.Array, jax.Array], k: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        u, w = state
        u = jnp.roll(u, 1)  # its last entry is no longer needed, and falls on an entry above the diagonal
        s = w[k] / u[k]
        c = jnp.sqrt((1 - jnp.abs(s)) * (1 + jnp.abs(s)))
        turned = (u - jnp.conj(s) * w) / c
        return (turned, c * w - s * turned), turned

    _, columns = lax.scan(step, (u, u), jnp.arange(1, n))
    return jnp.tril(jnp.concatenate([u[None], columns]).T)
