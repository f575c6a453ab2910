"""Arnoldi's process: the rectangular Hessenberg matrix that a linear map leaves on its Krylov space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.operator import LinearOperator, MatrixLike
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError
from lax_linalg.nonnormal.inputs import SchurForm, SquareMatrix, dense_array, is_batch, schur_form
from lax_linalg.nonnormal.resolvent import Resolvent


def arnoldi(A: MatrixLike, steps: int, seed: int = 0) -> np.ndarray:
    """H̃ [m + 1, m] with A V_m = V_{m+1} H̃ for orthonormal V, from m products A @ x with a random start.

    σ_min(zĨ − H̃) ≥ σ_min(zI − A) for every z, so its pseudospectra lie inside those of A and grow with m; so does the
    numerical range of its square part.

    Args:
        A: square operator or array [n, n]; only A @ x is used.
        steps: m ≤ n.
        seed: of the start vector.

    Returns:
        H̃ in double precision, real for real A; square [m, m] when the Krylov space is exhausted after m steps (then
        its eigenvalues are eigenvalues of A).

    Raises:
        DimensionMismatch: unless A is square.
        LinearAlgebraError: unless 1 ≤ steps ≤ n.
        NonFiniteError: when a product is not finite.

    Cost: m products and O(n m²). The products run in A's precision, so H̃ is that of A + E, ‖E‖ = O(ε‖A‖).

    Example:
        >>> import lax_linalg as la
        >>> la.arnoldi(la.Diagonal([1.0, 2.0, 3.0]), 2).shape
        (3, 2)

    Source: W. E. Arnoldi (1951); K.-C. Toh and L. N. Trefethen, SIAM J. Sci. Comput. 17 (1996).
    """
    if not isinstance(A, LinearOperator):
        A = dense_array(A, "arnoldi")
        if A.ndim != 2:
            raise DimensionMismatch(f"arnoldi needs a square matrix, got shape {list(A.shape)}")
    m, n = A.shape
    if m != n:
        raise DimensionMismatch(f"arnoldi needs a square matrix, got {m}×{n}")
    if not 1 <= steps <= n:
        raise LinearAlgebraError(f"arnoldi needs 1 ≤ steps ≤ {n} for a {n}×{n} matrix, got {steps}")
    is_complex = jnp.issubdtype(A.dtype, jnp.complexfloating)
    compute = jnp.promote_types(A.dtype, jnp.float32)
    rng = np.random.default_rng(seed)
    v = rng.normal(size=n) + (1j * rng.normal(size=n) if is_complex else 0)
    basis = np.zeros((n, steps + 1), complex if is_complex else float)
    h = np.zeros((steps + 1, steps), basis.dtype)
    basis[:, 0] = v / np.linalg.norm(v)
    apply = _product(A, compute)
    for k in range(steps):
        w = apply(basis[:, k]).astype(basis.dtype)
        if not np.isfinite(w).all():
            raise NonFiniteError(f"arnoldi: the product A @ x of step {k} is not finite")
        size = np.linalg.norm(w)
        for _ in range(2):  # twice is enough for orthogonality to machine precision
            projection = basis[:, : k + 1].conj().T @ w
            w = w - basis[:, : k + 1] @ projection
            h[: k + 1, k] += projection
        h[k + 1, k] = np.linalg.norm(w)
        if abs(h[k + 1, k]) <= 10 * n * float(jnp.finfo(compute).eps) * size or k + 1 == n:
            return h[: k + 1, : k + 1]
        basis[:, k + 1] = w / h[k + 1, k]
    return h


class Projection(NamedTuple):
    """H̃ split into its square part H, with Schur form, and its last row, None if the Krylov space is invariant."""

    square: SquareMatrix
    schur: SchurForm
    row: np.ndarray | None

    @property
    def resolvent(self) -> Resolvent:
        """1/σ_min(zĨ − H̃) ≤ ‖(zI − A)⁻¹‖ along curves."""
        return Resolvent(self.schur, self.square.real, self.row)


def project(A: Any, steps: int, name: str) -> Projection:
    """The projection that the instruments' option `krylov` asks for.

    Raises:
        LinearAlgebraError: for a batch, or as `arnoldi`.
    """
    if is_batch(A):
        raise LinearAlgebraError(f"{name}: a Krylov projection is of one matrix; call it for each of the batch")
    h = arnoldi(A, steps)
    m = h.shape[1]
    square = SquareMatrix(h[:m], float(np.finfo(float).eps))
    return Projection(square, schur_form(h[:m]), h[m] if len(h) > m else None)


def _product(A: Any, dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    """x -> A @ x on the host: an array keeps its own precision, an operator runs on its device in its dtype."""
    if not isinstance(A, LinearOperator):
        return lambda x: A @ x
    compiled = jax.jit(lambda operator, x: operator @ x)
    return lambda x: np.asarray(compiled(A, jnp.asarray(x, dtype)))
