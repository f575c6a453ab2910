"""Lyapunov exponents against closed forms, the log-volume and the Ginibre ensemble's law."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.special import digamma

import lax_linalg as la
from tests.compilations import compilations


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("loop", ["lyapunov_exponents", "finite_time_lyapunov", "power_norms"])
def test_loops_over_other_numbers_compile_nothing(loop):
    run = (lambda J: la.power_norms(J[0], 3)) if loop == "power_norms" else getattr(la, loop)
    steps = draw(5, 3, 3)
    jax.block_until_ready(run(steps))
    with compilations() as compiled:
        jax.block_until_ready(run(2 * steps))
        assert not compiled


def test_triangular_product_has_the_mean_logs_of_its_diagonals():
    diagonals = np.exp(draw(200, 4) + np.array([3.0, 1.0, -1.0, -3.0], np.float32))
    steps = diagonals[:, None] * np.eye(4, dtype=np.float32) + np.triu(draw(200, 4, 4), 1)
    found = la.lyapunov_exponents(steps)
    np.testing.assert_allclose(found.exponents, np.mean(np.log(diagonals), axis=0), rtol=1e-4, atol=1e-4)


def test_the_sum_is_the_mean_log_determinant():
    steps = draw(50, 6, 6)
    found = jax.tree.map(np.asarray, la.lyapunov_exponents(steps))
    np.testing.assert_allclose(found.exponents.sum(), np.linalg.slogdet(steps)[1].mean(), rtol=1e-4)
    np.testing.assert_allclose(found.growth.mean(axis=0), found.exponents, rtol=1e-5, atol=1e-6)
    first = la.lyapunov_exponents(steps, k=2)
    np.testing.assert_allclose(first.exponents, found.exponents[:2], rtol=1e-4)


def test_ginibre_within_four_standard_errors():
    n, total = 6, 4000
    steps = draw(total, n, n) / np.float32(n**0.5)
    found = jax.tree.map(np.asarray, la.lyapunov_exponents(steps, burn_in=20))
    i = np.arange(1, n + 1)
    law = 0.5 * (np.log(2 / n) + digamma((n - i + 1) / 2))
    assert (np.abs(found.exponents - law) < 4 * found.standard_error).all()


def test_finite_time_limit_and_jit(x64):
    steps = np.random.default_rng(0).standard_normal((12, 3, 3))
    product = np.linalg.multi_dot(steps[::-1])
    exact = np.log(np.linalg.svd(product, compute_uv=False)) / 12
    found = jax.jit(la.lyapunov_exponents)(steps)
    np.testing.assert_allclose(found.exponents, exact, atol=3 / 12)
    assert np.isneginf(la.lyapunov_exponents(np.zeros((3, 2, 2)))[0])[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 2, 3), {}), r"takes Jacobians \[T, n, n\]"),
        (((4, 2, 2), {"k": 3}), "k must be between 1 and n = 2"),
        (((4, 2, 2), {"burn_in": 4}), "burn_in must be between 0 and"),
    ],
)
def test_bad_input(arguments, message):
    shape, options = arguments
    with pytest.raises(la.DimensionMismatch, match=message):
        la.lyapunov_exponents(np.ones(shape, np.float32), **options)
