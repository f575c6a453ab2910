"""The tail of a spectrum as a power law: its exponent, and whether there is one at all."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jax.typing import ArrayLike

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError
from lax_linalg.random_matrix.numerics import check_count

SHORTEST_TAIL = 25  # values; with fewer nearly every law fits
THRESHOLDS = 64  # tail lengths that are tried at most, evenly on a logarithmic scale


@dataclasses.dataclass(frozen=True)
class PowerLawFit:
    """What `fit_power_law` found; the numbers are those of the best tail also where `accepted` is False.

    Attributes:
        alpha: exponent α of the density p(x) ∝ x^{−α} above `xmin`; NaN where no tail could be fitted.
        alpha_error: its standard error with the choice of xmin in it: the deviation of α over the bootstrap samples,
            or (α − 1)/√count without samples.
        xmin: where the tail begins.
        count: number of values above xmin.
        ks: Kolmogorov–Smirnov distance of the tail from the power law.
        p_value: chance of a distance as large if the power law holds; NaN without samples.
        p_value_error: its standard error from the finite number of samples.
        against_exponential: Vuong's normalised log-likelihood ratio of the power law to an exponential tail, with or
            without the largest value, whichever is less; positive where the power law is the better one, in units of
            its standard deviation.
        accepted: whether the tail is a power law.
        reason: why it is not, or "".

    Example:
        >>> import numpy as np
        >>> print(fit_power_law((1 - np.random.default_rng(0).random(400)) ** -1.0))  # density x⁻²
        α = 1.92 ± 0.07, 293 values above 1.45, p = 0.94
    """

    alpha: float
    alpha_error: float
    xmin: float
    count: int
    ks: float
    p_value: float
    p_value_error: float
    against_exponential: float
    accepted: bool
    reason: str

    def __str__(self) -> str:
        if not self.accepted:
            return f"no power law: {self.reason}"
        chance = "" if math.isnan(self.p_value) else f", p = {self.p_value:.2g}"
        return f"α = {self.alpha:.3g} ± {self.alpha_error:.1g}, {self.count} values above {self.xmin:.3g}{chance}"


def fit_power_law(values: ArrayLike, *, samples: int = 200, level: float = 0.1, seed: int = 0) -> PowerLawFit:
    """Fit p(x) ∝ x^{−α} to the tail of a spectrum by maximum likelihood, and test whether it is a power law.

    For each threshold xmin among the values, α = 1 + k / Σ log(xᵢ/xmin) over the k values above it; the threshold is
    the one whose tail has the least Kolmogorov–Smirnov distance from its own fit. The tail is a power law only if

    - at least 25 values lie above the threshold,
    - the distance is no larger than chance explains: `p_value` > `level`, from samples that are drawn from the fitted
      tail and, below it, from the values themselves, and fitted in the same way, and
    - an exponential tail, the border between heavy and light ones, is less likely: `against_exponential` above the
      one-sided quantile of `level`, with the largest value and without it, because one spike is no tail. Eigenvalues
      repel each other, so that nearly every curve passes the test of the distance; it is this one that keeps the edge
      of a random matrix's spectrum from having an exponent.

    Args:
        values: [n], non-negative, such as squared singular values; zeros are left out.
        samples: bootstrap samples for the p-value and the standard error; 0 for neither.
        level: of both tests.
        seed: of the samples.

    Returns:
        `PowerLawFit`; `accepted` is the verdict.

    Raises:
        DimensionMismatch: unless the values are a non-empty vector.
        NonFiniteError: for NaN or infinity among them.
        LinearAlgebraError: for complex or negative values, or a level outside (0, 1).

    Cost: O(64 n samples), in double precision on the host: a second for n = 2,000.

    Source: Clauset, Shalizi & Newman, SIAM Rev. 51 (2009), doi:10.1137/070710111, sections 3 to 5; Vuong (1989).

    Example:
        >>> import jax, lax_linalg as la
        >>> heavy = jax.random.pareto(jax.random.key(0), 1.5, (300,))  # density x^{−2.5}
        >>> fit = la.fit_power_law(heavy)
        >>> fit.accepted, abs(fit.alpha - 2.5) < 2 * fit.alpha_error
        (True, True)
        >>> s = la.svdvals(jax.random.normal(jax.random.key(0), (60, 100)))
        >>> la.fit_power_law(s**2).accepted
        False
    """
    x = _tail_values(values)
    if not 0 < level < 1:
        raise LinearAlgebraError(f"fit_power_law: level = {level!r} must be in (0, 1), such as 0.1")
    samples = check_count("samples", samples, 0)
    n = len(x)
    if n <= SHORTEST_TAIL or x[-1] == x[-1 - SHORTEST_TAIL]:
        few = n <= SHORTEST_TAIL
        why = (
            f"{n} positive values, more than {SHORTEST_TAIL} are needed" if few else "the largest values are all equal"
        )
        return PowerLawFit(math.nan, math.nan, math.nan, 0, math.nan, math.nan, math.nan, math.nan, False, why)
    logs = np.log(x)
    (alpha,), (start,), (ks,) = _fits(logs[None])
    count = n - 1 - start
    error, p, p_error = (alpha - 1) / math.sqrt(count), math.nan, math.nan
    if samples:
        alphas, _, distances = _fits(_bootstrap(logs, start, alpha, samples, np.random.default_rng(seed)))
        error = float(np.std(alphas, ddof=1)) if samples > 1 else error
        p = (1 + int(np.sum(distances >= ks * (1 - 1e-9)))) / (1 + samples)
        p_error = math.sqrt(max(p * (1 - p), 1 / (samples + 1)) / samples)
    above = logs[start + 1 :] - logs[start]
    ratio = min(_against_exponential(above), _against_exponential(above[:-1]))
    reason = ""
    if p <= level:
        reason = f"the tail is not one (p = {p:.2g})"
    elif not ratio > _normal_quantile(1 - level):
        reason = f"an exponential tail is as likely (likelihood ratio {ratio:.2g} standard deviations)"
    return PowerLawFit(
        float(alpha), float(error), float(x[start]), int(count), float(ks), p, p_error, ratio, not reason, reason
    )


def _tail_values(values: ArrayLike) -> np.ndarray:
    """The positive values in rising order, float64."""
    x = np.asarray(values)
    if x.ndim != 1 or x.size == 0:
        raise DimensionMismatch(f"fit_power_law takes a non-empty vector of values, got shape {list(x.shape)}")
    if np.iscomplexobj(x):
        raise LinearAlgebraError("fit_power_law: the values are complex; take their moduli or squared singular values")
    x = np.sort(x.astype(np.float64))
    if not np.isfinite(x).all():
        raise NonFiniteError(f"fit_power_law: {int(np.sum(~np.isfinite(x)))} of {x.size} values are NaN or infinite")
    if x[0] < 0:
        raise LinearAlgebraError(f"fit_power_law: a power law is of positive values, got {x[0]:g}")
    return x[x > 0]


def _fits(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """α, the index of xmin and the distance of the best tail of each row of logarithms [S, n], which rise."""
    rows, n = logs.shape
    counts = np.unique(np.geomspace(SHORTEST_TAIL, n - 1, THRESHOLDS).round().astype(int))[::-1]
    best = np.full((3, rows), np.inf)
    for count in counts:
        above = logs[:, n - count :] - logs[:, n - 1 - count, None]
        total = above.sum(-1)
        slope = count / np.where(total > 0, total, np.nan)  # α − 1; values that are all equal have none
        cdf = -np.expm1(-slope[:, None] * above)
        steps = np.arange(count + 1) / count
        distance = np.maximum((steps[1:] - cdf).max(-1), (cdf - steps[:-1]).max(-1))
        better = distance < best[2]
        best[:, better] = np.stack([1 + slope, np.full(rows, n - 1.0 - count), distance])[:, better]
    return best[0], best[1].astype(int), best[2]


def _bootstrap(logs: np.ndarray, start: int, alpha: float, samples: int, draw: np.random.Generator) -> np.ndarray:
    """Samples [S, n] of the fitted tail and, in its proportion, of the values up to xmin; logarithms that rise."""
    n = len(logs)
    count = n - 1 - start
    tail = draw.random((samples, n)) < count / n
    above = logs[start] + draw.exponential(1 / (alpha - 1), (samples, n))
    return np.sort(np.where(tail, above, logs[draw.integers(0, start + 1, (samples, n))]), axis=-1)


def _against_exponential(above: np.ndarray) -> float:
    """Vuong's statistic of the tail log(x/xmin) against the exponential tail of the same mean."""
    excess, slope = np.expm1(above), 1 / above.mean()  # x/xmin − 1, α − 1
    mean = excess.mean()
    each = (math.log(slope) - (slope + 1) * above) - (-math.log(mean) - excess / mean)
    spread = float(np.std(each))
    return float(each.sum() / (math.sqrt(len(each)) * spread)) if spread > 0 else 0.0


def _normal_quantile(p: float) -> float:
    """Φ⁻¹(p), by bisection of erf."""
    low, high = -9.0, 9.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle / math.sqrt(2)) < 2 * p - 1 else (low, middle)
    return low
