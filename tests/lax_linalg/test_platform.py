"""Every factorisation on the host and on the device: the same mathematics, batches, gradients; what lowers where."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la
from lax_linalg.dense import platform
from lax_linalg.errors import UnknownNameError
from tests.compilations import compilations
from tests.lax_linalg.gradients import check_gradient

SHAPES = [(5, 5), (6, 4), (3, 5)]


def matrices(shape, dtype="float64", batch=3):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((batch, *shape))
    return (a + 1j * rng.standard_normal(a.shape) if np.dtype(dtype).kind == "c" else a).astype(dtype)


def on(route, function):
    """The function, traced with that route."""

    def run(*args):
        with platform.forced(route):
            return function(*args)

    return jax.jit(run)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_svd_routes_agree(shape, dtype, x64):
    a = matrices(shape, dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-5

    @jax.jit
    def everything(a):
        routes = {
            route: on(route, jax.vmap(lambda a: (platform.svdvals(a), platform.svd(a))))(a)
            for route in ("host", "device")
        }
        return routes, on("host", lambda a: platform.svd(a, full_matrices=True))(a[0])

    found, full = jax.tree.map(np.asarray, everything(a))
    for values, (u, s, vt) in found.values():
        assert u.dtype == a.dtype
        np.testing.assert_allclose(s, values, atol=tolerance)
        np.testing.assert_allclose((u * s[:, None, :]) @ vt, a, atol=tolerance)
    np.testing.assert_allclose(found["host"][0], found["device"][0], atol=tolerance)
    np.testing.assert_allclose(full[0] @ full[0].conj().T, np.eye(shape[0]), atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_eigenvalue_and_schur_routes_agree(dtype, x64):
    a = matrices((5, 5), dtype)
    tolerance = 1e-10 if dtype == "float64" else 1e-4

    def everything(a):
        return platform.eigvals(a), platform.eig(a), platform.schur(a)

    both = jax.jit(lambda a: {route: on(route, jax.vmap(everything))(a) for route in ("host", "device")})
    found = jax.tree.map(np.asarray, both(a))
    for values, (w, v), (t, z) in found.values():
        np.testing.assert_allclose(np.sort_complex(w), np.sort_complex(values), atol=tolerance)
        np.testing.assert_allclose(a @ v, v * w[:, None, :], atol=tolerance)
        np.testing.assert_allclose(z @ t @ z.conj().mT, a, atol=tolerance)
        np.testing.assert_allclose(np.tril(t, -1), 0, atol=tolerance)
    np.testing.assert_allclose(*(np.sort_complex(found[r][0]) for r in ("host", "device")), atol=tolerance)


@pytest.mark.parametrize("route", ["host", "device"])
def test_gradients_through_both_routes(route, x64):
    def cubes(a):
        return jnp.sum(platform.svdvals(a) ** 3)

    def functions(a):
        vectors = platform.eig(a)[1]
        return (
            *(cubes(a), jax.grad(cubes)(a)),  # its second derivative too
            jnp.sum(jnp.abs(platform.eigvals(a)) ** 2),
            jnp.sum(jnp.abs(vectors) ** 3),
        )

    # the rules of derivatives are traced where the gradient is
    check_gradient(functions, matrices((4, 4))[0], jit=functools.partial(on, route))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_hosts_svd_has_the_devices_derivative(shape, dtype, x64):
    a, da = matrices(shape, dtype, batch=2)

    def invariant(a):  # of the signs that are free
        u, s, vt = platform.svd(a)
        return u * jnp.sin(s) @ vt, s

    @jax.jit
    def both(a, da):
        return [on(r, lambda a, da: jax.jvp(invariant, (a,), (da,)))(a, da) for r in ("host", "device")]

    host, device = both(a, da)
    for h, d in zip(jax.tree.leaves(host), jax.tree.leaves(device)):
        np.testing.assert_allclose(h, d, atol=1e-10)


def test_the_host_gives_nan_where_the_device_does():
    a = np.stack([np.eye(2), np.full((2, 2), np.nan)]).astype(np.float32)
    for function in (platform.svdvals, platform.eigvals):
        values = on("host", jax.vmap(function))(a)
        np.testing.assert_array_equal(np.isnan(values), [[False] * 2, [True] * 2])


def test_what_a_device_lacks_goes_to_the_host():
    for function, primitive in ((platform.eigvals, "eig["), (platform.schur, "schur[")):
        program = str(jax.make_jaxpr(function)(jnp.eye(3)))
        assert all(part in program for part in ("platform_index", "pure_callback", primitive))
        text = jax.jit(function).lower(jnp.eye(3)).as_text()  # on this CPU
        assert "lapack_" in text and "callback" not in text
        for route, there, absent in (("host", "pure_callback", primitive), ("device", primitive, "pure_callback")):
            forced = str(jax.make_jaxpr(on(route, function))(jnp.eye(3)))
            assert there in forced and absent not in forced
    for device in ("cuda", "tpu"):  # every device has the SVD
        text = jax.jit(platform.svdvals).trace(jnp.eye(3)).lower(lowering_platforms=(device,)).as_text()
        assert "callback" not in text and "lapack" not in text


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to one core")
def test_the_host_route_does_not_wait_for_the_only_core():
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, numpy as np
from lax_linalg.dense import platform
with platform.forced("host"):
    values = jax.jit(platform.svdvals)
    for i in range(100):  # with products queued behind the factorisations
        x = jax.random.normal(jax.random.key(i), (200, 200))
        s = values(x @ x.T)
np.testing.assert_allclose(s, np.linalg.svd(x @ x.T, compute_uv=False), rtol=1e-3, atol=1e-2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_stacks_in_one_program_do_not_wait_for_each_other():
    code = """
