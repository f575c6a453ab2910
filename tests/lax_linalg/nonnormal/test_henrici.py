"""Henrici's departure: its definition, invariance, exact zeros, derivative and transformations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from nonnormal_matrices import grcar, normal, stable

import lax_linalg as la
from lax_linalg.nonnormal import henrici


@pytest.mark.parametrize("a", [grcar(12), stable(0, 9, departure=2.0), stable(1, 7, complex_=True)])
def test_is_the_difference_of_squares(a, x64):
    want = np.sqrt(np.linalg.norm(a) ** 2 - np.sum(np.abs(np.linalg.eigvals(a)) ** 2))
    np.testing.assert_allclose(henrici(a), want, rtol=1e-10)


@pytest.mark.parametrize("a", [np.eye(5), normal(0, 8), np.roll(np.eye(6), 1, 0), np.zeros((3, 3))])
def test_vanishes_for_normal_matrices(a):
    n = len(a)
    assert float(henrici(a)) <= 30 * n * np.finfo(np.float32).eps * np.linalg.norm(a)


def test_structures_give_an_exact_zero():
    assert float(henrici(la.Diagonal([1.0, 2.0, -5.0]))) == 0.0
    assert float(henrici(la.I(4))) == 0.0


def test_is_exact_for_triangles():
    assert float(henrici(jnp.array([[1.0, 1e-20], [0.0, 1.0]]))) == pytest.approx(1e-20, rel=1e-6)


def test_derivative(x64):
    # an eigenvalue of condition 286: differences over 1e-5 and more leave the linear range
    compiled = jax.jit(henrici)
    check_grads(compiled, (jnp.asarray(stable(2, 5)),), order=1, eps=1e-7)
    check_grads(compiled, (jnp.asarray(stable(3, 4, complex_=True)),), order=1)
    assert np.all(np.asarray(jax.grad(compiled)(np.eye(5))) == 0)


def test_jit_and_vmap():
    batch = np.stack([stable(s, 5).astype(np.float32) for s in range(3)])
    got = jax.jit(jax.vmap(henrici))(batch)
    np.testing.assert_allclose(got, [henrici(a) for a in batch], rtol=1e-5)


def test_routes_agree():
    a = jnp.asarray(grcar(10), jnp.float32)
    with la.platform.forced("host"):
        host = henrici(a)
    np.testing.assert_allclose(henrici(a), host, rtol=1e-5)
