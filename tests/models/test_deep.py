"""Deep stacks by one scan: the same function as layer by layer, isometric at the start, and the exact Saxe dynamics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from models.deep_conv import same_convolution
from train.regularizers import make_penalty, so
from train.state import split


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 3)])
def test_same_convolution_is_the_convolution(circular, kernel, key):
    K = jax.random.normal(key, (*kernel, 2, 3))
    x = jax.random.normal(key, (2, 4, 5, 2))
    A = la.Convolution(K, (4, 5), padding="circular" if circular else "zero")
    expected = jnp.stack([(A @ one.ravel()).reshape(4, 5, 3) for one in x])
    np.testing.assert_allclose(same_convolution(x, K, circular), expected, atol=1e-5)


def stack(depth, **options):
    return models.ConvStack(3, depth=depth, rngs=nnx.Rngs(0), **options)


def test_the_scan_is_the_composition_of_its_layers_with_or_without_remat(key):
    one, x = stack(6), jax.random.normal(key, (2, 4, 4, 3))
    h = x
    for kernel, bias in zip(one.kernel[...], one.bias[...]):
        h = jnp.tanh(same_convolution(h, kernel) + bias)
    np.testing.assert_allclose(one(x), h, atol=1e-6)
    again = stack(6, remat=True)
    loss = lambda model, x: jnp.sum(model(x) ** 2)  # noqa: E731
    plain, saved = (nnx.grad(loss)(model, x) for model in (one, again))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), nnx.to_pure_dict(plain), nnx.to_pure_dict(saved)
    )


def test_layer_jacobians_start_near_isometries_at_any_depth(key):
    """On the critical line χ = 1: σ_w φ' is near 1, so every layer's singular values are, and so is their product."""
    model = stack(64)
    x = 0.025**0.5 * jax.random.normal(key, (1, 3, 3, 3))
    s = jax.jit(lambda model, x: la.svdvals(model.jacobians(x)))(model, x)[:, 0]
    assert s.shape == (64, 27)
    assert float(s.min()) > 0.7 and float(s.max()) < 1.03
    np.testing.assert_allclose(jnp.mean(s**2), 1, atol=0.06)


def test_the_bridge_sees_every_layer_of_the_scan(key):
    model = models.DeepConvNet(input_shape=(3, 3, 1), num_classes=2, depth=4, channels=2, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (2, 3, 3, 1))
    depth = la.layer_jacobians(model, x, "stack/depth")["stack/depth"]
    s = jax.jit(la.svdvals)(depth)
    assert s.shape == (4, 2, 18)
    h = model.stack.activation(model.stem(x))
    step = jax.jit(lambda h, layer: model.stack.step(h, layer)[0])
    jacobian = jax.jit(jax.jacfwd(lambda h, layer: step(h[None], layer)[0]))
    for layer in range(4):
        weights = model.stack.kernel[layer], model.stack.bias[layer]
        J = jacobian(h[1], weights).reshape(18, 18)
        np.testing.assert_allclose(s[layer, 1], np.linalg.svd(J, compute_uv=False), atol=1e-5)
        h = step(h, weights)


def measure(depth: int) -> tuple[float, int]:
    """The gradient's norm at the first layer, and the number of equations of the program, for this depth."""
    model = models.DeepConvNet(
        input_shape=(4, 4, 1), num_classes=3, depth=depth, channels=3, remat=True, rngs=nnx.Rngs(0)
    )
    graphdef, params = nnx.split(model)
    x = jax.random.normal(jax.random.key(0), (4, 4, 4, 1))

    def loss(params):
        return -jnp.mean(jax.nn.log_softmax(nnx.merge(graphdef, params)(x))[:, 0])

    gradient = jax.jit(jax.grad(loss))(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    return float(jnp.linalg.norm(gradient["stem"]["kernel"][...])), str(jax.make_jaxpr(jax.grad(loss))(params)).count(
        " = "
    )


def test_gradients_are_finite_and_the_program_is_the_same_at_any_depth():
    """The same scale of gradient through 16 and 1,024 layers, by a program of the same length."""
    (shallow, short), (deep, long) = measure(16), measure(1024)
    assert short == long
    assert 0.2 < deep / shallow < 5


@pytest.mark.slow
def test_ten_thousand_layers_have_the_gradient_of_a_hundred():
    assert 0.1 < measure(10_000)[0] / measure(100)[0] < 10


def test_regularisers_see_the_layers_of_a_stack():
    model = models.DeepConvNet(input_shape=(4, 4, 1), num_classes=3, depth=3, channels=2, rngs=nnx.Rngs(0))
    params = split(model)[1]
    expected = sum(so(kernel.reshape(18, 2)) for kernel in params["stack/kernel"])
    np.testing.assert_allclose(make_penalty("so", "stack", params, model)(params), expected, rtol=1e-5)
    gain = models.critical_point("tanh", 0.025)[0] ** 0.5  # delta-orthogonal times gain: only the diagonal is off
    overlaps = make_penalty("ocnn", "stack", params, model)(params)
    np.testing.assert_allclose(overlaps, 3 * 2 * (gain**2 - 1) ** 2, rtol=1e-3)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_saxe_modes_solve_their_equation(depth, x64):
    """Against a fine Runge–Kutta integration of τ u' = L u^{2 − 2/L}(s − u), and u(0) = u₀, u(∞) = s."""
    s, u0, tau = 1.7, 0.02, 0.8
    rate = lambda u: depth * u ** (2 - 2 / depth) * (s - u) / tau  # noqa: E731
    u, h, expected = u0, 1e-3, [u0]
    for _ in range(4000):
        a = rate(u)
        b = rate(u + h * a / 2)
        c = rate(u + h * b / 2)
        d = rate(u + h * c)
        u += h * (a + 2 * b + 2 * c + d) / 6
        expected.append(u)
    t = jnp.arange(0, 4001, 400) * h
    np.testing.assert_allclose(models.saxe_mode(t, s, u0, depth, tau), expected[::400], rtol=1e-8)
    np.testing.assert_allclose(models.saxe_mode(jnp.array(1e3), s, u0, depth, tau), s, rtol=1e-8)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_deep_linear_network_learns_its_modes_as_predicted(depth, x64):
    """Gradient descent with a small rate on white inputs, from balanced layers: singular values follow `saxe_mode`."""
    strengths, u0, rate, steps = np.array([3.0, 1.5, 0.7]), 0.2, 1e-3, 1500
    start = nnx.initializers.constant(0.0)
    model = models.DeepLinear(
        input_shape=(3,), num_classes=3, depth=depth, width=3, kernel_init=start, rngs=nnx.Rngs(0)
    )
    U, V = (np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0] for seed in (0, 1))
    target = jnp.asarray(U @ np.diag(strengths) @ V.T)
    factors = [u0 ** (1 / depth) * np.eye(3) for _ in range(depth)]
    factors[0], factors[-1] = factors[0] @ V.T, U @ factors[-1]
    for layer, W in zip(model.layers, factors):
        layer.kernel.set_value(jnp.asarray(W.T))
    graphdef, params = nnx.split(model)
    loss = lambda p: jnp.sum((la.materialize(nnx.merge(graphdef, p).operator()) - target) ** 2) / 2  # noqa: E731

    def update(p, _):
        return jax.tree.map(lambda a, g: a - rate * g, p, jax.grad(loss)(p)), nnx.merge(graphdef, p).operator().array

    _, course = jax.lax.scan(update, params, None, length=steps)
    found = np.einsum("ji,tjk,kl->til", U, course, V)
    for i, s in enumerate(strengths):
        predicted = models.saxe_mode(rate * jnp.arange(steps), s, u0, depth)
        np.testing.assert_allclose(found[:, i, i], predicted, atol=0.02 * s)
        assert abs(found[-1, i, i] - u0) > 0.1


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: stack(0), DimensionMismatch, "depth must be an integer ≥ 1, got 0"),
        (lambda: stack(2, padding="valid"), UnknownNameError, "circular, zero"),
        (lambda: models.saxe_mode(jnp.ones(1), 1.0, 2.0, 2), LinearAlgebraError, "0 < u0 < s"),
        (
            lambda: models.DeepConvNet(input_shape=(8,), num_classes=2, rngs=nnx.Rngs(0)),
            DimensionMismatch,
            "takes images",
        ),
    ],
)
def test_wrong_options_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()
