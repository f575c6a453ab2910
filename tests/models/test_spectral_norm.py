"""Spectral normalisation: the estimate, the reparametrisation, its gradient, and the order of the Lipschitz bounds."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError, UnknownNameError
from models.activations import activations, group_sort
from models.lipschitz import SLOPES, slope


@nnx.jit(static_argnames=("on", "gain", "start"))
def conv(on="operator", gain=3.0, start=30):
    layer = models.Conv(2, 3, 3, kernel_init=nnx.initializers.normal(gain), rngs=nnx.Rngs(0))
    return models.SpectralNorm(layer, input_shape=(4, 4, 2), on=on, start=start, rngs=nnx.Rngs(1))


forward = nnx.jit(lambda layer, x: layer(x))
sigma = jax.jit(lambda layer: layer.sigma())


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_the_estimate_converges_to_the_norm_of_the_true_operator():
    """Within 1e-3 of σ₁ of the zero-padded convolution, never above it: at once in evaluation, and after another kernel
    in training; the kernel's matrix has another norm."""
    layer, x = conv(start=0), draw(2, 4, 4, 2)
    of_operator = jax.jit(lambda layer: la.opnorm(layer.layer.operator((4, 4, 2))))
    layer.eval()
    true = start = float(of_operator(layer))
    assert -1e-5 * true < true - float(sigma(layer)) < 1e-3 * true
    layer.train()
    layer.layer.kernel[...] = layer.layer.kernel[...][::-1, :, ::-1] * jnp.array([1.0, -1.0, 2.0])
    true = float(of_operator(layer))
    errors = []
    for _ in range(60):
        forward(layer, x)
        errors.append(true - float(sigma(layer)))
    assert min(errors) > -1e-5 * true
    assert errors[-1] < 1e-3 * true < errors[0]
    layer = conv("kernel", start=200)
    W, of_kernel = np.asarray(layer.layer.kernel[...]), float(sigma(layer))
    np.testing.assert_allclose(of_kernel, np.linalg.norm(W.reshape(-1, 3), 2), rtol=1e-4)
    assert abs(of_kernel - start) > 0.1 * start


def test_it_is_a_reparametrisation_with_norm_at_most_one():
    layer, x = conv(start=300), draw(2, 4, 4, 2)
    W = layer.layer.kernel[...].copy()
    y = forward(layer, x)
    np.testing.assert_array_equal(layer.layer.kernel[...], W)  # flax's own overwrites it

    @jax.jit
    def matrices(layer):
        return la.materialize(layer.operator((4, 4, 2))), la.materialize(layer.layer.operator((4, 4, 2))), layer.sigma()

    normalised, A, largest = map(np.asarray, matrices(layer))
    np.testing.assert_allclose(np.linalg.norm(normalised, 2), 1, rtol=1e-4)
    expected = (x.reshape(2, -1) @ A.T).reshape(2, 4, 4, 3)
    np.testing.assert_allclose(y, expected / largest, rtol=1e-4, atol=1e-5)


def test_a_small_weight_is_left_as_it_is():
    layer, x = conv(gain=0.01), draw(2, 4, 4, 2)
    np.testing.assert_allclose(forward(layer, x), forward(layer.layer, x), rtol=1e-6)


def test_the_gradient_runs_through_sigma_as_in_the_paper(x64):
    """∂/∂W of ⟨G, W/σ⟩ is (G − ⟨G, Ŵ⟩ u vᵀ)/σ for a dense layer with exact singular vectors (Miyato et al., eq. 12)."""
    dense = models.Dense(4, 3, kernel_init=nnx.initializers.normal(5.0), param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    layer = models.SpectralNorm(dense, start=2000, rngs=nnx.Rngs(1))
    layer.eval()
    G = np.random.default_rng(0).standard_normal((4, 3))
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(G * nnx.merge(graphdef, p, rest).normalised())))(params)
    kernel = np.asarray(dense.kernel[...])
    U, s, Vt = np.linalg.svd(kernel)
    outer = np.outer(U[:, 0], Vt[0])
    expected = (G - np.sum(G * kernel) / s[0] * outer) / s[0]
    np.testing.assert_allclose(gradient["layer"]["kernel"][...], expected, atol=1e-8)


