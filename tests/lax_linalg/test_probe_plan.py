"""What a probe plans from shapes, and what it says of layers too large for all values: against NumPy's SVD."""

from __future__ import annotations

import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from tests.lax_linalg import drawn


class Net(nnx.Module):
    """A token-wise dense layer with 49,152 inputs, and layers that need their matrix."""

    def __init__(self, *, rngs):
        self.wide = nnx.Linear(6, 6, use_bias=False, rngs=rngs)
        self.conv = nnx.Conv(6, 6, (3,), rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.tanh(self.conv(self.wide(x))).mean(axis=1))


def test_a_plan_is_made_from_shapes_alone(monkeypatch):
    from lax_linalg.jacobian import routes

    monkeypatch.setattr(routes, "coloring_of", None)  # is not asked for
    model = drawn.module(lambda: Net(rngs=nnx.Rngs(0)))
    probe = la.SpectrumProbe(model, jnp.zeros((1, 8192, 6)), k=3)
    assert probe.layers == ("wide", "conv", "head", "end_to_end")
    methods = {path: row.method for path, row in probe.plan.items()}
    assert methods == {"wide": "exact", "conv": "partial", "head": "exact", "end_to_end": "exact"}
    wide, conv = probe.plan["wide"], probe.plan["conv"]
    assert (wide.shape, wide.products, wide.bytes) == ((1, 49152, 49152), 0, 4 * 37)  # W and the identity's scalar
    assert "Kronecker has its own algorithm" in wide.why and "above 2048 values" in conv.why
    assert conv.bytes < 256 * 2**20 and conv.how.k == 3
    table = str(probe.plan).splitlines()
    assert table[0].split() == ["layer", "shape", "method", "products", "FLOPs", "bytes", "why"]
    assert table[2].startswith("conv        1×49152×49152  partial, k = 3")


@pytest.fixture(scope="module")
def small():
    x = drawn.draw(0, 3, 100)
    module = linen.Sequential([linen.Dense(90), jnp.tanh, linen.Dense(95)])
    return module, drawn.variables(module, x), x


def test_partial_values_lie_within_their_residuals_and_norms_within_their_errors(small):
    module, variables, x = small
    whole = jax.jit(jax.vmap(jax.jacfwd(lambda x: module.apply(variables, x[None])[0])))(x)
    exact = np.linalg.svd(np.asarray(whole, np.float64), compute_uv=False)
    options = {"method": {"end_to_end": "partial", "layers_0": "density"}, "k": 4}
    # 2 · 48 steps · 8 vectors · (90 + 100) · 4 bytes are the density's of one example: one at a time
    probe = la.SpectrumProbe((module, variables), x, memory_budget=600_000, **options)
    assert (probe.plan["layers_0"].bytes, probe.plan["layers_0"].how.examples) == (583_680, 1)
    with probe:
        probe.submit(0, variables)
        (record,) = probe.wait()
    assert record.methods == {"layers_0": "density", "layers_2": "exact", "end_to_end": "partial"}
    found = record.spectra["end_to_end"]
    assert found["largest_singular_values"].shape == found["residuals"].shape == (3, 4)
    gaps = np.abs(found["largest_singular_values"][:, :, None] - exact[:, None, :]).min(axis=-1)
    assert (gaps <= found["residuals"] + 1e-5).all()
    assert (found["residuals"] <= 1e-2 * exact[:, :1]).all()
    norms = np.linalg.norm(exact, axis=1)
    assert (np.abs(found["frobenius"] - norms) < 4 * found["frobenius_error"]).all()
    density = record.spectra["layers_0"]
    mass = np.trapezoid(density["density"], density["density_grid"])
    np.testing.assert_allclose(mass, 1, atol=1e-2)
    with pytest.raises(LinearAlgebraError, match="the probe is closed"):
        probe.submit(1, variables)


def test_a_budget_too_small_for_anything_names_what_is_needed(small):
    module, variables, x = small
    with pytest.raises(
        LinearAlgebraError, match="'end_to_end' is 95×100 and needs .* more than memory_budget=100; raise"
    ):
        la.SpectrumProbe((module, variables), x, memory_budget=100)
    loop = lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) > 1, lambda x: 0.5 * x, x)  # noqa: E731
    probe = la.SpectrumProbe({"loop": loop, "mean": jnp.mean}, x[:, :9], ["loop", "mean"], memory_budget=600)
    assert "cannot be differentiated in reverse" in probe.left_out["loop"] and probe.layers == ("mean",)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "exakt"}, UnknownNameError, "unknown probe method 'exakt'; did you mean 'exact'"),
        ({"method": {"blocks/*": "exact"}}, UnknownNameError, r"unknown layer 'blocks/\*'"),
        ({"k": 0}, DimensionMismatch, "k is a positive number"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        la.SpectrumProbe([jnp.sin], jnp.ones((1, 2)), **options)


SCRIPT = """
import time, jax.numpy as jnp, lax_linalg as la
probe = la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 3)))
probe._worker.submit(time.sleep, 600)
probe.submit(0, [jnp.tanh])
print("end", flush=True)
"""


def test_a_script_ends_whatever_is_under_way():
    """The worker is asleep for ten minutes; a script that waited for it would run into the time limit."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_close_drops_what_is_under_way():
    probe = la.SpectrumProbe([jnp.cos], jnp.ones((1, 3)))
    probe._worker.submit(time.sleep, 1)
    assert probe.submit(0, [jnp.cos]) and probe.submit(1, [jnp.cos])
    probe.close()
    assert (probe.pending, probe.wait()) == (0, [])
