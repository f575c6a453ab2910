"""compare: distances against SciPy, verdicts calibrated on spectra that repel, input it refuses."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from scipy import stats

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError

LAW = la.Semicircle()


def test_distances_are_those_of_scipy(x64):
    values = np.asarray(LAW.sample(jax.random.key(0), 50))
    result = la.compare(values, LAW, samples=0)
    assert result.ks == pytest.approx(stats.kstest(values, lambda x: np.asarray(LAW.cdf(x))).statistic, abs=1e-12)
    fine = np.asarray(LAW.quantile((np.arange(200_000) + 0.5) / 200_000))
    assert result.wasserstein == pytest.approx(stats.wasserstein_distance(values, fine), rel=1e-4)
    assert result.consistent is None and math.isnan(result.p_value) and "against" in str(result)


def test_one_value_in_closed_form(x64):
    result = la.compare([0.0], LAW, samples=0)
    assert result.ks == 0.5 and result.wasserstein == pytest.approx(8 / (3 * math.pi), abs=1e-12)


def test_a_spectrum_of_the_ensemble_is_consistent_and_others_are_not():
    n = 80
    spectrum = LAW.spectrum(jax.random.key(7), n)
    assert la.compare(spectrum, LAW, samples=59).consistent
    assert not la.compare(1.1 * np.asarray(spectrum), LAW, samples=59).consistent
    # independent draws from the very same law do not repel, so they are no spectrum
    free = la.compare(LAW.sample(jax.random.key(7), n), LAW, samples=59)
    assert not free.consistent and free.p_value <= 2 / 60 + 1e-12


def test_p_values_are_uniform_under_the_null():
    draws = jax.random.split(jax.random.key(11), 20)
    p = [la.compare(LAW.spectrum(key, 30), LAW, samples=59).p_value for key in draws]
    # of 20 tests at 5 %, more than 4 rejections have probability 0.003
    assert sum(value <= 0.05 for value in p) <= 4 and max(p) > 0.5


def test_point_masses_count_up_to_rounding():
    tall = la.MarchenkoPastur(2.0)
    assert la.compare(tall.spectrum(jax.random.key(1), 60), tall, samples=0).ks < 0.05
    assert la.compare(1 + 1e-6 * np.arange(-5.0, 6.0, dtype=np.float32), la.Haar(), samples=0).ks == 0


def test_complex_eigenvalues_are_compared_by_modulus():
    law = la.CircularLaw()
    z = law.spectrum(jax.random.key(2), 60)
    assert la.compare(z, law, samples=39).consistent
    assert not la.compare(0.7 * np.asarray(z), law, samples=39).consistent
    with pytest.raises(LinearAlgebraError, match="law on the real line"):
        la.compare(z, LAW)


def test_input_it_refuses():
    with pytest.raises(DimensionMismatch, match=r"shape \[2, 2\]"):
        la.compare(np.eye(2), LAW)
    with pytest.raises(NonFiniteError, match="1 of 2"):
        la.compare(np.array([1.0, np.nan]), LAW)
    with pytest.raises(LinearAlgebraError, match="value -1"):
        la.compare(np.array([-1.0, 1.0]), la.MarchenkoPastur())
    with pytest.raises(LinearAlgebraError, match="level"):
        la.compare(np.ones(2), LAW, level=2.0)
    with pytest.raises(LinearAlgebraError, match="samples"):
        la.compare(np.ones(2), LAW, samples=-1)
