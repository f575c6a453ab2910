"""`Diagonal`: elementwise multiplication, the Jacobian of every elementwise activation."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.base import LinearOperator, operator
from lax_linalg.operators.dense import Dense
from lax_linalg.verbs.arithmetic import add, inner, multiply, same_shape, scale, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, sum_logabsdet
from lax_linalg.verbs.eigen import eigvals, sorted_eigenvalues
from lax_linalg.verbs.functions import exp, log, sqrt
from lax_linalg.verbs.norms import norm
from lax_linalg.verbs.solve import by_columns, default_rtol, inv, lstsq, pinv, reciprocals, require_nonzero, solve
from lax_linalg.verbs.svd import svdvals


@operator(data=("diagonal",))
class Diagonal(LinearOperator):
    """The square matrix diag(d₁ … d_n).

    Args:
        diagonal: its entries, [n].

    Raises:
        DimensionMismatch: unless `diagonal` has one axis.

    Cost: O(n) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> print(la.Diagonal([1.0, 2.0]) @ [3.0, 4.0])
        [3. 8.]
    """

    diagonal: jax.Array

    def _validate(self) -> None:
        if jnp.ndim(self.diagonal) != 1:
            raise DimensionMismatch(f"a diagonal has 1 axis, got an array of shape {list(jnp.shape(self.diagonal))}")

    @property
    def shape(self) -> tuple[int, int]:
        n = self.diagonal.shape[-1]
        return n, n

    def _matmat(self, X: jax.Array) -> jax.Array:
        return self.diagonal.astype(X.dtype)[:, None] * X


@materialize.rule(Diagonal, cost="O(n²)")
def _(A: Diagonal) -> jax.Array:
    """Placed on a zero matrix."""
    require_dense(A.shape, A.dtype)
    return jnp.diag(A.diagonal)


@diag.rule(Diagonal, cost="O(1)")
def _(A: Diagonal) -> jax.Array:
    """The stored diagonal."""
    return A.diagonal


@transpose.rule(Diagonal, cost="O(1)")
def _(A: Diagonal) -> Diagonal:
    """The matrix itself."""
    return A


@scale.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, alpha) -> Diagonal:
    """Scaled diagonal."""
    return Diagonal(alpha * A.diagonal)


@add.rule(Diagonal, Diagonal, cost="O(n)")
def _(A: Diagonal, B: Diagonal) -> Diagonal:
    """Sum of the diagonals."""
    same_shape(A, B)
    return Diagonal(A.diagonal + B.diagonal)


@multiply.rule(Diagonal, Diagonal, cost="O(n)")
def _(A: Diagonal, B: Diagonal) -> Diagonal:
    """Product of the diagonals."""
    inner(A, B)
    return Diagonal(A.diagonal * B.diagonal)


@multiply.rule(Diagonal, Dense, cost="O(mn)")
def _(A: Diagonal, B: Dense) -> Dense:
    """Scaled rows."""
    inner(A, B)
    return Dense(A.diagonal[:, None] * B.array)


@multiply.rule(Dense, Diagonal, cost="O(mn)")
def _(A: Dense, B: Diagonal) -> Dense:
    """Scaled columns."""
    inner(A, B)
    return Dense(A.array * B.diagonal)


@svdvals.rule(Diagonal, cost="O(n log n)")
def _(A: Diagonal) -> jax.Array:
    """Moduli of the diagonal, sorted."""
    d = A.diagonal.astype(compute_dtype(A.dtype))
    return -jnp.sort(-jnp.abs(d))


@eigvals.rule(Diagonal, cost="O(n log n)")
def _(A: Diagonal) -> jax.Array:
    """The diagonal, sorted."""
    return sorted_eigenvalues(_complex(A))


@norm.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, p: float = 2) -> jax.Array:
    """Vector norm of the diagonal."""
    d = A.diagonal.astype(compute_dtype(A.dtype))
    return jnp.linalg.norm(d, p) if d.size else jnp.zeros((), jnp.abs(d).dtype)


def _computed(A: Diagonal) -> jax.Array:
    return A.diagonal.astype(compute_dtype(A.dtype))


def _complex(A: Diagonal) -> jax.Array:
    d = _computed(A)
    return d.astype(jnp.result_type(d.dtype, jnp.complex64))


@det.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> jax.Array:
    """Product of the diagonal."""
    return jnp.prod(_computed(A))


@logabsdet.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> LogAbsDet:
    """Sum of the logarithms of the diagonal."""
    return sum_logabsdet(_computed(A))


@solve.rule(Diagonal, cost="O(n) per column")
@by_columns
def _(A: Diagonal, b: jax.Array) -> jax.Array:
    """Division by the diagonal."""
    require_nonzero(A.diagonal, "solve")
    return b / A.diagonal.astype(b.dtype)[:, None]


@lstsq.rule(Diagonal, cost="O(n) per column")
@by_columns
def _(A: Diagonal, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Division by the entries of the diagonal that are not small."""
    d = A.diagonal.astype(b.dtype)
    return reciprocals(d, default_rtol(A.shape, d.dtype) if rtol is None else rtol, atol)[:, None] * b


@inv.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> Diagonal:
    """Reciprocals of the diagonal."""
    require_nonzero(A.diagonal, "inv")
    return Diagonal(1 / _computed(A))


@pinv.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, *, rtol: float | None = None, atol: jax.Array | float = 0) -> Diagonal:
    """Reciprocals of the entries of the diagonal that are not small."""
    d = _computed(A)
    return Diagonal(reciprocals(d, default_rtol(A.shape, d.dtype) if rtol is None else rtol, atol))


@exp.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> Diagonal:
    """Exponentials of the diagonal."""
    return Diagonal(jnp.exp(_computed(A)))


@log.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> Diagonal:
    """Principal logarithms of the diagonal."""
    require_nonzero(A.diagonal, "log")
    return Diagonal(jnp.log(_complex(A)))


@sqrt.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> Diagonal:
    """Principal square roots of the diagonal."""
    return Diagonal(jnp.sqrt(_complex(A)))
