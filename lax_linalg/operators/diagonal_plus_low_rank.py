"""`DiagonalPlusLowRank` D + U Vᴴ: Woodbury's formula and the determinant lemma, safeguarded where D is small."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.core.dense import Dense
from lax_linalg.core.eager_checks import known_not_finite
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import moduli
from lax_linalg.errors import DimensionMismatch, SingularError
from lax_linalg.operators.assemble import padded
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.low_rank import LowRank
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import add, inner, multiply, same_shape, scale, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense
from lax_linalg.verbs.det import (
    LogAbsDet,
    dense_det,
    dense_logabsdet,
    det,
    each_logabsdet,
    logabsdet,
    product,
    product_of_dets,
    require_regular,
    sum_logabsdet,
)
from lax_linalg.verbs.eigen import eigvals, sorted_eigenvalues
from lax_linalg.verbs.solve import by_columns, inv, require_nonzero, solve
from lax_linalg.verbs.svd import svdvals

REFINEMENTS = 2  # Woodbury's formula alone is not backward stable where D is ill-conditioned


@operator(data=("base", "U", "V"))
class DiagonalPlusLowRank(LinearOperator):
    """The square matrix D + U Vᴴ, which `Diagonal + LowRank` and `λI + LowRank` make.

    Args:
        base: D, a `Diagonal` or a `UniformScaling` of size n; the latter has closed spectra too.
        U: left factor, [n, k].
        V: right factor, [n, k].

    Raises:
        DimensionMismatch: unless the shapes fit.

    Cost: O(nk) memory and per product with a vector.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Diagonal([1.0, 2.0, 3.0]) + la.LowRank(jnp.ones((3, 1)), jnp.ones((3, 1)))
        >>> A
        3×3 DiagonalPlusLowRank{float32} Diagonal + rank 1
        >>> round(float(la.det(A)), 4)  # 6 (1 + 1 + 1/2 + 1/3)
        17.0

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 2.1.4.
    """

    base: Diagonal | UniformScaling
    U: jax.Array
    V: jax.Array

    def _validate(self) -> None:
        low = LowRank(self.U, self.V)
        if not isinstance(self.base, (Diagonal, UniformScaling)):
            raise DimensionMismatch(f"base is a Diagonal or a UniformScaling, got a {type(self.base).__name__}")
        same_shape(self.base, low)

    @property
    def shape(self) -> tuple[int, int]:
        n = self.U.shape[-2]
        return n, n

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(self.base.dtype, self.U.dtype, self.V.dtype)

    def _matmat(self, X: jax.Array) -> jax.Array:
        return self.base._matmat(X) + self.low_rank._matmat(X)

    def _describe(self) -> str:
        return f"{type(self.base).__name__} + rank {self.U.shape[-1]}"

    @property
    def low_rank(self) -> LowRank:
        """The second term, U Vᴴ."""
        return LowRank(self.U, self.V)


def _sum(base: LinearOperator, low: LowRank) -> DiagonalPlusLowRank:
    same_shape(base, low)
    return DiagonalPlusLowRank(base, low.U, low.V)  # type: ignore[arg-type]


def _numbers(A: DiagonalPlusLowRank) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Diagonal [n] or number λ, U and V, in the one dtype that they are computed in."""
    dtype = compute_dtype(A.dtype)
    d = A.base.value if isinstance(A.base, UniformScaling) else A.base.diagonal
    return d.astype(dtype), A.U.astype(dtype), A.V.astype(dtype)


def _thin(A: DiagonalPlusLowRank) -> bool:
    """Whether even the safeguarded form, of rank 2k, is narrower than the matrix."""
    return 2 * A.U.shape[1] < A.shape[0]


# --- algebra ---


@materialize.rule(DiagonalPlusLowRank, cost="O(n²k)")
def _(A: DiagonalPlusLowRank) -> jax.Array:
    """Sum of the materialised terms."""
    require_dense(A)
    return (materialize(A.base) + materialize(A.low_rank)).astype(A.dtype)


