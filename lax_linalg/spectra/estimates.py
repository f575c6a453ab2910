"""Estimates of trace, norm and determinant from products with random vectors, each with its error."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import of_finite, require_square
from lax_linalg.core.eager_checks import require_differentiable
from lax_linalg.core.operator import LinearOperator, MatrixLike, as_operator
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.spectra.density import Estimate, estimate_from, quadrature_rules, rule_sums
from lax_linalg.spectra.krylov import safe_sqrt
from lax_linalg.verbs.basic import compute_dtype

METHODS = ("xtrace", "hutchinson")


def trace_estimate(A: MatrixLike, *, key: jax.Array, samples: int = 32, method: str = "xtrace") -> Estimate:
    """Estimate tr A from products with random vectors; `la.tr` is the exact trace.

    Hutchinson's estimator is the mean of vᵀA v over random signs v, with variance 2(‖A‖_F² − Σ a_ii²) for one vector
    and symmetric A. XTrace (matfree's) first takes out the part of A that samples/2 products span, and averages over
    which vector is left out: for a decaying spectrum its error falls as fast as the spectrum does. Its standard error
    comes from estimates that share vectors, and was seen to be up to twice too small.

    Args:
        A: square operator or array [n, n].
        key: of the random vectors.
        samples: products with A, at least 2; XTrace uses an even number, at most 2n.
        method: "xtrace" or "hutchinson".

    Returns:
        `Estimate`; complex for complex A. Its derivative is an unbiased estimate of that of the trace; XTrace's holds
        the spaces fixed.

    Raises:
        DimensionMismatch: unless A is square and samples ≥ 2.
        UnknownNameError: for another method.
        LinearAlgebraError: for "xtrace" without the package matfree.

    Cost: `samples` products; XTrace besides O(n samples²).

    Example:
        >>> import jax, lax_linalg as la
        >>> A = la.LowRank(jnp.ones((100, 1)), jnp.ones((100, 1)))  # rank 1: XTrace is exact to rounding
        >>> round(float(trace_estimate(A, key=jax.random.key(0), samples=8).value), 2)
        100.0

    Source: Hutchinson, Commun. Stat. Simul. Comput. 18 (1989); Epperly, Tropp & Webber, SIAM J. Matrix Anal. Appl. 45
    (2024), XTrace.
    """
    A = as_operator(A)
    require_square(A, "trace_estimate")
    if method not in METHODS:
        raise UnknownNameError.of("trace estimator", method, METHODS)
    if samples < 2:
        raise DimensionMismatch(f"trace_estimate needs at least 2 samples for an error estimate, got {samples}")
    if method == "xtrace":
        try:
            import matfree  # noqa: F401
        except ImportError:
            raise LinearAlgebraError(
                "XTrace needs the package matfree: pip install matfree, or ask for method='hutchinson'"
            ) from None
        vectors = max(1, min(samples // 2, A.shape[0]))
        return of_finite("trace_estimate", (A,), lambda A: _xtrace(A, key, vectors))
    return of_finite("trace_estimate", (A,), lambda A: _hutchinson(A, key, samples))


@functools.partial(jax.jit, static_argnums=2)
def _xtrace(A: LinearOperator, key: jax.Array, vectors: int) -> Estimate:
    if vectors == 1:
        return _hutchinson(A, key, 2)
    if 2 * vectors >= A.shape[0]:  # as many products give every entry of the diagonal
        with jax.default_matmul_precision("highest"):
            value = jnp.trace(A @ jnp.eye(A.shape[0], dtype=compute_dtype(A.dtype)))
        error = jnp.zeros((), value.real.dtype)
    else:
        value, error = _leave_one_out(vectors, A, key)
    return Estimate(value, error, jnp.zeros_like(error))


def _sampler(A: LinearOperator, vectors: int) -> Callable[[jax.Array], jax.Array]:
    from matfree import stochtrace

    return stochtrace.sampler_signs(jnp.zeros(A.shape[1], compute_dtype(A.dtype)), num=vectors)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _leave_one_out(vectors: int, A: LinearOperator, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Value and standard error of XTrace."""
    from matfree import stochtrace

    with jax.default_matmul_precision("highest"):
        estimate = stochtrace.estimator_leave_one_out_mean_and_sem(
            stochtrace.leave_one_out_xtrace(), sampler=_sampler(A, vectors)
        )
        return estimate(lambda v: A @ v, key)


@_leave_one_out.defjvp
def _leave_one_out_jvp(vectors, primals, tangents):
    # Without vector i the estimate is tr(Q_iᴴ A Q_i) + c μ_iᴴ A μ_i, μ_i the part of ω_i orthogonal to Q_i; whatever
    # the spaces are, it is unbiased. So is its derivative with the spaces held fixed, which exists where A has a rank
    # below the number of vectors, too: that of the QR factorisation does not.
    (A, key), (dA, _) = primals, tangents
    with jax.default_matmul_precision("highest"):
        omega = _sampler(A, vectors)(key).T
        Q, R = jnp.linalg.qr(jax.lax.stop_gradient(A) @ omega)
        others = jnp.stack([jnp.delete(R, i, axis=1) for i in range(vectors)])
        S = jnp.linalg.qr(others, mode="complete")[0][:, :, -1].T  # Q_i Q_iᴴ = Q (I − s_i s_iᴴ) Qᴴ
        W = Q.conj().T @ omega
        mu = omega - Q @ (W - S * jnp.sum(S.conj() * W, axis=0))
        left_out = Q @ S
        Y = jnp.concatenate([Q, left_out, mu], axis=1)
        _, dAY = jax.jvp(lambda A: A @ Y, (A,), (dA,))
        on_q, on_left_out, on_mu = jnp.split(jnp.sum(Y.conj() * dAY, axis=0), 3)
        squares = jnp.sum(jnp.abs(mu) ** 2, axis=0)
        scale = (A.shape[0] - vectors + 1) / jnp.where(squares > 0, squares, 1)
        slope = jnp.sum(on_q) + jnp.mean(scale * on_mu - on_left_out)
    value, error = _leave_one_out(vectors, A, key)
    return (value, error), (slope.astype(value.dtype), jnp.zeros_like(error))


@functools.partial(jax.jit, static_argnums=2)
def _hutchinson(A: LinearOperator, key: jax.Array, samples: int) -> Estimate:
    with jax.default_matmul_precision("highest"):
        V = _signs(key, A.shape[1], samples, A.dtype)
        each = jnp.sum(V.conj() * (A @ V), axis=0)
    return _mean(each)


def frobenius_estimate(A: MatrixLike, *, key: jax.Array, samples: int = 32) -> Estimate:
    """Estimate ‖A‖_F from ‖A‖_F² = E ‖A v‖² over random signs v; `la.norm` is the exact norm.

    Args:
        A: operator or array [m, n].
        key: of the random vectors.
        samples: products with A, at least 2.

    Returns:
        `Estimate`, its standard error carried over to first order from that of the square.

    Raises:
        DimensionMismatch: for fewer than 2 samples.

    Cost: `samples` products.

    Example:
        >>> import jax, lax_linalg as la
        >>> round(float(frobenius_estimate(la.I(16), key=jax.random.key(0)).value), 4)
        4.0
    """
    if samples < 2:
        raise DimensionMismatch(f"frobenius_estimate needs at least 2 samples for an error estimate, got {samples}")
    return of_finite("frobenius_estimate", (as_operator(A),), lambda A: _frobenius(A, key, samples))


@functools.partial(jax.jit, static_argnums=2)
def _frobenius(A: LinearOperator, key: jax.Array, samples: int) -> Estimate:
    with jax.default_matmul_precision("highest"):
        AV = A @ _signs(key, A.shape[1], samples, A.dtype)
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(AV)))  # against overflow of the squares
    scale = jnp.where(scale > 0, scale, 1)
    square = _mean(jnp.sum(jnp.abs(AV / scale) ** 2, axis=0))
    value = safe_sqrt(jnp.asarray(square.value))
    slope = 2 * jnp.where(value > 0, value, 1)
    return Estimate(scale * value, scale * square.standard_error / slope, jnp.zeros_like(value))


