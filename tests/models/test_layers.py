"""Layers know their operators: operator @ x equals the layer's linear part, for every geometry."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings, strategies as st

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError


def linear_part(layer, x):
    return layer(x) - layer(jnp.zeros_like(x))


def test_dense_operator_is_the_linear_part(key):
    layer = models.Dense(7, 5, bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (7,))
    np.testing.assert_allclose(layer.operator((7,)) @ x, linear_part(layer, x), atol=1e-5)


@pytest.mark.parametrize("examples", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_conv_operator_is_the_linear_part(examples):
    settings(max_examples=examples, deadline=None)(conv_operator_is_the_linear_part)()


@given(
    height=st.integers(3, 5),
    width=st.integers(3, 5),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
    padding=st.sampled_from(["zero", "circular", ((0, 1), (2, 0))]),
    seed=st.integers(0, 2**16),
)
def conv_operator_is_the_linear_part(height, width, kernel, strides, dilation, groups, padding, seed):
    layer = models.Conv(
        2 * groups,
        groups,
        kernel,
        strides=strides,
        padding=padding,
        kernel_dilation=dilation,
        groups=groups,
        bias_init=nnx.initializers.normal(),
        rngs=nnx.Rngs(seed),
    )
    spans = [(k - 1) * dilation + 1 for k in kernel]
    if padding not in ("zero", "circular") and (spans[0] > height + 1 or spans[1] > width + 2):
        return
    x = jax.random.normal(jax.random.key(seed), (2, height, width, 2 * groups))
    y = jax.jit(linear_part)(layer, x)
    A = layer.operator(x.shape[1:])
    assert A.shape == (y[0].size, x[0].size)
    np.testing.assert_allclose(jax.jit(lambda A, X: A @ X)(A, x.reshape(2, -1).T), y.reshape(2, -1).T, atol=1e-5)


@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("size", [3, (2, 3)])
def test_delta_orthogonal_convolution_is_exactly_orthogonal(padding, size):
    layer = models.Conv(4, 4, size, padding=padding, kernel_init="delta_orthogonal", rngs=nnx.Rngs(1))
    Q = la.materialize(layer.operator((4, 5, 4)))
    np.testing.assert_allclose(Q.T @ Q, np.eye(80), atol=2e-6)


def test_delta_orthogonal_is_an_isometry_into_more_channels_and_in_groups():
    for groups in (1, 2):
        layer = models.Conv(4, 6, 3, groups=groups, kernel_init="delta_orthogonal", rngs=nnx.Rngs(2))
        Q = la.materialize(layer.operator((3, 3, 4)))
        np.testing.assert_allclose(Q.T @ Q, np.eye(36), atol=2e-6)


def test_delta_orthogonal_refuses_fewer_output_channels():
    with pytest.raises(DimensionMismatch, match="cin ≤ cout, got 4→2"):
        models.Conv(4, 2, 3, kernel_init="delta_orthogonal", rngs=nnx.Rngs(0))


def test_orthogonal_initialisation_of_dense():
    W = models.Dense(5, 8, rngs=nnx.Rngs(0)).kernel[...]
    np.testing.assert_allclose(W @ W.T, np.eye(5), atol=2e-6)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(1.01, 1.65e-7), (1.05, 2.01e-5), (1.1, 1.56e-4), (1.5, 0.0158)])
def test_critical_line_of_tanh(sigma_w2, sigma_b2, x64):
    lower, upper = 1e-6, 2.0
    for _ in range(60):  # σ_w² grows with q: find the q of this point of the line
        q = (lower * upper) ** 0.5
        lower, upper = (q, upper) if models.critical_point("tanh", q)[0] < sigma_w2 else (lower, q)
    assert models.critical_point("tanh", q)[1] == pytest.approx(sigma_b2, rel=5e-3)


def test_square_initialisers_have_their_spectra(key):
    """Near the identity within ε of 1; a Jordan block; a chain with Wⁿ = 0 and n − 1 singular values c."""
    n = 60
    near = np.asarray(models.initializer("near_identity", epsilon=0.05)(key, (n, n)))
    assert np.abs(np.linalg.eigvals(near) - 1).max() < 0.05 * 1.4  # the circular law, radius ε
    assert np.std(near - np.eye(n)) == pytest.approx(0.05 / n**0.5, rel=0.05)
    J = models.initializer("jordan", eigenvalue=0.7, coupling=0.3)(key, (5, 5))
    np.testing.assert_allclose(J, 0.7 * np.eye(5) + 0.3 * np.eye(5, k=1), rtol=1e-6)
    chain = np.asarray(models.initializer("nonnormal_chain", coupling=1.1)(key, (6, 6)), np.float64)
    np.testing.assert_allclose(np.linalg.svd(chain, compute_uv=False), [1.1] * 5 + [0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.matrix_power(chain, 6), 0, atol=1e-5)
    assert np.linalg.norm(np.linalg.matrix_power(chain, 5), 2) == pytest.approx(1.1**5, rel=1e-5)
    # a convolution has the matrix at its centre: on every pixel the same map, up to ε
    layer = models.Conv(2, 2, 3, kernel_init=models.initializer("jordan"), use_bias=False, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (1, 4, 4, 2))
    np.testing.assert_allclose(layer(x), x @ jnp.array([[0.9, 1.0], [0.0, 0.9]]), rtol=1e-5, atol=1e-6)
    for name, options, error, message in (
        ("near_identity", {"epsilon": -1}, LinearAlgebraError, "epsilon must be ≥ 0, got -1"),
        ("nonnormal_chain", {"coupling": -1}, LinearAlgebraError, "coupling must be ≥ 0, got -1"),
        ("jordan", {}, DimensionMismatch, "for square maps, got 3→4"),
    ):
        with pytest.raises(error, match=message):
            models.initializer(name, **options)(key, (3, 4))


@pytest.mark.parametrize("scale", ["plain", "depth", "rezero"])
def test_residual_jacobian_is_identity_plus_alpha_branch(scale, key):
    block = models.ResidualBlock(2, scale=scale, depth=4, rngs=nnx.Rngs(0))
    if scale == "rezero":
        block.gain[...] = jnp.float32(0.3)
    x = jax.random.normal(key, (3, 3, 2))
    J = la.jacobian(block, x)
    branch = la.jacobian(block.branch, x)
    np.testing.assert_allclose(la.materialize(J), np.eye(18) + block.alpha * la.materialize(branch), atol=1e-6)
    shifted = la.eigvals(branch) * block.alpha + 1
    np.testing.assert_allclose(np.sort_complex(la.eigvals(J)), np.sort_complex(shifted), atol=1e-4)
    assert float(block.alpha) == pytest.approx({"plain": 1, "depth": 0.5, "rezero": 0.3}[scale])


@pytest.mark.parametrize(
    "options",
    [{"scale": "plain"}, {"scale": "depth"}, {"scale": "rezero"}, {"scale": "plain", "preactivation": False}],
)
def test_the_probe_shows_eigenvalues_one_plus_lambda(options, key):
    """The eigenvalues that the probe records of a block are 1 + α λ, λ those of its branch's Jacobian, by NumPy."""
    model = models.ResNet(input_shape=(3, 3, 1), num_classes=2, widths=(2,), blocks=2, rngs=nnx.Rngs(0), **options)
    if options["scale"] == "rezero":  # as after some training: at the start it is 0
        model.blocks[1].gain[...] = jnp.float32(0.3)
    probe = la.SpectrumProbe(model, jax.random.normal(key, (1, 3, 3, 1)), "blocks/1", ("eigenvalues",))
    probe.submit(0, model)
    (record,) = probe.wait()
    block = model.blocks[1]
    x = model.blocks[0](model.stem(jax.random.normal(key, (1, 3, 3, 1))))[0]
    branch = np.asarray(la.materialize(la.jacobian(block.branch, x)))
    alpha = {"plain": 1, "depth": 0.5**0.5, "rezero": 0.3}[options["scale"]]
    expected = 1 + alpha * np.linalg.eigvals(branch)
    found = record.spectra["blocks/1"]["eigenvalues"][0]
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), atol=1e-4)


