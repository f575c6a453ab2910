"""Verbs of lazy transposes, multiples and products, read off what the operators inside of them know.

Aᵀ and α A have the spectra of A up to a conjugation or a factor, so that they never form a matrix that A's own rules
do not form. Products of square operators have the determinants and the systems of their factors one by one, and
unitary factors at either end leave singular values as they are.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.operators.base import LinearOperator
from lax_linalg.operators.lazy import Product, Scaled, Transpose
from lax_linalg.verbs.arithmetic import scale, transpose
from lax_linalg.verbs.basic import compute_dtype
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, sum_logabsdet
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigen, sorted_eigenvalues
from lax_linalg.verbs.functions import exp
from lax_linalg.verbs.norms import cond, norm, opnorm, require_p
from lax_linalg.verbs.predicates import isnormal, isunitary
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


@inv.rule(Transpose, cost="cost of inv of A")
def _(A: Transpose) -> LinearOperator:
    """(A⁻¹)ᵀ."""
    return transpose(inv(A.parent))


@pinv.rule(Transpose, cost="cost of pinv of A")
def _(A: Transpose, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """(A⁺)ᵀ."""
    return transpose(pinv(A.parent, rtol=rtol, atol=atol))


@isunitary.rule(Transpose, cost="cost of isunitary of A")
def _(A: Transpose, *, rtol: float | None = None) -> jax.Array:
    """Whether A is."""
    return isunitary(A.parent, rtol=rtol)


@isnormal.rule(Transpose, cost="cost of isnormal of A")
def _(A: Transpose, *, rtol: float | None = None) -> jax.Array:
    """Whether A is."""
    return isnormal(A.parent, rtol=rtol)


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
