"""Linear matrix equations: Sylvester's, Lyapunov's and the discrete Lyapunov equation."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import of_finite
from lax_linalg.core.eager_checks import decided, undefined_unless
from lax_linalg.core.operator import MatrixLike, as_operator
from lax_linalg.errors import DimensionMismatch, SingularError
from lax_linalg.verbs.basic import compute_dtype, dense
from lax_linalg.verbs.schur import schur_form


def sylvester(A: MatrixLike, B: MatrixLike, C: MatrixLike) -> jax.Array:
    """The solution X of Sylvester's equation A X + X B + C = 0.

    Args:
        A: square operator or array [m, m].
        B: square operator or array [n, n].
        C: operator or array [m, n].

    Returns:
        X [m, n], real for real A, B and C; differentiable in all three.

    Raises:
        SingularError: if an eigenvalue of A is minus one of B to rounding, so that X is not unique; NaN under ``jit``.
        DimensionMismatch: where shapes do not fit.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Cost: O(m³ + n³), two Schur decompositions.

    Example:
        >>> import lax_linalg as la
        >>> print(la.sylvester([[1.0]], [[2.0]], [[6.0]]))
        [[-2.]]

    Source: Bartels & Stewart, Algorithm 432, Commun. ACM 15 (1972).
    """
    return of_finite(
        "sylvester",
        tuple(map(as_operator, (A, B, C))),
        lambda A, B, C: _solved("sylvester", A, B, C, lambda A, B, X: -(A @ X + X @ B), _sum),
    )


def lyap(A: MatrixLike, C: MatrixLike) -> jax.Array:
    """The solution X of Lyapunov's equation A X + X Aᴴ + C = 0.

    For a stable A and noise of covariance C it is the stationary covariance of dx = A x dt + dw.

    Args:
        A: square operator or array [n, n].
        C: operator or array [n, n].

    Returns:
        X [n, n], Hermitian if C is; differentiable.

    Raises:
        SingularError: if A has eigenvalues λ and −λ̄ to rounding; NaN under ``jit``.
        DimensionMismatch, DenseLimitError, NonFiniteError: as `sylvester`.

    Cost: that of `sylvester`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.lyap([[-1.0]], [[4.0]]))
        [[2.]]
    """
    return sylvester(A, as_operator(A).H, C)


def lyapd(A: MatrixLike, C: MatrixLike) -> jax.Array:
    """The solution X of the discrete Lyapunov equation A X Aᴴ − X + C = 0.

    For ρ(A) < 1 and noise of covariance C it is the stationary covariance of x_{t+1} = A x_t + w_t, such as that of a
    linear recurrent network.

    Args:
        A: square operator or array [n, n].
        C: operator or array [n, n].

    Returns:
        X [n, n], Hermitian if C is; differentiable.

    Raises:
        SingularError: if A has eigenvalues λ and 1/λ̄ to rounding; NaN under ``jit``.
        DimensionMismatch, DenseLimitError, NonFiniteError: as `sylvester`.

    Cost: that of `sylvester`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.lyapd([[0.5]], [[3.0]]))
        [[4.]]

    Source: Kitagawa, An algorithm for solving the matrix equation X = F X Fᵀ + S, Int. J. Control 25 (1977).
    """
    A, C = as_operator(A), as_operator(C)
    return of_finite(
        "lyapd",
        (A, A.H, C),
        lambda A, B, C: _solved("lyapd", A, B, C, lambda A, B, X: X - A @ X @ B, _product),
    )


Coefficients = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""Upper triangular T and an eigenvalue s of the right factor -> the triangle that acts on a column, and on the rest."""


def _sum(T: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    identity = jnp.eye(T.shape[0], dtype=T.dtype)
    return -(T + s * identity), -identity


def _product(T: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.eye(T.shape[0], dtype=T.dtype) - s * T, -T


def _solved(name: str, A, B, C, product: Callable[..., jax.Array], coefficients: Coefficients) -> jax.Array:
    """X with product(A, B, X) = C, by the Schur forms of A and B; derivatives by those of the equation."""
    a, b, c = dense(A), dense(B), dense(C)
    m, n = c.shape
    if a.shape != (m, m) or b.shape != (n, n):
        raise DimensionMismatch(
            f"{name}: a right-hand side [{m}, {n}] takes square matrices of sizes {m} and {n}, "
            f"got {a.shape[0]}×{a.shape[1]} and {b.shape[0]}×{b.shape[1]}"
        )
    dtype = jnp.result_type(a, b, c)
    a, b, c = (x.astype(compute_dtype(dtype)) for x in (a, b, c))
    if 0 in c.shape:
        return c
    complex_dtype = jnp.result_type(dtype, jnp.complex64)
    (T, Z), (S, W) = (schur_form(jax.lax.stop_gradient(x).astype(complex_dtype)) for x in (a, b))

    def solve(_: Callable, right: jax.Array) -> jax.Array:
        X = _by_columns(T, S, Z.conj().T @ right @ W, coefficients)
        X = Z @ X @ W.conj().T
        return X if jnp.iscomplexobj(right) else X.real

    def transposed(_: Callable, right: jax.Array) -> jax.Array:
        # the transpose of X -> A X B is X -> Aᵀ X Bᵀ: conjugated, the Schur forms of Aᴴ and Bᴴ, turned upside down
        X = _by_columns(_turned(T), _turned(S), (Z.conj().T @ right.conj() @ W)[::-1, ::-1], coefficients)
        X = (Z @ X[::-1, ::-1] @ W.conj().T).conj()
        return X if jnp.iscomplexobj(right) else X.real

    pivots = jax.vmap(lambda s: jnp.diagonal(coefficients(T, s)[0]))(jnp.diagonal(S))
    size = jnp.max(jnp.abs(pivots))
    unique = jnp.min(jnp.abs(pivots)) > max(m, n) * jnp.finfo(a.dtype).eps * size
    if decided(unique) is False:
        raise SingularError(f"{name}: the solution is not unique, eigenvalues of the two matrices cancel to rounding")
    X = jax.lax.custom_linear_solve(lambda X: product(a, b, X), c, solve, transpose_solve=transposed)
    return undefined_unless(unique, X)


def _turned(T: jax.Array) -> jax.Array:
    """Tᴴ with rows and columns in reverse order, upper triangular again."""
    return T.conj().T[::-1, ::-1]


@jax.jit
def _substitute(M: jax.Array, right: jax.Array) -> jax.Array:
    return jax.scipy.linalg.solve_triangular(M, right)


def _by_columns(T: jax.Array, S: jax.Array, C: jax.Array, coefficients: Coefficients) -> jax.Array:
    """Y with coefficients(T, S) applied to it equal to C, column after column from the left."""

    def column(Y: jax.Array, j: jax.Array) -> tuple[jax.Array, None]:
        own, others = coefficients(T, S[j, j])
        left = Y @ jnp.where(jnp.arange(S.shape[0]) < j, S[:, j], 0)
        return Y.at[:, j].set(_substitute(own, C[:, j] - others @ left)), None

    Y, _ = jax.lax.scan(column, jnp.zeros_like(C), jnp.arange(S.shape[0]))
    return Y
