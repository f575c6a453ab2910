"""Verbs of lazy transposes, multiples and products, read off what the operators inside of them know.

Aᵀ and α A have the spectra of A up to a conjugation or a factor, so that they never form a matrix that A's own rules
do not form. Products of square operators have the determinants and the systems of their factors one by one, and
unitary factors at either end leave singular values as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.concrete import known_not_finite
from lax_linalg.dispatch import Verb
from lax_linalg.operators.base import LinearOperator
from lax_linalg.operators.lazy import Product, Scaled, Transpose, own_transpose
from lax_linalg.verbs.arithmetic import scale, transpose
from lax_linalg.verbs.basic import compute_dtype
from lax_linalg.verbs.cholesky import Cholesky, cholesky
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, sum_logabsdet
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigen, sorted_eigenvalues
from lax_linalg.verbs.functions import exp, log, power, sqrt
from lax_linalg.verbs.lu import lu
from lax_linalg.verbs.norms import cond, norm, opnorm, require_p
from lax_linalg.verbs.polar import Polar, polar
from lax_linalg.verbs.predicates import (
    isdiag,
    ishermitian,
    isnormal,
    isposdef,
    issymmetric,
    istril,
    istriu,
    isunitary,
)
from lax_linalg.verbs.qr import qr
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, inv, lstsq, pinv, require_nonzero, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals

# --- transposes ---


@svdvals.rule(Transpose, cost="cost of svdvals of A")
def _(A: Transpose) -> jax.Array:
    """Those of A."""
    return svdvals(A.parent)


@svd.rule(Transpose, cost="cost of svd of A")
def _(A: Transpose, *, full: bool = False) -> SVD:
    """Aᵀ = conj(V) diag(S) Uᵀ."""
    U, S, Vt = svd(A.parent, full=full)
    return SVD(Vt.T, S, U.T)


@norm.rule(Transpose, cost="cost of norm of A")
def _(A: Transpose, p: float = 2) -> jax.Array:
    """That of A."""
    return norm(A.parent, p)


def _dual(p: float) -> float:
    require_p(p)
    return {1: jnp.inf, jnp.inf: 1}.get(p, p)


@opnorm.rule(Transpose, cost="cost of opnorm of A")
def _(A: Transpose, p: float = 2) -> jax.Array:
    """That of A, with columns and rows exchanged."""
    return opnorm(A.parent, _dual(p))


@cond.rule(Transpose, cost="cost of cond of A")
def _(A: Transpose, p: float = 2) -> jax.Array:
    """That of A, with columns and rows exchanged."""
    return cond(A.parent, _dual(p))


@det.rule(Transpose, cost="cost of det of A")
def _(A: Transpose) -> jax.Array:
    """That of A."""
    return det(A.parent)


@logabsdet.rule(Transpose, cost="cost of logabsdet of A")
def _(A: Transpose) -> LogAbsDet:
    """That of A."""
    return logabsdet(A.parent)


@eigvals.rule(Transpose, cost="cost of eigvals of A")
def _(A: Transpose) -> jax.Array:
    """Those of A."""
    return eigvals(A.parent)


@exp.rule(Transpose, cost="cost of exp of A")
def _(A: Transpose) -> LinearOperator:
    """exp(A)ᵀ."""
    return transpose(exp(A.parent))


@log.rule(Transpose, cost="cost of log of A")
def _(A: Transpose) -> LinearOperator:
    """log(A)ᵀ."""
    return transpose(log(A.parent))


@sqrt.rule(Transpose, cost="cost of sqrt of A")
def _(A: Transpose) -> LinearOperator:
    """sqrt(A)ᵀ."""
    return transpose(sqrt(A.parent))


@power.rule(Transpose, cost="cost of power of A")
def _(A: Transpose, p: int | float | jax.Array) -> LinearOperator:
    """(Aᵖ)ᵀ."""
    return transpose(power(A.parent, p))


@schur.rule(Transpose, cost="cost of schur of A plus O(n²)")
def _(A: Transpose) -> Schur:
    """Aᵀ = (conj(Z) J)(J Tᵀ J)(conj(Z) J)ᴴ, where J reverses the order."""
    T, Z, values = schur(A.parent)
    return Schur(T.T[::-1, ::-1], Z.conj()[:, ::-1], values[::-1])


@polar.rule(Transpose, cost="cost of polar of A plus O(mn min(m, n))")
def _(A: Transpose) -> Polar:
    """Aᵀ = Uᵀ (conj(U) Pᵀ Uᵀ)."""
    U, P = polar(A.parent)
    H = U.conj() @ P.T @ U.T
    return Polar(U.T, (H + H.conj().T) / 2)


@cholesky.rule(Transpose, cost="cost of cholesky of A")
def _(A: Transpose) -> Cholesky:
    """Aᵀ = conj(L) Lᵀ."""
    L, U = cholesky(A.parent)
    return Cholesky(L.conj(), U.conj())


# Left eigenvectors would take an inverse, and pivots are sought in columns: what A's own factors say is not enough.
def _by_the_structure(verb: Verb) -> Callable[..., Any]:
    def of_transpose(A: Transpose, **options: Any) -> Any:
        """Of Aᵀ as A's structure transposes it; of the materialised matrix where it has no rule."""
        own = own_transpose(A)
        return verb.fallback(A, **options) if own is None else verb(own, **options)

    return of_transpose


