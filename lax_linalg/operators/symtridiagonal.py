"""`SymTridiagonal`: what Lanczos reduces every symmetric matrix to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import Verb
from lax_linalg.core.eager_checks import decided
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import times_unit, unit_of
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.operators.assemble import sorted_descending
from lax_linalg.operators.band import Band
from lax_linalg.operators.bidiagonal import Bidiagonal
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.hermitian import Symmetric
from lax_linalg.operators.tridiagonal import Tridiagonal, binary_scale, require_band
from lax_linalg.verbs.arithmetic import transpose
from lax_linalg.verbs.basic import compute_dtype, dense, materialize
from lax_linalg.verbs.cholesky import Cholesky, cholesky
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals
from lax_linalg.verbs.functions import exp, log, power, sqrt, whole_exponent
from lax_linalg.verbs.predicates import ishermitian, isnormal, issymmetric
from lax_linalg.verbs.schur import schur
from lax_linalg.verbs.svd import svd, svdvals


@operator(data=("diagonal", "off"), linear=float)
class SymTridiagonal(Band):
    """The real symmetric matrix [n, n] with a on the diagonal and b on both sides of it, A[i, i+1] = A[i+1, i] = b_i.

    Args:
        diagonal: a, [n].
        off: b, [n − 1].

    Raises:
        DimensionMismatch: unless both vectors have these lengths.
        LinearAlgebraError: for complex numbers; `Tridiagonal` takes them.

    Cost: O(n) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> print(la.eigvals(la.SymTridiagonal([2.0, 2.0], [1.0])).round(4))
        [1. 3.]
    """

    diagonal: jax.Array
    off: jax.Array

    def _validate(self) -> None:
        require_band("SymTridiagonal", self.diagonal, off=self.off)
        if jnp.issubdtype(self.dtype, jnp.complexfloating):
            raise LinearAlgebraError(f"SymTridiagonal is real, got {self.dtype.name}; use Tridiagonal")

    @property
    def tridiagonal(self) -> Tridiagonal:
        """The same matrix as a `Tridiagonal`."""
        return Tridiagonal(self.off, self.diagonal, self.off)

    def _matmat(self, X: jax.Array) -> jax.Array:
        return self.tridiagonal._matmat(X)


@transpose.rule(SymTridiagonal, cost="O(1)")
def _(A: SymTridiagonal) -> SymTridiagonal:
    """The matrix itself."""
    return A


@conversion(Diagonal, SymTridiagonal)
def _(A: Diagonal, like: LinearOperator | None) -> SymTridiagonal | None:
    real = not jnp.issubdtype(A.dtype, jnp.complexfloating)
    return SymTridiagonal(A.diagonal, jnp.zeros_like(A.diagonal[1:])) if real else None


conversion(SymTridiagonal, Tridiagonal)(lambda A, like: A.tridiagonal)


@eigvals.rule(SymTridiagonal, cost="O(n²) per bit; O(n³) for the derivative")
def _(A: SymTridiagonal) -> jax.Array:
    """Bisection with Sturm counts; real, because A is symmetric by type."""
    dtype = compute_dtype(A.dtype)
    return _eigenvalues(A.diagonal.astype(dtype), A.off.astype(dtype)) if A.shape[0] else A.diagonal.astype(dtype)


@jax.custom_jvp
def _eigenvalues(a: jax.Array, b: jax.Array) -> jax.Array:
    unit, _ = binary_scale(jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(b), initial=0)))
    return unit * jax.scipy.linalg.eigh_tridiagonal(a / unit, b / unit, eigvals_only=True)


@_eigenvalues.defjvp
def _eigenvalues_jvp(primals, tangents):
    # dλ_k = v_kᵀ dA v_k; only the derivative needs the vectors
    (a, b), (da, db) = primals, tangents
    _, V = platform.eigh(materialize(SymTridiagonal(a, b)))
    return _eigenvalues(a, b), da @ V**2 + 2 * db @ (V[:-1] * V[1:])


@eigen.rule(SymTridiagonal, cost="O(n³)")
def _(A: SymTridiagonal) -> Eigen:
    """LAPACK's symmetric eigenvalue algorithm on the materialised matrix; real."""
    return Eigen(*platform.eigh(dense(A)))


def _as_symmetric(verb: Verb) -> Callable[..., Any]:
    def rule(A: SymTridiagonal, **options: Any) -> Any:
        """That of the symmetric matrix, materialised: by its real eigenvalues and orthonormal vectors."""
        return verb(Symmetric(materialize(A)), **options)

    return rule


for _verb in (svd, schur, exp, log, sqrt):
    _verb.rule(SymTridiagonal, cost="O(n³)")(_as_symmetric(_verb))


@power.rule(SymTridiagonal, cost="O(n³)")
def _(A: SymTridiagonal, p: complex | jax.Array) -> LinearOperator:
    """Products for integers; else that of the symmetric matrix."""
    return power.fallback(A, p) if whole_exponent(p) is not None else power(Symmetric(materialize(A)), p)


@svdvals.rule(SymTridiagonal, cost="cost of eigvals")
def _(A: SymTridiagonal) -> jax.Array:
    """Moduli of the eigenvalues, sorted."""
    return sorted_descending(jnp.abs(eigvals(A)))


@jax.jit
def _bidiagonal_factor(diagonal: jax.Array, off: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The diagonal [n] of the Cholesky factor and what is below it [n], its last entry without meaning."""

    def step(below: jax.Array, entries: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        a, b = entries
        pivot = jnp.sqrt(a - below**2)
        return b / pivot, (pivot, b / pivot)

    return jax.lax.scan(step, jnp.zeros((), diagonal.dtype), (diagonal, jnp.pad(off, (0, 1))))[1]


@cholesky.rule(SymTridiagonal, cost="O(n), and the size of the factors")
def _(A: SymTridiagonal) -> Cholesky:
    """Two-term recurrence for the bidiagonal factor."""
    dtype = compute_dtype(A.dtype)
    if A.shape[0] == 0:
        return cholesky.lookup(LinearOperator).function(A)

    unit = unit_of(A.diagonal.astype(dtype))
    factors = _bidiagonal_factor(A.diagonal.astype(dtype) / unit, A.off.astype(dtype) / unit)
    pivots, below = (times_unit(x, unit, 0.5) for x in factors)
    # not positive, whether negative or zero, leaves NaN or zero
    if decided((pivots > 0).all()) is False:
        return cholesky.lookup(LinearOperator).function(A)  # names the minor that is not positive
    L = materialize(Bidiagonal(pivots, below[:-1], upper=False))
    return Cholesky(L, L.T)


def _always(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Always, by type."""
    return jnp.asarray(True)


for _predicate in (issymmetric, ishermitian, isnormal):
    _predicate.rule(SymTridiagonal, cost="O(1)")(_always)
