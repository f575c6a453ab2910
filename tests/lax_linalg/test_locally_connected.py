"""Locally connected maps: the seed formula, products, what is read off the weights, and tying as a projection."""

from __future__ import annotations

import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import lax_linalg as la
from lax_linalg.operators.convolution.window import occurrences
from tests.lax_linalg.gradients import check_gradient


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def entry_by_entry(A: la.LocallyConnected) -> np.ndarray:
    """The matrix by its definition: loops over outputs, taps and channels, in NumPy."""
    kernel = np.asarray(A.kernel)
    out = np.zeros((*A.out_spatial, A.out_channels, *A.spatial, A.in_channels), kernel.dtype)
    per_group, outputs = kernel.shape[-2], A.out_channels // A.groups
    for m in np.ndindex(*A.out_spatial):
        for t in np.ndindex(*A.kernel_size):
            j = [a * s - front + b * d for a, s, (front, _), b, d in zip(m, A.stride, A.pads, t, A.dilation)]
            if A.circular:
                j = [a % n for a, n in zip(j, A.spatial)]
            if all(0 <= a < n for a, n in zip(j, A.spatial)):
                for i, o in itertools.product(range(per_group), range(A.out_channels)):
                    out[(*m, o, *j, o // outputs * per_group + i)] += kernel[(*m, *t, i, o)]
    return out.reshape(A.shape)


def local(*kernel: int, spatial, **options) -> la.LocallyConnected:
    return la.LocallyConnected(draw(0, *kernel), spatial, **options)


CASES = {
    "valid": lambda: local(3, 2, 1, 1, spatial=4, padding="valid"),
    "strided": lambda: local(3, 3, 2, 1, spatial=6, stride=2, dilation=2),
    "wraps onto itself": lambda: local(3, 5, 1, 1, spatial=3, padding="circular"),
    "grouped": lambda: local(4, 4, 1, 4, spatial=4, groups=2),
    "image": lambda: local(2, 3, 3, 3, 2, 3, spatial=(4, 5), stride=2),
    "explicit": lambda: local(4, 3, 2, 2, 1, 2, spatial=(3, 3), padding=((2, 0), (0, 1))),
    "grouped image": lambda: local(3, 2, 3, 3, 1, 4, spatial=(3, 3), stride=(1, 2), groups=2, padding="circular"),
}


@jax.jit
def everything(A, X, Y, other):
    """All that the two tests below look at, compiled at once."""
    tied = A.tie()
    return {
        "entries": la.materialize(A),
        "product": A @ X,
        "transposed": A.T @ Y,
        "diagonal": la.diag(A),
        "norms": {p: la.norm(A, p) for p in (1, 2, 3.0, np.inf)},
        "operator norms": {p: la.opnorm(A, p) for p in (1, 2, np.inf)},
        "sum": la.materialize(A + 2 * A),
        "tied": tied,
        "tied entries": la.materialize(tied),
        "tied norms": {p: la.norm(tied, p) for p in (1, 2, 3.0, np.inf)},
        "tied operator norms": {p: la.opnorm(tied, p) for p in (1, 2, np.inf)},
        "tied diagonal": la.diag(tied),
        "again": tied.untie().tie(),
        "other": la.materialize(tied.with_kernel(other)),
        "projected": la.project(A, onto=la.Convolution),
    }


DEEP = ("strided", "grouped", "explicit")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in DEEP else ()) for n in CASES])
def test_entries_products_norms_and_tying(name, x64):
    A = CASES[name]()
    a = entry_by_entry(A)
    X, Y = draw(1, a.shape[1], 2), draw(2, a.shape[0], 2)
    f = everything(A, X, Y, draw(3, *A.kernel.shape[len(A.spatial) :]))
    np.testing.assert_allclose(f["entries"], a, atol=1e-14)
    np.testing.assert_allclose(f["product"], a @ X, atol=1e-12)
    np.testing.assert_allclose(f["transposed"], a.T @ Y, atol=1e-12)
    np.testing.assert_allclose(f["sum"], 3 * a, atol=1e-13)
    t = np.asarray(f["tied entries"])
    for prefix, m in (("", a), ("tied ", t)):
        np.testing.assert_allclose(f[prefix + "diagonal"], np.diag(m), atol=1e-14)
        for p, got in f[prefix + "norms"].items():
            np.testing.assert_allclose(got, np.linalg.norm(m.ravel(), p), rtol=1e-12)
        for p, got in f[prefix + "operator norms"].items():
            np.testing.assert_allclose(got, np.linalg.norm(m, p), rtol=1e-12)
    # tying is an orthogonal projection: Pythagoras, orthogonal to every convolution, and it changes no convolution
    assert isinstance(f["tied"], la.Convolution)
    np.testing.assert_allclose(np.sum(a * a), np.sum(t * t) + np.sum((a - t) ** 2), rtol=1e-12)
    assert abs(np.sum((a - t) * np.asarray(f["other"]))) < 1e-10
    np.testing.assert_allclose(f["again"].kernel, f["tied"].kernel, atol=1e-14)
    np.testing.assert_allclose(f["projected"].nearest.kernel, f["tied"].kernel)
    np.testing.assert_allclose(f["projected"].distance, np.linalg.norm(a - t), rtol=1e-12)


