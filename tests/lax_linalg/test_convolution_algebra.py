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
    for left, right in ((A, B), (B, A)):
        assert isinstance(left @ right, la.Product)
    # what A wraps around ends where B's image does not
    B = la.Convolution(jnp.ones((3, 1, 1)), 9, stride=2, padding="circular")
    A = la.Convolution(jnp.ones((3, 1, 1)), 5, padding="circular")
    assert isinstance(A @ B, la.Product)
    # a window as large as the image, and weights above the limit
    A = la.Convolution(jnp.ones((5, 1, 1)), 8)
    assert isinstance(A @ A, la.Product)
    A = la.Convolution(jnp.ones((3, 1, 1)), 100)
    with la.dense_limit(1000):
        assert isinstance(A @ A, la.Product) and isinstance(la.Diagonal(np.ones(100, "f4")) @ A, la.Product)


@pytest.mark.parametrize(
    ("spatial", "kernel", "stride", "dilation", "padding", "groups"),
    [
        ((9, 8), (3, 2), (2, 1), (1, 2), ((1, 1), (0, 2)), 2),
        pytest.param((13,), (3,), (2,), (2,), ((3, 1),), 1, marks=pytest.mark.slow),
        pytest.param((12, 8), (3, 2), (2, 1), (1, 1), "circular", 2, marks=pytest.mark.slow),
    ],
)
def test_compositions_of_windows_and_diagonals_are_locally_connected(
    spatial, kernel, stride, dilation, padding, groups, x64
):
    draw, d = np.random.default_rng(0).standard_normal, len(spatial)
    B = la.Convolution(draw((*kernel, 2 // groups, 4)), spatial, stride, padding, dilation, groups)
    A = la.Convolution(draw((*(2,) * d, 4, 2)), B.out_spatial, padding="circular" if B.circular else "zero")
    other = la.Convolution(draw((*(1,) * d, 2, 4)), spatial, stride, "circular" if B.circular else "valid")
    S = la.Convolution(draw((*kernel, 1, 2)), spatial, padding="circular" if B.circular else "zero", groups=2)
    D, E, F = (la.Diagonal(draw(n)) for n in (A.shape[0], A.shape[1], S.shape[0]))

    @jax.jit
    def compositions(A, B, other, S, D, E, F):
        first = D @ A @ E
        made = [first, first @ B, F @ S + F, la.I + S, F + F @ S @ F]
        made += [B + other] if other.shape == B.shape else []
        return made, [la.materialize(X) for X in (A, B, other, S, *made)]

    made, matrices = compositions(A, B, other, S, D, E, F)
    (a, b, o, s), got = map(np.asarray, matrices[:4]), list(map(np.asarray, matrices[4:]))
    dd, e, f = (np.diag(np.asarray(X.diagonal)) for X in (D, E, F))
    want = [dd @ a @ e, dd @ a @ e @ b, f @ s + f, np.eye(len(s)) + s, f + f @ s @ f, b + o]
    assert [type(X).__name__ for X in made[:3]] == ["LocallyConnected"] * 3 and isinstance(made[3], la.Convolution)
    for X, Y, Z in zip(made, got, want):
        np.testing.assert_allclose(Y, Z, atol=1e-12 * np.abs(Z).max())
        assert isinstance(X, la.Convolution | la.LocallyConnected)


def test_taps_that_do_not_exist_bring_no_nan():
    """What reads the padding in between is no output of the other, even where its numbers are infinite."""
    A = la.Convolution(jnp.ones((3, 1, 1)), 5)
    B = la.Convolution(jnp.array([jnp.inf, 1.0, jnp.nan])[:, None, None], 5)
    L = A @ B
    assert isinstance(L, la.LocallyConnected)
    reached = np.asarray(la.materialize(L))
    for m in range(5):
        for j in range(5):
            numbers = [B.kernel[j - k + 1, 0, 0] for k in range(max(0, m - 1), min(5, m + 2)) if abs(j - k) <= 1]
            np.testing.assert_array_equal(reached[m, j], sum(numbers, np.float32(0)))


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
