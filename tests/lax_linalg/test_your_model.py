"""Models that this repository did not write, in their own loops: the Flax examples' CNN, Equinox, attention, an LSTM.

And docs/your_model.md, whose code is run: here, and from the wheel in an environment that holds nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pathlib
import re
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError
from tests.lax_linalg import drawn

TOP = pathlib.Path(__file__).parent.parent.parent


def blocks(page: str) -> list[tuple[str, str]]:
    """The Python code of a page of docs/ and what the page says that it prints."""
    return re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", (TOP / "docs" / page).read_text(), re.S)


BLOCKS = blocks("your_model.md")


def reference(f, x):
    """Dense per-example Jacobians of a function of batches."""
    J = jax.jit(jax.vmap(jax.jacfwd(lambda x: f(x[None])[0])))(x)
    return np.asarray(J).reshape(x.shape[0], -1, x[0].size)


class CNN(nnx.Module):
    """The shape of the MNIST example of NNX: convolutions, batch statistics, dropout, pooling, two dense layers."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 3, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm1 = nnx.BatchNorm(3, rngs=rngs)
        self.dropout1 = nnx.Dropout(rate=0.025)
        self.conv2 = nnx.Conv(3, 4, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm2 = nnx.BatchNorm(4, rngs=rngs)
        self.avg_pool = functools.partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(16, 8, rngs=rngs)
        self.dropout2 = nnx.Dropout(rate=0.025)
        self.linear2 = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x, rngs: nnx.Rngs | None = None):
        x = self.avg_pool(nnx.relu(self.batch_norm1(self.dropout1(self.conv1(x), rngs=rngs))))
        x = self.avg_pool(nnx.relu(self.batch_norm2(self.conv2(x))))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.dropout2(self.linear1(x), rngs=rngs))
        return self.linear2(x)


def test_the_nnx_examples_cnn_in_a_loop_of_its_own():
    images, labels = drawn.draw(0, 8, 8, 8, 1), np.arange(8) % 5
    model = drawn.module(lambda: CNN(rngs=nnx.Rngs(0)))
    probe = la.SpectrumProbe(model, images[:2])
    layers = ("conv1", "batch_norm1", "conv2", "batch_norm2", "linear1", "linear2", "end_to_end")
    assert probe.layers == layers

    @nnx.jit
    def update(model, rngs):
        def loss(model, rngs):
            return -jnp.mean(jax.nn.log_softmax(model(images, rngs))[jnp.arange(8), labels])

        grads = nnx.grad(loss)(model, rngs)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(model, nnx.Param), grads))

    rngs = nnx.Rngs(1)
    for step in range(2):
        probe.submit(step, model)
        update(model, rngs)
    records = probe.wait()
    assert [record.step for record in records] == [0, 1]
    first, last = (record.spectra["conv1"]["singular_values"] for record in records)
    assert not np.allclose(first, last)  # the network moved

    with pytest.raises(LinearAlgebraError, match="layer 'dropout1' drops units at random"):
        la.layer_jacobians(model, images[:2])  # the probe left the model in training mode
    model.eval()
    J = la.layer_jacobians(model, images[:2])
    graphdef, state = nnx.split(model)

    @jax.jit
    def found_and_whole(J, x):
        found = {path: la.materialize(J[path]) for path in ("end_to_end", "batch_norm1")}
        return found, jax.vmap(jax.jacfwd(lambda x: nnx.merge(graphdef, state)(x[None])[0]))(x).reshape(2, -1, 64)

    found, whole = found_and_whole(J, images[:2])
    np.testing.assert_allclose(found["end_to_end"], whole, atol=1e-5)
    scale = np.asarray(model.batch_norm1.scale[...]) / np.sqrt(np.asarray(model.batch_norm1.var[...]) + 1e-5)
    np.testing.assert_allclose(found["batch_norm1"][0], np.diag(np.tile(scale, 64)), atol=1e-5)


