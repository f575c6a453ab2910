"""Condition numbers of eigenvalues: closed form, left and right eigenvectors, first-order perturbations, limits."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.linalg
from nonnormal_matrices import grcar, normal, stable

import lax_linalg as la
from lax_linalg.nonnormal import eigenvalue_condition_numbers, eigenvector_condition_number, jordan_power

both = jax.jit(lambda a: (eigenvalue_condition_numbers(a), eigenvector_condition_number(a)))


@pytest.mark.parametrize("coupling", [0.0, 1.0, 100.0])
def test_two_by_two(coupling, x64):
    a = np.array([[1.0, coupling], [0.0, 3.0]])
    want = np.hypot(1, coupling / 2)
    of_values, of_vectors = both(a)
    np.testing.assert_allclose(of_values, [want, want], rtol=1e-13)
    # for two vectors at the angle φ, κ = cot(φ/2) and 1/sin φ = want
    np.testing.assert_allclose(of_vectors, want + np.sqrt(want**2 - 1), rtol=1e-12)


@pytest.mark.parametrize("a", [grcar(8), stable(0, 8, departure=2), stable(1, 6, complex_=True)])
def test_left_and_right_eigenvectors(a, x64):
    values, left, right = scipy.linalg.eig(a, left=True)
    order = np.lexsort((np.imag(values), np.real(values)))
    want = 1 / np.abs(np.sum(left.conj() * right, 0))[order]
    got, of_vectors = map(np.asarray, both(a))
    np.testing.assert_allclose(np.sort(got), np.sort(want), rtol=1e-8)
    assert float(of_vectors) >= got.max() * (1 - 1e-10)
    assert np.all(got >= 1 - 1e-12)


def test_first_order_perturbation(x64):
    a = stable(4, 5, departure=3.0)
    kappa = np.asarray(eigenvalue_condition_numbers(a))
    values, left, right = scipy.linalg.eig(a, left=True)
    order = np.lexsort((np.imag(values), np.real(values)))
    step = 1e-9  # condition numbers near 4000: at 1e-7 the second-order term is 3 %, and falls with the step
    for place, i in enumerate(order):
        e = step * np.outer(left[:, i], right[:, i].conj())  # the worst direction
        moved = np.abs(np.linalg.eigvals(a + e) - values[i]).min()
        np.testing.assert_allclose(moved, step * kappa[place], rtol=1e-3)


def test_limits():
    of_values, of_vectors = both(normal(0, 6).astype(np.complex64))
    np.testing.assert_allclose(of_values, np.ones(6), rtol=1e-4)
    np.testing.assert_allclose(of_vectors, 1, rtol=1e-4)
    of_values, of_vectors = both(jordan_power(0.5, 4, 1))
    assert np.all(np.asarray(of_values) > 1e6)
    assert float(of_vectors) > 1e6
    np.testing.assert_array_equal(eigenvalue_condition_numbers(la.Diagonal([3.0, 3.0])), [1, 1])
    assert float(eigenvector_condition_number(la.I(3))) == 1.0


def test_jit_and_vmap():
    batch = np.stack([stable(s, 4).astype(np.float32) for s in range(2)])
    got = jax.jit(jax.vmap(eigenvalue_condition_numbers))(batch)
    np.testing.assert_allclose(got, [eigenvalue_condition_numbers(a) for a in batch], rtol=1e-4)
