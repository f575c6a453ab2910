"""Models as people write them: several inputs and outputs, tokens and masks, remat, jit, custom derivatives.

Every Jacobian is compared with `jax.jacfwd` or `jax.jacrev` of the model's own code.
"""

from __future__ import annotations

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from tests.lax_linalg import drawn

B, T, N = 2, 3, 4


@jax.jit
def matrices_of(J):
    """Those of all layers, by one program."""
    return {path: la.materialize(batch) for path, batch in J.items()}


def agree(J, expected, derivative=jax.jacfwd):
    """Compare layers with per-example Jacobians: path → (f(x_b, *others_b), arrays [B, …])."""

    def each(f, arrays):
        D = jax.vmap(derivative(f))(*arrays)
        return D.reshape(len(D), -1, arrays[0][0].size)

    functions = {path: f for path, (f, _) in expected.items()}
    arrays = {path: a for path, (_, a) in expected.items()}
    wanted = jax.jit(lambda arrays: {path: each(f, arrays[path]) for path, f in functions.items()})(arrays)
    found = matrices_of({path: J[path] for path in expected})
    for path in expected:
        np.testing.assert_allclose(found[path], wanted[path], atol=2e-5, err_msg=path)


# --- several inputs and outputs ---


@flax.struct.dataclass
class Known:
    hidden: jax.Array
    weights: jax.Array


@dataclasses.dataclass
class Unknown:
    hidden: jax.Array
    scale: float


class Block(nnx.Module):
    """Returns its result in one of the forms that blocks do."""

    def __init__(self, form, *, rngs):
        self.linear = nnx.Linear(N, N, rngs=rngs)
        self.form = form

    def __call__(self, x, mask=None):
        w = jax.nn.softmax(x @ jnp.swapaxes(x, -1, -2) + (0 if mask is None else jnp.where(mask, 0.0, -1e9)), axis=-1)
        y = self.linear(w @ x)
        return {
            "tuple": lambda: (y, w),
            "dict": lambda: {"hidden": y, "cache": (w, None)},
            "struct": lambda: Known(y, w),
            "dataclass": lambda: Unknown(y, 2.0),
        }[self.form]()


class Reader(nnx.Module):
    """Tokens, features and a mask in; logits, pooled features and a scalar out. The head is the embedding's."""

    forms = ("tuple", "dict", "struct", "dataclass")

    def __init__(self, *, rngs):
        self.embed = nnx.Embed(5, N, rngs=rngs)
        self.blocks = nnx.List([Block(form, rngs=rngs) for form in self.forms])

    def __call__(self, tokens, features, mask=None):
        x = self.embed(tokens) + features
        for form, block in zip(self.forms, self.blocks):
            out = block(x, mask)
            x = x + (out[0] if form == "tuple" else out["hidden"] if form == "dict" else out.hidden)
        logits = self.embed.attend(x)
        return {"logits": logits, "pooled": jnp.mean(x, axis=1), "aux": jnp.sum(x**2)}


