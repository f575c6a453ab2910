"""Locally connected layers: the operator is the linear part, tying is the nearest convolution, sequences and images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from tests.train.runs import small
from train.errors import ConfigError
from train.loop import train_and_evaluate
from train.regularizers import make_penalty, so
from train.state import split
from train.tying import tie_run

GEOMETRIES = [
    ((3, 2), (5, 4), {"strides": (2, 1)}),
    ((2, 3), (4, 5), {"padding": "circular", "groups": 2}),
    (3, (5, 5), {"kernel_dilation": 2, "padding": ((1, 2), (0, 1))}),
    ((3,), (6,), {"strides": 2, "padding": "valid"}),
    ((3,), (6,), {"padding": "circular", "kernel_dilation": 2, "groups": 2}),
]


@pytest.mark.parametrize("layer", [models.LocallyConnected, models.Conv])
@pytest.mark.parametrize(("kernel", "size", "options"), GEOMETRIES)
def test_the_operator_is_the_linear_part(layer, kernel, size, options):
    """The layer on a batch and on one example against the materialised matrix of its operator."""
    extra = (size,) if layer is models.LocallyConnected else ()
    x = np.random.default_rng(0).standard_normal((3, *size, 2)).astype(np.float32)

    @jax.jit
    def all_three(x):
        one = layer(2, 4, kernel, *extra, rngs=nnx.Rngs(0), **options)
        return la.materialize(one.operator((*size, 2))), one(x), one(x[0])

    W, batch, alone = map(np.asarray, all_three(x))
    np.testing.assert_allclose(batch.reshape(3, -1), x.reshape(3, -1) @ W.T, atol=1e-5)
    np.testing.assert_allclose(alone, batch[0], atol=1e-6)


def test_every_position_has_its_own_weights():
    """From the definition, by hand: n = 4, K = 2, S = 2, no padding, two positions."""

    @jax.jit
    def apply(kernel, bias, x):
        layer = models.LocallyConnected(1, 1, (2,), 4, strides=2, padding="valid", rngs=nnx.Rngs(0))
        layer.kernel.set_value(kernel)
        layer.bias.set_value(bias)
        return layer(x)

    kernel = np.array([[1.0, 2.0], [3.0, 4.0]], "f4")[:, :, None, None]
    y = apply(kernel, np.array([[10.0], [20.0]], "f4"), np.array([[1.0], [2.0], [3.0], [4.0]], "f4"))
    np.testing.assert_allclose(y[:, 0], [10 + 1 + 4, 20 + 9 + 16])


@pytest.mark.parametrize(("kernel", "size", "options"), GEOMETRIES[:4:3])
def test_tied_it_is_a_convolution_and_tying_is_the_nearest_one(kernel, size, options, key):
    x = np.random.default_rng(0).standard_normal((3, *size, 2)).astype(np.float32)

    def matrix(layer):
        return la.materialize(layer.operator((*size, 2)))

    @jax.jit
    def both_ways(x, keys):
        tied = models.LocallyConnected(2, 4, kernel, size, tied=True, rngs=nnx.Rngs(0), **options)
        conv, none = tied.tie()
        free = models.LocallyConnected(2, 4, kernel, size, rngs=nnx.Rngs(0), **options)
        nearest, distance = free.tie()

        def other(key):
            nudged = models.Conv(2, 4, kernel, rngs=nnx.Rngs(0), **options)
            nudged.kernel.set_value(jax.random.normal(key, nearest.kernel.shape))
            return matrix(nudged)

        return conv(x), tied(x), none, matrix(free), matrix(nearest), distance, jax.vmap(other)(keys)

    y, expected, none, A, B, distance, others = map(np.asarray, both_ways(x, jax.random.split(key, 3)))
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert none == 0.0
    assert distance == pytest.approx(np.linalg.norm(A - B) / np.linalg.norm(A), rel=1e-5)
    for other in others:  # no other kernel near is nearer: the gap is orthogonal to all convolutions
        assert abs(np.sum((A - B) * other)) < 1e-4 * np.linalg.norm(A) * np.linalg.norm(other)


def test_regularisers_take_each_position_apart():
    model = models.LocalNet(input_shape=(4, 4, 1), num_classes=3, widths=(2,), rngs=nnx.Rngs(0))
    params = split(model)[1]
    kernel = 2 * np.asarray(params["layers/0/kernel"])
    expected = jax.jit(lambda kernel: jnp.sum(jax.lax.map(so, kernel.reshape(-1, 9, 2))))(kernel)
    doubled = params | {"layers/0/kernel": kernel}
    np.testing.assert_allclose(jax.jit(make_penalty("so", "layers/0", params, model))(doubled), expected, rtol=1e-5)
    with pytest.raises(LinearAlgebraError, match="regularizer_on=operator"):
        make_penalty("ocnn", "layers/0", params, model)(params)


@pytest.mark.slow
def test_a_trained_layer_is_tied_and_both_are_measured(tmp_path):
    config = small(tmp_path, model="local", model_options="widths=(3,)", steps=8, checkpoint_every=0, eval_every=0)
    summary = train_and_evaluate(config, tmp_path)
    found = tie_run(tmp_path)
    assert found.step == 8 and list(found.distances) == ["layers/0"]
    assert 0.5 < found.distances["layers/0"] < 1  # independent draws are far from shared
    assert found.before["loss"] == pytest.approx(summary["test_loss"], rel=1e-5)
    assert found.after["loss"] != found.before["loss"]
    plain = tmp_path / "mlp"
    train_and_evaluate(small(plain, steps=0, eval_every=0), plain)
    with pytest.raises(ConfigError, match="no locally connected layer"):
        tie_run(plain)


LC = models.LocallyConnected


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda r: LC(1, 1, 5, 3, padding="valid", rngs=r), DimensionMismatch, "does not fit"),
        (lambda r: LC(1, 1, (5,), 3, padding="valid", tied=True, rngs=r), DimensionMismatch, "does not fit"),
        (lambda r: LC(1, 1, 3, 4, strides=0, rngs=r), DimensionMismatch, "strides .* got 0"),
        (lambda r: LC(3, 2, 3, 4, groups=2, rngs=r), DimensionMismatch, "2 groups must divide"),
        (lambda r: LC(1, 1, (3,), (4, 4), rngs=r), DimensionMismatch, "input_size takes 1 integers"),
        (lambda r: LC(1, 1, 3, 4, rngs=r)(jnp.ones((5, 5, 1))), DimensionMismatch, r"takes inputs \(4, 4, 1\)"),
        (lambda r: LC(1, 1, (3, 3, 3), 4, rngs=r), DimensionMismatch, "1 or 2 integers"),
        (lambda r: LC(1, 1, 3, 4, padding="zeros", rngs=r), UnknownNameError, "did you mean 'zero'"),
        (
            lambda r: models.create("local", kind="locl", rngs=r),
            UnknownNameError,
            "did you mean 'local'",
        ),
    ],
)
def test_wrong_geometry_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build(nnx.Rngs(0))
