"""`Bidiagonal`: the diagonal and one neighbour, what Golub–Kahan reduces every matrix to."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import moduli
from lax_linalg.dense.sturm import bidiagonal_singular_values
from lax_linalg.operators.band import Band
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.tridiagonal import Tridiagonal, binary_scale, require_band, solve_band
from lax_linalg.verbs.arithmetic import inner, multiply, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product, sum_logabsdet
from lax_linalg.verbs.eigen import eigvals, sorted_eigenvalues
from lax_linalg.verbs.solve import by_columns, require_nonzero, solve
from lax_linalg.verbs.svd import svdvals


@operator(data=("diagonal", "off"), meta=("upper",), linear=complex)
class Bidiagonal(Band):
    """The matrix [n, n] with a on the diagonal and b above it, A[i, i+1] = b_i (below it unless `upper`).

    Args:
        diagonal: a, [n].
        off: b, [n − 1].
        upper: whether b stands above the diagonal.

    Raises:
        DimensionMismatch: unless both vectors have these lengths.

    Cost: O(n) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.Bidiagonal([1.0, 2.0, 3.0], [4.0, 5.0])))
        [[1. 4. 0.]
         [0. 2. 5.]
         [0. 0. 3.]]
    """

    diagonal: jax.Array
    off: jax.Array
    upper: bool = True

    def _validate(self) -> None:
        require_band("Bidiagonal", self.diagonal, off=self.off)

    @property
    def tridiagonal(self) -> Tridiagonal:
        """The same matrix as a `Tridiagonal`."""
        zeros = jnp.zeros_like(self.off)
        return (
            Tridiagonal(zeros, self.diagonal, self.off) if self.upper else Tridiagonal(self.off, self.diagonal, zeros)
        )

    def _matmat(self, X: jax.Array) -> jax.Array:
        diagonal, off = (x.astype(X.dtype)[:, None] for x in (self.diagonal, self.off))
        Y = diagonal * X
        return Y.at[:-1].add(off * X[1:]) if self.upper else Y.at[1:].add(off * X[:-1])

    def _describe(self) -> str:
        return "upper" if self.upper else "lower"


@transpose.rule(Bidiagonal, cost="O(1)")
def _(A: Bidiagonal) -> Bidiagonal:
    """The same numbers on the other side."""
    return Bidiagonal(A.diagonal, A.off, not A.upper)


@conversion(Diagonal, Bidiagonal)
def _(A: Diagonal, like: Bidiagonal | None) -> Bidiagonal:
    return Bidiagonal(A.diagonal, jnp.zeros_like(A.diagonal[1:]), like is None or like.upper)


conversion(Bidiagonal, Tridiagonal)(lambda A, like: A.tridiagonal)


@multiply.rule(Bidiagonal, Diagonal, cost="O(n)")
def _(A: Bidiagonal, B: Diagonal) -> Bidiagonal:
    """Scaled columns."""
    inner(A, B)
    d = B.diagonal
    return Bidiagonal(A.diagonal * d, A.off * (d[1:] if A.upper else d[:-1]), A.upper)


@multiply.rule(Diagonal, Bidiagonal, cost="O(n)")
def _(A: Diagonal, B: Bidiagonal) -> Bidiagonal:
    """Scaled rows."""
    inner(A, B)
    d = A.diagonal
    return Bidiagonal(d * B.diagonal, (d[:-1] if B.upper else d[1:]) * B.off, B.upper)


@multiply.rule(Bidiagonal, Bidiagonal, cost="O(n)")
def _(A: Bidiagonal, B: Bidiagonal) -> LinearOperator:
    """Tridiagonal if the factors lie on different sides (as BᵀB and B Bᵀ do), lazy otherwise."""
    inner(A, B)
    if A.upper == B.upper:
        return multiply.lookup(LinearOperator, LinearOperator).function(A, B)
    a, b = A.diagonal, B.diagonal
    if A.upper:
        diagonal = (a * b).at[:-1].add(A.off * B.off)
        return Tridiagonal(a[1:] * B.off, diagonal, A.off * b[1:])
    diagonal = (a * b).at[1:].add(A.off * B.off)
    return Tridiagonal(A.off * b[:-1], diagonal, a[:-1] * B.off)


@svdvals.rule(Bidiagonal, cost="O(n²) per bit; O(n³) for the derivative")
def _(A: Bidiagonal) -> jax.Array:
    """Bisection with Sturm counts, each value to full relative accuracy."""
    dtype = compute_dtype(A.dtype)
    d, e = moduli(A.diagonal.astype(dtype)), moduli(A.off.astype(dtype))
    return _singular_values(d, e) if d.size else d


@jax.custom_jvp
def _singular_values(d: jax.Array, e: jax.Array) -> jax.Array:
    # moduli suffice: diagonal unitary factors turn all entries positive
    unit, _ = binary_scale(jnp.maximum(jnp.max(d), jnp.max(e, initial=0)))
    z = jnp.zeros((2 * d.shape[0] - 1,), d.dtype).at[::2].set(d / unit).at[1::2].set(e / unit)
    return unit * bidiagonal_singular_values(z)


@_singular_values.defjvp
def _singular_values_jvp(primals, tangents):
    # dσ_k = u_kᵀ dA v_k, as for a dense matrix; only the derivative needs the vectors
    (d, e), (dd, de) = primals, tangents
    U, _, Vt = platform.svd(materialize(Bidiagonal(d, e)))
    V = Vt.T
    return _singular_values(d, e), dd @ (U * V) + de @ (U[:-1] * V[1:])


@eigvals.rule(Bidiagonal, cost="O(n log n)")
def _(A: Bidiagonal) -> jax.Array:
    """The diagonal, sorted."""
    return sorted_eigenvalues(A.diagonal.astype(jnp.result_type(compute_dtype(A.dtype), jnp.complex64)))


@det.rule(Bidiagonal, cost="O(n)")
def _(A: Bidiagonal) -> jax.Array:
    """Product of the diagonal."""
    return product(diag(A).astype(compute_dtype(A.dtype)))


@logabsdet.rule(Bidiagonal, cost="O(n)")
def _(A: Bidiagonal) -> LogAbsDet:
    """Sum of the logarithms of the diagonal."""
    return sum_logabsdet(diag(A).astype(compute_dtype(A.dtype)))


@solve.rule(Bidiagonal, cost="O(n) per column")
@by_columns
def _(A: Bidiagonal, b: jax.Array) -> jax.Array:
    """LAPACK's tridiagonal elimination, which here is substitution."""
    if 0 in b.shape:
        return b
    require_nonzero(A.diagonal, "solve")
    return solve_band(A.tridiagonal, b)
