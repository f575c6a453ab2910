"""The gallery: closed forms against exact or independent computations, and the verbs against the closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg as sl

import lax_linalg as la
from lax_linalg import gallery

EPS = np.finfo(float).eps
materialize = jax.jit(la.materialize)
SIZES = (1, pytest.param(2, marks=pytest.mark.slow), 7)


KNOWN: dict[str, Callable[[int], gallery.Known]] = {
    # name -> the matrix of size n
    "tridiagonal": lambda n: gallery.tridiagonal(n, -2.0, 3.0, 0.5),
    "complex tridiagonal": lambda n: gallery.tridiagonal(n, 1j, 2 - 1j, 0.5),
    "normal tridiagonal": lambda n: gallery.tridiagonal(n, 1.0, 0.3, -1.0),
    "second difference": lambda n: gallery.second_difference(n),
    "periodic second difference": lambda n: gallery.periodic_second_difference(max(n, 3)),
    "clement": lambda n: gallery.clement(n),
    "symmetric clement": lambda n: gallery.clement(n, symmetric=True),
    "jordan": lambda n: gallery.jordan(n, 1.0),
    "nilpotent jordan": lambda n: gallery.jordan(n, 0.0),
    "complex jordan": lambda n: gallery.jordan(n, 0.5j),
    "kms": lambda n: gallery.kms(n, 0.7),
    "negative kms": lambda n: gallery.kms(n, -0.4),
    "grcar": lambda n: gallery.grcar(n),
    "wide grcar": lambda n: gallery.grcar(n, 5),
    "prolate": lambda n: gallery.prolate(n, 0.3),
    "circulant": lambda n: gallery.circulant(np.arange(1, n + 1)),
    "real circulant": lambda n: gallery.circulant(2.0 + np.cos(2 * np.pi * np.arange(n) / n)),
    "singular circulant": lambda n: gallery.circulant(np.minimum(np.arange(n), 1.0)),
    "hilbert": lambda n: gallery.hilbert(n),
    "cauchy": lambda n: gallery.cauchy(np.arange(1.0, n + 1), np.arange(n) + 0.5),
    "pascal": lambda n: gallery.pascal(n),
    "lehmer": lambda n: gallery.lehmer(n),
    "lotkin": lambda n: gallery.lotkin(n),
    "minij": lambda n: gallery.minij(n),
    "pei": lambda n: gallery.pei(n, 0.5),
    "singular pei": lambda n: gallery.pei(n, -n),
    "kahan": lambda n: gallery.kahan(n),
    "frank": lambda n: gallery.frank(n),
    "haar": lambda n: gallery.haar(jax.random.key(n), n),
    "complex haar": lambda n: gallery.haar(jax.random.key(n), n, complex),
    "randsvd": lambda n: gallery.randsvd(jax.random.key(n), n, 100.0),
    "rectangular randsvd": lambda n: gallery.randsvd(jax.random.key(n), (n, n + 2), 100.0, "arithmetic"),
    "complex randsvd": lambda n: gallery.randsvd(jax.random.key(n), (n + 1, n), 100.0, "one small", complex),
    "randeigh": lambda n: gallery.randeigh(jax.random.key(n), np.arange(n) - 1.5),
    "complex randeigh": lambda n: gallery.randeigh(jax.random.key(n), np.arange(n) - 1.5, complex),
    "ginibre": lambda n: gallery.ginibre(jax.random.key(n), n),
}


NAMES = tuple(KNOWN)


def exact_det(a: np.ndarray) -> Fraction:
    """The determinant of a real matrix of floating-point numbers, by fraction-free elimination in rational numbers."""
    rows = [[Fraction(x) for x in row] for row in a.tolist()]
    det = Fraction(1)
    for i in range(len(rows)):
        pivot = next((k for k in range(i, len(rows)) if rows[k][i]), None)
        if pivot is None:
            return Fraction(0)
        if pivot != i:
            rows[i], rows[pivot], det = rows[pivot], rows[i], -det
        det *= rows[i][i]
        for k in range(i + 1, len(rows)):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [x - factor * y for x, y in zip(rows[k], rows[i])]
    return det


@pytest.mark.parametrize("name", NAMES)
def test_empty_matrices(name):
    if "periodic" in name:
        return  # has at least three rows
    K = KNOWN[name](0)
    assert 0 in K.matrix.shape and K.det in (1, None) and K.logabsdet in (0, None) and K.norm in (0, None)
    assert K.inv is None or K.inv.shape == (0, 0)
    assert K.cholesky is None or K.cholesky.shape == (0, 0)
    assert K.eigvals is None or K.eigvals.shape == (0,)
    assert K.svdvals is None or K.svdvals.shape == (0,)
    assert K.svdvals is None or la.svdvals(K.matrix).shape == (0,)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_closed_forms_against_dense_algebra(name, n, x64):
    K = KNOWN[name](n)
    a = np.asarray(materialize(K.matrix))
    m, k = len(a), min(a.shape)
    s = np.linalg.svd(a, compute_uv=False)
    kappa = s[0] / s[-1] if s[-1] > 0 else np.inf
    noise = 30 * m * EPS
    assert np.asarray(a).dtype in (np.float64, np.complex128)
    if K.svdvals is not None:
        np.testing.assert_allclose(K.svdvals, s, rtol=0, atol=noise * s[0])
    if K.cond is not None and kappa * noise < 1e-3:
        np.testing.assert_allclose(K.cond, kappa, rtol=noise * kappa)
    if K.norm is not None:
        np.testing.assert_allclose(K.norm, np.linalg.norm(a), rtol=noise)
    if K.eigvals is not None:
        # det(A − λI) = 0 for each closed eigenvalue: backward stable, whatever the eigenvalue's condition
        for value in K.eigvals:
            residual = np.linalg.svd(a - value * np.eye(m), compute_uv=False)[-1]
            assert residual <= noise * max(s[0], 1e-300), value
        np.testing.assert_allclose(K.eigvals.sum(), np.trace(a), rtol=0, atol=noise * s[0] * m)
        np.testing.assert_allclose((K.eigvals**2).sum(), np.trace(a @ a), rtol=0, atol=noise * s[0] ** 2 * m)
    if K.det is not None:
        bound = abs(K.det) * noise * kappa if np.isfinite(kappa) and kappa * noise < 1 else noise * s[0] ** m
        assert abs(np.linalg.det(a) - K.det) <= max(bound, noise * s[0] ** m)
        assert K.logabsdet == pytest.approx(math.log(abs(K.det)) if K.det else -math.inf, abs=noise, rel=noise)
    if K.logabsdet is not None and kappa * noise < 1e-3:
        np.testing.assert_allclose(K.logabsdet, np.linalg.slogdet(a)[1], atol=noise * kappa)
    if K.inv is not None:
        residual = np.linalg.norm(a @ K.inv - np.eye(m))
        assert residual <= noise * np.linalg.norm(a) * np.linalg.norm(K.inv)
    if K.cholesky is not None:
        np.testing.assert_array_equal(np.triu(K.cholesky, 1), 0)
        assert np.linalg.norm(K.cholesky @ K.cholesky.T - a) <= noise * np.linalg.norm(a)
    assert k == min(K.matrix.shape)


def test_rational_closed_forms_are_exact():
    for n in (1, 2, 5, 8):
        hilbert = [[Fraction(1, i + j + 1) for j in range(n)] for i in range(n)]
        inverse = gallery.hilbert(n).inv
        product = [[sum(hilbert[i][k] * int(inverse[k, j]) for k in range(n)) for j in range(n)] for i in range(n)]
        assert product == [[int(i == j) for j in range(n)] for i in range(n)]
        lotkin = [[Fraction(1)] * n, *hilbert[1:]]
        inverse = gallery.lotkin(n).inv
        product = [[sum(lotkin[i][k] * int(inverse[k, j]) for k in range(n)) for j in range(n)] for i in range(n)]
        assert product == [[int(i == j) for j in range(n)] for i in range(n)]
        pascal = np.asarray(materialize(gallery.pascal(n).matrix)).astype(int)
        np.testing.assert_array_equal(pascal @ gallery.pascal(n).inv.astype(int), np.eye(n, dtype=int))
        np.testing.assert_allclose(gallery.hilbert(n).inv, sl.invhilbert(n), rtol=1e-14)
        lehmer = np.array([[Fraction(min(i, j), max(i, j)) for j in range(1, n + 1)] for i in range(1, n + 1)])
        assert gallery.lehmer(n).det == pytest.approx(float(exact_det(lehmer)), rel=4 * n * EPS)
        for k in (1, 3):
            assert gallery.grcar(n, k).det == exact_det(np.asarray(materialize(gallery.grcar(n, k).matrix)))
        x, y = np.arange(n) + 1.0, 2.0 ** np.arange(n)
        exact = exact_det(np.array([[1 / (Fraction(a) + Fraction(b)) for b in y] for a in x]))
        assert gallery.cauchy(x, y).det == float(exact)


def test_determinants_that_leave_the_range_of_floats_have_logarithms():
    assert gallery.hilbert(200).det == 0.0
    assert gallery.hilbert(200).logabsdet < -20000
    assert gallery.second_difference(10**3).logabsdet == pytest.approx(math.log(1001))
    assert np.isfinite(gallery.tridiagonal(2000, -1, 4, -1).logabsdet)


@pytest.mark.parametrize("name", ["tridiagonal", "kms", "clement", "minij", "pei", "kahan", "circulant", "lehmer"])
def test_verbs_find_the_closed_forms(name, x64):
    K = KNOWN[name](8)
    verbs = {
        "eigvals": la.eigvals,
        "svdvals": la.svdvals,
        "inv": lambda A: la.materialize(la.inv(A)),
        "cholesky": lambda A: la.cholesky(A).L,
        "logabsdet": lambda A: la.logabsdet(A).logabs,
    }
    # the eigenvalues of the triangular matrix of Kahan are exact by type
    known = [verb for verb in verbs if getattr(K, verb) is not None and (name, verb) != ("kahan", "eigvals")]
    kappa, got = jax.jit(lambda A: (la.cond(A), {verb: verbs[verb](A) for verb in known}))(K.matrix)
    kappa = float(kappa)
    close = {"rtol": 1e-13 * kappa, "atol": 1e-13}
    if "eigvals" in known:
        np.testing.assert_allclose(np.sort(got["eigvals"].real), np.sort(K.eigvals.real), rtol=1e-11, atol=1e-11)
    if "svdvals" in known:
        np.testing.assert_allclose(got["svdvals"], K.svdvals, **close)
    if "inv" in known:
        np.testing.assert_allclose(got["inv"], K.inv, rtol=1e-12 * kappa, atol=1e-12)
    if "cholesky" in known:
        np.testing.assert_allclose(got["cholesky"], K.cholesky, **close)
    if "logabsdet" in known:
        np.testing.assert_allclose(got["logabsdet"], K.logabsdet, rtol=1e-11, atol=1e-12)


def test_the_spectrum_of_a_prolate_matrix_commutes_and_crowds(x64):
    n, w = 30, 0.2
    a = np.asarray(materialize(gallery.prolate(n, w).matrix))
    t = gallery.prolate_commuting(n, w)
    assert np.linalg.norm(a @ t - t @ a) <= 1e-13 * np.linalg.norm(t)
    values = np.linalg.eigvalsh(a)
    inside = (values > 0.01) & (values < 0.99)
    assert inside.sum() <= 6
    assert abs((values >= 0.5).sum() - 2 * n * w) <= 1


def test_modes_of_the_prescribed_spectrum():
    key = jax.random.key(0)
    for mode in ("one large", "one small", "geometric", "arithmetic", "log-uniform"):
        for k in (1, 2, 7):
            s = gallery.spectrum(k, 1e4, mode, key)
            assert s.shape == (k,)
            assert np.all(np.diff(s) <= 0)
            assert s.max() <= 1
            assert s.min() >= 1e-4 * (1 - 1e-6)
            if mode != "log-uniform" and k > 1:
                assert s[0] == 1
                assert s[-1] == pytest.approx(1e-4)
    np.testing.assert_allclose(np.diff(np.log(gallery.spectrum(5, 1e4))), np.log(1e4) / -4)
    np.testing.assert_allclose(np.diff(gallery.spectrum(5, 1e4, "arithmetic")), (1e-4 - 1) / 4)


def test_haar_matrices_are_unitary_and_uniform(x64):
    for dtype in (float, complex):
        Q = np.asarray(materialize(gallery.haar(jax.random.key(1), 6, dtype).matrix))
        assert np.linalg.norm(Q.conj().T @ Q - np.eye(6)) < 1e-14
    # the first moments of Haar's measure: E Q_ij = 0, E |Q_ij|² = 1/n, and E |Q_11|⁴ = 3/(n(n + 2)) for orthogonal ones
    n, count = 2, 4000
    draw = jax.jit(jax.vmap(lambda key: la.materialize(gallery.haar(key, n).matrix)))
    Q = np.asarray(draw(jax.random.split(jax.random.key(2), count)))
    error = 5 / math.sqrt(count)  # five standard deviations of a mean of numbers of modulus ≤ 1
    assert np.abs(Q.mean(0)).max() < error
    assert np.abs((Q**2).mean(0) - 1 / n).max() < error
    assert np.abs((Q**4).mean(0) - 3 / (n * (n + 2))).max() < error
    assert abs(np.linalg.det(Q).mean()) < error  # both components of the group
    draw = jax.jit(jax.vmap(lambda key: la.materialize(gallery.haar(key, 1, complex).matrix)))
    U = np.asarray(draw(jax.random.split(jax.random.key(3), count)))
    assert abs(U.mean()) < error


def test_ginibre_matrices_have_the_variance_that_was_asked_for():
    a = np.asarray(materialize(gallery.ginibre(jax.random.key(0), (200, 300)).matrix))
    assert a.var() == pytest.approx(1 / 300, rel=0.05)
    z = np.asarray(materialize(gallery.ginibre(jax.random.key(0), 200, 4.0, complex).matrix))
    assert (np.abs(z) ** 2).mean() == pytest.approx(4.0, rel=0.05)


def test_matrices_take_the_dtype_they_are_asked_for():
    for name in ("hilbert", "kms", "minij", "pei", "second_difference", "grcar", "frank", "kahan", "clement"):
        assert getattr(gallery, name)(4, dtype=jnp.bfloat16).matrix.dtype == jnp.bfloat16
    assert gallery.randsvd(jax.random.key(0), 4, dtype=jnp.bfloat16).matrix.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gallery.hilbert(-1), la.DimensionMismatch, "gallery.hilbert takes a size n ≥ 0, got -1"),
        (lambda: gallery.kms(3, 1.5), la.LinearAlgebraError, "|ρ| < 1, got 1.5"),
        (lambda: gallery.prolate(3, 0.5), la.LinearAlgebraError, "0 < w < ½"),
        (lambda: gallery.kahan(3, 4.0), la.LinearAlgebraError, "0 < θ < π"),
        (lambda: gallery.cauchy([1.0], [-1.0]), la.LinearAlgebraError, "x_i + y_j ≠ 0"),
        (lambda: gallery.spectrum(3, 0.5), la.LinearAlgebraError, "at least 1"),
        (lambda: gallery.spectrum(3, 2.0, "geometrical"), la.UnknownNameError, "did you mean 'geometric'"),
        (lambda: gallery.spectrum(3, 2.0, "log-uniform"), la.LinearAlgebraError, "give key="),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_every_matrix_of_the_gallery_is_tested_and_documented():
    functions = {n for n in dir(gallery) if callable(getattr(gallery, n)) and not n.startswith("_")} - {"Known"}
    tested = {name.split()[-1] if name.split()[-1] in functions else name.replace(" ", "_") for name in NAMES}
    assert functions - {"spectrum", "prolate_commuting"} <= tested | {"second_difference", "periodic_second_difference"}
    for name in functions:
        assert ">>> " in (getattr(gallery, name).__doc__ or ""), name
