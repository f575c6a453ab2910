"""Functions of square matrices: exponential, logarithm, square root and powers."""

from __future__ import annotations

import functools
import math
import operator as op
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import above_rounding, known_not_finite, require_differentiable, with_derivative_of
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense.branch import off_the_cut, principal
from lax_linalg.dense.scaling import by_power_of_two, over_unit, unit_of
from lax_linalg.errors import NonFiniteError, SingularError
from lax_linalg.verbs.arithmetic import multiply
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.det import logabsdet
from lax_linalg.verbs.schur import schur_form
from lax_linalg.verbs.solve import inv


@verb(algorithm="Scaling and squaring with Padé approximants, on the materialised matrix.", cost="O(n³)", square=True)
def exp(A: LinearOperator) -> LinearOperator:
    """Matrix exponential, eᴬ = Σ Aᵏ / k!, as an operator.

    Args:
        A: square operator or array [n, n].

    Returns:
        The operator eᴬ, differentiable everywhere; diagonal and superdiagonal of a triangular A (an array that happens
        to be one, too) keep full accuracy. NaN where an eigenvalue is above about 10/ε, of which rounding alone
        changes eᴬ by a factor.

    Raises:
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.exp([[0.0, 1.0], [0.0, 0.0]])))
        [[1. 1.]
         [0. 1.]]

    Source: Al-Mohy & Higham, A new scaling and squaring algorithm for the matrix exponential, SIAM J. Matrix Anal.
    Appl. (2009).
    """
    from lax_linalg.core.dense import Dense

    a = dense(A)
    return Dense(matrix_exponential(a) if a.size else a)


# degree m of the Padé approximant, and θ_m: its backward error is below rounding where ‖Aᵏ‖^{1/k} ≤ θ_m for the powers
# that count (Higham 2005, table 2.3; Al-Mohy & Higham 2009, table 3.1)
_EXP_PADE = {"float32": (7, 3.925724783138660), "float64": (13, 4.25)}


