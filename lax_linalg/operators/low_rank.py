"""`LowRank` U Vᴴ: everything from the k columns of its factors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense import platform
from lax_linalg.errors import DimensionMismatch, SingularError
from lax_linalg.operators.assemble import padded
from lax_linalg.verbs.arithmetic import add, adjoint, inner, multiply, same_shape, scale, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense, tr
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet
from lax_linalg.verbs.eigen import eigvals, sorted_eigenvalues
from lax_linalg.verbs.norms import norm, scaled_norm
from lax_linalg.verbs.solve import by_columns, default_rtol, inv, lstsq, pinv, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


@operator(data=("U", "V"))
class LowRank(LinearOperator):
    """The matrix U Vᴴ of rank at most k.

    Args:
        U: left factor, [m, k].
        V: right factor, [n, k].

    Raises:
        DimensionMismatch: unless both have two axes and the same number of columns.

    Cost: O((m + n) k) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> A = la.LowRank([[1.0], [2.0]], [[3.0], [4.0], [5.0]])
        >>> A
        2×3 LowRank{float32} of rank ≤ 1
        >>> print(la.materialize(A))
        [[ 3.  4.  5.]
         [ 6.  8. 10.]]
    """

    U: jax.Array
    V: jax.Array

    def _validate(self) -> None:
        u, v = jnp.shape(self.U), jnp.shape(self.V)
        if len(u) != 2 or len(v) != 2 or u[1] != v[1]:
            raise DimensionMismatch(f"LowRank takes U [m, k] and V [n, k], got shapes {list(u)} and {list(v)}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.U.shape[-2], self.V.shape[-2]

    def _matmat(self, X: jax.Array) -> jax.Array:
        return self.U.astype(X.dtype) @ (self.V.astype(X.dtype).conj().T @ X)

    def _describe(self) -> str:
        return f"of rank ≤ {min(*self.shape, self.U.shape[-1])}"


def _factors(A: LowRank) -> tuple[jax.Array, jax.Array]:
    dtype = compute_dtype(A.dtype)
    return A.U.astype(dtype), A.V.astype(dtype)


def _thin(A: LowRank) -> bool:
    """Whether the factors are narrower than the matrix, so that working with them pays."""
    return A.U.shape[1] < min(A.shape)


# --- algebra ---


@materialize.rule(LowRank, cost="O(mnk)")
def _(A: LowRank) -> jax.Array:
    """Product of the factors."""
    require_dense(A)
    return A.U.astype(A.dtype) @ A.V.astype(A.dtype).conj().T


@diag.rule(LowRank, cost="O(min(m, n) k)")
def _(A: LowRank) -> jax.Array:
    """Rows of U against rows of V̄."""
    n = min(A.shape)
    return jnp.sum(A.U[:n] * A.V[:n].conj(), axis=1)


@tr.rule(LowRank, cost="O(nk)")
def _(A: LowRank) -> jax.Array:
    """Inner product of the factors."""
    U, V = _factors(A)
    return jnp.sum(U * V.conj())


@transpose.rule(LowRank, cost="O((m + n) k)")
def _(A: LowRank) -> LowRank:
    """V̄ Ūᴴ."""
    return LowRank(A.V.conj(), A.U.conj())


@scale.rule(LowRank, cost="O(mk)")
def _(A: LowRank, alpha) -> LowRank:
    """(α U) Vᴴ."""
    return LowRank(alpha * A.U, A.V)


@add.rule(LowRank, LowRank, cost="O((m + n) k)")
def _(A: LowRank, B: LowRank) -> LowRank:
    """Factors side by side: the ranks add up."""
    same_shape(A, B)
    U, V = (jnp.promote_types(a.dtype, b.dtype) for a, b in ((A.U, B.U), (A.V, B.V)))
    return LowRank(
        jnp.concatenate([A.U.astype(U), B.U.astype(U)], axis=1), jnp.concatenate([A.V.astype(V), B.V.astype(V)], axis=1)
    )


@multiply.rule(LowRank, LowRank, cost="O((m + n) k²)")
def _(A: LowRank, B: LowRank) -> LowRank:
    """U₁ (V₁ᴴ U₂) V₂ᴴ, of the smaller rank."""
    inner(A, B)
    dtype = jnp.result_type(A.dtype, B.dtype)
    core = A.V.astype(dtype).conj().T @ B.U.astype(dtype)
    if A.U.shape[1] <= B.U.shape[1]:
        return LowRank(A.U, B.V.astype(dtype) @ core.conj().T)
    return LowRank(A.U.astype(dtype) @ core, B.V)


@multiply.rule(LowRank, LinearOperator, cost="k products with Bᴴ")
def _(A: LowRank, B: LinearOperator) -> LowRank:
    """U (Bᴴ V)ᴴ."""
    inner(A, B)
    return LowRank(A.U, adjoint(B) @ A.V)


@multiply.rule(LinearOperator, LowRank, cost="k products with A")
def _(A: LinearOperator, B: LowRank) -> LowRank:
    """(A U) Vᴴ."""
    inner(A, B)
    return LowRank(A @ B.U, B.V)


# --- spectra ---


def _singular_triplets(U: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """W [m, k], σ [k], Z [n, k] with U Vᴴ = W diag(σ) Zᴴ."""
    (P, R), (Q, S) = jnp.linalg.qr(U), jnp.linalg.qr(V)
    w, s, zt = platform.svd(R @ S.conj().T)
    return P @ w, s, Q @ zt.conj().T


@jax.custom_jvp
def low_rank_svdvals(U: jax.Array, V: jax.Array) -> jax.Array:
    """The k largest singular values of U Vᴴ for narrow U [m, k] and V [n, k], by QR of both.

    Example:
        >>> import jax.numpy as jnp
        >>> print(low_rank_svdvals(jnp.ones((2, 1)), jnp.ones((2, 1))).round(4))
        [2.]
    """
    return _singular_triplets(U, V)[1]


@low_rank_svdvals.defjvp
def _low_rank_svdvals_jvp(primals, tangents):
    # dσ_i = Re w_iᴴ dA z_i holds for dependent columns too (a zero factor), where the QR itself has no derivative
    (U, V), (dU, dV) = primals, tangents
    W, s, Z = _singular_triplets(U, V)
    ds = jnp.real(jnp.sum((W.conj().T @ dU) * (Z.conj().T @ V).conj(), axis=1))
    ds += jnp.real(jnp.sum((W.conj().T @ U) * (Z.conj().T @ dV).conj(), axis=1))
    return s, ds


@svdvals.rule(LowRank, cost="O((m + n) k² + k³)")
def _(A: LowRank) -> jax.Array:
    """Singular values of R_U R_Vᴴ from QR of both factors, then zeros."""
    if not _thin(A):
        return svdvals.fallback(A)
    return padded(low_rank_svdvals(*_factors(A)), A.shape)


@svd.rule(LowRank, cost="O(m²k + n²k)")
def _(A: LowRank, *, full: bool = False) -> SVD:
    """Complete QR of both factors around the SVD of R_U R_Vᴴ."""
    if not _thin(A):
        return svd.fallback(A, full=full)
    k = A.U.shape[1]
    (P, R), (Q, S) = (jnp.linalg.qr(F, mode="complete") for F in _factors(A))
    w, s, zt = platform.svd(R[:k] @ S[:k].conj().T)
    U = jnp.concatenate([P[:, :k] @ w, P[:, k:]], axis=1)
    V = jnp.concatenate([Q[:, :k] @ zt.conj().T, Q[:, k:]], axis=1)
    s = low_rank_svdvals(*_factors(A))  # differentiable where the factors are dependent, too; XLA computes it once
    columns = (None, None) if full else (min(A.shape), min(A.shape))
    return SVD(U[:, : columns[0]], padded(s, A.shape), V[:, : columns[1]].conj().T)


@norm.rule(LowRank, cost="O((m + n) k² + k³) for p = 2, O(mnk) else")
def _(A: LowRank, p: float = 2) -> jax.Array:
    """Norm of the singular values (p = 2); sum over the materialised entries otherwise."""
    if p != 2 or not _thin(A):
        return norm.fallback(A, p)
    return scaled_norm(svdvals(A))


@eigvals.rule(LowRank, cost="O(nk² + k³)")
def _(A: LowRank) -> jax.Array:
    """Eigenvalues of Vᴴ U, then zeros."""
    if not _thin(A):
        return eigvals.fallback(A)
    U, V = _factors(A)
    w = eigvals(Dense(V.conj().T @ U))
    return sorted_eigenvalues(jnp.concatenate([w, jnp.zeros((A.shape[0] - w.shape[0],), w.dtype)]))


# --- determinants and systems: singular unless k ≥ n ---


@det.rule(LowRank, cost="O(1) for k < n")
def _(A: LowRank) -> jax.Array:
    """Zero for k < n."""
    return jnp.zeros((), compute_dtype(A.dtype)) if _thin(A) else det.fallback(A)


@logabsdet.rule(LowRank, cost="O(1) for k < n")
def _(A: LowRank) -> LogAbsDet:
    """−∞ for k < n."""
    if not _thin(A):
        return logabsdet.fallback(A)
    dtype = compute_dtype(A.dtype)
    return LogAbsDet(jnp.full((), -jnp.inf, jnp.finfo(dtype).dtype), jnp.zeros((), dtype))


def _singular(A: LowRank, name: str) -> SingularError:
    m, n = A.shape
    return SingularError(
        f"{name}: a {m}×{n} matrix of rank ≤ {A.U.shape[1]} is singular; la.lstsq and la.pinv accept it, and so does a "
        "sum with a Diagonal or I",
        index=A.U.shape[1],
    )


@solve.rule(LowRank, cost="cost of lstsq if rectangular")
@by_columns
def _(A: LowRank, b: jax.Array) -> jax.Array:
    """Refused as singular for k < n; least squares if rectangular."""
    if A.shape[0] != A.shape[1]:
        return lstsq(A, b)
    if not _thin(A):
        return solve(Dense(materialize(A)), b)
    if isinstance(b, Tracer):
        return jnp.full_like(b, jnp.inf)
    raise _singular(A, "solve")


@inv.rule(LowRank, cost="O(1) for k < n")
def _(A: LowRank) -> LinearOperator:
    """Refused as singular for k < n."""
    if not _thin(A):
        return inv.fallback(A)
    if isinstance(A.U, Tracer) or isinstance(A.V, Tracer):
        return Dense(jnp.full(A.shape, jnp.inf, compute_dtype(A.dtype)))
    raise _singular(A, "inv")


@pinv.rule(LowRank, cost="O((m + n) k² + k³)")
def _(A: LowRank, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """Q_V (R_U R_Vᴴ)⁺ Q_Uᴴ from QR of both factors."""
    if not _thin(A):
        return pinv.fallback(A, rtol=rtol, atol=atol)
    (P, R), (Q, S) = (jnp.linalg.qr(F) for F in _factors(A))
    rtol = default_rtol(A.shape, P.dtype) if rtol is None else rtol
    core = pinv(Dense(R @ S.conj().T), rtol=rtol, atol=atol)
    return LowRank(Q @ materialize(core), P)


@lstsq.rule(LowRank, cost="O((m + n) k² + k³)")
@by_columns
def _(A: LowRank, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Product with the pseudo-inverse."""
    if not _thin(A):
        return lstsq(Dense(materialize(A)), b, rtol=rtol, atol=atol)
    return pinv(A, rtol=rtol, atol=atol) @ b
