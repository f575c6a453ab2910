"""`Kronecker` A ⊗ B, whose factorisations are those of its two small factors."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lax_linalg.core.eager_checks import decided
from lax_linalg.core.operator import LinearOperator, as_part, operator
from lax_linalg.errors import NotPositiveDefiniteError, SingularError
from lax_linalg.operators.assemble import padded, paired_svd
from lax_linalg.operators.lazy import Product
from lax_linalg.verbs.arithmetic import conj, inner, multiply, scale, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense, tr
from lax_linalg.verbs.cholesky import Cholesky, cholesky, not_positive_definite
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product_of_dets
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigen, sorted_eigenvalues
from lax_linalg.verbs.lu import LU, lu
from lax_linalg.verbs.norms import cond, norm, opnorm, require_p
from lax_linalg.verbs.polar import Polar, polar
from lax_linalg.verbs.qr import QR, qr
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, inv, lstsq, pinv, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


@operator(data=("left", "right"))
class Kronecker(LinearOperator):
    """The Kronecker product A ⊗ B, the block matrix of the a_ij B; (A ⊗ B) x is A X Bᵀ for x = X flattened by rows.

    Args:
        left: A, operator or array [m, n].
        right: B, operator or array [p, q].

    Cost: a product with a vector is q products with A and m products with B: O(mnq + mpq) for dense factors in place
    of O(mnpq).

    Example:
        >>> import lax_linalg as la
        >>> la.Kronecker([[1.0, 2.0]], [[3.0], [4.0]])
        2×2 Kronecker{float32} 1×2 ⊗ 2×1

    Source: Van Loan, The ubiquitous Kronecker product, J. Comput. Appl. Math. (2000).
    """

    left: LinearOperator
    right: LinearOperator

    def __post_init__(self) -> None:
        object.__setattr__(self, "left", as_part(self.left))
        object.__setattr__(self, "right", as_part(self.right))

    @property
    def shape(self) -> tuple[int, int]:
        (m, n), (p, q) = self.left.shape, self.right.shape
        return m * p, n * q

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(self.left.dtype, self.right.dtype)

    @property
    def unitary(self) -> bool:
        return self.left.unitary and self.right.unitary

    def _matmat(self, X: jax.Array) -> jax.Array:
        return _both(X, self.left.shape[1], self.right.shape[1], self.left._matmat, self.right._matmat)

    def _describe(self) -> str:
        (m, n), (p, q) = self.left.shape, self.right.shape
        return f"{m}×{n} ⊗ {p}×{q}"


Columns = Callable[[jax.Array], jax.Array]


def _both(X: jax.Array, n: int, q: int, f: Columns, g: Columns) -> jax.Array:
    """(f ⊗ g) X for columns X [n q, k], with f on columns of length n and g on columns of length q."""
    k = X.shape[1]
    Y = f(X.reshape(n, q * k))
    m = Y.shape[0]
    Z = g(Y.reshape(m, q, k).transpose(1, 0, 2).reshape(q, m * k))
    p = Z.shape[0]
    return Z.reshape(p, m, k).transpose(1, 0, 2).reshape(m * p, k)


def _rows(A: Kronecker) -> tuple[int, int]:
    return A.left.shape[0], A.right.shape[0]


def _square(A: Kronecker) -> bool:
    """Whether both factors are square; a square product of others is singular."""
    (m, n), (p, q) = A.left.shape, A.right.shape
    return m == n and p == q


def _aligned(A: Kronecker) -> bool:
    """Whether both factors are tall or both are wide, so that thin factors of them make thin factors of the product."""
    (m, n), (p, q) = A.left.shape, A.right.shape
    return (m >= n and p >= q) or (m <= n and p <= q)


def _grid(m: int, p: int, q: int) -> np.ndarray:
    """Positions i q + j, for i < m and j < p, of a smaller grid in a grid with rows of length q."""
    return (np.arange(m)[:, None] * q + np.arange(p)).ravel()


@materialize.rule(Kronecker, cost="O(mnpq)")
def _(A: Kronecker) -> jax.Array:
    """Outer product of the factors' entries."""
    require_dense(A)
    return jnp.kron(materialize(A.left), materialize(A.right)).astype(A.dtype)


