"""`Householder` reflections and their products in compact WY form: unitary by construction, of k vectors each."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense.scaling import moduli
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.assemble import sorted_descending
from lax_linalg.operators.lazy import Product
from lax_linalg.operators.unitary import unit_values, unitary_polar, unitary_qr, unitary_svd
from lax_linalg.verbs.arithmetic import adjoint, inner, multiply, transpose
from lax_linalg.verbs.basic import compute_dtype, diag
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product, sum_logabsdet
from lax_linalg.verbs.eigen import eigvals, sorted_eigenvalues
from lax_linalg.verbs.polar import Polar, polar
from lax_linalg.verbs.predicates import isnormal, isunitary
from lax_linalg.verbs.qr import QR, qr
from lax_linalg.verbs.solve import by_columns, inv, lstsq, pinv, require_nonzero, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


@operator(data=("v", "tau"))
class Householder(LinearOperator):
    """The elementary reflector H = I − τ v vᴴ: the reflection at the plane orthogonal to v unless τ is given.

    Args:
        v: its vector, [n]; zero gives the identity.
        tau: the number τ; 2 / vᴴv unless given, which is what makes H unitary by construction.

    Raises:
        DimensionMismatch: unless v has one axis and tau none.

    Cost: O(n) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> H = la.Householder([0.0, 2.0])
        >>> print(la.materialize(H), float(la.det(H)))
        [[ 1. 0.]
         [ 0. -1.]] -1.0

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 5.1.
    """

    v: jax.Array
    tau: jax.Array | None = None

    def _validate(self) -> None:
        if jnp.ndim(self.v) != 1 or (self.tau is not None and jnp.ndim(self.tau) != 0):
            raise DimensionMismatch(f"Householder takes a vector and a number, got v {_shape(self.v)}, tau {self.tau}")

    @property
    def shape(self) -> tuple[int, int]:
        n = self.v.shape[-1]
        return n, n

    @property
    def dtype(self) -> jnp.dtype:
        return _dtype(self.v, self.tau)

    @property
    def unitary(self) -> bool:
        return self.tau is None

    def _matmat(self, X: jax.Array) -> jax.Array:
        return _reflect(self, X)


@operator(data=("V", "tau"))
class HouseholderProduct(LinearOperator):
    """The product H₁ H₂ … H_k of reflectors H_j = I − τ_j v_j v_jᴴ, applied at once as I − V T Vᴴ (compact WY).

    Args:
        V: the vectors as columns, [n, k]; a zero column gives the identity.
        tau: the numbers τ_j, [k], as LAPACK's QR returns them; 2 / v_jᴴv_j unless given, which makes the product
            unitary by construction.

    Raises:
        DimensionMismatch: unless V has two axes and tau its number of columns.

    Cost: O(nk) memory; O(nk² + k³) to prepare and O(nk) per product with a vector.

    Example:
        >>> import jax, lax_linalg as la
        >>> Q = la.HouseholderProduct(jax.random.normal(jax.random.key(0), (8, 3)))
        >>> Q
        8×8 HouseholderProduct{float32} of 3 reflectors
        >>> print(la.svdvals(Q))
        [1. 1. 1. 1. 1. 1. 1. 1.]

    Source: Schreiber & Van Loan, A storage-efficient WY representation for products of Householder transformations,
    SIAM J. Sci. Stat. Comput. (1989); T⁻¹ as in Puglisi, ibid. (1992).
    """

    V: jax.Array
    tau: jax.Array | None = None

    def _validate(self) -> None:
        if jnp.ndim(self.V) != 2 or (self.tau is not None and jnp.shape(self.tau) != self.V.shape[1:]):
            tau = None if self.tau is None else _shape(self.tau)
            raise DimensionMismatch(f"HouseholderProduct takes V [n, k] and tau [k], got V {_shape(self.V)}, tau {tau}")

    @property
    def shape(self) -> tuple[int, int]:
        n = self.V.shape[-2]
        return n, n

    @property
    def dtype(self) -> jnp.dtype:
        return _dtype(self.V, self.tau)

    @property
    def unitary(self) -> bool:
        return self.tau is None

    def _matmat(self, X: jax.Array) -> jax.Array:
        return _reflect(self, X)

    def _describe(self) -> str:
        return f"of {self.V.shape[-1]} reflectors"


def _shape(x: jax.Array) -> list[int]:
    return list(jnp.shape(x))


def _dtype(v: jax.Array, tau: jax.Array | None) -> jnp.dtype:
    return v.dtype if tau is None else jnp.result_type(v.dtype, tau.dtype)


def _reflectors(A: LinearOperator, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """V [n, k] and τ [k] with H_j = I − τ_j v_j v_jᴴ; of unit columns where τ is implied, so that nothing overflows."""
    if isinstance(A, Householder):
        V, tau = A.v[:, None], None if A.tau is None else A.tau[None]
    else:
        assert isinstance(A, HouseholderProduct)
        V, tau = A.V, A.tau
    V = V.astype(dtype)
    if tau is not None:
        return V, tau.astype(dtype)
    largest = jnp.max(jnp.abs(V), axis=0, initial=0)
    nonzero = largest > 0
    U = V / jnp.where(nonzero, largest, 1)
    squares = jnp.where(nonzero, jnp.sum(jnp.abs(U) ** 2, axis=0), 1)
    return U / jnp.sqrt(squares).astype(dtype), jnp.where(nonzero, 2, 0).astype(dtype)


def _wy(A: LinearOperator, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """V and the upper triangular T⁻¹ of I − V T Vᴴ: 1/τ_j on the diagonal and v_iᴴv_j above it."""
    V, tau = _reflectors(A, dtype)
    keep = tau != 0  # a factor that is the identity leaves with its vector
    V = jnp.where(keep, V, 0)
    return V, jnp.triu(V.conj().T @ V, 1) + jnp.diag(1 / jnp.where(keep, tau, 1))


def _reflect(A: LinearOperator, X: jax.Array) -> jax.Array:
    compute = compute_dtype(X.dtype)
    V, T_inverse = _wy(A, compute)
    Y = X.astype(compute)
    with jax.default_matmul_precision("highest"):
        return (Y - V @ jax.scipy.linalg.solve_triangular(T_inverse, V.conj().T @ Y)).astype(X.dtype)


def determinants(A: LinearOperator) -> jax.Array:
    """det H_j = 1 − τ_j v_jᴴv_j of the factors of a product [k], exactly −1 for reflections.

    Example:
        >>> import lax_linalg as la
        >>> print(determinants(la.HouseholderProduct(la.materialize(la.I(2)))))
        [-1. -1.]
    """
    V, tau = _reflectors(A, compute_dtype(A.dtype))
    if A.unitary:
        return 1 - tau
    return 1 - tau * jnp.sum(jnp.abs(V) ** 2, axis=0)


def as_low_rank_update(A: LinearOperator) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U [n, k], V [n, k] and VᴴU [k, k] with A = I + U Vᴴ: U = −V T.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> U, V, M = as_low_rank_update(la.Householder([0.0, 3.0]))
        >>> print(U @ V.T + jnp.eye(2), M)
        [[ 1.  0.]
         [ 0. -1.]] [[-2.]]
    """
    V, T_inverse = _wy(A, compute_dtype(A.dtype))
    U = -jax.scipy.linalg.solve_triangular(T_inverse, V.T, trans="T").T
    return U, V, determinants(A)[None] - 1 if V.shape[1] == 1 else V.conj().T @ U


