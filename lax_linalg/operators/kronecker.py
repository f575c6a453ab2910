"""`Kronecker`: the product A ⊗ B, whose factorisations are those of its two small factors."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.operators.base import LinearOperator, as_operator, operator


@operator(data=("left", "right"))
class Kronecker(LinearOperator):
    """The Kronecker product A ⊗ B, the block matrix of the a_ij B: (A ⊗ B) vec(X) = vec(A X Bᵀ) for rows vec.

    Args:
        left: A, operator or array [m, n].
        right: B, operator or array [p, q].

    Cost: a product with a vector is q products with A and m products with B, O(q m n + m p q) for dense ones, in
    place of O(mnpq).

    Example:
        >>> import lax_linalg as la
        >>> la.Kronecker([[1.0, 2.0]], [[3.0], [4.0]])
        2×2 Kronecker{float32} 1×2 ⊗ 2×1
    """

    left: LinearOperator
    right: LinearOperator

    def __post_init__(self) -> None:
        object.__setattr__(self, "left", as_operator(self.left))
        object.__setattr__(self, "right", as_operator(self.right))

    @property
    def shape(self) -> tuple[int, int]:
        (m, n), (p, q) = self.left.shape, self.right.shape
        return m * p, n * q

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(self.left.dtype, self.right.dtype)

    def _matmat(self, X: jax.Array) -> jax.Array:
        (m, n), (p, q) = self.left.shape, self.right.shape
        k = X.shape[1]
        Y = self.left._matmat(X.reshape(n, q * k)).reshape(m, q, k)
        Z = self.right._matmat(Y.transpose(1, 0, 2).reshape(q, m * k)).reshape(p, m, k)
        return Z.transpose(1, 0, 2).reshape(m * p, k)

    def _describe(self) -> str:
        (m, n), (p, q) = self.left.shape, self.right.shape
        return f"{m}×{n} ⊗ {p}×{q}"
