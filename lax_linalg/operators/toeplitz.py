"""`Toeplitz`: constant diagonals, the matrix of a convolution that is zero outside of its window."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import require_square
from lax_linalg.core.eager_checks import decided, known_not_finite
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense.scaling import moduli
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.fourier import toeplitz_entries, toeplitz_product
from lax_linalg.operators.toeplitz_solvers import (
    RECURSION_SIZE,
    Levinson,
    backward_errors,
    fast_solve,
    schur_cholesky,
    solve_toeplitz,
)
from lax_linalg.verbs.arithmetic import transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense
from lax_linalg.verbs.cholesky import Cholesky, cholesky
from lax_linalg.verbs.norms import norm, opnorm, require_p, scaled_norm
from lax_linalg.verbs.predicates import tolerance
from lax_linalg.verbs.solve import by_columns, solve
from lax_linalg.verbs.svd import svdvals


@operator(data=("column", "row"), linear=complex)
class Toeplitz(LinearOperator):
    """The matrix [m, n] with entries A[i, j] = c[i − j] for i ≥ j and r[j − i] above, rectangular and not symmetric.

    Args:
        column: its first column c, [m].
        row: its first row r, [n]; conj(column) unless given. As in SciPy the column wins at the corner, r[0] is
            ignored.

    Raises:
        DimensionMismatch: unless both have one axis.

    Cost: O(m + n) memory; O((m + n) log(m + n)) per product with a vector, by FFTs of a circulant embedding (small or
    integer matrices are multiplied out). Half precision is transformed in float32.

    Example:
        >>> import lax_linalg as la
        >>> A = la.Toeplitz([1.0, 2.0, 3.0], [1.0, 5.0])
        >>> print(la.materialize(A))
        [[1. 5.]
         [2. 1.]
         [3. 2.]]

    SciPy: `scipy.linalg.toeplitz`, `matmul_toeplitz`.
    """

    column: jax.Array
    row: jax.Array = None  # type: ignore[assignment]

    def _validate(self) -> None:
        if self.row is None:
            object.__setattr__(self, "row", jnp.conj(self.column))
        for name, x in (("column", self.column), ("row", self.row)):
            if jnp.ndim(x) != 1:
                raise DimensionMismatch(f"Toeplitz: the {name} has 1 axis, got an array of shape {list(jnp.shape(x))}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.column.shape[-1], self.row.shape[-1]

    @property
    def toeplitz(self) -> Toeplitz:
        """The matrix itself: every structure with constant diagonals has this property."""
        return self

    @property
    def diagonals(self) -> jax.Array:
        """The entries from the top right to the bottom left corner, [m + n − 1]."""
        return jnp.concatenate([self.row[:0:-1].astype(self.dtype), self.column.astype(self.dtype)])

    def _matmat(self, X: jax.Array) -> jax.Array:
        return toeplitz_product(self.diagonals, X, self.shape[0])


def from_diagonals(v: jax.Array, m: int, n: int) -> Toeplitz:
    """The Toeplitz matrix [m, n] with diagonals v [m + n − 1], the top right one first; m and n at least 1.

    Example:
        >>> import jax.numpy as jnp
        >>> print(from_diagonals(jnp.array([3.0, 1.0, 2.0]), 2, 2) @ jnp.ones(2))
        [4. 3.]
    """
    return Toeplitz(v[n - 1 :], v[n - 1 :: -1])


def diagonal_lengths(m: int, n: int) -> jax.Array:
    """How many entries each of the m + n − 1 diagonals of an m×n matrix has, the top right one first.

    Example:
        >>> print(diagonal_lengths(2, 3))
        [1 2 2 1]
    """
    k = jnp.arange(m + n - 1)
    return jnp.minimum(jnp.minimum(k + 1, m + n - 1 - k), min(m, n))


def window_sums(x: jax.Array, width: int) -> jax.Array:
    """Sums of `width` neighbours of x ≥ 0, [len(x) − width + 1], in O(len(x)) and without cancellation.

    Every window is a suffix of one block of `width` entries and a prefix of the next (van Herk's algorithm).

    Example:
        >>> import jax.numpy as jnp
        >>> print(window_sums(jnp.array([1.0, 2.0, 3.0, 4.0]), 2))
        [3. 5. 7.]
    """
    count = x.shape[0] - width + 1
    blocks = jnp.pad(x, (0, -x.shape[0] % width)).reshape(-1, width)
    prefix = jnp.cumsum(blocks, axis=1).ravel()
    suffix = jnp.cumsum(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    start = jnp.arange(count)
    return jnp.where(start % width == 0, suffix[:count], suffix[:count] + prefix[width - 1 :][:count])


@materialize.rule(Toeplitz, cost="O(mn)")
def _(A: Toeplitz) -> jax.Array:
    """Gathered from the diagonals."""
    require_dense(A)
    return toeplitz_entries(A.diagonals, *A.shape)


@diag.rule(Toeplitz, cost="O(min(m, n))")
def _(A: Toeplitz) -> jax.Array:
    """The corner repeated."""
    return jnp.broadcast_to(A.column[:1].astype(A.dtype), (min(A.shape),)) if min(A.shape) else A.diagonals[:0]


@transpose.rule(Toeplitz, cost="O(m + n)")
def _(A: Toeplitz) -> Toeplitz:
    """Row and column exchanged."""
    if 0 in A.shape:
        return Toeplitz(A.row, A.column)
    v = A.diagonals[::-1]
    return from_diagonals(v, *A.shape[::-1])


@norm.rule(Toeplitz, cost="O(m + n)")
def _(A: Toeplitz, p: float = 2) -> jax.Array:
    """Norm of the diagonals, weighted by their lengths."""
    v = A.diagonals.astype(compute_dtype(A.dtype))
    if 0 in A.shape or p == jnp.inf or not p > 0:
        return scaled_norm(v[:0] if 0 in A.shape else v, p)
    lengths = diagonal_lengths(*A.shape).astype(jnp.finfo(v.dtype).dtype)
    return scaled_norm(v * lengths ** (1 / p), p)


@opnorm.rule(Toeplitz, cost="O(m + n) for p = 1, inf; cost of svdvals for p = 2")
def _(A: Toeplitz, p: float = 2) -> jax.Array:
    """Sums of moduli over sliding windows of the diagonals; largest singular value for p = 2."""
    require_p(p)
    if p == 2:
        return jnp.max(svdvals(A), initial=0)
    entries = moduli(A.diagonals.astype(compute_dtype(A.dtype)))
    if 0 in A.shape:
        return jnp.zeros((), entries.dtype)
    return jnp.max(window_sums(entries, A.shape[0] if p == 1 else A.shape[1]))


@solve.rule(Toeplitz, cost=f"O(n²) for n > {RECURSION_SIZE}, with LU's O(n³) where that is not accurate; O(n³) below")
@by_columns
def _(A: Toeplitz, b: jax.Array) -> jax.Array:
    """Levinson's recursion, refined, its backward error verified; LU where it is not as good, and for small n."""
    dense_solve = solve.lookup(LinearOperator).function
    if A.shape[0] != A.shape[1] or A.shape[0] <= RECURSION_SIZE or 0 in b.shape:
        return dense_solve(A, b)
    require_dense(A, b.dtype)
    X = solve_toeplitz(A.diagonals.astype(b.dtype), b)
    if known_not_finite(X):
        return dense_solve(A, b)  # names the pivot that is zero
    return X


def levinson(A: Toeplitz, b: jax.Array) -> Levinson:
    """Solution of a square Toeplitz system in O(n) memory by Levinson's recursion, with the error that it made.

    `solve` is accurate for every nonsingular matrix, but may need a dense factorisation; this never forms the matrix.
    The recursion is stable for positive definite matrices and fails where a leading minor is singular or nearly so,
    which the backward error shows.

    Args:
        A: square Toeplitz operator [n, n].
        b: right-hand side [n] or [n, k].

    Returns:
        `Levinson(x, backward_error)`: x like b, refined as long as that helps, and the largest ‖b − A x‖ / (‖A‖_F ‖x‖ +
        ‖b‖) of its columns, of the order of ε where the method is stable and NaN where it breaks down.

    Raises:
        DimensionMismatch: unless A is square and b has n rows.

    Cost: O(n²) operations and n sequential steps, O(n) memory.

    Example:
        >>> import lax_linalg as la
        >>> x, error = la.levinson(la.Toeplitz([2.0, 1.0]), [4.0, 5.0])
        >>> print(x.round(4), float(error) < 1e-6)
        [1. 2.] True

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 4.7; Cybenko, The numerical stability of the
    Levinson–Durbin algorithm for Toeplitz systems of equations, SIAM J. Sci. Stat. Comput. (1980).
    """
    require_square(A, "levinson")

    @by_columns
    def recursion(A: Toeplitz, B: jax.Array) -> jax.Array:
        return fast_solve(A.diagonals.astype(B.dtype), B)[0] if B.size else B

    x = recursion(A, b)
    if x.size == 0:
        return Levinson(x, jnp.zeros((), jnp.finfo(x.dtype).dtype))
    X, B = (jnp.asarray(y).astype(x.dtype).reshape(A.shape[0], -1) for y in (x, b))
    return Levinson(x, jnp.max(backward_errors(A.diagonals.astype(x.dtype), X, B - A @ X, B)))


@cholesky.rule(Toeplitz, cost="O(n²)")
def _(A: Toeplitz) -> Cholesky:
    """Schur's algorithm."""
    require_dense(A)
    n = A.shape[0]
    v = A.diagonals.astype(compute_dtype(A.dtype))
    hermitian = (v + v[::-1].conj()) / 2
    if n == 0:
        return cholesky.lookup(LinearOperator).function(A)
    L = schur_cholesky(hermitian[n - 1 :])
    asymmetric = scaled_norm(v - v[::-1].conj()) > tolerance(A, v, None) * scaled_norm(v)
    if decided(asymmetric) or known_not_finite(L):
        return cholesky.lookup(LinearOperator).function(A)  # says what is wrong with the matrix
    return Cholesky(L, L.conj().T)
