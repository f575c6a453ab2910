"""Verbs of lazy multiples and products, read off what the operators inside of them know.

α A has the spectra of A up to a factor, so that it never forms a matrix that A's own rules do not form. Products of
square operators have the determinants and the systems of their factors one by one, and unitary factors at either end
leave singular values as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import Verb
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense.scaling import moduli, phases
from lax_linalg.operators.lazy import Product, Scaled
from lax_linalg.verbs.arithmetic import scale
from lax_linalg.verbs.basic import compute_dtype
from lax_linalg.verbs.det import LogAbsDet, det, each_logabsdet, logabsdet, product_of_dets, sum_logabsdet
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigen, sorted_eigenvalues
from lax_linalg.verbs.lu import LU, lu
from lax_linalg.verbs.norms import norm, opnorm
from lax_linalg.verbs.polar import Polar, polar
from lax_linalg.verbs.predicates import (
    isdiag,
    isnormal,
    issymmetric,
    istril,
    istriu,
)
from lax_linalg.verbs.qr import QR, qr
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, inv, lstsq, pinv, require_nonzero, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals

# --- multiples ---


@svdvals.rule(Scaled, cost="cost of svdvals of A")
def _(A: Scaled) -> jax.Array:
    """|α| times those of A."""
    return moduli(A.alpha) * svdvals(A.parent)


@svd.rule(Scaled, cost="cost of svd of A plus O(mk)")
def _(A: Scaled, *, full: bool = False) -> SVD:
    """α A = (U α/|α|) diag(|α| S) Vᴴ."""
    U, S, Vt = svd(A.parent, full=full)
    k = S.shape[0]
    left = U.astype(jnp.result_type(U, A.alpha))
    return SVD(left.at[:, :k].multiply(phases(A.alpha)), moduli(A.alpha) * S, Vt.astype(left.dtype))


@norm.rule(Scaled, cost="cost of norm of A")
def _(A: Scaled, p: float = 2) -> jax.Array:
    """|α| times that of A."""
    return moduli(A.alpha) * norm(A.parent, p)


@opnorm.rule(Scaled, cost="cost of opnorm of A")
def _(A: Scaled, p: float = 2) -> jax.Array:
    """|α| times that of A."""
    return moduli(A.alpha) * opnorm(A.parent, p)


@eigvals.rule(Scaled, cost="cost of eigvals of A")
def _(A: Scaled) -> jax.Array:
    """α times those of A."""
    return sorted_eigenvalues(A.alpha * eigvals(A.parent))


@eigen.rule(Scaled, cost="cost of eigen of A")
def _(A: Scaled) -> Eigen:
    """α times the values of A, and its vectors."""
    w, V = eigen(A.parent)
    return sorted_eigen(A.alpha * w, V)


def _multiples(A: Scaled) -> jax.Array:
    """α, n times: factors of det(α A)."""
    return jnp.broadcast_to(A.alpha.astype(compute_dtype(A.dtype)), A.shape[:1])


@det.rule(Scaled, cost="cost of det of A")
def _(A: Scaled) -> jax.Array:
    """αⁿ times that of A."""

    def dets(A: Scaled) -> jax.Array:
        return jnp.append(_multiples(A), det(A.parent))

    def logabsdets(A: Scaled) -> LogAbsDet:
        return LogAbsDet(*map(jnp.append, each_logabsdet(_multiples(A)), logabsdet(A.parent)))

    return product_of_dets(A, dets, logabsdets)


@logabsdet.rule(Scaled, cost="cost of logabsdet of A")
def _(A: Scaled) -> LogAbsDet:
    """n log |α| more than that of A."""
    logs, sign = logabsdet(A.parent)
    factor = sum_logabsdet(_multiples(A))
    return LogAbsDet(logs + factor.logabs, sign * factor.sign)


@qr.rule(Scaled, cost="cost of qr of A")
def _(A: Scaled) -> QR:
    """α A = Q (α R)."""
    Q, R = qr(A.parent)
    R = A.alpha * R
    return QR(Q.astype(R.dtype), R)


@lu.rule(Scaled, cost="cost of lu of A")
def _(A: Scaled) -> LU:
    """(α A)[p] = L (α U)."""
    L, U, p = lu(A.parent)
    U = A.alpha * U
    return LU(L.astype(U.dtype), U, p)


@schur.rule(Scaled, cost="cost of schur of A")
def _(A: Scaled) -> Schur:
    """α A = Z (α T) Zᴴ."""
    T, Z, values = schur(A.parent)
    return Schur(A.alpha * T, Z, A.alpha * values)


@polar.rule(Scaled, cost="cost of polar of A")
def _(A: Scaled) -> Polar:
    """α A = (U α/|α|) (|α| P)."""
    U, P = polar(A.parent)
    U = phases(A.alpha) * U
    return Polar(U, (moduli(A.alpha) * P).astype(U.dtype))


@inv.rule(Scaled, cost="cost of inv of A")
def _(A: Scaled) -> LinearOperator:
    """A⁻¹ / α."""
    require_nonzero(A.alpha[None], "inv")
    return scale(inv(A.parent), 1 / A.alpha)


def _reciprocal(A: Scaled) -> tuple[jax.Array, jax.Array]:
    """1/α and |α|; 0 and 1 for α = 0, whose pseudo-inverse is 0."""
    nonzero = A.alpha != 0
    safe = jnp.where(nonzero, A.alpha, 1)
    return jnp.where(nonzero, 1 / safe, 0), moduli(safe)


@pinv.rule(Scaled, cost="cost of pinv of A")
def _(A: Scaled, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """A⁺ / α."""
    reciprocal, modulus = _reciprocal(A)
    return scale(pinv(A.parent, rtol=rtol, atol=atol / modulus), reciprocal)


@lstsq.rule(Scaled, cost="cost of lstsq with A")
@by_columns
def _(A: Scaled, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """A⁺ b, divided by α."""
    reciprocal, modulus = _reciprocal(A)
    return reciprocal * lstsq(A.parent, b, rtol=rtol, atol=atol / modulus)


def _of_multiple(verb: Verb) -> Callable[..., jax.Array]:
    def of_scaled(A: Scaled, *, rtol: float | None = None) -> jax.Array:
        """Whether A is; true of α = 0."""
        zero = (A.alpha == 0) & (verb not in (issymmetric, isnormal) or A.shape[0] == A.shape[1])
        return verb(A.parent, rtol=rtol) | zero

    return of_scaled


for _verb in (issymmetric, isnormal, isdiag, istriu, istril):
    _verb.rule(Scaled, cost=f"cost of {_verb.name} of A")(_of_multiple(_verb))


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
    return product_of_dets(A, _dets, _logabsdets)


def _dets(A: Product) -> jax.Array:
    return jnp.stack([det(f).astype(compute_dtype(A.dtype)) for f in A.factors])


def _logabsdets(A: Product) -> LogAbsDet:
    dtype = compute_dtype(A.dtype)
    parts = [logabsdet(f) for f in A.factors]
    logs = jnp.stack([p.logabs.astype(jnp.finfo(dtype).dtype) for p in parts])
    return LogAbsDet(logs, jnp.stack([p.sign.astype(dtype) for p in parts]))


@logabsdet.rule(Product, cost="cost of logabsdet of the factors, O(n³) unless they are square")
def _(A: Product) -> LogAbsDet:
    """Sum of those of the factors, if they are square."""
    if not _all_square(A):
        return logabsdet.fallback(A)
    logs, signs = _logabsdets(A)
    return LogAbsDet(jnp.sum(logs), jnp.prod(signs))


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
