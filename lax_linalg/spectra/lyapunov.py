"""Lyapunov exponents of a product of Jacobians, by QR accumulation so that neither growth nor decay overflows."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

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


def lyapunov_exponents(steps: jax.Array, *, k: int | None = None, burn_in: int = 0) -> Lyapunov:
    """Lyapunov exponents of J_T ⋯ J_2 J_1: μ_i = (1/T) Σ_t log R_t[i, i], with J_t Q_{t−1} = Q_t R_t.

    The sum of the first i exponents is the growth rate of i-dimensional volumes; e^{T μ_1} that of almost every vector.
    For finite T they differ by O(1/T) from (1/T) log σ_i(J_T ⋯ J_1), to which they tend (Oseledets).

    Args:
        steps: the Jacobians in the order of time, [T, n, n]: `steps[0]` acts first.
        k: how many exponents, the largest ones; all n unless given.
        burn_in: steps at the start that turn the basis but are not counted.

    Returns:
        `Lyapunov(exponents, standard_error, growth)`; −inf where the product is singular.

    Raises:
        DimensionMismatch: unless steps is [T, n, n] with T > burn_in and 0 < k ≤ n.

    Cost: O(T n² k) FLOPs, one scan.

    Example:
        >>> import jax.numpy as jnp
        >>> J = jnp.stack([jnp.diag(jnp.array([2.0, 0.5]))] * 300)  # the product itself would overflow
        >>> print(jnp.round(lyapunov_exponents(J).exponents / jnp.log(2), 4))
        [ 1. -1.]

    Source: Benettin et al., Meccanica 15 (1980); Geist, Parlitz & Lauterborn, Prog. Theor. Phys. 83 (1990), sec. 3.
    """
    if jnp.ndim(steps) != 3 or steps.shape[1] != steps.shape[2]:
        raise DimensionMismatch(f"lyapunov_exponents takes Jacobians [T, n, n], got shape {list(jnp.shape(steps))}")
    total, n = steps.shape[:2]
    k = n if k is None else k
    if not 0 < k <= n:
        raise DimensionMismatch(f"k must be between 1 and n = {n}, got {k}")
    if not 0 <= burn_in < total:
        raise DimensionMismatch(f"burn_in must be between 0 and T − 1 = {total - 1}, got {burn_in}")

    dtype = compute_dtype(steps.dtype)

    def advance(basis: jax.Array, J: jax.Array) -> tuple[jax.Array, jax.Array]:
        basis, R = jnp.linalg.qr(J.astype(dtype) @ basis)
        return basis, jnp.log(jnp.abs(jnp.diagonal(R)))

    _, growth = jax.lax.scan(advance, jnp.eye(n, k, dtype=dtype), steps)
    growth = growth[burn_in:]
    exponents = jnp.mean(growth, axis=0)
    order = jnp.argsort(-exponents)
    return Lyapunov(exponents[order], _standard_error(growth)[order], growth[:, order])


def _standard_error(growth: jax.Array) -> jax.Array:
    """Standard error of the mean over time, from batch means, which allow for correlation between neighbours."""
    total = growth.shape[0]
    batches = max(1, int(total**0.5))
    length = total // batches
    means = jnp.mean(growth[: batches * length].reshape(batches, length, -1), axis=1)
    if batches == 1:
        return jnp.full(growth.shape[1:], jnp.nan, growth.dtype)
    return jnp.std(means, axis=0, ddof=1) / batches**0.5
