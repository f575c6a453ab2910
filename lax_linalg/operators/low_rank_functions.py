"""Functions of λI + U Vᴴ, from matrices of size k: f(λI + U Vᴴ) = f(λ)I + U g(VᴴU) Vᴴ.

The divided difference g(M) = (f(λI + M) − f(λ)I) M⁻¹ is a corner of f([[λI + M, I], [0, λI]]), in which nothing is
divided by M. Householder reflectors and their products are such matrices, with λ = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.dispatch import Verb
from lax_linalg.core.eager_checks import above_rounding, decided, known_not_finite, require_differentiable
from lax_linalg.core.operator import LinearOperator
from lax_linalg.operators.diagonal_plus_low_rank import DiagonalPlusLowRank
from lax_linalg.operators.householder import Householder, HouseholderProduct, as_low_rank_update, determinants
from lax_linalg.operators.low_rank import LowRank
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.basic import compute_dtype
from lax_linalg.verbs.functions import (
    exp,
    log,
    matrix_exponential,
    power,
    principal_difference,
    rootless,
    sqrt,
    whole_exponent,
)
from lax_linalg.verbs.solve import inv


class _Parts(NamedTuple):
    """λ, U [n, k], V [n, k] and M = VᴴU [k, k]."""

    value: jax.Array
    U: jax.Array
    V: jax.Array
    M: jax.Array

    def result(self, value: jax.Array, core: jax.Array) -> DiagonalPlusLowRank:
        """The matrix `value` I + U `core` Vᴴ."""
        return DiagonalPlusLowRank(UniformScaling(value, self.U.shape[0]), self.U @ core, self.V)


def _parts(A: LinearOperator) -> _Parts | None:
    """A as λI + U Vᴴ; None if it is not, or if matrices of size 2k are no smaller than A."""
    dtype = compute_dtype(A.dtype)
    if isinstance(A, (Householder, HouseholderProduct)):
        parts = _Parts(jnp.ones((), dtype), *as_low_rank_update(A))
    else:
        assert isinstance(A, (LowRank, DiagonalPlusLowRank))
        base = UniformScaling(jnp.zeros((), dtype)) if isinstance(A, LowRank) else A.base
        if not isinstance(base, UniformScaling):
            return None
        value, U, V = (x.astype(dtype) for x in (base.value, A.U, A.V))
        parts = _Parts(value, U, V, V.conj().T @ U)
    n, k = parts.U.shape
    return parts if 0 < 2 * k < n else None


_COST = "O(nk² + k³) for λI + U Vᴴ, O(n³) else"


def _exp(A: LinearOperator) -> LinearOperator:
    """e^λ (I + U φ(VᴴU) Vᴴ), φ(M) = (e^M − I)/M, where A = λI + U Vᴴ; else of the materialised matrix."""
    parts = _parts(A)
    if parts is None:
        return exp.fallback(A)
    # φ(M) is a corner of the exponential of [[M, I], [0, 0]]
    k, zero = parts.M.shape[0], jnp.zeros_like(parts.M)
    blocks = jnp.block([[parts.M, jnp.eye(k, dtype=zero.dtype)], [zero, zero]])
    growth = jnp.exp(parts.value)
    return parts.result(growth, growth * matrix_exponential(blocks)[:k, k:])


def _log(A: LinearOperator) -> LinearOperator:
    """log(λ)I + U G Vᴴ, G a corner of log [[λI + VᴴU, I], [0, λI]], where A = λI + U Vᴴ; else as a matrix."""
    return _principal(log, A)


def _sqrt(A: LinearOperator) -> LinearOperator:
    """√λI + U G Vᴴ, G a corner of the root of [[λI + VᴴU, I], [0, λI]], where A = λI + U Vᴴ; else as a matrix."""
    return _principal(sqrt, A)


def _principal(verb: Verb, A: LinearOperator) -> LinearOperator:
    parts = _parts(A)
    if parts is None:
        return verb.fallback(A)
    value, core = principal_difference(verb.name, parts.value, parts.M)
    if known_not_finite(jnp.append(core, value)):
        if verb is sqrt and decided(parts.value == 0):  # U Vᴴ may have a root with VᴴU singular, too
            return verb.fallback(A)
        raise rootless(verb.name, _zero_pivot(A))
    if isinstance(core, Tracer) and verb is sqrt:
        shifted = parts.M + parts.value * jnp.eye(parts.M.shape[0], dtype=parts.M.dtype)
        pivots = jnp.append(jnp.diagonal(jax.lax.linalg.lu(jax.lax.stop_gradient(shifted))[0]), parts.value)
        exists = above_rounding(jax.lax.stop_gradient(pivots), A.shape[0])
        require_differentiable(core, exists, "sqrt has no derivative at a singular matrix")
    return parts.result(value, core)


def _zero_pivot(A: LinearOperator) -> int | None:
    """The number of a reflector that is singular, or the rank of a matrix that is no more than of low rank."""
    if isinstance(A, (Householder, HouseholderProduct)):
        return int(jnp.argmin(jnp.abs(determinants(A))))
    assert isinstance(A, DiagonalPlusLowRank)
    assert isinstance(A.base, UniformScaling)
    return A.U.shape[1] if decided(A.base.value == 0) else None


@power.rule(DiagonalPlusLowRank, cost="O(nk² + k³ log p) for λI + U Vᴴ and integers p, O(n³ log p) else")
def _(A: DiagonalPlusLowRank, p: complex | jax.Array) -> LinearOperator:
    """λᵖI + U G Vᴴ, G a corner of [[λI + VᴴU, I], [0, λI]]ᵖ for integers p; by log and exp else."""
    parts, whole = _parts(A), whole_exponent(p)
    if parts is None or whole is None or whole in (0, 1) or not jnp.issubdtype(A.dtype, jnp.inexact):
        return power.fallback(A, p)
    if whole < 0:
        return power(inv(A), -whole)
    k, one = parts.M.shape[0], jnp.eye(parts.M.shape[0], dtype=parts.M.dtype)
    blocks = jnp.block([[parts.value * one + parts.M, one], [0 * one, parts.value * one]])
    result = jnp.linalg.matrix_power(blocks, whole)
    return parts.result(parts.value**whole, result[:k, k:])


@power.rule(Householder, cost="O(n) for integers p")
def _(A: Householder, p: complex | jax.Array) -> LinearOperator:
    """A or I for a reflection, I − τ (1 + μ + … + μ^{p−1}) v vᴴ with μ = det A else; by log and exp for other p."""
    whole = whole_exponent(p)
    if whole is None:
        return power.fallback(A, p)
    if A.unitary or A.tau is None:
        return A if whole % 2 else UniformScaling(jnp.ones((), A.dtype), A.shape[0])
    if whole < 0:
        return power(inv(A), -whole)
    mu = determinants(A)[0]
    one = jnp.ones_like(mu)
    sums = jnp.linalg.matrix_power(jnp.stack([jnp.stack([mu, one]), jnp.stack([0 * one, one])]), whole)[0, 1]
    return Householder(A.v, (A.tau * sums).astype(A.dtype))


for _structure in (DiagonalPlusLowRank, Householder, HouseholderProduct, LowRank):
    exp.rule(_structure, cost=_COST)(_exp)
for _structure in (DiagonalPlusLowRank, Householder, HouseholderProduct):
    log.rule(_structure, cost=_COST)(_log)
    sqrt.rule(_structure, cost=_COST)(_sqrt)
