"""Parts of a matrix: indexing, submatrices and triangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator
from lax_linalg.verbs.basic import materialize

Indices = range | jax.Array
"""Rows or columns: a range, or integers in any order that a trace may hide."""


@verb(
    algorithm="Lazy: the rows and columns are picked before and after a product (`Selection`).",
    cost="O(1), then one product with A for each product",
    finite=False,
)
def submatrix(A: LinearOperator, rows: Indices | Sequence[int], columns: Indices | Sequence[int]) -> LinearOperator:
    """The submatrix with entries A[rows[i], columns[j]], also written `A[rows, columns]`.

    Args:
        A: operator or array [m, n].
        rows, columns: ranges or integers, 0 … m − 1 and 0 … n − 1. Ranges may keep the structure: a diagonal
            block of a tridiagonal matrix is tridiagonal.

    Returns:
        The operator of shape (len(rows), len(columns)).

    Example:
        >>> import lax_linalg as la
        >>> la.submatrix(la.Toeplitz([1.0, 2.0, 3.0], [1.0, 4.0, 5.0]), range(2), range(1, 3))
        2×2 Toeplitz{float32}
    """
    from lax_linalg.operators.selection import Selection

    m, n = A.shape
    if rows != range(m):
        A = Selection(jnp.asarray(rows, int), m) @ A
    if columns != range(n):
        A = A @ Selection(jnp.asarray(columns, int), n).T
    return A


def contiguous(indices: Any) -> bool:
    """Whether these are a range with step 1.

    Example:
        >>> contiguous(range(1, 4)), contiguous(range(0, 4, 2))
        (True, False)
    """
    return isinstance(indices, range) and indices.step == 1


def getindex(A: LinearOperator, key: Any) -> Any:
    """``A[key]`` as NumPy has it: numbers give entries, rows and columns as arrays; slices and lists an operator.

    Raises:
        IndexError: for an index outside of the matrix, or more than two.

    Example:
        >>> import lax_linalg as la
        >>> A = la.Bidiagonal([1.0, 2.0, 3.0], [4.0, 5.0])
        >>> float(A[0, 1]), A[:2, :2]
        (4.0, 2×2 Bidiagonal{float32} upper)
        >>> print(A[-1])
        [0. 0. 3.]
    """
    key = key if isinstance(key, tuple) else (key,)
    if len(key) > 2:
        raise IndexError(f"a matrix has 2 axes, got {len(key)} indices")
    m, n = A.shape
    rows, one_row = _indices(key[0], m, "row")
    columns, one_column = _indices(key[1] if len(key) == 2 else slice(None), n, "column")
    part = submatrix(A, rows, columns)
    if not (one_row or one_column):
        return part
    entries = materialize(part)
    return entries.reshape([size for size, one in zip(entries.shape, (one_row, one_column)) if not one])


def _indices(key: Any, size: int, which: str) -> tuple[Indices, bool]:
    """The indices that a key means on an axis of this size, and whether it was a single number."""
    if isinstance(key, slice):
        return range(size)[key], False
    integers = key if isinstance(key, Tracer) else np.asarray(key)
    if integers.dtype == bool and not isinstance(integers, Tracer) and integers.shape == (size,):
        integers = np.flatnonzero(integers)
    if integers.ndim == 1 and integers.size == 0:
        return range(0), False
    if not jnp.issubdtype(integers.dtype, jnp.integer) or integers.ndim > 1:
        raise IndexError(f"a {which} index is an integer, a slice, a list of integers or a mask [{size}], got {key!r}")
    if isinstance(integers, Tracer):  # modulo, as nothing can be raised
        return jnp.where(integers < 0, integers + size, integers).reshape(-1), integers.ndim == 0
    outside = integers[(integers < -size) | (integers >= size)]
    if outside.size:
        raise IndexError(f"{which} {outside[0]} is outside of the {size} {which}s")
    integers = integers % size
    if integers.ndim == 0:
        return range(int(integers), int(integers) + 1), True
    return jnp.asarray(integers), False


@verb(algorithm="Upper triangle of the materialised matrix.", cost="O(mn)", finite=False)
def triu(A: LinearOperator, k: int = 0) -> LinearOperator:
    """Upper triangle: the entries on and above the k-th diagonal, zero elsewhere.

    Args:
        A: operator or array [m, n].
        k: the diagonal; 0 is the main one, positive ones are above it.

    Example:
        >>> import lax_linalg as la
        >>> la.triu(la.Tridiagonal([1.0], [2.0, 3.0], [4.0]))
        2×2 Bidiagonal{float32} upper
    """
    return _triangle(A, k, upper=True)


@verb(algorithm="Lower triangle of the materialised matrix.", cost="O(mn)", finite=False)
def tril(A: LinearOperator, k: int = 0) -> LinearOperator:
    """Lower triangle: the entries on and below the k-th diagonal, zero elsewhere.

    Args:
        A: operator or array [m, n].
        k: the diagonal; 0 is the main one, positive ones are above it.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.tril([[1.0, 2.0], [3.0, 4.0]], -1)))
        [[0. 0.]
         [3. 0.]]
    """
    return _triangle(A, k, upper=False)


def _triangle(A: LinearOperator, k: int, *, upper: bool) -> LinearOperator:
    from lax_linalg.core.dense import Dense
    from lax_linalg.operators.triangular import LowerTriangular, UpperTriangular

    array = materialize(A)
    if k == 0 and A.shape[0] == A.shape[1]:
        return (UpperTriangular if upper else LowerTriangular)(array)
    return Dense((jnp.triu if upper else jnp.tril)(array, k))
