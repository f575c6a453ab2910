"""`UpperTriangular` and `LowerTriangular`: a triangle of an array, solved by substitution."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.verbs.arithmetic import add, inner, multiply, same_shape, scale, transpose
from lax_linalg.verbs.basic import compute_dtype, dense, diag, materialize
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product, sum_logabsdet
from lax_linalg.verbs.eigen import eigvals, sorted_eigenvalues
from lax_linalg.verbs.functions import exp, log, sqrt
from lax_linalg.verbs.lu import LU, lu
from lax_linalg.verbs.predicates import istril, istriu
from lax_linalg.verbs.qr import QR, qr
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, inv, require_nonzero, solve


class Triangular(LinearOperator):
    """What `UpperTriangular` and `LowerTriangular` share.

    Example:
        >>> import lax_linalg as la
        >>> isinstance(la.UpperTriangular([[1.0]]), la.Triangular)
        True
    """

    lower: ClassVar[bool]
    array: jax.Array
    unit: bool

    def _validate(self) -> None:
        shape = jnp.shape(self.array)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise DimensionMismatch(f"{type(self).__name__} takes a square array, got shape {list(shape)}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[-2:]  # type: ignore[return-value]

    def _matmat(self, X: jax.Array) -> jax.Array:
        return materialize(self).astype(X.dtype) @ X

    def _numbers(self) -> list[jax.Array]:
        return [_triangle(jnp.asarray(self.array), self.lower, self.unit)]

    def _describe(self) -> str:
        return "unit" if self.unit else ""


@operator(data=("array",), meta=("unit",))
class UpperTriangular(Triangular):
    """The upper triangular matrix with the upper triangle of an array; what is below is not looked at.

    Args:
        array: [n, n].
        unit: take the diagonal as ones.

    Raises:
        DimensionMismatch: unless `array` is square.

    Example:
        >>> import lax_linalg as la
        >>> R = la.UpperTriangular([[1.0, 2.0], [9.0, 4.0]])
        >>> print(la.solve(R, [5.0, 4.0]), float(la.det(R)))
        [3. 1.] 4.0
    """

    array: jax.Array
    unit: bool = False
    lower: ClassVar[bool] = False


@operator(data=("array",), meta=("unit",))
class LowerTriangular(Triangular):
    """The lower triangular matrix with the lower triangle of an array; what is above is not looked at.

    Args:
        array: [n, n].
        unit: take the diagonal as ones.

    Raises:
        DimensionMismatch: unless `array` is square.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.LowerTriangular([[5.0, 9.0], [2.0, 7.0]], unit=True)))
        [[1. 0.]
         [2. 1.]]
    """

    array: jax.Array
    unit: bool = False
    lower: ClassVar[bool] = True


def _kind(lower: bool) -> type[Triangular]:
    return LowerTriangular if lower else UpperTriangular


# --- algebra ---


@materialize.rule(Triangular, cost="O(n²)")
def _(A: Triangular) -> jax.Array:
    """The triangle."""
    triangle = _triangle(A.array, A.lower, A.unit)
    return triangle + jnp.eye(A.shape[0], dtype=A.dtype) if A.unit else triangle


def _triangle(array: jax.Array, lower: bool, strict: bool) -> jax.Array:
    return jnp.tril(array, -1 if strict else 0) if lower else jnp.triu(array, 1 if strict else 0)


@diag.rule(Triangular, cost="O(n)")
def _(A: Triangular) -> jax.Array:
    """Read off; ones if unit."""
    return jnp.ones(A.shape[:1], A.dtype) if A.unit else jnp.diagonal(A.array)


@transpose.rule(Triangular, cost="O(n²)")
def _(A: Triangular) -> Triangular:
    """Transposed array: the other triangle."""
    return _kind(not A.lower)(A.array.T, A.unit)  # type: ignore[call-arg]


@scale.rule(Triangular, cost="O(n²)")
def _(A: Triangular, alpha) -> Triangular:
    """Scaled triangle."""
    return type(A)(alpha * materialize(A))  # type: ignore[call-arg]


def _sum(A: LinearOperator, B: LinearOperator) -> Triangular:
    """Sum of the triangles."""
    same_shape(A, B)
    kind = type(A) if isinstance(A, Triangular) else type(B)
    return kind(materialize(A) + materialize(B))  # type: ignore[call-arg, return-value]


def _product(A: LinearOperator, B: LinearOperator) -> Triangular:
    """Product of the triangles."""
    inner(A, B)
    kind = type(A) if isinstance(A, Triangular) else type(B)
    return kind(materialize(A) @ materialize(B))  # type: ignore[call-arg, return-value]


for _structure in (UpperTriangular, LowerTriangular):
    add.rule(_structure, _structure, cost="O(n²)")(_sum)
    multiply.rule(_structure, _structure, cost="O(n³)")(_product)


def _on_the_diagonal(A: Diagonal, like: Triangular | None) -> Triangular | None:
    return None if like is None else type(like)(materialize(A))  # type: ignore[call-arg]


for _structure in (UpperTriangular, LowerTriangular):
    conversion(Diagonal, _structure, products=False)(_on_the_diagonal)


@multiply.rule(Triangular, Diagonal, cost="O(n²)")
def _(A: Triangular, B: Diagonal) -> Triangular:
    """Scaled columns."""
    inner(A, B)
    return type(A)(materialize(A) * B.diagonal)  # type: ignore[call-arg]


@multiply.rule(Diagonal, Triangular, cost="O(n²)")
def _(A: Diagonal, B: Triangular) -> Triangular:
    """Scaled rows."""
    inner(A, B)
    return type(B)(A.diagonal[:, None] * materialize(B))  # type: ignore[call-arg]


@multiply.rule(Triangular, Dense, cost="O(n²k)")
def _(A: Triangular, B: Dense) -> Dense:
    """Product of the arrays."""
    inner(A, B)
    return Dense(materialize(A) @ B.array)


@multiply.rule(Dense, Triangular, cost="O(n²k)")
def _(A: Dense, B: Triangular) -> Dense:
    """Product of the arrays."""
    inner(A, B)
    return Dense(A.array @ materialize(B))


# --- what the diagonal gives ---


def _pivots(A: Triangular) -> jax.Array:
    return diag(A).astype(compute_dtype(A.dtype))


@det.rule(Triangular, cost="O(n)")
def _(A: Triangular) -> jax.Array:
    """Product of the diagonal."""
    return product(_pivots(A))


@logabsdet.rule(Triangular, cost="O(n)")
def _(A: Triangular) -> LogAbsDet:
    """Sum of the logarithms of the diagonal."""
    return sum_logabsdet(_pivots(A))


@eigvals.rule(Triangular, cost="O(n log n)")
def _(A: Triangular) -> jax.Array:
    """The diagonal, sorted."""
    d = _pivots(A)
    return sorted_eigenvalues(d.astype(jnp.result_type(d.dtype, jnp.complex64)))


@schur.rule(UpperTriangular, cost="O(n²)")
def _(A: UpperTriangular) -> Schur:
    """The matrix itself and the identity."""
    T = dense(A)
    T = T.astype(jnp.result_type(T.dtype, jnp.complex64))
    return Schur(T, jnp.eye(A.shape[0], dtype=T.dtype), jnp.diagonal(T))


@schur.rule(LowerTriangular, cost="O(n²)")
def _(A: LowerTriangular) -> Schur:
    """The rows and the columns in reverse order, which is upper triangular."""
    T = dense(A)[::-1, ::-1]
    T = T.astype(jnp.result_type(T.dtype, jnp.complex64))
    return Schur(T, jnp.eye(A.shape[0], dtype=T.dtype)[::-1], jnp.diagonal(T))


@qr.rule(UpperTriangular, cost="O(n²)")
def _(A: UpperTriangular) -> QR:
    """The identity and the matrix itself."""
    R = dense(A)
    return QR(jnp.eye(A.shape[0], dtype=R.dtype), R)


@lu.rule(UpperTriangular, cost="O(n²)")
def _(A: UpperTriangular) -> LU:
    """The identity and the matrix itself, without pivoting."""
    U = dense(A)
    n = A.shape[0]
    return LU(jnp.eye(n, dtype=U.dtype), U, jnp.arange(n, dtype=jnp.int32))


# --- systems ---


@solve.rule(Triangular, cost="O(n²) per column")
@by_columns
def _(A: Triangular, b: jax.Array) -> jax.Array:
    """Substitution."""
    require_nonzero(diag(A), "solve")
    if 0 in b.shape:
        return b
    # the triangle alone, because not every platform leaves the other one unread
    triangle = _triangle(A.array, A.lower, A.unit).astype(b.dtype)
    return jax.scipy.linalg.solve_triangular(triangle, b, lower=A.lower, unit_diagonal=A.unit)


@inv.rule(Triangular, cost="O(n³)")
def _(A: Triangular) -> Triangular:
    """Substitution with the identity: triangular again."""
    require_nonzero(diag(A), "inv")
    return type(A)(solve(A, jnp.eye(A.shape[0], dtype=A.dtype)))  # type: ignore[call-arg]


# --- functions are triangular too ---


@exp.rule(Triangular, cost="O(n³)")
def _(A: Triangular) -> Triangular:
    """Scaling and squaring: triangular again."""
    return type(A)(materialize(exp.fallback(A)))  # type: ignore[call-arg]


@log.rule(Triangular, cost="O(n³)")
def _(A: Triangular) -> Triangular:
    """Inverse scaling and squaring: triangular again."""
    return type(A)(materialize(log.fallback(A)))  # type: ignore[call-arg]


@sqrt.rule(Triangular, cost="O(n³)")
def _(A: Triangular) -> Triangular:
    """Björck–Hammarling recurrence: triangular again."""
    return type(A)(materialize(sqrt.fallback(A)))  # type: ignore[call-arg]


@istriu.rule(UpperTriangular, cost="O(1)")
def _(A: UpperTriangular, *, rtol: float | None = None) -> jax.Array:
    """True by type."""
    return jnp.asarray(True)


@istril.rule(LowerTriangular, cost="O(1)")
def _(A: LowerTriangular, *, rtol: float | None = None) -> jax.Array:
    """True by type."""
    return jnp.asarray(True)
