"""Jacobians and their spectra against plain JAX and NumPy: layers, compositions, networks, memory, devices.

The peers stand in this file: `jax.jit(jax.jacfwd(f))`, its `vmap` over a batch, and `numpy.linalg.svd` without vectors.
Set-up (tracing, compilation, colouring) is not timed on either side. Fresh memory is part of every time except where a
row says that it is reused: a 4096×4096 float32 matrix is 64 MiB, whose pages the system must clear first. Memory that
`la.materialize` itself wrote is known to be zero outside of the places that a layer of the same shape writes again.
"""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lax_linalg as la
import models
from benchmarks.harness import Row, median_seconds
from lax_linalg.jacobian.materialize import dense_jacobian
from lax_linalg.jacobian.routes import jacobian_entries

TOP = pathlib.Path(__file__).parent.parent
N = 4096
BUDGET = 64 * 2**20


def conv_layer(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """tanh of a 3×3 convolution, zero padding, on one channels-last image."""
    y = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.tanh(y[0] + bias)


def conv_layers() -> tuple[jax.Array, jax.Array, jax.Array]:
    """Input, kernel and bias of the layer at n = 16·16·16 = 4096."""
    keys = jax.random.split(jax.random.key(0), 3)
    return jax.random.normal(keys[0], (16, 16, 16)), jax.random.normal(keys[1], (3, 3, 16, 16)) / 12, jnp.zeros(16)


@functools.partial(jax.jit, donate_argnums=0, keep_unused=True)
def _filled(matrix: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.broadcast_to(value, matrix.shape)


class Filled:
    """One number stored again and again in the memory of one 64 MiB matrix: the floor of what forms all entries."""

    def __init__(self):
        self.matrix = jnp.ones((N, N))

    def __call__(self) -> jax.Array:
        self.matrix = _filled(self.matrix, np.zeros((), np.float32))
        return self.matrix


class Again:
    """A donating function that gets its last result back."""

    def __init__(self, function: Callable[..., Any], first: Any, *arguments: Any):
        self.function, self.last, self.arguments = function, first, arguments

    def __call__(self) -> Any:
        self.last = self.function(self.last, *self.arguments)
        return self.last


@functools.partial(jax.jit, donate_argnums=0)
def _passed_on(matrix: jax.Array) -> jax.Array:
    return matrix


class Reused:
    """The dense matrix again and again in one memory, of which it is known, or not, that its zeros stand."""

    def __init__(self, J: la.Jacobian, *, known: bool):
        self.J, self.matrix, self.known = J, la.materialize(J), known

    def __call__(self) -> jax.Array:
        self.matrix = la.materialize(self.J, out=self.matrix if self.known else _passed_on(self.matrix))
        return self.matrix


def layer_rows() -> list[Row]:
    """One convolutional layer, and two with an activation between."""
    x, kernel, bias = conv_layers()
    J = la.jacobian(conv_layer, x, kernel, bias)
    plain = jax.jit(jax.jacfwd(conv_layer))
    factors = jax.jit(lambda J: J.structure)
    seconds = median_seconds(
        {
            "jacfwd": lambda: plain(x, kernel, bias),
            "fresh": lambda: la.materialize(J),
            "reused": Reused(J, known=True),
            "unknown": Reused(J, known=False),
            "filled": Filled(),
            "factors": lambda: factors(J),
            "zeros": lambda: jnp.zeros((N, N)),
        },
        repeats=9,
    )
    error = float(jnp.max(jnp.abs(la.materialize(J) - plain(x, kernel, bias).reshape(N, N))))
    ms = {name: 1e3 * value for name, value in seconds.items()}
    shared = f"jacfwd {ms['jacfwd']:.1f} ms, largest difference {error:.1e}"
    rows = [
        Row(
            "conv layer 16×16×16, tanh: entries in reused memory",
            ms["jacfwd"] / ms["reused"],
            "jax.jacfwd time / ours",
            "≥ 40",
            f"{ms['reused']:.2f} ms: out= is the matrix of the step before, whose zeros outside of the kernel's slabs "
            f"stand and are not written again (storing 64 MiB: {ms['filled']:.2f} ms); {shared}",
        ),
        Row(
            "conv layer 16×16×16, tanh: entries in memory of unknown content",
            ms["jacfwd"] / ms["unknown"],
            "jax.jacfwd time / ours",
            "",
            f"{ms['unknown']:.2f} ms: out= is a matrix from elsewhere, so the zeros are written, too",
        ),
        Row(
            "conv layer 16×16×16, tanh: entries in fresh memory",
            ms["jacfwd"] / ms["fresh"],
            "jax.jacfwd time / ours",
            "",
            f"{ms['fresh']:.1f} ms, of which jnp.zeros alone takes {ms['zeros']:.1f} ms",
        ),
        Row(
            "conv layer 16×16×16, tanh: as Diagonal · Convolution",
            ms["jacfwd"] / ms["factors"],
            "jax.jacfwd time / ours",
            "≥ 40",
            f"{ms['factors']:.3f} ms, all entries determined, none formed",
        ),
    ]

    def two(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return conv_layer(conv_layer(x, kernel, bias), kernel, bias)

    plain_two, J2 = jax.jit(jax.jacfwd(two)), la.jacobian(two, x, kernel, bias)
    seconds = median_seconds(
        {"jacfwd": lambda: plain_two(x, kernel, bias), "ours": lambda: la.materialize(J2)}, repeats=3, warmup=1
    )
    detail = f"{1e3 * seconds['ours']:.0f} against {1e3 * seconds['jacfwd']:.0f} ms, route: {J2.route().method}"
    rows.append(
        Row("conv, tanh, conv, tanh, n = 4096", seconds["jacfwd"] / seconds["ours"], "jacfwd time / ours", "", detail)
    )
    return rows


# glibc keeps what is freed instead of giving it back to the system
KEPT = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_ARENA_MAX": "1"}
FRESH = """
from benchmarks.jacobian import fresh_ratio
print(fresh_ratio())
"""


def fresh_ratio() -> float:
    """Time of `jax.jacfwd` by ours for the layer's entries in memory that the process allocates anew."""
    x, kernel, bias = conv_layers()
    J, plain = la.jacobian(conv_layer, x, kernel, bias), jax.jit(jax.jacfwd(conv_layer))
    seconds = median_seconds({"jacfwd": lambda: plain(x, kernel, bias), "ours": lambda: la.materialize(J)}, repeats=9)
    return seconds["jacfwd"] / seconds["ours"]


def kept_rows() -> list[Row]:
    """The same entries where the process keeps the memory that it freed, both sides alike."""
    detail = "without `out=`; in the environment " + " ".join(f"{name}={value}" for name, value in KEPT.items())
    ratio = _child(FRESH, **KEPT)
    return [Row("conv layer 16×16×16, tanh: freed memory kept by glibc", ratio, "jax.jacfwd time / ours", "", detail)]


def gemm_rows() -> list[Row]:
    """An MLP of 8 layers of 1024: the rate of its end-to-end Jacobian beside that of a matrix product of that size."""
    n, depth = 1024, 8
    weights = jax.random.normal(jax.random.key(0), (depth, n, n)) / n**0.5

    def network(x: jax.Array, weights: jax.Array) -> jax.Array:
        for l in range(depth):
            x = jnp.tanh(weights[l] @ x)
        return x

    x = jax.random.normal(jax.random.key(1), (n,))
    J = la.jacobian(network, x, weights)
    product = jax.jit(jnp.matmul)
    plain = jax.jit(jax.jacfwd(network))
    seconds = median_seconds(
        {
            "gemm": lambda: product(weights[0], weights[1]),
            "ours": lambda: la.materialize(J),
            "jacfwd": lambda: plain(x, weights),
        },
        repeats=7,
    )
    flops = 2.0 * n**3
    # the first layer's Jacobian is Diagonal · W itself, so 7 products are done for 8 layers; only those are counted
    rate, best = (depth - 1) * flops / seconds["ours"], flops / seconds["gemm"]
    detail = (
        f"{rate / 1e9:.0f} of {best / 1e9:.0f} GFLOP/s, {1e3 * seconds['ours']:.0f} ms; "
        f"jacfwd {1e3 * seconds['jacfwd']:.0f} ms"
    )
    return [Row("dense network, n = 1024, 8 layers", rate / best, "our FLOP rate / matrix product's", "≥ 0.85", detail)]


def resnet_rows() -> list[Row]:
    """All layer Jacobians of the demonstration's network at two inputs, and their spectra."""
    model = models.ResNet(input_shape=(8, 8, 1), num_classes=10, rngs=nnx.Rngs(0))
    model.eval()
    graphdef, state = nnx.split(model)
    state = nnx.as_pure(state)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    batches = la.layer_jacobians(model, x)

    @jax.jit
    def matrices(state: Any, x: jax.Array) -> dict[str, jax.Array]:
        J = la.layer_jacobians(nnx.merge(graphdef, state), x)
        return {path: la.materialize(batch) for path, batch in J.items()}

    @jax.jit
    def spectra(state: Any, x: jax.Array) -> dict[str, jax.Array]:
        J = la.layer_jacobians(nnx.merge(graphdef, state), x)
        return {path: la.svdvals(batch) for path, batch in J.items()}

    @functools.partial(jax.jit, donate_argnums=0, keep_unused=True)
    def matrices_again(old: dict[str, jax.Array], state: Any, x: jax.Array) -> dict[str, jax.Array]:
        return matrices(state, x)

    @functools.partial(jax.jit, donate_argnums=0, keep_unused=True)
    def plain_again(old: dict[str, jax.Array], batches: la.LayerJacobians) -> dict[str, jax.Array]:
        return plain(batches)

    @jax.jit
    def plain(batches: la.LayerJacobians) -> dict[str, jax.Array]:
        """vmap(jacfwd) of every layer at its own input."""
        return {
            path: jax.vmap(jax.jacfwd(lambda x, b=b: b.make.function(x, *b.args)))(b.x).reshape(b.shape)
            for path, b in batches.items()
        }

    @jax.jit
    def stored(x: jax.Array) -> dict[str, jax.Array]:
        """One number in place of every entry: the floor of what forms them all."""
        return {path: jnp.broadcast_to(x[0, 0, 0, 0], b.shape) for path, b in batches.items()}

    @jax.jit
    def blocks(batches: la.LayerJacobians) -> dict[str, jax.Array]:
        """The three residual blocks, whose Jacobians are sums of products, at their inputs."""
        return {path: la.materialize(b) for path, b in batches.items() if path.count("/") == 1 and "block" in path}

    forward = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))

    def by_numpy() -> dict[str, np.ndarray]:
        return {k: np.linalg.svd(np.asarray(v), compute_uv=False) for k, v in plain(batches).items()}

    found, expected = spectra(state, x), by_numpy()
    error = max(float(np.max(np.abs(found[k] - expected[k])) / np.max(expected[k])) for k in expected)
    seconds = median_seconds(
        {
            "matrices": lambda: matrices(state, x),
            "plain": lambda: plain(batches),
            "matrices again": Again(matrices_again, matrices(state, x), state, x),
            "plain again": Again(plain_again, plain(batches), batches),
            "spectra": lambda: spectra(state, x),
            "numpy": by_numpy,
            "stored": lambda: stored(x),
            "blocks": lambda: blocks(batches),
            "forward": lambda: forward(state, x),
        },
        repeats=7,
    )
    ms = {name: 1e3 * value for name, value in seconds.items()}
    share = 1 - ms["matrices"] / ms["spectra"]
    return [
        Row(
            "all layer Jacobians of the demo ResNet",
            ms["plain"] / ms["matrices"],
            "vmap(jacfwd) time / ours",
            "≥ 10",
            f"{len(batches)} layers, 2 inputs: {ms['matrices']:.1f} against {ms['plain']:.1f} ms, fresh memory; by "
            f"themselves the three residual blocks take {ms['blocks']:.1f} ms, the forward pass {ms['forward']:.1f}, "
            f"storing one number in every entry {ms['stored']:.1f}",
        ),
        Row(
            "the same, both sides in reused memory",
            ms["plain again"] / ms["matrices again"],
            "vmap(jacfwd) time / ours",
            "≥ 10",
            f"{ms['matrices again']:.1f} against {ms['plain again']:.1f} ms",
        ),
        Row(
            "their full spectra, end to end",
            ms["numpy"] / ms["spectra"],
            "vmap(jacfwd) + numpy.linalg.svd time / ours",
            "> 1",
            f"{ms['spectra']:.0f} against {ms['numpy']:.0f} ms; SVD: {share:.0%} of ours; difference {error:.0e} σ₁",
        ),
    ]


def deep(x: jax.Array) -> jax.Array:
    """Twenty elementwise layers at n = 4096: plain jacfwd keeps many n × n arrays."""
    for _ in range(20):
        x = jnp.tanh(x) * 1.01
    return jnp.cumsum(x)


# a process inherits ru_maxrss from the one that started it; VmHWM is its own, and 5 sets it back to what is resident
MEMORY = """
import pathlib, re, sys
import jax, jax.numpy as jnp
import lax_linalg as la
from benchmarks.jacobian import BUDGET, N, conv_layer, conv_layers
x, kernel, bias = conv_layers()
run = {
    "ours": lambda: la.materialize(la.jacobian(conv_layer, x, kernel, bias, method="dense", memory_budget=BUDGET)),
    "jacfwd": lambda: jax.jit(jax.jacfwd(conv_layer))(x, kernel, bias),
}[sys.argv[1]]
jax.block_until_ready(conv_layer(x, kernel, bias))
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = peak()
jax.block_until_ready(run())
print(peak() - before)
"""

SHARDED = """
import sys
import jax, jax.numpy as jnp
from benchmarks.jacobian import flops_of
mesh = jax.make_mesh((8,), ("data",))
print(flops_of(sys.argv[1], None) / flops_of(sys.argv[1], mesh))
"""


def flops_of(method: str, mesh: Any) -> float:
    """FLOPs of one device's program for the Jacobian of three convolutional layers of 8×8×4, from its cost analysis."""
    kernel = jnp.ones((3, 3, 4, 4))

    def network(x: jax.Array) -> jax.Array:
        for _ in range(3):
            x = conv_layer(x, kernel, jnp.zeros(4))
        return x

    x = jax.ShapeDtypeStruct((8, 8, 4), jnp.float32)
    entries = jax.jit(jacobian_entries, static_argnames=("f", "method", "mesh"))
    analysis: Any = entries.lower(network, x, (), method=method, mesh=mesh).compile().cost_analysis()
    return (analysis[0] if isinstance(analysis, list) else analysis)["flops"]


def _child(code: str, *arguments: str, **environment: str) -> float:
    given = {**os.environ, "PYTHONPATH": str(TOP), "JAX_PLATFORMS": "cpu", **environment}
    out = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=given, timeout=600
    )
    return float(out.stdout.split()[-1])


