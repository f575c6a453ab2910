"""Questions about a matrix, answered up to rounding: relative tolerance of order n ε unless the caller gives one."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense.scaling import over_unit, unit_of
from lax_linalg.verbs.basic import compute_dtype, dense


def tolerance(A: LinearOperator, a: jax.Array, rtol: float | None) -> float:
    """The relative tolerance of the predicates: rtol, or 10 max(m, n) ε of what is computed in.

    In half precision it is at least 4 ε of that, which rounding the entries alone can cost.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> tolerance(la.I(1), jnp.ones((1, 1)), 0.5)
        0.5
    """
    if rtol is not None:
        return rtol
    given = A.dtype if jnp.issubdtype(A.dtype, jnp.inexact) else a.dtype
    computed = 10 * max(A.shape) * float(jnp.finfo(compute_dtype(given)).eps)
    return max(computed, 4 * float(jnp.finfo(given).eps))


def _entries(A: LinearOperator) -> jax.Array:
    """The matrix over its unit, of which squares and sums of squares stay in range."""
    a = dense(A)
    return over_unit(a, unit_of(a))


def _small(difference: jax.Array, tol: float, scale: jax.Array | float) -> jax.Array:
    return jnp.linalg.norm(difference) <= tol * scale


@verb(algorithm="Compares the materialised matrix with its transpose.", cost="O(n²)", promote=False, sizeless=True)
def issymmetric(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether A = Aᵀ, that is ‖A − Aᵀ‖_F ≤ rtol ‖A‖_F.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance, 10 n ε unless given; 0 asks for equality to the bit.

    Returns:
        A boolean scalar; False for rectangular A.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.issymmetric([[1.0, 2.0], [2.0, 1.0]]))
        True
    """
    if A.shape[0] != A.shape[1]:
        return jnp.asarray(False)
    a = _entries(A)
    return _small(a - a.T, tolerance(A, a, rtol), jnp.linalg.norm(a))


@verb(algorithm="Compares the materialised matrix with its adjoint.", cost="O(n²)", promote=False, sizeless=True)
def ishermitian(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether A = Aᴴ, that is ‖A − Aᴴ‖_F ≤ rtol ‖A‖_F.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance, 10 n ε unless given.

    Returns:
        A boolean scalar; False for rectangular A.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.ishermitian([[1.0, 1j], [-1j, 1.0]]))
        True
    """
    if A.shape[0] != A.shape[1]:
        return jnp.asarray(False)
    a = _entries(A)
    return _small(a - a.conj().T, tolerance(A, a, rtol), jnp.linalg.norm(a))


@verb(algorithm="Hermitian, and the Cholesky factorisation exists.", cost="O(n³)", promote=False, sizeless=True)
def isposdef(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether A is Hermitian (up to rtol) and positive definite: its Cholesky factorisation succeeds.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance of the Hermitian test, 10 n ε unless given.

    Returns:
        A boolean scalar; True for the empty matrix.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.isposdef([[2.0, 1.0], [1.0, 2.0]])), bool(la.isposdef([[1.0, 2.0], [2.0, 1.0]]))
        (True, False)
    """
    hermitian = ishermitian(A, rtol=rtol)
    if A.shape[0] != A.shape[1] or A.shape[0] == 0:
        return hermitian
    return hermitian & jnp.isfinite(jnp.linalg.cholesky(_entries(A))).all()


@verb(
    algorithm="Gram matrix of the shorter side of the materialised matrix.",
    cost="O(mn min(m, n))",
    promote=False,
    sizeless=True,
)
def isunitary(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether AᴴA = I (m ≥ n) or A Aᴴ = I (m < n), that is ‖G − I‖_F ≤ rtol √k for the Gram matrix G of order k.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance, 10 max(m, n) ε unless given.

    Returns:
        A boolean scalar.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.isunitary([[0.0, 1j], [1.0, 0.0]]))
        True
    """
    a = dense(A)
    m, n = a.shape
    gram = a.conj().T @ a if m >= n else a @ a.conj().T
    k = gram.shape[0]
    return _small(gram - jnp.eye(k, dtype=a.dtype), tolerance(A, a, rtol), float(k) ** 0.5)


@verb(algorithm="Real and unitary.", cost="cost of isunitary", promote=False, sizeless=True)
def isorthogonal(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether A is real with orthonormal columns (or rows, if they are fewer): `isunitary` without imaginary parts.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance, 10 max(m, n) ε unless given.

    Returns:
        A boolean scalar.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.isorthogonal([[0.0, 1.0], [1.0, 0.0]]))
        True
    """
    unitary = isunitary(A, rtol=rtol)
    if not jnp.issubdtype(A.dtype, jnp.complexfloating):
        return unitary
    a = _entries(A)
    return unitary & _small(a.imag, tolerance(A, a, rtol), jnp.linalg.norm(a))


@verb(algorithm="Commutator of the materialised matrix with its adjoint.", cost="O(n³)", promote=False, sizeless=True)
def isnormal(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether A Aᴴ = AᴴA, that is ‖A Aᴴ − AᴴA‖_F ≤ rtol ‖A‖_F²: A has an orthonormal eigenbasis.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance, 10 n ε unless given.

    Returns:
        A boolean scalar; False for rectangular A.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.isnormal([[0.0, 1.0], [-1.0, 0.0]])), bool(la.isnormal([[1.0, 1.0], [0.0, 1.0]]))
        (True, False)
    """
    if A.shape[0] != A.shape[1]:
        return jnp.asarray(False)
    a = _entries(A)
    h = a.conj().T
    return _small(a @ h - h @ a, tolerance(A, a, rtol), jnp.linalg.norm(a) ** 2)


@verb(algorithm="Weighs the materialised entries off the diagonal.", cost="O(mn)", promote=False, sizeless=True)
def isdiag(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether A is diagonal, that is the entries off the diagonal have a Frobenius norm ≤ rtol ‖A‖_F.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance, 10 max(m, n) ε unless given; 0 asks for exact zeros.

    Returns:
        A boolean scalar.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.isdiag([[1.0, 0.0], [0.0, 2.0]]))
        True
    """
    a = _entries(A)
    off = jnp.triu(a, 1) + jnp.tril(a, -1)
    return _small(off, tolerance(A, a, rtol), jnp.linalg.norm(a))


@verb(algorithm="Weighs the materialised entries below the diagonal.", cost="O(mn)", promote=False, sizeless=True)
def istriu(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether A is upper triangular, that is the entries below the diagonal have a Frobenius norm ≤ rtol ‖A‖_F.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance, 10 max(m, n) ε unless given; 0 asks for exact zeros.

    Returns:
        A boolean scalar.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.istriu([[1.0, 5.0], [0.0, 2.0]]))
        True
    """
    a = _entries(A)
    return _small(jnp.tril(a, -1), tolerance(A, a, rtol), jnp.linalg.norm(a))


@verb(algorithm="Weighs the materialised entries above the diagonal.", cost="O(mn)", promote=False, sizeless=True)
def istril(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Whether A is lower triangular, that is the entries above the diagonal have a Frobenius norm ≤ rtol ‖A‖_F.

    Args:
        A: operator or array [m, n].
        rtol: relative tolerance, 10 max(m, n) ε unless given; 0 asks for exact zeros.

    Returns:
        A boolean scalar.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.istril([[1.0, 0.0], [5.0, 2.0]]))
        True
    """
    a = _entries(A)
    return _small(jnp.triu(a, 1), tolerance(A, a, rtol), jnp.linalg.norm(a))
