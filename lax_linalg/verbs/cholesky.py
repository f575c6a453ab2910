"""The Cholesky factorisation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import decided, known_not_finite
from lax_linalg.core.operator import LinearOperator, MatrixLike
from lax_linalg.dense.scaling import over_unit, unit_of
from lax_linalg.errors import NotPositiveDefiniteError
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.solve import solve


class Cholesky(NamedTuple):
    """A = L Lᴴ = Uᴴ U: L [n, n] lower triangular with a positive diagonal, U = Lᴴ; unpacks as `L, U = F`.

    It stands for A in every verb: ``la.solve(F, b)``, ``la.inv(F)`` and ``la.logdet(F)`` use the factors.

    Example:
        >>> import lax_linalg as la
        >>> print(la.cholesky([[4.0]]).L)
        [[2.]]
    """

    L: jax.Array
    U: jax.Array

    def solve(self, b: MatrixLike) -> jax.Array:
        """A⁻¹ b for b [n] or [n, k], in O(n²) per column."""
        return solve(self, b)


@verb(algorithm="LAPACK's Cholesky of the materialised matrix.", cost="O(n³)", square=True)
def cholesky(A: LinearOperator) -> Cholesky:
    """Cholesky factorisation A = L Lᴴ of a Hermitian positive definite matrix.

    Args:
        A: Hermitian operator or array [n, n].

    Returns:
        `Cholesky(L, U)` with U = Lᴴ.

    Raises:
        NotPositiveDefiniteError: if A is not Hermitian, or for the first leading minor that is not positive, with its
            index; under ``jit`` the factors are those of the Hermitian part (A + Aᴴ)/2, NaN if it is not definite.
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.cholesky([[4.0, 2.0], [2.0, 5.0]]).L)
        [[2. 0.]
         [1. 2.]]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 4.2.
    """
    a = dense(A)
    if a.size == 0:
        return Cholesky(a, a)
    _require_hermitian(a)
    L = jnp.linalg.cholesky(a)
    if known_not_finite(L):
        raise not_positive_definite(_failing_minor(np.asarray(jax.lax.stop_gradient(a))))
    return Cholesky(L, L.conj().T)


def not_positive_definite(index: int) -> NotPositiveDefiniteError:
    """The error that names the first leading minor that is not positive (0-based)."""
    return NotPositiveDefiniteError(
        f"cholesky: the matrix is not positive definite, its leading minor of order {index + 1} is not positive "
        f"(pivot {index}); add a multiple of I, or use la.eigen or la.lu",
        index=index,
    )


def _require_hermitian(a: jax.Array) -> None:
    a = over_unit(a, unit_of(a))
    asymmetry, scale = jnp.linalg.norm(a - a.conj().T), jnp.linalg.norm(a)
    if decided(asymmetry > 10 * a.shape[0] * float(jnp.finfo(a.dtype).eps) * scale):
        raise NotPositiveDefiniteError(
            f"cholesky needs a Hermitian matrix, but ‖A − Aᴴ‖ / ‖A‖ = {float(asymmetry / scale):.2g}; "
            "take the Hermitian part (A + A.H) / 2 if that is meant"
        )


def _failing_minor(a: np.ndarray) -> int:
    """Column where the outer-product Cholesky meets a pivot that is not positive; run only to word the error."""
    a = a.astype(np.result_type(a.dtype, np.float64))
    n = a.shape[0]
    for j in range(n):
        if not a[j, j].real > 0:
            return j
        column = a[j + 1 :, j] / a[j, j].real
        a[j + 1 :, j + 1 :] -= np.outer(column, a[j + 1 :, j].conj())
    return n - 1
