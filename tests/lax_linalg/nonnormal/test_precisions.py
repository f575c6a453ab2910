"""Precisions, platforms, transformations and bad input of the instruments of non-normality."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nonnormal_matrices import grcar, stable

import lax_linalg as la
from lax_linalg.nonnormal import shifted_inverse

VERBS = [
    la.henrici,
    la.eigenvalue_condition_numbers,
    la.eigenvector_condition_number,
    la.numerical_range,
    lambda A: la.power_norms(A, 3),
]


@pytest.mark.parametrize("verb", VERBS)
def test_bad_input_of_the_verbs(verb):
    with pytest.raises(la.DimensionMismatch, match="square matrix, got 2×3"):
        verb(jnp.ones((2, 3)))
    with pytest.raises(la.NonFiniteError, match="NaN"):
        verb(jnp.array([[jnp.nan, 1.0], [0.0, 1.0]]))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, jnp.bfloat16])
def test_verbs_keep_the_precision_that_they_are_given(dtype):
    A = jnp.asarray(stable(0, 6), dtype)
    wide = np.asarray(A, np.complex128 if jnp.iscomplexobj(A) else np.float64)
    real = np.float32  # half precision is computed with in single
    norm = np.linalg.norm(wide)
    departure = np.sqrt(norm**2 - np.sum(np.abs(np.linalg.eigvals(wide)) ** 2))
    assert la.henrici(A).dtype == real
    np.testing.assert_allclose(la.henrici(A), departure, atol=1e-4 * norm)
    assert la.power_norms(A, 4).dtype == real
    np.testing.assert_allclose(la.power_norms(A, 4)[-1], np.linalg.norm(wide @ wide @ wide @ wide, 2), rtol=1e-4)
    W = la.numerical_range(A, 5)
    assert W.support.dtype == real and W.points.dtype == np.complex64
    np.testing.assert_allclose(W.support[0], np.linalg.eigvalsh((wide + wide.conj().T) / 2)[-1], atol=1e-5 * norm)


def test_instruments_decide_up_to_the_precision_that_they_are_given():
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0].astype(np.float32)
    assert np.linalg.norm(q.astype(float), 2) > 1  # rounding pushes an orthogonal matrix beyond the unit disc
    assert la.kreiss_constant(q)[:2] == (1.0, 1.0)
    assert la.transient_growth(q, steps=5).upper == pytest.approx(1, abs=1e-5)
    with pytest.raises(la.LinearAlgebraError, match="infinite"):
        la.kreiss_constant(q.astype(float) * (1 + 1e-9))  # in double precision that is an eigenvalue outside
    assert la.kreiss_constant(jnp.asarray(np.eye(3) / 2, jnp.bfloat16)).upper == 1.0


def test_results_are_double_and_the_setting_is_left_alone():
    before = jnp.ones(1).dtype
    P = la.pseudospectrum(grcar(6), grid=4)
    assert P.sigma_min.dtype == np.float64 and jnp.ones(1).dtype == before == jnp.float32


def test_the_hosts_schur_form_gives_the_same():
    A = grcar(9) / 3
    here = la.pseudospectrum(A, grid=6, box=(-1, 1, -1, 1)), la.kreiss_constant(A), la.nearest_defective(A)
    with la.platform.forced("host"):
        there = la.pseudospectrum(A, grid=6, box=(-1, 1, -1, 1)), la.kreiss_constant(A), la.nearest_defective(A)
    np.testing.assert_allclose(here[0].sigma_min, there[0].sigma_min, atol=1e-10)
    np.testing.assert_allclose(here[1][:2], there[1][:2], rtol=1e-3)
    np.testing.assert_allclose(here[2][:2], there[2][:2], rtol=1e-6)


def test_a_second_matrix_of_the_same_size_compiles_nothing():
    la.pseudospectrum(stable(0, 30), grid=9, box=(-1, 1, -1, 1))
    programs = shifted_inverse._lanczos._cache_size()
    la.pseudospectrum(stable(1, 30), grid=9, box=(-2, 1, -1, 1))
    la.pseudospectrum(stable(2, 30, complex_=True), grid=9, box=(-2, 1, -1, 1))
    assert shifted_inverse._lanczos._cache_size() <= programs + 1  # a complex matrix has twice the points to compute
    la.pseudospectrum(stable(3, 29, complex_=True), grid=9, box=(-2, 1, -1, 1))
    assert shifted_inverse._lanczos._cache_size() <= programs + 1


def test_derivatives(x64):
    A, D = (np.asarray(stable(s, 4, departure=1.0)) for s in (2, 5))
    for verb in (lambda a: la.numerical_range(a, 3).support, la.eigenvector_condition_number):
        function, step = jax.jit(verb), 1e-6
        slope = jax.jit(lambda A, D, verb=verb: jax.jvp(verb, (A,), (D,))[1])(A, D)
        differences = (function(A + step * D) - function(A - step * D)) / (2 * step)
        np.testing.assert_allclose(slope, differences, rtol=1e-5, atol=1e-7)


def test_vmap():
    batch = np.stack([np.asarray(stable(s, 4), np.float32) for s in range(3)])
    together = jax.jit(jax.vmap(la.eigenvector_condition_number))(batch)
    np.testing.assert_allclose(together[1], la.eigenvector_condition_number(batch[1]), rtol=1e-3)


INSTRUMENTS = {
    "henrici": la.henrici,
    "eigenvalue_condition_numbers": la.eigenvalue_condition_numbers,
    "eigenvector_condition_number": la.eigenvector_condition_number,
    "power_norms": lambda A: la.power_norms(A, 3),
    "numerical_range": lambda A: la.numerical_range(A, 4),
    "numerical_radius": la.numerical_radius,
    "kreiss_constant": la.kreiss_constant,
    "transient_growth": lambda A: la.transient_growth(A, steps=4),
    "pseudospectrum": lambda A: la.pseudospectrum(A, grid=4, box=(-1, 1, -1, 1)).sigma_min,
    "adaptive pseudospectrum": lambda A: la.pseudospectrum(A, grid=17, box=(-1, 1, -1, 1), levels=[0.1]).sigma_min,
    "pseudospectral_radius": lambda A: la.pseudospectral_radius(A, 0.1),
    "pseudospectral_abscissa": lambda A: la.pseudospectral_abscissa(A, 0.1),
    "nearest_defective": lambda A: la.nearest_defective(A)[:2],
}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_jacobians_batches_and_the_hosts_route_give_what_the_dense_matrix_does(name):
    instrument = INSTRUMENTS[name]
    W = jnp.asarray(stable(4, 4, radius=0.8), jnp.float32)
    batch = la.Batch(lambda scale, w: la.Dense(scale * w), jnp.array([1.0, 0.5]), (W,))
    dense, half = jax.tree.leaves(instrument(W)), jax.tree.leaves(instrument(W / 2))
    jacobian = jax.tree.leaves(instrument(la.jacobian(lambda x: jnp.tanh(W @ x), jnp.zeros(4))))
    with la.platform.forced("host"):
        host = jax.tree.leaves(instrument(W))
    together = jax.tree.leaves(instrument(batch))
    assert len(dense) == len(jacobian) == len(host) == len(together) > 0
    for one, j, h, both, other in zip(dense, jacobian, host, together, half):
        for found in (j, h, both[0]):
            np.testing.assert_allclose(found, one, rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(both[1], other, rtol=2e-3, atol=1e-5)
