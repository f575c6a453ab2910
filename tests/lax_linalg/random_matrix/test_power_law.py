"""Power-law tails: exponents that were planted come back, and random matrices get none."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import lax_linalg as la


def planted(alpha: float, tail: int, body: int, seed: int) -> np.ndarray:
    """Squared singular values of a matrix whose spectrum was drawn from a power law above 1 and uniformly below."""
    draw = np.random.default_rng(seed)
    x = np.concatenate([(1 - draw.random(tail)) ** (-1 / (alpha - 1)), draw.random(body)])
    n = len(x)
    U, V = (np.linalg.qr(draw.standard_normal((n, n)))[0] for _ in range(2))
    return np.linalg.svd(U * np.sqrt(x) @ V.T, compute_uv=False) ** 2


def within(cases: list[tuple[float, int, int, int]]) -> float:
    """The share of planted exponents within two standard errors."""
    fits = [(alpha, la.fit_power_law(planted(alpha, *case), samples=100)) for alpha, *case in cases]
    return float(np.mean([abs(fit.alpha - alpha) <= 2 * fit.alpha_error for alpha, fit in fits]))


def gaussian(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.linalg.svd(np.random.default_rng(seed).standard_normal((rows, columns)), compute_uv=False) ** 2


def test_planted_exponents_are_within_two_standard_errors():
    cases = [(alpha, tail, body, 7) for alpha in (1.5, 2, 2.5, 3, 4) for tail in (100, 250) for body in (0, 100)]
    assert len(cases) == 20
    assert within(cases) >= 0.9  # an interval of 95 %: fewer than 18 of 20 would have a chance of 7 %


@pytest.mark.slow
def test_standard_error_covers_at_its_rate():
    cases = [(alpha, 200, body, seed) for alpha in (1.5, 2, 3) for body in (0, 100) for seed in range(40)]
    assert within(cases) >= 0.93


def test_no_gaussian_matrix_has_a_power_law():
    sizes = [(n, round(ratio * n)) for n in (12, 30, 60, 100, 200) for ratio in (1, 1.3, 2, 5)]
    fits = [la.fit_power_law(gaussian(*size, seed), samples=0) for seed, size in enumerate(sizes)]
    assert len(fits) == 20 and not any(fit.accepted for fit in fits)


def test_a_spike_is_no_tail():
    for factor in (2, 10, 1000):
        squares = gaussian(80, 120, 0)
        assert not la.fit_power_law([*squares, factor * squares[0]], samples=0).accepted


def test_fit_is_the_maximum_of_the_likelihood_and_its_distance_is_scipys():
    x = planted(2.5, 300, 100, 1)
    fit = la.fit_power_law(x, samples=50)
    tail = x[x > fit.xmin * (1 + 1e-9)]
    assert len(tail) == fit.count
    best = scipy.optimize.minimize_scalar(
        lambda a: -np.sum(scipy.stats.pareto.logpdf(tail / fit.xmin, a)), bounds=(0.1, 9), options={"xatol": 1e-9}
    )
    assert fit.alpha == pytest.approx(best.x + 1, rel=1e-6)
    assert fit.ks == pytest.approx(scipy.stats.kstest(tail / fit.xmin, scipy.stats.pareto(fit.alpha - 1).cdf)[0])
    ratios = []
    for part in (tail, np.sort(tail)[:-1]):
        pareto = scipy.stats.pareto(1 / np.mean(np.log(part / fit.xmin)), scale=fit.xmin)
        each = pareto.logpdf(part) - scipy.stats.expon(fit.xmin, np.mean(part - fit.xmin)).logpdf(part)
        ratios.append(each.sum() / (each.std() * np.sqrt(len(each))))
    assert fit.against_exponential == pytest.approx(min(ratios), rel=1e-6)
    assert fit.accepted and fit.p_value > 0.1
    scaled = la.fit_power_law(x * 1e-200, samples=50)
    assert (scaled.alpha, scaled.p_value) == pytest.approx((fit.alpha, fit.p_value))
    assert scaled.xmin == pytest.approx(fit.xmin * 1e-200)


def test_the_test_of_the_distance_rejects_another_heavy_tail():
    steps = np.exp(np.arange(200) // 25)  # a heavy tail by its range, in eight heaps
    fit = la.fit_power_law(steps * np.linspace(1, 1.001, 200))
    assert not fit.accepted and fit.p_value <= 0.1 and "p = " in str(fit)


def test_spectra_without_a_tail():
    for values in (np.ones(100), np.arange(20.0), np.zeros(30)):
        fit = la.fit_power_law(values)
        assert not fit.accepted and np.isnan(fit.alpha) and str(fit).startswith("no power law: ")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([], la.DimensionMismatch),
        (np.ones((2, 2)), la.DimensionMismatch),
        ([1.0, np.nan], la.NonFiniteError),
        ([1.0, -1.0], la.LinearAlgebraError),
        ([1.0, 1j], la.LinearAlgebraError),
    ],
)
def test_bad_input(values, error):
    with pytest.raises(error, match="fit_power_law"):
        la.fit_power_law(values)
