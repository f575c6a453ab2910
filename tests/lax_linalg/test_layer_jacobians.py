"""`la.layer_jacobians` on NNX, Linen and plain functions: against dense `jax.jacfwd`, and what it refuses by name."""

from __future__ import annotations

import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError, UnknownNameError
from tests.lax_linalg import drawn


def reference(f, x):
    """Dense per-example Jacobians of a function of batches."""
    return jax.jit(jax.vmap(jax.jacfwd(lambda x: f(x[None])[0])))(x).reshape(x.shape[0], -1, x[0].size)


@jax.jit
def matrices_of(J):
    """Those of all layers, by one program."""
    return {path: la.materialize(batch) for path, batch in J.items()}


class Net(nnx.Module):
    """Containers, an activation module, a layer used twice, and dropout."""

    def __init__(self, rngs):
        self.first = nnx.Linear(4, 5, rngs=rngs)
        self.shared = nnx.Linear(5, 5, rngs=rngs)
        self.unused = nnx.Linear(5, 5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.blocks = nnx.List([nnx.Sequential(nnx.Linear(5, 5, rngs=rngs), jnp.tanh) for _ in range(2)])

    def __call__(self, x):
        x = jnp.tanh(self.shared(jnp.tanh(self.shared(self.first(x)))))
        for block in self.blocks:
            x = x + self.dropout(block(x))
        return x


@pytest.fixture
def net():
    model = drawn.module(lambda: Net(nnx.Rngs(0)))
    model.eval()
    return model


@pytest.fixture
def x():
    return drawn.draw(0, 3, 4)


@pytest.fixture
def resnet():
    return drawn.module(lambda: models.ResNet(input_shape=(4, 4, 1), num_classes=3, widths=(4,), rngs=nnx.Rngs(0)))


def test_every_layer_at_its_own_input(net, x):
    J = la.layer_jacobians(net, x)
    assert list(J) == [
        "first",
        "shared",
        "shared@2",
        "blocks/0",
        "blocks/0/layers/0",
        "blocks/1",
        "blocks/1/layers/0",
        "end_to_end",
    ]
    assert list(J.skipped) == ["unused"]
    assert "not called" in J.skipped["unused"]
    h1 = net.first(x)
    h2 = jnp.tanh(net.shared(h1))
    h3 = jnp.tanh(net.shared(h2))
    inputs = {"first": x, "shared": h1, "shared@2": h2, "blocks/0": h3, "end_to_end": x}
    layers = {"first": net.first, "shared": net.shared, "shared@2": net.shared, "blocks/0": net.blocks[0]}

    @jax.jit
    def verbs(J):
        return {path: (la.materialize(J[path]), la.svdvals(J[path]), la.materialize(J[path][1])) for path in inputs}

    @jax.jit
    def references(inputs):
        return {path: reference(layers.get(path, net), at) for path, at in inputs.items()}

    expected = references(inputs)
    for path, (matrices, values, second) in verbs(J).items():
        np.testing.assert_allclose(J[path].x, inputs[path], atol=1e-6)
        np.testing.assert_allclose(matrices, expected[path], atol=1e-6)
        np.testing.assert_allclose(values, np.linalg.svd(matrices, compute_uv=False), atol=1e-5)
        np.testing.assert_allclose(second, matrices[1], atol=1e-6)


def test_the_model_is_left_as_it_was(net, x):
    classes = [type(m) for _, m in nnx.iter_modules(net)]
    state = jax.tree.map(jnp.copy, nnx.state(net))
    la.layer_jacobians(net, x)
    assert [type(m) for _, m in nnx.iter_modules(net)] == classes
    jax.tree.map(np.testing.assert_array_equal, nnx.state(net, nnx.Param), nnx.filter_state(state, nnx.Param))
    assert net.first(x).shape == (3, 5)


def test_threads_do_not_see_each_other(x):
    nets = [drawn.module(lambda: Net(nnx.Rngs(0)), seed) for seed in range(4)]
    found = {}
    for n in nets:
        n.eval()
    threads = [
        threading.Thread(target=lambda i=i: found.__setitem__(i, la.layer_jacobians(nets[i], x))) for i in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i, n in enumerate(nets):
        assert [len(found[i]), len(found[i].skipped)] == [8, 1]
        np.testing.assert_array_equal(found[i]["shared"].x, n.first(x))


def test_patterns(net, x):
    assert list(la.layer_jacobians(net, x, "end_to_end")) == ["end_to_end"]
    assert list(la.layer_jacobians(net, x, ["blocks/?", "shared*"])) == ["shared", "shared@2", "blocks/0", "blocks/1"]
    assert list(la.layer_jacobians(net, x, ["dropout*"])) == ["dropout", "dropout@2"]
    with pytest.raises(UnknownNameError, match=r"unknown layer 'blok/\*'.*Available: .*blocks/0.*end_to_end.*first"):
        la.layer_jacobians(net, x, ["blok/*"])
    with pytest.raises(UnknownNameError, match="did you mean 'first'"):
        la.layer_jacobians(net, x, "frst")


def test_jit_with_the_state_as_data(net, x):
    graphdef, state = nnx.split(net)
    traces = []

    @jax.jit
    def spectra(state, x):
        traces.append(1)
        return {path: la.svdvals(J) for path, J in la.layer_jacobians(nnx.merge(graphdef, state), x).items()}

    eager = jax.jit(lambda J: {path: la.svdvals(J[path]) for path in J})(la.layer_jacobians(net, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), spectra(state, x), eager)
    scaled = jax.tree.map(lambda a: 2 * a if jnp.issubdtype(a.dtype, jnp.inexact) else a, state)
    np.testing.assert_allclose(spectra(scaled, x)["first"], 2 * eager["first"], atol=1e-5)
    assert len(traces) == 1
    J = jax.jit(la.layer_jacobians, static_argnames="layers")(net, x, layers=("first", "end_to_end"))
    assert (list(J), J.skipped) == (["first", "end_to_end"], {})  # the dict is a pytree and keeps its order


def test_one_forward_pass_serves_all_layers(resnet):
    """The layers' inputs and the factors inside blocks and the whole network come from the same convolutions."""
    graphdef, state = nnx.split(resnet)

    @jax.jit
    def matrices(state, x):
        return {k: la.materialize(J) for k, J in la.layer_jacobians(nnx.merge(graphdef, state), x).items()}

    program = matrices.lower(nnx.as_pure(state), drawn.draw(0, 2, 4, 4, 1)).compile().as_text()
    assert 0 < program.count(" convolution(") <= 3


def test_gradient_of_a_spectrum_with_respect_to_the_parameters(net, x):
    graphdef, state = nnx.split(net, nnx.Param, ...)[0], nnx.split(net, nnx.Param, ...)[1:]

    def largest(params):
        J = la.layer_jacobians(nnx.merge(graphdef, params, state[1]), x, "first")["first"]
        return la.opnorm(J).sum()

    u, _, vt = np.linalg.svd(np.asarray(net.first.kernel[...]))
    gradient = jax.grad(largest)(state[0])["first"]["kernel"][...]
    np.testing.assert_allclose(gradient, 3 * np.outer(u[:, 0], vt[0]), atol=1e-4)


def test_end_to_end_is_the_product_of_a_sequential_net(x):
    def make():
        rngs = nnx.Rngs(0)
        return nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.LayerNorm(5, rngs=rngs), nnx.Linear(5, 5, rngs=rngs))

    J = la.layer_jacobians(drawn.module(make), x)
    found = matrices_of(J)
    a, b, c, whole = (np.asarray(found[path]) for path in ("layers/0", "layers/1", "layers/2", "end_to_end"))
    np.testing.assert_allclose(whole, c @ b @ a, atol=1e-5)


def test_our_layers_agree_with_their_declared_operators(resnet):
    J = la.layer_jacobians(resnet, drawn.draw(0, 2, 4, 4, 1), ["stem", "blocks/0/conv1", "head"])
    layers = {"stem": resnet.stem, "blocks/0/conv1": resnet.blocks[0].conv1, "head": resnet.head}
    operators = {path: layer.operator(J[path].x.shape[1:]) for path, layer in layers.items()}
    found, declared = matrices_of(J), matrices_of(operators)
    for path in layers:
        np.testing.assert_allclose(found[path], np.stack([declared[path]] * 2), atol=1e-6)


# --- Linen ---


class CNN(linen.Module):
    """Convolutions, pooling, dense layers, with batch statistics and dropout that depend on `train`."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.relu(linen.Conv(2, (3, 3))(x))
        x = linen.avg_pool(x, (2, 2), strides=(2, 2))
        x = linen.BatchNorm(use_running_average=not train)(x)
        x = x.reshape(x.shape[0], -1)
        x = linen.relu(linen.Dense(6, name="hidden")(x))
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.Dense(3)(x)


@pytest.fixture
def cnn():
    images = drawn.draw(0, 2, 4, 4, 1)
    return CNN(), drawn.variables(CNN(), images), images


def test_linen_model(cnn):
    module, variables, images = cnn
    J = la.layer_jacobians((module, variables), images)
    assert list(J) == ["Conv_0", "BatchNorm_0", "hidden", "Dense_0", "end_to_end"]
    found = matrices_of(J)
    np.testing.assert_allclose(found["end_to_end"], reference(lambda x: module.apply(variables, x), images), atol=1e-6)
    kernel = np.asarray(variables["params"]["hidden"]["kernel"])
    np.testing.assert_allclose(found["hidden"], np.stack([kernel.T] * 2), atol=1e-6)
    bound = la.layer_jacobians(module.bind(variables), images, "hidden")
    np.testing.assert_array_equal(bound["hidden"].x, J["hidden"].x)
    spectra = jax.jit(lambda v, x: la.svdvals(la.layer_jacobians((module, v), x)["Conv_0"]))(variables, images)
    np.testing.assert_allclose(spectra, la.svdvals(J["Conv_0"]), atol=1e-5)


def test_linen_in_training_mode_is_refused_by_layer(cnn):
    module, variables, images = cnn
    with pytest.raises(LinearAlgebraError, match=r"layer 'BatchNorm_0' normalises with the batch's own statistics"):
        la.layer_jacobians((module, variables), images, call_kwargs={"train": True})
    with pytest.raises(LinearAlgebraError, match=r"CNN has no variables; give \(module, variables\)"):
        la.layer_jacobians(module, images)


class Around(linen.Module):
    """A block around a module that it is given."""

    inner: linen.Module

    def __call__(self, x):
        return x + self.inner(x)


class Given(linen.Module):
    """Blocks whose parts are made here and keep their parameters here, one of them part of another block, too."""

    @linen.compact
    def __call__(self, x):
        shared = linen.Dense(4, name="shared")
        x = Around(shared)(x)
        x = Around(linen.Sequential([shared, jnp.tanh, linen.Dense(4)]))(x)
        return linen.RNN(linen.SimpleCell(3))(x[:, None])[:, 0]


def test_blocks_of_modules_that_they_were_given(x):
    module = Given()
    variables = drawn.variables(module, x)
    J = la.layer_jacobians((module, variables), x)
    blocks = ("Around_0", "Around_1", "Sequential_0", "RNN_0")
    assert {*blocks, "shared", "shared@2", "Dense_0", "end_to_end"} == set(J)
    found = matrices_of(J)
    first, second = np.asarray(found["shared"]), np.asarray(found["Sequential_0"])
    np.testing.assert_allclose(found["Around_0"], np.eye(4) + first, atol=1e-6)
    np.testing.assert_allclose(found["Around_1"], np.eye(4) + second, atol=1e-6)
    product = found["RNN_0"] @ found["Around_1"] @ found["Around_0"]
    np.testing.assert_allclose(found["end_to_end"], product, atol=1e-6)
    np.testing.assert_allclose(found["end_to_end"], reference(lambda x: module.apply(variables, x), x), atol=1e-6)


class Encoder(linen.Module):
    """A pre-norm transformer block with set-up submodules: self-attention takes one array, its inside several."""

    def setup(self):
        self.norm = linen.LayerNorm()
        self.attention = linen.MultiHeadDotProductAttention(2, qkv_features=4, deterministic=True)
        self.mlp = linen.Sequential([linen.Dense(8), linen.gelu, linen.Dense(4)])

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)


@pytest.mark.slow  # attention by default: tests/lax_linalg/test_your_model.py
def test_transformer_block(key):
    x = jax.random.normal(key, (2, 3, 4))
    block = Encoder()
    variables = drawn.variables(block, x)
    J = la.layer_jacobians((block, variables), x)
    assert {"norm", "attention", "attention/query", "mlp", "mlp/layers_0", "end_to_end"} <= set(J)
    f = lambda x: block.apply(variables, x)  # noqa: E731
    np.testing.assert_allclose(la.materialize(J["end_to_end"]), reference(f, x), atol=1e-5)
    attention = lambda x: block.apply(variables, x, method=lambda b, x: b.attention(x))  # noqa: E731
    np.testing.assert_allclose(la.materialize(J["attention"]), reference(attention, J["attention"].x), atol=1e-5)


# --- plain functions ---


def test_plain_functions_and_equinox(key, x):
    mlp = eqx.nn.MLP(4, 2, 5, 1, key=key)
    J = la.layer_jacobians({"mlp": mlp, "softmax": jax.nn.softmax}, x)
    assert list(J) == ["mlp", "softmax", "end_to_end"]
    whole, alone = jax.jit(
        lambda x: (jax.vmap(jax.jacfwd(lambda x: jax.nn.softmax(mlp(x))))(x), jax.vmap(jax.jacfwd(mlp))(x))
    )(x)
    np.testing.assert_allclose(la.materialize(J["end_to_end"]), whole, atol=1e-6)
    assert all(leaf.shape for leaf in J["mlp"].args)  # the weights are data
    layers = [mlp.layers[0], jax.nn.relu, mlp.layers[1]]
    found = matrices_of(la.layer_jacobians(layers, x))
    a, b, c = (np.asarray(found[path]) for path in "012")
    np.testing.assert_allclose(c @ b @ a, alone, atol=1e-6)


def test_one_function(x):
    J = la.layer_jacobians(jnp.sin, x)
    assert list(J) == ["sin", "end_to_end"]


# --- refused, or skipped with the reason ---


class Awkward(nnx.Module):
    """Layers that have no Jacobian of their own."""

    def __init__(self, rngs):
        self.pair = nnx.Bilinear(4, 4, 4, rngs=rngs) if hasattr(nnx, "Bilinear") else Two(rngs)
        self.tuple = Tuple(rngs)
        self.inner = nnx.Linear(4, 4, rngs=rngs)
        self.merged = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x):
        x = self.pair(x, x)
        x, _ = self.tuple(x)
        x = nnx.remat(lambda layer, x: layer(x))(self.inner, x)
        return self.merged(x.reshape(-1, 2)).reshape(x.shape)


class Two(nnx.Module):
    def __init__(self, rngs):
        self.left, self.right = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x, y):
        return self.left(x) * self.right(y)


class Tuple(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return self.linear(x), None


def test_layers_without_a_jacobian_are_skipped_with_the_reason(x):
    model = drawn.module(lambda: Awkward(nnx.Rngs(0)))
    J = la.layer_jacobians(model, x)
    graphdef, state = nnx.split(model)
    whole = lambda x: nnx.merge(graphdef, nnx.as_pure(state))(x)  # noqa: E731  # nnx.remat needs variables of its own level
    np.testing.assert_allclose(la.materialize(J["end_to_end"]), reference(whole, x), atol=1e-5)
    assert list(J.skipped) == ["merged"]
    with pytest.raises(LinearAlgebraError, match=r"'merged' .*shape \(6, 2\), whose first axis is not the batch of 3"):
        la.layer_jacobians(model, x, "merged")


class Cross(nnx.Module):
    """Attention of x to a function of x, with a mask of the batch's own, and self-attention."""

    def __init__(self, rngs):
        options = {"num_heads": 2, "in_features": 4, "qkv_features": 4, "decode": False, "rngs": rngs}
        self.cross, self.own = nnx.MultiHeadAttention(**options), nnx.MultiHeadAttention(**options)

    def __call__(self, x):
        mask = x[:, None, None, :, 0] > -1
        return self.own(self.cross(x, jnp.sin(x), mask=mask))


def test_layers_of_several_arrays_have_a_jacobian_by_each():
    model, x = drawn.module(lambda: Cross(nnx.Rngs(0))), drawn.draw(0, 2, 3, 4)
    J = la.layer_jacobians(model, x)
    assert {"cross:0", "cross:1", "own"} <= set(J) and "cross" not in J
    found = matrices_of({path: J[path] for path in ("cross:0", "cross:1", "own")})
    mask = x[:, None, None, :, 0] > -1
    cross = lambda q, k, mask: model.cross(q[None], k[None], mask=mask[None])[0]  # noqa: E731

    @jax.jit
    def expected(x, mask, own):
        return jax.vmap(jax.jacfwd(cross, argnums=(0, 1)))(x, jnp.sin(x), mask), reference(model.own, own)

    by_each, own = expected(x, mask, J["own"].x)
    for i in range(2):
        np.testing.assert_allclose(found[f"cross:{i}"], np.reshape(by_each[i], (2, 12, 12)), atol=1e-5)
    np.testing.assert_allclose(found["own"], own, atol=1e-5)


class Declared(nnx.Module):
    """A stack run by scan that declares its layers."""

    def __init__(self):
        self.kernel = nnx.Param(drawn.draw(1, 5, 4, 4))

    def step(self, h, W):
        return jnp.tanh(h @ W), None

    def scan_layers(self):
        return self.step, self.kernel[...]

    def __call__(self, x):
        return jax.lax.scan(self.step, x, self.kernel[...])[0]


def test_declared_stacks_give_every_layer_by_scan(x):
    stack = Declared()
    model = nnx.Sequential(drawn.module(lambda: nnx.Linear(4, 4, rngs=nnx.Rngs(0))), stack)
    J = la.layer_jacobians(model, x)
    assert list(J) == ["layers/0", "layers/1", "layers/1/depth", "end_to_end"]
    depth = J["layers/1/depth"]
    assert depth.shape == (5, 3, 4, 4)
    h = model.layers[0](x)
    found = matrices_of(J)
    matrices, kernel = np.asarray(found["layers/1/depth"]), np.asarray(stack.kernel[...])
    for l in range(5):
        h = np.tanh(np.asarray(h) @ kernel[l])
        np.testing.assert_allclose(matrices[l], (1 - h[:, :, None] ** 2) * kernel[l].T, atol=1e-6)
    product = np.linalg.multi_dot([*matrices[::-1, 0]])
    np.testing.assert_allclose(product, found["layers/1"][0], atol=1e-6)
    assert list(la.layer_jacobians(stack, x)) == ["depth", "end_to_end"]
    stack.kernel[...] = stack.kernel[...].at[3].set(jnp.nan)
    with pytest.raises(NonFiniteError, match="layer 3 of 5 of layer 'depth' turns a finite carry"):
        la.layer_jacobians(stack, x, "depth")


class Scanned(nnx.Module):
    """A stack of layers with stacked parameters, run by scan; its configuration is a plain dict, hence unhashable."""

    def __init__(self):
        self.options = {"widths": [2, 2]}
        self.layers = nnx.vmap(lambda rngs: nnx.Linear(2, 2, rngs=rngs))(nnx.Rngs(0).split(3))
        self.head = nnx.Linear(2, 1, rngs=nnx.Rngs(1))

    def __call__(self, x):
        step = nnx.scan(lambda x, layer: jnp.tanh(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.head(step(x, self.layers))


class ScannedLinen(linen.Module):
    """The same in Linen."""

    @linen.compact
    def __call__(self, x):
        stack = linen.scan(
            lambda layer, x, _: (jnp.tanh(layer(x)), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        return linen.Dense(1, name="head")(stack(linen.Dense(2, name="layers"), x, None)[0])


def test_scanned_stacks_that_nobody_declared_give_every_layer():
    x = drawn.draw(0, 2, 2)
    variables = drawn.variables(ScannedLinen(), x)
    for model in (drawn.module(Scanned), (ScannedLinen(), variables)):
        J = la.layer_jacobians(model, x)
        assert list(J) == ["head", "layers/depth", "end_to_end"]
        assert not J.skipped
        with pytest.raises(
            LinearAlgebraError, match="layer 'layers' .*transformation.*; its layers are 'layers/depth'"
        ):
            la.layer_jacobians(model, x, "layers")
        probe = la.SpectrumProbe(model, x)
        probe.submit(0, model)
        spectra = probe.wait()[0].spectra
        np.testing.assert_allclose(spectra["end_to_end"]["singular_values"], la.svdvals(J["end_to_end"]), atol=1e-5)
        assert spectra["layers/depth"]["singular_values"].shape == (2, 3, 2)
    weights, h = jax.tree.map(np.asarray, variables["params"]), np.asarray(x)
    found, head = jax.tree.map(np.asarray, matrices_of(J)), weights["head"]["kernel"].T
    depth = found["layers/depth"]
    for l, (W, b) in enumerate(zip(weights["layers"]["kernel"], weights["layers"]["bias"])):
        h = np.tanh(h @ W + b)
        np.testing.assert_allclose(depth[l], (1 - h[:, :, None] ** 2) * W.T, atol=1e-6)
    product = head @ depth[2] @ depth[1] @ depth[0]
    np.testing.assert_allclose(found["end_to_end"], product, atol=1e-6)


class Deep(nnx.Module):
    """Rematerialised residual blocks with batch statistics and dropout, run by scan, beside a counter and a memory."""

    def __init__(self, gated: bool = False):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs):
            return Branch(rngs)

        self.blocks = make(nnx.Rngs(0, dropout=1))
        self.gated = gated

    def __call__(self, x):
        gate = jnp.mean(x, axis=1, keepdims=True) if self.gated else 1.0

        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        @nnx.remat
        def apply(carry, block):
            count, h, memory = carry
            h = h + gate * block(h) * count
            return count + 1, h, memory + jnp.sum(h, axis=1)

        _, h, memory = apply((jnp.int32(1), x, jnp.zeros(len(x))), self.blocks)
        return h * memory[:, None]


class Branch(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, x):
        return self.dropout(jnp.tanh(self.norm(self.linear(x))))


def test_scanned_blocks_with_other_state_and_several_carries():
    """The carries that depend on the input are one vector (h, memory); the counter is part of what differs by layer."""
    x = drawn.draw(0, 2, 2)
    model = drawn.module(Deep)
    model.eval()
    J = la.layer_jacobians(model, x)
    assert list(J) == ["blocks/depth", "end_to_end"]
    depth = J["blocks/depth"]
    assert depth.shape == (3, 2, 3, 3)
    found = matrices_of(J)
    matrices = np.asarray(found["blocks/depth"])
    linear, norm = model.blocks.linear, model.blocks.norm
    h = np.asarray(x)
    for l in range(3):
        W, b, scale, shift, mean, var = (
            np.asarray(p[...])[l] for p in (linear.kernel, linear.bias, norm.scale, norm.bias, norm.mean, norm.var)
        )
        scale = scale / np.sqrt(var + 1e-5)
        inner = np.tanh((h @ W + b - mean) * scale + shift)
        D = np.eye(2) + (l + 1) * ((1 - inner**2) * scale)[:, :, None] * W.T
        expected = np.concatenate([np.pad(D, ((0, 0), (0, 0), (0, 1))), np.ones((2, 1, 3))], axis=1)
        expected[:, 2, :2] = D.sum(axis=1)
        np.testing.assert_allclose(matrices[l], expected, atol=1e-5)
        h = h + (l + 1) * inner
    graphdef, state = nnx.split(model)
    state = nnx.as_pure(state)
    expected = reference(lambda x: nnx.merge(graphdef, state)(x), x)
    np.testing.assert_allclose(found["end_to_end"], expected, atol=1e-5)
    gated = Deep(gated=True)
    gated.eval()
    assert "reads, beside what is carried" in la.layer_jacobians(gated, x).skipped["blocks/depth"]
    model.blocks.norm.scale[...] = model.blocks.norm.scale[...].at[1].set(jnp.nan)
    with pytest.raises(NonFiniteError, match="layer 1 of 3 of layer 'blocks/depth' turns a finite carry"):
        la.layer_jacobians(model, x)


def test_training_mode_is_refused_by_layer(net, x):
    net.train()
    with pytest.raises(LinearAlgebraError, match=r"layer 'dropout' drops units at random \(rate 0.5\).*model.eval\(\)"):
        la.layer_jacobians(net, x)
    make = lambda: nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0)))  # noqa: E731
    norm = drawn.module(make)
    with pytest.raises(LinearAlgebraError, match="layer 'layers/1' normalises"):
        la.layer_jacobians(norm, x)
    norm.eval()
    assert "layers/1" in la.layer_jacobians(norm, x)


def lookup():
    return drawn.module(lambda: nnx.Sequential(nnx.Embed(7, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(1))))


def test_tokens_are_looked_up_before_the_first_jacobian():
    J = la.layer_jacobians(lookup(), jnp.array([[1, 2], [3, 4]]))
    assert (list(J), list(J.skipped)) == (["layers/1"], ["layers/0", "end_to_end"])
    with pytest.raises(LinearAlgebraError, match=r"layer 'end_to_end' has an input of int32.*astype"):
        la.layer_jacobians(lookup(), jnp.array([[1, 2]]), "end_to_end")


def test_a_layer_that_was_left_out_is_explained_where_it_is_looked_up():
    J = la.layer_jacobians(lookup(), jnp.array([[1, 2]]))
    with pytest.raises(KeyError, match="layer 'end_to_end' has an input of int32"):
        J["end_to_end"]
    with pytest.raises(KeyError, match="unknown layer 'layer/1'; did you mean 'layers/1'"):
        J["layer/1"]


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (lambda: nnx.Sequential(*[nnx.Linear(4, 5, rngs=nnx.Rngs(0)) for _ in range(2)]), "layers/1"),
        (lambda: {"first": jnp.sin, "second": lambda x: x @ jnp.ones((5, 2))}, "second"),
    ],
)
def test_what_a_layer_raises_carries_its_name(model, layer, x):
    with pytest.raises(TypeError) as raised:
        la.layer_jacobians(drawn.module(model) if layer == "layers/1" else model(), x)
    assert any(note.startswith(f"in layer {layer!r}") for note in raised.value.__notes__)