@pytest.mark.parametrize("scale", ["rezero", "fixup"])
def test_some_blocks_start_as_the_identity(scale, key):
    block = models.ResidualBlock(2, scale=scale, depth=9, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (1, 3, 3, 2))
    np.testing.assert_array_equal(block(x), x)
    # Fixup: the first convolution is 1/√L times as large, the second 0, and both learn from the first update on
    kernel = block.conv1.kernel[...]
    np.testing.assert_allclose(jnp.linalg.norm(kernel[1, 1], 2), 1 / 3 if scale == "fixup" else 1, rtol=1e-5)
    moved = nnx.grad(lambda block: jnp.sum((block(x) - 1) ** 2))(block)
    assert np.any(moved["conv2"]["kernel"][...]) == (scale == "fixup") and np.any(moved["gain"][...]) != (
        scale == "fixup"
    )
    if scale == "fixup":
        net = models.ResNet(input_shape=(3, 3, 1), num_classes=2, widths=(2,), scale=scale, rngs=nnx.Rngs(0))
        np.testing.assert_array_equal(net(x[..., :1]), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda r: models.Dense(-3, 2, rngs=r), DimensionMismatch, "in_features must be an integer ≥ 1, got -3"),
        (lambda r: models.Dense(3, 2.5, rngs=r), DimensionMismatch, "out_features .* got 2.5"),
        (lambda r: models.Conv(2, 2, 0, rngs=r), DimensionMismatch, "kernel_size .* got 0"),
        (lambda r: models.Conv(2, 2, strides=(1, 2, 3), rngs=r), DimensionMismatch, "strides takes 2 integers"),
        (
            lambda r: models.Conv(3, 2, groups=2, rngs=r),
            DimensionMismatch,
            "2 groups must divide the channels, got 3→2",
        ),
        (
            lambda r: models.Conv(1, 1, 5, padding="valid", rngs=r)(jnp.ones((1, 3, 3, 1))),
            DimensionMismatch,
            "spans 5 does not fit an input of 3",
        ),
        (lambda r: models.Conv(2, 2, padding="circulr", rngs=r), UnknownNameError, "did you mean 'circular'"),
        (lambda r: models.Conv(2, 2, padding=3, rngs=r), DimensionMismatch, "padding is"),
        (lambda r: models.Conv(2, 2, kernel_init="orthogonl", rngs=r), UnknownNameError, "did you mean 'orthogonal'"),
        (lambda r: models.ResidualBlock(2, scale="sqrt", rngs=r), UnknownNameError, "depth, fixup, plain, rezero"),
        (lambda r: models.ResidualBlock(2, activation="tanhh", rngs=r), UnknownNameError, "did you mean 'tanh'"),
        (lambda r: models.Dense(3, 2, rngs=r).operator((4,)), DimensionMismatch, r"shape \(3,\), got \(4,\)"),
        (lambda r: models.Dense(3, 2, rngs=r)(jnp.ones(4)), DimensionMismatch, "Dense 3→2 got an input"),
        (lambda r: models.Conv(3, 2, rngs=r).operator((4, 4, 2)), DimensionMismatch, "takes images"),
        (lambda r: models.Conv(3, 2, rngs=r)(jnp.ones((3, 3))), DimensionMismatch, "takes images"),
        (lambda r: models.initializer("gaussian", gain=-1.0), ValueError, "gain must be ≥ 0, got -1"),
        (lambda r: models.critical_point("tanh", 0.0), ValueError, "positive variance"),
    ],
)
def test_wrong_options_are_refused_by_name(build, error, message):
    with pytest.raises(error, match=message):
        build(nnx.Rngs(0))