import jax, jax.numpy as jnp
from lax_linalg.dense import platform
svdvals, eigvalsh = jax.vmap(platform.svdvals), jax.vmap(platform.eigvalsh)
@jax.jit
def spectra(stacks):
    found = []
    for x in stacks:
        y, z = jnp.sin(x) + jnp.cos(x) * x, jnp.tanh(x + jnp.exp(-x**2))
        found += [svdvals(y), eigvalsh(z @ z.mT), svdvals(z.mT @ y)]
    return found
stacks = [jax.random.normal(jax.random.key(i), (64, 40 + i, 40 + i)) for i in range(4)]
for _ in range(40):
    jax.block_until_ready(spectra(stacks))
    platform.each(platform.svdvals, stacks[3])
"""
    environment = os.environ | {"PJRT_NPROC": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("shape", "dtype"), [((45, 2, 24, 24), "float64"), ((97, 30, 20), "complex64")])
def test_a_stack_shared_among_the_cores_has_the_loops_values(shape, dtype, x64, monkeypatch):
    monkeypatch.setattr(platform, "_cores", lambda: 4)  # 90 and 97 matrices do not divide by 4
    a = matrices(shape[1:], dtype, batch=shape[0])
    a[3] = 0
    a = jnp.asarray(a)
    shared = []
    monkeypatch.setattr(platform, "_on_all_cores", lambda *args, f=platform._on_all_cores: shared.append(1) or f(*args))
    for function in (platform.svdvals, *([platform.eig] if shape[-1] == shape[-2] else [])):
        found = platform.each(function, a)
        inside = jax.jit(lambda a: platform.each(function, a))(a)  # noqa: B023
        assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), inside)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(inside)):
            np.testing.assert_array_equal(one, other)
        shared.pop()
    assert not shared  # once for each function, outside of jit only
    platform.each(platform.svdvals, a[:4])
    jax.grad(lambda a: jnp.sum(platform.each(platform.svdvals, a)))(a[:, ..., :2, :2])
    assert not shared


def test_svd_algorithms():
    a = matrices((6, 4), "float32")[0]
    expected = np.linalg.svd(a, compute_uv=False)
    for name in platform.SVD_ALGORITHMS:
        with platform.svd_algorithm(name):
            np.testing.assert_allclose(la.svdvals(a), expected, atol=1e-5)
    with platform.svd_algorithm("polar"):  # the choice reaches the accelerator's program
        polar = jax.jit(platform.svdvals).trace(jnp.eye(130)).lower(lowering_platforms=("tpu",)).as_text()
    with platform.svd_algorithm("jacobi"):
        jacobi = jax.jit(platform.svdvals).trace(jnp.eye(130)).lower(lowering_platforms=("cuda",)).as_text()
    assert "while" in polar and "gesvdj" in jacobi
    with (
        pytest.raises(UnknownNameError, match="unknown SVD algorithm 'jacobbi'; did you mean 'jacobi'"),
        platform.svd_algorithm("jacobbi"),
    ):
        pass
    with pytest.raises(UnknownNameError, match="unknown route 'gpu'"), platform.forced("gpu"):
        pass


ROUTED = {
    "svds": lambda a: la.svds(a, 1).S,
    "svdvals": la.svdvals,
    "pinv": la.pinv,
    "batch": lambda a: la.svdvals(la.Batch(la.Dense, jnp.stack([a, 2 * a]))),
    "blocks": lambda a: la.svdvals(la.BlockDiagonal([a, 2 * a])),
    "schur": lambda a: la.schur(a).T,
}


@pytest.mark.parametrize("first", ["host", "auto"])
def test_a_program_belongs_to_the_route_that_it_was_compiled_for(first):
    a = jnp.ones((3, 3) if first == "host" else (4, 4))
    kept = {name: jax.jit(f) for name, f in ROUTED.items()}
    for route in (first, "auto" if first == "host" else "host", first):
        for name, f in ROUTED.items():
            for program in (kept[name], jax.jit(lambda a: f(a))):  # noqa: B023  (the caller's program, and what it calls)
                with platform.forced(route):
                    text = program.lower(a).as_text()
                found = {"host": "python_cpu_callback" in text, "auto": bool(re.search("lapack_.(ge[es]|sytrd)", text))}
                assert found == {"host": route == "host", "auto": route == "auto"}, (name, route)


@pytest.mark.parametrize(
    ("operator", "verbs"),
    [
        (la.Convolution(np.ones((3, 3, 2, 2)), (4, 4), padding="circular"), "svdvals opnorm svd"),
        (la.Convolution(np.ones((2, 1, 1)), 3, padding="circular"), "polar pinv"),
        (la.Convolution(np.ones((2, 2, 2, 2)), (4, 4), padding="circular", stride=2), "svdvals opnorm svd"),
        (la.Convolution(np.ones((3, 2, 4)), 5, groups=2), "svdvals opnorm svd"),
        (la.Bidiagonal(np.arange(1.0, 6.0), np.ones(4)), "svdvals cond"),
        (la.TriangularToeplitz([1.0, 2.0, 3.0]), "exp log sqrt"),
        (la.BlockDiagonal(np.ones((2, 2, 2))), "norm exp pinv polar"),
        (la.Symmetric(np.eye(2)), "log sqrt"),
        (la.Dense(np.eye(2)), "numerical_range eigenvalue_condition_numbers"),
        (la.Batch(la.Dense, np.ones((2, 3, 3))), "svdvals eigvals"),
        (la.Stack(la.Dense, np.ones((2, 3, 3))), "svdvals eigvals"),
    ],
    ids=str,
)
def test_a_second_call_outside_of_jit_compiles_nothing(operator, verbs):
    assert not recompiled(lambda: [getattr(la, verb)(operator) for verb in verbs.split()])


def test_a_second_derivative_outside_of_jit_compiles_nothing():
    a = jnp.array([[2.0, 1.0], [0.0, 1.0]])
    assert not recompiled(lambda: [jax.grad(la.det)(a), jax.jvp(lambda a: tuple(la.schur(a)), (a,), (a,))])


def recompiled(call) -> list[str]:
    """What is compiled when a function is called for the second time."""
    call()
    with compilations() as compiled:
        jax.block_until_ready(jax.tree.leaves(call()))
        return compiled.copy()
