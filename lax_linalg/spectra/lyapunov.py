"""Lyapunov exponents of a product of Jacobians, by QR accumulation so that neither growth nor decay overflows."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.batch import Batch
from lax_linalg.core.dispatch import of_finite
from lax_linalg.dense import platform
from lax_linalg.errors import DimensionMismatch
from lax_linalg.verbs.basic import compute_dtype


class Lyapunov(NamedTuple):
    """Growth rates of a product of T matrices.

    Attributes:
        exponents: [k], descending; nats a step.
        standard_error: [k], of each exponent, from the means of about √T consecutive batches of steps.
        growth: [T − burn_in, k], log of the diagonal of R at each step, whose mean the exponents are.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.lyapunov_exponents(jnp.stack([jnp.eye(2)] * 4)).growth.shape
        (4, 2)
    """

    exponents: jax.Array
    standard_error: jax.Array
    growth: jax.Array


def lyapunov_exponents(steps: jax.Array | Batch, *, k: int | None = None, burn_in: int = 0) -> Lyapunov:
    """Lyapunov exponents of J_T ⋯ J_2 J_1: μ_i = (1/T) Σ_t log R_t[i, i], with J_t Q_{t−1} = Q_t R_t.

    The sum of the first i exponents is the growth rate of i-dimensional volumes; e^{T μ_1} that of almost every vector.
    For finite T they differ by O(1/T) from (1/T) log σ_i(J_T ⋯ J_1), to which they tend (Oseledets).

    Args:
        steps: the Jacobians in the order of time, [T, n, n] or a `Batch` of operators such as `la.recurrent_jacobians`
            gives, of which only the products with k vectors are taken: `steps[0]` acts first.
        k: how many exponents, the largest ones; all n unless given.
        burn_in: steps at the start that turn the basis but are not counted.

    Returns:
        `Lyapunov(exponents, standard_error, growth)`; −inf where the product is singular.

    Raises:
        DimensionMismatch: unless steps is [T, n, n] with T > burn_in and 0 < k ≤ n.
        NonFiniteError: on NaN or infinity; the results are NaN under ``jit``.

    Cost: O(T n² k) FLOPs, one scan.

    Example:
        >>> import jax.numpy as jnp
        >>> J = jnp.stack([jnp.diag(jnp.array([2.0, 0.5]))] * 300)  # the product itself would overflow
        >>> print(jnp.round(lyapunov_exponents(J).exponents / jnp.log(2), 4))
        [ 1. -1.]

    Source: Benettin et al., Meccanica 15 (1980); Geist, Parlitz & Lauterborn, Prog. Theor. Phys. 83 (1990), sec. 3.
    """
    total, n = _require_steps(steps, "lyapunov_exponents")
    k = n if k is None else k
    if not 0 < k <= n:
        raise DimensionMismatch(f"k must be between 1 and n = {n}, got {k}")
    if not 0 <= burn_in < total:
        raise DimensionMismatch(f"burn_in must be between 0 and T − 1 = {total - 1}, got {burn_in}")
    return of_finite("lyapunov_exponents", (steps,), lambda steps: _exponents(steps, k, burn_in))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _exponents(steps: jax.Array | Batch, k: int, burn_in: int) -> Lyapunov:
    def advance(basis: jax.Array, members: Any) -> tuple[jax.Array, jax.Array]:
        basis, R = jnp.linalg.qr(_applied(steps, members, basis))
        return basis, jnp.log(jnp.abs(jnp.diagonal(R)))

    _, growth = jax.lax.scan(advance, jnp.eye(steps.shape[1], k, dtype=compute_dtype(steps.dtype)), _members(steps))
    growth = growth[burn_in:]
    exponents = jnp.mean(growth, axis=0)
    order = jnp.argsort(-exponents)
    return Lyapunov(exponents[order], _standard_error(growth)[order], growth[:, order])


class FiniteTimeLyapunov(NamedTuple):
    """Singular values of a product of T matrices, in logarithms.

    Attributes:
        exponents: [n], (1/T) log σ_i(J_T ⋯ J_1), descending; nats a step.
        log_svdvals: [n], log σ_i of the product itself.
        bound: |error| of every entry of log_svdvals is at most this, rounding of the factorisations aside.
        passes: how many sweeps over time it took.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> print(la.finite_time_lyapunov(jnp.stack([jnp.eye(2)] * 4)).log_svdvals)
        [0. 0.]
    """

    exponents: jax.Array
    log_svdvals: jax.Array
    bound: jax.Array
    passes: jax.Array


def finite_time_lyapunov(
    steps: jax.Array | Batch, *, tol: float | None = None, max_passes: int = 50
) -> FiniteTimeLyapunov:
    """Finite-time Lyapunov exponents (1/T) log σ_i of the product J_T ⋯ J_1, which is never formed.

    A QR sweep turns the product into Q R_T ⋯ R_1 with triangular factors; sweeps over the transposed factors from
    alternating ends leave the singular values as they are and drive the product of the R_t to diagonal form. With D its
    diagonal and the product written as D U, U unit triangular, log σ_max(U) and −log σ_min(U) bound every error.

    Args:
        steps: the Jacobians in the order of time, [T, n, n] or a `Batch` of operators: `steps[0]` acts first.
        tol: stop when the bound is at most this; 100 n ε unless given.
        max_passes: stop after so many sweeps in any case. Nearly equal singular values of a short product take many.

    Returns:
        `FiniteTimeLyapunov(exponents, log_svdvals, bound, passes)`; −inf where the product is singular, and then the
        bound may be infinite.

    Raises:
        DimensionMismatch: unless steps is [T, n, n], max_passes ≥ 1.
        NonFiniteError: on NaN or infinity; the results are NaN under ``jit``.

    Cost: O(T n³) FLOPs a sweep, O(T n²) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> J = jnp.stack([jnp.array([[4.0, 1.0], [0.0, 0.25]])] * 100)  # σ₁ of the product is above 10^60
        >>> found = finite_time_lyapunov(J)
        >>> print(jnp.round(found.exponents / jnp.log(4), 2), bool(found.bound < 1e-3))
        [ 1. -1.] True

    Source: Stewart, On graded QR decompositions of products of matrices, ETNA 3 (1995), for the sweeps; Eisenstat &
        Ipsen, SIAM J. Numer. Anal. 32 (1995), for the multiplicative perturbation bound.
    """
    _, n = _require_steps(steps, "finite_time_lyapunov")
    if max_passes < 1:
        raise DimensionMismatch(f"max_passes must be ≥ 1, got {max_passes}")
    dtype = compute_dtype(steps.dtype)
    tol = 100 * n * float(jnp.finfo(dtype).eps) if tol is None else tol
    return of_finite("finite_time_lyapunov", (steps,), lambda steps: _product(steps, tol, max_passes))


@jax.jit
def _product(steps: jax.Array | Batch, tol: float, max_passes: int) -> FiniteTimeLyapunov:
    (total, n, _), dtype = steps.shape, compute_dtype(steps.dtype)

    def sweep(factors: Any, applied: Any) -> jax.Array:
        def advance(basis: jax.Array, member: Any) -> tuple[jax.Array, jax.Array]:
            Q, R = jnp.linalg.qr(applied(member, basis))
            return Q, R  # a plain pair, which jax 0.11's result is not

        return jax.lax.scan(advance, jnp.eye(n, dtype=dtype), factors)[1]

    def improve(state: tuple) -> tuple:
        R = sweep(jnp.flip(state[0], 0).mT.conj(), lambda J, basis: J @ basis)
        return R, *_graded(R), state[3] + 1

    R = sweep(_members(steps), lambda member, basis: _applied(steps, member, basis))
    first = (R, *_graded(R), jnp.ones((), jnp.int32))
    _, logs, bound, passes = jax.lax.while_loop(
        lambda state: (state[2] > tol) & (state[3] < max_passes), improve, first
    )
    logs = -jnp.sort(-logs)
    return FiniteTimeLyapunov(logs / total, logs, bound, passes)


def _graded(R: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log |D| and the bound on the singular values, of the product R_T ⋯ R_1 = D U of triangular factors [T, n, n]."""
    n, real = R.shape[-1], jnp.finfo(R.dtype).dtype

    def advance(state: tuple, R: jax.Array) -> tuple[tuple, None]:
        # R D U = (D' N') U with N' = D⁻¹ (diag(R)⁻¹ R) D, whose entries are those of a graded matrix, ratios of D
        logs, phase, U = state
        d = jnp.diagonal(R)
        N = R / jnp.where(d == 0, 1, d)[:, None]
        gaps = logs[None, :] - logs[:, None]
        ratio = jnp.exp(jnp.where(jnp.isnan(gaps), 0, gaps)) * phase[None, :] / phase[:, None]
        N = jnp.where(N == 0, 0, N * ratio)
        N = jnp.where(jnp.eye(n, dtype=bool), 1, N)
        turned = phase * jnp.where(d == 0, 1, d / jnp.where(d == 0, 1, jnp.abs(d)))
        return (logs + jnp.log(jnp.abs(d)), turned, N @ U), None

    start = (jnp.zeros(n, real), jnp.ones(n, R.dtype), jnp.eye(n, dtype=R.dtype))
    (logs, _, U), _ = jax.lax.scan(advance, start, R)
    finite = jnp.isfinite(U).all()
    s = platform.svdvals(jnp.where(finite, U, jnp.eye(n, dtype=R.dtype)))
    bound = jnp.maximum(jnp.log(s[0]), -jnp.log(s[-1]))
    return logs, jnp.where(finite, bound, jnp.where(jnp.isnan(logs).any(), jnp.nan, jnp.inf))


