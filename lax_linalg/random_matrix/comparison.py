"""How far a measured spectrum is from a law, and whether chance explains it."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.numerics import check_count, double_precision

if TYPE_CHECKING:
    from lax_linalg.random_matrix.circular import CircularLaw

NODES = 16  # in each part of a cell [(i−1)/n, i/n] of the quantile function: W₁ of one value is off by 1e-14
NULL_NODES = 8  # the same in a cell that is not cut, for ranks


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        ks: Kolmogorov–Smirnov distance sup_x |F_n(x) − F(x)|, in [0, 1].
        wasserstein: W₁ = ∫|F_n(x) − F(x)| dx, in the units of the spectrum.
        p_value: chance of distances as large in the calibrating ensemble; NaN without calibration.
        p_value_error: standard error of `p_value` from the finite number of calibrating spectra.
        consistent: whether p_value > level; None without calibration.
        calibration: which random spectra the chance was measured on, or why it was not.
        count: number of values n.
        law: the law's name.

    Example:
        >>> import jax, lax_linalg as la
        >>> law = la.Semicircle()
        >>> result = la.compare(law.spectrum(jax.random.key(1), 100), law, samples=39)
        >>> result.consistent, result.ks < 0.03
        (True, True)
    """

    ks: float
    wasserstein: float
    p_value: float
    p_value_error: float
    consistent: bool | None
    calibration: str
    count: int
    law: str

    def __str__(self) -> str:
        verdict = {True: "consistent with", False: "not", None: "against"}[self.consistent]
        chance = "" if math.isnan(self.p_value) else f", p = {self.p_value:.2g} ± {self.p_value_error:.1g}"
        return (
            f"{self.count} values {verdict} {self.law}: KS {self.ks:.3g}, W₁ {self.wasserstein:.3g}{chance}"
            f" ({self.calibration})"
        )


def compare(
    spectrum: jax.typing.ArrayLike,
    law: Law | CircularLaw,
    *,
    samples: int = 99,
    level: float = 0.05,
    key: jax.Array | None = None,
) -> Comparison:
    """Distance of a spectrum from a law (Kolmogorov–Smirnov, Wasserstein), with a goodness-of-fit verdict.

    Eigenvalues repel: their counting function fluctuates by O(log n)/n, not by 1/√n, so the classical tables for
    independent draws would accept nearly everything. The null distribution is therefore drawn: `samples` spectra of the
    same size n from the ensemble whose limit the law is (`law.spectrum`), so that finite-size effects are in it as
    well. The p-value is min(1, 2 min(p_KS, p_W₁)) with p = (1 + #{as large})/(1 + samples). A law without an ensemble
    is calibrated on independent draws, which `calibration` says: then a rejection holds, an acceptance means little.

    Args:
        spectrum: the values [n] in any order, of the kind that `law.quantity` names: squared singular values for
            `MarchenkoPastur`, singular values for `MarchenkoPastur(…).singular_values()`, complex eigenvalues for
            `CircularLaw`, which are compared by modulus.
        law: the null hypothesis.
        samples: random spectra for the calibration; 0 gives the distances alone. The smallest p-value is
            2/(samples + 1), so below 39 nothing can be rejected at 5 %.
        level: the verdict is "consistent" when the p-value is above it.
        key: of the calibrating draws; `jax.random.key(0)` unless given, and then kept for the next call of this size.

    Returns:
        `Comparison`.

    Raises:
        DimensionMismatch: unless the spectrum is a non-empty vector.
        NonFiniteError: for NaN or infinity in it.
        LinearAlgebraError: for complex or negative values that the law cannot have, or a level outside (0, 1).

    Cost: O(n) evaluations of the law's quantile, and `samples` random spectra: O(samples · n³) once per law and size.

    Source: Dyson and Mehta (1963) for the rigidity of spectra; Gustavsson (2005) for its size √(log n)/n.

    Example:
        >>> import jax, lax_linalg as la
        >>> s = la.svdvals(jax.random.uniform(jax.random.key(0), (60, 60)))  # not centred: one value sticks out
        >>> la.compare(s, la.QuarterCircle(60 / 12), samples=39).consistent
        False
    """
    from lax_linalg.random_matrix.circular import CircularLaw

    line: Law = law.modulus() if isinstance(law, CircularLaw) else law
    values = _values(spectrum, line, complex_allowed=isinstance(law, CircularLaw))
    if not 0 < level < 1:
        raise LinearAlgebraError(f"compare: level = {level!r} must be in (0, 1), such as 0.05")
    ks, wasserstein = distances(values, line)
    samples = check_count("samples", samples, 0)
    if samples == 0:
        p, error, consistent, calibration = math.nan, math.nan, None, "not calibrated"
    else:
        arguments = line, len(values), samples
        null, *rule = _kept_null(*arguments) if key is None else _null(*arguments, key)
        larger = np.sum(null >= np.array(_statistics(values, line, *rule)) * (1 - 1e-9), axis=0)
        p = min(1.0, 2 * float(np.min(larger) + 1) / (samples + 1))
        error = 2 * math.sqrt(max(p / 2 * (1 - p / 2), 1 / (samples + 1)) / samples)
        consistent = p > level
        calibration = f"{samples} spectra of: {line.ensemble}"
        if line.ensemble is None:
            calibration = f"{samples} sets of independent draws; true spectra repel, so only a rejection is reliable"
    return Comparison(ks, wasserstein, p, error, consistent, calibration, len(values), str(law))


