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


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_dense_operator_is_the_linear_part():
    @jax.jit
    def both(x):
        layer = models.Dense(7, 5, bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
        return layer.operator((7,)) @ x, linear_part(layer, x)

    found, expected = both(draw(7))
    np.testing.assert_allclose(found, expected, atol=1e-5)


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
    spans = [(k - 1) * dilation + 1 for k in kernel]
    if padding not in ("zero", "circular") and (spans[0] > height + 1 or spans[1] > width + 2):
        return

    @jax.jit
    def both(x):
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
        y, A = linear_part(layer, x), layer.operator(x.shape[1:])
        assert A.shape == (y[0].size, x[0].size)
        return A @ x.reshape(2, -1).T, y.reshape(2, -1).T

    x = np.random.default_rng(seed).standard_normal((2, height, width, 2 * groups)).astype(np.float32)
    found, expected = both(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("size", [3, (2, 3)])
def test_delta_orthogonal_convolution_is_exactly_orthogonal(padding, size):
    @jax.jit
    def matrix():
        layer = models.Conv(4, 4, size, padding=padding, kernel_init="delta_orthogonal", rngs=nnx.Rngs(1))
        return la.materialize(layer.operator((4, 5, 4)))

    Q = np.asarray(matrix())
    np.testing.assert_allclose(Q.T @ Q, np.eye(80), atol=2e-6)


def test_delta_orthogonal_is_an_isometry_into_more_channels_and_in_groups():
    @jax.jit
    def matrices():
        layers = (models.Conv(4, 6, 3, groups=g, kernel_init="delta_orthogonal", rngs=nnx.Rngs(2)) for g in (1, 2))
        return [la.materialize(layer.operator((3, 3, 4))) for layer in layers]

    for Q in map(np.asarray, matrices()):
        np.testing.assert_allclose(Q.T @ Q, np.eye(36), atol=2e-6)


def test_delta_orthogonal_refuses_fewer_output_channels():
    with pytest.raises(DimensionMismatch, match="cin ≤ cout, got 4→2"):
        models.Conv(4, 2, 3, kernel_init="delta_orthogonal", rngs=nnx.Rngs(0))


def test_orthogonal_initialisation_of_dense():
    W = np.asarray(models.Dense(5, 8, rngs=nnx.Rngs(0)).kernel[...])
    np.testing.assert_allclose(W @ W.T, np.eye(5), atol=2e-6)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(1.01, 1.65e-7), (1.05, 2.01e-5), (1.1, 1.56e-4), (1.5, 0.0158)])
