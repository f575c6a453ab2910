"""Layers that are orthogonal by construction: their operators, their agreement with the forward pass, their use."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch

cases = pytest.mark.parametrize(
    ("cin", "cout", "kernel", "size", "strides"),
    [
        (1, 4, 2, (6, 4), 2),
        (3, 2, (1, 3), (3, 5), 1),
        pytest.param(2, 2, 3, (4, 5), 1, marks=pytest.mark.slow),
        pytest.param(1, 2, 2, (6, 6), 3, marks=pytest.mark.slow),
    ],
)


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 5), (4, 4)])
def test_the_cayley_map_gives_orthonormal_columns_or_rows_from_any_matrix(shape, x64):
    rng = np.random.default_rng(0)
    scale = np.array([1e-3, 1e3]).reshape(-1, *(1 for _ in shape))
    W = scale * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    Q = np.asarray(jax.jit(models.semi_orthogonal)(W))
    gram = Q.conj().swapaxes(-1, -2) @ Q if shape[-2] >= shape[-1] else Q @ Q.conj().swapaxes(-1, -2)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(min(shape[-2:])), gram.shape), atol=1e-7)
    if shape == (4, 4):  # of a square matrix only the skew part counts, and it is the Cayley transform of it
        S = W - W.conj().swapaxes(-1, -2)
        np.testing.assert_allclose(Q, (np.eye(4) - S) @ np.linalg.inv(np.eye(4) + S), atol=1e-7)


@cases
def test_the_operator_is_orthogonal_and_the_linear_part(cin, cout, kernel, size, strides):
    """All singular values are 1, for weights ten times as large too; the operator is what the layer does."""
    bias = np.arange(1.0, 1 + cout, dtype=np.float32)
    x = np.random.default_rng(0).standard_normal((2, *size, cin)).astype(np.float32)

    @jax.jit
    def apply(x):
        layer = models.OrthogonalConv(cin, cout, kernel, input_size=size, strides=strides, rngs=nnx.Rngs(0))
        layer.kernel[...] *= 10
        layer.bias[...] = bias
        A = layer.operator((*size, cin))
        return A, la.materialize(A), layer(x)

    A, W, y = apply(x)
    W = np.asarray(W)
    np.testing.assert_allclose(np.linalg.svd(W, compute_uv=False), 1, atol=2e-5)
    expected = np.stack([W @ one.ravel() for one in x]).reshape(2, *A.out_spatial, cout) + bias
    np.testing.assert_allclose(y, expected, atol=2e-5)


def test_the_free_kernel_reaches_its_own_pixels_to_first_order():
    """Near 0 the Cayley map is W ↦ I − (W − Wᵀ): a small kernel gives the identity less a small stencil of its size."""

    @jax.jit
    def apply(x):
        layer = models.OrthogonalConv(1, 1, 3, input_size=(9, 9), rngs=nnx.Rngs(0))
        layer.kernel[...] *= 1e-2
        return layer(x)

    spot = np.zeros((9, 9, 1), np.float32)
    spot[4, 4] = 1.0
    y = np.abs(np.asarray(apply(spot))[..., 0])
    assert y[4, 4] == pytest.approx(1, abs=0.01)
    far = np.ones((9, 9), bool)
    far[2:7, 2:7] = False
    assert y[far].max() < 0.1 * np.sort(y.ravel())[-2]


def test_a_discriminator_of_them_keeps_its_gradients_norm():
    """Into ever more features with maxmin, all layers but the head are isometries: ‖∇‖ is the scale, and the bounds say
    so from above; training moves the weights and not this."""
    options = {"activation": "maxmin", "normalisation": "orthogonal", "scale": 3.0}
    critic = nnx.jit(lambda: models.Discriminator((4, 4, 1), widths=(4,), rngs=nnx.Rngs(0), **options))()
    x = np.random.default_rng(0).standard_normal((5, 4, 4, 1)).astype(np.float32)
    gradient = jax.jit(lambda critic, x: jax.vmap(jax.grad(lambda x: critic(x[None])[0, 0]))(x))
    np.testing.assert_allclose(np.linalg.norm(np.asarray(gradient(critic, x)).reshape(5, -1), axis=1), 3, rtol=1e-4)
    bounds = jax.jit(lambda critic: models.lipschitz_bound(critic, (4, 4, 1)))(critic)
    np.testing.assert_allclose([bounds.tighter, bounds.product], 3, rtol=1e-4)
    slopes = nnx.jit(nnx.grad(lambda critic, x: jnp.sum(critic(x) ** 2)))(critic, x)
    assert all(np.any(layer["kernel"][...]) for layer in slopes["layers"].values())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda r: models.OrthogonalConv(1, 4, 2, input_size=(5, 4), strides=2, rngs=r), "strides=2 must divide"),
        (lambda r: models.OrthogonalConv(1, 4, 5, input_size=(8, 8), strides=2, rngs=r), r"does not fit \(4, 4\)"),
        (lambda r: models.OrthogonalConv(1, 1, input_size=(4, 4), rngs=r)(jnp.ones((1, 5, 4, 1))), "takes images"),
        (lambda r: models.OrthogonalDense(3, 2, rngs=r)(jnp.ones(4)), "OrthogonalDense 3→2 got an input"),
        (lambda r: models.Discriminator((5, 5, 1), normalisation="orthogonal", rngs=r), "strides=2 must divide"),
    ],
)
def test_wrong_sizes_are_refused(build, message):
    with pytest.raises(DimensionMismatch, match=message):
        build(nnx.Rngs(0))


def test_in_half_precision_norms_are_kept_to_its_rounding():
    @jax.jit
    def norms(x, image):
        half = {"param_dtype": jnp.bfloat16, "rngs": nnx.Rngs(0)}
        dense, conv = (
            models.OrthogonalDense(6, 8, **half),
            models.OrthogonalConv(1, 4, 2, **half, input_size=(4, 4), strides=2),
        )
        y, z = dense(x), conv(image)
        assert y.dtype == z.dtype == conv.operator((4, 4, 1)).dtype == jnp.bfloat16
        return [
            jnp.linalg.norm(a.astype(jnp.float32)) / jnp.linalg.norm(b.astype(jnp.float32))
            for a, b in ((y, x), (z, image))
        ]

    rng = np.random.default_rng(0)
    x, image = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in ((6,), (4, 4, 1)))
    np.testing.assert_allclose(norms(x, image), 1, atol=0.02)