def memory_rows() -> list[Row]:
    """Peak memory at n = 4096 with a budget of 64 MiB, by the program's own account and by the process's size."""
    x, kernel, bias = conv_layers()
    rows = []
    for name, f, at, args in (("conv layer", conv_layer, x, (kernel, bias)), ("20 layers", deep, jnp.zeros(N), ())):
        ours: Any = dense_jacobian.lower(f, at, args, memory_budget=BUDGET).compile().memory_analysis()
        plain: Any = jax.jit(jax.jacfwd(f)).lower(at, *args).compile().memory_analysis()
        detail = f"output {ours.output_size_in_bytes >> 20} MiB; jacfwd {plain.temp_size_in_bytes / BUDGET:.2f}"
        ratio = ours.temp_size_in_bytes / BUDGET
        rows.append(
            Row(f"memory beside the output, all products, {name}", ratio, "temporaries / budget", "≤ 1", detail)
        )
    ours, plain = _child(MEMORY, "ours"), _child(MEMORY, "jacfwd")
    detail = f"resident memory grew by {ours:.0f} MiB (jacfwd: {plain:.0f}), the compiler's included"
    rows.append(Row("process memory, conv layer", ours / 128, "growth / (output + budget)", "≤ 1", detail))
    return rows


def device_rows() -> list[Row]:
    """FLOPs per device when eight emulated devices share the products, the colours, or the rows of bands."""
    rows = []
    for method, target in (("dense", "≥ 7"), ("coloured", "≥ 7"), ("structured", "≥ 7")):
        ratio = _child(SHARDED, method, XLA_FLAGS="--xla_force_host_platform_device_count=8")
        unit = "FLOPs on one device / per device on 8"
        rows.append(Row(f"a Jacobian over 8 devices, {method}", ratio, unit, target, "compiled programs"))
    return rows


PARTS: dict[str, Callable[[], list[Row]]] = {
    "layer": layer_rows,
    "kept": kept_rows,
    "gemm": gemm_rows,
    "resnet": resnet_rows,
    "memory": memory_rows,
    "devices": device_rows,
}


def rows() -> list[Row]:
    """Every number above."""
    return [row for part in PARTS.values() for row in part()]


if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        for row in PARTS[name]():
            print(row, flush=True)
