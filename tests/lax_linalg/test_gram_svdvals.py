"""Values of stacks from Gram matrices in double precision: LAPACK's spectra, small values, ends of the range."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import lax_linalg as la
from lax_linalg.dense import platform
from lax_linalg.dense.gram_svdvals import LARGEST, gram_svdvals, small_and_single
from lax_linalg.dense.sturm import bidiagonal_singular_values
from lax_linalg.operators.convolution.symbols import gram_values, half_spectrum

EPS, EPS64 = float(np.finfo("float32").eps), float(np.finfo("float64").eps)


def spectra(n: int) -> np.ndarray:
    """LAPACK's spectra, rank one and zero, and values that single precision cannot tell from zero, [k, n]."""
    t = np.arange(n) / max(n - 1, 1)
    return np.stack([
        np.zeros(n),
        np.ones(n),
        1 - t * (1 - EPS),
        EPS**t,
        np.r_[1.0, np.zeros(n - 1)],
        np.r_[1.0, np.full(n - 1, EPS)],
        np.r_[np.ones(n - 1), EPS],
        1e-12**t,
    ])  # fmt: skip


def stack_with(values: np.ndarray, m: int, n: int, complex_: bool, seed: int = 0) -> np.ndarray:
    """Matrices U diag(σ) Vᴴ in single precision, [k, m, n]."""
    generator = np.random.default_rng(seed)

    def unitary(size: int) -> np.ndarray:
        x = generator.standard_normal((len(values), size, size))
        return np.linalg.qr(x + 1j * generator.standard_normal(x.shape) if complex_ else x)[0]

    k = min(m, n)
    a = (unitary(m)[:, :, :k] * values[:, None, :k]) @ unitary(n)[:, :k]
    return a.astype(np.complex64 if complex_ else np.float32)


compiled = jax.jit(gram_svdvals)


def exact(a: np.ndarray) -> np.ndarray:
    return np.linalg.svd(a.astype(np.complex128), compute_uv=False)


def assert_accurate(found: jax.Array | np.ndarray, a: np.ndarray) -> None:
    """|σ̂ − σ| ≤ 2ε n^½ σ, or what the rounding of AᴴA in double precision leaves: |σ̂² − σ²| ≤ 4 n ε₆₄ ‖A‖²."""
    values, n = exact(a), min(a.shape[-2:])
    computed, largest = np.asarray(found, float), values[..., :1]
    assert computed.shape == values.shape
    error = np.sqrt(values**2 + 4 * n * EPS64 * largest**2) - values
    assert np.all(np.abs(computed - values) <= 2 * EPS * n**0.5 * values + error)
    assert np.all(np.diff(computed) <= 0)


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize(("m", "n"), [(2, 2), (9, 5), (5, 9), (16, 16), (LARGEST, LARGEST + 3)])
def test_values_of_lapacks_spectra(m: int, n: int, complex_: bool):
    a = stack_with(spectra(min(m, n)), m, n, complex_)
    assert_accurate(compiled(a), a)


@pytest.mark.parametrize("exponent", [-90, 120])
def test_near_the_ends_of_the_range(exponent: int):
    a = np.ldexp(stack_with(spectra(6)[:4], 6, 6, False), exponent).astype(np.float32)
    assert_accurate(compiled(a), a)


def test_smaller_values_are_not_lost_in_single_precision():
    a = np.stack([np.diag([1.0, 1e-1, 1e-3, 1e-4, 1e-5, 1e-6]).astype(np.float32)] * 4)
    np.testing.assert_allclose(compiled(a)[0], np.diag(a[0]), rtol=4 * EPS)


def test_a_matrix_that_is_not_finite_has_nan_and_its_neighbours_their_values():
    a = stack_with(spectra(6)[1:5], 6, 6, False)
    a[1, 2, 3], a[2, 0, 0] = np.nan, np.inf
    found = np.asarray(compiled(a))
    assert np.isnan(found[1:3]).all()
    assert_accurate(found[[0, 3]], a[[0, 3]])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.just(0.0) | st.floats(2.0**-60, 2.0**60, width=32), min_size=1, max_size=6))
def test_bisection_ends_next_to_the_values_of_a_diagonal(values: list[float]):
    d = np.array(values, np.float32)
    z = np.zeros(11, np.float32)  # one shape for all
    z[: 2 * len(d) : 2] = d
    found = np.asarray(bidiagonal_singular_values(jnp.asarray(z)))
    wanted = np.sort(z[::2])[::-1]
    np.testing.assert_allclose(found, wanted, rtol=2 * EPS)


