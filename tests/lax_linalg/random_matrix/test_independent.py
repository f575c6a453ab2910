"""The laws against calculations that share no code with them: quadrature, sampled matrices, a plain fixed point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from lax_linalg.random_matrix import FussCatalan, MarchenkoPastur, MeanField, TracyWidom
from lax_linalg.random_matrix.tracy_widom import fredholm_determinant


@pytest.mark.parametrize("ratio", [0.25, 0.6])
def test_marchenko_pastur_is_the_integral_of_its_density(ratio, x64):
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2

    def density(t):
        return np.sqrt(max((high - t) * (t - low), 0)) / (2 * np.pi * ratio * t)

    law = MarchenkoPastur(ratio=ratio)
    for x in np.linspace(low, high, 6)[1:-1]:
        np.testing.assert_allclose(law.pdf(x), density(x), rtol=1e-8)
        np.testing.assert_allclose(law.cdf(x), integrate.quad(density, low, x, limit=400)[0], atol=1e-7)


def test_mean_singular_value_of_a_square_gaussian_matrix(x64):
    assert abs(float(MarchenkoPastur(1.0).moment(0.5)) - 8 / (3 * math.pi)) < 1e-8


@pytest.mark.parametrize("factors", [1, 2, 4])
@pytest.mark.parametrize("order", [0.25, 0.5, 1.5])
def test_real_moments_of_fuss_catalan_continue_the_integer_ones(factors, order, x64):
    gamma = math.gamma
    exact = gamma(order * (factors + 1) + 1) / (gamma(order + 1) * gamma(order * factors + 2))
    assert float(FussCatalan(factors).moment(order)) == pytest.approx(exact, abs=1e-8)


def test_fuss_catalan_is_the_spectrum_of_a_product():
    n, rng = 400, np.random.default_rng(0)
    product = rng.standard_normal((n, n)) @ rng.standard_normal((n, n)) / n
    squared = np.linalg.svd(product, compute_uv=False) ** 2
    # eigenvalue counts fluctuate by O(log n), so the empirical law is within a few in n of its limit
    for x in (0.5, 1.0, 2.0, 4.0):
        assert abs(np.mean(squared < x) - float(FussCatalan(2).cdf(x))) < 5 / n


@pytest.mark.parametrize("point", [(1.5, 0.05), (2.0, 0.1), (1.5, 0.02)])
def test_mean_field_of_tanh_is_the_plain_fixed_point(point):
    z, w = np.polynomial.hermite_e.hermegauss(201)
    w, q = w / w.sum(), 1.0
    for _ in range(3000):
        q = point[0] * np.sum(w * np.tanh(np.sqrt(q) * z) ** 2) + point[1]
    chi = point[0] * np.sum(w / np.cosh(np.sqrt(q) * z) ** 4)
    network = MeanField("tanh", weight_variance=point[0], bias_variance=point[1])
    np.testing.assert_allclose([network.length, network.chi], [q, chi], rtol=1e-7)
    assert network.phase == ("ordered" if chi < 1 else "chaotic")


def test_tracy_widom_and_its_scaling_for_wishart_matrices():
    assert abs(fredholm_determinant(2, -2.0) - 0.413224142505) < 1e-11  # Bornemann (2010), F_2(−2)
    root = math.sqrt(99) + math.sqrt(100)
    law = TracyWidom.wishart(100, 100)
    assert law.location == pytest.approx(root**2 / 100)
    assert law.scale == pytest.approx(root * (99**-0.5 + 100**-0.5) ** (1 / 3) / 100)
