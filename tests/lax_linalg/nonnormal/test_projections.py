"""Approximations from inside by Arnoldi's process: never beyond the true value, and close to it with enough steps."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from nonnormal_matrices import grcar, sigma_min, stable

import lax_linalg as la

A = stable(11, 40, radius=0.9, departure=0.15)
J = la.jacobian(lambda x: jnp.asarray(A, jnp.float32) @ x, jnp.zeros(40))  # float32: A + E, ‖E‖ about 1e-6


def test_kreiss_constant():
    true = la.kreiss_constant(A)
    previous = 1.0
    for steps in (5, 15, 40):
        K = la.kreiss_constant(J, krylov=steps)
        assert K.upper == np.inf and previous * (1 - 1e-4) <= K.lower <= true.upper * (1 + 1e-4)
        if np.isfinite(K.z):
            assert (abs(K.z) - 1) / sigma_min(A, np.array(K.z)) >= K.lower * (1 - 1e-4)
        previous = K.lower
    assert K.lower >= 0.99 * true.lower
    shifted = A - np.eye(40)
    true = la.kreiss_constant(shifted, continuous=True)
    K = la.kreiss_constant(shifted, continuous=True, krylov=30)
    assert 1 < K.lower <= true.upper * (1 + 1e-9)  # how close is no promise of a projection that leaves something out


@pytest.mark.parametrize("eps", [0.03, 0.3])
def test_pseudospectral_radius_and_abscissa(eps):
    for function, size in ((la.pseudospectral_radius, np.abs), (la.pseudospectral_abscissa, np.real)):
        true = function(A, eps)
        inner = function(J, eps, krylov=30)
        assert inner.upper == np.inf
        assert sigma_min(A, np.array(inner.z)) <= eps * (1 + 1e-4)
        assert size(inner.z) == pytest.approx(inner.lower, rel=1e-6)
        assert inner.lower <= true.upper + 1e-5
        assert function(J, eps, krylov=40).lower >= true.lower - 1e-4
    with pytest.raises(la.LinearAlgebraError, match=r"3 Arnoldi steps show no point .* take more steps"):
        la.pseudospectral_radius(A, 1e-9, krylov=3)


def test_numerical_radius():
    true = la.numerical_radius(A)
    inner = la.numerical_radius(J, krylov=25)
    assert inner.upper == np.inf and 0.9 * true.lower <= inner.lower <= true.upper * (1 + 1e-5)


def test_numerical_range():
    W = la.numerical_range(A, 24)
    directions = np.exp(-1j * np.asarray(W.angles))[:, None]
    reached = []
    for steps in (5, 24):
        points = np.asarray(la.numerical_range(la.arnoldi(J, steps)[:steps], 24).points)
        assert np.all(np.real(directions * points) <= np.asarray(W.support)[:, None] + 1e-5)
        reached.append(np.real(directions * points).max(1))
    assert np.all(reached[0] <= reached[1] + 1e-5)  # the spaces are nested


def test_transient_growth():
    norms = [np.linalg.norm(np.linalg.matrix_power(A, k), 2) for k in range(30)]
    growth = la.transient_growth(J, krylov=30)
    assert growth.upper == np.inf and len(growth.norms) == 30 and growth.norms[0] == 1
    assert np.all(growth.norms <= np.array(norms) * (1 + 1e-4))
    assert growth.maximum >= 0.5 * max(norms)
    assert len(la.transient_growth(J, steps=7, krylov=30).norms) == 8


def test_an_invariant_space():
    # the process ends after two steps: H is A on that space
    block = np.kron(np.eye(4), np.array([[0.5, 0.0], [0.0, 0.25]]))
    assert la.kreiss_constant(block, krylov=6).lower == pytest.approx(1.0)
    with pytest.raises(la.LinearAlgebraError, match="infinite"):
        la.kreiss_constant(3 * block, krylov=6)
    np.testing.assert_allclose(la.numerical_radius(block, krylov=6).lower, 0.5, rtol=1e-6)


def test_bad_input():
    with pytest.raises(la.LinearAlgebraError, match="of one matrix"):
        la.kreiss_constant(np.zeros((2, 3, 3)), krylov=2)
    with pytest.raises(la.LinearAlgebraError, match="1 ≤ steps ≤ 4"):
        la.kreiss_constant(grcar(4), krylov=5)
    with pytest.raises(la.LinearAlgebraError, match="leaves every Krylov space"):
        la.transient_growth(grcar(4), krylov=2, continuous=True)
