"""Determinants, on the linear and on the logarithmic scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import constant_unless, decided, require_differentiable
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense import platform
from lax_linalg.dense.branch import on_the_cut
from lax_linalg.dense.scaling import at_unit_scale, by_power_of_two, moduli, phases
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.verbs.basic import dense


class LogAbsDet(NamedTuple):
    """det A = sign · exp(logabs); sign is ±1 or 0 for real A and on the unit circle for complex A.

    Example:
        >>> import lax_linalg as la
        >>> logabs, sign = la.logabsdet([[-1.0]])
        >>> float(logabs), float(sign)
        (0.0, -1.0)
    """

    logabs: jax.Array
    sign: jax.Array


@jax.jit
def product(d: jax.Array) -> jax.Array:
    """∏ d_i of factors d [n], which over- or underflows only where the product itself does.

    Example:
        >>> import jax.numpy as jnp
        >>> print(product(jnp.array([1e30, 1e30, 1e-30, 1e-30])).round(4))  # 1e60 is no float32
        1.0
    """
    n = d.shape[0]
    d = jnp.concatenate([d, jnp.ones((1 << max(n - 1, 0).bit_length()) - n, d.dtype)])
    exponents = jnp.zeros(d.shape, jnp.int32)
    while True:
        modulus = jax.lax.stop_gradient(jnp.maximum(jnp.abs(d.real), jnp.abs(d.imag)))
        exponent = jnp.where(modulus > 0, jnp.frexp(modulus)[1], 0)
        d, exponents = by_power_of_two(d, -exponent), exponents + exponent
        if d.shape[0] == 1:
            return by_power_of_two(d[0], exponents[0])
        d, exponents = d[::2] * d[1::2], exponents[::2] + exponents[1::2]


def product_of_dets(
    A: LinearOperator, dets: Callable[[Any], jax.Array], logabsdets: Callable[[Any], LogAbsDet]
) -> jax.Array:
    """The product of the determinants dets(A) [k]; by their logarithms where one of them leaves the range of floats.

    Args:
        A: what the determinants belong to.
        dets: the factors of det A.
        logabsdets: their logarithms and signs, [k] each.

    Returns:
        A scalar that over- or underflows only where it does itself. Its derivative is right at a singular A, too.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> round(float(la.det(la.Product((1e3 * la.I(20), 1e-3 * la.I(20))))), 3)  # 1e60 is no float32
        1.0
    """
    plain = dets(A)
    lost = jnp.any((plain == 0) | ~jnp.isfinite(plain))
    if decided(lost) is False:
        return product(plain)
    constant = jax.tree.map(lambda x: jnp.asarray(jax.lax.stop_gradient(x)), A)
    singular = jnp.any(logabsdets(constant).sign == 0)
    by_logs = lost & ~singular
    if decided(singular):
        return product(jnp.where(jnp.isfinite(plain), plain, 0))
    logabs, signs = logabsdets(constant_unless(A, by_logs))
    plain = dets(constant_unless(A, ~by_logs))
    plain = product(jnp.where(singular & ~jnp.isfinite(plain), 0, plain))
    return jnp.where(by_logs, (jnp.prod(signs) * jnp.exp(jnp.sum(logabs))).astype(plain.dtype), plain)


def sum_logabsdet(d: jax.Array) -> LogAbsDet:
    """log |∏ d_i| and its sign from the factors d [n] of a determinant.

    Example:
        >>> import jax.numpy as jnp
        >>> float(sum_logabsdet(jnp.array([-1.0, 1.0])).sign)
        -1.0
    """
    logs, phases = each_logabsdet(d)
    logabs, sign = jnp.sum(logs), jnp.prod(phases)
    require_regular(logabs, sign)
    return LogAbsDet(logabs, sign)


def each_logabsdet(d: jax.Array) -> LogAbsDet:
    """log |d_i| and d_i/|d_i| of each of the factors d [n].

    Example:
        >>> import jax.numpy as jnp
        >>> print(each_logabsdet(jnp.array([-1.0, 0.0])))
        LogAbsDet(logabs=Array([  0., -inf], dtype=float32), sign=Array([-1.,  0.], dtype=float32))
    """
    modulus = moduli(d)
    nonzero = modulus > 0
    sign = jnp.where(modulus == 0, 0, phases(d))
    return LogAbsDet(jnp.where(nonzero, jnp.log(jnp.where(nonzero, modulus, 1)), -jnp.inf), sign)


def require_regular(logabs: jax.Array, sign: jax.Array) -> None:
    """Raise `NotDifferentiableError` if log |det A| is being differentiated where A is singular.

    Example:
        >>> require_regular(jnp.array(-jnp.inf), jnp.array(0.0))  # not being differentiated
    """
    message = "logabsdet has no derivative at a singular matrix, where it is −∞; la.det has"
    require_differentiable(logabs, sign != 0, message)


@verb(algorithm="LU of the materialised matrix.", cost="O(n³)", square=True)
def det(A: LinearOperator) -> jax.Array:
    """Determinant; of a large matrix it often over- or underflows, `logabsdet` does not.

    Args:
        A: square operator or array [n, n].

    Returns:
        A scalar; 1 for the empty matrix, 0 for a singular one (where its gradient, the cofactors, is still right).

    Raises:
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> float(la.det([[2.0, 0.0], [0.0, 4.0]]))
        8.0
    """
    return dense_det(dense(A))


@jax.custom_jvp
def dense_det(a: jax.Array) -> jax.Array:
    """det A of an array [n, n], which over- or underflows only where it does itself; differentiable everywhere.

    Example:
        >>> import jax.numpy as jnp
        >>> print(jax.grad(dense_det)(jnp.zeros((1, 1))))
        [[1.]]
    """
    factors, pivots, _ = jax.lax.linalg.lu(a)
    exchanges = jnp.sum(pivots != jnp.arange(a.shape[0], dtype=pivots.dtype))
    return product(jnp.diagonal(factors)) * jnp.where(exchanges % 2, -1, 1).astype(a.dtype)


@dense_det.defjvp
def _dense_det_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    # of degree n − 1 in A, which may stay in range where the determinant does not
    return dense_det(a), jnp.sum(at_unit_scale(_cofactors, a.shape[0] - 1)(a) * da)


@jax.jit
def _cofactors(a: jax.Array) -> jax.Array:
    """The derivatives ∂ det A / ∂ a_ij, singular matrices included."""
    if a.size == 0:
        return a
    pivots = jnp.abs(jnp.diagonal(jax.lax.linalg.lu(jax.lax.stop_gradient(a))[0]))
    regular = jnp.min(pivots) > jnp.finfo(a.dtype).eps ** 0.5 * jnp.max(pivots)

    def by_inverse(a: jax.Array) -> jax.Array:
        safe = jnp.where(regular, a, jnp.eye(a.shape[0], dtype=a.dtype))  # a batch runs both branches
        return dense_det(safe) * jnp.linalg.inv(safe).T

    def by_svd(a: jax.Array) -> jax.Array:
        # adj(U Σ Vᴴ) = det(U Vᴴ) V adj(Σ) Uᴴ, of which none is an inverse
        U, s, Vt = platform.svd(a)
        ones = jnp.ones((1,), s.dtype)
        others = jnp.cumprod(jnp.concatenate([ones, s[:-1]])) * jnp.cumprod(jnp.concatenate([ones, s[:0:-1]]))[::-1]
        return dense_det(U) * dense_det(Vt) * (U.conj() * others) @ Vt.conj()

    return jax.lax.cond(regular, by_inverse, by_svd, a)


@verb(algorithm="LU of the materialised matrix.", cost="O(n³)", square=True)
def logabsdet(A: LinearOperator) -> LogAbsDet:
    """Logarithm of |det A| and the sign of the determinant.

    Args:
        A: square operator or array [n, n].

    Returns:
        `LogAbsDet(logabs, sign)`; (−inf, 0) for a singular matrix, (0, 1) for the empty one.

    Raises:
        NotDifferentiableError: on differentiating at a singular A; under ``jit`` the derivative is NaN or 0 there.
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> F = la.logabsdet(1e-30 * la.I(4))  # the determinant itself underflows
        >>> round(float(F.logabs), 2), float(F.sign)
        (-276.31, 1.0)
    """
    logabs, sign = dense_logabsdet(dense(A))
    require_regular(logabs, sign)
    return LogAbsDet(logabs, sign)


def dense_logabsdet(a: jax.Array) -> LogAbsDet:
    """log |det A| and its sign of an array [n, n].

    Example:
        >>> import jax.numpy as jnp
        >>> print(dense_logabsdet(1e-30 * jnp.eye(2)).logabs.round(1))
        -138.2
    """
    if a.shape == (2, 2):  # JAX takes the closed form, which over- and underflows; as a block of a larger matrix LU
        a = jnp.pad(a, (0, 1)).at[2, 2].set(1)
    sign, logabs = jnp.linalg.slogdet(a)
    return LogAbsDet(logabs, jnp.where(jnp.isnan(logabs), jnp.nan, sign))


@verb(algorithm="Sum of logabs and the logarithm of the sign.", cost="cost of logabsdet", square=True)
def logdet(A: LinearOperator) -> jax.Array:
    """Logarithm of the determinant, log det A.

    Args:
        A: square operator or array [n, n].

    Returns:
        A scalar, real for real A (−inf if singular) and the principal logarithm for complex A, its imaginary part
        in (−π, π].

    Raises:
        LinearAlgebraError: if A is real with a negative determinant; under ``jit`` the result is NaN instead.
        DimensionMismatch: unless A is square.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> round(float(la.logdet([[2.0, 0.0], [0.0, 4.0]])), 4)
        2.0794
    """
    logabs, sign = logabsdet(A)
    if jnp.iscomplexobj(sign):
        return logabs + 1j * jnp.angle(on_the_cut(sign))
    if decided(sign < 0):
        raise LinearAlgebraError(
            "logdet of a real matrix needs a determinant ≥ 0, this one is negative; la.logabsdet gives it with its sign"
        )
    return jnp.where(sign >= 0, logabs, jnp.nan)