@diag.rule(DiagonalPlusLowRank, cost="O(nk)")
def _(A: DiagonalPlusLowRank) -> jax.Array:
    """Sum of the diagonals."""
    return diag(A.base) + diag(A.low_rank)


@transpose.rule(DiagonalPlusLowRank, cost="O(nk)")
def _(A: DiagonalPlusLowRank) -> DiagonalPlusLowRank:
    """Term by term."""
    return _sum(A.base, transpose(A.low_rank))  # type: ignore[arg-type]


@scale.rule(DiagonalPlusLowRank, cost="O(nk)")
def _(A: DiagonalPlusLowRank, alpha) -> DiagonalPlusLowRank:
    """Term by term."""
    return _sum(scale(A.base, alpha), scale(A.low_rank, alpha))  # type: ignore[arg-type]


@conversion(UniformScaling, DiagonalPlusLowRank)
@conversion(Diagonal, DiagonalPlusLowRank)
def _(A: Diagonal | UniformScaling, like: LinearOperator | None) -> DiagonalPlusLowRank:
    nothing = jnp.zeros((A.shape[0], 0), bool)  # of the dtype that every other one absorbs
    return DiagonalPlusLowRank(A, nothing, nothing)


@conversion(LowRank, DiagonalPlusLowRank)
def _(A: LowRank, like: LinearOperator | None) -> DiagonalPlusLowRank | None:
    m, n = A.shape
    return _sum(UniformScaling(jnp.zeros((), bool), n), A) if m == n else None


@add.rule(DiagonalPlusLowRank, DiagonalPlusLowRank, cost="O(nk)")
def _(A: DiagonalPlusLowRank, B: DiagonalPlusLowRank) -> DiagonalPlusLowRank:
    """Term by term."""
    same_shape(A, B)
    return _sum(add(A.base, B.base), add(A.low_rank, B.low_rank))  # type: ignore[arg-type]


@multiply.rule(DiagonalPlusLowRank, DiagonalPlusLowRank, cost="O(nk²)")
def _(A: DiagonalPlusLowRank, B: DiagonalPlusLowRank) -> DiagonalPlusLowRank:
    """D₁D₂ + D₁ L₂ + L₁ (D₂ + L₂): the ranks add up."""
    inner(A, B)
    low = add(multiply(A.base, B.low_rank), multiply(A.low_rank, B))
    return _sum(multiply(A.base, B.base), low)  # type: ignore[arg-type]


# --- systems and determinants ---