@pytest.fixture(scope="module")
def reader():
    return drawn.module(lambda: Reader(rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def batch():
    mask = np.tril(np.ones((T, T), bool)) & (np.arange(T) < np.array([[[3]], [[2]]]))  # causal, and padded by example
    return {"tokens": jnp.array([[0, 1, 2], [3, 4, 0]]), "features": drawn.draw(0, B, T, N), "mask": jnp.asarray(mask)}


def test_tokens_masks_and_results_of_every_form(reader, batch):
    J = la.layer_jacobians(reader, batch, output="logits")
    blocks = [f"blocks/{i}" for i in range(4)]
    inner = [f"{path}/linear" for path in blocks]
    assert list(J) == [*(path for pair in zip(blocks, inner) for path in pair), "embed.attend", "end_to_end"]
    assert set(J.skipped) == {"embed"}
    x = {path: jax.tree.leaves(J[path].x)[0] for path in J}
    mask = batch["mask"]
    first = lambda x, mask: reader.blocks[0](x[None], mask[None])[0][0]  # noqa: E731
    third = lambda x, mask: reader.blocks[3](x[None], mask[None]).hidden[0]  # noqa: E731
    attend = lambda x: reader.embed.attend(x[None])[0]  # noqa: E731
    whole = lambda x, t, m: reader(t[None], x[None], m[None])["logits"][0]  # noqa: E731
    agree(
        J,
        {
            "blocks/0": (first, (x["blocks/0"], mask)),
            "blocks/3": (third, (x["blocks/3"], mask)),
            "embed.attend": (attend, (x["embed.attend"],)),
            "end_to_end": (whole, (batch["features"], batch["tokens"], mask)),
        },
    )
    with pytest.raises(LinearAlgebraError, match="layer 'end_to_end' returns a dict of several arrays, 'logits', 'poo"):
        la.layer_jacobians(reader, batch, "end_to_end")
    with pytest.raises(LinearAlgebraError, match="layer 'blocks/0' has no output 'hidden'; it returns '0', '1'"):
        la.layer_jacobians(reader, batch, "blocks/0", output={"blocks/*": "hidden"})


def test_inputs_in_the_order_of_the_call_and_what_all_examples_share(reader, batch):
    causal = jnp.tril(jnp.ones((B + 1, B + 1), bool))  # T = B + 1 here, and below a mask [B, B] that is no batch
    inputs = (batch["tokens"], batch["features"])
    J = la.layer_jacobians(reader, inputs, ["blocks/1", "end_to_end"], call_kwargs={"mask": causal}, output="pooled")
    whole = lambda x, t: reader(t[None], x[None], causal)["pooled"][0]  # noqa: E731
    agree(J, {"end_to_end": (whole, (batch["features"], batch["tokens"]))})
    short = jax.tree.map(lambda a: a[:, :B], inputs)
    J = la.layer_jacobians(reader, short, "blocks/0", call_kwargs={"mask": causal[:B, :B]})
    block = lambda x: reader.blocks[0](x[None], causal[:B, :B])[0][0]  # noqa: E731
    agree(J, {"blocks/0": (block, (J["blocks/0"].x,))})
    probe = la.SpectrumProbe(reader, batch, ["embed.attend", "end_to_end"], output="logits")
    probe.submit(0, reader)
    spectra = probe.wait()[0].spectra
    J = la.layer_jacobians(reader, batch, "end_to_end", output="logits")
    np.testing.assert_allclose(spectra["end_to_end"]["singular_values"], la.svdvals(J["end_to_end"]), atol=1e-4)


class Pair(linen.Module):
    """Two images and a key that all examples share, by name."""

    @linen.compact
    def __call__(self, left, right, *, key, train=False):
        up = linen.Dense(N, name="up")
        noise = jax.random.normal(key, (N,)) + jax.random.normal(self.make_rng("noise"), (N,))
        gate = Gate(name="gate")(up(left), up(right) + noise)
        return linen.Dropout(0.5, deterministic=not train)(gate)


class Gate(linen.Module):
    @linen.compact
    def __call__(self, a, b):
        return linen.Dense(N)(a) * jnp.tanh(b)


def test_linen_of_two_inputs_and_keys():
    keys = {"key": jax.random.key(1), "rngs": {"noise": jax.random.key(2)}}
    x = {"left": drawn.draw(0, B, N), "right": drawn.draw(1, B, N)}
    init = functools.partial(Pair().init, jax.random.key(0), key=keys["key"])
    variables = drawn.parameters(jax.eval_shape(init, **x))
    J = la.layer_jacobians((Pair(), variables), x, call_kwargs=keys)
    assert list(J) == ["up", "up@2", "gate:0", "gate:1", "gate/Dense_0", "end_to_end:0", "end_to_end:1"]
    whole = lambda l, r: Pair().apply(variables, l[None], r[None], **keys)[0]  # noqa: E731
    other = lambda r, l: whole(l, r)  # noqa: E731
    both = {"end_to_end:0": (whole, (x["left"], x["right"])), "end_to_end:1": (other, (x["right"], x["left"]))}
    agree(J, both)
    with pytest.raises(
        KeyError, match="layer 'gate' takes several arrays and has a Jacobian by each: 'gate:0', 'gate:1'"
    ):
        J["gate"]
    assert list(la.layer_jacobians((Pair(), variables), x, "gate", call_kwargs=keys)) == ["gate:0", "gate:1"]
    J = la.layer_jacobians((Pair(), variables), x, "end_to_end", call_kwargs=keys, input="right")
    agree(J, {"end_to_end": (other, (x["right"], x["left"]))})
    with pytest.raises(UnknownNameError, match="unknown input 'rigth'; did you mean 'right'"):
        la.layer_jacobians((Pair(), variables), x, call_kwargs=keys, input="rigth")
    with pytest.raises(DimensionMismatch, match="Pair cannot be called with one array.*; give a tuple of inputs"):
        la.layer_jacobians((Pair(), variables), x["left"], call_kwargs=keys)
    with pytest.raises(DimensionMismatch, match=r"B the same for all arrays, got shape \(2, 4\), \(1, 4\)"):
        la.layer_jacobians((Pair(), variables), {"left": x["left"], "right": x["right"][:1]}, call_kwargs=keys)


# --- transformations, methods, code that fails ---


class Rematerialised(nnx.Module):
    """Blocks in a Python loop within remat, one of them called twice, and a compiled one."""

    def __init__(self, *, rngs):
        self.blocks = nnx.List([nnx.Linear(N, N, rngs=rngs) for _ in range(2)])
        self.last = nnx.Linear(N, 2, rngs=rngs)

    def __call__(self, x):
        for block in (*self.blocks, self.blocks[0]):
            x = nnx.remat(lambda block, x: x + jnp.tanh(block(x)))(block, x)
        return nnx.jit(lambda last, x: last(x))(self.last, x)


class RematerialisedLinen(linen.Module):
    @linen.compact
    def __call__(self, x):
        for i in range(2):
            x = linen.remat(Gate)(name=f"gate_{i}")(x, jnp.sin(x))
        return linen.jit(linen.Dense)(2, name="last")(x)


def test_layers_within_remat_and_jit():
    x = drawn.draw(0, B, N)
    model = drawn.module(lambda: Rematerialised(rngs=nnx.Rngs(0)))
    J = la.layer_jacobians(model, x)
    assert (list(J), J.skipped) == (["blocks/0", "blocks/0@2", "blocks/1", "last", "end_to_end"], {})
    h, seen = x, {}
    for path, block in zip(("blocks/0", "blocks/1", "blocks/0@2"), (*model.blocks, model.blocks[0])):
        seen[path] = h
        h = h + jnp.tanh(block(h))
    for path, value in seen.items():
        np.testing.assert_allclose(J[path].x, value, atol=1e-6)
    found = matrices_of(J)
    np.testing.assert_allclose(found["blocks/1"][0], model.blocks[1].kernel[...].T, atol=1e-6)
    graphdef, state = nnx.split(model)
    whole = lambda x: nnx.merge(graphdef, nnx.as_pure(state))(x[None])[0]  # noqa: E731
    agree(J, {"end_to_end": (whole, (x,))})
    within = jax.jit(lambda x: {p: la.svdvals(b) for p, b in la.layer_jacobians(model, x).items()})(x)
    np.testing.assert_allclose(within["blocks/0@2"], np.linalg.svd(found["blocks/0@2"], compute_uv=False), atol=1e-5)

    module = RematerialisedLinen()
    variables = drawn.variables(module, x)
    J = la.layer_jacobians((module, variables), x)
    assert {"gate_0:0", "gate_0:1", "gate_0/Dense_0", "gate_1:0", "last", "end_to_end"} <= set(J)
    first = variables["params"]["gate_0"]
    gate = lambda a, b: Gate().apply({"params": first}, a[None], b[None])[0]  # noqa: E731
    whole = lambda x: module.apply(variables, x[None])[0]  # noqa: E731
    agree(J, {"gate_0:0": (gate, (x, jnp.sin(x))), "end_to_end": (whole, (x,))})
    np.testing.assert_allclose(J["gate_0/Dense_0"].x, x, atol=1e-6)


@jax.custom_vjp
def rounded(x):
    """Rounding that passes gradients on."""
    return jnp.round(4 * x) / 4


rounded.defvjp(lambda x: (rounded(x), None), lambda _, g: (g,))


class Odd(nnx.Module):
    """A custom_vjp, a while_loop, a call to Python, and a layer that needs its whole batch."""

    def __init__(self, *, rngs):
        self.quantised, self.iterated, self.called, self.whole = (Part(kind, rngs=rngs) for kind in "qicw")

    def __call__(self, x):
        return self.whole(self.called(self.iterated(self.quantised(x))))


class Part(nnx.Module):
    def __init__(self, kind, *, rngs):
        self.linear = nnx.Linear(N, N, rngs=rngs)
        self.kind = kind

    def __call__(self, x):
        y = self.linear(x)
        if self.kind == "q":
            return rounded(jnp.tanh(y))
        if self.kind == "i":
            return jax.lax.while_loop(lambda y: jnp.max(jnp.abs(y)) > 1, lambda y: 0.5 * y, y)
        if self.kind == "c":
            return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(y.shape, y.dtype), y, vmap_method="expand_dims")
        if len(x) < B:
            raise ValueError(f"I want {B} examples")
        return y


def test_a_layer_that_fails_is_left_out_and_directions_that_do_not_exist_are_not_used():
    x = drawn.draw(0, B, N)
    model = drawn.module(lambda: Odd(rngs=nnx.Rngs(0)))
    J = la.layer_jacobians(model, x)
    reasons = {"called": "has no derivative: ", "whole": "fails on one example alone: ValueError: I want 2 examples"}
    assert set(J.skipped) == {*reasons, "end_to_end"}
    assert all(J.skipped[path].startswith(reason) for path, reason in reasons.items())
    agree(J, {"quantised": (lambda x: model.quantised(x[None])[0], (x,))}, jax.jacrev)
    agree(J, {"iterated": (lambda x: model.iterated(x[None])[0], (J["iterated"].x,))})
    forward, reverse = J["quantised"][0], J["iterated"][0]
    np.testing.assert_allclose(forward @ jnp.eye(N), la.materialize(forward), atol=1e-6)
    np.testing.assert_allclose(forward.T @ jnp.eye(N), la.materialize(forward).T, atol=1e-6)
    with pytest.raises(LinearAlgebraError, match=r"cannot be differentiated in reverse.*la.materialize\(J\)"):
        reverse.T @ jnp.ones(N)
    probe = la.SpectrumProbe(model, x)
    assert probe.layers == tuple(J) and set(probe.left_out) == set(J.skipped)
