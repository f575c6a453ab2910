"""Moments: enumeration of all dropout masks, identities of the pushforward, Monte-Carlo at a stated confidence."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError


def random_moments(seed, n):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n))
    return rng.standard_normal(n), root @ root.T


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100), p=st.floats(0, 0.95), inverted=st.booleans())
def test_dropout_by_enumerating_every_mask(seed, p, inverted):
    n = 4
    mean, covariance = random_moments(seed, n)
    second = covariance + np.outer(mean, mean)
    first, total = np.zeros(n), np.zeros((n, n))
    for mask in itertools.product((0.0, 1.0), repeat=n):
        d = np.array(mask) / ((1 - p) if inverted else 1)
        weight = np.prod([1 - p if kept else p for kept in mask])
        first += weight * d * mean
        total += weight * np.outer(d, d) * second
    with jax.enable_x64(True):
        result = la.pushforward(la.Dropout(p, inverted=inverted), mean, covariance)
        np.testing.assert_allclose(result.mean, first, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(result.covariance, total - np.outer(first, first), rtol=1e-9, atol=1e-9)
        direct = la.dropout_covariance(mean, covariance, p, inverted=inverted)
        np.testing.assert_allclose(direct, result.covariance)


def test_identities(x64):
    mean, covariance = random_moments(0, 5)
    np.testing.assert_array_equal(la.dropout_covariance(mean, covariance, 0.0), covariance)

    @jax.jit
    def results(mean, covariance):
        unscaled, scaled = (la.dropout_covariance(mean, covariance, 0.4, inverted=kind) for kind in (False, True))
        A = la.Toeplitz(np.arange(1.0, 5.0), np.arange(1.0, 6.0))
        steps = [A, la.Dropout(0.3, inverted=False), la.Affine(np.ones((2, 4)), np.array([1.0, -1.0]))]
        moments = la.Moments(mean, covariance)
        for step in steps:
            moments = la.pushforward(step, *moments)
        chained = la.pushforward(steps, mean, covariance)
        twice = la.pushforward([la.Dropout(0.5), la.Dropout(0.2)], mean, covariance)
        once = la.pushforward(la.Dropout(0.6), mean, covariance)
        through = la.pushforward(A, mean, covariance)
        covariances = unscaled, scaled, twice.covariance, once.covariance, through.covariance
        return covariances, chained, moments, la.materialize(A)

    found = jax.tree.map(np.asarray, results(mean, covariance))
    (unscaled, scaled, twice, once, through), chained, moments, dense = found
    np.testing.assert_allclose(scaled, unscaled / 0.36)
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(unscaled[off], 0.36 * covariance[off])
    # a chain is the composition of its steps, and two dropouts keep with probability (1 − p)(1 − q)
    np.testing.assert_allclose(chained.mean, moments.mean)
    np.testing.assert_allclose(chained.covariance, moments.covariance)
    np.testing.assert_allclose(twice, once)
    np.testing.assert_allclose(through, dense @ covariance @ dense.T)


def test_complex_maps_keep_the_covariance_hermitian():
    A = np.array([[1.0, 1j], [2.0, 1 - 1j]], np.complex64)
    covariance = np.array([[2.0, 0.5j], [-0.5j, 1.0]], np.complex64)
    result = la.pushforward(jnp.asarray(A), np.ones(2, np.complex64), covariance)
    np.testing.assert_allclose(result.covariance, A @ covariance @ A.conj().T, rtol=1e-5)


def test_runs_under_jit_and_differentiates(x64):
    mean, covariance = random_moments(1, 3)

    def spread(matrix):
        return jnp.trace(la.pushforward([la.Affine(matrix), la.Dropout(0.5)], mean, covariance).covariance)

    matrix = jnp.asarray(np.random.default_rng(2).standard_normal((3, 3)))
    # tr AΣAᵀ + p/(1−p) tr(AΣAᵀ + Aμ(Aμ)ᵀ) has gradient 2A(2Σ + μμᵀ) at p = ½
    expected = 2 * matrix @ (2 * covariance + np.outer(mean, mean))
    np.testing.assert_allclose(jax.jit(jax.grad(spread))(matrix), expected, rtol=1e-10)


def test_monte_carlo_agrees_and_sees_what_is_wrong(key):
    mean, covariance = random_moments(3, 4)
    steps = [la.Affine(np.random.default_rng(4).standard_normal((5, 4)), jnp.ones(5)), la.Dropout(0.3)]
    check = la.check_pushforward(key, steps, mean, covariance)
    assert check.agrees and check.confidence == 0.999 and check.bound < 5
    right = la.pushforward(steps, mean, covariance)
    wrong = la.Moments(right.mean, 1.2 * right.covariance)
    assert not la.check_pushforward(key, steps, mean, covariance, predicted=wrong).agrees
    drawn = la.check_pushforward(
        key, lambda k, x: jax.random.bernoulli(k, 0.5, x.shape) * x, mean, covariance,
        predicted=la.pushforward(la.Dropout(0.5, inverted=False), mean, covariance),
    )  # fmt: skip
    assert drawn.agrees


@pytest.mark.parametrize("p", [1.0, -0.1, float("nan"), True, "half"])
def test_probabilities_outside_the_half_open_interval(p):
    with pytest.raises(LinearAlgebraError, match=r"\[0, 1\)"):
        la.dropout_covariance(np.ones(2), np.eye(2), p)
    with pytest.raises(LinearAlgebraError, match=r"\[0, 1\)"):
        la.Dropout(p)


def test_sizes_that_do_not_fit(key):
    with pytest.raises(DimensionMismatch, match="covariance"):
        la.dropout_covariance(np.ones(2), np.eye(3), 0.5)
    with pytest.raises(DimensionMismatch, match="does not apply"):
        la.pushforward(np.ones((2, 3)), np.ones(2), np.eye(2))
    with pytest.raises(DimensionMismatch, match="bias"):
        la.Affine(np.ones((2, 3)), np.ones(3))
    with pytest.raises(LinearAlgebraError, match="confidence"):
        la.check_pushforward(key, np.eye(2), np.ones(2), np.eye(2), confidence=1.0)
