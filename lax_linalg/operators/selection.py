"""`Selection`: picks, repeats and drops entries, the linear map of slicing, padding and broadcasting."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.errors import DimensionMismatch
from lax_linalg.verbs.basic import materialize, require_dense


@operator(data=("index",), meta=("columns",))
class Selection(LinearOperator):
    """The matrix S with (S x)[r] = x[index[r]], and 0 where index[r] = −1.

    Args:
        index: integers −1 … columns − 1, [m].
        columns: number of columns n.

    Raises:
        DimensionMismatch: unless `index` has one axis.

    Cost: O(m) memory and per product with a vector.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> S = la.Selection(jnp.array([2, 0, -1]), 3)
        >>> print(S @ jnp.array([5.0, 6.0, 7.0]))
        [7. 5. 0.]
    """

    index: jax.Array
    columns: int

    def _validate(self) -> None:
        if jnp.ndim(self.index) != 1:
            raise DimensionMismatch(f"a selection's index has 1 axis, got shape {list(jnp.shape(self.index))}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.index.shape[-1], self.columns

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(jnp.int8)  # zeros and ones, which leave the dtype of what they meet alone

    def _matmat(self, X: jax.Array) -> jax.Array:
        return jnp.where((self.index >= 0)[:, None], X[jnp.maximum(self.index, 0)], 0)


@materialize.rule(Selection, cost="O(mn)")
def _(A: Selection) -> jax.Array:
    """A one in each row that selects."""
    require_dense(A)
    return (A.index[:, None] == jnp.arange(A.columns)).astype(A.dtype)
