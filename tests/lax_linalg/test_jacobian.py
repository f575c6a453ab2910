"""`la.jacobian` against dense `jax.jacfwd`, in both directions, in chunks, under transformations and over devices."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads

import lax_linalg as la
from lax_linalg.errors import DenseLimitError, DimensionMismatch, LinearAlgebraError, NonFiniteError, UnknownNameError
from lax_linalg.jacobian.materialize import chunk_size, dense_jacobian

TOP = pathlib.Path(__file__).parents[2]


def wide(x):
    """R^{2×3} → R^4."""
    return jnp.tanh(x.reshape(-1) @ jnp.cos(jnp.arange(24.0)).reshape(6, 4).astype(x.dtype))


def tall(x):
    """R^{2×3} → R^{3×3}, nonlinear."""
    return jnp.sin(x.T @ x) + x.T @ jnp.ones((2, 3), x.dtype)


def reference(f, x):
    return np.asarray(derivative(f, x)).reshape(-1, x.size)


@functools.partial(jax.jit, static_argnums=0)
def derivative(f, x):
    return jax.jacfwd(f, holomorphic=jnp.iscomplexobj(x))(x)


@pytest.mark.parametrize("f", [wide, tall])
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("memory_budget", [1, 300, 2**20])
def test_materialize_is_jacfwd(f, mode, memory_budget, key):
    x = jax.random.normal(key, (2, 3))
    J = la.jacobian(f, x, mode=mode, memory_budget=memory_budget)
    entries, expected = la.materialize(J), reference(f, x)
    np.testing.assert_allclose(entries, expected, atol=1e-6)
    np.testing.assert_array_equal(la.materialize(J.T), entries.T)


@settings(max_examples=6, deadline=None)
@given(m=st.integers(1, 5), n=st.integers(1, 5), chunk=st.integers(1, 6), seed=st.integers(0, 99))
def test_every_chunk_size_gives_every_entry(m, n, chunk, seed):
    A = jax.random.normal(jax.random.key(seed), (m, n))
    f = jax.tree_util.Partial(jnp.matmul, A)
    budget = chunk * 3 * 4 * max(m, n)
    for mode in ("forward", "reverse"):
        np.testing.assert_array_equal(la.materialize(la.jacobian(f, jnp.ones(n), mode=mode, memory_budget=budget)), A)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "complex64"])
def test_products_agree_with_the_matrix(dtype, key, x64):
    x = jax.random.normal(key, (2, 3)).astype(dtype)
    J = la.jacobian(tall, x)
    assert J.dtype == J.T.dtype == dtype
    A = reference(tall, x).astype(np.complex128 if dtype == "complex64" else np.float64)
    tolerance = {"bfloat16": 0.1, "float64": 1e-12}.get(dtype, 1e-4)
    matrices = (A, A.T, A.conj().T, A.conj(), A)
    rng = np.random.default_rng(0)
    X = [rng.standard_normal((matrix.shape[1], 2)) for matrix in matrices]
    Z = X[-1][:, 0] + 1j * X[-1][:, 1]

    @jax.jit
    def all_of_them(J, X, Z):
        operators = (J, J.T, J.H, J.H.T, J.T.T)
        return [(operator @ x, la.materialize(operator)) for operator, x in zip(operators, X)], J @ Z

    found, at_complex = all_of_them(J, [jnp.asarray(x, dtype) for x in X], jnp.asarray(Z))
    for (product, entries), matrix, x in zip(found, matrices, X):
        np.testing.assert_allclose(np.asarray(product, matrix.dtype), matrix @ x, atol=tolerance)
        np.testing.assert_allclose(np.asarray(entries, matrix.dtype), matrix, atol=tolerance)
    np.testing.assert_allclose(np.asarray(at_complex), A @ Z, atol=tolerance)


def test_adjoint_identity(key):
    J = la.jacobian(tall, jax.random.normal(key, (2, 3)))
    u, v = jax.random.normal(key, (9,)), jax.random.normal(key, (6,))
    assert float(u @ (J @ v)) == pytest.approx(float((J.T @ u) @ v), rel=1e-5)


def test_verbs_and_algebra(key):
    x = jax.random.normal(key, (3, 3))
    J = la.jacobian(jnp.tanh, x)
    np.testing.assert_allclose(la.svdvals(J), np.sort(np.asarray(1 - jnp.tanh(x) ** 2).ravel())[::-1], atol=1e-6)
    np.testing.assert_allclose(la.materialize(la.I + J), np.eye(9) + reference(jnp.tanh, x), atol=1e-6)
    chain = la.jacobian(jnp.sin, jnp.tanh(x)) @ J
    np.testing.assert_allclose(la.materialize(chain), reference(lambda x: jnp.sin(jnp.tanh(x)), x), atol=1e-6)


def test_jit_vmap_and_gradients(key):
    x = jax.random.normal(key, (2, 2, 3))
    spectra = jax.jit(jax.vmap(lambda x: la.svdvals(la.jacobian(tall, x, memory_budget=200))))(x)
    expected = [np.linalg.svd(reference(tall, x[b]), compute_uv=False) for b in range(2)]
    np.testing.assert_allclose(spectra, expected, atol=1e-5)
    J = la.jacobian(tall, x[0])
    np.testing.assert_allclose(jax.jit(lambda J, v: J @ v)(J, jnp.ones(6)), reference(tall, x[0]).sum(1), atol=1e-5)


def test_arrays_that_a_jitted_function_closes_over_are_still_checked():
    good, bad = jnp.ones((2, 3)), jnp.full((2, 3), jnp.nan)
    scaled = jax.jit(lambda s, x=good: s * la.svdvals(la.jacobian(tall, x)))(2.0)
    np.testing.assert_allclose(scaled, 2 * la.svdvals(la.jacobian(tall, good)), atol=1e-5)
    with pytest.raises(NonFiniteError):
        jax.jit(lambda s: s * la.svdvals(la.jacobian(tall, bad)))(2.0)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_the_matrix_is_differentiable(mode, key, x64):
    x = jax.random.normal(key, (2, 3), "float64")
    check_grads(lambda x: la.norm(la.jacobian(tall, x, mode=mode, memory_budget=200)), (x,), 1, modes=["fwd", "rev"])


def test_arrays_in_callables_are_data(key):
    traces = []

    def f(w, x):
        traces.append(1)
        return jnp.tanh(w @ x)

    def spectrum(w):
        return la.svdvals(la.jacobian(jax.tree_util.Partial(f, w), jnp.zeros(3)))

    np.testing.assert_allclose(spectrum(jnp.eye(3)), np.ones(3), atol=1e-6)
    before = dense_jacobian._cache_size()
    np.testing.assert_allclose(spectrum(2 * jnp.eye(3)), 2 * np.ones(3), atol=1e-6)
    assert dense_jacobian._cache_size() == before


def test_prints_like_an_operator():
    J = la.jacobian(jnp.tanh, jnp.zeros((8, 8, 8)))
    assert repr(J) == "512×512 Jacobian{float32} of tanh at (8, 8, 8)"
    assert repr(J.T) == "512×512 Jacobian{float32} transposed, of tanh at (8, 8, 8)"


def test_chunks_keep_the_programs_memory_at_output_plus_budget():
    n, budget = 1024, 2**20

    def deep(x):
        for _ in range(20):
            x = jnp.tanh(x) * 1.01
        return x

    def temporary(budget):
        compiled = dense_jacobian.lower(deep, jnp.zeros(n), (), memory_budget=budget).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    output = 4 * n * n
    assert temporary(budget) < output + 2 * budget + 50 * 4 * n
    assert chunk_size(deep, jnp.zeros(n), (), budget) == budget // (3 * 4 * n)


def test_memory_at_4096_is_the_output_and_a_chunk_within_the_budget():
    n, budget = 4096, 64 * 2**20
    kernel = jnp.ones((3, 3, 16, 16))

    def layer(x):
        return jnp.tanh(la.Convolution(kernel, (16, 16)).apply(x[None])[0])

    x = jax.ShapeDtypeStruct((16, 16, 16), jnp.float32)
    memory = dense_jacobian.lower(layer, x, (), memory_budget=budget).compile().memory_analysis()
    assert memory.output_size_in_bytes == 4 * n * n
    assert 0.1 * budget < memory.temp_size_in_bytes <= budget


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: la.jacobian(jnp.sin, jnp.arange(3)), LinearAlgebraError, r"x is int32; convert it, x.astype"),
        (lambda: la.jacobian(jnp.argsort, jnp.ones(3)), LinearAlgebraError, "the output of argsort is int32"),
        (lambda: la.jacobian(lambda x: (x, x), jnp.ones(3)), LinearAlgebraError, "returns a tuple; select one output"),
        (lambda: la.jacobian(jnp.fft.rfft, jnp.ones(4)), LinearAlgebraError, "float32 to complex64"),
        (lambda: la.jacobian(3, jnp.ones(4)), LinearAlgebraError, "needs a function, got a int"),
        (lambda: la.jacobian(jnp.sin, jnp.ones(4), mode="fwd"), UnknownNameError, "did you mean 'forward'"),
        (lambda: la.jacobian(jnp.sin, jnp.ones(4), memory_budget=0), DimensionMismatch, "positive number of bytes"),
        (lambda: la.svdvals(la.jacobian(jnp.sin, jnp.array([jnp.nan]))), NonFiniteError, "Jacobian"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_matrices_above_the_limit_are_refused_with_the_remedy():
    J = la.jacobian(jnp.sin, jnp.ones(200))
    with la.dense_limit(1000), pytest.raises(DenseLimitError, match=r"200×200 float32 .* la\.dense_limit.*A @ x"):
        la.materialize(J)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
import lax_linalg as la
from lax_linalg.jacobian.materialize import dense_jacobian
from lax_linalg.jacobian.routes import jacobian_entries
mesh = jax.make_mesh((4, 2), ("data", "model"))
def f(x):
    return jnp.tanh(x @ x.T)[:, :5]
x = jax.random.normal(jax.random.key(0), (6, 3))
expected = np.asarray(jax.jacfwd(f)(x)).reshape(30, 18)
for mode in ("forward", "reverse"):
    got = la.materialize(la.jacobian(f, x, mode=mode, mesh=mesh, memory_budget=500))
    np.testing.assert_allclose(got, expected, atol=1e-6)
big = la.materialize(la.jacobian(jnp.tanh, jnp.ones(64), mesh=mesh))
assert big.sharding.shard_shape(big.shape) == (64, 8), big.sharding
kernel = jnp.ones((3, 3, 4, 4))
def network(x):
    for _ in range(2):
        x = jnp.tanh(la.Convolution(kernel, (8, 8)).apply(x[None])[0])
    return x
def flops(mode, mesh):
    x = jax.ShapeDtypeStruct((8, 8, 4), jnp.float32)
    analysis = dense_jacobian.lower(network, x, (), mode=mode, mesh=mesh).compile().cost_analysis()
    return (analysis[0] if isinstance(analysis, list) else analysis)["flops"]
for mode in ("forward", "reverse"):
    assert flops(mode, None) > 7 * flops(mode, mesh), (mode, flops(mode, None), flops(mode, mesh))
def route_flops(method, mesh):
    x = jax.ShapeDtypeStruct((8, 8, 4), jnp.float32)
    entries = jax.jit(jacobian_entries, static_argnames=("f", "method", "mesh"))
    return entries.lower(network, x, (), method=method, mesh=mesh).compile().cost_analysis()["flops"]
image = jax.random.normal(jax.random.key(1), (8, 8, 4))
expected = np.asarray(jax.jacfwd(network)(image)).reshape(256, 256)
for method, shard in (("structured", (32, 256)), ("coloured", (256, 32))):
    got = la.materialize(la.jacobian(network, image, mesh=mesh, method=method))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.sharding.shard_shape(got.shape) == shard, got.sharding
    again = la.materialize(la.jacobian(network, image / 2, method=method), out=got)
    np.testing.assert_allclose(again, np.asarray(jax.jacfwd(network)(image / 2)).reshape(256, 256), atol=1e-5)
    got = la.materialize(la.jacobian(network, image, mesh=mesh, method=method), out=again)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.sharding.shard_shape(got.shape) == shard, got.sharding
assert route_flops("structured", None) > 7 * route_flops("structured", mesh)
assert la.jacobian(network, image, mesh=mesh).route().method == "structured"
W = jax.random.normal(jax.random.key(2), (12, 16))
for g, at in (
    (lambda x: jnp.tanh(x)[::-1], jnp.arange(16.0)),
    (lambda x: x + W.T @ jnp.cos(W @ x), jnp.arange(16.0)),
    (lambda x: la.Convolution(kernel, (8, 2), stride=2).apply(jnp.sin(x)[None])[0], image[:, :2]),
):
    for method in ("structured", "coloured"):
        if method == "structured" and g(at).shape[0] == 4:
            continue  # four rows of an image cannot be shared by eight
        got = la.materialize(la.jacobian(g, at, mesh=mesh, method=method))
        np.testing.assert_allclose(got, np.asarray(jax.jacfwd(g)(at)).reshape(-1, at.size), atol=1e-5)
batch = la.layer_jacobians({"f": f}, jnp.stack([x, 2 * x]))["f"]
both = la.materialize(batch, mesh=mesh)
np.testing.assert_allclose(both[1], np.asarray(jax.jacfwd(f)(2 * x)).reshape(30, 18), atol=1e-6)
print("ok", len(jax.devices()))
"""