class LinenCNN(linen.Module):
    """The shape of the MNIST example of Linen."""

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(features=3, kernel_size=(3, 3))(x))
        x = linen.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = linen.relu(linen.Conv(features=4, kernel_size=(3, 3))(x))
        x = linen.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = linen.relu(linen.Dense(features=8)(x.reshape((x.shape[0], -1))))
        return linen.Dense(features=5)(x)


@pytest.mark.slow  # a Linen network by default: tests/lax_linalg/test_layer_jacobians.py
def test_the_linen_examples_cnn():
    images = drawn.draw(0, 2, 8, 8, 1)
    module = LinenCNN()
    variables = drawn.variables(module, images)
    probe = la.SpectrumProbe((module, variables), images)
    assert probe.layers == ("Conv_0", "Conv_1", "Dense_0", "Dense_1", "end_to_end")
    probe.submit(0, variables)
    whole = reference(lambda x: module.apply(variables, x), images)
    measured = probe.wait()[0].spectra["end_to_end"]["singular_values"]
    np.testing.assert_allclose(measured, np.linalg.svd(whole, compute_uv=False), atol=1e-5)


def test_an_equinox_mlp_as_a_plain_function(key):
    x = drawn.draw(0, 2, 4)
    abstract = eqx.filter_eval_shape(eqx.nn.MLP, 4, 3, 6, 2, key=key)
    shapes, functions = eqx.partition(abstract, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    mlps = [eqx.combine(drawn.parameters(shapes, seed), functions) for seed in (0, 1)]
    probe = la.SpectrumProbe(mlps[0], x)
    assert probe.layers == ("MLP", "end_to_end")
    for step, mlp in enumerate(mlps):  # its weights are data: the second is not compiled again
        probe.submit(step, mlp)
    for record, mlp in zip(probe.wait(), mlps):
        expected = np.linalg.svd(jax.jit(jax.vmap(jax.jacfwd(mlp)))(x), compute_uv=False)
        np.testing.assert_allclose(record.spectra["MLP"]["singular_values"], expected, atol=1e-5)


class Block(nnx.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=heads, in_features=width, dropout_rate=0.1, decode=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.mlp = nnx.Sequential(nnx.Linear(width, 8, rngs=rngs), nnx.gelu, nnx.Linear(8, width, rngs=rngs))

    def __call__(self, x, mask=None):
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.mlp(self.norm2(x))


def test_a_transformer_block():
    x = drawn.draw(0, 2, 3, 4)
    block = drawn.module(lambda: Block(4, 2, rngs=nnx.Rngs(0)))
    block.eval()
    J = la.layer_jacobians(block, x)
    assert list(J) == [
        *("norm1", "attention", "attention/query", "attention/key", "attention/value", "attention/out"),
        *("norm2", "mlp", "mlp/layers/0", "mlp/layers/2", "end_to_end"),
    ]
    names = ("norm1", "attention", "norm2", "mlp", "end_to_end")
    parts = jax.tree.map(np.asarray, jax.jit(lambda J: {name: la.materialize(J[name]) for name in names})(J))
    I = np.eye(12)
    product = (I + parts["mlp"] @ parts["norm2"]) @ (I + parts["attention"] @ parts["norm1"])
    np.testing.assert_allclose(parts["end_to_end"], product, atol=1e-5)  # of the residual branches
    s = np.linalg.svd(parts["norm1"], compute_uv=False)
    # a normalised row has no derivative along the mean and along itself: two zeros for each of three tokens
    np.testing.assert_array_less(s[:, 6:], 1e-3)
    causal = jnp.tril(jnp.ones((1, 1, 3, 3)))
    masked = la.layer_jacobians(block, x, "end_to_end", call_kwargs={"mask": causal})
    M = np.asarray(la.materialize(masked["end_to_end"])).reshape(2, 3, 4, 3, 4)
    assert np.abs(M[:, 0, :, 1:]).max() == 0  # no token looks ahead
    with pytest.raises(LinearAlgebraError, match="call_kwargs are arrays, numbers, strings, None"):
        la.layer_jacobians(block, x, call_kwargs={"mask": {1, 2}})


class Reader(nnx.Module):
    """An LSTM over a sequence and a linear read-out of its last state."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.rnn = nnx.RNN(nnx.LSTMCell(3, 4, rngs=rngs))
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x)[:, -1])


def test_an_lstm():
    x = drawn.draw(0, 2, 5, 3)
    model = drawn.module(lambda: Reader(rngs=nnx.Rngs(0)))
    J = la.layer_jacobians(model, x)
    assert list(J) == ["rnn", "head", "end_to_end"]
    assert "rnn/cell" in J.skipped
    found = jax.jit(lambda J: {path: la.materialize(J[path]) for path in ("rnn", "end_to_end")})(J)
    R = np.asarray(found["rnn"]).reshape(2, 5, 4, 5, 3)
    for t in range(5):
        assert np.abs(R[:, t, :, t + 1 :]).max(initial=0) == 0  # causal
    head = np.asarray(model.head.kernel[...]).T
    np.testing.assert_allclose(found["end_to_end"], head @ R[:, -1].reshape(2, 4, 15), atol=1e-5)
    with pytest.raises(LinearAlgebraError, match="layer 'rnn/cell' .*inside a JAX transformation"):
        la.layer_jacobians(model, x, "rnn/cell")
    probe = la.SpectrumProbe(model, x)
    probe.submit(0, model)
    measured = probe.wait()[0].spectra["rnn"]["singular_values"]
    np.testing.assert_allclose(measured, np.linalg.svd(R.reshape(2, 20, 15), compute_uv=False), atol=1e-4)


@pytest.mark.parametrize("x", [(jnp.ones((2, 3)), jnp.ones((2, 4))), {"image": jnp.ones((2, 3))}, None, "batch"])
def test_inputs_that_are_not_one_array_are_refused_with_the_remedy(x):
    for call in (la.layer_jacobians, la.SpectrumProbe):
        with pytest.raises(
            DimensionMismatch, match=r"probe inputs are one array \[B, …\], .*got a .*hold the others fixed"
        ):
            call([jnp.tanh], x)


@pytest.mark.parametrize(("page", "count"), [("your_model.md", 6), ("spectra.md", 1)])
def test_the_code_of_a_page_prints_what_the_page_says(page, count):
    assert len(blocks(page)) == count
    for code, expected in blocks(page):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page, "exec"), {"__name__": "page"})
        assert out.getvalue() == expected


@pytest.mark.slow
def test_the_wheel_alone_in_an_empty_environment(tmp_path):
    """Plain functions without Flax; then, with Flax, all of the page."""

    def command(*arguments: str, **options) -> str:
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, timeout=280, **options)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    command(sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(TOP))
    (wheel,) = tmp_path.glob("*.whl")
    command(sys.executable, "-m", "venv", "venv")
    python = str(tmp_path / "venv" / "bin" / "python")
    install = (python, "-m", "pip", "install", "--quiet", "--constraint", str(TOP / ".ci" / "constraints.txt"))
    command(*install, str(wheel))
    alone = {**os.environ, "PYTHONPATH": "", "JAX_PLATFORMS": "cpu"}

    def run(code: str) -> str:
        return command(python, "-c", code, env=alone)

    listed = {line.split("==")[0].lower() for line in command(python, "-m", "pip", "freeze").split()}
    assert not listed & {"flax", "matfree", "asdex", "lineax", "optax", "equinox"}
    plain = [block for block in BLOCKS if "flax" not in block[0]]
    assert len(plain) == 2
    for code, expected in plain:
        assert run(code) == expected
    assert "venv" in run("import lax_linalg; print(lax_linalg.__file__)")
    missing = "try:\n    from lax_linalg.integrations import flax\nexcept ImportError as error:\n    print(error)"
    assert "pip install flax" in run(missing)
    missing = """
import jax, lax_linalg as la
try:
    la.trace_estimate(jax.numpy.eye(3), key=jax.random.key(0))
except la.LinearAlgebraError as error:
    print(error)
"""
    assert "pip install matfree" in run(missing)
    command(*install, "flax")
    for code, expected in BLOCKS:
        assert run(code) == expected
