"""Spectral densities and sums by stochastic Lanczos quadrature: estimates with error bars, by products alone.

Each random start vector v gives a Gauss quadrature rule for the measure Σ |⟨v, q_i⟩|² δ(λ − λ_i); its mean over vectors
is the spectrum's measure. Two errors remain and both are reported: the spread between the vectors, as a standard error,
and the finite number of steps, as the change against a rule with two thirds of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.batch import Batch
from lax_linalg.core.dispatch import of_finite, require_finite
from lax_linalg.core.operator import LinearOperator, MatrixLike, as_operator
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import at_unit_scale
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.operators.hermitian import Hermitian
from lax_linalg.spectra.krylov import golub_kahan, lanczos, safe_sqrt
from lax_linalg.verbs.basic import compute_dtype
from lax_linalg.verbs.norms import scaled_norm

KINDS = ("singular_values", "eigenvalues")
KEPT = 2**23
"""Up to so many numbers all Lanczos vectors are kept and orthogonal to each other."""


class Estimate(NamedTuple):
    """An estimated number with its errors; never an exact value.

    Attributes:
        value: the mean over random vectors.
        standard_error: of that mean, from the spread between the vectors; NaN for one vector.
        quadrature_error: change of the value against fewer Lanczos steps; 0 where there is no quadrature.

    Example:
        >>> Estimate(2.0, 0.1, 0.0).error
        0.1
    """

    value: jax.Array | float
    standard_error: jax.Array | float
    quadrature_error: jax.Array | float = 0.0

    @property
    def error(self) -> jax.Array | float:
        """Both errors added up."""
        return self.standard_error + self.quadrature_error


class SpectralDensity(NamedTuple):
    """A measure that estimates the spectrum, smoothed for showing on a grid.

    Attributes:
        grid: points [g], ascending.
        density: smoothed density on the grid, its integral 1.
        density_error: error bar of each value: the standard error over the vectors plus the quadrature error.
        cdf: smoothed distribution function on the grid.
        cdf_error: its error bars.
        width: standard deviation of the Gaussian that smooths.
        nodes, weights: the quadrature rules [samples, steps], each row's weights adding up to 1.
        coarse_nodes, coarse_weights: rules with two thirds of the steps, from which quadrature errors are estimated.

    Example:
        >>> import jax, lax_linalg as la
        >>> law = la.spectral_density(jnp.diag(jnp.arange(1.0, 5.0)), key=jax.random.key(0), samples=4)
        >>> round(float(law.integrate(lambda s: s).value), 3)  # the mean singular value
        2.5
    """

    grid: jax.Array
    density: jax.Array
    density_error: jax.Array
    cdf: jax.Array
    cdf_error: jax.Array
    width: jax.Array
    nodes: jax.Array
    weights: jax.Array
    coarse_nodes: jax.Array
    coarse_weights: jax.Array

    def integrate(self, f: Callable[[jax.Array], jax.Array]) -> Estimate:
        """The mean of f over the spectrum, (1/k) Σ f(λ_i), with its errors.

        Args:
            f: elementwise function of an array of any shape.

        Returns:
            `Estimate`.

        Example:
            >>> import jax, lax_linalg as la
            >>> law = la.spectral_density(2 * jnp.eye(3), key=jax.random.key(0), samples=2)
            >>> round(float(law.integrate(jnp.square).value), 3)
            4.0
        """
        fine, coarse = self._rules()
        return estimate_from(rule_sums(fine, f), rule_sums(coarse, f))

    def moment(self, order: int) -> Estimate:
        """The mean of λ^order over the spectrum; free of quadrature error up to order 2·steps − 1.

        Example:
            >>> import jax, lax_linalg as la
            >>> law = la.spectral_density(2 * jnp.eye(3), key=jax.random.key(0), samples=2)
            >>> round(float(law.moment(3).value), 3)
            8.0
        """
        return self.integrate(lambda s: s**order)

    def _rules(self) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        return (self.nodes, self.weights), (self.coarse_nodes, self.coarse_weights)


def spectral_density(
    A: MatrixLike | Batch,
    *,
    key: jax.Array,
    of: str = "singular_values",
    samples: int = 16,
    steps: int = 64,
    grid: jax.Array | int = 256,
    width: float | jax.Array | None = None,
) -> SpectralDensity:
    """Estimate the density of singular values, or of a Hermitian matrix's eigenvalues, without forming the matrix.

    The density is smoothed by a Gaussian g of standard deviation h: ρ_h(t) = (1/k) Σ g((t − λ_i)/h)/h, for singular
    values reflected at 0 so that no mass is lost there. What is estimated, and what the error bars are about, is ρ_h.

    Args:
        A: operator or array [m, n], or a `Batch` of operators (then every array has a leading batch axis).
        key: of the random ±1 vectors.
        of: "singular_values", or "eigenvalues" of a Hermitian A.
        samples: random vectors, on the smaller side of A.
        steps: Lanczos steps, cut to min(m, n).
        grid: points of the grid, or how many of them to lay over the spectrum.
        width: h; unless given, 1.25/steps of the spectrum's extent, the narrowest that so many steps resolve.

    Returns:
        `SpectralDensity`.

    Raises:
        DimensionMismatch: for sizes that are not positive, or "eigenvalues" of a matrix that is not square.
        LinearAlgebraError: for "eigenvalues" of a matrix that is not Hermitian (outside of `jit`).
        UnknownNameError: for another `of`.
        NonFiniteError: on NaN or infinity.

    Cost: samples × steps products with A (and as many with Aᴴ for singular values). Bases of up to 2²³ numbers,
    samples × steps × (m + n), and those of a fourth of the space or more are kept orthogonal, in
    O(samples steps² (m + n)); larger ones are not kept at all: O(samples (m + n)) numbers of memory are enough.

    Example:
        >>> import jax, lax_linalg as la
        >>> law = la.spectral_density(la.I(100), key=jax.random.key(0), samples=2)
        >>> round(float(law.grid[law.density.argmax()]), 1)  # all singular values are 1
        1.0

    Source: Golub & Meurant, Matrices, Moments and Quadrature (2010); Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38
    (2017); Lin, Saad & Yang, SIAM Review 58 (2016) for the smoothing.
    """
    if isinstance(A, Batch):
        require_finite(A, "spectral_density")
        one = functools.partial(spectral_density, of=of, samples=samples, steps=steps, grid=grid, width=width)
        keys = jax.random.split(key, len(A))
        return jax.vmap(lambda x, key: one(A.make(x, *A.args), key=key))(A.x, keys)
    points = grid if isinstance(grid, int) else None
    if points is not None and points < 2:
        raise DimensionMismatch(f"spectral_density: the grid needs at least 2 points, got {points}")
    if points is None and jnp.ndim(grid) != 1:
        raise DimensionMismatch(f"spectral_density: the grid is an array [g], got shape {list(jnp.shape(grid))}")
    if width is not None and not isinstance(width, Tracer) and not float(width) > 0:
        raise DimensionMismatch(f"spectral_density: the width must be positive, got {width}")

    def estimated(A: LinearOperator) -> SpectralDensity:
        fine, coarse = quadrature_rules(A, key, of=of, samples=samples, steps=steps, name="spectral_density")
        return _on_grid(fine, coarse, None if points else jnp.asarray(grid), points, width, of == "singular_values")

    return of_finite("spectral_density", (as_operator(A),), estimated)


def quadrature_rules(
    A: LinearOperator, key: jax.Array, *, of: str, samples: int, steps: int, name: str
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Gauss rules (nodes, weights), each [samples, steps], of the spectrum of A, and those of two thirds of the steps.

    Example:
        >>> import jax
        >>> (nodes, weights), _ = quadrature_rules(
        ...     as_operator(jnp.eye(3)), jax.random.key(0), of="eigenvalues", samples=1, steps=3, name="example")
        >>> print(nodes.round(3)[0, 0], weights.sum().round(3))
        1.0 1.0
    """
    if of not in KINDS:
        raise UnknownNameError.of("spectrum", of, KINDS)
    if samples < 1 or steps < 1:
        raise DimensionMismatch(f"{name} needs at least one sample and one step, got {samples} and {steps}")
    m, n = A.shape
    if min(m, n) == 0:
        raise DimensionMismatch(f"{name}: a {m}×{n} matrix has no spectrum")
    if of == "eigenvalues":
        require_hermitian(A, key, name)
    elif m < n:
        A = A.H
    return _rules(A, key, of, samples, min(steps, m, n))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _rules(A: LinearOperator, key: jax.Array, of: str, samples: int, steps: int) -> Any:
    with jax.default_matmul_precision("highest"):
        n, dtype = A.shape[1], compute_dtype(A.dtype)
        V = jax.random.rademacher(key, (n, samples), dtype=jnp.finfo(dtype).dtype).astype(dtype) / n**0.5
        coarse = max(1, (2 * steps) // 3)
        # a basis of all vectors takes longer to keep orthogonal than large operators to multiply
        orthogonal = 4 * steps > min(A.shape) or samples * steps * sum(A.shape) <= KEPT
        if of == "eigenvalues":
            diagonal, off = lanczos(A, V, steps, orthogonal)
            solve, build = _eigh_rule, _tridiagonal
        else:
            diagonal, off = golub_kahan(A, V, steps, orthogonal)
            solve, build = _svd_rule, _bidiagonal
        rules = jax.vmap(lambda d, e: solve(build(d, e)))
        return rules(diagonal, off), rules(diagonal[:, :coarse], off[:, : coarse - 1])


def _tridiagonal(d: jax.Array, e: jax.Array) -> jax.Array:
    return jnp.diag(d) + jnp.diag(e, 1) + jnp.diag(e, -1)


def _bidiagonal(d: jax.Array, e: jax.Array) -> jax.Array:
    return jnp.diag(d) + jnp.diag(e, 1)


def _antisymmetric(M: jax.Array, gaps: jax.Array) -> jax.Array:
    """M over the gaps; 0 between nodes that coincide: one of them is behind a breakdown, where M is 0 as well."""
    apart = gaps != 0
    return jnp.where(apart, M / jnp.where(apart, gaps, 1), 0)


# The node and the weight of a vector behind a breakdown are not differentiable, the sums that rules are for are: with
# Ω = VᵀdV the weights |v_0|² change by 2 v_0 (v_0 Ω).


@jax.custom_jvp
def _tridiagonal_rule(T: jax.Array) -> tuple[jax.Array, jax.Array]:
    nodes, V = platform.eigh(T)
    return nodes, V[0] ** 2


@_tridiagonal_rule.defjvp
def _tridiagonal_rule_jvp(primals, tangents):
    (T,), (dT,) = primals, tangents
    nodes, V = platform.eigh(T)
    M = V.T @ dT @ V
    omega = _antisymmetric(M, nodes[None, :] - nodes[:, None])
    return (nodes, V[0] ** 2), (jnp.diagonal(M), 2 * V[0] * (V[0] @ omega))


_eigh_rule = at_unit_scale(_tridiagonal_rule, 1, 0)


@jax.custom_jvp
def _bidiagonal_rule(B: jax.Array) -> tuple[jax.Array, jax.Array]:
    _, nodes, Vt = platform.svd(B)
    return nodes, Vt[:, 0] ** 2


@_bidiagonal_rule.defjvp
def _bidiagonal_rule_jvp(primals, tangents):
    (B,), (dB,) = primals, tangents
    U, nodes, Vt = platform.svd(B)
    M = U.T @ dB @ Vt.T
    gram = nodes[:, None] * M + M.T * nodes[None, :]  # Vᵀ d(BᵀB) V
    # the difference of squares as a product: a fused multiplication leaves rounding of it where nodes coincide
    gaps = (nodes[None, :] - nodes[:, None]) * (nodes[None, :] + nodes[:, None])
    omega = _antisymmetric(gram, gaps)
    return (nodes, Vt[:, 0] ** 2), (jnp.diagonal(M), 2 * Vt[:, 0] * (Vt[:, 0] @ omega))


_svd_rule = at_unit_scale(_bidiagonal_rule, 1, 0)


def require_hermitian(A: LinearOperator, key: jax.Array, name: str) -> None:
    """Raise unless A is square and, as far as its products with a random vector tell, Hermitian; traced values pass.

    Example:
        >>> import jax, lax_linalg as la
        >>> require_hermitian(la.as_operator([[0.0, 1.0], [0.0, 0.0]]), jax.random.key(0), "logdet_estimate")
        Traceback (most recent call last):
        lax_linalg.errors.LinearAlgebraError: logdet_estimate needs a Hermitian matrix, ‖A v − Aᴴ v‖/‖A v‖ is 1.28 for
        a random v; wrap it in la.Hermitian(A), or take singular values
    """
    m, n = A.shape
    if m != n:
        raise DimensionMismatch(f"{name} needs a square matrix, got {m}×{n}; singular values exist for every shape")
    if isinstance(A, Hermitian) or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((A, key))):
        return
    v = jax.random.normal(key, (n,), jnp.finfo(compute_dtype(A.dtype)).dtype)
    there, back = A @ v, A.H @ v
    size = float(jnp.maximum(scaled_norm(there), scaled_norm(back)))
    gap = float(scaled_norm(there - back))
    if gap > 100 * n**0.5 * float(jnp.finfo(there.dtype).eps) * size:
        raise LinearAlgebraError(
            f"{name} needs a Hermitian matrix, ‖A v − Aᴴ v‖/‖A v‖ is {gap / size:.3g} for a random v; "
            "wrap it in la.Hermitian(A), or take singular values"
        )


