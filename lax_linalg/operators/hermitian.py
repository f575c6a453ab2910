"""`Hermitian` and `Symmetric`: a triangle of an array and the promise of symmetry, which makes spectra real."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.dense import Dense
from lax_linalg.core.eager_checks import above_rounding, decided, known_not_finite, require_differentiable
from lax_linalg.core.operator import LinearOperator, MatrixLike, operator
from lax_linalg.dense import platform
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NotPositiveDefiniteError, UnknownNameError
from lax_linalg.operators.assemble import sorted_descending
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.triangular import LowerTriangular, UpperTriangular
from lax_linalg.verbs.arithmetic import add, adjoint, inner, multiply, same_shape, transpose
from lax_linalg.verbs.basic import dense, diag, materialize
from lax_linalg.verbs.cholesky import cholesky
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals
from lax_linalg.verbs.functions import exp, implicit_root, log, matrix_exponential, power, sqrt, whole_exponent
from lax_linalg.verbs.predicates import ishermitian, isnormal, issymmetric
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import inv, pinv, require_nonzero, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


@operator(data=("array",), meta=("uplo",), linear=float)
class Hermitian(LinearOperator):
    """The Hermitian matrix with the given upper (or lower) triangle; the other one is not looked at.

    Args:
        array: [n, n].
        uplo: "U" or "L", the triangle that counts; of its diagonal the real part.

    Raises:
        DimensionMismatch: unless `array` is square.
        UnknownNameError: for another `uplo`.

    Spectra are real: `eigvals` ascending, `svdvals` their moduli, `sqrt` and `log` real for a real matrix.

    Example:
        >>> import lax_linalg as la
        >>> A = la.Hermitian([[2.0, 1j], [0.0, 2.0]])
        >>> A
        2×2 Hermitian{complex64} U
        >>> print(la.eigvals(A).round(4))
        [1. 3.]
    """

    array: jax.Array
    uplo: str = "U"

    def _validate(self) -> None:
        shape = jnp.shape(self.array)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise DimensionMismatch(f"{type(self).__name__} takes a square array, got shape {list(shape)}")
        if self.uplo not in ("U", "L"):
            raise UnknownNameError.of("triangle", str(self.uplo), ("U", "L"))

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[-2:]  # type: ignore[return-value]

    def _matmat(self, X: jax.Array) -> jax.Array:
        return materialize(self).astype(X.dtype) @ X

    def _numbers(self) -> list[jax.Array]:
        array = jnp.asarray(self.array)
        diagonal = jnp.diagonal(array, axis1=-2, axis2=-1).real
        return [jnp.triu(array, 1) if self.uplo == "U" else jnp.tril(array, -1), diagonal]

    def _describe(self) -> str:
        return self.uplo


@operator(data=("array",), meta=("uplo",), linear=float)
class Symmetric(Hermitian):
    """The real symmetric matrix with the given upper (or lower) triangle; the other one is not looked at.

    Args:
        array: real, [n, n].
        uplo: "U" or "L", the triangle that counts.

    Raises:
        LinearAlgebraError: for a complex array; `Hermitian` is for those.
        DimensionMismatch, UnknownNameError: as `Hermitian`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.svdvals(la.Symmetric([[0.0, 2.0], [9.0, 3.0]])).round(4))
        [4. 1.]
    """

    array: jax.Array
    uplo: str = "U"

    def _validate(self) -> None:
        super()._validate()
        if jnp.iscomplexobj(self.array):
            raise LinearAlgebraError("Symmetric is for real arrays; use la.Hermitian or la.Dense for a complex one")


def _like(A: Hermitian, *others: LinearOperator) -> type[Hermitian]:
    """The type of a combination: Symmetric if all are real by type."""
    real = isinstance(A, Symmetric) and not any(jnp.issubdtype(B.dtype, jnp.complexfloating) for B in others)
    return Symmetric if real else Hermitian


# --- algebra ---


@materialize.rule(Hermitian, cost="O(n²)")
def _(A: Hermitian) -> jax.Array:
    """The triangle and its mirror image."""
    return _mirrored(A.array, A.uplo)


@functools.partial(jax.jit, static_argnames="uplo")
def _mirrored(a: jax.Array, uplo: str) -> jax.Array:
    strict = jnp.triu(a, 1) if uplo == "U" else jnp.tril(a, -1)
    return strict + strict.conj().T + jnp.diag(jnp.diagonal(a).real).astype(a.dtype)


@diag.rule(Hermitian, cost="O(n)")
def _(A: Hermitian) -> jax.Array:
    """Real part of the stored diagonal."""
    return jnp.diagonal(A.array).real.astype(A.array.dtype)


@transpose.rule(Hermitian, cost="O(n²)")
def _(A: Hermitian) -> Hermitian:
    """Conjugate entries."""
    return type(A)(A.array.conj(), A.uplo)


@adjoint.rule(Hermitian, cost="O(1)")
def _(A: Hermitian) -> Hermitian:
    """The matrix itself."""
    return A


@add.rule(Hermitian, Hermitian, cost="O(n²)")
def _(A: Hermitian, B: Hermitian) -> Hermitian:
    """Sum of the arrays."""
    same_shape(A, B)
    structure = _like(A, B) if isinstance(B, Symmetric) else Hermitian
    if A.uplo == B.uplo:
        return structure(A.array + B.array, A.uplo)
    return structure(materialize(A) + materialize(B))


def _on_the_diagonal(A: Diagonal, like: Hermitian | None) -> Hermitian | None:
    if like is None or jnp.issubdtype(A.dtype, jnp.complexfloating):
        return None
    return type(like)(materialize(A), like.uplo)


for _structure in (Hermitian, Symmetric):
    conversion(Diagonal, _structure, products=False)(_on_the_diagonal)


@conversion(Hermitian, Dense, products=False)
@conversion(Symmetric, Dense, products=False)
def _(A: Hermitian, like: LinearOperator | None) -> Dense:
    return Dense(materialize(A))


def _dense_product(A: LinearOperator, B: LinearOperator) -> Dense:
    """Product of the materialised matrices."""
    inner(A, B)
    return Dense(materialize(A) @ materialize(B))


for _left, _right in ((Hermitian, Hermitian), (Hermitian, Dense), (Dense, Hermitian)):
    multiply.rule(_left, _right, cost="O(n³)")(_dense_product)


# --- spectra ---


@eigvals.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian, B: MatrixLike | None = None) -> jax.Array:
    """LAPACK's symmetric eigensolver: real, ascending."""
    if B is None:
        return platform.eigvalsh(dense(A))
    if isinstance(B, Hermitian):
        return platform.eigvalsh(_definite_pencil(A, B)[0])
    return eigvals.fallback(A, B)


