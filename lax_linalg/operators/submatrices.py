"""Which parts of a structure keep it: submatrices of contiguous rows and columns, and triangles."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator
from lax_linalg.operators.algebra import CONSTANT_DIAGONALS
from lax_linalg.operators.band import Band
from lax_linalg.operators.bidiagonal import Bidiagonal
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.hermitian import Hermitian
from lax_linalg.operators.lazy import Product, Scaled, Sum, Transpose
from lax_linalg.operators.low_rank import LowRank
from lax_linalg.operators.toeplitz import Toeplitz
from lax_linalg.operators.triangular import Triangular
from lax_linalg.operators.triangular_toeplitz import TriangularToeplitz
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import scale, transpose
from lax_linalg.verbs.basic import diag
from lax_linalg.verbs.entries import contiguous, submatrix, tril, triu


def _at(rows: Any) -> Any:
    """What picks these rows of an array; a slice where they are a range, so that nothing is gathered."""
    if not isinstance(rows, range):
        return rows
    stop = rows.stop if rows.stop >= 0 else None  # of a range that runs backwards to 0
    return slice(rows.start, stop, rows.step) if len(rows) else slice(0)


@submatrix.rule(Dense, cost="O(size of the part)")
def _(A: Dense, rows: Any, columns: Any) -> Dense:
    """Picked from the array."""
    return Dense(A.array[_at(rows)][:, _at(columns)])


@submatrix.rule(LowRank, cost="O(size of the factors)")
def _(A: LowRank, rows: Any, columns: Any) -> LowRank:
    """Rows of both factors."""
    return LowRank(A.U[_at(rows)], A.V[_at(columns)])


@submatrix.rule(Sum, cost="cost of submatrix of the terms")
def _(A: Sum, rows: Any, columns: Any) -> LinearOperator:
    """Term by term."""
    first, *others = (submatrix(term, rows, columns) for term in A.terms)
    return sum(others, first)


@submatrix.rule(Scaled, cost="cost of submatrix")
def _(A: Scaled, rows: Any, columns: Any) -> LinearOperator:
    """α times that of A."""
    return scale(submatrix(A.parent, rows, columns), A.alpha)


@submatrix.rule(Transpose, cost="cost of submatrix")
def _(A: Transpose, rows: Any, columns: Any) -> LinearOperator:
    """Transposed, with rows and columns exchanged."""
    return transpose(submatrix(A.parent, columns, rows))


@submatrix.rule(Product, cost="cost of submatrix of the outer factors")
def _(A: Product, rows: Any, columns: Any) -> LinearOperator:
    """Rows of the first factor and columns of the last."""
    first, *middle, last = A.factors
    return Product(
        (submatrix(first, rows, range(first.shape[1])), *middle, submatrix(last, range(last.shape[0]), columns))
    )


def _principal(A: LinearOperator, rows: Any, columns: Any) -> LinearOperator:
    """The same part of every parameter, if rows and columns are the same and contiguous."""
    if not contiguous(rows) or rows != columns:
        return submatrix.fallback(A, rows, columns)
    n = A.shape[0]

    def part(x: jax.Array) -> jax.Array:
        # a diagonal of length n − d has k − d entries in a block of size k
        axis = slice(rows.start, max(rows.start, rows.stop - (n - x.shape[0])))
        return x[axis] if x.ndim == 1 else x[axis, axis]

    return jax.tree.map(part, A)


for _structure in (Diagonal, Band, Hermitian, Triangular):
    submatrix.rule(_structure, cost="O(size of the part) where rows and columns are the same range; else lazy")(
        _principal
    )


@submatrix.rule(UniformScaling, cost="O(1) where rows and columns are the same range; else lazy")
def _(A: UniformScaling, rows: Any, columns: Any) -> LinearOperator:
    """The same number in another size, if rows and columns are the same and contiguous."""
    if contiguous(rows) and rows == columns:
        return UniformScaling(A.value, len(rows))
    return submatrix.fallback(A, rows, columns)


def _constant_diagonals(A: Any, rows: Any, columns: Any) -> LinearOperator:
    """The diagonals that the part meets, if rows and columns are ranges with one step."""
    same_step = isinstance(rows, range) and isinstance(columns, range) and rows.step == columns.step
    if not same_step or not rows or not columns:
        return submatrix.fallback(A, rows, columns)
    diagonals, n = A.toeplitz.diagonals, A.shape[1]
    column = [r - columns[0] + n - 1 for r in rows]
    row = [rows[0] - c + n - 1 for c in columns]
    return Toeplitz(diagonals[jnp.asarray(column)], diagonals[jnp.asarray(row)])


for _structure in CONSTANT_DIAGONALS:
    submatrix.rule(_structure, cost="O(m + n) where rows and columns are ranges with one step; else lazy")(
        _constant_diagonals
    )


@triu.rule(Diagonal, cost="O(1)")
@tril.rule(Diagonal, cost="O(1)")
def _(A: Diagonal) -> Diagonal:
    """The matrix itself."""
    return A


@triu.rule(Triangular, cost="O(n)")
def _(A: Triangular) -> LinearOperator:
    """The matrix itself, or its diagonal."""
    return _diagonal(A) if A.lower else A


@tril.rule(Triangular, cost="O(n)")
def _(A: Triangular) -> LinearOperator:
    """The matrix itself, or its diagonal."""
    return A if A.lower else _diagonal(A)


def _diagonal(A: LinearOperator) -> Diagonal:
    return Diagonal(diag(A))


@triu.rule(Band, cost="O(n)")
def _(A: Band) -> Bidiagonal:
    """Two of the three diagonals."""
    return Bidiagonal(A.tridiagonal.diagonal, A.tridiagonal.upper)


@tril.rule(Band, cost="O(n)")
def _(A: Band) -> Bidiagonal:
    """Two of the three diagonals."""
    return Bidiagonal(A.tridiagonal.diagonal, A.tridiagonal.lower, upper=False)


def _upper(A: Any) -> LinearOperator:
    """The diagonals on one side."""
    return (
        TriangularToeplitz(A.toeplitz.diagonals[A.shape[1] - 1 :: -1], upper=True) if _square(A) else triu.fallback(A)
    )


def _lower(A: Any) -> LinearOperator:
    """The diagonals on one side."""
    return TriangularToeplitz(A.toeplitz.column, upper=False) if _square(A) else tril.fallback(A)


def _square(A: LinearOperator) -> bool:
    return A.shape[0] == A.shape[1] > 0


for _structure in CONSTANT_DIAGONALS:
    triu.rule(_structure, cost="O(n)")(_upper)
    tril.rule(_structure, cost="O(n)")(_lower)
