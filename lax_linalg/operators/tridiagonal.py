"""`Tridiagonal`: three diagonals, the matrix of a three-term recurrence."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.eager_checks import known_not_finite
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense.scaling import moduli
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.band import Band
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.verbs.arithmetic import inner, multiply, transpose
from lax_linalg.verbs.basic import compute_dtype, materialize, require_dense
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet
from lax_linalg.verbs.norms import norm, opnorm, require_p, scaled_norm
from lax_linalg.verbs.solve import by_columns, solve
from lax_linalg.verbs.svd import svdvals


@operator(data=("lower", "diagonal", "upper"), linear=complex)
class Tridiagonal(Band):
    """The matrix [n, n] with b below, a on and c above the diagonal: A[i+1, i] = b_i, A[i, i] = a_i, A[i, i+1] = c_i.

    Args:
        lower: b, [n − 1].
        diagonal: a, [n].
        upper: c, [n − 1].

    Raises:
        DimensionMismatch: unless the three vectors have these lengths.

    Cost: O(n) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.Tridiagonal([1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0])))
        [[3. 6. 0.]
         [1. 4. 7.]
         [0. 2. 5.]]
    """

    lower: jax.Array
    diagonal: jax.Array
    upper: jax.Array

    def _validate(self) -> None:
        require_band("Tridiagonal", self.diagonal, lower=self.lower, upper=self.upper)

    @property
    def tridiagonal(self) -> Tridiagonal:
        """The matrix itself."""
        return self

    def _matmat(self, X: jax.Array) -> jax.Array:
        lower, diagonal, upper = (d.astype(X.dtype)[:, None] for d in (self.lower, self.diagonal, self.upper))
        return (diagonal * X).at[1:].add(lower * X[:-1]).at[:-1].add(upper * X[1:])


def require_band(name: str, diagonal: jax.Array, **off: jax.Array) -> None:
    """Raise `DimensionMismatch` unless the diagonal is [n] and its neighbours are [n − 1] (also none for n = 0)."""
    n = jnp.shape(diagonal)[0] if jnp.ndim(diagonal) == 1 else None
    for side, x in off.items():
        if n is None or jnp.shape(x) != (max(n - 1, 0),):
            raise DimensionMismatch(
                f"{name} takes a diagonal [n] and [n − 1] numbers beside it, got a diagonal of shape "
                f"{list(jnp.shape(diagonal))} and {side} of shape {list(jnp.shape(x))}"
            )


def band_sums(lower: jax.Array, diagonal: jax.Array, upper: jax.Array) -> jax.Array:
    """Sums of each row, [n].

    Example:
        >>> import jax.numpy as jnp
        >>> print(band_sums(jnp.array([1.0]), jnp.array([2.0, 3.0]), jnp.array([4.0])))
        [6. 4.]
    """
    return diagonal.at[1:].add(lower).at[:-1].add(upper)


def binary_scale(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """2^e ≤ x < 2^{e+1} for x > 0, by which division is exact, and e; 1 and 0 for x = 0.

    Example:
        >>> import jax.numpy as jnp
        >>> scale, exponent = binary_scale(jnp.array(5.0))
        >>> float(scale), float(exponent)
        (4.0, 2.0)
    """
    _, exponent = jnp.frexp(jnp.where(x > 0, x, 1))
    return jnp.ldexp(jnp.ones((), x.dtype), exponent - 1), (exponent - 1).astype(x.dtype)


@materialize.rule(Tridiagonal, cost="O(n²)")
def _(A: Tridiagonal) -> jax.Array:
    """Placed on a zero matrix."""
    require_dense(A)
    n = A.shape[0]
    i = jnp.arange(n)
    a = jnp.zeros((n, n), A.dtype).at[i, i].set(A.diagonal.astype(A.dtype))
    a = a.at[i[1:], i[:-1]].set(A.lower.astype(A.dtype))
    return a.at[i[:-1], i[1:]].set(A.upper.astype(A.dtype))


@transpose.rule(Tridiagonal, cost="O(1)")
def _(A: Tridiagonal) -> Tridiagonal:
    """Outer diagonals exchanged."""
    return Tridiagonal(A.upper, A.diagonal, A.lower)


@conversion(Diagonal, Tridiagonal)
def _(A: Diagonal, like: LinearOperator | None) -> Tridiagonal:
    zeros = jnp.zeros_like(A.diagonal[1:])
    return Tridiagonal(zeros, A.diagonal, zeros)


@multiply.rule(Tridiagonal, Diagonal, cost="O(n)")
def _(A: Tridiagonal, B: Diagonal) -> Tridiagonal:
    """Scaled columns."""
    inner(A, B)
    d = B.diagonal
    return Tridiagonal(A.lower * d[:-1], A.diagonal * d, A.upper * d[1:])


@multiply.rule(Diagonal, Tridiagonal, cost="O(n)")
def _(A: Diagonal, B: Tridiagonal) -> Tridiagonal:
    """Scaled rows."""
    inner(A, B)
    d = A.diagonal
    return Tridiagonal(d[1:] * B.lower, d * B.diagonal, d[:-1] * B.upper)


@norm.rule(Tridiagonal, cost="O(n)")
def _(A: Tridiagonal, p: float = 2) -> jax.Array:
    """Norm of the three diagonals together."""
    entries = jnp.concatenate([d.astype(A.dtype) for d in (A.lower, A.diagonal, A.upper)])
    return scaled_norm(entries.astype(compute_dtype(A.dtype)), p)


@opnorm.rule(Tridiagonal, cost="O(n) for p = 1, inf; cost of svdvals for p = 2")
def _(A: Tridiagonal, p: float = 2) -> jax.Array:
    """Sums of the moduli of three entries; largest singular value for p = 2."""
    require_p(p)
    if p == 2:
        return jnp.max(svdvals(A), initial=0)
    dtype = compute_dtype(A.dtype)
    lower, diagonal, upper = (moduli(d.astype(dtype)) for d in (A.lower, A.diagonal, A.upper))
    sums = band_sums(lower, diagonal, upper) if p == jnp.inf else band_sums(upper, diagonal, lower)
    return jnp.max(sums, initial=0)


@jax.jit
def _minors(A: Tridiagonal) -> tuple[jax.Array, jax.Array]:
    """Mantissa and binary exponent of det A, by the leading minors f_k = a_k f_{k−1} − b_{k−1} c_{k−1} f_{k−2}."""
    dtype = compute_dtype(A.dtype)
    b, a, c = (x.astype(dtype) for x in (A.lower, A.diagonal, A.upper))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(jnp.concatenate([b, a, c])), initial=0))
    unit, unit_exponent = binary_scale(largest)
    b, a, c = b / unit, a / unit, c / unit
    bc = b * c
    bc = jnp.concatenate([jnp.zeros((1,), dtype), bc])[: a.shape[0]]

    def step(state: tuple, entry: tuple) -> tuple:
        (before, last), log_scale = state
        a_k, bc_k = entry
        pair = (last, a_k * last - bc_k * before)
        # the scale is a constant for the derivative: it cancels
        size, exponent = binary_scale(jax.lax.stop_gradient(jnp.maximum(jnp.abs(pair[0]), jnp.abs(pair[1]))))
        return (tuple(x / size for x in pair), log_scale + exponent), None

    start = ((jnp.zeros((), dtype), jnp.ones((), dtype)), a.shape[0] * unit_exponent)
    ((_, mantissa), exponent), _ = jax.lax.scan(step, start, (a, bc))
    return mantissa, exponent


@det.rule(Tridiagonal, cost="O(n)")
def _(A: Tridiagonal) -> jax.Array:
    """Three-term recurrence of the leading minors, scaled."""
    mantissa, exponent = _minors(A)
    half = jnp.floor(exponent / 2)  # the scale itself may overflow where the determinant does not
    return mantissa * jnp.exp2(half).astype(mantissa.dtype) * jnp.exp2(exponent - half).astype(mantissa.dtype)


@logabsdet.rule(Tridiagonal, cost="O(n)")
def _(A: Tridiagonal) -> LogAbsDet:
    """Three-term recurrence of the leading minors, scaled."""
    mantissa, exponent = _minors(A)
    modulus = jnp.abs(mantissa)
    safe = jnp.where(modulus > 0, modulus, 1)
    logabs = jnp.where(modulus > 0, jnp.log(safe) + exponent * jnp.log(2.0).astype(exponent.dtype), -jnp.inf)
    return LogAbsDet(logabs, jnp.where(modulus > 0, mantissa / safe, 0))


def solve_band(A: Tridiagonal, b: jax.Array) -> jax.Array:
    """x with A x = b [n, k], by LAPACK's elimination with partial pivoting; NaN for a singular matrix.

    XLA has it on CPU and GPU (n ≥ 3 there); elsewhere it would eliminate without pivoting, so rotations serve.

    Example:
        >>> import jax.numpy as jnp
        >>> A = Tridiagonal(jnp.ones(1), jnp.array([0.0, 0.0]), jnp.ones(1))
        >>> print(solve_band(A, jnp.array([[1.0], [2.0]])).T)
        [[2. 1.]]
    """
    n = A.shape[0]
    zero = jnp.zeros((1,), b.dtype)
    lower = jnp.concatenate([zero, A.lower.astype(b.dtype)])
    upper = jnp.concatenate([A.upper.astype(b.dtype), zero])
    diagonal = A.diagonal.astype(b.dtype)

    def band(lower, diagonal, upper, b):
        return jax.lax.linalg.tridiagonal_solve(lower, diagonal, upper, b)

    if n <= 2:
        return solve_by_rotations(lower, diagonal, upper, b)
    return jax.lax.platform_dependent(
        lower, diagonal, upper, b, cpu=band, cuda=band, rocm=band, default=solve_by_rotations
    )


def solve_by_rotations(lower: jax.Array, diagonal: jax.Array, upper: jax.Array, b: jax.Array) -> jax.Array:
    """x with A x = b [n, k] by the QR factorisation of a tridiagonal A with Givens rotations: backward stable, O(n).

    Args:
        lower, diagonal, upper: [n] each, with lower[0] and upper[n − 1] not looked at.
        b: right-hand sides [n, k].

    Returns:
        x [n, k]; inf or NaN for a singular matrix.

    Example:
        >>> import jax.numpy as jnp
        >>> x = solve_by_rotations(jnp.ones(2), jnp.array([0.0, 3.0]), jnp.ones(2), jnp.array([[1.0], [2.0]]))
        >>> print(x.T)
        [[-1.  1.]]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 5.1.8 and 5.2.5.
    """
    n = diagonal.shape[0]
    zero = jnp.zeros((1,), b.dtype)
    upper = jnp.concatenate([upper[: n - 1], zero])

    def rotate(row: tuple, below: tuple) -> tuple[tuple, tuple]:
        (d, u, y), (l, a, c, z) = row, below
        r = jnp.sqrt(jnp.real(d * d.conj() + l * l.conj())).astype(d.dtype)
        unit = jnp.where(r == 0, 1, r)
        cosine, sine = jnp.where(r == 0, 1, d / unit), l / unit
        finished = (r, cosine.conj() * u + sine.conj() * a, sine.conj() * c, cosine.conj() * y + sine.conj() * z)
        return (cosine * a - sine * u, cosine * c, cosine * z - sine * y), finished

    rows = (lower[1:n], diagonal[1:], upper[1:], b[1:])
    last, finished = jax.lax.scan(rotate, (diagonal[0], upper[0], b[0]), rows)
    r, first, second, y = (
        jnp.concatenate([x, e[None]]) for x, e in zip(finished, (last[0], 0 * last[1], zero[0], last[2]))
    )

    def substitute(known: tuple, row: tuple) -> tuple[tuple, jax.Array]:
        (x1, x2), (r, u, v, y) = known, row
        x = (y - u * x1 - v * x2) / r
        return (x, x1), x

    _, x = jax.lax.scan(substitute, (jnp.zeros_like(b[0]),) * 2, (r, first, second, y), reverse=True)
    return x


@solve.rule(Tridiagonal, cost="O(n) per column")
@by_columns
def _(A: Tridiagonal, b: jax.Array) -> jax.Array:
    """LAPACK's tridiagonal elimination with partial pivoting."""
    if 0 in b.shape:
        return b
    x = solve_band(A, b)
    if known_not_finite(x):
        return solve.lookup(LinearOperator).function(A, b)  # names the pivot that is zero
    return x