@transpose.rule(Householder, cost="O(1)")
def _(A: Householder) -> Householder:
    """I − τ v̄ v̄ᴴ."""
    return Householder(A.v.conj(), A.tau)


@transpose.rule(HouseholderProduct, cost="O(nk)")
def _(A: HouseholderProduct) -> HouseholderProduct:
    """Conjugate vectors in reverse order."""
    return HouseholderProduct(A.V.conj()[:, ::-1], None if A.tau is None else A.tau[::-1])


@multiply.rule(Householder, Householder, cost="O(n)")
def _(A: Householder, B: Householder) -> LinearOperator:
    """The vectors side by side."""
    return _joined(A, B)


@multiply.rule(HouseholderProduct, HouseholderProduct, cost="O(nk)")
def _(A: HouseholderProduct, B: HouseholderProduct) -> LinearOperator:
    """The vectors side by side."""
    return _joined(A, B)


@multiply.rule(HouseholderProduct, Householder, cost="O(nk)")
def _(A: HouseholderProduct, B: Householder) -> LinearOperator:
    """The vectors side by side."""
    return _joined(A, B)


@multiply.rule(Householder, HouseholderProduct, cost="O(nk)")
def _(A: Householder, B: HouseholderProduct) -> LinearOperator:
    """The vectors side by side."""
    return _joined(A, B)


