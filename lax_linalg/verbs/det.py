"""Determinants, on the linear and on the logarithmic scale."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.concrete import decided, require_differentiable
from lax_linalg.dispatch import verb
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.operators.base import LinearOperator
from lax_linalg.verbs.basic import dense


class LogAbsDet(NamedTuple):
    """det A = sign · exp(logabs); sign is ±1 or 0 for real A and on the unit circle for complex A.

    Example:
        >>> import lax_linalg as la
        >>> logabs, sign = la.logabsdet([[-1.0]])
        >>> float(logabs), float(sign)
        (0.0, -1.0)
    """

    logabs: jax.Array
    sign: jax.Array


def sum_logabsdet(d: jax.Array) -> LogAbsDet:
    """log |∏ d_i| and its sign from the factors d [n] of a determinant.

    Example:
        >>> import jax.numpy as jnp
        >>> float(sum_logabsdet(jnp.array([-1.0, 1.0])).sign)
        -1.0
    """
    modulus = jnp.abs(d)
    nonzero = modulus > 0
    phase = jnp.where(nonzero, d / jnp.where(nonzero, modulus, 1), 0)
    logs = jnp.where(nonzero, jnp.log(jnp.where(nonzero, modulus, 1)), -jnp.inf)
    logabs, sign = jnp.sum(logs), jnp.prod(phase)
    require_regular(logabs, sign)
    return LogAbsDet(logabs, sign)


def require_regular(logabs: jax.Array, sign: jax.Array) -> None:
    """Raise `NotDifferentiableError` if log |det A| is being differentiated where A is singular.

    Example:
        >>> require_regular(jnp.array(-jnp.inf), jnp.array(0.0))  # not being differentiated
    """
    message = "logabsdet has no derivative at a singular matrix, where it is −∞; la.det has"
    require_differentiable(logabs, sign != 0, message)


@verb(algorithm="LU of the materialised matrix.", cost="O(n³)", square=True)
def det(A: LinearOperator) -> jax.Array:
    """Determinant; for many factors it over- or underflows, `logabsdet` does not.

    Args:
        A: square operator or array [n, n].

    Returns:
        A scalar; 1 for the empty matrix, 0 for a singular one (where its gradient, the cofactors, is still right).

    Raises:
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> float(la.det([[2.0, 0.0], [0.0, 4.0]]))
        8.0
    """
    return jnp.linalg.det(dense(A))


@verb(algorithm="LU of the materialised matrix.", cost="O(n³)", square=True)
def logabsdet(A: LinearOperator) -> LogAbsDet:
    """Logarithm of |det A| and the sign of the determinant.

    Args:
        A: square operator or array [n, n].

    Returns:
        `LogAbsDet(logabs, sign)`; (−inf, 0) for a singular matrix, (0, 1) for the empty one.

    Raises:
        NotDifferentiableError: on differentiating at a singular A; under ``jit`` the derivative is NaN or 0 there.
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> F = la.logabsdet(1e-30 * la.I(4))  # the determinant itself underflows
        >>> round(float(F.logabs), 2), float(F.sign)
        (-276.31, 1.0)
    """
    sign, logabs = jnp.linalg.slogdet(dense(A))
    require_regular(logabs, sign)
    return LogAbsDet(logabs, sign)


@verb(algorithm="Sum of logabs and the logarithm of the sign.", cost="cost of logabsdet", square=True)
def logdet(A: LinearOperator) -> jax.Array:
    """Logarithm of the determinant, log det A.

    Args:
        A: square operator or array [n, n].

    Returns:
        A scalar, real for real A (−inf if singular) and the principal logarithm for complex A.

    Raises:
        LinearAlgebraError: if A is real with a negative determinant; under ``jit`` the result is NaN instead.
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> round(float(la.logdet([[2.0, 0.0], [0.0, 4.0]])), 4)
        2.0794
    """
    logabs, sign = logabsdet(A)
    if jnp.iscomplexobj(sign):
        return logabs + 1j * jnp.angle(sign)
    if decided(sign < 0):
        raise LinearAlgebraError(
            "logdet of a real matrix needs a determinant ≥ 0, this one is negative; la.logabsdet gives it with its sign"
        )
    return jnp.where(sign >= 0, logabs, jnp.nan)
