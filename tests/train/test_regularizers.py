"""One contract for every registered penalty, and the identities behind soft orthogonality."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads

import lax_linalg as la
import models
from lax_linalg.errors import LinearAlgebraError, UnknownNameError
from train.regularizers import Weight, as_matrix, chosen_layers, make_penalty, ocnn, regularizers, so
from train.state import split

every = pytest.mark.parametrize("name", regularizers.names())
SHARP = ("mc", "srip")  # norms, whose gradient does not vanish at their minimum and which descend only by short steps
shapes = st.sampled_from([(1, 1), (5, 5), (7, 3), (3, 7), (6, 1), (1, 6)])


def matrix(seed: int, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Gaussian; drawn by NumPy, which compiles nothing for each shape."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def orthonormal(seed: int, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Random, with orthonormal columns if tall and orthonormal rows if wide."""
    m, n = shape
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((max(m, n), min(m, n))))[0]
    return jnp.asarray(Q if m >= n else Q.T, dtype)


@every
def test_gradient_is_correct(name, x64):
    check_grads(jax.jit(regularizers[name]), (matrix(0, (5, 3), jnp.float64),), order=1, modes=["rev"])
    check_grads(jax.jit(regularizers[name]), (matrix(0, (3, 5), jnp.float64),), order=1, modes=["fwd"])


@every
@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_a_descent_step_decreases_the_penalty(name, shape):
    (m, n), values = shape, []
    W = (np.asarray(orthonormal(1, (m, 4))) * np.linspace(0.5, 1.5, 4, dtype="f4")) @ orthonormal(2, (4, n))
    differentiate = jax.jit(chex.assert_max_traces(lambda W: jax.value_and_grad(regularizers[name])(W), n=1))
    for _ in range(20):
        value, gradient = differentiate(W)
        W, values = W - (1e-4 if name in SHARP else 1e-2) * np.asarray(gradient), [*values, float(value)]
    assert np.all(np.diff(values) < 0)


@every
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtype_is_kept(name, dtype):
    value, gradient = jax.jit(jax.value_and_grad(regularizers[name]))(matrix(2, (6, 4), dtype))
    assert value.dtype == gradient.dtype == dtype


@every
def test_zero_with_zero_gradient_at_an_orthogonal_matrix(name):
    Q = orthonormal(3, (8, 8))
    eps = float(jnp.finfo(Q.dtype).eps)
    tolerance = 8 * 30 * eps
    differentiate = jax.jit(jax.value_and_grad(regularizers[name]))
    value, gradient = differentiate(Q)
    assert abs(float(value)) < (tolerance if name in SHARP else tolerance**2 * 8)
    assert float(differentiate(np.eye(8, dtype=np.float32))[0]) == 0.0
    if name not in SHARP:
        assert np.max(np.abs(gradient)) < tolerance


gradient_of_so = jax.jit(jax.grad(so))


def values_of(weight):
    return {name: regularizers[name](weight) for name in ("so", "dso", "mc", "srip")}


compiled_values = jax.jit(values_of)


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(0, 100))
def test_gradient_of_so_is_4_W_gram_minus_identity(shape, seed):
    with jax.enable_x64(True):
        W = np.asarray(matrix(seed, shape, jnp.float64))
        expected = 4 * W @ (W.T @ W - np.eye(shape[1]))
        np.testing.assert_allclose(gradient_of_so(W), expected, atol=1e-12 * (1 + np.abs(expected).max()))


def test_one_small_step_of_so_is_a_soft_gram_schmidt_step(x64):
    """Column j moves by −4η[(‖wⱼ‖² − 1) wⱼ + Σ_{i≠j} (wᵢ·wⱼ) wᵢ]: towards length one, and off the other columns."""
    W, rate = np.asarray(matrix(6, (5, 3), jnp.float64)), 1e-3
    moved = W - rate * np.asarray(gradient_of_so(W))
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
        found = compiled_values(W)
        np.testing.assert_allclose(tall - wide, n - m, atol=1e-10 * (1 + tall))
        np.testing.assert_allclose(found["so"], min(tall, wide), atol=1e-10 * (1 + tall))
        np.testing.assert_allclose(found["dso"], tall + wide, atol=1e-10 * (1 + tall))
        smaller = W.T @ W - np.eye(n) if n <= m else W @ W.T - np.eye(m)
        np.testing.assert_allclose(found["mc"], np.abs(smaller).max(), atol=1e-12)
        np.testing.assert_allclose(found["srip"], np.linalg.norm(smaller, 2), atol=1e-11 * (1 + tall))


