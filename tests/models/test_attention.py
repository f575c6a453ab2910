"""Attention from its definition, L2 attention, and the collapse of tokens with and without skips."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, UnknownNameError


@pytest.mark.parametrize("kind", ["softmax", "l2"])
def test_attention_is_its_definition(kind):
    """Against NumPy, head by head and token by token."""
    layer = nnx.jit(lambda: models.Attention(4, heads=2, kind=kind, rngs=nnx.Rngs(0)))()
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    q, v = x @ np.asarray(layer.query.kernel[...]), x @ np.asarray(layer.value.kernel[...])
    k = q if kind == "l2" else x @ np.asarray(layer.key.kernel[...])
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        if kind == "softmax":
            scores = q[:, h] @ k[:, h].T
        else:
            scores = -np.array([[np.sum((a - b) ** 2) for b in k[:, h]] for a in q[:, h]])
        A = np.exp(scores / 2**0.5)
        A /= A.sum(1, keepdims=True)
        heads.append(A @ v[:, h])
    expected = np.concatenate(heads, axis=1) @ np.asarray(layer.output.kernel[...])
    np.testing.assert_allclose(jax.jit(lambda layer, x: layer(x[None])[0])(layer, x), expected, atol=1e-5)


def blocks(depth, skip):
    build = lambda i: models.AttentionBlock(64, skip=skip, mlp=False, output=False, rngs=nnx.Rngs(i))  # noqa: E731
    return [build(i) for i in range(depth)]


def test_tokens_collapse_without_skips_and_do_not_with_them(key):
    """n = d = 64: residuals near 0.99, 0.85, 0.018, 6e-8 without skips; with them most is left at layer 8."""
    x = jax.random.normal(key, (1, 64, 64))
    collapse = jax.jit(models.collapse)
    residual, sigma = map(np.asarray, collapse(blocks(3, skip=False), x))
    np.testing.assert_allclose(residual[0], (1 - 1 / 64) ** 0.5, atol=0.01)
    assert 0.75 < float(residual[1]) < 0.95
    assert 0.003 < float(residual[2]) < 0.06
    assert float(residual[3]) < 1e-5
    # a row-stochastic matrix has σ₁ ≥ 1, and the more uniform the attention, the wider the gap
    assert (sigma[:, 0] > 1 - 1e-5).all()
    gap = sigma[:, 0] / sigma[:, 1]
    assert float(gap[0]) > 1.5 and float(gap[1]) > 10 * float(gap[0])
    with_skips, _ = collapse(blocks(8, skip=True), x)
    assert 0.4 < float(with_skips[8]) < 0.8


def test_the_jacobian_of_uniform_attention_is_known():
    """At equal tokens A = 11ᵀ/n for both kinds, and to first order y_i = mean_j x_j W: J = (11ᵀ/n) ⊗ Wᵀ."""
    for kind in ("softmax", "l2"):

        @jax.jit
        def jacobian(x):
            layer = models.Attention(3, kind=kind, output=False, rngs=nnx.Rngs(0))  # noqa: B023
            return jax.jacfwd(lambda x: layer(x[None])[0])(x), layer.value.kernel[...]

        x = np.tile(np.random.default_rng(0).standard_normal(3).astype(np.float32), (4, 1))
        J, W = map(np.asarray, jacobian(x))
        np.testing.assert_allclose(J.reshape(12, 12), np.kron(np.ones((4, 4)) / 4, W.T), atol=1e-5)


def test_probes_show_its_layers(key):
    model = models.AttentionNet(input_shape=(3, 2), num_classes=2, width=4, depth=1, rngs=nnx.Rngs(0))
    found = la.layer_jacobians(model, jax.random.normal(key, (2, 3, 2)))
    assert {"blocks/0/attention", "blocks/0", "embed", "end_to_end"} <= set(found)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda r: models.Attention(4, heads=3, rngs=r), DimensionMismatch, "3 heads must divide the features, got 4"),
        (lambda r: models.Attention(4, kind="l3", rngs=r), UnknownNameError, "did you mean 'l2'"),
        (lambda r: models.Attention(4, rngs=r)(jnp.ones((3, 4))), DimensionMismatch, "takes tokens"),
        (lambda r: models.create("attention", input_shape=(3,), rngs=r), DimensionMismatch, "takes"),
    ],
)
def test_wrong_options_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build(nnx.Rngs(0))
