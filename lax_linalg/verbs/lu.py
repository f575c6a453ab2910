"""The LU factorisation with partial pivoting."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.concrete import above_rounding, require_differentiable
from lax_linalg.dispatch import verb
from lax_linalg.operators.base import LinearOperator
from lax_linalg.verbs.basic import dense


class LU(NamedTuple):
    """A[p] = L U: L [m, k] unit lower, U [k, n] upper triangular, p [m] the permutation of the rows, k = min(m, n).

    Example:
        >>> import lax_linalg as la
        >>> print(la.lu([[0.0, 2.0], [1.0, 0.0]]).p)
        [1 0]
    """

    L: jax.Array
    U: jax.Array
    p: jax.Array


@verb(algorithm="LAPACK's LU with partial pivoting of the materialised matrix.", cost="O(mn min(m, n))")
def lu(A: LinearOperator) -> LU:
    """LU factorisation with partial pivoting, A[p] = L U.

    Args:
        A: operator or array [m, n].

    Returns:
        `LU(L, U, p)`. It exists for every matrix: a singular one has a zero on the diagonal of U.

    Raises:
        NotDifferentiableError: on differentiating where the first k columns are dependent; NaN under ``jit``.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> L, U, p = la.lu(A)
        >>> bool(jnp.allclose(A[p], L @ U))
        True

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 3.4.
    """
    a = dense(A)
    m, n = a.shape
    k = min(m, n)
    if k == 0:
        return LU(jnp.zeros((m, 0), a.dtype), jnp.zeros((0, n), a.dtype), jnp.arange(m))
    packed, _, p = jax.lax.linalg.lu(a)
    independent = above_rounding(jnp.diagonal(packed), max(m, n))
    require_differentiable(packed, independent, f"lu has no derivative where the first {k} columns are dependent")
    return LU(jnp.tril(packed[:, :k], -1) + jnp.eye(m, k, dtype=a.dtype), jnp.triu(packed[:k]), p)
