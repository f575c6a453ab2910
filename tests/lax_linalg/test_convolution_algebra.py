"""Products of convolutions are convolutions, and lazy transposes and multiples never form what they wrap."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la

PAIRS = {
    # (kernels of A and of B, image of B, strides, dilations, groups)
    "line": ((3,), (2,), (7,), ((1,), (1,)), ((1,), (1,)), (1, 1)),
    "strided": ((2, 3), (3, 2), (4, 6), ((1, 2), (2, 1)), ((1, 1), (2, 1)), (1, 1)),
    "longer than the image": ((3, 3), (3, 2), (3, 2), ((1, 1), (1, 1)), ((2, 1), (1, 2)), (1, 1)),
    "grouped": ((3,), (3,), (8,), ((1,), (2,)), ((1,), (1,)), (2, 2)),
    "one grouped": ((2,), (3,), (6,), ((1,), (1,)), ((1,), (1,)), (1, 2)),
    "many taps": ((9,) * 2, (9,) * 2, (9, 9), ((1, 1), (1, 1)), ((1, 1), (1, 1)), (1, 1)),
}


@pytest.mark.parametrize(
    ("pair", "padding"),
    [
        pytest.param(p, q, marks=() if (p in ("line", "one grouped")) == (q == "valid") else pytest.mark.slow)
        for p in PAIRS
        for q in ("circular", "valid")
    ],
)
def test_products_are_convolutions(pair, padding, x64):
    ka, kb, spatial, strides, dilations, groups = PAIRS[pair]
    channels = 1 if pair == "many taps" else 2
    draw = np.random.default_rng(0).standard_normal
    if padding == "valid":  # B is padded, A is not
        spatial = tuple(n + 9 for n in spatial)
    pads = padding if padding == "circular" else [(1, 2)] * len(spatial)
    B = la.Convolution(draw((*kb, channels, 2 * channels)), spatial, strides[1], pads, dilations[1], groups[1])
    shape = (*ka, 2 * channels // groups[0], 2)
    A = la.Convolution(draw(shape), B.out_spatial, strides[0], padding, dilations[0], groups[0])
    product, *matrices = jax.jit(lambda A, B: (A @ B, *map(la.materialize, (A, B, A @ B))))(A, B)
    assert isinstance(product, la.Convolution)
    assert product.circular == (padding == "circular") and product.groups == (
        groups[0] if groups[0] == groups[1] else 1
    )
    a, b, got = map(np.asarray, matrices)
    np.testing.assert_allclose(got, a @ b, atol=1e-12 * np.abs(a @ b).max())


def test_other_products_stay_lazy():
    A, B = (la.Convolution(jnp.ones((3, 1, 1)), 9, padding=p) for p in ("zero", "circular"))
    for left, right in ((A, A), (A, B), (B, A)):
        assert isinstance(left @ right, la.Product)
    # what A wraps around ends where B's image does not
    B = la.Convolution(jnp.ones((3, 1, 1)), 9, stride=2, padding="circular")
    A = la.Convolution(jnp.ones((3, 1, 1)), 5, padding="circular")
    assert isinstance(A @ B, la.Product)


def test_lazy_transposes_and_multiples_use_what_they_wrap():
    w = np.random.default_rng(0).standard_normal((3, 3, 2, 4)).astype(np.float32)
    A = la.Convolution(w, (16, 16), stride=2, padding="circular")
    assert isinstance(A.T, la.Transpose)
    P = la.Permutation(np.random.default_rng(1).permutation(A.shape[0]))
    with la.dense_limit(1000):  # no matrix of this size is formed
        values = jax.jit(lambda B: (la.svdvals(B), la.opnorm(B), la.cond(B)))
        s = np.asarray(la.svdvals(A))
        for B, factor in ((A.T, 1), (A.H, 1), (la.Scaled(jnp.float32(-2), A.T), 2), (P @ A, 1), (A.T @ P, 1)):
            svdvals, opnorm, cond = values(B)
            np.testing.assert_allclose(svdvals, factor * s, rtol=1e-5)
            np.testing.assert_allclose(opnorm, factor * s[0], rtol=1e-5)
            np.testing.assert_allclose(cond, s[0] / s[-1], rtol=1e-4)
        one, other = jax.jit(lambda A: (la.opnorm(A.T, 1), la.opnorm(A, jnp.inf)))(A)
        np.testing.assert_allclose(one, other, rtol=1e-6)

        @jax.jit
        def lazy_system(T, D, b):
            system = la.Product((T, D))
            return system @ la.solve(system, b), la.logdet(system), la.logdet(T) + la.logdet(D)

        T = la.SymTridiagonal(np.full(2000, 3.0, "f4"), np.ones(1999, "f4"))
        product, logdet, want = lazy_system(T, la.Diagonal(np.full(2000, 2.0, "f4")), np.ones(2000, "f4"))
        np.testing.assert_allclose(product, 1, rtol=1e-5)
        np.testing.assert_allclose(logdet, want, rtol=1e-5)


def test_condition_numbers_of_singular_matrices_have_no_nan_as_gradient(x64):
    for p in (1, jnp.inf):
        gradient = jax.jit(jax.grad(functools.partial(la.cond, p=p)))
        for a in (np.ones((3, 3)), np.zeros((3, 3)), np.eye(3)):
            assert (np.asarray(gradient(a)) == 0).all()