@hypothesis.given(
    n=st.integers(1, 9), k=st.integers(1, 5), s=st.integers(1, 3), p=st.integers(0, 3), seed=st.integers(0, 9),
    dtype=st.sampled_from(("float32", "float64", "bfloat16", "complex64")),
)  # fmt: skip
@hypothesis.settings(max_examples=10, deadline=None)
def test_the_seed_formula(n, k, s, p, seed, dtype):
    """W[m, j] = Σ_t w_t δ(j, m S − P + t), for the tied and the untied map."""
    hypothesis.assume(n + 2 * p >= k)
    with jax.enable_x64(True):
        seed_formula(n, k, s, p, (draw(seed, k) * (1 + 1j if dtype == "complex64" else 1)).astype(jnp.dtype(dtype)))


def seed_formula(n, k, s, p, w):
    eps = float(jnp.finfo(w.dtype).eps)
    C = la.Convolution(w[:, None, None], n, stride=s, padding=((p, p),))
    w = np.asarray(w)
    want = np.zeros(C.shape, w.dtype)
    for m, t in np.ndindex(want.shape[0], k):
        if 0 <= m * s - p + t < n:
            want[m, m * s - p + t] += w[t]

    @jax.jit
    def everything(C):
        return la.materialize(C), C.untie().tie().kernel, C @ jnp.eye(n, dtype=C.dtype)

    entries, tied, product = map(np.asarray, everything(C))
    assert entries.dtype == tied.dtype == product.dtype == w.dtype
    np.testing.assert_array_equal(entries, want)
    np.testing.assert_allclose(product.astype(complex), want.astype(complex), atol=10 * eps)
    if s == 1:
        np.testing.assert_array_equal(scipy.linalg.toeplitz(want[:, 0], want[0]), want)
    shared = np.where(occurrences(C) > 0, w, np.zeros_like(w))
    np.testing.assert_allclose(tied[:, 0, 0].astype(complex), shared.astype(complex), rtol=10 * eps)


def test_transformations(x64):
    A = CASES["valid"]()
    x = draw(4, A.shape[1])
    stack = jax.tree.map(lambda k: np.stack([k, 2 * k]), A)
    both = lambda A: (A @ x, A.tie().kernel)  # noqa: E731
    together, each = jax.jit(lambda stack, A: (jax.vmap(both)(stack), both(A)))(stack, A)
    for found, expected in zip(together, each):
        np.testing.assert_allclose(found[1], 2 * np.asarray(expected), atol=1e-12)
    assert jax.eval_shape(lambda A: A @ x, A).shape == (A.shape[0],)

    def size(kernel):
        B = la.LocallyConnected(kernel, A.spatial, padding="valid")
        return la.opnorm(B) + la.project(B, la.Convolution).distance + la.opnorm(B, 1) + la.norm(B)

    check_gradient(size, A.kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64])
def test_dtypes(dtype):
    A = la.LocallyConnected(draw(5, 3, 2, 1, 2).astype(jnp.dtype(dtype)), 3, padding=((1, 0),))

    @jax.jit
    def everything(A):
        return A @ jnp.ones(3, dtype), A.tie(), la.materialize(A).sum(1), la.svdvals(A)

    product, tied, sums, values = everything(A)
    assert A.dtype == product.dtype == tied.dtype == dtype
    tolerance = 0.1 if jnp.finfo(dtype).bits == 16 else 1e-5
    np.testing.assert_allclose(product, sums, rtol=tolerance, atol=tolerance)
    assert values.dtype == jnp.float32


def test_errors_and_printing():
    with pytest.raises(la.DimensionMismatch, match=r"outputs at \[4\] positions, the kernel holds weights for \[3\]"):
        la.LocallyConnected(np.ones((3, 3, 1, 1)), 4)
    with pytest.raises(la.DimensionMismatch, match="a kernel is "):
        la.LocallyConnected(np.ones((3, 3, 1)), 4)
    with pytest.raises(la.UnknownNameError, match="did you mean 'circular'"):
        la.LocallyConnected(np.ones((3, 3, 1, 1)), 3, padding="circulr")
    assert repr(CASES["image"]()) == "18×40 LocallyConnected{float32} 3×3, 2→3, stride 2, pad 1"
