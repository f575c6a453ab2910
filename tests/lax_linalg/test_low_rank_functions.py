"""Functions of λI + U Vᴴ and of reflectors, against closed forms, at a size where nothing dense may be formed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la

N = 2**14


@pytest.fixture(autouse=True)
def _small_matrices_only(x64):
    with la.dense_limit(2**20):
        yield


def test_functions_of_a_reflection_are_those_of_1_and_minus_1():
    v = jax.random.normal(jax.random.key(0), (N,), complex)
    H, u, x = la.Householder(v), v / jnp.linalg.norm(v), jnp.ones(N)
    projected = u * jnp.vdot(u, x)
    for f, of_1, of_minus_1 in (
        (la.exp, np.e, 1 / np.e),
        (la.log, 0, np.pi * 1j),  # exactly on the branch cut
        (la.sqrt, 1, 1j),
        (lambda A: la.power(A, 3), 1, -1),
        (lambda A: la.power(A, -4), 1, 1),
        (lambda A: la.power(A, 1 / 3), 1, np.exp(np.pi * 1j / 3)),
    ):
        np.testing.assert_allclose(f(H) @ x, of_1 * (x - projected) + of_minus_1 * projected, atol=1e-13)


@pytest.mark.parametrize("value", [4.0, -4.0])
def test_where_the_second_term_is_nilpotent_its_coefficient_is_a_derivative(value):
    U, V = jax.random.normal(jax.random.key(0), (2, N, 2))
    U, V = (X * (jnp.arange(N) % 2 == side)[:, None] for X, side in ((U, 0), (V, 1)))  # VᴴU = 0
    A, x = la.UniformScaling(jnp.asarray(value), N) + la.LowRank(U, V), jnp.ones(N)
    z = value + 0j
    for f, of_value, derivative in (
        (la.exp, np.exp(value), np.exp(value)),
        (la.log, np.log(z), 1 / z),
        (la.sqrt, np.sqrt(z), 0.5 / np.sqrt(z)),
        (lambda A: la.power(A, 9), value**9, 9 * value**8),
        (lambda A: la.power(A, -2), value**-2, -2 * value**-3),
    ):
        want = of_value * x + derivative * (U @ (V.T @ x))
        np.testing.assert_allclose(f(A) @ x, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())
        assert f(A).U.shape == U.shape  # powers do not add up ranks


def test_logarithms_of_products_of_reflectors_have_them_as_exponentials():
    Q, x = la.HouseholderProduct(jax.random.normal(jax.random.key(1), (N, 2))), jnp.ones(N)
    np.testing.assert_allclose(la.exp(la.log(Q)) @ x, Q @ x, atol=1e-13)
    root = la.sqrt(Q)
    np.testing.assert_allclose(root @ (root @ x), Q @ x, atol=1e-13)


def test_gradients_where_the_divided_difference_divides_by_zero():
    # of √(λI + t u uᵀ) with uᵀu = s the entries grow by (√(λ + t s) − √λ)/s, at t = 0 with the slope 1/(2√λ)
    u = jnp.ones((3, 1))

    def entry(t):
        return jnp.real(la.diag(la.sqrt(la.UniformScaling(jnp.asarray(4.0), 3) + la.LowRank(t * u, u))))[0]

    np.testing.assert_allclose(jax.value_and_grad(entry)(0.0), (2, 1 / 4), rtol=1e-12)


def test_singular_matrices_have_no_logarithm():
    ones = jnp.ones((5, 1))
    for A, index in (
        (la.UniformScaling(jnp.asarray(0.0), 5) + la.LowRank(ones, ones), 1),
        (la.UniformScaling(jnp.asarray(-5.0), 5) + la.LowRank(ones, ones), None),
        (la.Householder(ones[:, 0], jnp.asarray(0.2)), 0),
    ):
        with pytest.raises(la.SingularError, match="has no log; add a small multiple of I") as caught:
            la.log(A)
        assert caught.value.index == index
    np.testing.assert_allclose(la.materialize(la.sqrt(la.Householder(ones[:, 0], jnp.asarray(0.2)))), np.eye(5) - 0.2)