@functools.partial(jax.jit, static_argnames="others")
def _safeguarded(d: jax.Array, U: jax.Array, V: jax.Array, others: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """D' + U' V'ᴴ of the same value, in which the k smallest entries of D (and others) have moved to the second term.

    Where D + U Vᴴ is regular at most k entries of D vanish, so that D' is regular too. A number d = λ stays as it is.
    """
    if d.ndim == 0:
        return d, U, V
    n, k = U.shape
    k += others
    modulus = jnp.abs(d)
    largest = jnp.max(modulus)
    unit = jax.lax.stop_gradient(jnp.where(largest > 0, largest, jnp.max(jnp.abs(U)) * jnp.max(jnp.abs(V))))
    _, small = jax.lax.top_k(-modulus, k)
    moved = d[small]
    phase = jax.lax.stop_gradient(jnp.where(moved == 0, 1, moved / jnp.where(moved == 0, 1, jnp.abs(moved))))
    columns = jnp.zeros((n, k), d.dtype).at[small, jnp.arange(k)].set(1)
    U = jnp.concatenate([U, columns * (moved - unit * phase)], axis=1)
    return d.at[small].set(unit * phase), U, jnp.concatenate([V, columns], axis=1)


@jax.jit
def _capacitance(d: jax.Array, U: jax.Array, V: jax.Array) -> jax.Array:
    """C = I + Vᴴ D⁻¹ U, with det(D + U Vᴴ) = det D · det C."""
    return jnp.eye(U.shape[1], dtype=U.dtype) + V.conj().T @ (U / _column(d))


def _column(d: jax.Array) -> jax.Array:
    return d[:, None] if d.ndim else d


def _product(d: jax.Array, U: jax.Array, V: jax.Array, X: jax.Array) -> jax.Array:
    return _column(d) * X + U @ (V.conj().T @ X)


def _woodbury(d: jax.Array, U: jax.Array, V: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """b ↦ D⁻¹ b − D⁻¹ U C⁻¹ Vᴴ D⁻¹ b, with residual corrections."""
    e, P, Q = _safeguarded(d, U, V)
    factors = jax.scipy.linalg.lu_factor(_capacitance(e, P, Q))

    def once(b: jax.Array) -> jax.Array:
        y = b / _column(e)
        return y - P @ jax.scipy.linalg.lu_solve(factors, Q.conj().T @ y) / _column(e)

    def refined(b: jax.Array) -> jax.Array:
        x = once(b)
        for _ in range(REFINEMENTS):
            x = x + once(b - _product(d, U, V, x))
        return x

    return refined


@jax.jit
def _solve(d: jax.Array, U: jax.Array, V: jax.Array, b: jax.Array) -> jax.Array:
    # differentiated as a linear system, whatever path the safeguard takes
    return jax.lax.custom_linear_solve(
        lambda x: _product(d, U, V, x),
        b,
        solve=lambda _, y: _woodbury(d, U, V)(y),
        transpose_solve=lambda _, y: _woodbury(d, V.conj(), U.conj())(y),
    )


def _require_finite(x: jax.Array, name: str) -> None:
    if known_not_finite(x):
        raise SingularError(
            f"{name}: the matrix is singular, more entries of its diagonal vanish than its low-rank term makes up for; "
            "la.lstsq and la.pinv accept it"
        )


@solve.rule(DiagonalPlusLowRank, cost="O(nk² + k³), O(nk) per column")
@by_columns
def _(A: DiagonalPlusLowRank, b: jax.Array) -> jax.Array:
    """Woodbury's formula around the k smallest entries of D, with two steps of iterative refinement."""
    if not _thin(A):
        return solve(Dense(materialize(A)), b)
    d, U, V = (x.astype(b.dtype) for x in _numbers(A))
    x = _solve(d, U, V, b)
    if known_not_finite(x):
        require_nonzero(jnp.atleast_1d(_safeguarded(d, U, V)[0]), "solve")  # names the entry, if it is one
    _require_finite(x, "solve")
    return x


@inv.rule(DiagonalPlusLowRank, cost="O(nk² + k³)")
def _(A: DiagonalPlusLowRank) -> LinearOperator:
    """Woodbury's formula around the k smallest entries of D: diagonal plus a term of rank 2k (k for λI)."""
    if not _thin(A):
        return inv.fallback(A)
    d, U, V = _safeguarded(*_numbers(A))
    require_nonzero(jnp.atleast_1d(d), "inv")
    left = -jnp.linalg.solve(_capacitance(d, U, V).T, (U / _column(d)).T).T
    _require_finite(left, "inv")
    base = Diagonal(1 / d) if d.ndim else UniformScaling(1 / d, A.shape[0])
    return DiagonalPlusLowRank(base, left, V / _column(d.conj()))


@logabsdet.rule(DiagonalPlusLowRank, cost="O(nk² + k³)")
def _(A: DiagonalPlusLowRank) -> LogAbsDet:
    """Determinant lemma, det(D + U Vᴴ) = det D · det(I + Vᴴ D⁻¹ U), around the k smallest entries of D."""
    if not _thin(A):
        return logabsdet.fallback(A)
    d, C = _determinants(A)
    first, second = sum_logabsdet(d), dense_logabsdet(C)
    logabs, sign = first.logabs + second.logabs, first.sign * second.sign
    require_regular(logabs, sign)
    return LogAbsDet(logabs, sign)


def _determinants(A: DiagonalPlusLowRank) -> tuple[jax.Array, jax.Array]:
    """d and C with det A = ∏ d_i · det C, where d has a zero only if all cofactors of A are zero."""
    d, U, V = _numbers(A)
    n, k = U.shape
    if d.ndim == 0:  # λ^(n − k) det(λI + Vᴴ U) divides by nothing
        return jnp.full((n - k,), d), d * jnp.eye(k, dtype=d.dtype) + V.conj().T @ U
    d, U, V = _safeguarded(d, U, V, 1)
    return d, _capacitance(jnp.where(d == 0, 1, d), U, V)


@det.rule(DiagonalPlusLowRank, cost="O(nk² + k³)")
def _(A: DiagonalPlusLowRank) -> jax.Array:
    """Determinant lemma, as for logabsdet."""
    if not _thin(A):
        return det.fallback(A)

    def dets(A: DiagonalPlusLowRank) -> jax.Array:
        d, C = _determinants(A)
        return jnp.stack([product(d), dense_det(C)])

    def logabsdets(A: DiagonalPlusLowRank) -> LogAbsDet:
        d, C = _determinants(A)
        parts = each_logabsdet(d), dense_logabsdet(C)
        return LogAbsDet(*(jnp.concatenate([x, y[None]]) for x, y in zip(*parts)))

    return product_of_dets(A, dets, logabsdets)


# --- spectra of λI + U Vᴴ ---


@eigvals.rule(DiagonalPlusLowRank, cost="O(nk² + k³) for λI + U Vᴴ, O(n³) else")
def _(A: DiagonalPlusLowRank) -> jax.Array:
    """λ plus those of Vᴴ U, and λ itself; from the materialised matrix where D is not λI."""
    if not isinstance(A.base, UniformScaling):
        return eigvals.fallback(A)
    w = eigvals(A.low_rank)
    return sorted_eigenvalues(A.base.value.astype(w.dtype) + w)


@jax.custom_jvp
def _shifted_svdvals(value: jax.Array, U: jax.Array, V: jax.Array) -> jax.Array:
    return _shifted_triplets(value, U, V)[1]


def _shifted_triplets(value: jax.Array, U: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Those singular triplets of λI + U Vᴴ that live in the ranges of U and V; the others all have |λ|."""
    Q, _ = jnp.linalg.qr(jnp.concatenate([U, V], axis=1))
    core = value * jnp.eye(Q.shape[1], dtype=Q.dtype) + (Q.conj().T @ U) @ (V.conj().T @ Q)
    w, s, zt = platform.svd(core)
    return Q @ w, s, Q @ zt.conj().T


@_shifted_svdvals.defjvp
def _shifted_svdvals_jvp(primals, tangents):
    # dσ_i = Re w_iᴴ dA z_i holds for dependent columns of (U, V) too, as for U = V, where QR has no derivative
    (value, U, V), (dvalue, dU, dV) = primals, tangents
    W, s, Z = _shifted_triplets(value, U, V)
    dA_Z = dvalue * Z + dU @ (V.conj().T @ Z) + U @ (dV.conj().T @ Z)
    return s, jnp.real(jnp.sum(W.conj() * dA_Z, axis=0))


@svdvals.rule(DiagonalPlusLowRank, cost="O(nk² + k³) for λI + U Vᴴ, O(n³) else")
def _(A: DiagonalPlusLowRank) -> jax.Array:
    """SVD within the ranges of U and V, |λ| elsewhere; from the materialised matrix where D is not λI."""
    if not isinstance(A.base, UniformScaling) or not _thin(A):
        return svdvals.fallback(A)
    value, U, V = _numbers(A)
    n, k = U.shape
    outside = jnp.full((n - 2 * k,), moduli(value))
    return padded(jnp.concatenate([_shifted_svdvals(value, U, V), outside]), A.shape)
