"""Transient growth: the curve against plain powers, the supremum and its proof, powers that overflow, bad input."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from jax.test_util import check_grads
from nonnormal_matrices import normal, stable

import lax_linalg as la


@hypothesis.given(st.integers(0, 10**6), st.sampled_from([1, 3, 6]), st.floats(0.1, 0.99), st.booleans())
@hypothesis.settings(max_examples=20, deadline=None)
def test_the_supremum_is_found_and_proved(seed, n, radius, complex_):
    A = stable(seed, n, radius, 2.0, complex_)
    growth = la.transient_growth(A)
    norms, power = [], np.eye(n)
    for _ in growth.norms:  # one after the other: repeated squaring loses three digits where the powers grow first
        norms.append(np.linalg.norm(power, 2))
        power = power @ A
    np.testing.assert_allclose(growth.norms, norms, rtol=1e-10, atol=1e-10 * np.max(norms))
    assert growth.maximum == growth.norms[int(growth.argmax)] == growth.norms.max()
    later = np.linalg.matrix_power(A, len(norms))
    for _ in range(200):
        later = later @ A
        assert np.linalg.norm(later, 2) <= growth.upper * (1 + 1e-9)
    assert growth.maximum <= growth.upper


def test_jordan_block_by_its_closed_form():
    # J(λ) of size 2 has ‖Jᵏ‖ = c + √(λ^{2k} + c²), c = kλ^{k−1}/2
    k = np.arange(120)
    half = k * 0.875 ** (k - 1.0) / 2
    growth = la.transient_growth(la.JordanBlock(0.875, 2), steps=119)
    np.testing.assert_allclose(growth.norms, half + np.hypot(0.875**k, half), rtol=1e-12)
    assert growth.argmax == np.argmax(half + np.hypot(0.875**k, half))


@pytest.mark.parametrize("A", [[[-1.0, 5.0], [0.0, -2.0]], [[-1.0, 1.0], [0.0, -1.0]], [[-1.0, 10.0], [0.0, -2.0]]])
def test_continuous(A):
    growth = la.transient_growth(A, continuous=True)
    norm = lambda t: np.linalg.norm(scipy.linalg.expm(t * np.array(A)), 2)  # noqa: E731
    np.testing.assert_allclose(growth.norms, [norm(t) for t in growth.times], rtol=1e-10)
    best = scipy.optimize.minimize_scalar(lambda t: -norm(t), bounds=(0, 3), method="bounded", options={"xatol": 1e-10})
    true = max(1.0, -best.fun)
    assert growth.maximum <= true * (1 + 1e-9) and true <= growth.upper * (1 + 1e-9)
    assert growth.upper <= 1.06 * growth.maximum
    K = la.kreiss_constant(A, continuous=True)
    assert K.lower <= growth.upper and growth.maximum <= np.e * 2 * K.upper


def test_normal_matrices_do_not_grow():
    growth = la.transient_growth(normal(0, 5) / 5)
    assert growth.maximum == 1.0 and growth.upper == pytest.approx(1, abs=1e-12) and growth.argmax == 0


def test_slow_decay_is_proved_by_coarser_steps():
    A = np.array([[0.999, 30.0], [0.0, 0.998]])
    growth = la.transient_growth(A, steps=64)
    norms = [np.linalg.norm(np.linalg.matrix_power(A, k), 2) for k in range(0, 20000, 25)]
    assert growth.maximum < max(norms) <= growth.upper < np.inf


def test_marginal_matrices_are_bounded_by_their_eigenvectors():
    # 1 is an eigenvalue: powers tend to the spectral projector and never contract; κ(V) bounds them all the same
    A = np.array([[1.0, 3.0], [0.0, 0.5]])
    growth = la.transient_growth(A, steps=40)
    assert growth.norms[-1] == pytest.approx(np.hypot(1, 6), rel=1e-6)
    # κ(V) = c + √(1 + c²) for the cotangent c of the angle between the eigenvectors
    assert growth.maximum <= growth.upper <= 6 + np.sqrt(37) + 1e-6
    assert la.transient_growth(np.array([[0.0, 1.0], [-1.0, 0.0]]), steps=8).upper == pytest.approx(1)


def test_an_unstable_matrix_needs_a_horizon():
    A = np.diag([1.5, 0.5])
    with pytest.raises(la.LinearAlgebraError, match=r"spectral radius is 1\.5 > 1.*finite horizon"):
        la.transient_growth(A)
    growth = la.transient_growth(A, steps=10)
    np.testing.assert_allclose(growth.norms, 1.5 ** np.arange(11.0), rtol=1e-12)
    assert growth.upper == np.inf


def test_power_norms(x64):
    A = stable(5, 6, departure=2.0)
    want = [np.linalg.norm(np.linalg.matrix_power(A, k), 2) for k in range(9)]
    np.testing.assert_allclose(la.power_norms(A, 8), want, rtol=1e-10)
    np.testing.assert_allclose(jax.jit(la.power_norms, static_argnums=1)(A, 8), want, rtol=1e-10)
    batch = np.stack([A, A.T / 2])
    curves = jax.jit(jax.vmap(lambda a: la.power_norms(a, 8)))(batch)
    np.testing.assert_allclose(curves[1], la.power_norms(batch[1], 8), rtol=1e-10)
    check_grads(jax.jit(lambda a: la.power_norms(a, 3)), (A,), order=1, modes=("fwd", "rev"), rtol=1e-4)


def test_powers_beyond_the_range_are_infinite_and_never_nan():
    A = 1e3 * np.array([[1.0, 2.0], [0.0, 0.5]], np.float32)
    norms = np.asarray(la.power_norms(A, 30))
    with np.errstate(over="ignore"):
        want = [np.linalg.norm(np.linalg.matrix_power(A.astype(float), k), 2) for k in range(31)]
        want = np.asarray(want).astype(np.float32)
    np.testing.assert_allclose(norms, want, rtol=1e-5)
    assert np.isinf(norms[-1])


def test_batches_and_bad_input():
    batch = np.stack([stable(s, 4) for s in range(3)])
    growth = la.transient_growth(batch, steps=20)
    assert growth.norms.shape == (3, 21)
    np.testing.assert_allclose(growth.norms[2], la.transient_growth(batch[2], steps=20).norms)
    with pytest.raises(la.LinearAlgebraError, match="batch needs steps"):
        la.transient_growth(batch)
    with pytest.raises(la.LinearAlgebraError, match="steps ≥ 1"):
        la.transient_growth(np.eye(2), steps=0)
    with pytest.raises(la.LinearAlgebraError, match="needs continuous=True"):
        la.transient_growth(np.eye(2), step=0.1)
