"""Spectra of convolutions against the materialised matrix and against independent computations in NumPy."""

from __future__ import annotations

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from verb_oracle import Reference

import lax_linalg as la


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def circular(*kernel: int, spatial, seed: int = 0, complex_: bool = False, **options) -> la.Convolution:
    w = draw(seed, *kernel) + (1j * draw(seed + 1, *kernel) if complex_ else 0)
    return la.Convolution(w, spatial, padding="circular", **options)


CASES = {
    "complex line": lambda: circular(3, 2, 2, spatial=5, complex_=True),
    "tall, polyphase": lambda: circular(3, 1, 3, spatial=6, stride=2),
    "wide, polyphase, grouped": lambda: circular(3, 2, 4, spatial=8, stride=4, groups=2),
    "kernel wraps onto itself": lambda: circular(8, 2, 2, spatial=3),
    "stride that does not divide": lambda: circular(3, 2, 2, spatial=5, stride=2),
    "image": lambda: circular(3, 2, 2, 2, spatial=(3, 4)),
    "stride divides one dimension only": lambda: circular(3, 3, 2, 2, spatial=(4, 5), stride=2),
    "dilated and grouped": lambda: circular(2, 3, 1, 4, spatial=(4, 4), dilation=2, groups=2),
    "grouped, zero padding": lambda: la.Convolution(draw(0, 3, 3, 2, 4), (3, 3), groups=2),
    "depthwise, one pixel": lambda: circular(3, 3, 1, 2, spatial=(1, 1), groups=2),
}


@jax.jit
def everything(A):
    """All that the next test looks at, compiled at once."""
    square = A.shape[0] == A.shape[1]
    return {
        "entries": la.materialize(A),
        "svdvals": la.svdvals(A),
        "svd": la.svd(A),
        "full": la.svd(A, full=True),
        "norms": [la.norm(A, p) for p in (1, 2, np.inf)],
        "operator norms": [la.opnorm(A, p) for p in (1, 2, np.inf)],
        "diag": la.diag(A),
        "rank": la.rank(A),
        "square": (la.eigvals(A), la.det(A), la.logabsdet(A), la.tr(A)) if square else None,
    }


DEEP = ("tall, polyphase", "stride that does not divide", "image", "dilated and grouped", "depthwise, one pixel")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in DEEP else ()) for n in CASES])
def test_against_the_materialised_matrix(name, x64):
    f = everything(CASES[name]())
    r = Reference(f["entries"])
    r.close(f["svdvals"], r.sigma)
    for F, full in ((f["svd"], False), (f["full"], True)):
        U, S, Vt = map(np.asarray, F)
        assert U.shape == (r.m, r.m if full else r.k) and Vt.shape == (r.n if full else r.k, r.n)
        assert np.all(np.diff(S) <= 0)
        r.close(U[:, : r.k] * S @ Vt[: r.k], r.a)
        r.unitary(U)
        r.unitary(Vt.conj().T)
        assert np.iscomplexobj(U) == np.iscomplexobj(r.a)
    for p, small, large in zip((1, 2, np.inf), f["norms"], f["operator norms"]):
        r.close(small, np.linalg.norm(r.a.ravel(), p), r.scale * r.size)
        r.close(large, np.linalg.norm(r.a, p), r.scale * r.size)
    r.close(f["diag"], np.diag(r.a))
    assert int(f["rank"]) == np.linalg.matrix_rank(r.a)
    if r.square:
        w, det, (logabs, sign), trace = f["square"]
        r.eigenvalues(w, np.linalg.cond(np.linalg.eig(r.a)[1]))
        np.testing.assert_allclose(det, np.linalg.det(r.a), rtol=1e-10)
        np.testing.assert_allclose(sign * np.exp(logabs), np.linalg.det(r.a), rtol=1e-10)
        np.testing.assert_allclose(trace, np.trace(r.a), atol=1e-12)