def rule_sums(rule: tuple[jax.Array, jax.Array], f: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Each rule's Σ w f(λ), [samples]; nodes whose weight is rounding error do not count, whatever f is there."""
    nodes, weights = _significant(*rule)
    return _weighted_sum(weights, f(nodes))


@jax.jit
def _significant(nodes: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    negligible = weights <= weights.shape[-1] * jnp.finfo(weights.dtype).eps ** 2
    heaviest = jnp.take_along_axis(nodes, jnp.argmax(weights, axis=-1, keepdims=True), axis=-1)
    return jnp.where(negligible, heaviest, nodes), jnp.where(negligible, 0, weights)


@jax.jit
def _weighted_sum(weights: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(weights == 0, 0, weights * values), axis=-1)


@jax.jit
def estimate_from(fine: jax.Array, coarse: jax.Array) -> Estimate:
    """Mean, standard error and quadrature error of per-sample values along the last axis."""
    count = fine.shape[-1]
    value = jnp.mean(fine, axis=-1)
    if count > 1:
        squares = jnp.sum(jnp.abs(fine - value[..., None]) ** 2, axis=-1)
        spread = safe_sqrt(squares / (count - 1))
    else:
        spread = jnp.full(value.shape, jnp.nan, jnp.finfo(value.dtype).dtype)
    return Estimate(value, spread / count**0.5, jnp.abs(value - jnp.mean(coarse, axis=-1)))


@functools.partial(jax.jit, static_argnums=(3, 5))
def _on_grid(fine: Any, coarse: Any, grid: Any, points: int | None, width: Any, reflect: bool) -> SpectralDensity:
    nodes, weights = fine
    steps = nodes.shape[-1]
    seen = weights > jnp.finfo(weights.dtype).eps ** 2
    low = jnp.zeros(()) if reflect else jnp.min(jnp.where(seen, nodes, jnp.inf))
    high = jnp.max(jnp.where(seen, nodes, -jnp.inf))
    if width is None:
        extent = jnp.maximum(high - low, 1e-3 * jnp.maximum(jnp.abs(high), jnp.finfo(nodes.dtype).tiny))
        width = 1.25 * extent / steps
    h = jnp.asarray(width, nodes.dtype)
    if points is not None:
        begin = low if reflect else low - 4 * h
        grid = begin + jnp.linspace(0, 1, points, dtype=nodes.dtype) * (high + 4 * h - begin)
    assert grid is not None

    def at(t: jax.Array, nodes: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Each rule's smoothed density and distribution function at t."""
        cdf = jax.scipy.special.ndtr((t - nodes) / h)
        pdf = jax.scipy.stats.norm.pdf((t - nodes) / h) / h
        if reflect:
            pdf = jnp.where(t >= 0, pdf + jax.scipy.stats.norm.pdf((t + nodes) / h) / h, 0)
            # Φ((t − s)/h) − Φ((−t − s)/h), the mass of g and its mirror image on [0, t]
            cdf = jnp.where(t >= 0, cdf - jax.scipy.special.ndtr((-t - nodes) / h), 0)
        return jnp.sum(weights * pdf, -1), jnp.sum(weights * cdf, -1)

    each = [jax.lax.map(lambda t, rule=rule: at(t, *rule), grid) for rule in (fine, coarse)]  # [g, samples]
    density, cdf = (estimate_from(each[0][i], each[1][i]) for i in (0, 1))
    return SpectralDensity(grid, density.value, density.error, cdf.value, cdf.error, h, *fine, *coarse)  # type: ignore[arg-type]
