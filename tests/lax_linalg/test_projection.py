"""Nearest matrices: linear structures as orthogonal projections, curved ones by their optimality."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg as sl
from jax.test_util import check_grads

import lax_linalg as la


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


SUBSPACES = {
    # name -> (what to project onto, a random member of it, shape)
    "Toeplitz": (la.Toeplitz, la.Toeplitz(draw(0, 5), draw(1, 4)), (5, 4)),
    "Hankel": (la.Hankel, la.Hankel(draw(0, 4), draw(1, 5)), (4, 5)),
    "Circulant": (la.Circulant, la.Circulant(draw(0, 5)), (5, 5)),
    "TriangularToeplitz": (la.TriangularToeplitz, la.TriangularToeplitz(draw(0, 5)), (5, 5)),
    "TridiagonalToeplitz": (la.TridiagonalToeplitz, la.TridiagonalToeplitz(1.0, 2.0, -3.0, 5), (5, 5)),
    "Diagonal": (la.Diagonal, la.Diagonal(draw(0, 5)), (5, 5)),
    "UniformScaling": (la.UniformScaling, la.UniformScaling(1.5, 5), (5, 5)),
    "Bidiagonal": (la.Bidiagonal, la.Bidiagonal(draw(0, 5), draw(1, 4)), (5, 5)),
    "Tridiagonal": (la.Tridiagonal, la.Tridiagonal(draw(0, 4), draw(1, 5), draw(2, 4)), (5, 5)),
    "SymTridiagonal": (la.SymTridiagonal, la.SymTridiagonal(draw(0, 5), draw(1, 4)), (5, 5)),
    "Symmetric": (la.Symmetric, la.Symmetric(draw(0, 5, 5)), (5, 5)),
    "Hermitian": (la.Hermitian, la.Hermitian(draw(0, 5, 5)), (5, 5)),
    "UpperTriangular": (la.UpperTriangular, la.UpperTriangular(draw(0, 5, 5)), (5, 5)),
    "LowerTriangular": (la.LowerTriangular, la.LowerTriangular(draw(0, 5, 5)), (5, 5)),
    "skew": ("skew", draw(0, 5, 5) - draw(0, 5, 5).T, (5, 5)),
    "Convolution": (la.Convolution(np.zeros((3, 2, 1)), 3), la.Convolution(draw(0, 3, 2, 1), 3), (3, 6)),
    "wrapped": (
        la.Convolution(np.zeros((5, 1, 1)), 3, padding="circular"),
        la.Convolution(draw(0, 5, 1, 1), 3, padding="circular"),
        (3, 3),
    ),
    "LocallyConnected": (
        la.LocallyConnected(np.zeros((3, 3, 1, 2)), 3),
        la.LocallyConnected(draw(0, 3, 3, 1, 2), 3),
        (6, 3),
    ),
    "BlockDiagonal": (
        la.BlockDiagonal((np.zeros((2, 3)), np.zeros((3, 1)))),
        la.BlockDiagonal((draw(0, 2, 3), draw(1, 3, 1))),
        (5, 4),
    ),
}


@pytest.mark.parametrize("name", SUBSPACES)
def test_linear_structures_are_orthogonal_projections(name):
    with jax.enable_x64(True):
        onto, member, shape = SUBSPACES[name]
        a = draw(7, *shape)

        @jax.jit
        def project(a, member):
            nearest, distance = la.project(a, onto)
            b = la.materialize(member).astype(a.dtype)
            again, zero = la.project(b, onto)
            idempotent = la.project(nearest, onto).distance
            return nearest, la.materialize(nearest), distance, idempotent, b, la.materialize(again), zero

        nearest, *others = project(a, member)
        p, distance, idempotent, b, again, zero = map(np.asarray, others)
        np.testing.assert_allclose(np.sum(a * a), np.sum(p * p) + float(distance) ** 2, rtol=1e-12)
        np.testing.assert_allclose(distance, np.linalg.norm(a - p), rtol=1e-12)
        assert abs(np.sum((a - p) * b)) < 1e-12 * np.linalg.norm(a) * np.linalg.norm(b)
        assert idempotent < 1e-13
        if isinstance(onto, type):
            assert type(nearest) is onto
        np.testing.assert_allclose(again, b, atol=1e-13)  # a member is its own projection
        assert zero < 1e-13


@hypothesis.given(
    name=st.sampled_from(tuple(SUBSPACES)),
    dtype=st.sampled_from(("float32", "float64", "bfloat16", "complex64")),
    seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=6, deadline=None)
def test_linear_structures_of_any_precision_are_idempotent_and_orthogonal(name, dtype, seed):
    onto, _, shape = SUBSPACES[name]
    with jax.enable_x64(True):
        if name in ("Symmetric", "SymTridiagonal"):  # real by type
            dtype = dtype.replace("complex64", "float32")
        a = draw(seed, *shape) + (1j * draw(seed + 1, *shape) if dtype == "complex64" else 0)
        a = jnp.asarray(a).astype(dtype)

        @jax.jit
        def project(a):
            nearest, distance = la.project(a, onto)
            return la.norm(a), la.norm(nearest), distance, la.project(nearest, onto).distance

        eps = float(jnp.finfo(jnp.promote_types(dtype, jnp.float32)).eps)
        size, projected, distance, zero = map(float, project(a))
        np.testing.assert_allclose(size**2, projected**2 + distance**2, rtol=100 * eps)
        assert zero <= 100 * eps * size


def test_sizes_of_one_and_none():
    for onto in (la.Toeplitz, la.Hankel, la.Circulant, la.Tridiagonal, la.TridiagonalToeplitz, la.SymTridiagonal):
        nearest, distance = la.project(np.array([[3.0]], np.float32), onto)
        assert np.asarray(jax.jit(la.materialize)(nearest)).item() == 3.0 and distance == 0
    assert la.project(np.zeros((0, 3), np.float32), la.Toeplitz).nearest.shape == (0, 3)


def test_curved_sets_are_nearest(x64):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((5, 5))
    orthogonal = la.project(a, "orthogonal")
    s = np.linalg.svd(a, compute_uv=False)
    np.testing.assert_allclose(orthogonal.distance, np.linalg.norm(s - 1), rtol=1e-12)  # Σ (σ_i − 1)²: Fan & Hoffman
    assert la.isorthogonal(orthogonal.nearest)
    np.testing.assert_allclose(la.project(a, la.LowRank, rank=2).distance, np.linalg.norm(s[2:]), rtol=1e-12)
    assert la.project(a, la.LowRank, rank=5).distance < 1e-13
    w = np.linalg.eigvalsh((a + a.T) / 2)
    want = np.sqrt(np.sum(w[w < 0] ** 2) + np.linalg.norm((a - a.T) / 2) ** 2)  # Higham (1988), Theorem 2.1
    np.testing.assert_allclose(la.project(a, "posdef").distance, want, rtol=1e-12)
    product = np.kron(rng.standard_normal((2, 3)), rng.standard_normal((3, 2)))
    template = la.Kronecker(np.zeros((2, 3)), np.zeros((3, 2)))
    assert la.project(product, template).distance < 1e-12
    noisy = product + 0.1 * rng.standard_normal(product.shape)
    best = la.project(noisy, template).distance
    assert best <= np.linalg.norm(noisy - product)


def test_a_convolution_is_recovered_from_its_matrix_and_noise_is_measured(x64):
    C = la.Convolution(draw(0, 3, 3, 2, 2), (4, 5), stride=2, groups=1)
    noise = la.LocallyConnected(draw(1, *C.out_spatial, *C.kernel.shape), C.spatial, stride=2)
    dense_noise = draw(2, *C.shape)  # also entries where no convolution has any

    @jax.jit
    def measured(C, noise, dense_noise):
        nearest, distance = la.project(la.materialize(C) + la.materialize(noise), C)
        tied = noise.tie()
        distances = distance, la.norm(noise - tied), la.project(dense_noise, C).distance, la.project(noise, C).distance
        return nearest.kernel, C.kernel + tied.kernel, distances

    kernel, want, (distance, untied, of_dense, of_local) = measured(C, noise, dense_noise)
    np.testing.assert_allclose(kernel, want, atol=1e-12)
    np.testing.assert_allclose(distance, untied, rtol=1e-10)
    assert of_dense > of_local


def test_gradients_and_jit(x64):
    a = jnp.asarray(draw(0, 4, 4))
    for onto in (la.Toeplitz, "posdef"):
        distance = jax.jit(lambda a: la.project(a, onto).distance)  # noqa: B023
        check_grads(distance, (a,), order=1, modes=["rev"], rtol=1e-6)
        np.testing.assert_allclose(distance(a), la.project(a, onto).distance)
        if onto is la.Toeplitz:
            assert np.isfinite(jax.grad(distance)(sl.toeplitz(a[0]))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: la.project(np.ones((2, 3)), la.Circulant), "project onto Circulant needs a square matrix, got 2×3"),
        (lambda: la.project(np.ones((2, 2)), la.Convolution), "give an operator instead of the type"),
        (lambda: la.project(np.ones((2, 2)), la.Convolution(np.ones((3, 1, 1)), 3)), "the sizes differ"),
        (lambda: la.project(np.ones((2, 2)), "ortogonal"), "did you mean 'orthogonal'"),
        (lambda: la.project(np.ones((2, 2)), la.LowRank), "takes its rank"),
        (lambda: la.project(np.ones((2, 2)), la.JordanBlock), "unknown structure to project onto 'JordanBlock'"),
        (lambda: la.project(np.full((2, 2), np.nan), la.Toeplitz), "project needs finite numbers"),
    ],
)
def test_errors(call, message):
    with pytest.raises(la.LinearAlgebraError) as caught:
        call()
    assert message in str(caught.value)