class TwoInputs(nnx.Module):
    def __call__(self, x, y):
        return x + y


def test_models_of_other_inputs_are_refused_with_the_remedy(x):
    linen_model = type("LinenPair", (linen.Module,), {"__call__": lambda self, x, y: x + y})()
    for model in (TwoInputs(), (linen_model, {})):
        with pytest.raises(DimensionMismatch, match=r"missing .*'y'; give a tuple of inputs"):
            la.layer_jacobians(model, x)
    with pytest.raises(LinearAlgebraError, match="Module has no __call__; give a function of one example"):
        la.layer_jacobians(nnx.Module(), x)


def test_non_finite_activations_name_the_layer(net, x):
    net.blocks[1].layers[0].kernel[...] = net.blocks[1].layers[0].kernel[...].at[0, 0].set(jnp.nan)
    with pytest.raises(NonFiniteError, match=r"layer 'blocks/1/layers/0' turns finite inputs into 3 NaN"):
        la.layer_jacobians(net, x)
    with pytest.raises(NonFiniteError, match="the probe inputs hold NaN"):
        la.layer_jacobians(net, x.at[0, 0].set(jnp.inf))


@pytest.mark.parametrize(
    ("model", "inputs", "error", "message"),
    [
        ([jnp.sin], jnp.float32(1), DimensionMismatch, r"a batch \[B, …\]"),
        ([jnp.sin], jnp.ones((0, 2)), DimensionMismatch, "at least one example"),
        ([], jnp.ones((1, 2)), LinearAlgebraError, "at least one function"),
        ([3], jnp.ones((1, 2)), LinearAlgebraError, "needs a function, got a int"),
        (3, jnp.ones((1, 2)), LinearAlgebraError, "expected an nnx.Module"),
        ({"end_to_end": jnp.sin}, jnp.ones((1, 2)), UnknownNameError, "another name"),
        ([jnp.modf, jnp.sin], jnp.ones((1, 2)), LinearAlgebraError, "layer '0' returns a tuple"),
        ([jnp.modf], jnp.ones((1, 2)), LinearAlgebraError, "layer '0' returns a tuple"),
        ([np.sin], jnp.ones((1, 2)), LinearAlgebraError, "np.sin cannot be differentiated; use jax.numpy"),
        ([jnp.sin], jnp.ones((1, 2), int), LinearAlgebraError, "layer '0' has an input of int32"),
    ],
)
def test_bad_input(model, inputs, error, message):
    with pytest.raises(error, match=message):
        la.layer_jacobians(model, inputs)


# --- batches ---


def test_batch_products_and_printing(net, x):
    J = la.layer_jacobians(net, x, "first")["first"]
    assert repr(J) == "3 × 5×4 Jacobian{float32} of first at (4,)"
    assert (J.shape, J.dtype, len(J)) == ((3, 5, 4), jnp.float32, 3)
    np.testing.assert_allclose(J @ jnp.ones((3, 4)), la.materialize(J).sum(-1), atol=1e-6)
    np.testing.assert_allclose(la.norm(J), np.linalg.norm(la.materialize(J), axis=(1, 2)), rtol=1e-5)
    with pytest.raises(DimensionMismatch, match="batch of 3 operators applies to"):
        J @ jnp.ones(4)
    with pytest.raises(DimensionMismatch, match=r"transpose gives operators"):
        la.transpose(J)
    with pytest.raises(IndexError, match="no index 3"):
        J[3]
    with pytest.raises(DimensionMismatch, match="eigvals needs a square matrix"):
        la.eigvals(J)