@hypothesis.given(
    k=st.integers(1, 6), n=st.integers(1, 7), s=st.integers(1, 3), d=st.integers(1, 2), g=st.integers(1, 2),
    cin=st.integers(1, 2), cout=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
@hypothesis.settings(max_examples=5, deadline=None)
def test_circular_singular_values_of_any_geometry(k, n, s, d, g, cin, cout, seed):
    A = la.Convolution(draw(seed, k, cin, g * cout).astype("f4"), n, stride=s, padding="circular", dilation=d, groups=g)
    values, entries = jax.jit(lambda A: (la.svdvals(A), la.materialize(A)))(A)
    want = np.linalg.svd(np.asarray(entries, np.float64), compute_uv=False)
    np.testing.assert_allclose(values, want, atol=30 * max(A.shape) * np.finfo("f4").eps * max(want[0], 1e-30))


def sedghi_gupta_long(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.sort(np.linalg.svd(np.fft.fft2(kernel, shape, axes=(0, 1)), compute_uv=False).ravel())[::-1]


def test_against_sedghi_gupta_and_long():
    A = la.Convolution(draw(0, 3, 3, 4, 6).astype("f4"), (8, 6), padding="circular")
    want = sedghi_gupta_long(np.asarray(A.kernel), (8, 6))
    values, largest = jax.jit(lambda A: (la.svdvals(A), la.opnorm(A)))(A)
    np.testing.assert_allclose(values, want, atol=1e-5 * want[0])
    np.testing.assert_allclose(largest, want[0], rtol=1e-5)


def test_groups_take_the_maximum_and_not_the_product(x64):
    parts = [circular(3, 3, 2, 2, spatial=(4, 4), seed=seed) for seed in (0, 5)]
    kernel = np.concatenate([p.kernel for p in parts], -1)
    both = la.Convolution(kernel, (4, 4), padding="circular", groups=2)
    spectrum = jax.jit(lambda A: (la.opnorm(A), la.svdvals(A)))
    norms, values = zip(*map(spectrum, parts))
    norm, value = spectrum(both)
    np.testing.assert_allclose(norm, max(norms), rtol=1e-13)
    np.testing.assert_allclose(value, np.sort(np.concatenate(values))[::-1])


def test_small_singular_values_are_exact_to_rounding(x64):
    """1 + e^{iω} vanishes at the highest frequency; a Gram matrix would lose half the digits there."""
    A = la.Convolution(np.array([1.0, 1.0 - 1e-12])[:, None, None], 8, padding="circular")
    B = la.Convolution(np.stack([np.eye(2), np.diag([1.0, 0.5])]), 8, padding="circular")
    of_a, of_b, rank = jax.jit(lambda A, B: (la.svdvals(A), la.svdvals(B), la.rank(B)))(A, B)
    assert abs(float(of_a[-1]) - 1e-12) < 1e-15
    assert float(of_b[-1]) < 1e-15
    assert int(rank) == 15


def test_gradients(x64):
    def spectrum(w):
        B = la.Convolution(w, 4, padding="circular")
        return (
            jnp.sum(la.svdvals(B) ** 3),
            la.opnorm(B),
            la.logabsdet(B).logabs,
            la.norm(B, 1),
            jnp.sum(la.diag(B) ** 2),
        )

    check_grads(jax.jit(spectrum), (draw(0, 3, 2, 2),), order=1, modes=["rev"], rtol=1e-5)
    # values repeat at a zero and at a delta kernel: a subgradient, never NaN
    gradient = jax.jit(jax.grad(lambda w: spectrum(w)[1]))
    for w in (np.zeros((3, 2, 2)), np.multiply.outer([0.0, 1.0, 0.0], np.eye(2))):
        assert np.isfinite(gradient(w)).all()
    depthwise = jax.jit(jax.grad(lambda w: la.opnorm(la.Convolution(w, 4, padding="circular", groups=2))))
    assert np.isfinite(depthwise(np.zeros((3, 1, 2)))).all()


def test_transformations_and_recompilation():
    A = la.Convolution(draw(0, 3, 3, 2, 2).astype("f4"), (4, 4), padding="circular")
    stack = jax.tree.map(lambda w: np.stack([w, 2 * w]), A)
    f = jax.jit(chex.assert_max_traces(lambda A: la.svdvals(A), n=1))
    np.testing.assert_allclose(jax.jit(jax.vmap(la.svdvals))(stack)[1], 2 * np.asarray(f(A)), rtol=1e-5)
    f(2 * A)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64])
def test_dtypes(dtype):
    A = la.Convolution(draw(0, 3, 2, 2).astype(dtype), 4, padding="circular")
    values, (U, S, _), a = jax.jit(lambda A: (la.svdvals(A), la.svd(A), la.materialize(A)))(A)
    assert values.dtype == jnp.float32
    want = np.linalg.svd(np.asarray(a).astype(complex), compute_uv=False)
    np.testing.assert_allclose(values, want, rtol=1e-5)
    np.testing.assert_allclose(S, want, rtol=1e-5)
    assert jnp.issubdtype(U.dtype, jnp.complexfloating) == (dtype == jnp.complex64)


def test_circular_is_not_a_substitute_for_zero_padding():
    """σ₁ of a Gaussian kernel on a small image: the circular value is above the true one by several per cent."""
    kernel = draw(0, 5, 2, 2).astype("f4")
    zero, wrapped = (jax.jit(la.opnorm)(la.Convolution(kernel, 6, padding=p)) for p in ("zero", "circular"))
    assert float(wrapped) > 1.02 * float(zero)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_the_determinant_leaves_the_range_of_floats_only_where_its_value_does(transform):
    """Groups with symbols of 1e20 and of 1e-20: their product is 1, that of the first of them no float32."""
    kernel = np.array([1e20, 1e20, 1e-20, 1e-20], "f4")[None, None, :]  # [k, 1, channels], one channel a group
    A = la.Convolution(kernel, 6, padding="circular", groups=4)
    det = transform(la.det)
    np.testing.assert_allclose(det(A), 1, rtol=1e-4)
    assert np.isinf(det(la.Convolution(kernel[..., :2], 6, padding="circular", groups=2)))
    assert det(la.Convolution(0 * kernel, 6, padding="circular", groups=4)) == 0
