"""Layers that act on every position alone have block-diagonal Jacobians, found from the program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
from lax_linalg.jacobian.positions import Positions, position_blocks, positions_of

R = np.random.default_rng(0)
W, V, POSITION = (jnp.asarray(R.standard_normal(shape), jnp.float32) for shape in ((4, 6), (6, 4), (5, 4)))
NORM = nnx.LayerNorm(4, rngs=nnx.Rngs(0))
PIXELS = nnx.Conv(4, 3, (1, 1), rngs=nnx.Rngs(0))
WINDOW = nnx.Conv(4, 3, (3, 1), rngs=nnx.Rngs(0))


def mlp(x):
    return jax.nn.gelu(x @ W) @ V


def heads(x):
    return jnp.einsum("hij,hjd->hid", jax.nn.softmax(jnp.einsum("hid,hjd->hij", x, x)), x)


CASES = {  # name -> (function, shape of the input, positions)
    "mlp": (mlp, (5, 4), Positions((0,), (0,))),
    "residual": (lambda x: x + jax.checkpoint(mlp)(x), (5, 4), Positions((0,), (0,))),
    "turned": (lambda x: mlp(x).T[::-1], (5, 4), Positions((0,), (1,))),
    "layer norm": (lambda x: NORM(x[None])[0], (5, 4), Positions((0,), (0,))),
    "images": (lambda x: NORM(x[None])[0], (2, 3, 4), Positions((0, 1), (0, 1))),
    "own parameters": (lambda x: jnp.sort(x + POSITION, axis=1) * jnp.cumsum(x, 1), (5, 4), Positions((0,), (0,))),
    "1×1 convolution": (lambda x: jnp.tanh(PIXELS(x[None])[0]), (3, 2, 4), Positions((0, 1), (0, 1))),
    "3×1 convolution": (lambda x: jnp.tanh(WINDOW(x[None])[0]), (3, 2, 4), Positions((1,), (1,))),
    "heads": (heads, (2, 3, 4), Positions((0,), (0,))),
    "gated": (lambda x: jax.nn.glu(x @ W) @ V[:3], (5, 4), Positions((0,), (0,))),
    "attention": (lambda x: jax.nn.softmax(x @ x.T) @ x, (5, 4), None),
    "part": (lambda x: mlp(x[:3]), (5, 4), None),
    "shifted": (lambda x: mlp(jnp.pad(x, ((1, 0), (0, 0)))[:-1]), (5, 4), None),
    "regrouped": (lambda x: mlp(x.reshape(5, 4)), (4, 5), None),
    "mean": (lambda x: mlp(x) - x.mean(0), (5, 4), None),
    "one": (lambda x: mlp(x[0]), (1, 4), None),
}


@pytest.mark.parametrize("name", CASES)
def test_positions_are_found_and_their_blocks_are_the_jacobian(name):
    f, shape, wanted = CASES[name]
    x = jnp.asarray(R.standard_normal(shape), jnp.float32)
    found = positions_of(f, x)
    assert found == wanted
    if found is None:
        return
    out = jax.eval_shape(f, x)
    J = jax.jit(jax.jacfwd(f))(x)
    columns = [axis + len(out.shape) for axis in found.inputs]
    J = np.moveaxis(J, [*found.outputs, *columns], range(2 * len(found.inputs)))
    blocks = position_blocks(f, x, (), found, 2**10)
    P, m, n = blocks.shape
    J = np.array(J).reshape(P, P, m, n)
    np.testing.assert_allclose(J[np.arange(P), np.arange(P)], blocks, atol=1e-5)
    J[np.arange(P), np.arange(P)] = 0
    np.testing.assert_array_equal(J, 0)


def test_spectra_are_exact_far_above_the_dense_limit():
    x = jnp.asarray(R.standard_normal((2, 5, 4)), jnp.float32)
    f = lambda x: x + mlp(x)  # noqa: E731
    J = la.jacobian(f, x[0])
    want = np.asarray(la.materialize(J), np.float64)
    with la.dense_limit(1000):  # the matrix takes 1,600 bytes
        with pytest.raises(la.DenseLimitError):
            la.materialize(J)
        np.testing.assert_allclose(jax.jit(la.svdvals)(J), np.linalg.svd(want, compute_uv=False), rtol=1e-5, atol=1e-6)
        got, eigenvalues = np.asarray(la.eigvals(J.T)), np.linalg.eigvals(want)
    assert np.abs(got[:, None] - eigenvalues).min(1).max() < 1e-4
    assert np.abs(got[:, None] - eigenvalues).min(0).max() < 1e-4
    nan = la.jacobian(f, x[0].at[1, 2].set(jnp.nan))
    assert np.isnan(jax.jit(la.svdvals)(nan)).all()


def test_a_probe_plans_blocks_by_positions():
    model = {"mlp": mlp}
    x = jnp.asarray(R.standard_normal((2, 700, 4)), jnp.float32)
    probe = la.SpectrumProbe(model, x, "mlp", memory_budget=2**20)
    assert probe.plan["mlp"].why == "700 positions of 4×4"
    record = probe.submit(0, model).result()
    assert record.methods == {"mlp": "exact"}
    J = jax.jit(jax.vmap(jax.vmap(jax.jacfwd(mlp))))(x)
    want = np.linalg.svd(J, compute_uv=False).reshape(2, -1)
    np.testing.assert_allclose(record.spectra["mlp"]["singular_values"], -np.sort(-want), rtol=1e-4, atol=1e-5)