@settings(max_examples=20, deadline=None)
@given(shapes, st.integers(0, 100))
def test_semi_orthogonal_matrices_are_the_minimum(shape, seed):
    with jax.enable_x64(True):
        Q = orthonormal(seed, shape, jnp.float64)
        found = compiled_values(Q)
        assert float(found["so"]) < 1e-26
        assert abs(float(found["dso"]) - abs(shape[0] - shape[1])) < 1e-12


def ocnn_of(kernel: jax.Array, **geometry) -> float:
    """The penalty of a kernel, compiled as a whole."""
    return float(jax.jit(lambda kernel: ocnn(Weight(kernel, **geometry)))(kernel))


def convolution_gap(kernel, size, **geometry) -> float:
    """The smaller of ‖AAᵀ − I‖_F² and ‖AᵀA − I‖_F² for each output position, A a circular convolution's matrix."""
    A = la.Convolution(kernel, (size, size), padding="circular", **geometry)
    return gap(jax.jit(la.materialize)(A), np.prod(A.out_spatial))


def gap(W: jax.Array, positions: int) -> float:
    W = np.asarray(W)
    gram = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    return np.linalg.norm(gram - np.eye(len(gram))) ** 2 / positions


@pytest.mark.parametrize(
    ("k", "cin", "cout", "stride", "dilation", "groups", "size"),
    [
        (3, 2, 2, 1, 1, 1, 6),
        (3, 2, 4, 2, 1, 1, 8),
        (5, 1, 2, 2, 1, 1, 12),
        (3, 4, 4, 1, 1, 2, 6),
        pytest.param(2, 1, 5, 2, 1, 1, 6, marks=pytest.mark.slow),
        pytest.param(3, 2, 3, 3, 1, 1, 9, marks=pytest.mark.slow),
        pytest.param(3, 1, 2, 2, 2, 1, 12, marks=pytest.mark.slow),
        pytest.param(1, 3, 2, 1, 1, 1, 2, marks=pytest.mark.slow),
    ],
)
def test_ocnn_is_soft_orthogonality_of_the_convolution_itself(k, cin, cout, stride, dilation, groups, size, x64):
    kernel = matrix(0, (k, k, cin // groups, cout), jnp.float64)

    @jax.jit
    def both(kernel):
        A = la.Convolution(kernel, (size, size), stride, "circular", dilation, groups)
        return ocnn(Weight(kernel, (stride, stride), (dilation, dilation), groups)), la.materialize(A)

    value, W = both(kernel)
    np.testing.assert_allclose(value, gap(W, (size // stride) ** 2), rtol=1e-10)


@functools.partial(jax.jit, static_argnames=("stride", "padding"))
def peers_default(kernel, stride, padding=1):
    """‖conv(K, K, stride, padding) − I at the middle‖_F, as a widespread implementation has it."""
    K = jnp.moveaxis(jnp.asarray(kernel), -1, 0)
    out = jax.lax.conv_general_dilated(
        K, kernel, (stride,) * 2, [(padding,) * 2] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    middle = out.shape[1] // 2
    return jnp.linalg.norm((out.at[:, middle, middle, :].add(-jnp.eye(len(K)))).ravel())


def test_ocnn_sees_orthogonal_strided_kernels_and_overlaps_two_pixels_apart():
    """Where a peer's default goes wrong: √8 for an exactly orthogonal stride-2 kernel, 0 for overlapping filters."""
    corners = np.zeros((3, 3, 1, 4), np.float32)
    for filter_, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        corners[i, j, 0, filter_] = 1.0
    assert convolution_gap(corners, 6, stride=2) == 0.0
    assert ocnn_of(corners, strides=(2, 2)) == 0.0
    assert float(peers_default(corners, 2)) == pytest.approx(8**0.5)

    split = np.array([[0.5**0.5, 0, 0.5**0.5], [0, 0, 0], [0, 0, 0]], np.float32)[..., None, None]
    assert float(peers_default(split, 1)) == pytest.approx(0, abs=1e-6)
    assert ocnn_of(split, strides=(1, 1)) == pytest.approx(2 * 0.5**2)
    assert convolution_gap(split, 6) == pytest.approx(2 * 0.5**2, rel=1e-5)


def test_ocnn_refuses_kernels_that_do_not_slide():
    with pytest.raises(LinearAlgebraError, match="regularizer_on=operator"):
        ocnn(Weight(jnp.ones((4, 9, 1, 2)), copies=1))


def test_groups_and_copies_are_separate_matrices(x64):
    kernel = np.asarray(matrix(1, (5, 3, 2, 4), jnp.float64))
    grouped = {"strides": (1,), "groups": 2}
    parts = [[as_matrix(kernel[c, ..., g : g + 2]) for g in (0, 2)] for c in range(5)]
    found = jax.jit(lambda kernel: values_of(Weight(kernel, copies=1, **grouped)))(kernel)
    for name, over_groups in (("so", sum), ("mc", max), ("srip", max)):
        expected = sum(over_groups(float(compiled_values(part)[name]) for part in both) for both in parts)
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)
    single = Weight(jnp.asarray(kernel[0]), **grouped)
    s = np.concatenate([np.linalg.svd(part, compute_uv=False) for part in parts[0]])
    np.testing.assert_allclose(
        jax.jit(lambda: regularizers["cond"](single))(), np.log(s.max() / s.min()) ** 2, rtol=1e-10
    )
    overlaps = jax.jit(lambda kernel: ocnn(Weight(kernel, **grouped)))
    together = ocnn_of(kernel, copies=1, **grouped)
    assert together == pytest.approx(sum(float(overlaps(k)) for k in kernel), rel=1e-12)


def test_on_the_operator_the_penalty_has_the_border():

    @nnx.jit
    def build():
        options = {"widths": (2, 3), "kernel_init": "orthogonal"}
        return models.ResNet(input_shape=(4, 4, 1), num_classes=3, rngs=nnx.Rngs(0), **options)

    model = build()
    params = split(model)[1]
    total = make_penalty("so", "stem,transitions/0", params, model, np.zeros((1, 4, 4, 1), np.float32))
    stem, down = (
        np.asarray(jax.jit(la.materialize)(A))
        for A in (model.stem.operator((4, 4, 1)), model.transitions[0].operator((4, 4, 2)))
    )
    expected = sum(np.linalg.norm(W @ W.T - np.eye(len(W))) ** 2 for W in (down,)) + float(jax.jit(so)(stem))
    value, gradient = jax.jit(jax.value_and_grad(total))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert {name for name, value in gradient.items() if np.any(value)} == {"stem/kernel", "transitions/0/kernel"}
    strided = jax.jit(make_penalty("ocnn", "transitions/0", params, model))(params)
    np.testing.assert_allclose(strided, ocnn_of(model.transitions[0].kernel[...], strides=(2, 2)), rtol=1e-6)


def test_kernels_are_matrices_of_patches_by_output_channels():
    """The matrix of a convolution kernel multiplies the flattened patch under it."""
    kernel, patch = np.asarray(matrix(7, (3, 3, 2, 4))), np.asarray(matrix(8, (1, 3, 3, 2)))
    out = jax.lax.conv_general_dilated(patch, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(patch.reshape(-1) @ as_matrix(kernel), np.ravel(out), rtol=1e-5, atol=1e-5)


PARAMS = {
    "stem/kernel": np.ones((3, 3, 1, 8), np.float32),
    "stem/bias": np.ones(8, np.float32),
    "blocks/0/conv1/kernel": np.ones((3, 3, 8, 8), np.float32),
    "blocks/0/gain": np.ones((), np.float32),
    "head/kernel": np.ones((8, 10), np.float32),
}


def test_penalty_sums_over_the_chosen_kernels_only():
    total, of_head = make_penalty("so", "blocks/*,head", PARAMS), make_penalty("so", "head", PARAMS)

    @jax.jit
    def values(params):
        expected = so(as_matrix(params["blocks/0/conv1/kernel"])) + so(params["head/kernel"])
        return total(params), expected, jax.grad(of_head)(params)

    value, expected, gradient = values(PARAMS)
    np.testing.assert_allclose(value, expected)
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
