"""How far eigenvalues move: condition numbers of each eigenvalue and of the eigenvector basis."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense import platform
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.basic import dense


@verb(algorithm="Left and right eigenvectors of the Schur triangle by substitution.", cost="O(25 n³)", square=True)
def eigenvalue_condition_numbers(A: LinearOperator) -> jax.Array:
    """Condition number of every eigenvalue, κ_i = 1/|y_iᴴ x_i| for unit left and right eigenvectors y_i, x_i.

    A perturbation E moves a simple eigenvalue by κ_i ‖E‖ + O(‖E‖²); κ_i = 1 for normal matrices and grows without
    bound towards a defective one, where it is inf (or, after rounding, of the order of 1/ε).

    Args:
        A: square operator or array [n, n]; batches by `jax.vmap`.

    Returns:
        Real numbers ≥ 1, [n], in the order of `la.eigvals` (real part, then imaginary part).

    Raises:
        DimensionMismatch: unless A is square.
        NonFiniteError: for NaN or infinity.

    Example:
        >>> import lax_linalg as la
        >>> print(la.eigenvalue_condition_numbers([[1.0, 3.0], [0.0, 5.0]]))
        [1.25 1.25]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 7.2.2; vectors as in LAPACK's trevc.
    """
    t, _ = platform.schur(dense(A))
    order = jnp.lexsort((jnp.diagonal(t).imag, jnp.diagonal(t).real))
    return condition_of_triangle(t)[order]


@eigenvalue_condition_numbers.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> jax.Array:
    """All ones: a diagonal matrix is normal."""
    return jnp.ones(A.shape[0], jnp.finfo(A.dtype).dtype)


@eigenvalue_condition_numbers.rule(UniformScaling, cost="O(n)")
def _(A: UniformScaling) -> jax.Array:
    """All ones: a multiple of the identity is normal."""
    return jnp.ones(A.shape[0], jnp.finfo(A.dtype).dtype)


@jax.jit
def condition_of_triangle(t: jax.Array) -> jax.Array:
    """κ of each diagonal entry of an upper triangle: with x_i = y_i = 1 in place i, yᴴx = 1 and κ = ‖x‖‖y‖."""
    n = t.shape[0]
    index = jnp.arange(n)
    # as LAPACK's trevc: a repeated eigenvalue is told apart by the least shift that the arithmetic can see
    least = jnp.finfo(t.dtype).eps * jnp.max(jnp.abs(t), initial=0)
    least = jnp.where(least > 0, least, jnp.finfo(t.dtype).tiny)

    def vector_norms(i: jax.Array) -> jax.Array:
        d = jnp.diagonal(t) - t[i, i]
        d = jnp.where(jnp.abs(d) < least, least, d)
        shifted = jnp.triu(t, 1) + jnp.diag(d)
        # right: rows above i see column i; left: columns right of i see row i; elsewhere the identity
        above, below = index < i, index > i
        eye = jnp.eye(n, dtype=t.dtype)
        right = jnp.where(above[:, None] & above[None, :], shifted, eye)
        left = jnp.where(below[:, None] & below[None, :], shifted, eye)
        x = jax.scipy.linalg.solve_triangular(right, jnp.where(above, -t[:, i], 0))
        y = jax.scipy.linalg.solve_triangular(left, jnp.where(below, -t[i], 0), trans="T")
        # hypot-like product keeps (1 + ‖x‖²)(1 + ‖y‖²) from overflowing in single precision
        return jnp.sqrt(1 + jnp.sum(jnp.abs(x) ** 2)) * jnp.sqrt(1 + jnp.sum(jnp.abs(y) ** 2))

    kappa = jax.lax.map(vector_norms, index)
    return jnp.where(jnp.isfinite(kappa) | ~jnp.isfinite(t).all(), kappa, jnp.inf)


@verb(algorithm="Condition number of LAPACK's unit eigenvectors.", cost="O(35 n³)", square=True, sizeless=True)
def eigenvector_condition_number(A: LinearOperator) -> jax.Array:
    """Condition number κ₂(V) = ‖V‖‖V⁻¹‖ of the eigenvectors with unit columns.

    ‖Aᵏ‖ ≤ κ(V) ρ(A)ᵏ and, by Bauer and Fike, a perturbation E moves no eigenvalue by more than κ(V) ‖E‖. Unit columns
    are within √n of the best scaling (van der Sluis). It is 1 for normal matrices and inf, or after rounding of the
    order of 1/ε, for defective ones.

    Args:
        A: square operator or array [n, n]; batches by `jax.vmap`.

    Returns:
        A real scalar ≥ 1. A normal matrix with repeated eigenvalues gives 1 only if LAPACK's vectors for them are
        orthogonal; `henrici` tells normality without that doubt.

    Raises:
        DimensionMismatch: unless A is square.
        NonFiniteError: for NaN or infinity.

    Example:
        >>> import lax_linalg as la
        >>> round(float(la.eigenvector_condition_number([[1.0, 3.0], [0.0, 5.0]])), 4)
        2.0

    Source: Trefethen & Embree, Spectra and Pseudospectra (2005), Theorem 2.3 and § 52.
    """
    s = platform.svdvals(platform.eig(dense(A))[1])
    least = jnp.where(s[-1] == 0, 1, s[-1])
    return jnp.where(s[-1] == 0, jnp.inf, s[0] / least)


@eigenvector_condition_number.rule(Diagonal, cost="O(1)")
def _(A: Diagonal) -> jax.Array:
    """One: the unit vectors are eigenvectors."""
    return jnp.ones((), jnp.finfo(A.dtype).dtype)


@eigenvector_condition_number.rule(UniformScaling, cost="O(1)")
def _(A: UniformScaling) -> jax.Array:
    """One: the unit vectors are eigenvectors."""
    return jnp.ones((), jnp.finfo(A.dtype).dtype)
