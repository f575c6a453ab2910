"""The singular value decomposition and what is read off it: singular values, rank, null space."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator, MatrixLike, as_operator
from lax_linalg.dense import platform
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.solve import default_rtol


class SVD(NamedTuple):
    """A = U diag(S) Vᴴ: U [m, k], S [k] descending, Vt = Vᴴ [k, n]; unpacks as `U, S, Vt = F`.

    Example:
        >>> import lax_linalg as la
        >>> F = la.svd([[3.0, 0.0], [0.0, 4.0]])
        >>> print(F.S)
        [4. 3.]
    """

    U: jax.Array
    S: jax.Array
    Vt: jax.Array

    def solve(self, b: MatrixLike, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
        """The least-squares solution of least norm, A⁺ b, for b [m] or [m, k]; `rtol` and `atol` as in `la.lstsq`."""
        k = self.S.shape[0]
        kept = _counted(self.S, (self.U.shape[0], self.Vt.shape[1]), rtol, atol)
        kept_values = jnp.where(kept, self.S, jnp.inf)
        coordinates = as_operator(self.U[:, :k]).H @ jnp.asarray(b)
        return as_operator(self.Vt[:k]).H @ (coordinates.T / kept_values).T


@verb(algorithm="LAPACK's SVD without vectors, of the materialised matrix.", cost="O(mn min(m, n))")
def svdvals(A: LinearOperator) -> jax.Array:
    """Singular values, largest first.

    Args:
        A: operator or array [m, n].

    Returns:
        All singular values σ₁ ≥ … ≥ σ_k ≥ 0, k = min(m, n), exact to rounding; real, float32 for half-precision input.

    Raises:
        DenseLimitError: if the matrix must be formed and is above `la.dense_limit`.
        NonFiniteError: on NaN or infinity.

    Differentiable; where values repeat the gradient is a valid element of the generalised gradient.

    Example:
        >>> import lax_linalg as la
        >>> print(la.svdvals([[3.0, 0.0], [0.0, 4.0]]))
        [4. 3.]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 8.6.
    """
    return platform.svdvals(dense(A))


@verb(algorithm="LAPACK's SVD of the materialised matrix.", cost="O(mn min(m, n))")
def svd(A: LinearOperator, *, full: bool = False) -> SVD:
    """Singular value decomposition A = U diag(S) Vᴴ.

    Args:
        A: operator or array [m, n].
        full: return square U and Vt instead of the thin ones.

    Returns:
        `SVD(U, S, Vt)`. The derivative of S is that of `svdvals`; U and Vt have none where singular values repeat: it
        is NaN there. What does not depend on their choice has rules of its own: `polar`, `pinv`, `lstsq`, `norm`.

    Raises:
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> U, S, Vt = la.svd(jnp.ones((2, 3)))
        >>> bool(jnp.allclose(U * S @ Vt, 1, atol=1e-6))
        True

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 8.6.
    """
    return SVD(*platform.svd(dense(A), full_matrices=full))


@verb(algorithm="Number of singular values above the threshold.", cost="cost of svdvals")
def rank(A: LinearOperator, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Numerical rank: the number of singular values above max(atol, rtol · σ₁).

    Args:
        A: operator or array [m, n].
        rtol: relative threshold; max(m, n) ε unless given.
        atol: the absolute threshold.

    Returns:
        The numerical rank, an int32 scalar; under ``jit`` −1 for a matrix that is not finite.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> int(la.rank(jnp.ones((3, 3))))
        1
    """
    s = svdvals(A)
    count = jnp.sum(_counted(s, A.shape, rtol, atol), dtype=jnp.int32)
    return jnp.where(jnp.isnan(s).any(), -1, count)


def _counted(s: jax.Array, shape: tuple[int, int], rtol: float | None, atol: jax.Array | float) -> jax.Array:
    """Which singular values count as positive."""
    return s > jnp.maximum(atol, (default_rtol(shape, s.dtype) if rtol is None else rtol) * jnp.max(s, initial=0))


@verb(algorithm="Last right singular vectors of the materialised matrix.", cost="O(mn max(m, n))")
def nullspace(
    A: LinearOperator, *, rtol: float | None = None, atol: jax.Array | float = 0, dimension: int | None = None
) -> jax.Array:
    """Orthonormal basis of the null space {x: A x = 0}.

    Args:
        A: operator or array [m, n].
        rtol: singular values up to max(atol, rtol · σ₁) count as zero; max(m, n) ε unless given.
        atol: the absolute threshold.
        dimension: number of columns to return, the right singular vectors of the smallest singular values; needed
            under ``jit``, where a size cannot depend on values, and n − rank(A) unless given.

    Returns:
        Orthonormal columns [n, dimension].

    Raises:
        LinearAlgebraError: under ``jit`` without `dimension`.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.nullspace(jnp.ones((3, 3))).shape
        (3, 2)
    """
    n = A.shape[1]
    _, s, Vt = svd(A, full=True)
    if dimension is None:
        if isinstance(s, Tracer):
            raise LinearAlgebraError("nullspace has a size that depends on values: under jit give it as dimension=")
        dimension = n - int(jnp.sum(_counted(s, A.shape, rtol, atol)))
    return Vt[n - dimension :].conj().T
