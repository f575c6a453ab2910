"""One contract for every registered penalty, and the identities behind soft orthogonality."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads

from lax_linalg.errors import UnknownNameError
from train.regularizers import as_matrix, chosen_layers, dso, make_penalty, regularizers, so

every = pytest.mark.parametrize("name", regularizers.names())
shapes = st.sampled_from([(1, 1), (5, 5), (7, 3), (3, 7), (6, 1), (1, 6)])


def matrix(seed: int, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def orthonormal(seed: int, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Random, with orthonormal columns if tall and orthonormal rows if wide."""
    m, n = shape
    Q = jnp.linalg.qr(matrix(seed, (max(m, n), min(m, n)), dtype))[0]
    return Q if m >= n else Q.T


@every
@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (4, 9)])
def test_gradient_is_correct(name, shape, x64):
    check_grads(regularizers[name], (matrix(0, shape, jnp.float64),), order=2, modes=["fwd", "rev"])


@every
@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_a_descent_step_decreases_the_penalty(name, shape):
    penalty, W = regularizers[name], matrix(1, shape)
    values = [float(penalty(W))]
    for _ in range(20):
        W = W - 1e-2 * jax.grad(penalty)(W)
        values.append(float(penalty(W)))
    assert np.all(np.diff(values) < 0)


@every
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtype_is_kept(name, dtype):
    W = matrix(2, (6, 4), dtype)
    assert regularizers[name](W).dtype == dtype
    assert jax.grad(regularizers[name])(W).dtype == dtype


@every
def test_zero_with_zero_gradient_at_an_orthogonal_matrix(name):
    Q = orthonormal(3, (8, 8))
    eps = float(jnp.finfo(Q.dtype).eps)
    assert abs(float(regularizers[name](Q))) < (8 * 30 * eps) ** 2 * 8
    assert float(jnp.max(jnp.abs(jax.grad(regularizers[name])(Q)))) < 8 * 30 * eps


@every
def test_a_second_call_compiles_nothing(name):
    penalty = jax.jit(jax.value_and_grad(regularizers[name]))
    penalty(matrix(4, (6, 4)))
    penalty(matrix(5, (6, 4)))
    assert penalty._cache_size() == 1


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(0, 100))
def test_gradient_of_so_is_4_W_gram_minus_identity(shape, seed):
    with jax.enable_x64(True):
        W = matrix(seed, shape, jnp.float64)
        expected = 4 * W @ (W.T @ W - jnp.eye(shape[1]))
        np.testing.assert_allclose(jax.grad(so)(W), expected, atol=1e-12 * (1 + float(jnp.max(jnp.abs(expected)))))


def test_one_small_step_of_so_is_a_soft_gram_schmidt_step(x64):
    """Column j moves by −4η[(‖wⱼ‖² − 1) wⱼ + Σ_{i≠j} (wᵢ·wⱼ) wᵢ]: towards length one, and off the other columns."""
    W, rate = matrix(6, (5, 3), jnp.float64), 1e-3
    moved = W - rate * jax.grad(so)(W)
    for j in range(3):
        own = (W[:, j] @ W[:, j] - 1) * W[:, j]
        others = sum((W[:, i] @ W[:, j]) * W[:, i] for i in range(3) if i != j)
        np.testing.assert_allclose(moved[:, j], W[:, j] - 4 * rate * (own + others), rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(0, 100))
def test_values_are_those_of_the_definitions(shape, seed):
    with jax.enable_x64(True):
        W = np.asarray(matrix(seed, shape, jnp.float64))
        m, n = shape
        tall = np.linalg.norm(W.T @ W - np.eye(n)) ** 2
        wide = np.linalg.norm(W @ W.T - np.eye(m)) ** 2
        np.testing.assert_allclose(tall - wide, n - m, atol=1e-10 * (1 + tall))
        np.testing.assert_allclose(so(W), min(tall, wide), atol=1e-10 * (1 + tall))
        np.testing.assert_allclose(dso(W), tall + wide, atol=1e-10 * (1 + tall))


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(0, 100))
def test_semi_orthogonal_matrices_are_the_minimum(shape, seed):
    with jax.enable_x64(True):
        Q = orthonormal(seed, shape, jnp.float64)
        assert float(so(Q)) < 1e-26
        assert abs(float(dso(Q)) - abs(shape[0] - shape[1])) < 1e-12


def test_kernels_are_matrices_of_patches_by_output_channels():
    """The matrix of a convolution kernel multiplies the flattened patch under it."""
    key = jax.random.key(7)
    kernel, patch = jax.random.normal(key, (3, 3, 2, 4)), jax.random.normal(key, (1, 3, 3, 2))
    out = jax.lax.conv_general_dilated(patch, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(patch.reshape(-1) @ as_matrix(kernel), out.ravel(), rtol=1e-5, atol=1e-5)


PARAMS = {
    "stem/kernel": jnp.ones((3, 3, 1, 8)),
    "stem/bias": jnp.ones(8),
    "blocks/0/conv1/kernel": jnp.ones((3, 3, 8, 8)),
    "blocks/0/gain": jnp.ones(()),
    "head/kernel": jnp.ones((8, 10)),
}


def test_penalty_sums_over_the_chosen_kernels_only():
    total = make_penalty("so", "blocks/*,head", PARAMS)(PARAMS)
    expected = so(as_matrix(PARAMS["blocks/0/conv1/kernel"])) + so(PARAMS["head/kernel"])
    np.testing.assert_allclose(total, expected)
    gradient = jax.grad(make_penalty("so", "head", PARAMS))(PARAMS)
    assert {name for name, value in gradient.items() if np.any(value)} == {"head/kernel"}


def test_none_costs_nothing():
    assert float(make_penalty("none", "*", PARAMS)(PARAMS)) == 0.0


def test_unknown_names_say_what_there_is():
    with pytest.raises(
        UnknownNameError, match=r"unknown layer 'haed'; did you mean 'head'\? .*blocks/0/conv1, head, stem"
    ):
        chosen_layers(["stem", "blocks/0/conv1", "head"], "stem,haed")
    with pytest.raises(UnknownNameError, match="did you mean 'so'"):
        make_penalty("soo", "*", PARAMS)
    with pytest.raises(UnknownNameError, match="unknown layer"):
        make_penalty("so", "decoder/*", PARAMS)