@jax.jit
def matrix_exponential(a: jax.Array) -> jax.Array:
    """eᴬ of an array [n, n], n ≥ 1; NaN where an eigenvalue is above about 10/ε, of which no digit would be right.

    Where the diagonal is so negative that eᴬ underflows it is 0, however large A is.

    The norms of powers choose the scaling, because ‖A‖ is too large for a matrix that is far from normal and each
    needless squaring costs digits. A triangular A is graded by a diagonal similarity first, and its squarings get their
    diagonal and their first superdiagonal from the formula for 2×2 matrices.

    Example:
        >>> import jax.numpy as jnp
        >>> print(matrix_exponential(jnp.zeros((2, 2))))
        [[1. 0.]
         [0. 1.]]

    Source: Al-Mohy & Higham, A new scaling and squaring algorithm for the matrix exponential, SIAM J. Matrix Anal.
    Appl. (2009), algorithm 6.1 and code fragment 2.1.
    """
    real = jnp.finfo(a.dtype)
    degree, radius = _EXP_PADE[real.dtype.name]
    vanishes = _logarithmic_norm(jax.lax.stop_gradient(a)) < math.log(float(real.smallest_subnormal))
    a = jnp.where(vanishes, 0, a)
    lower = _is_upper_triangular(a.T)
    a = jnp.where(lower, a.T, a)
    upper = _is_upper_triangular(a)
    grading = _grading(jax.lax.stop_gradient(a), upper)
    a = by_power_of_two(a, -grading)
    powers: dict[int, tuple[jax.Array, jax.Array]] = {1: _at_root_of_norm(a, jnp.zeros((), jnp.int32))}
    for i, j in ((1, 1), (2, 2), (2, 4), (4, 4), (4, 6)):
        (x, ex), (y, ey) = powers[i], powers[j]
        powers[i + j] = _at_root_of_norm(x @ y, ex + ey)
    squarings = _squarings({k: jax.lax.stop_gradient(x) for k, x in powers.items()}, degree, radius)
    limit = real.nmant + 3
    steps = jnp.clip(squarings, 0, limit).astype(jnp.int32)
    X = _exp_approximant({k: by_power_of_two(x, e - k * steps) for k, (x, e) in powers.items() if k <= 6}, degree)

    def squared(X: jax.Array, k: jax.Array) -> jax.Array:
        X = jnp.where(k == 0, X, X @ X)
        scaled = by_power_of_two(jax.lax.stop_gradient(a), k - steps)
        return with_derivative_of(X, jnp.where(upper, _with_exp_of_bidiagonal(scaled, X), X))

    def step(X: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        return jax.lax.cond(k <= steps, squared, lambda X, _: X, X, k), None

    X, _ = jax.lax.scan(step, X, jnp.arange(limit + 1, dtype=jnp.int32))
    X = by_power_of_two(X, grading)
    return jnp.where(vanishes, 0, jnp.where(squarings <= limit, jnp.where(lower, X.T, X), jnp.nan))


def _logarithmic_norm(a: jax.Array) -> jax.Array:
    """The smaller of μ₁ and μ_∞, max_j Re a_jj + Σ_{i≠j} |a_ij| by columns or rows: ‖eᴬ‖ ≤ e^μ."""
    diagonal = jnp.diagonal(a)
    off = jnp.abs(a - jnp.diag(diagonal))
    return jnp.minimum(*(jnp.max(diagonal.real + jnp.sum(off, axis)) for axis in (0, 1)))


def _is_upper_triangular(a: jax.Array) -> jax.Array:
    return jnp.all(jnp.tril(a, -1) == 0)


def _grading(a: jax.Array, upper: jax.Array) -> jax.Array:
    """Exponents k (j − i) with which 2^−k(j−i) a_ij, a similar matrix, has no triangle far above its diagonal."""
    n = a.shape[0]
    gaps = jnp.arange(n) - jnp.arange(n)[:, None]
    exponents = jnp.frexp(jnp.abs(a))[1]
    excess = exponents - jnp.maximum(jnp.max(jnp.diagonal(exponents)), 1)
    k = jnp.max(jnp.where((gaps > 0) & (a != 0), -(-excess // jnp.maximum(gaps, 1)), 0))
    most = (jnp.finfo(a.dtype).maxexp - 2) // max(n - 1, 1)  # the derivatives by the other triangle grow as much
    return jnp.where(upper, jnp.clip(k, 0, most), 0) * gaps


def _one_norm(a: jax.Array) -> jax.Array:
    return jnp.max(jnp.sum(jnp.abs(a), axis=0))


def _at_root_of_norm(a: jax.Array, exponent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The matrix a · 2^exponent as x · 2^e with ‖x‖₁ about √‖a‖₁, whose products do not overflow."""
    norm = jax.lax.stop_gradient(_one_norm(a))
    half = jnp.where(norm > 0, jnp.frexp(norm)[1] // 2, 0)
    return by_power_of_two(a, -half), exponent + half


def _squarings(powers: dict[int, tuple[jax.Array, jax.Array]], degree: int, radius: float) -> jax.Array:
    """The number of squarings, a float: inf or NaN where a power is not finite."""
    dtype = jnp.finfo(powers[1][0].dtype).dtype
    logs = {k: (jnp.log2(_one_norm(x)) + e.astype(dtype)) / k for k, (x, e) in powers.items()}
    pairs = [(k, k + 2) for k in (4, 6, 8) if k * (k - 2) <= 4 * degree]
    growth = functools.reduce(jnp.minimum, [jnp.maximum(logs[i], logs[j]) for i, j in pairs])
    # ‖|A|^{2m+1}‖₁ / ‖A‖₁, in which nothing cancels, bounds the rounding errors of the approximant (section 5)
    x, e = powers[1]

    def times(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        row, log = state
        row = row @ jnp.abs(x)
        size = jnp.max(row)
        return row / jnp.where(size > 0, size, 1), log + jnp.log2(size)

    start = jnp.ones(x.shape[:1], dtype), jnp.zeros((), dtype)
    _, log = jax.lax.fori_loop(0, 2 * degree + 1, times, start)
    log = log + 2 * degree * e.astype(dtype) - jnp.log2(_one_norm(x))
    constant = -math.log2(math.comb(2 * degree, degree)) - math.lgamma(2 * degree + 2) / math.log(2)
    rounding = (log + constant - math.log2(jnp.finfo(dtype).eps / 2)) / (2 * degree)
    needed = jnp.ceil(jnp.maximum(growth - math.log2(radius), rounding))
    return jnp.where(_one_norm(x) == 0, 0, jnp.maximum(needed, 0))


def _exp_approximant(powers: dict[int, jax.Array], degree: int) -> jax.Array:
    """The [m/m] Padé approximant of eᴬ from A, A², A⁴ and A⁶."""
    m = degree
    # b_j / b_0, so that nothing overflows where the result does not
    b = [math.comb(m, j) / math.perm(2 * m, j) for j in range(m + 1)]
    one = jnp.eye(powers[1].shape[0], dtype=powers[1].dtype)
    even = {0: one, **powers}

    def polynomial(first: int) -> jax.Array:
        """Σ b_{j+first} Aʲ over even j."""
        low: Any = sum(b[j + first] * even[j] for j in (0, 2, 4, 6))
        high = [b[j + first] * even[j - 6] for j in (8, 10, 12) if j + first <= m]
        return low + even[6] @ sum(high) if high else low

    U, V = powers[1] @ polynomial(1), polynomial(0)
    return jnp.linalg.solve(V - U, V + U)


def _with_exp_of_bidiagonal(T: jax.Array, X: jax.Array) -> jax.Array:
    """X with the diagonal and the first superdiagonal of e^T, T upper triangular."""
    w = jnp.diagonal(T)
    a, b = w[:-1], w[1:]
    first = jnp.where(a.real >= b.real, a, b)
    z = a + b - 2 * first  # (e^a − e^b)/(a − b) = e^first (e^z − 1)/z with Re z ≤ 0
    quotient = jnp.exp(first) * jnp.where(z == 0, 1, jnp.expm1(z) / jnp.where(z == 0, 1, z))
    return _with_bidiagonal(X, jnp.exp(w), jnp.diagonal(T, 1) * quotient)


def _with_bidiagonal(X: jax.Array, diagonal: jax.Array, superdiagonal: jax.Array) -> jax.Array:
    offset = jnp.arange(X.shape[0]) - jnp.arange(X.shape[0])[:, None]
    above = jnp.pad(superdiagonal, (0, X.shape[0] - superdiagonal.shape[0]))
    return jnp.where(offset == 0, diagonal[:, None], jnp.where(offset == 1, above[:, None], X))


@verb(algorithm="Inverse scaling and squaring on the complex Schur form.", cost="O(n³)", square=True)
def log(A: LinearOperator) -> LinearOperator:
    """Principal logarithm, the X with eˣ = A whose eigenvalues have imaginary parts in (−π, π], as an operator.

    Args:
        A: nonsingular operator or array [n, n].

    Returns:
        The operator log A: complex unless A is Hermitian by type, because an eigenvalue may be negative; for a real A
        with no eigenvalue on the closed negative axis its imaginary part is rounding. Differentiable there.

    Raises:
        SingularError: if A is singular; under ``jit`` the entries are inf or NaN instead.
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> X = la.log([[1.0, 1.0], [0.0, 1.0]])
        >>> print(jnp.abs(la.materialize(X)).round(5))
        [[0. 1.]
         [0. 0.]]

    Source: Higham, Functions of Matrices (2008), algorithm 11.9; Al-Mohy & Higham, SIAM J. Sci. Comput. (2012).
    """
    return _principal("log", A)


@verb(algorithm="Björck–Hammarling recurrence on the complex Schur form.", cost="O(n³)", square=True)
def sqrt(A: LinearOperator) -> LinearOperator:
    """Principal square root, the X with X² = A whose eigenvalues have real parts ≥ 0, as an operator.

    Args:
        A: operator or array [n, n]; a zero eigenvalue must be semisimple (else no root exists).

    Returns:
        The operator √A: complex unless A is Hermitian by type, because an eigenvalue may be negative; for a real A
        with no eigenvalue on the negative axis its imaginary part is rounding. Differentiable where A is nonsingular.

    Raises:
        SingularError: if no square root exists; under ``jit`` the entries are inf or NaN instead.
        NotDifferentiableError: on differentiating at a singular A; NaN under ``jit``.
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> print(jnp.abs(la.materialize(la.sqrt([[4.0, 0.0], [0.0, 9.0]]))).round(5))
        [[2. 0.]
         [0. 3.]]

    Source: Björck & Hammarling, A Schur method for the square root of a matrix, Linear Algebra Appl. (1983).
    """
    return _principal("sqrt", A)


@verb(
    algorithm="Repeated squaring; log and exp for the fractional part of the exponent.", cost="O(n³ log p)", square=True
)
def power(A: LinearOperator, p: complex | jax.Array) -> LinearOperator:
    """Power Aᵖ as an operator: integer p by repeated squaring (of A⁻¹ if p < 0), other p by the principal branch.

    Args:
        A: square operator or array [n, n]; nonsingular unless p is a multiple of ½ and ≥ 0.
        p: the exponent, real or complex; an integer ≥ 0 keeps A's dtype (float32 in half precision), and every integer
            keeps A's structure wherever products do; another number gives exp(p log A).

    Returns:
        The operator Aᵖ; complex where `log` is, for p that is not an integer, and where a matrix that is Hermitian by
        type has a negative eigenvalue (NaN under ``jit`` if A is real, since dtypes cannot follow from numbers there;
        with ``A.astype(complex)`` the complex result).

    Raises:
        SingularError: as `inv`, `sqrt` and `log`.
        DimensionMismatch: unless A is square.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.power([[1.0, 1.0], [0.0, 1.0]], 5)))
        [[1. 5.]
         [0. 1.]]
        >>> la.Diagonal([2.0, 3.0]) ** -2
        2×2 Diagonal{float32}
    """
    exponent = whole_exponent(p)
    if exponent is not None:
        return integer_power(A, exponent)
    if isinstance(p, jax.Array) or p.imag:
        return _power_near_one(A, p)
    p = p.real
    whole = math.trunc(p)  # towards zero, so that nothing cancels between the factors
    if whole_exponent(2 * p) is not None:
        fraction = sqrt(A) if p > 0 else inv(sqrt(A))
    else:
        fraction = _power_near_one(A, p - whole)
    return multiply(power(A, whole), fraction) if whole else fraction


def _power_near_one(A: LinearOperator, p: complex | jax.Array) -> LinearOperator:
    """exp(p log A) as u^p exp(p log(A/u)), u of the eigenvalues' size: derivatives by log A stay in range."""
    if not A.linear or A.unsized or not A.shape[0]:
        return exp(log(A) * p)
    size = jnp.exp(jax.lax.stop_gradient(logabsdet(A).logabs) / A.shape[0])
    unit = unit_of(jnp.where(jnp.isfinite(size), size, 1))
    return exp(log(A * (1 / unit)) * p) * jnp.exp(p * jnp.log(unit))


def whole_exponent(p: complex | jax.Array) -> int | None:
    """The exponent as an int if it is known to be a whole number.

    Example:
        >>> whole_exponent(2.0), whole_exponent(0.5), whole_exponent(1j)
        (2, None, None)
    """
    whole = not isinstance(p, jax.Array) and p.imag == 0 and float(p.real).is_integer()
    return int(p.real) if whole else None


def integer_power(A: LinearOperator, p: int) -> LinearOperator:
    """A^p by repeated squaring, within the structure wherever products are.

    Example:
        >>> import lax_linalg as la
        >>> integer_power(la.Diagonal([2.0, 3.0]), 3)
        2×2 Diagonal{float32}
    """
    from lax_linalg.operators.uniform_scaling import UniformScaling

    p = op.index(p)
    if p < 0:
        A, p = inv(A), -p
    if p == 0:
        return UniformScaling(jnp.ones((), A.dtype), None if A.unsized else A.shape[0])
    if p == 1:
        return A
    half = integer_power(A, p // 2)
    square = multiply(half, half)
    return multiply(square, A) if p % 2 else square


def _principal(name: str, A: LinearOperator) -> LinearOperator:
    from lax_linalg.core.dense import Dense

    a = dense(A)
    if a.size == 0:
        return Dense(a.astype(jnp.result_type(a.dtype, jnp.complex64)))
    X = _principal_root(name, a)
    if known_not_finite(X):
        pivots = jnp.abs(jnp.diagonal(jax.lax.linalg.lu(a)[0]))
        if above_rounding(pivots, a.shape[0]):
            raise NonFiniteError(f"{name}: the result overflows {X.dtype.name}; a higher precision may hold it")
        raise rootless(name, int(jnp.argmin(pivots)))
    if isinstance(X, Tracer) and name == "sqrt":
        pivots = jnp.diagonal(jax.lax.linalg.lu(jax.lax.stop_gradient(a))[0])
        require_differentiable(X, above_rounding(pivots, a.shape[0]), "sqrt has no derivative at a singular matrix")
    return Dense(X)


def rootless(name: str, index: int | None) -> SingularError:
    """The error of `log` and `sqrt`; `index` is that of a zero pivot, where one is known.

    Example:
        >>> raise rootless("log", 2)
        Traceback (most recent call last):
        lax_linalg.errors.SingularError: log: the matrix is singular, pivot 2 is zero, and has no log; add a small
        multiple of I
    """
    pivot = "" if index is None else f", pivot {index} is zero,"
    message = f"{name}: the matrix is singular{pivot} and has no {name}; add a small multiple of I"
    return SingularError(message, index=index)


@functools.partial(jax.jit, static_argnums=0)
def _principal_root(name: str, a: jax.Array) -> jax.Array:
    """The principal X with inverse(X) = A by the Schur form, where `name` is "log" or "sqrt"."""
    a = a.astype(jnp.result_type(a.dtype, jnp.complex64))
    return _root_by_schur(name, a, lambda: _schur_off_the_cut(a))


def _root_by_schur(name: str, a: jax.Array, form: Callable[[], tuple[jax.Array, jax.Array]]) -> jax.Array:
    inverse, of_triangular, derivative = _PRINCIPAL[name]

    def compute() -> jax.Array:
        T, Z = form()
        return Z @ of_triangular(T) @ Z.conj().T

    return implicit_root(a, inverse, compute, lambda E: derivative(a, E), lambda E: derivative(a.T, E))


@functools.partial(jax.jit, static_argnums=0)
def principal_difference(name: str, value: jax.Array, M: jax.Array) -> tuple[jax.Array, jax.Array]:
    """f(λ) and g(M) = (f(λI + M) − f(λ)I) M⁻¹, for M singular too, where f is the principal log or sqrt.

    Args:
        name: "log" or "sqrt".
        value: λ, a number of M's dtype.
        M: the matrix [k, k].

    Returns:
        f(λ), a complex number, and g(M) [k, k]: the corner of f([[λI + M, I], [0, λI]]), of which the Schur form is
        that of λI + M.

    Example:
        >>> import jax.numpy as jnp
        >>> root, g = principal_difference("sqrt", jnp.array(4.0), jnp.zeros((1, 1)))  # g(0) is the derivative 1/(2√λ)
        >>> root, g
        (Array(2.+0.j, dtype=complex64), Array([[0.25+0.j]], dtype=complex64))
    """
    k = M.shape[0]
    value, M = (x.astype(jnp.result_type(x.dtype, jnp.complex64)) for x in (value, M))
    one, zero = jnp.eye(k, dtype=M.dtype), jnp.zeros_like(M)
    # f of the block matrix is accurate relative to its norm: with a corner as large as the rest, so is g
    size = jax.lax.stop_gradient(jnp.maximum(jnp.abs(value), jnp.max(jnp.abs(M))))
    size = jnp.where(size > 0, size, 1)

    def blocks(corner: jax.Array) -> jax.Array:
        return jnp.block([[corner, size * one], [zero, value * one]])

    def form() -> tuple[jax.Array, jax.Array]:
        T, Z = _schur_off_the_cut(value * one + M)
        return blocks(T), jnp.block([[Z, zero], [zero, Z]])

    X = _root_by_schur(name, blocks(value * one + M), form)
    return principal(name, value), X[:k, k:] / size


def implicit_root(
    a: jax.Array,
    inverse: Callable[[jax.Array], jax.Array],
    compute: Callable[[], jax.Array],
    derivative: Callable[[jax.Array], jax.Array],
    transposed: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """The solution X = compute() of inverse(X) = A, differentiated implicitly: to any order and in both modes.

    Args:
        a: the matrix A [n, n].
        inverse: a function of X that JAX can differentiate, with inverse(X) = A.
        compute: finds X.
        derivative: the Fréchet derivative E ↦ L(A, E) of A ↦ X.
        transposed: its transpose, E ↦ L(Aᵀ, E) for a matrix function.

    Example:
        >>> import jax
        >>> x = jax.numpy.array([[4.0]])
        >>> root = lambda a: implicit_root(a, jax.numpy.square, lambda: jax.numpy.sqrt(a), *(lambda e: e / 4,) * 2)
        >>> print(jax.jvp(root, (x,), (x,))[1])
        [[1.]]
    """

    def tangent_solve(linear: Any, y: jax.Array) -> jax.Array:
        return jax.lax.custom_linear_solve(
            linear, y, solve=lambda _, b: derivative(b), transpose_solve=lambda _, b: transposed(b)
        )

    return jax.lax.custom_root(lambda X: inverse(X) - a, a, lambda *_: compute(), tangent_solve)


def _schur_off_the_cut(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Schur form of a complex matrix in which the negative eigenvalues are real if its imaginary part is zero.

    Rounding leaves them on either side of the cut.
    """
    T, Z = schur_form(a)
    noise = 10 * T.shape[0] * jnp.finfo(T.dtype).eps * jnp.max(jnp.abs(T))
    diagonal = off_the_cut(jnp.diagonal(T), jnp.where(jnp.all(a.imag == 0), noise, 0))
    return jnp.triu(T, 1) + jnp.diag(diagonal), Z


def _sqrt_of_triangular(T: jax.Array) -> jax.Array:
    # r_ij (r_ii + r_jj) = t_ij − Σ_{i<l<j} r_il r_lj, one superdiagonal after the other
    n = T.shape[0]
    roots = principal("sqrt", jnp.diagonal(T))
    rows = jnp.arange(n)

    def superdiagonal(k: jax.Array, R: jax.Array) -> jax.Array:
        columns = jnp.minimum(rows + k, n - 1)
        strict = R - jnp.diag(roots)
        right = T[rows, columns] - jnp.sum(strict * strict[:, columns].T, axis=1)
        sums = roots + roots[columns]
        entries = jnp.where((right == 0) & (sums == 0), 0, right / sums)
        return jnp.where((rows[:, None] + k == rows[None, :]), entries[:, None], R)

    return jax.lax.fori_loop(1, n, superdiagonal, jnp.diag(roots))


def _sqrt_derivative(a: jax.Array, E: jax.Array) -> jax.Array:
    """L(A, E), the F with √A F + F √A = E, by the triangular Sylvester equation."""
    T, Z = _schur_off_the_cut(a)
    R = _sqrt_of_triangular(T)
    C = Z.conj().T @ E @ Z
    n = R.shape[0]
    identity = jnp.eye(n, dtype=R.dtype)

    def column(F: jax.Array, j: jax.Array) -> tuple[jax.Array, None]:
        right = C[:, j] - F @ jnp.where(jnp.arange(n) < j, R[:, j], 0)
        return F.at[:, j].set(jax.scipy.linalg.solve_triangular(R + R[j, j] * identity, right)), None

    F, _ = jax.lax.scan(column, jnp.zeros_like(C), jnp.arange(n))
    return Z @ F @ Z.conj().T


# The [7/7] Padé approximant of log(I + X) is accurate to double precision where the norms of powers, ‖X⁴‖^{1/4} and
# ‖X⁵‖^{1/5}, are up to θ₇ (Higham 2008, table 11.1; Al-Mohy & Higham 2012, theorem 2.1); as Gauss–Legendre quadrature
# of ∫₀¹ X (I + t X)⁻¹ dt it is a sum of solves.
_PADE_DEGREE, _PADE_RADIUS = 7, 0.264
_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(_PADE_DEGREE)[i] for i in (0, 1))


def _log_of_triangular(T: jax.Array) -> jax.Array:
    real = jnp.finfo(T.dtype)
    identity = jnp.eye(T.shape[0], dtype=T.dtype)
    given, superdiagonal = jnp.diagonal(T), jnp.diagonal(T, 1)
    T = over_unit(T, unit_of(given))  # log(u A) is log A + log u I: square roots would take 2^34 A to I one bit a time
    logs = principal("log", jnp.diagonal(T))

    def less_identity(k: jax.Array, root: jax.Array) -> jax.Array:
        """T^{1/2ᵏ} − I, its diagonal without the cancellation."""
        return jnp.triu(root, 1) + jnp.diag(jnp.expm1(by_power_of_two(logs, -k)))

    def far(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        X = less_identity(*state)
        fourth = jnp.linalg.matrix_power(X, 4)
        radius = jnp.maximum(_one_norm(fourth) ** 0.25, _one_norm(fourth @ X) ** 0.2)
        return (radius > _PADE_RADIUS) & (state[0] < real.maxexp)  # NaN compares false and stops

    k, root = jax.lax.while_loop(far, lambda s: (s[0] + 1, _sqrt_of_triangular(s[1])), (jnp.int32(0), T))
    X = less_identity(k, root)
    nodes, weights = jnp.asarray((_NODES + 1) / 2, real.dtype), jnp.asarray(_WEIGHTS / 2, real.dtype)
    terms = jax.vmap(lambda t, w: w * jax.scipy.linalg.solve_triangular(identity + t * X, X))(nodes, weights)
    approximation = jnp.triu(by_power_of_two(jnp.sum(terms, axis=0), k))
    logs = principal("log", given)
    return _with_bidiagonal(approximation, logs, superdiagonal * _log_difference(given, logs))


def _log_difference(w: jax.Array, logs: jax.Array) -> jax.Array:
    """The divided differences (log w_{i+1} − log w_i) / (w_{i+1} − w_i) of neighbours [n − 1] (Higham 2008, 11.28)."""
    a, gap, change = w[:-1], w[1:] - w[:-1], logs[1:] - logs[:-1]
    safe = jnp.where(a == 0, 1, a)
    near = jnp.abs(gap) <= jnp.abs(a) / 2
    accurate = jnp.log1p(jnp.where(near, gap / safe, 0))
    turns = jnp.round((change - accurate).imag / (2 * np.pi))  # neighbours on either side of the cut
    change = jnp.where(near, accurate + jax.lax.complex(jnp.zeros_like(turns), 2 * np.pi * turns), change)
    return jnp.where(gap == 0, 1 / safe, change / jnp.where(gap == 0, 1, gap))


def _log_derivative(a: jax.Array, E: jax.Array) -> jax.Array:
    """L(A, E), the corner of log [[A, E], [0, A]], which is triangular in the Schur basis of A."""
    T, Z = _schur_off_the_cut(a)
    C = Z.conj().T @ E @ Z
    size = jnp.max(jnp.abs(C))
    # L is linear in E: a direction as small as T keeps the number of square roots that A itself needs
    unit = jnp.where(size > 0, size, 1) / jnp.maximum(jnp.min(jnp.abs(jnp.diagonal(T))), jnp.finfo(size.dtype).tiny)
    n = T.shape[0]
    block = jnp.block([[T, C / unit], [jnp.zeros_like(T), T]])
    return Z @ (unit * _log_of_triangular(block)[:n, n:]) @ Z.conj().T


_PRINCIPAL = {
    "log": (matrix_exponential, _log_of_triangular, _log_derivative),
    "sqrt": (lambda X: X @ X, _sqrt_of_triangular, _sqrt_derivative),
}