def test_critical_line_of_tanh(sigma_w2, sigma_b2, x64):
    lower, upper = 1e-6, 2.0
    for _ in range(60):  # σ_w² grows with q: find the q of this point of the line
        q = (lower * upper) ** 0.5
        lower, upper = (q, upper) if models.critical_point("tanh", q)[0] < sigma_w2 else (lower, q)
    assert models.critical_point("tanh", q)[1] == pytest.approx(sigma_b2, rel=5e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", *(pytest.param(d, marks=pytest.mark.slow) for d in ("f2", "f4", "c8"))])
def test_every_initialiser_works_in_every_dtype(dtype):
    dense, image = (4, 4), (3, 3, 4, 4)

    @jax.jit
    def weights(key):
        entries = {name: models.initializer(name) for name in models.initializers}
        return {name: (init(key, dense, dtype), init(key, image, dtype)) for name, init in entries.items()}

    found = weights(jax.random.key(0))
    for name, drawn in found.items():
        for w in drawn:
            assert w.dtype == jnp.dtype(dtype) and np.isfinite(np.asarray(w, np.complex64)).all(), name
    for w in (found["orthogonal"][0], found["delta_orthogonal"][0], found["delta_orthogonal"][1][1, 1]):
        values = np.linalg.svd(np.asarray(w, np.complex128), compute_uv=False)
        np.testing.assert_allclose(values, 1, atol=4 * float(jnp.finfo(dtype).eps))


def test_square_initialisers_have_their_spectra(key):
    """Near the identity within ε of 1; a Jordan block; a chain with Wⁿ = 0 and n − 1 singular values c."""
    n = 60

    @jax.jit
    def drawn(key, x):
        # a convolution has the matrix at its centre: on every pixel the same map, up to ε
        layer = models.Conv(2, 2, 3, kernel_init=models.initializer("jordan"), use_bias=False, rngs=nnx.Rngs(0))
        return (
            models.initializer("near_identity", epsilon=0.05)(key, (n, n)),
            models.initializer("jordan", eigenvalue=0.7, coupling=0.3)(key, (5, 5)),
            models.initializer("nonnormal_chain", coupling=1.1)(key, (6, 6)),
            layer(x),
        )

    x = draw(1, 4, 4, 2)
    near, J, chain, y = map(np.asarray, drawn(key, x))
    assert np.abs(np.linalg.eigvals(near) - 1).max() < 0.05 * 1.4  # the circular law, radius ε
    assert np.std(near - np.eye(n)) == pytest.approx(0.05 / n**0.5, rel=0.05)
    np.testing.assert_allclose(J, 0.7 * np.eye(5) + 0.3 * np.eye(5, k=1), rtol=1e-6)
    chain = chain.astype(np.float64)
    np.testing.assert_allclose(np.linalg.svd(chain, compute_uv=False), [1.1] * 5 + [0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.matrix_power(chain, 6), 0, atol=1e-5)
    assert np.linalg.norm(np.linalg.matrix_power(chain, 5), 2) == pytest.approx(1.1**5, rel=1e-5)
    np.testing.assert_allclose(y, x @ np.array([[0.9, 1.0], [0.0, 0.9]], "f4"), rtol=1e-5, atol=1e-6)
    for name, options, error, message in (
        ("near_identity", {"epsilon": -1}, LinearAlgebraError, "epsilon must be ≥ 0, got -1"),
        ("nonnormal_chain", {"coupling": -1}, LinearAlgebraError, "coupling must be ≥ 0, got -1"),
        ("jordan", {}, DimensionMismatch, "for square maps, got 3→4"),
    ):
        with pytest.raises(error, match=message):
            models.initializer(name, **options)(key, (3, 4))


@pytest.mark.parametrize("scale", ["plain", pytest.param("depth", marks=pytest.mark.slow), "rezero"])
def test_residual_jacobian_is_identity_plus_alpha_branch(scale):
    @jax.jit
    def measured(x):
        block = models.ResidualBlock(2, scale=scale, depth=4, rngs=nnx.Rngs(0))
        if scale == "rezero":
            block.gain[...] = jnp.float32(0.3)
        jacobians = la.jacobian(block, x), la.jacobian(block.branch, x)
        return *map(la.materialize, jacobians), *map(la.eigvals, jacobians), block.alpha

    J, branch, values, of_branch, alpha = map(np.asarray, measured(draw(3, 3, 2)))
    np.testing.assert_allclose(J, np.eye(18) + alpha * branch, atol=1e-6)
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(of_branch * alpha + 1), atol=1e-4)
    assert float(alpha) == pytest.approx({"plain": 1, "depth": 0.5, "rezero": 0.3}[scale])


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "plain"},
        pytest.param({"scale": "depth"}, marks=pytest.mark.slow),  # as plain, with another number
        {"scale": "rezero"},
        {"scale": "plain", "preactivation": False},
    ],
)
def test_the_probe_shows_eigenvalues_one_plus_lambda(options):
    """The eigenvalues that the probe records of a block are 1 + α λ, λ those of its branch's Jacobian, by NumPy."""

    @nnx.jit
    def build():
        return models.ResNet(input_shape=(3, 3, 1), num_classes=2, widths=(2,), blocks=2, rngs=nnx.Rngs(0), **options)

    model, x = build(), draw(1, 3, 3, 1)
    if options["scale"] == "rezero":  # as after some training: at the start it is 0
        model.blocks[1].gain[...] = jnp.float32(0.3)
    probe = la.SpectrumProbe(model, x, "blocks/1", ("eigenvalues",))
    probe.submit(0, model)
    (record,) = probe.wait()

    @jax.jit
    def jacobian(model, x):
        first, second = model.blocks
        return la.materialize(la.jacobian(second.branch, first(model.stem(x))[0]))

    branch = np.asarray(jacobian(model, x))
    alpha = {"plain": 1, "depth": 0.5**0.5, "rezero": 0.3}[options["scale"]]
    expected = 1 + alpha * np.linalg.eigvals(branch)
    found = record.spectra["blocks/1"]["eigenvalues"][0]
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), atol=1e-4)


