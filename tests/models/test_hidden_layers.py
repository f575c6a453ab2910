"""The place of networks in mean field: what is measured on the weights is what the initialiser was asked for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import models
from lax_linalg.random_matrix import MeanField, length_map
from models.mean_field import as_activation, hidden_layers, variances


def test_orthogonal_weights_have_the_square_of_their_gain():
    model = models.MLP(input_shape=(12,), num_classes=3, widths=(16, 16, 16), rngs=nnx.Rngs(0))
    found = hidden_layers(model)
    assert found is not None and list(found.variances) == ["layers/1", "layers/2"]
    np.testing.assert_allclose(found.point, (1.0, 0.0), atol=1e-6)
    model.layers[1].kernel[...] *= 1.5
    model.layers[2].bias[...] += 0.2
    found = hidden_layers(model)
    assert found is not None
    np.testing.assert_allclose(found.variances["layers/1"], [[2.25, 0.0]], atol=1e-6)
    np.testing.assert_allclose(found.variances["layers/2"], [[1.0, 0.04]], atol=1e-6)


def test_gaussian_weights_estimate_their_variance():
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((300, 200)) * np.sqrt(1.7 / 300), rng.standard_normal(200) * np.sqrt(0.3)
    (found,) = variances(w, b)
    # Σw² of 60,000 and Σb² of 200 normal draws: relative standard errors √(2/60000) and √(2/200)
    assert abs(found[0] / 1.7 - 1) < 4 * np.sqrt(2 / 60_000) and abs(found[1] / 0.3 - 1) < 4 * np.sqrt(2 / 200)


def test_a_deep_stack_starts_on_the_critical_line():
    model = models.create("deep_conv", depth=20, channels=4, q=0.2, rngs=nnx.Rngs(1))
    found = hidden_layers(model)
    assert found is not None and found.activation == "tanh" and found.variances["stack"].shape == (20, 2)
    weight, bias = models.critical_point("tanh", 0.2)
    np.testing.assert_allclose(found.variances["stack"][:, 0], weight, rtol=1e-5)
    assert abs(found.point[1] / bias - 1) < 4 * np.sqrt(2 / 80)
    assert MeanField("tanh", weight, bias, start=0.2).chi == pytest.approx(1, abs=1e-5)


def test_a_stack_of_kernels_is_measured_layer_by_layer():
    kernels = np.random.default_rng(2).standard_normal((5, 3, 3, 4, 4))
    found = variances(kernels, np.arange(20.0).reshape(5, 4), copies=1)
    alone = [variances(kernel, bias)[0] for kernel, bias in zip(kernels, np.arange(20.0).reshape(5, 4))]
    np.testing.assert_allclose(found, alone)


@pytest.mark.parametrize("name", ["tanh", "relu", "hard_tanh", "leaky_relu", "erf"])
def test_the_variances_predict_the_lengths_of_the_layers_own_activation(name):
    rng, width, q = np.random.default_rng(3), 1500, 0.8
    w, b = rng.standard_normal((width, width)) * np.sqrt(1.3 / width), rng.standard_normal(width) * 0.4
    phi = as_activation(name)
    x = phi(jnp.asarray(np.sqrt(q) * rng.standard_normal(width), jnp.float32))
    h = np.asarray(x) @ w + b
    (found,) = variances(w, b)
    predicted = float(length_map(phi, q, *found))
    assert abs(np.mean(h**2) / predicted - 1) < 5 * np.sqrt(4 / width)


def test_models_that_mean_field_does_not_describe_have_no_place():
    rngs = nnx.Rngs(0)
    assert not hasattr(models.ResNet, "mean_field") and not hasattr(models.RecurrentNet, "mean_field")
    assert hidden_layers(nnx.Linear(2, 2, rngs=rngs)) is None
    assert hidden_layers(models.create("mlp", widths=(8,), rngs=rngs)) is None
    assert hidden_layers(models.create("mlp", widths=(8, 8), activation="maxmin", rngs=rngs)) is None
    assert hidden_layers(models.create("deep_linear", depth=2, rngs=rngs)) is None
    own = models.create("mlp", widths=(8, 8), activation=lambda x: jax.nn.relu(x), rngs=rngs)
    assert hidden_layers(own) is None  # not known by name
    assert as_activation("no such") is None