def test_evaluation_does_not_advance_the_vectors():
    layer, x = conv(start=1), draw(2, 4, 4, 2)
    layer.eval()
    before = layer.u[...].copy()
    np.testing.assert_array_equal(forward(layer, x), forward(layer, x))
    np.testing.assert_array_equal(layer.u[...], before)
    layer.train()
    forward(layer, x)
    assert not np.allclose(layer.u[...], before)


def test_the_probe_shows_the_normalised_layer():
    make = nnx.jit(lambda: models.GAN(input_shape=(4, 4, 1), widths=(3,), generator_widths=(4,), rngs=nnx.Rngs(0)))
    model = make()
    model.eval()

    @jax.jit
    def both(model, x):
        jacobians = la.layer_jacobians(model, x)["discriminator/layers/0"]
        return la.materialize(jacobians[0]), la.materialize(model.discriminator.layers[0].operator((4, 4, 1)))

    found, expected = both(model, jnp.ones((2, 4, 4, 1)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: conv("kernl"), UnknownNameError, "did you mean 'kernel'"),
        (lambda: models.SpectralNorm(nnx.Dropout(0.5), rngs=nnx.Rngs(0)), LinearAlgebraError, "kernel and operator"),
        (lambda: conv()(jnp.ones((1, 5, 4, 2))), DimensionMismatch, r"made for inputs \(4, 4, 2\)"),
        (lambda: group_sort(2)(jnp.ones(3)), DimensionMismatch, "groups of 2 do not divide 3"),
    ],
)
def test_wrong_use_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("name", ["maxmin", "groupsort4"])
def test_sorting_activations_permute(name):
    x = draw(8)
    J = np.asarray(jax.jit(jax.jacobian(activations[name]))(x))
    np.testing.assert_array_equal(np.sort(J, axis=0), np.eye(8)[::-1].cumsum(0)[-1] * np.array([[0]] * 7 + [[1]]))
    np.testing.assert_array_equal(J @ J.T, np.eye(8))
    np.testing.assert_array_equal(np.sort(activations[name](x)), np.sort(x))


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_slope_bounds_hold(name, x64):
    slopes = np.asarray(jax.jit(jax.vmap(jax.grad(activations[name])))(np.linspace(-8, 8, 4001)))
    low, high = SLOPES[name]
    assert low - 1e-12 <= float(slopes.min()) and float(slopes.max()) <= high + 1e-12
    assert high - float(slopes.max()) < 0.02  # and they are not loose


def test_lipschitz_bounds_enclose_the_true_constant():
    """One hidden ReLU layer with independent rows: the constant is the largest ‖W₂ D W₁‖ over all 0/1 diagonals D."""

    @nnx.jit
    def build():
        options = {"activation": "relu", "kernel_init": "gaussian"}
        return models.MLP(input_shape=(6,), num_classes=3, widths=(5,), rngs=nnx.Rngs(0), **options)

    mlp = build()
    W1, W2 = (np.asarray(layer.kernel[...]).T for layer in (mlp.layers[0], mlp.head))
    true = max(np.linalg.norm((W2 * np.array(D)) @ W1, 2) for D in itertools.product([0.0, 1.0], repeat=5))
    inputs = draw(200, 6)
    lower, tighter, product = models.lipschitz_bound(mlp, (6,), inputs)
    slopes = inputs @ W1.T + np.asarray(mlp.layers[0].bias[...]) > 0
    np.testing.assert_allclose(lower, max(np.linalg.norm((W2 * D) @ W1, 2) for D in slopes), rtol=1e-5)
    assert float(lower) <= true + 1e-5
    assert true <= float(tighter) + 1e-5
    assert float(tighter) < 0.99 * float(product)


