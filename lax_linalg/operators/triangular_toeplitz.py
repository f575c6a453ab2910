"""`TriangularToeplitz`: causal convolution, the algebra of power series cut off after n terms."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.core.eager_checks import known_not_finite
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense.branch import principal
from lax_linalg.errors import DimensionMismatch, SingularError
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.fourier import toeplitz_entries, toeplitz_product
from lax_linalg.operators.toeplitz import Toeplitz
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import inner, multiply, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product, sum_logabsdet
from lax_linalg.verbs.eigen import eigvals
from lax_linalg.verbs.functions import exp, log, sqrt
from lax_linalg.verbs.norms import norm, opnorm
from lax_linalg.verbs.solve import by_columns, inv, require_nonzero, solve


@operator(data=("coefficients",), meta=("upper",), linear=complex)
class TriangularToeplitz(LinearOperator):
    """The matrix Σ_k a_k Nᵏ [n, n], N the shift with ones below the diagonal (above it if `upper`).

    Products of such matrices multiply the power series a(x) = Σ a_k xᵏ modulo xⁿ, so they commute and are closed under
    inversion and under functions. The lower ones are the causal convolutions of sequence models, the upper ones the
    functions of a Jordan block.

    Args:
        coefficients: a_0 … a_{n−1}, the first column (row if `upper`), [n].
        upper: whether the matrix is upper triangular.

    Raises:
        DimensionMismatch: unless `coefficients` has one axis.

    Cost: O(n) memory, O(n log n) per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.TriangularToeplitz([1.0, 2.0, 3.0])))
        [[1. 0. 0.]
         [2. 1. 0.]
         [3. 2. 1.]]
    """

    coefficients: jax.Array
    upper: bool = False

    def _validate(self) -> None:
        if jnp.ndim(self.coefficients) != 1:
            raise DimensionMismatch(
                f"TriangularToeplitz: the coefficients have 1 axis, got shape {list(jnp.shape(self.coefficients))}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        n = self.coefficients.shape[-1]
        return n, n

    @property
    def toeplitz(self) -> Toeplitz:
        """The same matrix as a `Toeplitz`."""
        zeros = jnp.zeros_like(self.coefficients[1:])
        other = jnp.concatenate([self.coefficients[:1], zeros])
        return Toeplitz(other, self.coefficients) if self.upper else Toeplitz(self.coefficients, other)

    def _diagonals(self) -> jax.Array:
        zeros = jnp.zeros_like(self.coefficients[1:])
        return jnp.concatenate([self.coefficients[::-1], zeros] if self.upper else [zeros, self.coefficients])

    def _matmat(self, X: jax.Array) -> jax.Array:
        return toeplitz_product(self._diagonals(), X, self.shape[0])

    def _describe(self) -> str:
        return "upper" if self.upper else "lower"


def _computed(A: TriangularToeplitz) -> jax.Array:
    return A.coefficients.astype(compute_dtype(A.dtype))


@materialize.rule(TriangularToeplitz, cost="O(n²)")
def _(A: TriangularToeplitz) -> jax.Array:
    """Gathered from the coefficients."""
    require_dense(A)
    return toeplitz_entries(A._diagonals(), *A.shape)


@diag.rule(TriangularToeplitz, cost="O(n)")
def _(A: TriangularToeplitz) -> jax.Array:
    """The first coefficient repeated."""
    return jnp.broadcast_to(A.coefficients[:1], A.coefficients.shape)


@transpose.rule(TriangularToeplitz, cost="O(1)")
def _(A: TriangularToeplitz) -> TriangularToeplitz:
    """The same coefficients on the other side."""
    return TriangularToeplitz(A.coefficients, not A.upper)


@conversion(UniformScaling, TriangularToeplitz)
def _(A: UniformScaling, like: TriangularToeplitz | None) -> TriangularToeplitz:
    return TriangularToeplitz(A.first_column, like is not None and like.upper)


conversion(TriangularToeplitz, Toeplitz)(lambda A, like: A.toeplitz)


@multiply.rule(TriangularToeplitz, TriangularToeplitz, cost="O(n log n)")
def _(A: TriangularToeplitz, B: TriangularToeplitz) -> LinearOperator:
    """Product of the power series; lazy if they lie on different sides."""
    inner(A, B)
    if A.upper != B.upper:
        return multiply.lookup(LinearOperator, LinearOperator).function(A, B)
    return TriangularToeplitz(TriangularToeplitz(A.coefficients) @ B.coefficients, A.upper)


@eigvals.rule(TriangularToeplitz, cost="O(n)")
def _(A: TriangularToeplitz) -> jax.Array:
    """The first coefficient, n times."""
    return diag(A).astype(jnp.result_type(compute_dtype(A.dtype), jnp.complex64))


@det.rule(TriangularToeplitz, cost="O(n)")
def _(A: TriangularToeplitz) -> jax.Array:
    """The n-th power of the first coefficient."""
    return product(diag(A).astype(compute_dtype(A.dtype)))


@logabsdet.rule(TriangularToeplitz, cost="O(n)")
def _(A: TriangularToeplitz) -> LogAbsDet:
    """n times the logarithm of the first coefficient."""
    return sum_logabsdet(diag(A).astype(compute_dtype(A.dtype)))


@norm.rule(TriangularToeplitz, cost="O(n)")
def _(A: TriangularToeplitz, p: float = 2) -> jax.Array:
    """Norm of the coefficients, weighted by the lengths of their diagonals."""
    return norm(A.toeplitz, p)


@opnorm.rule(TriangularToeplitz, cost="O(n) for p = 1, inf; cost of svdvals for p = 2")
def _(A: TriangularToeplitz, p: float = 2) -> jax.Array:
    """Sum of the moduli of the coefficients; largest singular value for p = 2."""
    return opnorm(A.toeplitz, p)


@solve.rule(TriangularToeplitz, cost="O(n²) per column")
@by_columns
def _(A: TriangularToeplitz, b: jax.Array) -> jax.Array:
    """Substitution in the materialised matrix."""
    if 0 in b.shape:
        return b
    require_nonzero(A.coefficients[:1], "solve")
    return jax.scipy.linalg.solve_triangular(materialize(A).astype(b.dtype), b, lower=not A.upper)


@inv.rule(TriangularToeplitz, cost="O(n²)")
def _(A: TriangularToeplitz) -> TriangularToeplitz:
    """Reciprocal of the power series, by substitution."""
    a = _computed(A)
    return TriangularToeplitz(solve(TriangularToeplitz(a), jnp.zeros_like(a).at[:1].set(1)), A.upper)


def _recurrence(
    first: jax.Array, a: jax.Array, weights: Callable[..., jax.Array], finish: Callable[..., jax.Array]
) -> jax.Array:
    """The series f with f_0 = first and f_k = finish(k, Σ_{j<k} weights(j, k) f_j a_{k−j})."""
    n = a.shape[0]
    if n == 0:
        return a
    index = jnp.arange(n, dtype=jnp.finfo(a.dtype).dtype)
    # a_k … a_1 and zeros, as a window
    window = jnp.concatenate([a[:0:-1], jnp.zeros((n,), a.dtype)])

    def step(f: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        terms = f * jax.lax.dynamic_slice(window, (n - 1 - k,), (n,))
        number = k.astype(index.dtype)
        return f.at[k].set(finish(number, k, jnp.sum(weights(index, number) * terms))), None

    f, _ = jax.lax.scan(step, jnp.zeros_like(a).at[:1].set(first), jnp.arange(1, n))
    return f


def _complex(A: TriangularToeplitz) -> jax.Array:
    return A.coefficients.astype(jnp.result_type(compute_dtype(A.dtype), jnp.complex64))


@exp.rule(TriangularToeplitz, cost="O(n²)")
def _(A: TriangularToeplitz) -> TriangularToeplitz:
    """Exponential of the power series: f' = a' f."""
    return TriangularToeplitz(_exp_series(_computed(A)), A.upper)


@jax.jit
def _exp_series(a: jax.Array) -> jax.Array:
    return _recurrence(jnp.exp(a[:1]), a, lambda j, k: k - j, lambda k, _, total: total / k)


@log.rule(TriangularToeplitz, cost="O(n²)")
def _(A: TriangularToeplitz) -> TriangularToeplitz:
    """Logarithm of the power series: a f' = a'."""
    require_nonzero(A.coefficients[:1], "log")
    return TriangularToeplitz(_log_series(_complex(A)), A.upper)


@jax.jit
def _log_series(a: jax.Array) -> jax.Array:
    return _recurrence(principal("log", a[:1]), a, lambda j, k: j, lambda k, i, total: (a[i] - total / k) / a[0])


@sqrt.rule(TriangularToeplitz, cost="O(n²)")
def _(A: TriangularToeplitz) -> TriangularToeplitz:
    """Square root of the power series: 2 a f' = a' f."""
    f = _sqrt_series(_complex(A))
    if known_not_finite(f):
        raise SingularError("sqrt: the matrix is nilpotent and has no square root; add a small multiple of I")
    return TriangularToeplitz(f, A.upper)


@jax.jit
def _sqrt_series(a: jax.Array) -> jax.Array:
    corner = jnp.where(a[:1] == 0, 1, a[:1])
    # Miller's recurrence f_k = Σ_{j<k} ((k − j)/2 − j) f_j a_{k−j} / (k a_0)
    f = _recurrence(
        principal("sqrt", corner), a, lambda j, k: (k - j) / 2 - j, lambda k, _, total: total / (k * corner[0])
    )
    nilpotent = jnp.where(jnp.any(a != 0), jnp.nan, 0)  # of these only the zero matrix has a root
    return jnp.where(a[:1] == 0, nilpotent, f)
