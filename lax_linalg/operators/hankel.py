"""`Hankel`: constant antidiagonals, a Toeplitz matrix with its columns reversed."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense import platform
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.fourier import toeplitz_entries, toeplitz_product
from lax_linalg.operators.toeplitz import Toeplitz, from_diagonals
from lax_linalg.verbs.arithmetic import transpose
from lax_linalg.verbs.basic import dense, diag, materialize, require_dense
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals
from lax_linalg.verbs.norms import norm, opnorm, require_p
from lax_linalg.verbs.predicates import issymmetric
from lax_linalg.verbs.solve import by_columns, solve
from lax_linalg.verbs.svd import svdvals


@operator(data=("column", "last_row"), linear=complex)
class Hankel(LinearOperator):
    """The matrix [m, n] with entries A[i, j] = v[i + j], v the first column and then the last row after the corner.

    Args:
        column: its first column, [m].
        last_row: its last row, [n]; zeros unless given, [m]. As in SciPy the column wins at the corner: last_row[0] is
            ignored.

    Raises:
        DimensionMismatch: unless both have one axis.

    Cost: O(m + n) memory; O((m + n) log(m + n)) per product with a vector, as `Toeplitz`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.Hankel([1.0, 2.0, 3.0], [3.0, 4.0])))
        [[1. 2.]
         [2. 3.]
         [3. 4.]]

    SciPy: `scipy.linalg.hankel`.
    """

    column: jax.Array
    last_row: jax.Array = None  # type: ignore[assignment]

    def _validate(self) -> None:
        if self.last_row is None:
            object.__setattr__(self, "last_row", jnp.zeros_like(self.column))
        for name, x in (("column", self.column), ("last row", self.last_row)):
            if jnp.ndim(x) != 1:
                raise DimensionMismatch(f"Hankel: the {name} has 1 axis, got an array of shape {list(jnp.shape(x))}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.column.shape[-1], self.last_row.shape[-1]

    @property
    def antidiagonals(self) -> jax.Array:
        """The entries from the top left to the bottom right corner, [m + n − 1]."""
        return jnp.concatenate([self.column.astype(self.dtype), self.last_row[1:].astype(self.dtype)])

    @property
    def toeplitz(self) -> Toeplitz:
        """The matrix with its columns reversed, which is Toeplitz; sizes at least 1."""
        return from_diagonals(self.antidiagonals, *self.shape)

    def _matmat(self, X: jax.Array) -> jax.Array:
        return toeplitz_product(self.antidiagonals, X[::-1], self.shape[0])


@materialize.rule(Hankel, cost="O(mn)")
def _(A: Hankel) -> jax.Array:
    """Gathered from the antidiagonals."""
    require_dense(A)
    return toeplitz_entries(A.antidiagonals, *A.shape)[:, ::-1]


@diag.rule(Hankel, cost="O(min(m, n))")
def _(A: Hankel) -> jax.Array:
    """Every other antidiagonal."""
    k = min(A.shape)
    return A.antidiagonals[: 2 * k : 2][:k]


@transpose.rule(Hankel, cost="O(m + n)")
def _(A: Hankel) -> Hankel:
    """The same antidiagonals in the other shape."""
    if 0 in A.shape:
        return Hankel(A.last_row, A.column)
    n = A.shape[1]
    return Hankel(A.antidiagonals[:n], A.antidiagonals[n - 1 :])


@norm.rule(Hankel, cost="O(m + n)")
def _(A: Hankel, p: float = 2) -> jax.Array:
    """Norm of the antidiagonals, weighted by their lengths."""
    return norm(Toeplitz(A.column, A.last_row) if 0 in A.shape else A.toeplitz, p)


@opnorm.rule(Hankel, cost="O(m + n) for p = 1, inf; cost of svdvals for p = 2")
def _(A: Hankel, p: float = 2) -> jax.Array:
    """Sums of moduli over sliding windows of the antidiagonals; largest singular value for p = 2."""
    require_p(p)
    if p == 2:
        return jnp.max(svdvals(A), initial=0)
    return opnorm(Toeplitz(A.column, A.last_row) if 0 in A.shape else A.toeplitz, p)


@eigvals.rule(Hankel, cost="O(n³)")
def _(A: Hankel) -> jax.Array:
    """LAPACK's symmetric eigenvalue algorithm on the materialised matrix for real A, Hessenberg QR for complex A."""
    a = dense(A)
    if jnp.iscomplexobj(a):
        return eigvals.lookup(LinearOperator).function(A)
    return platform.eigvalsh(a).astype(jnp.result_type(a.dtype, jnp.complex64))


@eigen.rule(Hankel, cost="O(n³)")
def _(A: Hankel) -> Eigen:
    """LAPACK's symmetric eigenvalue algorithm on the materialised matrix for real A, Hessenberg QR for complex A."""
    a = dense(A)
    if jnp.iscomplexobj(a):
        return eigen.lookup(LinearOperator).function(A)
    w, V = platform.eigh(a)
    dtype = jnp.result_type(a.dtype, jnp.complex64)
    return Eigen(w.astype(dtype), V.astype(dtype))


@solve.rule(Hankel, cost="cost of solve with a Toeplitz matrix")
@by_columns
def _(A: Hankel, b: jax.Array) -> jax.Array:
    """A Toeplitz system for the reversed unknowns."""
    if 0 in A.shape:
        return solve.lookup(LinearOperator).function(A, b)
    return solve(A.toeplitz, b)[::-1]


@issymmetric.rule(Hankel, cost="O(1)")
def _(A: Hankel, *, rtol: float | None = None) -> jax.Array:
    """Every square Hankel matrix is."""
    return jnp.asarray(A.shape[0] == A.shape[1])