def distances(values: np.ndarray, law: Law) -> tuple[float, float]:
    """Kolmogorov–Smirnov and Wasserstein-1 distance between the empirical law of `values` [n] and `law` (float64).

    W₁ = Σ_i ∫ |x_(i) − Q(p)| dp over p in [(i−1)/n, i/n], each cell cut at F(x_(i)) where the integrand has its kink.

    Example:
        >>> import lax_linalg as la
        >>> ks, w = distances(np.array([0.0]), la.Semicircle())
        >>> round(ks, 6), round(w, 6)  # ½ and E|x| = 8/(3π)
        (0.5, 0.848826)
    """
    x = _snapped(values, law)
    at, ks = _ks(x, law)
    low, high = _cells(len(x))
    cut = np.clip(at, low, high)
    p, weights = _rule(np.stack([low, cut]), np.stack([cut, high]), NODES)
    return ks, float(np.sum(weights * np.abs(x[:, None] - _quantile(law, p))))


def _snapped(values: np.ndarray, law: Law) -> np.ndarray:
    """The values in rising order; those that rounding moved off a point mass put back on it."""
    x = np.array(values, np.float64)
    tolerance = 10 * len(x) * float(np.finfo(np.float32).eps) * max(1e-30, float(np.max(np.abs(x))))
    for position, mass in law.atoms:
        if mass > 1e-3 / len(x):
            x = np.where(np.abs(x - position) <= tolerance, position, x)
    return np.sort(x)


def _ks(x: np.ndarray, law: Law) -> tuple[np.ndarray, float]:
    """F at the sorted values, and sup |F_n − F| with the jumps of both."""
    with double_precision():
        at = np.asarray(law.cdf(jnp.asarray(x)))
    before = at - sum((np.where(x == position, mass, 0.0) for position, mass in law.atoms), np.zeros(len(x)))
    first, last = (np.searchsorted(x, x, side=side) / len(x) for side in ("left", "right"))
    return at, min(1.0, float(max(np.max(np.abs(last - at)), np.max(np.abs(first - before)))))


def _cells(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count) / count, np.arange(1, count + 1) / count


def _rule(start: np.ndarray, end: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights [*, count] on the intervals; cubic at their ends, where quantiles of edges go like p^{2/3}."""
    x, w = np.polynomial.legendre.leggauss(count)
    u = (x + 1) / 2
    width = (end - start)[..., None]
    return start[..., None] + width * u**3 * (10 - 15 * u + 6 * u * u), width * w * 15 * (u * (1 - u)) ** 2


def _quantile(law: Law, p: np.ndarray) -> np.ndarray:
    """The law's quantiles at p [*, n, nodes], by a program that is compiled once for each number of values n."""
    with double_precision():
        pieces = p.reshape(-1, p.shape[-2] * NULL_NODES)
        return np.concatenate([np.asarray(law.quantile(piece)) for piece in pieces]).reshape(p.shape)


def _values(spectrum: jax.typing.ArrayLike, law: Law, complex_allowed: bool) -> np.ndarray:
    values: Any = np.asarray(spectrum)
    if values.ndim != 1 or values.size == 0:
        raise DimensionMismatch(f"compare takes a non-empty vector of values, got shape {list(values.shape)}")
    if not np.all(np.isfinite(values)):
        bad = int(np.sum(~np.isfinite(values)))
        raise NonFiniteError(f"compare: {bad} of {values.size} values are NaN or infinite")
    if complex_allowed:
        return np.abs(values)
    rounding = 1e3 * float(np.finfo(np.float32).eps) * float(np.max(np.abs(values)))
    if np.iscomplexobj(values):
        if np.max(np.abs(values.imag)) > rounding:
            raise LinearAlgebraError(
                f"compare: {law} is a law on the real line, got complex values; take their modulus, or CircularLaw"
            )
        values = values.real
    if "singular" in law.quantity and np.min(values) < -rounding:
        raise LinearAlgebraError(
            f"compare: {law} is a law of {law.quantity}, got the negative value {np.min(values):g}"
        )
    return values.astype(np.float64)


def _statistics(values: np.ndarray, law: Law, p_weights: np.ndarray, quantile: np.ndarray) -> tuple[float, float]:
    """KS, and W₁ on nodes that are the same for every spectrum: within 1 % of the exact one, which is dearer."""
    x = _snapped(values, law)
    return _ks(x, law)[1], float(np.sum(p_weights * np.abs(x[:, None] - quantile)))


@functools.lru_cache(maxsize=32)
def _kept_null(law: Law, count: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _null(law, count, samples, None)


def _null(law: Law, count: int, samples: int, key: jax.Array | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics [samples, 2] of random spectra of the law's own ensemble (independent draws without one), the rule."""
    p, weights = _rule(*_cells(count), NULL_NODES)
    quantile = _quantile(law, p)
    draws = np.asarray(_draws(law, count, samples, key))
    return np.array([_statistics(draw, law, weights, quantile) for draw in draws]), weights, quantile


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draws(law: Law, count: int, samples: int, key: jax.Array | None) -> jax.Array:
    """Random spectra [samples, count] by one program."""
    draw = law.sample if law.ensemble is None else law.spectrum
    return jax.lax.map(lambda k: draw(k, count), jax.random.split(jax.random.key(0) if key is None else key, samples))