for _verb in (eigen, qr, lu):
    _verb.rule(Transpose, cost=f"cost of {_verb.name} of Aᵀ, O(n³) if that is lazy")(_by_the_structure(_verb))


@solve.rule(Transpose, cost="cost of solve with A")
@by_columns
def _(A: Transpose, b: jax.Array) -> jax.Array:
    """As A's structure transposes it, else the transpose of b ↦ A \\ b."""
    own, parent = own_transpose(A), A.parent
    if own is not None or A.shape[0] != A.shape[1]:
        return lstsq(A, b) if own is None else solve(own, b)
    if solve.lookup(type(parent)) is solve.lookup(LinearOperator):
        return solve.fallback(A, b)
    (x,) = jax.linear_transpose(lambda y: solve(parent, y), jax.ShapeDtypeStruct(b.shape, b.dtype))(b)
    if known_not_finite(x):
        solve(parent, b)  # names the pivot
    return x


@inv.rule(Transpose, cost="cost of inv of A")
def _(A: Transpose) -> LinearOperator:
    """(A⁻¹)ᵀ."""
    return transpose(inv(A.parent))


@pinv.rule(Transpose, cost="cost of pinv of A")
def _(A: Transpose, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """(A⁺)ᵀ."""
    return transpose(pinv(A.parent, rtol=rtol, atol=atol))


def _of_parent(verb: Verb) -> Callable[..., jax.Array]:
    def of_transpose(A: Transpose, *, rtol: float | None = None) -> jax.Array:
        """Whether A is."""
        return verb(A.parent, rtol=rtol)

    return of_transpose


for _verb in (issymmetric, ishermitian, isposdef, isunitary, isnormal, isdiag):
    _verb.rule(Transpose, cost=f"cost of {_verb.name} of A")(_of_parent(_verb))


@istriu.rule(Transpose, cost="cost of istril of A")
def _(A: Transpose, *, rtol: float | None = None) -> jax.Array:
    """Whether A is lower triangular."""
    return istril(A.parent, rtol=rtol)


@istril.rule(Transpose, cost="cost of istriu of A")
def _(A: Transpose, *, rtol: float | None = None) -> jax.Array:
    """Whether A is upper triangular."""
    return istriu(A.parent, rtol=rtol)


# --- multiples ---


def _phase(alpha: jax.Array) -> jax.Array:
    """α / |α|, and 1 for 0."""
    modulus = jnp.abs(alpha)
    return jnp.where(modulus > 0, alpha / jnp.where(modulus > 0, modulus, 1), 1)


@svdvals.rule(Scaled, cost="cost of svdvals of A")
def _(A: Scaled) -> jax.Array:
    """|α| times those of A."""
    return jnp.abs(A.alpha) * svdvals(A.parent)


@svd.rule(Scaled, cost="cost of svd of A plus O(mk)")
def _(A: Scaled, *, full: bool = False) -> SVD:
    """α A = (U α/|α|) diag(|α| S) Vᴴ."""
    U, S, Vt = svd(A.parent, full=full)
    k = S.shape[0]
    left = U.astype(jnp.result_type(U, A.alpha))
    return SVD(left.at[:, :k].multiply(_phase(A.alpha)), jnp.abs(A.alpha) * S, Vt.astype(left.dtype))


@norm.rule(Scaled, cost="cost of norm of A")
def _(A: Scaled, p: float = 2) -> jax.Array:
    """|α| times that of A."""
    return jnp.abs(A.alpha) * norm(A.parent, p)


@opnorm.rule(Scaled, cost="cost of opnorm of A")
def _(A: Scaled, p: float = 2) -> jax.Array:
    """|α| times that of A."""
    return jnp.abs(A.alpha) * opnorm(A.parent, p)


@eigvals.rule(Scaled, cost="cost of eigvals of A")
def _(A: Scaled) -> jax.Array:
    """α times those of A."""
    return sorted_eigenvalues(A.alpha * eigvals(A.parent))


@eigen.rule(Scaled, cost="cost of eigen of A")
def _(A: Scaled) -> Eigen:
    """α times the values of A, and its vectors."""
    w, V = eigen(A.parent)
    return sorted_eigen(A.alpha * w, V)


@logabsdet.rule(Scaled, cost="cost of logabsdet of A")
def _(A: Scaled) -> LogAbsDet:
    """n log |α| more than that of A."""
    logs, sign = logabsdet(A.parent)
    n = A.shape[0]
    factor = sum_logabsdet(jnp.broadcast_to(A.alpha.astype(compute_dtype(A.dtype)), (n,)))
    return LogAbsDet(logs + factor.logabs, sign * factor.sign)


@schur.rule(Scaled, cost="cost of schur of A")
def _(A: Scaled) -> Schur:
    """α A = Z (α T) Zᴴ."""
    T, Z, values = schur(A.parent)
    return Schur(A.alpha * T, Z, A.alpha * values)


@polar.rule(Scaled, cost="cost of polar of A")
def _(A: Scaled) -> Polar:
    """α A = (U α/|α|) (|α| P)."""
    U, P = polar(A.parent)
    U = _phase(A.alpha) * U
    return Polar(U, (jnp.abs(A.alpha) * P).astype(U.dtype))


@inv.rule(Scaled, cost="cost of inv of A")
def _(A: Scaled) -> LinearOperator:
    """A⁻¹ / α."""
    require_nonzero(A.alpha[None], "inv")
    return scale(inv(A.parent), 1 / A.alpha)


@solve.rule(Scaled, cost="cost of solve with A")
@by_columns
def _(A: Scaled, b: jax.Array) -> jax.Array:
    """A \\ b, divided by α."""
    if A.shape[0] != A.shape[1]:
        return lstsq(A, b)
    require_nonzero(A.alpha[None], "solve")
    return solve(A.parent, b) / A.alpha


# --- products ---


def _inner(A: Product) -> LinearOperator:
    """A without the unitary factors at its ends; A itself if there are none."""
    factors = list(A.factors)
    while len(factors) > 1 and factors[0].unitary:
        factors.pop(0)
    while len(factors) > 1 and factors[-1].unitary:
        factors.pop()
    if len(factors) == len(A.factors):
        return A
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


@svdvals.rule(Product, cost="cost of svdvals without unitary factors at the ends, else O(mn min(m, n))")
def _(A: Product) -> jax.Array:
    """Those without unitary factors at the ends."""
    inner = _inner(A)
    values = svdvals.fallback(A) if inner is A else svdvals(inner)
    return values.astype(jnp.finfo(compute_dtype(A.dtype)).dtype)


def _all_square(A: Product) -> bool:
    return all(f.shape[0] == f.shape[1] for f in A.factors)


@det.rule(Product, cost="cost of det of the factors, O(n³) unless they are square")
def _(A: Product) -> jax.Array:
    """Product of those of the factors, if they are square."""
    if not _all_square(A):
        return det.fallback(A)
    product = jnp.ones((), compute_dtype(A.dtype))
    for factor in A.factors:
        product = product * det(factor)
    return product


@logabsdet.rule(Product, cost="cost of logabsdet of the factors, O(n³) unless they are square")
def _(A: Product) -> LogAbsDet:
    """Sum of those of the factors, if they are square."""
    if not _all_square(A):
        return logabsdet.fallback(A)
    logs, sign = jnp.zeros((), jnp.finfo(compute_dtype(A.dtype)).dtype), jnp.ones((), compute_dtype(A.dtype))
    for factor in A.factors:
        part = logabsdet(factor)
        logs, sign = logs + part.logabs, sign * part.sign
    return LogAbsDet(logs, sign)


@inv.rule(Product, cost="cost of inv of the factors, O(n³) unless they are square")
def _(A: Product) -> LinearOperator:
    """Inverses of the factors in reverse order, if they are square."""
    if not _all_square(A):
        return inv.fallback(A)
    result = inv(A.factors[-1])
    for factor in reversed(A.factors[:-1]):
        result = result @ inv(factor)
    return result


@solve.rule(Product, cost="cost of solve with the factors, O(n³) unless they are square")
@by_columns
def _(A: Product, b: jax.Array) -> jax.Array:
    """Solves with one factor after the other, if they are square."""
    if not _all_square(A):
        return solve.fallback(A, b) if A.shape[0] == A.shape[1] else lstsq(A, b)
    for factor in A.factors:
        b = solve(factor, b)
    return b
