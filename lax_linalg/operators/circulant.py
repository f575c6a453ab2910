"""`Circulant`: the matrix of a periodic convolution, diagonal in the Fourier basis."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense.branch import off_the_cut, principal
from lax_linalg.dense.scaling import moduli, phases
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.assemble import sorted_descending
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.fourier import circular_convolution, toeplitz_entries, use_direct
from lax_linalg.operators.toeplitz import Toeplitz
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import inner, multiply, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense
from lax_linalg.verbs.cholesky import Cholesky, cholesky
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product, sum_logabsdet
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigenvalues
from lax_linalg.verbs.functions import exp, log, power, sqrt, whole_exponent
from lax_linalg.verbs.norms import norm, opnorm, require_p, scaled_norm
from lax_linalg.verbs.polar import Polar, polar
from lax_linalg.verbs.predicates import ishermitian, isnormal, isposdef, isunitary, tolerance
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, default_rtol, inv, lstsq, pinv, reciprocals, require_nonzero, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


@operator(data=("column",), linear=complex)
class Circulant(LinearOperator):
    """The matrix [n, n] with entries A[i, j] = c[(i − j) mod n]; A = Fᴴ diag(λ) F with λ the DFT of c.

    Args:
        column: its first column c, [n].

    Raises:
        DimensionMismatch: unless `column` has one axis.

    Cost: O(n) memory; O(n log n) per product with a vector, by FFTs (small or integer matrices are multiplied out).
    Half precision is transformed in float32.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.Circulant([1.0, 2.0, 3.0])))
        [[1. 3. 2.]
         [2. 1. 3.]
         [3. 2. 1.]]

    SciPy: `scipy.linalg.circulant`. Source: Davis, Circulant Matrices (1979).
    """

    column: jax.Array

    def _validate(self) -> None:
        if jnp.ndim(self.column) != 1:
            raise DimensionMismatch(f"Circulant: the column has 1 axis, got shape {list(jnp.shape(self.column))}")

    @property
    def shape(self) -> tuple[int, int]:
        n = self.column.shape[-1]
        return n, n

    @property
    def toeplitz(self) -> Toeplitz:
        """The same matrix as a `Toeplitz`."""
        return Toeplitz(self.column, jnp.roll(self.column[::-1], 1))

    @property
    def eigenvalues(self) -> jax.Array:
        """λ_k = Σ_j c_j e^{−2πi jk/n}, [n] in the DFT's order; exactly conjugate pairs where A is real."""
        n = self.shape[0]
        c = self.column.astype(compute_dtype(self.dtype))
        if n == 0:
            return c.astype(jnp.result_type(c.dtype, jnp.complex64))
        if jnp.iscomplexobj(c):
            return jnp.fft.fft(c)
        half = jnp.fft.rfft(c)
        return jnp.concatenate([half, half[1 : (n + 1) // 2][::-1].conj()])

    def _matmat(self, X: jax.Array) -> jax.Array:
        if 0 in X.shape:
            return X
        if use_direct(self.shape, X.dtype):
            return jnp.matmul(materialize(self).astype(X.dtype), X, precision="highest")
        return circular_convolution(self.column, X, self.shape[0])


def _of(eigenvalues: jax.Array, real: bool) -> Circulant:
    """The circulant matrix with these eigenvalues, in the DFT's order."""
    n = eigenvalues.shape[0]
    if n == 0:
        return Circulant(eigenvalues.real if real else eigenvalues)
    return Circulant(jnp.fft.irfft(eigenvalues[: n // 2 + 1], n) if real else jnp.fft.ifft(eigenvalues))


def _is_real(A: Circulant) -> bool:
    return not jnp.issubdtype(A.dtype, jnp.complexfloating)


def _map(A: Circulant, f: Callable[[jax.Array], jax.Array]) -> Circulant:
    """f(A) for an f with f(conj z) = conj f(z), which keeps real matrices real."""
    return _of(f(A.eigenvalues), _is_real(A))


def _angles(n: int, frequencies: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """2π j k / n for j < n and the given k, reduced before rounding; [n, len(k)]."""
    product = (jnp.arange(n, dtype=jnp.uint32)[:, None] * frequencies.astype(jnp.uint32)[None, :]) % max(n, 1)
    return product.astype(dtype) * (2 * jnp.pi / max(n, 1))


def _fourier_basis(A: Circulant) -> jax.Array:
    """The unit eigenvectors of every circulant matrix of A's size, e^{2πi jk/n}/√n, [n, n]."""
    n = A.shape[0]
    require_dense(A, jnp.result_type(compute_dtype(A.dtype), jnp.complex64))
    angles = _angles(n, jnp.arange(n), jnp.finfo(compute_dtype(A.dtype)).dtype)
    return jax.lax.complex(jnp.cos(angles), jnp.sin(angles)) * max(n, 1) ** -0.5


@materialize.rule(Circulant, cost="O(n²)")
def _(A: Circulant) -> jax.Array:
    """Gathered from the column."""
    require_dense(A)
    n = A.shape[0]
    return toeplitz_entries(jnp.concatenate([A.column[1:], A.column]), n, n)


@diag.rule(Circulant, cost="O(n)")
def _(A: Circulant) -> jax.Array:
    """The first entry repeated."""
    return jnp.broadcast_to(A.column[:1], A.column.shape)


@transpose.rule(Circulant, cost="O(n)")
def _(A: Circulant) -> Circulant:
    """The column run backwards."""
    return Circulant(jnp.roll(A.column[::-1], 1))


@conversion(UniformScaling, Circulant)
def _(A: UniformScaling, like: LinearOperator | None) -> Circulant:
    return Circulant(A.first_column)


conversion(Circulant, Toeplitz)(lambda A, like: A.toeplitz)


@multiply.rule(Circulant, Circulant, cost="O(n log n)")
def _(A: Circulant, B: Circulant) -> Circulant:
    """Circular convolution of the columns: A times B's first column."""
    inner(A, B)
    return Circulant(A @ B.column)


@eigvals.rule(Circulant, cost="O(n log n)")
def _(A: Circulant) -> jax.Array:
    """DFT of the first column, sorted."""
    return sorted_eigenvalues(A.eigenvalues)


@eigen.rule(Circulant, cost="O(n²), the size of the vectors")
def _(A: Circulant) -> Eigen:
    """DFT of the first column with the Fourier basis, which is unitary."""
    w = A.eigenvalues
    order = jnp.lexsort((w.imag, w.real))
    return Eigen(w[order], _fourier_basis(A)[:, order])


@schur.rule(Circulant, cost="O(n²), the size of the factors")
def _(A: Circulant) -> Schur:
    """Diagonal in the Fourier basis, because circulant matrices are normal."""
    w = A.eigenvalues
    return Schur(jnp.diag(w), _fourier_basis(A), w)


@svdvals.rule(Circulant, cost="O(n log n)")
def _(A: Circulant) -> jax.Array:
    """Moduli of the DFT of the first column, sorted."""
    return sorted_descending(moduli(A.eigenvalues))


@svd.rule(Circulant, cost="O(n²), the size of the vectors")
def _(A: Circulant, *, full: bool = False) -> SVD:
    """Fourier basis and the same turned by the phases of the eigenvalues: cosines and sines, real, for real A."""
    modulus, phase = moduli(A.eigenvalues), phases(A.eigenvalues)
    n = A.shape[0]
    if _is_real(A):
        require_dense(A, modulus.dtype)
        frequency = jnp.concatenate([jnp.arange(n // 2 + 1), jnp.arange(1, (n + 1) // 2)])[:n]
        is_sine = jnp.arange(n) > n // 2
        # the constant and (n even) the alternating vector have no partner
        weight = jnp.where((2 * frequency) % max(n, 1) == 0, 1.0, 2.0**0.5).astype(modulus.dtype) * max(n, 1) ** -0.5
        angles = _angles(n, frequency, modulus.dtype)
        cosine, sine = jnp.cos(angles) * weight, jnp.sin(angles) * weight
        # A e^{ia} = |λ| e^{i(a + θ)} with λ = |λ| e^{iθ}, read as real and imaginary parts
        turn = phase[frequency]
        U = jnp.where(is_sine, sine * turn.real + cosine * turn.imag, cosine * turn.real - sine * turn.imag)
        V, modulus = jnp.where(is_sine, sine, cosine), modulus[frequency]
    else:
        V = _fourier_basis(A)
        U = V * phase
    order = jnp.argsort(-modulus)
    return SVD(U[:, order], modulus[order], V[:, order].conj().T)


@polar.rule(Circulant, cost="O(n²), the size of the factors")
def _(A: Circulant) -> Polar:
    """Phases and moduli of the eigenvalues."""
    modulus, phase = moduli(A.eigenvalues), phases(A.eigenvalues)
    factors = (_of(phase, _is_real(A)), _of(modulus.astype(phase.dtype), _is_real(A)))
    return Polar(*map(materialize, factors))


@norm.rule(Circulant, cost="O(n)")
def _(A: Circulant, p: float = 2) -> jax.Array:
    """n^{1/p} times the norm of the column."""
    c = scaled_norm(A.column.astype(compute_dtype(A.dtype)), p)
    return c if p == jnp.inf else c * A.shape[0] ** (1 / p)


@opnorm.rule(Circulant, cost="O(n); O(n log n) for p = 2")
def _(A: Circulant, p: float = 2) -> jax.Array:
    """Sum of the moduli of the column; the largest modulus of its DFT for p = 2."""
    require_p(p)
    if p == 2:
        return jnp.max(moduli(A.eigenvalues), initial=0)
    return scaled_norm(A.column.astype(compute_dtype(A.dtype)), 1)


@det.rule(Circulant, cost="O(n log n)")
def _(A: Circulant) -> jax.Array:
    """Product of the DFT of the first column."""
    w, n = A.eigenvalues, A.shape[0]
    if not _is_real(A):
        return product(w)
    single, paired = _split(w, n)
    return product(jnp.concatenate([single, paired.real**2 + paired.imag**2]))


@logabsdet.rule(Circulant, cost="O(n log n)")
def _(A: Circulant) -> LogAbsDet:
    """Sum of the logarithms of the DFT of the first column."""
    w, n = A.eigenvalues, A.shape[0]
    if not _is_real(A):
        return sum_logabsdet(w)
    single, paired = (sum_logabsdet(x) for x in _split(w, n))
    return LogAbsDet(single.logabs + 2 * paired.logabs, single.sign * jnp.abs(paired.sign).astype(single.sign.dtype))


def _split(w: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """The real eigenvalues of a real circulant matrix and one of each conjugate pair."""
    real = jnp.concatenate([w[:1], w[n // 2 : n // 2 + 1]]) if n % 2 == 0 and n else w[:1]
    return real.real, w[1 : (n + 1) // 2]


@solve.rule(Circulant, cost="O(n log n) per column")
@by_columns
def _(A: Circulant, b: jax.Array) -> jax.Array:
    """Division by the eigenvalues between two FFTs."""
    w = A.eigenvalues
    require_nonzero(w, "solve")
    return _divide(1 / w, b)


@lstsq.rule(Circulant, cost="O(n log n) per column")
@by_columns
def _(A: Circulant, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Division by the eigenvalues that are not small, between two FFTs."""
    w = A.eigenvalues
    return _divide(reciprocals(w, default_rtol(A.shape, w.dtype) if rtol is None else rtol, atol), b)


def _divide(reciprocal: jax.Array, b: jax.Array) -> jax.Array:
    if 0 in b.shape:
        return b
    x = jnp.fft.ifft(reciprocal[:, None] * jnp.fft.fft(b, axis=0), axis=0)
    return (x if jnp.iscomplexobj(b) else x.real).astype(b.dtype)


@inv.rule(Circulant, cost="O(n log n)")
def _(A: Circulant) -> Circulant:
    """Reciprocals of the eigenvalues."""
    require_nonzero(A.eigenvalues, "inv")
    return _map(A, lambda w: 1 / w)


@pinv.rule(Circulant, cost="O(n log n)")
def _(A: Circulant, *, rtol: float | None = None, atol: jax.Array | float = 0) -> Circulant:
    """Reciprocals of the eigenvalues that are not small."""
    return _map(A, lambda w: reciprocals(w, default_rtol(A.shape, w.dtype) if rtol is None else rtol, atol))


@exp.rule(Circulant, cost="O(n log n)")
def _(A: Circulant) -> Circulant:
    """Exponentials of the eigenvalues."""
    return _map(A, jnp.exp)


def _principal(name: str, A: Circulant) -> jax.Array:
    w = A.eigenvalues
    noise = 10 * (1 + math.log2(max(w.shape[0], 1))) * jnp.finfo(w.dtype).eps * jnp.max(jnp.abs(w), initial=0)
    return principal(name, off_the_cut(w, jnp.where(jnp.all(jnp.imag(A.column) == 0), noise, 0)))


@log.rule(Circulant, cost="O(n log n)")
def _(A: Circulant) -> Circulant:
    """Principal logarithms of the eigenvalues."""
    require_nonzero(A.eigenvalues, "log")
    return _of(_principal("log", A), real=False)


@sqrt.rule(Circulant, cost="O(n log n)")
def _(A: Circulant) -> Circulant:
    """Principal square roots of the eigenvalues."""
    return _of(_principal("sqrt", A), real=False)


@power.rule(Circulant, cost="O(n log n)")
def _(A: Circulant, p: complex | jax.Array) -> LinearOperator:
    """Powers of the eigenvalues; products for integers, which FFTs would round."""
    whole = whole_exponent(p)
    if whole in (None, 0, 1) or not jnp.issubdtype(A.dtype, jnp.inexact):
        return power.fallback(A, p)
    if whole < 0:
        require_nonzero(A.eigenvalues, "power")
    return _map(A, lambda w: jax.lax.integer_pow(w, whole))


@isnormal.rule(Circulant, cost="O(1)")
def _(A: Circulant, *, rtol: float | None = None) -> jax.Array:
    """Always: the Fourier basis is orthonormal."""
    return jnp.asarray(True)


@isunitary.rule(Circulant, cost="O(n log n)")
def _(A: Circulant, *, rtol: float | None = None) -> jax.Array:
    """Eigenvalues on the unit circle."""
    modulus = moduli(A.eigenvalues)
    return jnp.linalg.norm(modulus**2 - 1) <= tolerance(A, modulus, rtol) * A.shape[0] ** 0.5


@isposdef.rule(Circulant, cost="O(n log n)")
def _(A: Circulant, *, rtol: float | None = None) -> jax.Array:
    """Hermitian with positive eigenvalues."""
    return ishermitian(A, rtol=rtol) & jnp.all(A.eigenvalues.real > 0)


@cholesky.rule(Circulant, cost="O(n²)")
def _(A: Circulant) -> Cholesky:
    """Schur's algorithm, as for a Toeplitz matrix."""
    return cholesky(A.toeplitz)
