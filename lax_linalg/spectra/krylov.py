"""Lanczos tridiagonalisation and Golub–Kahan bidiagonalisation of many start vectors at once, safe at breakdown.

With `orthogonal` both keep all basis vectors orthogonal (two passes of classical Gram–Schmidt), so that no spurious
copies of eigenvalues appear; without, they keep no basis at all: copies appear, and share the weight of what they copy,
which leaves a quadrature rule as good as rounding allows (Greenbaum 1989; Knizhnerman 1996). When a Krylov space is
exhausted, which is normal for low-rank or degenerate matrices, the recurrence stops: the coupling to what would follow
is set to zero at the threshold √n ε ‖A‖, and the nodes after it get no weight.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.dense.scaling import over_unit, unit_of
from lax_linalg.verbs.norms import scaled_norm


def lanczos(A: Any, V: jax.Array, steps: int, orthogonal: bool = True) -> tuple[jax.Array, jax.Array]:
    """The tridiagonal matrices T = Qᴴ A Q of p Krylov spaces of a Hermitian A.

    Args:
        A: Hermitian operator or array [n, n].
        V: start vectors as columns [n, p], each of unit length.
        steps: m, at most n.
        orthogonal: whether all vectors are kept, and orthogonal to each other.

    Returns:
        Diagonals [p, m] and off-diagonals [p, m − 1], real.

    Cost: m products with p columns; for the orthogonality O(m² n p) and m n p numbers of memory.

    Example:
        >>> diagonal, off = lanczos(jnp.diag(jnp.array([1.0, 3.0])), jnp.full((2, 1), 0.5**0.5), 2)
        >>> print(diagonal.round(3), off.round(3))
        [[2. 2.]] [[1.]]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 10.1; Parlett, The Symmetric Eigenvalue Problem, ch. 13.
    """
    n, p = V.shape
    real = jnp.finfo(V.dtype).dtype
    eps = n**0.5 * jnp.finfo(real).eps

    def step(carry: Any, j: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        basis, before, v, last, scale, alive, first = carry
        w = (A @ v.T).T
        alpha = jnp.sum(v.conj() * w, axis=1).real
        first = jnp.where(j == 0, alpha, first)
        alpha = jnp.where(alive, alpha, first)  # a node without weight, inside the spectrum
        if orthogonal:
            basis = basis.at[:, j].set(v)
            w = _orthogonalise(w, basis)
        else:
            w = w - alpha[:, None] * v - last[:, None] * before
        beta = _lengths(w)
        scale = jnp.maximum(scale, jnp.maximum(jnp.abs(alpha), beta))
        alive = alive & (beta > eps * scale)
        beta = jnp.where(alive, beta, 0)
        return (basis, v, _unit(w, beta), beta, scale, alive, first), (alpha, beta)

    zeros, basis = jnp.zeros(p, real), jnp.zeros((p, steps if orthogonal else 0, n), V.dtype)
    start = (basis, jnp.zeros_like(V.T), V.T, zeros, zeros, jnp.ones(p, bool), zeros)
    _, (alpha, beta) = jax.lax.scan(step, start, jnp.arange(steps))
    return alpha.T, beta[:-1].T


def golub_kahan(A: Any, V: jax.Array, steps: int, orthogonal: bool = True) -> tuple[jax.Array, jax.Array]:
    """The upper bidiagonal matrices B with A V = U B of p Krylov spaces of AᴴA.

    Args:
        A: operator or array [m, n].
        V: start vectors as columns [n, p], each of unit length.
        steps: s, at most min(m, n).
        orthogonal: whether all vectors are kept, and orthogonal to each other.

    Returns:
        Diagonals [p, s] and superdiagonals [p, s − 1], real and non-negative.

    Cost: s products of A and of Aᴴ with p columns; for the orthogonality O(s² (m + n) p) and s (m + n) p numbers of
    memory.

    Example:
        >>> diagonal, off = golub_kahan(jnp.diag(jnp.array([1.0, 1.0])), jnp.eye(2, 1), 2)
        >>> print(diagonal, off)
        [[1. 1.]] [[0.]]

    Source: Golub & Kahan, SIAM J. Numer. Anal. 2 (1965); Golub & Van Loan, Matrix Computations (4th ed.), 10.4.
    """
    n, p = V.shape
    m = A.shape[0]
    AH = A.H if hasattr(A, "H") else jnp.conj(A).T
    real = jnp.finfo(V.dtype).dtype
    eps = max(m, n) ** 0.5 * jnp.finfo(real).eps

    def step(carry: Any, j: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        left, right, before, v, last, scale, alive, first = carry
        u = (A @ v.T).T
        u = _orthogonalise(u, left) if orthogonal else u - last[:, None] * before
        alpha = _lengths(u)
        first = jnp.where(j == 0, alpha, first)
        scale = jnp.maximum(scale, alpha)
        go_on = alive & (alpha > eps * scale)
        u = _unit(u, jnp.where(go_on, alpha, 0))
        # where the space ended with a zero diagonal entry, that zero is a singular value; behind it come nodes without
        # weight, which lie inside the spectrum
        alpha = jnp.where(go_on, alpha, jnp.where(alive, 0, first))
        w = (AH @ u.T).T
        if orthogonal:
            left, right = left.at[:, j].set(u), right.at[:, j].set(v)
            w = _orthogonalise(w, right)
        else:
            w = w - alpha[:, None] * v
        beta = _lengths(w)
        scale = jnp.maximum(scale, beta)
        alive = go_on & (beta > eps * scale)
        beta = jnp.where(alive, beta, 0)
        return (left, right, u, _unit(w, beta), beta, scale, alive, first), (alpha, beta)

    left, right = (jnp.zeros((p, steps if orthogonal else 0, size), V.dtype) for size in (m, n))
    zeros = jnp.zeros(p, real)
    start = (left, right, jnp.zeros((p, m), V.dtype), V.T, zeros, zeros, jnp.ones(p, bool), zeros)
    _, (alpha, beta) = jax.lax.scan(step, start, jnp.arange(steps))
    return alpha.T, beta[:-1].T


def _orthogonalise(w: jax.Array, basis: jax.Array) -> jax.Array:
    """Each row of w [p, n] minus its projection on its own basis [p, steps, n]; twice is enough."""
    for _ in range(2):
        w = w - jnp.einsum("psn,ps->pn", basis, jnp.einsum("psn,pn->ps", basis.conj(), w))
    return w


def _lengths(w: jax.Array) -> jax.Array:
    """Lengths of the rows of w [p, n]; the derivative of that of a zero row is 0."""
    return jax.vmap(scaled_norm)(w)


def safe_sqrt(x: jax.Array) -> jax.Array:
    """√x for x ≥ 0 with the derivative 0 at 0, a valid one for the length of a zero vector.

    Example:
        >>> print(jax.grad(safe_sqrt)(0.0), safe_sqrt(4.0))
        0.0 2.0
    """
    zero = x <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def _unit(w: jax.Array, length: jax.Array) -> jax.Array:
    """Rows of w [p, n] over their lengths [p]; zero where the length is."""
    nonzero = (length > 0)[:, None]
    w = over_unit(w, unit_of(w, axis=1))  # the derivative of a quotient divides by a square
    return jnp.where(nonzero, w / jnp.where(nonzero, _lengths(w)[:, None], 1), 0)
