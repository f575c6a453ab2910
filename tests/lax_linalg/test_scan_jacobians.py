"""Jacobians along a scan against Python loops and `jax.jacfwd`; the product's singular values against the product."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError


def layer(h, parameters):
    W, b = parameters
    return jnp.tanh(h @ W + b), jnp.sum(h)


@pytest.fixture
def stack(key):
    return jax.random.normal(key, (5, 4, 4)) / 2, jax.random.normal(key, (5, 4))


def test_every_layer_of_a_stack_at_its_own_input(key, stack):
    h = jax.random.normal(key, (4,))
    J = la.scan_jacobians(layer, h, stack)
    assert repr(J) == "5 × 4×4 Jacobian{float32} of layer at (4,)"
    matrices, spectra = la.materialize(J), la.svdvals(J)
    step = jax.jit(lambda h, x: (layer(h, x)[0], jax.jacfwd(lambda h: layer(h, x)[0])(h)))
    for l in range(5):
        np.testing.assert_allclose(J[l].x, h, atol=1e-6)
        h, expected = step(h, (stack[0][l], stack[1][l]))
        np.testing.assert_allclose(matrices[l], expected, atol=1e-6)
        np.testing.assert_allclose(spectra[l], np.linalg.svd(expected, compute_uv=False), atol=1e-6)


def test_batches_of_examples(key, stack):
    h = jax.random.normal(key, (3, 4))
    J = la.scan_jacobians(layer, h, stack, batched=True)
    assert (J.shape, len(J), len(J[2])) == ((5, 3, 4, 4), 5, 3)
    single = [la.scan_jacobians(layer, h[b], stack) for b in range(3)]
    for b in range(3):
        np.testing.assert_allclose(la.materialize(J)[:, b], la.materialize(single[b]), atol=1e-6)
    np.testing.assert_allclose(la.svdvals(J)[:, 1], la.svdvals(single[1]), atol=1e-6)
    v = jax.random.normal(key, (5, 3, 4))
    np.testing.assert_allclose(J @ v, jnp.einsum("lbij,lbj->lbi", la.materialize(J), v), atol=1e-5)


def test_compile_time_does_not_depend_on_the_depth(stack):
    def program(depth):
        layers = jax.tree.map(lambda a: jnp.repeat(a, depth, axis=0), stack)
        return jax.jit(lambda h, s: la.svdvals(la.scan_jacobians(layer, h, s))).lower(jnp.ones(4), layers).as_text()

    assert abs(len(program(1)) - len(program(100))) < 0.01 * len(program(1))


@pytest.mark.parametrize("cell", [nnx.SimpleCell, nnx.GRUCell, nnx.LSTMCell])
def test_recurrent_cells(cell, key):
    cell = cell(2, 3, rngs=nnx.Rngs(0))
    xs = jax.random.normal(key, (6, 2))
    h0 = jax.tree.map(lambda a: jnp.full_like(a[0], 0.1), cell.initialize_carry((1, 2), nnx.Rngs(0)))
    J = la.recurrent_jacobians(cell, h0, xs)
    matrices = la.materialize(J)
    flat, unravel = jax.flatten_util.ravel_pytree(h0)

    def advance(flat, xs):
        h = unravel(flat)
        for x in xs:
            h, _ = cell(h, x)
        return jax.flatten_util.ravel_pytree(h)[0]

    step = jax.jit(lambda h, x: (advance(h, x[None]), jax.jacfwd(advance)(h, x[None])))
    at = flat
    for t in range(6):
        at, expected = step(at, xs[t])
        np.testing.assert_allclose(matrices[t], expected, atol=1e-5)
    product = jax.jit(jax.jacfwd(advance))(flat, xs)
    np.testing.assert_allclose(np.linalg.multi_dot(np.asarray(matrices)[::-1]), product, atol=1e-5)


def test_the_products_exponents_without_matrices(key):
    W = jax.random.normal(key, (4, 4))
    cell = jax.tree_util.Partial(lambda W, h, x: jnp.tanh(W @ h + x), W)
    h0, xs = jnp.zeros(4), jax.random.normal(key, (40, 4))
    J = la.recurrent_jacobians(cell, h0, xs)
    two = jnp.stack([h0, h0 + 0.1])

    @jax.jit
    def exponents(J, two):
        matrices = la.materialize(J)
        both = [[la.lyapunov_exponents(A, k=k).exponents for A in (J, matrices)] for k in (None, 2)]
        return both, jax.vmap(lambda h0: la.lyapunov_exponents(la.recurrent_jacobians(cell, h0, xs)).exponents)(two)

    both, batched = exponents(J, two)
    for lazily, densely in both:
        np.testing.assert_allclose(lazily, densely, atol=1e-4)
    np.testing.assert_allclose(batched[0], both[0][0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_finite_time_exponents_are_the_products_singular_values(dtype, x64):
    rng = np.random.default_rng(0)
    exponents = jax.jit(la.finite_time_lyapunov, static_argnames="max_passes")
    for total in (1, 12) if dtype == "float64" else (7,):
        steps = rng.standard_normal((total, 5, 5)).astype(dtype)
        if dtype == "complex128":
            steps += 1j * rng.standard_normal((total, 5, 5))
        product = np.linalg.multi_dot(steps[::-1]) if total > 1 else steps[0]
        exact = np.log(np.linalg.svd(product, compute_uv=False))
        rough = exponents(steps, max_passes=1)
        assert (np.abs(rough.log_svdvals - exact) <= rough.bound).all()
        found = exponents(steps, max_passes=200)
        assert found.bound < 1e-10
        np.testing.assert_allclose(found.log_svdvals, exact, atol=1e-9)
        np.testing.assert_allclose(found.exponents, exact / total, atol=1e-9)


def test_finite_time_exponents_of_products_beyond_the_number_range():
    D = jnp.diag(jnp.array([1e3, 1.0, 1e-3]))
    Q = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (3, 3)))[0]
    found = la.finite_time_lyapunov(jnp.stack([Q.T, *[D] * 50, Q]))
    np.testing.assert_allclose(found.log_svdvals, 50 * jnp.log(jnp.array([1e3, 1.0, 1e-3])), rtol=1e-5, atol=1e-4)
    assert jnp.isneginf(la.finite_time_lyapunov(jnp.zeros((3, 2, 2))).exponents).all()


def blow(h, x):
    return h / x


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: la.scan_jacobians(layer, jnp.arange(4), None), LinearAlgebraError, "carry of layer is int32; start"),
        (lambda: la.scan_jacobians(layer, jnp.ones(4), ()), DimensionMismatch, "scanned over the leading axis of xs"),
        (
            lambda: la.scan_jacobians(blow, jnp.ones(2), (jnp.ones(3), jnp.ones(2))),
            DimensionMismatch,
            r"must share; got shapes \[\[3\], \[2\]\]",
        ),
        (
            lambda: la.scan_jacobians(lambda h, x: h[:1], jnp.ones(2), jnp.ones(3)),
            LinearAlgebraError,
            "must give the carry's shapes and dtypes back",
        ),
        (
            lambda: la.scan_jacobians(blow, jnp.ones(2), jnp.array([1.0, 0.0, 1.0])),
            NonFiniteError,
            "layer 1 of 3 of blow turns a finite carry into NaN",
        ),
        (
            lambda: la.recurrent_jacobians(blow, jnp.ones(2), jnp.array([1.0, 1.0, 0.0])),
            NonFiniteError,
            "time step 2 of 3",
        ),
        (
            lambda: la.recurrent_jacobians(blow, jnp.full(2, jnp.nan), jnp.ones(3)),
            NonFiniteError,
            "first carry of blow",
        ),
        (
            lambda: la.scan_jacobians(blow, jnp.ones(()), jnp.ones(3), batched=True),
            DimensionMismatch,
            "a batched carry",
        ),
        (lambda: la.finite_time_lyapunov(jnp.ones((2, 3, 4))), DimensionMismatch, r"takes Jacobians \[T, n, n\]"),
        (lambda: la.finite_time_lyapunov(jnp.ones((2, 3, 3)), max_passes=0), DimensionMismatch, "max_passes must be"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
