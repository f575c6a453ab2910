"""`JordanBlock`: the model of a defective matrix, and all its functions in closed form."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.eager_checks import decided
from lax_linalg.core.operator import LinearOperator, operator, whole_number
from lax_linalg.dense.branch import principal
from lax_linalg.errors import DimensionMismatch, SingularError
from lax_linalg.operators.band import Band
from lax_linalg.operators.bidiagonal import Bidiagonal
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.toeplitz import Toeplitz
from lax_linalg.operators.triangular_toeplitz import TriangularToeplitz
from lax_linalg.operators.tridiagonal import Tridiagonal
from lax_linalg.operators.tridiagonal_toeplitz import TridiagonalToeplitz
from lax_linalg.operators.uniform_scaling import UniformScaling, shift
from lax_linalg.verbs.arithmetic import add, multiply, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, sum_logabsdet
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals
from lax_linalg.verbs.functions import exp, log, power, sqrt, whole_exponent
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, inv, require_nonzero, solve
from lax_linalg.verbs.svd import svdvals


@operator(data=("value",), meta=("n",))
class JordanBlock(Band):
    """The matrix J = λI + N [n, n] with λ on the diagonal and ones above it: one eigenvector for n equal eigenvalues.

    A function f has f(J)[i, i+j] = f⁽ʲ⁾(λ)/j!, so powers are C(k, j) λ^{k−j}: polynomial times exponential.

    Args:
        value: λ.
        n: the size.

    Raises:
        DimensionMismatch: unless `value` is a number and n a size.

    Cost: O(1) memory, O(n) per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.JordanBlock(2.0, 3) ** 3))
        [[ 8. 12.  6.]
         [ 0.  8. 12.]
         [ 0.  0.  8.]]

    Source: Higham, Functions of Matrices (2008), definition 1.2.
    """

    value: jax.Array
    n: int

    def _validate(self) -> None:
        if jnp.ndim(self.value) != 0:
            raise DimensionMismatch(f"JordanBlock takes one number λ, got shape {list(jnp.shape(self.value))}")
        object.__setattr__(self, "n", whole_number("JordanBlock: the size n", self.n))

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.n

    @property
    def bidiagonal(self) -> Bidiagonal:
        """The same matrix as a `Bidiagonal`."""
        return Bidiagonal(diag(self), jnp.ones((max(self.n - 1, 0),), self.dtype))

    @property
    def tridiagonal(self) -> Tridiagonal:
        """The same matrix as a `Tridiagonal`."""
        return self.bidiagonal.tridiagonal

    @property
    def series(self) -> TriangularToeplitz:
        """The same matrix as an upper `TriangularToeplitz`."""
        coefficients = jnp.zeros((self.n,), self.dtype).at[1:2].set(1).at[:1].set(self.value)
        return TriangularToeplitz(coefficients, upper=True)

    @property
    def toeplitz(self) -> Toeplitz:
        """The same matrix as a `Toeplitz`."""
        return self.series.toeplitz

    def _matmat(self, X: jax.Array) -> jax.Array:
        return (self.value.astype(X.dtype) * X).at[:-1].add(X[1:])


def _computed(A: JordanBlock) -> jax.Array:
    return A.value.astype(compute_dtype(A.dtype))


def _complex(A: JordanBlock) -> jax.Array:
    return A.value.astype(jnp.result_type(compute_dtype(A.dtype), jnp.complex64))


@diag.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock) -> jax.Array:
    """λ repeated."""
    return jnp.broadcast_to(A.value, (A.n,))


@transpose.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock) -> Bidiagonal:
    """The ones below the diagonal."""
    return A.bidiagonal.T  # type: ignore[return-value]


conversion(JordanBlock, Bidiagonal)(lambda A, like: A.bidiagonal)
conversion(JordanBlock, TriangularToeplitz)(lambda A, like: A.series)


@conversion(JordanBlock, TridiagonalToeplitz)
def _(A: JordanBlock, like: LinearOperator | None) -> TridiagonalToeplitz:
    return TridiagonalToeplitz(jnp.zeros_like(A.value), A.value, jnp.ones_like(A.value), A.n)


@add.rule(JordanBlock, UniformScaling, cost="O(1)", precedence=1)
def _(A: JordanBlock, B: UniformScaling) -> JordanBlock:
    """Shifted eigenvalue."""
    return JordanBlock(A.value + shift(A, B).value, A.n)


@multiply.rule(JordanBlock, JordanBlock, cost="O(n)")
def _(A: JordanBlock, B: JordanBlock) -> LinearOperator:
    """Product of two linear polynomials in the shift: an upper triangular Toeplitz matrix with three diagonals."""
    return multiply(A.series, B.series)


@eigvals.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock) -> jax.Array:
    """λ repeated."""
    return jnp.broadcast_to(_complex(A), (A.n,))


@eigen.rule(JordanBlock, cost="O(n²), the size of the vectors")
def _(A: JordanBlock) -> Eigen:
    """λ repeated; every column is the only eigenvector e₀, so that the vectors have rank 1."""
    values = eigvals(A)
    return Eigen(values, jnp.zeros((A.n, A.n), values.dtype).at[:1].set(1))


@schur.rule(JordanBlock, cost="O(n²), the size of the factors")
def _(A: JordanBlock) -> Schur:
    """Triangular already."""
    values = eigvals(A)
    return Schur(materialize(A).astype(values.dtype), jnp.eye(A.n, dtype=values.dtype), values)


@svdvals.rule(JordanBlock, cost="O(n²) per bit; O(n³) for the derivative")
def _(A: JordanBlock) -> jax.Array:
    """Bisection with Sturm counts, each value to full relative accuracy."""
    return svdvals(A.bidiagonal)


@det.rule(JordanBlock, cost="O(1)")
def _(A: JordanBlock) -> jax.Array:
    """λⁿ."""
    return jax.lax.integer_pow(_computed(A), A.n)


@logabsdet.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock) -> LogAbsDet:
    """n log |λ|."""
    return sum_logabsdet(jnp.broadcast_to(_computed(A), (A.n,)))


@solve.rule(JordanBlock, cost="O(n) per column")
@by_columns
def _(A: JordanBlock, b: jax.Array) -> jax.Array:
    """Back substitution."""
    return solve(A.bidiagonal, b)


@inv.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock) -> TriangularToeplitz:
    """(−1)ʲ λ^{−1−j} on the j-th diagonal."""
    if A.n:
        require_nonzero(A.value[None], "inv")
    return _integer_power(A, -1)


def _powers(base: jax.Array, exponents: np.ndarray) -> jax.Array:
    """base ** exponents, elementwise for integers ≥ 0, by repeated squaring: exact signs, no logarithm."""
    result = jnp.ones(exponents.shape, base.dtype)
    for bit in range(int(exponents.max(initial=0)).bit_length()):
        result = jnp.where((exponents >> bit) & 1 == 1, result * base, result)
        base = base * base
    return result


def _integer_power(A: JordanBlock, k: int) -> TriangularToeplitz:
    """Jᵏ, the binomial series C(k, j) λ^{k−j}; neither factor may over- or underflow before their product does."""
    value = _computed(A)
    exact = 1 / float(jnp.finfo(value.dtype).eps)
    factors, roots, exponents = np.zeros(A.n), np.ones(A.n), np.zeros(A.n, int)
    for j in range(A.n):
        binomial = math.comb(k, j) if k >= 0 else (-1) ** j * math.comb(j - k - 1, j)
        if binomial == 0:
            break
        exponents[j] = abs(k - j)
        if abs(binomial) <= exact or exponents[j] == 0:
            factors[j] = binomial
        else:  # not exact anyway: spread over the factors, C λ^p = ± (|C|^{1/p} λ)^p
            factors[j], roots[j] = math.copysign(1, binomial), math.exp(math.log(abs(binomial)) / exponents[j])
    base = value if k >= 0 else 1 / value
    factor, root = (jnp.asarray(x, value.dtype) for x in (factors, roots))
    return TriangularToeplitz(factor * _powers(root * base, exponents), upper=True)


@power.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock, p: complex | jax.Array) -> LinearOperator:
    """Binomial series C(p, j) λ^{p−j} for every p."""
    whole = whole_exponent(p)
    if whole is None:
        return _binomial_series(A, p, "power")
    if whole in (0, 1):
        return power.fallback(A, whole)
    if whole > 0 and not jnp.issubdtype(A.dtype, jnp.inexact):
        return power.fallback(A.series, whole)
    if whole < 0 and A.n:
        require_nonzero(A.value[None], "power")
    return _integer_power(A, whole)


def _binomial_series(A: JordanBlock, p: complex | jax.Array, name: str) -> TriangularToeplitz:
    if A.n > 1 and decided(A.value == 0):
        raise SingularError(f"{name}: a nilpotent Jordan block has no {name}; add a small multiple of I", index=0)
    value = _complex(A)
    j = jnp.arange(1, max(A.n, 1))
    first = principal("sqrt", value) if name == "sqrt" else jnp.exp(p * principal("log", value))
    ratios = (p - j + 1) / (j * value)
    return TriangularToeplitz(jnp.concatenate([first[None], first * jnp.cumprod(ratios)])[: A.n], upper=True)


@sqrt.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock) -> TriangularToeplitz:
    """Binomial series C(½, j) λ^{½−j}."""
    return _binomial_series(A, 0.5, "sqrt")


@exp.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock) -> TriangularToeplitz:
    """e^λ / j! on the j-th diagonal."""
    reciprocals = np.cumprod(1 / np.maximum(np.arange(A.n), 1))
    first = jnp.exp(_computed(A))
    return TriangularToeplitz(first * jnp.asarray(reciprocals, first.dtype), upper=True)


@log.rule(JordanBlock, cost="O(n)")
def _(A: JordanBlock) -> TriangularToeplitz:
    """log λ, then (−1)^{j+1} / (j λʲ) on the j-th diagonal."""
    if A.n:
        require_nonzero(A.value[None], "log")
    value = _complex(A)
    j = np.arange(1, max(A.n, 1))
    rest = -_powers(-1 / value, j) / j
    return TriangularToeplitz(jnp.concatenate([principal("log", value)[None], rest])[: A.n], upper=True)
