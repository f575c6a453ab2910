"""Verbs of lazy transposes: those of the operator inside, with columns and rows exchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import Verb
from lax_linalg.core.eager_checks import known_not_finite
from lax_linalg.core.operator import LinearOperator
from lax_linalg.operators.lazy import Transpose, own_transpose
from lax_linalg.verbs.arithmetic import transpose
from lax_linalg.verbs.cholesky import Cholesky, cholesky
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet
from lax_linalg.verbs.eigen import eigen, eigvals
from lax_linalg.verbs.functions import exp, log, power, sqrt, whole_exponent
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
from lax_linalg.verbs.solve import by_columns, inv, lstsq, pinv, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


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
def _(A: Transpose, p: complex | jax.Array) -> LinearOperator:
    """(Aᵖ)ᵀ."""
    return A if whole_exponent(p) == 1 else transpose(power(A.parent, p))


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
