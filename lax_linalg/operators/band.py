"""`Band`: what is read off three diagonals, whichever structure holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet
from lax_linalg.verbs.norms import norm, opnorm, scaled_norm
from lax_linalg.verbs.predicates import isdiag, istril, istriu, tolerance
from lax_linalg.verbs.solve import by_columns, inv, solve
from lax_linalg.verbs.svd import svdvals

if TYPE_CHECKING:
    from lax_linalg.operators.tridiagonal import Tridiagonal


class Band(LinearOperator):
    """What square matrices with at most three diagonals share: the same matrix as a `Tridiagonal`.

    Example:
        >>> import lax_linalg as la
        >>> isinstance(la.JordanBlock(1.0, 2), Band)
        True
    """

    @property
    def shape(self) -> tuple[int, int]:
        n = self.diagonal.shape[-1]  # type: ignore[attr-defined]
        return n, n

    @property
    def tridiagonal(self) -> Tridiagonal:
        """The same matrix as a `Tridiagonal`."""
        raise NotImplementedError


@diag.rule(Band, cost="O(n)")
def _(A: Band) -> jax.Array:
    """The stored diagonal."""
    return A.tridiagonal.diagonal.astype(A.dtype)


@materialize.rule(Band, cost="O(n²)")
def _(A: Band) -> jax.Array:
    """Placed on a zero matrix."""
    return materialize(A.tridiagonal).astype(A.dtype)


@norm.rule(Band, cost="O(n)")
def _(A: Band, p: float = 2) -> jax.Array:
    """Norm of the diagonals together."""
    return norm(A.tridiagonal, p)


@opnorm.rule(Band, cost="O(n) for p = 1, inf; cost of svdvals for p = 2")
def _(A: Band, p: float = 2) -> jax.Array:
    """Sums of the moduli of three entries; largest singular value for p = 2."""
    return jnp.max(svdvals(A), initial=0) if p == 2 else opnorm(A.tridiagonal, p)


@det.rule(Band, cost="O(n)")
def _(A: Band) -> jax.Array:
    """Three-term recurrence of the leading minors, scaled."""
    return det(A.tridiagonal)


@logabsdet.rule(Band, cost="O(n)")
def _(A: Band) -> LogAbsDet:
    """Three-term recurrence of the leading minors, scaled."""
    return logabsdet(A.tridiagonal)


@solve.rule(Band, cost="O(n) per column")
@by_columns
def _(A: Band, b: jax.Array) -> jax.Array:
    """LAPACK's tridiagonal elimination with partial pivoting."""
    return solve(A.tridiagonal, b)


@inv.rule(Band, cost="O(n²)")
def _(A: Band) -> LinearOperator:
    """Solves for the unit vectors."""
    require_dense(A)
    return Dense(solve(A, jnp.eye(A.shape[0], dtype=compute_dtype(A.dtype))))


def _vanish(A: Band, rtol: float | None, *outside: str) -> jax.Array:
    entries = jnp.concatenate([getattr(A.tridiagonal, side) for side in outside]).astype(compute_dtype(A.dtype))
    return scaled_norm(entries) <= tolerance(A, entries, rtol) * norm(A)


@isdiag.rule(Band, cost="O(n)")
def _(A: Band, *, rtol: float | None = None) -> jax.Array:
    """Weighs the entries beside the diagonal."""
    return _vanish(A, rtol, "lower", "upper")


@istriu.rule(Band, cost="O(n)")
def _(A: Band, *, rtol: float | None = None) -> jax.Array:
    """Weighs the entries below the diagonal."""
    return _vanish(A, rtol, "lower")


@istril.rule(Band, cost="O(n)")
def _(A: Band, *, rtol: float | None = None) -> jax.Array:
    """Weighs the entries above the diagonal."""
    return _vanish(A, rtol, "upper")