@eigen.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian, B: MatrixLike | None = None) -> Eigen:
    """LAPACK's symmetric eigensolver: real ascending values, orthonormal vectors."""
    if B is None:
        return Eigen(*platform.eigh(dense(A)))
    if isinstance(B, Hermitian):
        C, U = _definite_pencil(A, B)
        values, vectors = platform.eigh(C)
        return Eigen(values, solve(U, vectors))
    return eigen.fallback(A, B)


def _definite_pencil(A: Hermitian, B: Hermitian) -> tuple[jax.Array, UpperTriangular]:
    """L⁻¹ A L⁻ᴴ and Lᴴ for B = L Lᴴ."""
    factors = cholesky(B)
    L, U = LowerTriangular(factors.L), UpperTriangular(factors.U)
    C = solve(L, solve(L, dense(A)).conj().T)
    return (C + C.conj().T) / 2, U


@svdvals.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian) -> jax.Array:
    """Moduli of the eigenvalues, sorted."""
    return sorted_descending(jnp.abs(eigvals(A)))


@svd.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian, *, full: bool = False) -> SVD:
    """Eigenvectors by decreasing modulus, with the signs of the eigenvalues on the left."""
    w, V = platform.eigh(dense(A))
    order = jnp.argsort(-jnp.abs(w))
    w, V = w[order], V[:, order]
    return SVD(V * jnp.where(w < 0, -1, 1).astype(w.dtype), jnp.abs(w), V.conj().T)


@schur.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian) -> Schur:
    """Eigenvalues and orthonormal eigenvectors."""
    w, V = (x.astype(jnp.result_type(x.dtype, jnp.complex64)) for x in platform.eigh(dense(A)))
    return Schur(jnp.diag(w), V, w)


# --- inverses and functions: Hermitian again ---


def _hermitian_part(A: Hermitian, X: jax.Array) -> Hermitian:
    """(X + Xᴴ)/2 of an X that is Hermitian but for rounding, because one triangle alone loses κ times more digits."""
    return type(A)(X / 2 + X.conj().T / 2 if jnp.issubdtype(X.dtype, jnp.inexact) else X)


@inv.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian) -> Hermitian:
    """LU with partial pivoting; the result is Hermitian."""
    return _hermitian_part(A, materialize(inv.fallback(A)))


@pinv.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian, *, rtol: float | None = None, atol: jax.Array | float = 0) -> Hermitian:
    """SVD, small singular values dropped; the result is Hermitian."""
    return _hermitian_part(A, materialize(pinv.fallback(A, rtol=rtol, atol=atol)))


@exp.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian) -> Hermitian:
    """Scaling and squaring; the result is Hermitian."""
    a = dense(A)
    return _hermitian_part(A, matrix_exponential(a) if a.size else a)


@sqrt.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian) -> Hermitian:
    """Square roots of the eigenvalues; NotPositiveDefiniteError (NaN under jit) where one is negative."""
    return _principal("sqrt", A)