def _require_steps(steps: jax.Array | Batch, name: str) -> tuple[int, int]:
    """T and n of Jacobians [T, n, n]."""
    if len(jnp.shape(steps)) != 3 or steps.shape[1] != steps.shape[2]:
        raise DimensionMismatch(f"{name} takes Jacobians [T, n, n], got shape {list(jnp.shape(steps))}")
    return steps.shape[0], steps.shape[1]


def _members(steps: jax.Array | Batch) -> Any:
    """What a scan over the steps runs over."""
    return steps.x if isinstance(steps, Batch) else steps


def _applied(steps: jax.Array | Batch, member: Any, basis: jax.Array) -> jax.Array:
    """The product of one step with columns."""
    if isinstance(steps, Batch):
        return (steps.make(member, *steps.args) @ basis).astype(basis.dtype)
    return member.astype(basis.dtype) @ basis


def _standard_error(growth: jax.Array) -> jax.Array:
    """Standard error of the mean over time, from batch means, which allow for correlation between neighbours."""
    total = growth.shape[0]
    batches = max(1, int(total**0.5))
    length = total // batches
    means = jnp.mean(growth[: batches * length].reshape(batches, length, -1), axis=1)
    if batches == 1:
        return jnp.full(growth.shape[1:], jnp.nan, growth.dtype)
    return jnp.std(means, axis=0, ddof=1) / batches**0.5
