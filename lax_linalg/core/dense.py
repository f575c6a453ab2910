"""`Dense`: a matrix without structure, so that plain arrays take part in the dispatch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.errors import DimensionMismatch
from lax_linalg.verbs.arithmetic import add, adjoint, inner, multiply, same_shape, transpose
from lax_linalg.verbs.basic import diag, materialize


@operator(data=("array",), linear=complex)
class Dense(LinearOperator):
    """An unstructured matrix [m, n].

    Args:
        array: the entries, [m, n].

    Raises:
        DimensionMismatch: unless `array` has two axes.

    Cost: O(mn) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> la.Dense([[1.0, 2.0], [3.0, 4.0]])
        2×2 Dense{float32}
    """

    array: jax.Array

    def _validate(self) -> None:
        if jnp.ndim(self.array) != 2:
            raise DimensionMismatch(
                f"a matrix has 2 axes, got an array of shape {list(jnp.shape(self.array))}; use jax.vmap for batches"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[-2:]  # type: ignore[return-value]

    def _matmat(self, X: jax.Array) -> jax.Array:
        return self.array.astype(X.dtype) @ X


@materialize.rule(Dense, cost="O(1)")
def _(A: Dense) -> jax.Array:
    """The array itself."""
    return A.array


@diag.rule(Dense, cost="O(min(m, n))")
def _(A: Dense) -> jax.Array:
    """Read off."""
    return jnp.diagonal(A.array)


@transpose.rule(Dense, cost="O(mn)")
def _(A: Dense) -> Dense:
    """Transposed array."""
    return Dense(A.array.T)


@adjoint.rule(Dense, cost="O(mn)")
def _(A: Dense) -> Dense:
    """Conjugate transposed array."""
    return Dense(A.array.conj().T)


def _sum(A: LinearOperator, B: LinearOperator) -> Dense:
    """Sum of the arrays: one dense term makes the sum dense."""
    same_shape(A, B)
    return Dense(materialize(A) + materialize(B))


for _left, _right in ((Dense, Dense), (Dense, LinearOperator), (LinearOperator, Dense)):
    add.rule(_left, _right, cost="O(mn)")(_sum)


@multiply.rule(Dense, Dense, cost="O(mnk)")
def _(A: Dense, B: Dense) -> Dense:
    """Product of the arrays."""
    inner(A, B)
    return Dense(A.array @ B.array)