@log.rule(Hermitian, cost="O(n³)")
def _(A: Hermitian) -> Hermitian:
    """Logarithms of the eigenvalues; NotPositiveDefiniteError (NaN under jit) where one is negative."""
    return _principal("log", A)


def _sqrt_differences(w: jax.Array) -> jax.Array:
    r = jnp.sqrt(w)
    return 1 / (r[:, None] + r[None, :])


def _log_differences(w: jax.Array) -> jax.Array:
    # (log x − log y)/(x − y) = 2 atanh(z)/(z (x + y)) with z = (x − y)/(x + y), without cancellation
    total = w[:, None] + w[None, :]
    z = (w[:, None] - w[None, :]) / total
    return 2 * jnp.where(z == 0, 1, jnp.arctanh(z) / jnp.where(z == 0, 1, z)) / total


_ROOTS = {
    # name -> (of eigenvalues, its inverse on matrices, its divided differences)
    "sqrt": (jnp.sqrt, lambda X: X @ X, _sqrt_differences),
    "log": (jnp.log, matrix_exponential, _log_differences),
}


def _nonnegative_spectrum(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and vectors; NaN for eigenvalues that are negative by more than rounding."""
    w, V = platform.eigh(a)
    rounding = 10 * w.shape[0] * jnp.finfo(w.dtype).eps * jnp.max(jnp.abs(w))
    return jnp.where(w < -rounding, jnp.nan, jnp.maximum(w, 0)), V


@functools.partial(jax.jit, static_argnums=0)
def _root(name: str, a: jax.Array) -> jax.Array:
    of_eigenvalues, inverse, divided_differences = _ROOTS[name]

    def compute() -> jax.Array:
        w, V = _nonnegative_spectrum(a)
        return (V * of_eigenvalues(w)) @ V.conj().T

    def derivative(E: jax.Array) -> jax.Array:
        # Daleckii & Krein: L(A, E) = V (F ∘ VᴴEV) Vᴴ (Higham 2008, theorem 3.11)
        w, V = _nonnegative_spectrum(a)
        return V @ (divided_differences(w) * (V.conj().T @ E @ V)) @ V.conj().T

    def transposed(E: jax.Array) -> jax.Array:
        return derivative(E.conj()).conj()  # Aᵀ is the conjugate of A

    return implicit_root(a, inverse, compute, derivative, transposed)


def _principal(name: str, A: Hermitian) -> Hermitian:
    a = dense(A)
    if a.size == 0:
        return type(A)(a)
    X = _root(name, a)
    if known_not_finite(X):
        w, _ = platform.eigh(a)
        require_nonzero(jnp.where(_nonnegative_spectrum(a)[0] == 0, 0, 1), name)
        raise NotPositiveDefiniteError(
            f"{name} of a matrix that is Hermitian by type needs eigenvalues ≥ 0, the smallest is {float(w[0]):.3g}; "
            f"la.{name}(la.Dense(...)) gives the complex result",
            index=0,
        )
    if isinstance(X, Tracer) and name == "sqrt":
        w = jax.lax.stop_gradient(_nonnegative_spectrum(a)[0])
        require_differentiable(X, above_rounding(w, a.shape[0]), "sqrt has no derivative at a singular matrix")
    return _hermitian_part(A, X)


@power.rule(Hermitian, cost="O(n³ log p)")
def _(A: Hermitian, p: complex | jax.Array) -> LinearOperator:
    """Products for integers; else sqrt, log, exp, complex for negative eigenvalues (NaN for real A under jit)."""
    whole = whole_exponent(p)
    if whole is None:
        definite = A.shape[0] == 0 or decided(jnp.isfinite(_nonnegative_spectrum(dense(A))[0]).all())
        # where signs are hidden, a complex dtype holds the power of any signs, which is Hermitian for some only
        general = jnp.issubdtype(A.dtype, jnp.complexfloating) if definite is None else not definite
        return power.fallback(Dense(dense(A)) if general else A, p)
    if whole in (0, 1):
        return power.fallback(A, whole)
    if whole < 0:
        return power(inv(A), -whole)
    return _hermitian_part(A, materialize(power.fallback(Dense(materialize(A)), whole)))


# --- predicates ---


@ishermitian.rule(Hermitian, cost="O(1)")
def _(A: Hermitian, *, rtol: float | None = None) -> jax.Array:
    """True by type."""
    return jnp.asarray(True)


@issymmetric.rule(Symmetric, cost="O(1)")
def _(A: Symmetric, *, rtol: float | None = None) -> jax.Array:
    """True by type."""
    return jnp.asarray(True)


@isnormal.rule(Hermitian, cost="O(1)")
def _(A: Hermitian, *, rtol: float | None = None) -> jax.Array:
    """True by type."""
    return jnp.asarray(True)
