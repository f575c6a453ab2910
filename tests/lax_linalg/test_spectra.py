"""Densities, estimates and ranks against dense eigenvalues: values, and error bars that hold."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError, UnknownNameError
from lax_linalg.spectra.krylov import golub_kahan, lanczos
from lax_linalg.spectra.spectrum import _exact_pays

N = 48
SEEDS = 24
SPECTRA = {
    "decaying": 0.8 ** np.arange(N),
    "linear": np.linspace(1, 5, N),
    "rank 3": np.r_[3.0, 2.0, 1.0, np.zeros(N - 3)],
    "two values": np.r_[np.ones(N // 2), -np.ones(N // 2)],
}


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def hermitian(eigenvalues: np.ndarray) -> np.ndarray:
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(len(eigenvalues),) * 2))[0]
    return ((Q * eigenvalues) @ Q.T).astype(np.float32)


keys = jax.random.split(jax.random.key(1), SEEDS)


@jax.jit
def densities(A):
    """Densities of many seeds in one program: eigenvalues, and singular values of the same matrix."""
    grid = jnp.linspace(-1.5, 6, 64)
    one = functools.partial(la.spectral_density, samples=12, steps=24, grid=grid, width=0.15)
    return tuple(jax.vmap(lambda key, of=of: one(A, key=key, of=of))(keys) for of in ("eigenvalues", "singular_values"))


@pytest.mark.parametrize("name", SPECTRA)
def test_the_smoothed_density_lies_within_its_error_bars(name):
    eigenvalues = SPECTRA[name]
    h = 0.15
    for of, found in zip(("eigenvalues", "singular_values"), densities(hermitian(eigenvalues))):
        t = np.asarray(found.grid[0])[:, None]
        at = eigenvalues if of == "eigenvalues" else np.abs(eigenvalues)
        density = scipy.stats.norm.pdf(t, at, h).mean(1)
        cdf = scipy.stats.norm.cdf(t, at, h).mean(1)
        if of == "singular_values":
            density = np.where(t[:, 0] >= 0, density + scipy.stats.norm.pdf(t, -at, h).mean(1), 0)
            cdf = np.where(t[:, 0] >= 0, cdf - scipy.stats.norm.cdf(-t, at, h).mean(1), 0)
        for exact, value, bar in ((density, found.density, found.density_error), (cdf, found.cdf, found.cdf_error)):
            rounding = 1e-4 * exact.max()
            miss = np.abs(np.asarray(value) - exact) - rounding
            within = [np.mean(miss <= k * np.asarray(bar)) for k in (1, 2, 4)]
            assert within[0] > 0.55, (of, within)  # Student's t with 11 degrees of freedom: 0.66, 0.93, 0.998
            assert within[1] > 0.85, (of, within)
            assert within[2] > 0.98, (of, within)
            assert np.mean(bar) < 0.3 * exact.max()  # and the bars say something


def test_moments_are_those_of_the_spectrum():
    eigenvalues = SPECTRA["linear"]
    law, _ = densities(hermitian(eigenvalues))
    moments = jax.jit(jax.vmap(lambda law: [law.moment(order) for order in (1, 2, 5)]))(law)
    for order, each in zip((1, 2, 5), jax.tree.map(np.asarray, moments)):
        exact = np.mean(eigenvalues**order)
        assert abs(np.mean(each.value) - exact) < 4 * np.std(each.value) / SEEDS**0.5  # unbiased
        assert np.mean(np.abs(each.value - exact) <= 2 * each.error) > 0.8
        assert np.max(each.quadrature_error) < 1e-4 * exact


def test_the_grid_covers_the_spectrum_and_the_density_has_mass_one():
    W = draw(0, 40, 64) / 8
    law = la.spectral_density(W, key=jax.random.key(2), samples=4, steps=20)
    second = law.moment(2).value
    law = jax.tree.map(np.asarray, law)
    assert float(law.grid[0]) == 0
    assert float(law.grid[-1]) > np.linalg.norm(W, 2)
    np.testing.assert_allclose(np.trapezoid(law.density, law.grid), 1, atol=2e-3)
    np.testing.assert_allclose(law.cdf[-1], 1, atol=1e-3)
    assert (np.diff(law.cdf) >= -1e-5).all()
    np.testing.assert_allclose(law.weights.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(second * 40, np.linalg.norm(W) ** 2, rtol=0.1)
    tall = la.spectral_density(W.T, key=jax.random.key(2), samples=4, steps=20)
    np.testing.assert_allclose(tall.density, law.density, atol=1e-3)  # the same vectors on the smaller side


@jax.jit
def both_recurrences(A, V):
    return *lanczos(A, V, 7), *golub_kahan(A, V, 7)


@pytest.mark.parametrize("A", [np.eye(7), np.zeros((7, 7)), np.ones((7, 7)), np.diag([1.0, 1, 0, 0, 0, 0, 0])])
def test_breakdown_is_normal(A):
    """Krylov spaces smaller than the number of steps: finite rules whose nodes are eigenvalues."""
    V = draw(0, 7, 3)
    d, e, b, f = map(np.asarray, both_recurrences(A.astype(np.float32), V / np.linalg.norm(V, axis=0)))
    exact = np.unique(np.linalg.eigvalsh(A).round(6))
    for j in range(3):
        T = np.diag(d[j]) + np.diag(e[j], 1) + np.diag(e[j], -1)
        B = np.diag(b[j]) + np.diag(f[j], 1)
        for M in (T, B.T @ B):
            nodes, vectors = np.linalg.eigh(M)
            weights = vectors[0] ** 2
            at = exact if M is T else exact**2
            for node, weight in zip(nodes, weights):
                assert weight < 1e-6 or np.min(np.abs(node - at)) < 1e-3 * max(1, at.max()), (node, weight)


@pytest.mark.parametrize("method", ["xtrace", "hutchinson"])
def test_traces_within_their_errors(method):
    pytest.importorskip("matfree")
    estimate = jax.jit(lambda A: jax.vmap(lambda key: la.trace_estimate(A, key=key, samples=16, method=method))(keys))
    for name, eigenvalues in SPECTRA.items():
        found = estimate(hermitian(eigenvalues))
        miss = np.abs(found.value - eigenvalues.sum()) - 2e-5 * np.abs(eigenvalues).sum()
        assert np.mean(miss <= 4 * found.standard_error) > 0.9, name
        np.testing.assert_allclose(np.mean(found.value), eigenvalues.sum(), atol=0.1 * np.abs(eigenvalues).sum())
        if method == "xtrace" and name == "rank 3":
            np.testing.assert_allclose(found.value, 6, rtol=1e-3)


def test_norm_determinant_and_sums_within_their_errors():
    eigenvalues = SPECTRA["linear"]
    A = hermitian(eigenvalues)

    @jax.jit
    def estimates(A):
        return jax.vmap(
            lambda key: (
                la.frobenius_estimate(A, key=key),
                la.logdet_estimate(A, key=key, steps=16),
                la.log_volume_estimate(A, key=key, steps=16),
                la.spectral_sum_estimate(A, jnp.sqrt, key=key, steps=16),
            )
        )(keys)

    exact = (np.linalg.norm(eigenvalues), *[np.log(eigenvalues).sum()] * 2, np.sqrt(eigenvalues).sum())
    for found, value in zip(estimates(A), exact):
        assert np.mean(np.abs(found.value - value) <= 2 * found.error + 1e-5 * value) > 0.8
        np.testing.assert_allclose(np.mean(found.value), value, rtol=0.02)


def smooth_estimates(A, key) -> jax.Array:
    """Estimates that are smooth in a symmetric A [3, 3], with steps enough to exhaust every Krylov space."""
    few = {"key": key, "samples": 2, "steps": 3}
    return jnp.stack([
        la.trace_estimate(A, key=key, samples=2, method="hutchinson").value,
        la.frobenius_estimate(A + 2 * la.I, key=key, samples=2).value,
        la.spectral_sum_estimate(A, jnp.exp, of="eigenvalues", **few).value,
        la.spectral_sum_estimate(A, lambda s: s**4, **few).value,
        la.logdet_estimate(A + 9 * la.I, **few).value,
        la.log_volume_estimate(A + 9 * la.I, **few).value,
        la.spectral_density(A, of="eigenvalues", grid=jnp.array([0.5, 2.0]), width=1.0, **few).density[0],
        la.spectral_density(A, grid=jnp.array([0.5, 2.0]), width=1.0, **few).cdf[1],
    ])  # fmt: skip


def test_derivatives_exist_where_krylov_spaces_are_exhausted(key, x64):
    """Rank deficient, repeated and zero: where an estimate is smooth its derivative is that of its values."""
    both = jax.jit(jax.jacrev(lambda A: (smooth_estimates(A, key),) * 2, has_aux=True))
    generator, h = np.random.default_rng(3), 1e-3
    direction, v = generator.normal(size=(3, 3)), generator.normal(size=3)
    direction = direction + direction.T
    for a in (direction @ direction, np.outer(v, v), np.eye(3), np.zeros((3, 3))):
        found = np.tensordot(both(a)[0], direction)
        left, right, far_left, far_right = (np.asarray(both(a + k * h * direction)[1]) for k in (-1, 1, -2, 2))
        slope = (8 * (right - left) - (far_right - far_left)) / (12 * h)
        kinks = 1 if np.linalg.matrix_rank(a) < 3 else 0  # the density of |λ| has one at 0, and so a subgradient
        np.testing.assert_allclose(found[: 8 - kinks], slope[: 8 - kinks], rtol=1e-6, atol=1e-8)
        assert np.isfinite(found).all()


def test_the_derivative_of_xtrace_is_that_of_the_trace_on_average():
    pytest.importorskip("matfree")

    @jax.jit
    def gradients(A):
        return jax.vmap(jax.grad(lambda A, key: la.trace_estimate(A, key=key, samples=12).value), (None, 0))(A, keys)

    for name, eigenvalues in SPECTRA.items():
        slopes = np.einsum("kij,ij->k", gradients(hermitian(eigenvalues)), hermitian(SPECTRA["linear"]))
        assert abs(slopes.mean() - SPECTRA["linear"].sum()) < 4 * slopes.std() / SEEDS**0.5 + 1e-2, name


def test_a_sum_of_logarithms_has_no_derivative_at_a_singular_matrix(key):
    for estimate in (la.logdet_estimate, la.log_volume_estimate):
        with pytest.raises(la.NotDifferentiableError, match="at a singular matrix"):
            jax.grad(lambda a, f=estimate: f(a, key=key, samples=2).value)(np.zeros((2, 2), np.float32))


def test_complex_and_indefinite_matrices(key):
    Z = (draw(0, 9, 6) + 1j * draw(1, 9, 6)) / np.float32(2**0.5)
    H = Z.conj().T @ Z

    @jax.jit
    def estimates(Z, H):
        return (
            la.spectral_density(Z, key=key, samples=64).moment(2).value,
            la.trace_estimate(H, key=key, samples=64, method="hutchinson"),
            la.logdet_estimate(la.Hermitian(H), key=key, samples=64),
        )

    second, trace, logdet = jax.tree.map(np.asarray, estimates(Z, H))
    assert abs(second * 6 / np.linalg.norm(Z) ** 2 - 1) < 0.2
    assert abs(trace.value - np.trace(H)) < 4 * trace.standard_error
    assert abs(logdet.value - np.linalg.slogdet(H)[1]) < 4 * logdet.error


def test_jacobians_and_batches_of_them(key):
    W = draw(0, 12, 12) / 12**0.5
    J = la.layer_jacobians({"tanh": lambda x: jnp.tanh(W @ x)}, draw(1, 2, 12))["tanh"]

    @jax.jit
    def everything(J):
        law = la.spectral_density(J, key=key, samples=128, steps=12, grid=32)
        s = la.svdvals(J)
        ranks = la.stable_rank(J), la.effective_rank(J), la.summary(s).effective_rank
        return law.density, jax.vmap(lambda law: law.moment(2))(law), s, ranks

    density, moments, s, ranks = jax.tree.map(np.asarray, everything(J))
    assert density.shape == (2, 32)
    np.testing.assert_array_less(np.abs(moments.value - (s**2).mean(1)), 4 * moments.error)
    exact = la.spectrum(J)
    assert (exact.method, exact.density) == ("exact", None)
    np.testing.assert_array_equal(exact.singular_values, la.svdvals(J))
    np.testing.assert_allclose(exact.singular_values, s, rtol=1e-5)
    np.testing.assert_allclose(ranks[0], (s**2).sum(1) / s[:, 0] ** 2, rtol=1e-4)
    np.testing.assert_allclose(ranks[1], ranks[2], rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 2)])
def test_quadrature_is_exact_for_polynomials(shape, key):
    """Σ w σ² of a rule is ‖A v‖² of its vector on the smaller side."""
    k = min(shape)

    @jax.jit
    def both(A):
        V = jax.random.rademacher(key, (k, 3), dtype=A.dtype) / k**0.5
        small = A if shape[0] >= shape[1] else A.T
        law = la.spectral_density(A, key=key, samples=3, steps=9, grid=jnp.linspace(0, 1, 3), width=0.1)
        return law.nodes, law.weights, small @ V

    nodes, weights, image = map(np.asarray, both(draw(0, *shape)))
    assert nodes.shape == (3, k)
    np.testing.assert_allclose((weights * nodes**2).sum(1), (image**2).sum(0), rtol=1e-4)


def test_half_and_double_precision(key, x64):
    A = np.random.default_rng(0).standard_normal((6, 6))

    @jax.jit
    def estimates(A):
        law = la.spectral_density(A, key=key, samples=2, steps=6, grid=3)
        trace = [
            la.trace_estimate(x, key=key, samples=8, method="hutchinson").value for x in (A.astype(jnp.bfloat16), A)
        ]
        return law, *trace

    law, half, full = estimates(A)
    assert law.density.dtype == law.weights.dtype == jnp.float64
    assert (half.dtype, full.dtype) == (jnp.float32, jnp.float64)
    assert abs(float(half) - float(full)) < 0.1 * np.linalg.norm(A)


def test_auto_takes_exact_values_where_they_are_cheap(key):
    assert la.spectrum(np.eye(3, dtype=np.float32), "auto").method == "exact"
    circulant = la.Circulant(np.r_[2, np.ones(4999)].astype(np.float32))
    assert la.spectrum(circulant, "auto").method == "exact"  # closed form at any size
    with la.dense_limit(100):
        found = la.spectrum(np.eye(8, dtype=np.float32), "auto", key=key, samples=2)
    assert (found.method, found.singular_values, found.density.nodes.shape) == ("density", None, (2, 8))


def test_auto_means_the_same_for_an_array_a_jacobian_a_batch_and_structures(monkeypatch, key):
    W = np.asarray(draw(0, 6, 6))
    x, part = W[:3], W[:3, :3]
    large = {
        "array": la.Dense(W),
        "hermitian": la.Hermitian(W),
        "multiple": 2 * la.Dense(W),
        "jacobian": la.jacobian(lambda x: jnp.tanh(W @ jnp.sin(x)), x[0]),
        "batch": la.layer_jacobians([lambda x: jnp.tanh(x @ W)], x)["end_to_end"],
        "stack": la.Stack(la.Dense, np.stack([W, W, W])),
        "blocks": la.BlockDiagonal([W, W]),
    }
    small = {
        "kronecker": la.Kronecker(part, part),
        "blocks": la.BlockDiagonal([part] * 3),
        "circulant": la.Circulant(W[0]),
    }
    for side, pays in ((6, True), (5, False)):
        monkeypatch.setattr("lax_linalg.spectra.spectrum.EXACT_SIDE", side)
        assert {name: _exact_pays(A) for name, A in large.items()} == dict.fromkeys(large, pays)
        assert {name: _exact_pays(A) for name, A in small.items()} == dict.fromkeys(small, True)
    found = la.spectrum(large["batch"], "auto", key=key, samples=2)
    assert (found.method, found.density.nodes.shape) == ("density", (3, 2, 6))
    monkeypatch.setattr("lax_linalg.spectra.spectrum.EXACT_SIDE", 6)
    for name, formed in (("array", 1), ("jacobian", 1), ("batch", 3), ("stack", 1)):  # of a stack, one after the other
        for limit in (formed * W.nbytes, formed * W.nbytes - 1):
            with la.dense_limit(limit):
                assert _exact_pays(large[name]) == (limit == formed * W.nbytes), name


def test_a_partial_spectrum_bounds_its_errors():
    A = draw(0, 30, 20)
    s = np.linalg.svd(np.asarray(A, np.float64), compute_uv=False)
    for which, exact in (("largest", s[:3]), ("smallest", s[-3:])):
        found = la.spectrum(A, "partial", k=3, which=which)
        assert found.method == "partial"
        gap = np.abs(found.singular_values - exact)
        assert (gap <= found.partial.residuals + 20 * np.finfo(np.float32).eps * s[0]).all()
    with pytest.raises(la.LinearAlgebraError, match="how many singular values"):
        la.spectrum(A, "partial")
    batch = la.layer_jacobians([jnp.tanh], np.zeros((1, 2), np.float32))["end_to_end"]
    with pytest.raises(la.LinearAlgebraError, match="of one operator"):
        la.spectrum(batch, "partial", k=1)


def test_stable_rank_of_structures():
    assert float(la.stable_rank(la.I(6))) == pytest.approx(6, rel=1e-5)
    assert float(la.stable_rank(np.zeros((4, 4), np.float32))) == 0
    assert float(la.stable_rank(1e30 * np.eye(4, dtype=np.float32))) == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "A", "options", "error", "message"),
    [
        ("spectral_density", np.ones((2, 3)), {"of": "eigenvalues"}, DimensionMismatch, "square matrix, got 2×3"),
        ("spectral_density", np.triu(np.ones((3, 3))), {"of": "eigenvalues"}, LinearAlgebraError, "Hermitian"),
        ("spectral_density", np.eye(3), {"of": "eigenvalue"}, UnknownNameError, "did you mean 'eigenvalues'"),
        ("spectral_density", np.eye(3), {"samples": 0}, DimensionMismatch, "at least one sample"),
        ("spectral_density", np.eye(3), {"width": 0.0}, DimensionMismatch, "width must be positive"),
        ("spectral_density", np.eye(3), {"grid": 1}, DimensionMismatch, "at least 2 points"),
        ("spectral_density", np.zeros((0, 3)), {}, DimensionMismatch, "has no spectrum"),
        ("spectral_density", np.full((2, 2), np.nan), {}, NonFiniteError, "finite numbers"),
        ("trace_estimate", np.ones((2, 3)), {}, DimensionMismatch, "square matrix, got 2×3"),
        ("trace_estimate", np.eye(3), {"method": "xtrac"}, UnknownNameError, "did you mean 'xtrace'"),
        ("trace_estimate", np.eye(3), {"samples": 1}, DimensionMismatch, "at least 2 samples"),
        ("frobenius_estimate", np.eye(3), {"samples": 1}, DimensionMismatch, "at least 2 samples"),
        ("logdet_estimate", np.triu(np.ones((3, 3))), {}, LinearAlgebraError, "needs a Hermitian matrix"),
        ("spectrum", np.eye(3), {"method": "slq"}, UnknownNameError, "unknown spectrum method 'slq'"),
        ("spectrum", np.eye(3), {"method": "density", "key": None}, LinearAlgebraError, "give key="),
        ("spectrum", np.eye(3), {"samples": 2}, LinearAlgebraError, "samples: options of method='density'"),
    ],
)
def test_bad_input(name, A, options, error, message, key):
    with pytest.raises(error, match=message):
        getattr(la, name)(A, **{"key": key, **options})


def test_rules_without_a_basis_are_as_good():
    """Far beyond where orthogonality is lost, in single precision: sums of functions that are smooth in σ²."""
    values = np.r_[np.linspace(0, 1, 400), 5.0, 5.0, 9.0].astype(np.float32)
    V = (np.random.default_rng(0).choice([-1.0, 1.0], (len(values), 2)) / len(values) ** 0.5).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def rules(orthogonal):
        A = la.Diagonal(jnp.asarray(values))
        d, e = golub_kahan(A, V, 60, orthogonal)
        g, h = lanczos(A, V, 60, orthogonal)
        upper = jax.vmap(lambda d, e: jnp.diag(d) + jnp.diag(e, 1))(d, e)
        symmetric = jax.vmap(lambda d, e: jnp.diag(d) + jnp.diag(e, 1) + jnp.diag(e, -1))(g, h)
        (_, s, Qt), (w, Q) = jnp.linalg.svd(upper), jnp.linalg.eigh(symmetric)
        return (s, Qt[:, :, 0] ** 2), (w, Q[:, 0] ** 2)

    for f in (np.ones_like, np.square, np.cos, lambda t: np.exp(-(t**2))):
        exact = f(values.astype(float)) @ V.astype(float) ** 2
        for nodes, weights in (*rules(False), *rules(True)):
            np.testing.assert_allclose(np.sum(weights * f(np.asarray(nodes)), axis=1), exact, rtol=2e-5)