def spectral_sum_estimate(
    A: MatrixLike,
    f: Callable[[jax.Array], jax.Array],
    *,
    key: jax.Array,
    of: str = "singular_values",
    samples: int = 16,
    steps: int = 64,
) -> Estimate:
    """Estimate Σ f(σ_i) over the singular values, or Σ f(λ_i) = tr f(A) of a Hermitian A, by Lanczos quadrature.

    Args:
        A: operator or array [m, n].
        f: elementwise function, finite on the spectrum.
        key: of the random vectors.
        of: "singular_values" or "eigenvalues".
        samples: random vectors.
        steps: Lanczos steps.

    Returns:
        `Estimate`; the quadrature error is the change against two thirds of the steps.

    Raises:
        DimensionMismatch, LinearAlgebraError, UnknownNameError, NonFiniteError: as `spectral_density`.

    Cost: as `spectral_density`.

    Example:
        >>> import jax, lax_linalg as la
        >>> nuclear = spectral_sum_estimate(3 * jnp.eye(4), lambda s: s, key=jax.random.key(0))
        >>> round(float(nuclear.value), 3)
        12.0

    Source: Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38 (2017).
    """
    return _total("spectral_sum_estimate", A, f, key=key, of=of, samples=samples, steps=steps)


def logdet_estimate(A: MatrixLike, *, key: jax.Array, samples: int = 16, steps: int = 64) -> Estimate:
    """Estimate log det A of a Hermitian positive definite A; `la.logdet` is the exact value.

    Args:
        A: operator or array [n, n].
        key: of the random vectors.
        samples: random vectors.
        steps: Lanczos steps; about √cond(A) of them are needed.

    Returns:
        `Estimate`; NaN or −inf if A is seen not to be positive definite.

    Raises:
        NotDifferentiableError: on differentiating where it is; NaN under ``jit``.
        DimensionMismatch, LinearAlgebraError, NonFiniteError: as `spectral_density`.

    Cost: as `spectral_density`.

    Example:
        >>> import jax, lax_linalg as la
        >>> round(float(logdet_estimate(la.I(8) * 2.0, key=jax.random.key(0)).value), 3)  # 8 log 2
        5.545

    Source: Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38 (2017).
    """
    return _log_total("logdet_estimate", A, key=key, of="eigenvalues", samples=samples, steps=steps)


