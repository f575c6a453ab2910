"""Laws: normalisation, moments against closed forms, densities against other calculations, samples, errors."""

from __future__ import annotations

import itertools
import math

import jax
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import integrate, stats

import lax_linalg as la
from lax_linalg.errors import LinearAlgebraError, UnknownNameError


def catalan(k):
    return math.comb(2 * k, k) // (k + 1)


def fuss_catalan(n, k):
    return math.comb(n * k + k, k) / (n * k + 1)


def narayana(c, k):
    return sum(c**r / (r + 1) * math.comb(k, r) * math.comb(k - 1, r) for r in range(k))


def residual_moments(c, k):
    """E Xᵏ of Π (I + Y_l) from free cumulants: with S = e^{−c(1+2m)}, (e^{ck}/k) L¹_{k−1}(−2ck)."""
    from scipy.special import genlaguerre

    return math.exp(c * k) / k * float(genlaguerre(k - 1, 1)(-2 * c * k))


CLOSED = {
    "marchenko_pastur": (la.MarchenkoPastur(0.25, 2.0), lambda k: 2**k * narayana(0.25, k)),
    "marchenko_pastur_tall": (la.MarchenkoPastur(4.0), lambda k: narayana(4.0, k)),
    "fuss_catalan": (la.FussCatalan(3), lambda k: fuss_catalan(3, k)),
    "fuss_catalan_deep": (la.FussCatalan(32), lambda k: fuss_catalan(32, k)),
    "semicircle": (la.Semicircle(2.0), lambda k: 0.0 if k % 2 else 2.0 ** (k // 2) * catalan(k // 2)),
    "quarter_circle": (
        la.QuarterCircle(), lambda k: 2**k * math.gamma((k + 1) / 2) / (math.sqrt(math.pi) * math.gamma(k / 2 + 2))
    ),
    "arcsine": (la.Arcsine(), lambda k: 0.0 if k % 2 else math.comb(k, k // 2)),
    "wachter_half": (la.Wachter(0.5, 0.5), lambda k: math.comb(2 * k, k) / 4**k),
    "haar": (la.Haar(1.5), lambda k: 1.5**k),
    "modulus": (la.CircularLaw(3).modulus(), lambda k: 2 / (2 + 3 * k)),
    "triangle": (la.LyapunovTriangle(), lambda k: (-0.5) ** k * math.factorial(k)),
    "residual": (la.ResidualJacobian(0.3), lambda k: residual_moments(0.3, k)),
    "free_product": (la.FreeProduct((la.MarchenkoPastur(), la.MarchenkoPastur())), lambda k: fuss_catalan(2, k)),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_normalisation_and_moments(name, x64):
    law, closed = CLOSED[name]
    nodes, weights = law.quadrature()
    assert np.sum(weights) == pytest.approx(1, abs=1e-8)
    for k in range(1, 6):
        exact = closed(k)
        assert float(law.moment(k)) == pytest.approx(exact, rel=1e-12, abs=1e-12)
        assert float(np.sum(weights * nodes**k)) == pytest.approx(exact, rel=1e-8, abs=1e-8)
    np.testing.assert_allclose(law.moments(3), [law.moment(k) for k in (1, 2, 3)])


@pytest.mark.parametrize(
    "law",
    [la.MarchenkoPastur(2.0), la.FussCatalan(2), la.Arcsine(0.5), la.Wachter(0.3, 0.5), la.Wachter(0.7, 0.6)],
    ids=str,
)
def test_cdf_is_the_integral_of_the_density_and_quantile_its_inverse(law, x64):
    low, high = law.bulk
    x = np.linspace(low, high, 6)[1:-1]
    pieces = [integrate.quad(lambda t: float(law.pdf(t)), a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(x)]
    np.testing.assert_allclose(np.diff(law.cdf(x)), pieces, atol=1e-9)
    below = sum(mass for position, mass in law.atoms if position <= low)
    assert float(law.cdf(low)) == pytest.approx(below, abs=1e-7)
    assert float(law.cdf(law.edge)) == 1
    np.testing.assert_allclose(law.quantile(law.cdf(x)), x, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(law.cdf)))(x), law.pdf(x), rtol=1e-12)
    check_grads(jax.jit(law.pdf), (x[1],), 1, rtol=1e-4)


@pytest.mark.parametrize("beta", [1, 2])
def test_tracy_widom_has_the_published_moments(beta, x64):
    # Bornemann (2010), table of mean and variance
    mean, variance = {1: (-1.2065335745820, 1.6077810345810), 2: (-1.7710868074, 0.8131947928)}[beta]
    law = la.TracyWidom(beta)
    assert law.mean == pytest.approx(mean, abs=1e-9)
    assert law.moment(2) - law.mean**2 == pytest.approx(variance, abs=1e-9)


def residual_green(x, c):
    """G(x + i0) of G = (zG − 1) e^{c(1 − 2zG)} by Newton, from far up in the plane down to the axis."""
    g = None
    for height in np.concatenate([np.geomspace(1e4, 1e-8, 400), [0.0]]):
        z = x + 1j * height
        g = 1 / z if g is None else g
        for _ in range(20):
            e = np.exp(c * (1 - 2 * z * g))
            g = g - (g - (z * g - 1) * e) / (1 - z * e + 2 * c * z * (z * g - 1) * e)
    return g


def test_residual_law_solves_its_equation(x64):
    law = la.ResidualJacobian(0.5)
    x = np.array([0.2, 1.0, 3.0, 7.0])
    expected = [-residual_green(v, 0.5).imag / np.pi for v in x]
    np.testing.assert_allclose(law.pdf(x), expected, rtol=1e-8)
    assert law.support[0] * law.support[1] == pytest.approx(1)


def silverstein_density(x, slopes, masses, variance):
    """Density of σ² D G Gᵀ D / N, G Gaussian, by the equation m = −1/(z − ∫ t dH(t)/(1 + t m)) for D² ~ H."""
    t, m = variance * slopes, None
    for height in np.concatenate([np.geomspace(1e3, 1e-9, 300), [0.0]]):
        z = x + 1j * height
        m = -1 / z if m is None else m
        for _ in range(20):
            integral = np.sum(masses * t / (1 + t * m))
            rate = -np.sum(masses * t**2 / (1 + t * m) ** 2)
            m = m - (m * (z - integral) + 1) / (z - integral - m * rate)
    return m.imag / np.pi


@pytest.mark.parametrize("activation", ["tanh", "hard_tanh", pytest.param("erf", marks=pytest.mark.slow), "relu"])
def test_one_gaussian_layer_against_silversteins_equation(activation, x64):
    functions = {
        "tanh": lambda h: 1 - np.tanh(h) ** 2,
        "hard_tanh": lambda h: (np.abs(h) < 1) * 1.0,
        "erf": lambda h: 2 / np.sqrt(np.pi) * np.exp(-h * h),
        "relu": lambda h: (h > 0) * 1.0,
    }
    q, variance = 0.7, 1.3
    edges = np.array([-9, -1 / math.sqrt(q), 0, 1 / math.sqrt(q), 9])
    nodes, weights = np.polynomial.legendre.leggauss(60)
    z = (edges[:-1, None] + np.diff(edges)[:, None] * (nodes + 1) / 2).ravel()
    masses = (np.diff(edges)[:, None] / 2 * weights).ravel() * stats.norm.pdf(z)
    law = la.JacobianLaw(activation, "gaussian", 1, variance, 0.1, length=q)
    x = law.edge * np.array([0.1, 0.4, 0.8])
    expected = [silverstein_density(v, functions[activation](math.sqrt(q) * z) ** 2, masses, variance) for v in x]
    np.testing.assert_allclose(law.pdf(x), expected, rtol=1e-7)


def test_two_orthogonal_relu_layers_are_half_zero_and_half_arcsine(x64):
    law = la.JacobianLaw("relu", "orthogonal", 2, 2.0, length=1.0)
    x = np.array([0.3, 1.0, 2.5, 3.9])
    np.testing.assert_allclose(law.cdf(x), 0.5 + np.arcsin(np.sqrt(x / 4)) / np.pi, atol=1e-8)
    np.testing.assert_allclose(law.moments(3), [2.0 * 4 ** (k - 1) * math.comb(2 * k, k) / 4**k for k in (1, 2, 3)])


def test_moments_of_deep_erf_networks_in_closed_form(x64):
    # φ'(x)² = (4/π) e^{−2x²}, so μ_k = (4/π)ᵏ / √(1 + 4kq)
    q, depth, variance = 0.4, 5, 1.2
    first, second = ((4 / math.pi) ** k / math.sqrt(1 + 4 * k * q) for k in (1, 2))
    for weights, extra in (("orthogonal", 0), ("gaussian", 1)):
        law = la.JacobianLaw("erf", weights, depth, variance, length=q)
        assert law.mean == pytest.approx((variance * first) ** depth, rel=1e-10)
        spread = depth * (second / first**2 - 1 + extra)
        assert law.moment(2) / law.mean**2 - 1 == pytest.approx(spread, rel=1e-8)
        assert law.relative_variance == pytest.approx(spread, rel=1e-10)


@pytest.mark.parametrize(
    ("activation", "weights", "depth", "weight_variance"),
    [
        ("hard_tanh", "orthogonal", 3, 2.0),  # the band ends 1e-2 from a point mass
        pytest.param("hard_tanh", "orthogonal", 32, 1.05, marks=pytest.mark.slow),
        pytest.param("gelu", "gaussian", 3, 2.0, marks=pytest.mark.slow),  # slopes through zero: mass at all scales
        pytest.param("silu", "orthogonal", 3, 2.0, marks=pytest.mark.slow),
        pytest.param("gelu", "gaussian", 1, 1.3, marks=pytest.mark.slow),
        pytest.param("tanh", "orthogonal", 32, 1.05, marks=pytest.mark.slow),
    ],
)
def test_quadrature_of_networks_has_their_exact_moments(activation, weights, depth, weight_variance, x64):
    law = la.JacobianLaw(activation, weights, depth, weight_variance, length=1.0)
    nodes, mass = law.quadrature()
    assert np.sum(mass) == pytest.approx(1, abs=1e-8)
    for k in (1, 2, 3):
        assert np.sum(mass * nodes**k) == pytest.approx(law.moment(k), rel=1e-8)
    for band in law._bands:
        if band.truncated:  # what is left out below is next to nothing
            assert band.quadrature()[1][-1] < 1e-7


def test_corners_and_sums_of_orthogonal_matrices():
    n, rng = 400, np.random.default_rng(0)
    q = stats.ortho_group.rvs(n, random_state=rng)
    corner = np.linalg.svd(q[:120, :200], compute_uv=False) ** 2
    for x in (0.1, 0.3, 0.6):  # counts of eigenvalues fluctuate by O(log n)
        assert abs(np.mean(corner < x) - float(la.Wachter(0.3, 0.5).cdf(x))) < 3 / 120
    eigenvalues = np.linalg.eigvalsh(q + q.T)
    for x in (-1.5, 0.0, 1.0):
        assert abs(np.mean(eigenvalues < x) - float(la.Arcsine().cdf(x))) < 5 / n


@pytest.mark.parametrize("depth", [8, 32])
def test_lyapunov_exponents_of_gaussian_products(depth):
    # log R_ii² of a QR step is log χ²_{N−i+1}: means and errors are exact at any depth
    n, rng = 12, np.random.default_rng(depth)
    logs = np.zeros((depth * 40, n))
    for row in logs:
        row[:] = np.log(np.abs(np.diagonal(np.linalg.qr(rng.standard_normal((n, n)) / math.sqrt(n))[1])))
    law = la.GinibreLyapunov(n)
    error = np.asarray(law.standard_error(len(logs)))
    assert np.max(np.abs(logs.mean(axis=0) - np.asarray(law.exponents)) / error) < 4
    assert float(law.limit().cdf(-0.5)) == pytest.approx(math.exp(-1), abs=1e-6)


def test_samples_follow_the_law():
    for law in (la.MarchenkoPastur(0.5), la.FussCatalan(2), la.Wachter(0.3, 0.5), la.Arcsine()):
        draws = np.asarray(law.sample(jax.random.key(3), 2000), np.float64)
        assert stats.kstest(draws, lambda x, law=law: np.asarray(law.cdf(x))).pvalue > 1e-3
    z = np.asarray(la.CircularLaw(2).sample(jax.random.key(3), 2000))
    assert stats.kstest(np.abs(z), lambda r: r).pvalue > 1e-3  # P(|z| ≤ r) = r for two factors
    assert stats.kstest(np.angle(z), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: la.MarchenkoPastur(0.0), "ratio"),
        (lambda: la.MarchenkoPastur(1.0, math.nan), "variance"),
        (lambda: la.FussCatalan(0), "at least 1"),
        (lambda: la.FussCatalan(1.5), "integer"),
        (lambda: la.Semicircle(-1.0), "variance"),
        (lambda: la.TracyWidom(4), "1 (real) or 2"),
        (lambda: la.Wachter(1.2, 0.5), "share in (0, 1)"),
        (lambda: la.ResidualJacobian(-1.0), "strength"),
        (lambda: la.GinibreLyapunov(0), "at least 1"),
        (lambda: la.CircularLaw(1, 0.0), "variance"),
        (lambda: la.FreeProduct(()), "at least one"),
        (lambda: la.FreeProduct((la.Semicircle(),)), "law of eigenvalues"),
        (lambda: la.JacobianLaw("relu", "orthogonal", 2, 3.0), "diverge"),
        (lambda: la.JacobianLaw("tanh", "orthogonal", 0), "at least 1"),
        (lambda: la.MeanField("tanh", -1.0), "weight_variance"),
        (lambda: la.critical_point("tanh", 0.5), "covers weight variances"),
        (lambda: la.Semicircle().moment(0.5), "not defined"),
        (lambda: la.MarchenkoPastur(4.0).moment(-1.0), "not defined"),
        (lambda: la.Semicircle().singular_values(), "only squared"),
        (lambda: la.s_transform(la.MarchenkoPastur(), 0.5), "must lie in"),
    ],
)
def test_parameters_outside_the_domain(build, words):
    with pytest.raises(LinearAlgebraError) as caught:
        build()
    assert words in str(caught.value)


def test_unknown_names_have_suggestions():
    with pytest.raises(UnknownNameError, match="did you mean 'gaussian'"):
        la.JacobianLaw("tanh", "gausian", 2)
    with pytest.raises(UnknownNameError, match="did you mean 'tanh'"):
        la.MeanField("tanhh", 1.0)
