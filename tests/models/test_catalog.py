"""Models by name: shapes, modes, options and what they refuse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError

SMALL = {
    "mlp": {"widths": (6, 6)},
    "resnet": {"widths": (2, 3)},
    "deep_conv": {"depth": 4, "channels": 2},
    "deep_linear": {"width": 6},
    "local": {"widths": (2,)},
    "attention": {"width": 4, "depth": 1},
}
CLASSIFIERS = tuple(SMALL)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_models_give_logits_and_are_pure_functions_of_their_seed(name, key):
    build = lambda seed, **options: models.create(  # noqa: E731
        name, input_shape=(5, 4, 1), num_classes=3, rngs=nnx.Rngs(seed), **SMALL[name], **options
    )
    x = jax.random.normal(key, (2, 5, 4, 1))
    y = build(0)(x)
    assert y.shape == (2, 3)
    np.testing.assert_array_equal(y, build(0)(x))
    assert not np.allclose(y, build(1)(x))
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(build(0), x), y, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_dropout_is_random_in_training_and_off_in_evaluation(name, key):
    model = models.create(name, input_shape=(4, 4, 1), rngs=nnx.Rngs(0), dropout=0.5, **SMALL[name])
    x = jax.random.normal(key, (2, 4, 4, 1))
    model.train()
    assert not np.allclose(model(x), model(x))
    model.eval()
    np.testing.assert_array_equal(model(x), model(x))


def test_without_dropout_the_state_is_parameters_only():
    for name in CLASSIFIERS:
        state = nnx.state(models.create(name, rngs=nnx.Rngs(0), **SMALL[name]))
        assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("options", [{"pool": "mean"}, {"blocks": 0}, {"padding": "circular"}, {"scale": "rezero"}])
def test_resnet_options(options, key):
    model = models.create("resnet", input_shape=(5, 4, 2), rngs=nnx.Rngs(0), **SMALL["resnet"], **options)
    assert model(jax.random.normal(key, (2, 5, 4, 2))).shape == (2, 10)


def test_default_resnet_keeps_layer_jacobians_below_512():
    model = models.create("resnet", rngs=nnx.Rngs(0))
    shapes = [(8, 8, 8), (4, 4, 16), (2, 2, 32)]
    assert [b.conv1.operator(s).shape for b, s in zip(model.blocks, shapes)] == [(512,) * 2, (256,) * 2, (128,) * 2]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("resnt", {}, UnknownNameError, "did you mean 'resnet'"),
        ("mlp", {"width": (3,)}, UnknownNameError, "did you mean 'widths'"),
        ("mlp", {"widths": 3}, DimensionMismatch, "widths must be a sequence"),
        ("mlp", {"widths": (3, -1)}, DimensionMismatch, "got -1"),
        ("resnet", {"blocks": -1}, DimensionMismatch, "blocks must be an integer ≥ 0, got -1"),
        ("resnet", {"pool": "max"}, UnknownNameError, "flatten, mean"),
        ("resnet", {"dropout": 1.0}, LinearAlgebraError, r"dropout must be a number in \[0, 1\)"),
        ("resnet", {"input_shape": (8, 8)}, DimensionMismatch, "takes images"),
        ("resnet", {"num_classes": 0}, DimensionMismatch, "num_classes"),
        ("resnet", {"widths": (8, 4)}, DimensionMismatch, "8→4"),
    ],
)
def test_wrong_options_are_refused_by_name(name, options, error, message):
    with pytest.raises(error, match=message):
        models.create(name, rngs=nnx.Rngs(0), **options)