def test_lipschitz_bounds_enclose_the_true_constant_of_a_discriminator():
    """One hidden leaky layer of two inputs: kinks through the origin cut the plane into cones, each with its diagonal D
    of slopes, and the constant is the largest ‖s Ŵ₂ D Ŵ₁‖ over them."""
    critic = nnx.jit(lambda: models.Discriminator((2,), widths=(6,), scale=5.0, rngs=nnx.Rngs(0)))()
    for _ in range(30):  # the estimates of the norms converge, from below
        forward(critic, np.ones((1, 2), np.float32))
    critic.eval()
    normalised = jax.jit(lambda critic: [layer.normalised().T for layer in (critic.layers[0], critic.head)])
    W1, W2 = map(np.asarray, normalised(critic))
    angles = np.sort(np.arctan2(-W1[:, 0], W1[:, 1]) % np.pi)  # of the kinks
    between = np.append(angles, angles[0] + np.pi)
    middle = (between[1:] + between[:-1]) / 2
    cones = [sign * np.array([np.cos(a), np.sin(a)]) for a in middle for sign in (1, -1)]
    slopes = (np.where(W1 @ x > 0, 1.0, 0.2) for x in cones)
    true = max(np.linalg.norm(5 * (W2 * slope) @ W1, 2) for slope in slopes)
    bounds = jax.jit(lambda critic, x: models.lipschitz_bound(critic, (2,), x))
    lower, tighter, product = bounds(critic, draw(1, 2))
    assert float(lower) <= true * (1 + 1e-6)
    best = cones[int(np.argmax([np.linalg.norm((W2 * np.where(W1 @ x > 0, 1.0, 0.2)) @ W1, 2) for x in cones]))]
    assert float(bounds(critic, jnp.asarray(best, jnp.float32)[None]).lower) == pytest.approx(true, rel=1e-5)
    assert true <= float(tighter) * (1 + 1e-6) < float(product) <= 5 * 1.01


def test_lipschitz_bounds_of_a_linear_network_are_exact_when_tight():
    @nnx.jit
    def build():
        options = {"activation": "identity", "kernel_init": "gaussian"}
        return models.MLP(input_shape=(6,), num_classes=3, widths=(5, 4), rngs=nnx.Rngs(0), **options)

    mlp = build()
    true = np.linalg.norm(np.linalg.multi_dot([np.asarray(layer.kernel[...]) for layer in (*mlp.layers, mlp.head)]), 2)
    lower, tighter, product = models.lipschitz_bound(mlp, (6,), draw(1, 6))
    np.testing.assert_allclose([lower, tighter], true, rtol=1e-5)
    assert float(product) > 1.1 * true
    with pytest.raises(NonFiniteError, match="lipschitz_bound needs finite numbers"):
        models.lipschitz_bound(mlp, (6,), jnp.full((1, 6), jnp.nan))


@pytest.mark.parametrize("pool", ["mean", pytest.param("flatten", marks=pytest.mark.slow)])
def test_lipschitz_bounds_of_residual_networks_and_discriminators_are_in_order(pool):
    x = draw(1, 4, 4, 1)

    @nnx.jit
    def both():
        size, rngs = (4, 4, 1), nnx.Rngs(0)
        return (
            models.ResNet(input_shape=size, num_classes=3, widths=(2, 3), pool=pool, activation="tanh", rngs=rngs),
            models.GAN(input_shape=size, widths=(2, 3), generator_widths=(3,), scale=2.0, rngs=rngs),
        )

    resnet, gan = both()
    gan.eval()
    bounds = jax.jit(lambda model, x: models.lipschitz_bound(model, (4, 4, 1), x))
    for model in (resnet, gan):
        lower, tighter, product = bounds(model, x)
        assert 0 < float(lower) <= float(tighter) <= float(product) * (1 + 1e-6)
    assert float(product) <= 2 * 1.01  # norms ≤ 1 as far as the power iteration has converged, times scale


def test_what_gives_no_parts_is_refused():
    with pytest.raises(LinearAlgebraError, match="gives no parts"):
        models.lipschitz_bound(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), (2,))
    with pytest.raises(UnknownNameError, match="slope bound"):
        slope("sine")