# --- where it is used ---


def test_stacks_take_it_and_single_matrices_do_not():
    a = jnp.asarray(stack_with(np.full((3, 5), 1.0), 5, 5, True))
    text = str(jax.make_jaxpr(jax.vmap(platform.svdvals))(a))
    assert "tridiagonal" in text and "c128" in text
    assert "tridiagonal" not in str(jax.make_jaxpr(platform.svdvals)(a[0]))
    with platform.forced("host"):
        assert "tridiagonal" not in str(jax.make_jaxpr(jax.vmap(platform.svdvals))(a))


def test_double_precision_and_large_matrices_keep_lapacks_iteration(x64):
    assert not small_and_single(8, jnp.dtype("float64")) and not small_and_single(LARGEST + 1, jnp.dtype("float32"))
    text = str(jax.make_jaxpr(jax.vmap(platform.svdvals))(jnp.zeros((3, 8, 8), jnp.float64)))
    assert "tridiagonal" not in text


def test_the_gradient_of_a_stacks_values(x64):
    a = stack_with(np.tile([3.0, 2.0, 0.5], (2, 1)), 3, 4, False)
    weights = np.array([1.0, -2.0, 3.0], np.float32)
    gradient = jax.grad(lambda a: jnp.sum(jax.vmap(platform.svdvals)(a) * weights))
    found, reference = jax.jit(lambda a, b: (gradient(a), gradient(b)))(a, a.astype(np.float64))
    assert (found.dtype, reference.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(found, reference, atol=30 * EPS)


@pytest.mark.parametrize(
    ("kernel", "size", "groups", "dilation"),
    [((3, 3, 2, 5), (6, 7), 1, 1), ((3, 3, 6, 2), (4, 5), 1, 1), ((2, 3, 2, 4), (5, 8), 2, 2), ((5, 3, 3), (4,), 1, 1)],
)
def test_values_of_a_kernels_correlations_are_those_of_its_blocks(kernel, size, groups, dilation):
    w = np.random.default_rng(1).standard_normal(kernel).astype(np.float32)
    A = la.Convolution(w, size, padding="circular", groups=groups, dilation=dilation)

    @jax.jit
    def everything(A):
        return half_spectrum(A), gram_values(A), la.svdvals(A), la.materialize(A)

    blocks, found, singular, entries = map(np.asarray, everything(A))
    values = np.linalg.svd(blocks.astype(np.complex128), compute_uv=False)
    np.testing.assert_allclose(found, values, atol=30 * EPS * values.max())
    reference = np.linalg.svd(entries.astype(float), compute_uv=False)
    np.testing.assert_allclose(singular, reference, atol=30 * EPS * reference[0])


def test_no_transformation_loses_the_double_precision():
    """What vmap, cond and shard_map trace anew is still double: small values would show single precision at once."""
    a = np.stack([stack_with(np.array([[1.0, 1e-2, 1e-5]] * 3), 3, 3, True, seed) for seed in range(2)])
    w = np.random.default_rng(2).standard_normal((2, 3, 3, 2, 3)).astype(np.float32)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), "x")

    def of_kernel(w: jax.Array) -> jax.Array:
        return la.svdvals(la.Convolution(w, (4, 4), padding="circular"))

    for function, x in ((jax.vmap(platform.svdvals), a), (of_kernel, w)):

        def chosen(x: jax.Array, function=function) -> jax.Array:
            return jax.lax.cond(jnp.real(x).sum() > 1e6, lambda x: 0 * function(x), function, x)

        expected = np.stack([np.asarray(jax.jit(function)(y)) for y in x])
        spec = jax.sharding.PartitionSpec("x")
        sharded = jax.shard_map(jax.vmap(function), mesh=mesh, in_specs=spec, out_specs=spec)
        np.testing.assert_allclose(jax.vmap(jax.jit(function))(x), expected, rtol=8 * EPS)

        @jax.jit
        def transformed(x: jax.Array, function=function, chosen=chosen, sharded=sharded) -> list[jax.Array]:
            return [jax.vmap(jax.jit(function))(x), jax.vmap(chosen)(x), sharded(x)]

        for found in transformed(x):
            np.testing.assert_allclose(found, expected, rtol=8 * EPS)