def test_columns_are_shared_over_eight_devices():
    flags = {"PYTHONPATH": str(TOP), "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    out = subprocess.run(
        [sys.executable, "-c", SHARDED],
        capture_output=True,
        text=True,
        env={**os.environ, **flags},
        check=False,
        timeout=240,
    )
    assert out.stdout.strip() == "ok 8", out.stderr


def test_norms_diagonals_and_traces_above_the_dense_limit_are_exact_and_stream() -> None:
    """Against the matrix in closed form, diag(1 − tanh²(W x)) W, with chunks that do not divide the columns."""
    rng = np.random.default_rng(0)
    for m, n in ((7, 7), (5, 8), (9, 4)):
        W, x = rng.standard_normal((m, n)).astype(np.float32), rng.standard_normal(n).astype(np.float32)
        M = (1 - np.tanh(W.astype(float) @ x) ** 2)[:, None] * W
        J = la.jacobian(lambda x, W: jnp.tanh(W @ x), jnp.asarray(x), jnp.asarray(W), memory_budget=3 * 4 * m * n * 3)

        def answers(J: la.Jacobian) -> list[jax.Array]:
            norms = [la.norm(J, p) for p in (1, 2, np.inf)] + [la.opnorm(J, p) for p in (1, np.inf)]
            diagonals = [la.diag(A, k) for A in (J, J.T) for k in (0, 2, -1)]
            return norms + diagonals + ([la.tr(J)] if J.shape[0] == J.shape[1] else [])

        with la.dense_limit(8):
            found = jax.jit(answers)(J)
        expected = [
            np.abs(M).sum(),
            np.linalg.norm(M),
            np.abs(M).max(),
            np.linalg.norm(M, 1),
            np.linalg.norm(M, np.inf),
        ]
        expected += [np.diagonal(A, k) for A in (M, M.T) for k in (0, 2, -1)] + ([np.trace(M)] if m == n else [])
        assert len(found) == len(expected)
        for value, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=3e-6, atol=3e-6)
    with la.dense_limit(8), pytest.raises(DenseLimitError):
        la.svdvals(la.jacobian(jnp.cumprod, jnp.ones(5)))
