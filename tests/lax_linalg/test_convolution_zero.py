"""Closed routes to the spectra of zero-padded convolutions, each against the SVD of the materialised matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import lax_linalg as la
from lax_linalg.operators.convolution.zero_padding import closed_svdvals


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def symmetric(w: np.ndarray, *axes: int) -> np.ndarray:
    for axis in axes:
        w = w + np.flip(w, axis)
    return w


BY_GEOMETRY = {
    "1×1, padded and strided": lambda: la.Convolution(draw(0, 1, 1, 2, 3), (3, 4), stride=2, padding=((1, 0), (0, 2))),
    "1×1, grouped": lambda: la.Convolution(draw(0, 1, 2, 4), 3, groups=2),
    "one channel": lambda: la.Convolution(draw(0, 4, 1, 1), 5),
    "depthwise": lambda: la.Convolution(draw(0, 3, 3, 1, 2), (3, 3), groups=2),
}
BY_VALUES = {
    "rows times columns": lambda: la.Convolution(np.einsum("a,bio->abio", draw(0, 3), draw(1, 3, 2, 2)), (3, 4)),
    "columns times rows": lambda: la.Convolution(
        np.einsum("b,aio->abio", draw(0, 3), draw(1, 3, 2, 2)), (3, 4), stride=2
    ),
    "space times channels": lambda: la.Convolution(np.einsum("ab,io->abio", draw(0, 3, 3), draw(1, 2, 3)), (3, 3)),
    "mirrored along rows": lambda: la.Convolution(symmetric(draw(0, 3, 3, 2, 2), 0), (3, 4)),
    "mirrored along both, strided": lambda: la.Convolution(symmetric(draw(0, 3, 3, 2, 1), 0, 1), (3, 5), stride=2),
}


DEEP = ("1×1, grouped", "columns times rows", "mirrored along rows")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in DEEP else ()) for n in (*BY_GEOMETRY, *BY_VALUES)]
)
def test_closed_routes(name, x64):
    A = (BY_GEOMETRY | BY_VALUES)[name]()
    want = np.linalg.svd(np.asarray(jax.jit(la.materialize)(A)), compute_uv=False)
    closed = closed_svdvals(A)
    assert closed is not None
    np.testing.assert_allclose(closed, want, atol=1e-13 * want[0])
    # under jit the geometry is known and the values are not
    traced = jax.eval_shape(lambda A: closed_svdvals(A), A)
    assert (traced is not None) == (name in BY_GEOMETRY)


def test_kernels_without_structure_take_no_closed_route(x64):
    w = draw(0, 3, 3, 2, 2)
    for A in (
        la.Convolution(w, (3, 4)),
        la.Convolution(symmetric(w, 0, 1), (4, 4), stride=2),  # the last row of the padding has no window
        la.Convolution(symmetric(w, 0, 1), (3, 3), padding=((1, 0), (2, 1))),
        la.Convolution(np.einsum("a,bio->abio", draw(0, 3), draw(1, 3, 2, 2)) + 1e-9 * w, (3, 4)),
    ):
        assert closed_svdvals(A) is None


def test_gradient_of_a_depthwise_layer(x64):
    f = jax.jit(lambda w: jnp.sum(la.svdvals(la.Convolution(w, 4, groups=2)) ** 3))
    check_grads(f, (jnp.asarray(draw(0, 3, 1, 2)),), order=1, modes=["rev"], rtol=1e-5)