def log_volume_estimate(A: MatrixLike, *, key: jax.Array, samples: int = 16, steps: int = 64) -> Estimate:
    """Estimate the log-volume Σ log σ_i of any A, log |det A| of a square one; `la.logabsdet` is the exact value.

    Args:
        A: operator or array [m, n].
        key: of the random vectors.
        samples: random vectors.
        steps: Lanczos steps; about cond(A) of them are needed for values at the lower edge.

    Returns:
        `Estimate`; −inf for a matrix that is seen to be singular.

    Raises:
        NotDifferentiableError: on differentiating where it is; NaN or 0 under ``jit``.
        DimensionMismatch, NonFiniteError: as `spectral_density`.

    Cost: as `spectral_density`.

    Example:
        >>> import jax, lax_linalg as la
        >>> A = jnp.diag(jnp.array([-1.0, 2.0, 4.0]))
        >>> round(float(log_volume_estimate(A, key=jax.random.key(0)).value), 2)  # log 8
        2.08

    Source: Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38 (2017).
    """
    return _log_total("log_volume_estimate", A, key=key, of="singular_values", samples=samples, steps=steps)


def _log_total(name: str, A: MatrixLike, **options: Any) -> Estimate:
    total = _total(name, A, jnp.log, **options)
    value = jnp.asarray(total.value)
    regular = jnp.isfinite(jax.lax.stop_gradient(value))
    require_differentiable(
        jnp.asarray(total.value), regular, "a sum of logarithms has no derivative at a singular matrix"
    )
    return total


def _total(name: str, A: MatrixLike, f: Callable[[jax.Array], jax.Array], **options: Any) -> Estimate:
    def estimated(A: LinearOperator) -> Estimate:
        fine, coarse = quadrature_rules(A, name=name, **options)
        mean, k = estimate_from(rule_sums(fine, f), rule_sums(coarse, f)), min(A.shape)
        return Estimate(k * mean.value, k * mean.standard_error, k * mean.quadrature_error)

    return of_finite(name, (as_operator(A),), estimated)


def _signs(key: jax.Array, n: int, samples: int, dtype: Any) -> jax.Array:
    dtype = compute_dtype(dtype)
    return jax.random.rademacher(key, (n, samples), dtype=jnp.finfo(dtype).dtype).astype(dtype)


def _mean(each: jax.Array) -> Estimate:
    estimate = estimate_from(each, each)
    return estimate._replace(standard_error=estimate.standard_error.real)  # type: ignore[union-attr]
