"""Jacobians along a scan against Python loops and `jax.jacfwd`; the product's singular values against the product."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError
from tests.lax_linalg import drawn


def layer(h, parameters):
    W, b = parameters
    return jnp.tanh(h @ W + b), jnp.sum(h)


@pytest.fixture
def stack():
    return drawn.draw(0, 5, 4, 4, scale=0.5), drawn.draw(1, 5, 4)


def test_every_layer_of_a_stack_at_its_own_input(stack):
    h = drawn.draw(2, 4)
    J = la.scan_jacobians(layer, h, stack)
    assert repr(J) == "5 × 4×4 Jacobian{float32} of layer at (4,)"
    matrices, spectra = la.materialize(J), la.svdvals(J)
    step = jax.jit(lambda h, x: (layer(h, x)[0], jax.jacfwd(lambda h: layer(h, x)[0])(h)))
    Ws, bs = map(np.asarray, stack)
    for l in range(5):
        np.testing.assert_allclose(J[l].x, h, atol=1e-6)
        h, expected = step(h, (Ws[l], bs[l]))
        np.testing.assert_allclose(matrices[l], expected, atol=1e-6)
        np.testing.assert_allclose(spectra[l], np.linalg.svd(expected, compute_uv=False), atol=1e-6)


def test_batches_of_examples(stack):
    h = drawn.draw(2, 3, 4)
    J = la.scan_jacobians(layer, h, stack, batched=True)
    assert (J.shape, len(J), len(J[2])) == ((5, 3, 4, 4), 5, 3)
    v = drawn.draw(3, 5, 3, 4)
    matrices, spectra, product = jax.jit(lambda J, v: (la.materialize(J), la.svdvals(J), J @ v))(J, v)
    of_one = jax.jit(lambda J: (la.materialize(J), la.svdvals(J)))
    for b, at in enumerate(np.asarray(h)):
        single = of_one(la.scan_jacobians(layer, jnp.asarray(at), stack))
        np.testing.assert_allclose(np.asarray(matrices)[:, b], single[0], atol=1e-6)
        np.testing.assert_allclose(np.asarray(spectra)[:, b], single[1], atol=1e-6)
    np.testing.assert_allclose(product, np.einsum("lbij,lbj->lbi", matrices, v), atol=1e-5)


def test_compile_time_does_not_depend_on_the_depth(stack):
    def program(depth):
        layers = jax.tree.map(lambda a: jnp.repeat(a, depth, axis=0), stack)
        text = jax.jit(lambda h, s: la.svdvals(la.scan_jacobians(layer, h, s))).lower(jnp.ones(4), layers).as_text()
        return len(text.splitlines())  # an operation a line; sizes in them have more digits

    assert program(1) == program(100)


@pytest.mark.parametrize("cell", [nnx.SimpleCell, nnx.GRUCell, nnx.LSTMCell])
def test_recurrent_cells(cell):
    kind = cell
    cell = drawn.module(lambda: kind(2, 3, rngs=nnx.Rngs(0)))
    xs = drawn.draw(0, 6, 2)
    carry = jax.eval_shape(lambda: kind(2, 3, rngs=nnx.Rngs(0)).initialize_carry((1, 2), nnx.Rngs(0)))
    h0 = jax.tree.map(lambda a: jnp.asarray(np.full(a.shape[1:], 0.1, a.dtype)), carry)
    J = la.recurrent_jacobians(cell, h0, xs)
    matrices = la.materialize(J)
    flat, unravel = jax.flatten_util.ravel_pytree(h0)

    def advance(flat, xs):
        h = unravel(flat)
        for x in xs:
            h, _ = cell(h, x)
        return jax.flatten_util.ravel_pytree(h)[0]

    step = jax.jit(lambda h, x: (advance(h, x[None]), jax.jacfwd(advance)(h, x[None])))
    at, matrices = flat, np.asarray(matrices)
    for t, x in enumerate(np.asarray(xs)):
        at, expected = step(at, x)
        np.testing.assert_allclose(matrices[t], expected, atol=1e-5)
    product = jax.jit(jax.jacfwd(advance))(flat, xs)
    np.testing.assert_allclose(np.linalg.multi_dot(np.asarray(matrices)[::-1]), product, atol=1e-5)


def test_the_products_exponents_without_matrices():
    W = drawn.draw(0, 4, 4)
    cell = jax.tree_util.Partial(lambda W, h, x: jnp.tanh(W @ h + x), W)
    h0, xs = jnp.asarray(np.zeros(4, np.float32)), drawn.draw(1, 40, 4)
    J = la.recurrent_jacobians(cell, h0, xs)
    two = np.stack([np.zeros(4), np.full(4, 0.1)]).astype(np.float32)

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
    d = np.array([1e3, 1.0, 1e-3])
    Q = np.linalg.qr(drawn.draw(1, 3, 3))[0]
    steps = np.stack([Q.T, *[np.diag(d)] * 50, Q]).astype(np.float32)
    exponents = jax.jit(la.finite_time_lyapunov)
    found = exponents(steps)
    np.testing.assert_allclose(found.log_svdvals, 50 * np.log(d), rtol=1e-5, atol=1e-4)
    assert np.isneginf(exponents(np.zeros_like(steps)).exponents).all()


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