@diag.rule(Kronecker, cost="O(mp) plus diag of square factors")
def _(A: Kronecker) -> jax.Array:
    """Outer product of the diagonals; gathered from the factors' entries where these are not square."""
    if _square(A):
        return jnp.kron(diag(A.left), diag(A.right)).astype(A.dtype)
    (p, q), r = A.right.shape, np.arange(min(A.shape))
    entries = materialize(A.left)[r // max(p, 1), r // max(q, 1)] * materialize(A.right)[r % max(p, 1), r % max(q, 1)]
    return entries.astype(A.dtype)


@tr.rule(Kronecker, cost="cost of tr of the factors")
def _(A: Kronecker) -> jax.Array:
    """tr A · tr B."""
    return tr(A.left) * tr(A.right) if _square(A) else tr.fallback(A)


@transpose.rule(Kronecker, cost="cost of transpose of the factors")
def _(A: Kronecker) -> Kronecker:
    """Aᵀ ⊗ Bᵀ."""
    return Kronecker(transpose(A.left), transpose(A.right))


@conj.rule(Kronecker, cost="cost of conj of the factors")
def _(A: Kronecker) -> Kronecker:
    """Factor by factor."""
    return Kronecker(conj(A.left), conj(A.right))


@scale.rule(Kronecker, cost="cost of scale of the left factor")
def _(A: Kronecker, alpha) -> Kronecker:
    """(α A) ⊗ B."""
    return Kronecker(scale(A.left, alpha), A.right)


@multiply.rule(Kronecker, Kronecker, cost="cost of multiply of the factors")
def _(A: Kronecker, B: Kronecker) -> LinearOperator:
    """Mixed product (A ⊗ B)(C ⊗ D) = AC ⊗ BD; lazy where the factors do not fit."""
    inner(A, B)
    if A.left.shape[1] == B.left.shape[0] and A.right.shape[1] == B.right.shape[0]:
        return Kronecker(multiply(A.left, B.left), multiply(A.right, B.right))
    return Product((A, B))


@norm.rule(Kronecker, cost="cost of norm of the factors")
def _(A: Kronecker, p: float = 2) -> jax.Array:
    """‖A‖ ‖B‖."""
    return norm(A.left, p) * norm(A.right, p)


@opnorm.rule(Kronecker, cost="cost of opnorm of the factors")
def _(A: Kronecker, p: float = 2) -> jax.Array:
    """‖A‖ ‖B‖, for p = 1, 2 and ∞."""
    require_p(p)
    return opnorm(A.left, p) * opnorm(A.right, p)


@cond.rule(Kronecker, cost="cost of cond of square factors")
def _(A: Kronecker, p: float = 2) -> jax.Array:
    """κ(A) κ(B) for square factors."""
    return cond(A.left, p) * cond(A.right, p) if _square(A) else cond.fallback(A, p)


@svdvals.rule(Kronecker, cost="O(m³ + p³ + mp log mp) for square factors")
def _(A: Kronecker) -> jax.Array:
    """Products σ_i(A) σ_j(B), sorted."""
    return padded(jnp.kron(svdvals(A.left), svdvals(A.right)), A.shape)


@svd.rule(Kronecker, cost="O(m³ + p³ + m²p²) for square factors")
def _(A: Kronecker, *, full: bool = False) -> SVD:
    """Kronecker products of the factors' singular vectors, sorted."""
    if not full and _aligned(A):  # thin factors are differentiable, complete ones are not
        L, R = svd(A.left), svd(A.right)
        s = jnp.kron(L.S, R.S)
        order = jnp.argsort(-s)
        return SVD(jnp.kron(L.U, R.U)[:, order], s[order], jnp.kron(L.Vt, R.Vt)[order])
    L, R = svd(A.left, full=True), svd(A.right, full=True)
    (m, n), (p, q) = A.left.shape, A.right.shape
    k, l = min(m, n), min(p, q)
    s = jnp.kron(L.S, R.S)
    return paired_svd(jnp.kron(L.U, R.U), s, jnp.kron(L.Vt, R.Vt), _grid(k, l, p), _grid(k, l, q), full)


@eigvals.rule(Kronecker, cost="O(m³ + p³ + mp log mp) for square factors")
def _(A: Kronecker) -> jax.Array:
    """Products λ_i(A) λ_j(B), sorted."""
    if not _square(A):
        return eigvals.fallback(A)
    return sorted_eigenvalues(jnp.kron(eigvals(A.left), eigvals(A.right)))


@eigen.rule(Kronecker, cost="O(m³ + p³ + m²p²) for square factors")
def _(A: Kronecker) -> Eigen:
    """Kronecker products of the factors' eigenvectors, sorted."""
    if not _square(A):
        return eigen.fallback(A)
    L, R = eigen(A.left), eigen(A.right)
    return sorted_eigen(jnp.kron(L.values, R.values), jnp.kron(L.vectors, R.vectors))


@schur.rule(Kronecker, cost="O(m³ + p³ + m²p²) for square factors")
def _(A: Kronecker) -> Schur:
    """Kronecker products of the factors' Schur factors."""
    if not _square(A):
        return schur.fallback(A)
    L, R = schur(A.left), schur(A.right)
    return Schur(jnp.kron(L.T, R.T), jnp.kron(L.Z, R.Z), jnp.kron(L.values, R.values))


@qr.rule(Kronecker, cost="O(m³ + p³ + m²p²) for square factors")
def _(A: Kronecker) -> QR:
    """Kronecker products of the factors' Q and R."""
    if not _aligned(A):
        return qr.fallback(A)
    L, R = qr(A.left), qr(A.right)
    return QR(jnp.kron(L.Q, R.Q), jnp.kron(L.R, R.R))


@lu.rule(Kronecker, cost="O(m³ + p³ + m²p²) for square factors")
def _(A: Kronecker) -> LU:
    """Kronecker products of the factors' L and U, rows pivoted within the factors."""
    if not _square(A):
        return lu.fallback(A)
    L, R = lu(A.left), lu(A.right)
    p = (L.p[:, None] * A.right.shape[0] + R.p).ravel()
    return LU(jnp.kron(L.L, R.L), jnp.kron(L.U, R.U), p)


@cholesky.rule(Kronecker, cost="O(m³ + p³ + m²p²)")
def _(A: Kronecker) -> Cholesky:
    """Kronecker product of the factors' Cholesky factors."""
    if not _square(A) or 0 in A.shape:
        return cholesky.fallback(A)
    # A ⊗ B is definite too where the factors are so up to inverse phases, as with (−A) ⊗ (−B)
    corner = diag(A.left)[0].astype(compute_dtype(A.dtype))
    phase = jnp.where(corner == 0, 1, corner / jnp.where(corner == 0, 1, jnp.abs(corner)))
    if decided(phase != 1) is not False:
        A = Kronecker(scale(A.left, phase.conj()), scale(A.right, phase))
    R = cholesky(A.right)
    try:
        L = cholesky(A.left)
    except NotPositiveDefiniteError as error:  # the first block row that fails, in its first pivot
        if error.index is None:
            raise
        raise not_positive_definite(error.index * A.right.shape[0]) from None
    lower = jnp.kron(L.L, R.L)
    return Cholesky(lower, lower.conj().T)


@polar.rule(Kronecker, cost="O(m³ + p³ + m²p²) for square factors")
def _(A: Kronecker) -> Polar:
    """Kronecker products of the factors' U and P."""
    if not _aligned(A):
        return polar.fallback(A)
    L, R = polar(A.left), polar(A.right)
    return Polar(jnp.kron(L.U, R.U), jnp.kron(L.P, R.P))


@det.rule(Kronecker, cost="cost of det of the factors")
def _(A: Kronecker) -> jax.Array:
    """det(A)^p det(B)^m."""
    m, p = A.left.shape[0], A.right.shape[0]
    if 0 in A.shape:
        return det.fallback(A)
    if not _square(A):
        return jnp.zeros((), compute_dtype(A.dtype))

    def repeated(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.concatenate([jnp.broadcast_to(left, (p,)), jnp.broadcast_to(right, (m,))])

    def logabsdets(A: Kronecker) -> LogAbsDet:
        L, R = logabsdet(A.left), logabsdet(A.right)
        return LogAbsDet(repeated(L.logabs, R.logabs), repeated(L.sign, R.sign))

    return product_of_dets(A, lambda A: repeated(det(A.left), det(A.right)), logabsdets)


@logabsdet.rule(Kronecker, cost="cost of logabsdet of the factors")
def _(A: Kronecker) -> LogAbsDet:
    """p logabsdet(A) + m logabsdet(B)."""
    m, p = A.left.shape[0], A.right.shape[0]
    if 0 in A.shape:
        return logabsdet.fallback(A)
    if not _square(A):
        dtype = compute_dtype(A.dtype)
        return LogAbsDet(jnp.full((), -jnp.inf, jnp.finfo(dtype).dtype), jnp.zeros((), dtype))
    L, R = logabsdet(A.left), logabsdet(A.right)
    return LogAbsDet(p * L.logabs + m * R.logabs, L.sign**p * R.sign**m)


@solve.rule(Kronecker, cost="O(m³ + p³ + mp(m + p) per column)")
@by_columns
def _(A: Kronecker, b: jax.Array) -> jax.Array:
    """Solves with one factor after the other."""
    if A.shape[0] != A.shape[1] or 0 in A.shape:
        return lstsq(A, b)
    if not _square(A):
        (m, n), (p, q) = A.left.shape, A.right.shape
        if isinstance(b, Tracer):
            return jnp.full_like(b, jnp.inf)
        raise SingularError(f"solve: the Kronecker product of {m}×{n} and {p}×{q} matrices is singular; la.lstsq")
    return _both(b, *_rows(A), lambda Y: solve(A.left, Y), lambda Y: solve(A.right, Y))


@lstsq.rule(Kronecker, cost="O(m³ + p³ + mp(m + p) per column) for square factors")
@by_columns
def _(A: Kronecker, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """(A ⊗ B)⁺ = A⁺ ⊗ B⁺, one factor after the other; thresholds are the factors' own."""
    f, g = (lambda Y, F=F: lstsq(F, Y, rtol=rtol, atol=atol) for F in (A.left, A.right))
    return _both(b, *_rows(A), f, g)


@inv.rule(Kronecker, cost="cost of inv of the factors")
def _(A: Kronecker) -> LinearOperator:
    """A⁻¹ ⊗ B⁻¹."""
    return Kronecker(inv(A.left), inv(A.right)) if _square(A) else inv.fallback(A)


@pinv.rule(Kronecker, cost="cost of pinv of the factors")
def _(A: Kronecker, *, rtol: float | None = None, atol: jax.Array | float = 0) -> Kronecker:
    """A⁺ ⊗ B⁺; thresholds are the factors' own."""
    return Kronecker(pinv(A.left, rtol=rtol, atol=atol), pinv(A.right, rtol=rtol, atol=atol))
