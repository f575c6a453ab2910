"""Eigenvalues and eigenvectors of square matrices."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import decided, undefined_unless
from lax_linalg.core.operator import LinearOperator, MatrixLike
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import moduli
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.solve import solve


class Eigen(NamedTuple):
    """A V = V diag(λ): values [n] and vectors [n, n] (unit columns); unpacks as `values, vectors = F`.

    Example:
        >>> import lax_linalg as la
        >>> la.eigen([[2.0]]).values.shape
        (1,)
    """

    values: jax.Array
    vectors: jax.Array


def sorted_eigenvalues(w: jax.Array) -> jax.Array:
    """Julia's order: by real part, then by imaginary part.

    Example:
        >>> import jax.numpy as jnp
        >>> print(sorted_eigenvalues(jnp.array([2.0, 1 + 1j, 1 - 1j])))
        [1.-1.j 1.+1.j 2.+0.j]
    """
    return jnp.sort(w)


@jax.jit
def sorted_eigen(w: jax.Array, v: jax.Array) -> Eigen:
    """Eigenpairs in the order of `sorted_eigenvalues`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(sorted_eigen(jnp.array([2.0, 1.0]), jnp.eye(2)).values)
        [1. 2.]
    """
    order = jnp.lexsort((w.imag, w.real))
    return Eigen(w[order], v[:, order])


@verb(algorithm="LAPACK's Hessenberg QR on the materialised matrix.", cost="O(n³)", square=True)
def eigvals(A: LinearOperator, B: MatrixLike | None = None) -> jax.Array:
    """Eigenvalues, A x = λ x, or those of the pencil, A x = λ B x.

    Args:
        A: square operator or array [n, n].
        B: invertible operator or array [n, n], I unless given; eigenvalues are real where A and B are `Hermitian` and B
            is positive definite.

    Returns:
        All eigenvalues with multiplicity, [n], by real then imaginary part; complex unless A is Hermitian by type.

    Raises:
        DimensionMismatch: unless A is square.
        NotDifferentiableError: on differentiating at a defective A; NaN under ``jit``.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Differentiable where the eigenvalues are simple, dλ_i = (V⁻¹ dA V)_ii; where equal ones have independent vectors the
    same formula gives one of the directional derivatives, and the right one for symmetric functions such as the sum.

    Example:
        >>> import lax_linalg as la
        >>> print(la.eigvals([[0.0, 1.0], [-1.0, 0.0]]))
        [0.-1.j 0.+1.j]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 7.5.
    """
    return sorted_eigenvalues(platform.eigvals(_pencil(A, B)))


@verb(algorithm="LAPACK's Hessenberg QR with vectors, on the materialised matrix.", cost="O(n³)", square=True)
def eigen(A: LinearOperator, B: MatrixLike | None = None) -> Eigen:
    """Eigenvalue decomposition A V = V diag(λ), or that of the pencil, A V = B V diag(λ).

    Args:
        A: square operator or array [n, n].
        B: as in `eigvals`.

    Returns:
        `Eigen(values, vectors)`, sorted as `eigvals`, columns of unit 2-norm (VᴴBV = I where A and B are
        `Hermitian`). Where eigenvalues repeat the vectors have no derivative: it is NaN.

    Raises:
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = jnp.array([[1.0, 2.0], [0.0, 3.0]])
        >>> w, V = la.eigen(A)
        >>> bool(jnp.allclose(A @ V, V * w, atol=1e-5))
        True
    """
    return sorted_eigen(*platform.eig(_pencil(A, B)))


def _pencil(A: LinearOperator, B: MatrixLike | None) -> jax.Array:
    """B⁻¹ A."""
    return dense(A) if B is None else solve(B, dense(A))


@verb(algorithm="The last of the sorted eigenvalues.", cost="cost of eigvals", square=True, sizeless=True)
def eigmax(A: LinearOperator) -> jax.Array:
    """Largest eigenvalue of a matrix whose eigenvalues are real.

    Args:
        A: square operator or array [n, n], n ≥ 1.

    Returns:
        A real scalar.

    Raises:
        LinearAlgebraError: if an eigenvalue is not real; under ``jit`` the result is NaN instead.

    Example:
        >>> import lax_linalg as la
        >>> float(la.eigmax(la.Symmetric([[2.0, 1.0], [1.0, 2.0]]))), float(la.eigmin(la.Diagonal([3.0, 1.0])))
        (3.0, 1.0)
    """
    return _real(A, "eigmax")[-1]


@verb(algorithm="The first of the sorted eigenvalues.", cost="cost of eigvals", square=True, sizeless=True)
def eigmin(A: LinearOperator) -> jax.Array:
    """Smallest eigenvalue of a matrix whose eigenvalues are real; as `eigmax`.

    Example:
        >>> import lax_linalg as la
        >>> float(la.eigmin([[2.0, 1.0], [0.0, -2.0]]))
        -2.0
    """
    return _real(A, "eigmin")[0]


def _real(A: LinearOperator, name: str) -> jax.Array:
    if 0 in A.shape:
        raise DimensionMismatch(f"{name} needs an eigenvalue, got a 0×0 matrix")
    values = eigvals(A)
    if not jnp.iscomplexobj(values):
        return values
    real = jnp.all(values.imag == 0)
    if decided(real) is False:
        raise LinearAlgebraError(f"{name} needs real eigenvalues, these are complex; la.eigvals gives all of them")
    return undefined_unless(real, values.real)


@verb(algorithm="Largest modulus of an eigenvalue.", cost="cost of eigvals", square=True, sizeless=True)
def spectral_radius(A: LinearOperator) -> jax.Array:
    """Spectral radius, ρ(A) = max |λ|.

    Args:
        A: square operator or array [n, n].

    Returns:
        A real scalar; 0 for the empty matrix.

    Example:
        >>> import lax_linalg as la
        >>> float(la.spectral_radius([[2.0, 5.0], [0.0, -3.0]]))
        3.0
    """
    return jnp.max(moduli(eigvals(A)), initial=0)