@pytest.mark.parametrize("scale", ["rezero", "fixup"])
def test_some_blocks_start_as_the_identity(scale):
    x = draw(1, 3, 3, 2)

    @jax.jit
    def start(x):
        block = models.ResidualBlock(2, scale=scale, depth=9, rngs=nnx.Rngs(0))
        return block(x), block.conv1.kernel[...], nnx.grad(lambda block: jnp.sum((block(x) - 1) ** 2))(block)

    y, kernel, moved = start(x)
    np.testing.assert_array_equal(y, x)
    # Fixup: the first convolution is 1/√L times as large, the second 0, and both learn from the first update on
    np.testing.assert_allclose(np.linalg.norm(np.asarray(kernel)[1, 1], 2), 1 / 3 if scale == "fixup" else 1, rtol=1e-5)
    assert np.any(np.asarray(moved["conv2"]["kernel"][...])) == (scale == "fixup") and np.any(
        np.asarray(moved["gain"][...])
    ) != (scale == "fixup")
    if scale == "fixup":

        @jax.jit
        def outputs(x):
            net = models.ResNet(input_shape=(3, 3, 1), num_classes=2, widths=(2,), scale=scale, rngs=nnx.Rngs(0))
            return net(x)

        np.testing.assert_array_equal(outputs(x[..., :1]), np.zeros((1, 2)))


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
            lambda r: models.Conv(1, 1, 5, padding="valid", rngs=r)(np.ones((1, 3, 3, 1))),
            DimensionMismatch,
            "spans 5 does not fit an input of 3",
        ),
        (lambda r: models.Conv(2, 2, padding="circulr", rngs=r), UnknownNameError, "did you mean 'circular'"),
        (lambda r: models.Conv(2, 2, padding=3, rngs=r), DimensionMismatch, "padding is"),
        (lambda r: models.Conv(2, 2, kernel_init="orthogonl", rngs=r), UnknownNameError, "did you mean 'orthogonal'"),
        (lambda r: models.ResidualBlock(2, scale="sqrt", rngs=r), UnknownNameError, "depth, fixup, plain, rezero"),
        (lambda r: models.ResidualBlock(2, activation="tanhh", rngs=r), UnknownNameError, "did you mean 'tanh'"),
        (lambda r: models.Dense(3, 2, rngs=r).operator((4,)), DimensionMismatch, r"shape \(3,\), got \(4,\)"),
        (lambda r: models.Dense(3, 2, rngs=r)(np.ones(4)), DimensionMismatch, "Dense 3→2 got an input"),
        (lambda r: models.Conv(3, 2, rngs=r).operator((4, 4, 2)), DimensionMismatch, "takes images"),
        (lambda r: models.Conv(3, 2, rngs=r)(np.ones((3, 3))), DimensionMismatch, "takes images"),
        (lambda r: models.initializer("gaussian", gain=-1.0), ValueError, "gain must be ≥ 0, got -1"),
        (lambda r: models.critical_point("tanh", 0.0), ValueError, "positive variance"),
    ],
)
def test_wrong_options_are_refused_by_name(build, error, message):
    with pytest.raises(error, match=message):
        build(nnx.Rngs(0))