def _joined(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    inner(A, B)
    if A.unitary != B.unitary:
        return Product((A, B))
    vectors, taus = zip(
        *((x.v[:, None], x.tau) if isinstance(x, Householder) else (x.V, x.tau) for x in (A, B))  # type: ignore[attr-defined]
    )
    dtype = jnp.result_type(*vectors)
    V = jnp.concatenate([v.astype(dtype) for v in vectors], axis=1)
    return HouseholderProduct(V, None if A.unitary else jnp.concatenate([jnp.atleast_1d(t) for t in taus]))


@diag.rule(HouseholderProduct, cost="O(nk²)")
def _(A: HouseholderProduct) -> jax.Array:
    """1 − rows of V T against rows of V̄."""
    V, T_inverse = _wy(A, compute_dtype(A.dtype))
    W = jax.scipy.linalg.solve_triangular(T_inverse, V.conj().T)
    return (1 - jnp.sum(V * W.T, axis=1)).astype(A.dtype)


@diag.rule(Householder, cost="O(n)")
def _(A: Householder) -> jax.Array:
    """1 − τ |v_i|²."""
    V, tau = _reflectors(A, compute_dtype(A.dtype))
    return (1 - tau * jnp.abs(V[:, 0]) ** 2).astype(A.dtype)


@svdvals.rule(Householder, cost="O(n)")
def _(A: Householder) -> jax.Array:
    """Ones for a reflection; ones and |1 − τ vᴴv| otherwise."""
    if A.unitary or A.shape[0] == 0:
        return unit_values(A)
    return sorted_descending(unit_values(A).at[0].set(moduli(determinants(A)[0])))


@eigvals.rule(Householder, cost="O(n)")
def _(A: Householder) -> jax.Array:
    """Ones and 1 − τ vᴴv."""
    ones = unit_values(A).astype(jnp.result_type(compute_dtype(A.dtype), jnp.complex64))
    return sorted_eigenvalues(ones.at[0].set(determinants(A)[0])) if A.shape[0] else ones


@svdvals.rule(HouseholderProduct, cost="O(n)")
def _(A: HouseholderProduct) -> jax.Array:
    """Ones for reflections; otherwise those of the materialised matrix."""
    return unit_values(A) if A.unitary else svdvals.fallback(A)


@eigvals.rule(HouseholderProduct, cost="O(nk² + k³)")
def _(A: HouseholderProduct) -> jax.Array:
    """n − k ones and the eigenvalues of I − T VᴴV."""
    n, k = A.V.shape
    if k >= n:
        return eigvals.fallback(A)
    V, T_inverse = _wy(A, compute_dtype(A.dtype))
    core = jnp.eye(k, dtype=V.dtype) - jax.scipy.linalg.solve_triangular(T_inverse, V.conj().T @ V)
    w = eigvals(Dense(core))
    return sorted_eigenvalues(jnp.concatenate([w, jnp.ones((n - k,), w.dtype)]))


def _svd(A: LinearOperator, *, full: bool = False) -> SVD:
    """The matrix itself, ones and the identity for reflections; otherwise that of the materialised matrix."""
    return unitary_svd(A) if A.unitary else svd.fallback(A, full=full)


def _polar(A: LinearOperator) -> Polar:
    """The matrix itself and the identity for reflections; otherwise that of the materialised matrix."""
    return unitary_polar(A) if A.unitary else polar.fallback(A)


def _qr(A: LinearOperator) -> QR:
    """The matrix itself and the identity for reflections; otherwise that of the materialised matrix."""
    return unitary_qr(A) if A.unitary else qr.fallback(A)


def _det(A: LinearOperator) -> jax.Array:
    """Product of 1 − τ_j v_jᴴv_j, −1 for each reflection."""
    return product(determinants(A))


def _logabsdet(A: LinearOperator) -> LogAbsDet:
    """Sum over log |1 − τ_j v_jᴴv_j|, zero for reflections."""
    return sum_logabsdet(determinants(A))


def _inv(A: LinearOperator) -> LinearOperator:
    """The adjoint for reflections; otherwise factors with −τ_j / (1 − τ_j v_jᴴv_j) in reverse order."""
    if A.unitary:
        return adjoint(A)
    d = determinants(A)
    require_nonzero(d, "inv")
    V, tau = _reflectors(A, compute_dtype(A.dtype))
    inverse = HouseholderProduct(V[:, ::-1], (-tau / d)[::-1])
    return Householder(V[:, 0], inverse.tau[0]) if isinstance(A, Householder) else inverse  # type: ignore[index]


def _pinv(A: LinearOperator, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """The adjoint for reflections; otherwise that of the materialised matrix."""
    return adjoint(A) if A.unitary else pinv.fallback(A, rtol=rtol, atol=atol)


@by_columns
def _lstsq(A: LinearOperator, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Product with the adjoint for reflections; otherwise that of the materialised matrix."""
    return adjoint(A) @ b if A.unitary else lstsq.fallback(A, b, rtol=rtol, atol=atol)


def _isunitary(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """True by type for reflections."""
    return jnp.asarray(True) if A.unitary else isunitary.fallback(A, rtol=rtol)


def _isnormal(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """True by type for reflections, and for a single factor."""
    return jnp.asarray(True) if A.unitary or isinstance(A, Householder) else isnormal.fallback(A, rtol=rtol)


@by_columns
def _solve(A: LinearOperator, b: jax.Array) -> jax.Array:
    """Product with the inverse."""
    return _inv(A) @ b


for _structure in (Householder, HouseholderProduct):
    svd.rule(_structure, cost="O(n²)")(_svd)
    polar.rule(_structure, cost="O(n²)")(_polar)
    qr.rule(_structure, cost="O(n²)")(_qr)
    det.rule(_structure, cost="O(nk)")(_det)
    logabsdet.rule(_structure, cost="O(nk)")(_logabsdet)
    inv.rule(_structure, cost="O(nk)")(_inv)
    pinv.rule(_structure, cost="O(nk), O(n³) where τ is given")(_pinv)
    lstsq.rule(_structure, cost="O(nk) per column, O(n³) where τ is given")(_lstsq)
    isunitary.rule(_structure, cost="O(1), O(n³) where τ is given")(_isunitary)
    isnormal.rule(_structure, cost="O(1), O(n³) for a product where τ is given")(_isnormal)
    solve.rule(_structure, cost="O(nk²) once, O(nk) per column")(_solve)
