"""The routes to a Jacobian's entries (structure, colours, all products) against `jax.jacfwd`, and what they choose."""

from __future__ import annotations

import builtins
import functools
import importlib.metadata

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings, strategies as st

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.jacobian import coloring
from lax_linalg.jacobian.bands import banded_cost, banded_entries
from lax_linalg.jacobian.coloring import coloring_of
from lax_linalg.jacobian.graph import derivative_graph
from lax_linalg.jacobian.rows import row_entries, rows_cost
from lax_linalg.jacobian.slabs import convolution_entries
from lax_linalg.jacobian.structured import peak_entries, structured_cost
from lax_linalg.jacobian.windows import windowed_cost, windowed_entries
from tests.lax_linalg import drawn
from tests.lax_linalg.gradients import check_gradient

W = drawn.draw(0, 4, 4)


def one(module):
    """A module as a function of one example."""
    return lambda x: module(x[None])[0]


def made(kind, *args, **options):
    """A module with parameters from NumPy, as a function of one example."""
    return one(drawn.module(lambda: kind(*args, rngs=nnx.Rngs(0), **options)))


def reference(f, x):
    return np.asarray(jax.jit(jax.jacfwd(f))(x)).reshape(-1, x.size)


def ones(*shape):
    """Not compiled."""
    return jnp.asarray(np.ones(shape, np.float32))


def composed(x):
    """Convolution, activation, convolution, activation, on 6×5 images of 2 channels."""
    kernel = np.cos(np.arange(36, dtype=np.float32)).reshape(3, 3, 2, 2)
    for _ in range(2):
        x = jnp.tanh(la.Convolution(kernel, (6, 5)).apply(x[None])[0])
    return x


STRUCTURED = {
    "elementwise": (lambda x: x * jnp.exp(-x) + jax.nn.silu(x), (3, 2)),
    "relu at zero": (lambda x: jax.nn.relu(W @ jax.nn.relu(jnp.round(x))), (4,)),
    "matrix": (lambda x: W @ x, (4, 3)),
    "rows": (lambda x: jnp.tanh(x @ W[:, :2]), (3, 4)),
    "residual": (lambda x: x + jnp.tanh(W @ jnp.tanh(x)) * x, (4,)),
    "moved": (lambda x: jnp.pad(jnp.sin(x), 1)[::-1].T * 2, (3, 2)),
    "sliced": (lambda x: jnp.concatenate([x[2:], x[:1]]) ** 2, (4, 2)),
    "constant": (lambda x: jnp.ones(5), (3,)),
    "pooled": (lambda x: nnx.avg_pool(jnp.tanh(x)[None], (2, 2), (2, 2))[0], (4, 4, 2)),
    "composed": (composed, (6, 5, 2)),
    "linear": (made(nnx.Linear, 4, 3), (2, 4)),
    "conv": (made(models.Conv, 2, 3, 3), (4, 5, 2)),
    "circular": (made(models.Conv, 2, 3, (3, 2), padding="circular", strides=2), (4, 6, 2)),
    "nnx circular": (made(nnx.Conv, 2, 3, (3, 3), padding="CIRCULAR"), (4, 4, 2)),
    "conv 1-D": (made(nnx.Conv, 2, 3, 3, kernel_dilation=2), (7, 2)),
    "groups": (made(nnx.Conv, 4, 6, (3, 3), feature_group_count=2), (5, 4, 4)),
    "block": (made(models.ResidualBlock, 2, activation="gelu", scale="depth", depth=4), (4, 4, 2)),
    "resnet": (made(models.ResNet, input_shape=(8, 8, 1), num_classes=3, widths=(2, 4)), (8, 8, 1)),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_structure_is_jacfwd(name):
    f, shape = STRUCTURED[name]

    @jax.jit
    def all_ways(x):
        J = la.jacobian(f, x)
        rows = row_entries(derivative_graph(f, x), J.shape[0], J.dtype)
        return la.materialize(J, method="structured"), rows, la.materialize(J.structure), jax.jacfwd(f)(x)

    x = drawn.draw(0, *shape)
    entries, rows, operators, expected = all_ways(x)
    expected = np.asarray(expected).reshape(-1, x.size)
    np.testing.assert_allclose(entries, expected, atol=2e-6)
    np.testing.assert_allclose(rows, expected, atol=2e-6)
    np.testing.assert_allclose(operators, expected, atol=2e-6)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    spatial=st.tuples(st.integers(2, 7), st.integers(2, 4)),
    sizes=st.tuples(*[st.tuples(st.integers(1, 4), st.integers(1, 3))] * 2),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pad=st.integers(0, 4),
    groups=st.integers(1, 2),
    seed=st.integers(0, 9),
)
def test_bands_of_image_rows_and_windows_of_pixels_are_jacfwd(spatial, sizes, stride, dilation, pad, groups, seed):
    """A residual block, scalings between, and a convolution behind, of any geometry without wrapping."""
    rng = np.random.default_rng(seed)

    def conv(kernel, spatial, channels, **options):
        taps = jnp.asarray(rng.standard_normal((*kernel, 2 // options.get("groups", 1), channels)), jnp.float32)
        return la.Convolution(taps, spatial, **options)

    same = conv((3, 3), spatial, 2)
    try:
        inner = conv(sizes[0], spatial, 2, padding=((pad, sizes[0][0] - 1 - pad % 2), (1, sizes[0][1])), groups=groups)
        outer = conv(sizes[1], inner.out_spatial, 4, stride=stride, dilation=dilation, padding=((pad, 2), (2, 1)))
    except la.LinearAlgebraError:
        return

    def f(x):
        x = 2 * x + jnp.sin(x) * jnp.tanh(same.apply(jnp.cos(x)[None]))[0]
        return -jnp.tanh(outer.apply(jnp.sin(inner.apply(x[None]))))[0]

    x = jnp.asarray(rng.standard_normal((*spatial, 2)), jnp.float32)

    @jax.jit
    def both(x):
        graph, out = derivative_graph(f, x), jax.eval_shape(f, x)
        assert banded_cost(graph) > 0 and windowed_cost(graph) > 0
        shape = (out.size, x.size)
        zeros = jnp.zeros(shape)
        routes = [
            entries(graph, shape, out.dtype, into=into)
            for entries in (banded_entries, windowed_entries)
            for into in (None, lambda _: zeros)
        ]
        return routes, jax.jacfwd(f)(x).reshape(shape)

    routes, expected = both(x)
    for entries in routes:
        np.testing.assert_allclose(entries, expected, atol=1e-6 * np.abs(expected).max(initial=1))


def test_bands_serve_where_they_cost_less_and_images_without_wrapping_only():
    conv = la.Convolution(ones(3, 3, 2, 2), (12, 4))
    graph = derivative_graph(lambda x: conv.apply(jnp.tanh(conv.apply(x[None])))[0], ones(12, 4, 2))
    assert banded_cost(graph) < 0.3 * 2 * 96**3
    assert structured_cost(graph, (96, 96)) == min(banded_cost(graph), windowed_cost(graph)) + 2 * 96**2
    large = la.Convolution(ones(3, 3, 2, 2), (16, 16))
    costs = [
        (banded_cost(graph), windowed_cost(graph))
        for at in (large, la.Convolution(ones(3, 3, 2, 2), (3, 2)))
        for graph in [derivative_graph(lambda x, at=at: at.apply(at.apply(x[None]))[0], jnp.ones((*at.spatial, 2)))]
    ]
    assert costs[0][1] < costs[0][0] and costs[1][0] < costs[1][1]  # windows pay where the image is larger than they
    around = la.Convolution(ones(3, 3, 2, 2), (12, 4), padding="circular")
    for f in (lambda x: around.apply(around.apply(x[None]))[0], jnp.tanh, lambda x: x[1:]):
        graph = derivative_graph(f, ones(12, 4, 2))
        assert banded_cost(graph) is None and windowed_cost(graph) is None


def test_windows_and_rows_take_little_memory_beside_the_matrix():
    large = la.Convolution(ones(3, 3, 8, 8), (32, 32))
    graph = derivative_graph(lambda x: large.apply(jnp.tanh(large.apply(x[None])))[0], ones(32, 32, 8))
    assert peak_entries(graph, (8192, 8192)) == 8192 * 5 * 5 * 8  # a window for each output
    assert peak_entries(graph, (8192, 8192), shared=True) == 8192 * 8192
    square = jnp.ones((30, 30))
    few = derivative_graph(lambda x: square[:2] @ jnp.tanh(square @ jnp.tanh(square @ x)), jnp.ones(30))
    assert peak_entries(few, (2, 30)) == 2 * 30


def test_calls_that_give_integers_too_are_not_taken_for_constants():
    """A program whose call returns a counter, or a random key, beside the result."""

    @jax.checkpoint
    def counted(x):
        return jnp.sin(x), jnp.int32(1)

    def scanned(x):
        return jax.lax.scan(lambda h, _: ((h[0] * 2, h[1] + 1), None), (x, jnp.int32(0)), length=3)[0][0]

    x = jnp.array([0.5, 1.0])
    J = la.jacobian(lambda x: counted(x)[0] * 3, x)
    np.testing.assert_allclose(la.materialize(J, method="structured"), np.diag(3 * np.cos(x)), rtol=1e-6)
    J = la.jacobian(scanned, x)
    assert J.structure is None
    np.testing.assert_array_equal(la.materialize(J), 8 * np.eye(2))


def test_few_outputs_go_back_through_the_maps():
    """A classifier's ten rows cost less from the output's side; strides, dilations and padding of any kind too."""
    graph = derivative_graph(STRUCTURED["resnet"][0], ones(8, 8, 1))
    assert structured_cost(graph, (3, 64)) == rows_cost(graph, 3) + 2 * 3 * 64
    odd = la.Convolution(
        np.cos(np.arange(36, dtype=np.float32)).reshape(3, 2, 2, 3), (7, 4), 3, ((4, 1), (0, 2)), (2, 1)
    )

    @jax.jit
    def both(odd):
        graph = derivative_graph(lambda x: odd.apply(x[None])[0], ones(7, 4, 2))
        return row_entries(graph, odd.shape[0], jnp.float32), la.materialize(odd)

    np.testing.assert_allclose(*both(odd), atol=1e-6)


def kinds(A):
    return [type(part).__name__ for part in getattr(A, "factors", getattr(A, "terms", (A,)))]


def test_layers_are_diagonal_times_operator_blocks_identity_plus_j_networks_products():
    x = ones(4, 5, 2) / 3
    conv = made(models.Conv, 2, 2, 3)
    assert kinds(la.jacobian(conv, x).structure) == ["Convolution"]
    assert kinds(la.jacobian(lambda x: jnp.tanh(conv(x)), x).structure) == ["Diagonal", "Convolution"]
    block = la.jacobian(made(models.ResidualBlock, 2), x).structure
    assert kinds(block) == ["UniformScaling", "Product"]
    assert kinds(block.terms[1]) == ["Convolution", "Diagonal", "Convolution", "Diagonal"]
    transposed = la.jacobian(lambda x: jnp.tanh(conv(x)), x).T.structure
    assert kinds(transposed) == ["Convolution", "Diagonal"]

    def deep(x):
        for _ in range(3):
            x = x + jnp.tanh(W @ x)
        return W @ x

    assert kinds(la.jacobian(deep, jnp.ones(4)).structure) == ["Dense", "Sum", "Sum", "Sum"]
    assert la.jacobian(jax.nn.softmax, jnp.ones(4)).structure is None


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    spatial=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
    padding=st.sampled_from(["zero", "circular", ((2, 1), (0, 3))]),
    seed=st.integers(0, 9),
)
def test_slabs_are_the_convolutions_entries(spatial, kernel, stride, dilation, groups, padding, seed):
    rng = np.random.default_rng(seed)
    taps = jnp.asarray(rng.standard_normal((*kernel, 2, 2 * groups)), jnp.float32)
    try:
        A = la.Convolution(taps, spatial, stride=stride, padding=padding, dilation=dilation, groups=groups)
    except DimensionMismatch:
        return
    d = jnp.asarray(rng.standard_normal(A.shape[0]), jnp.float32)

    @jax.jit
    def entries(A, d):
        m, n = A.shape
        here = convolution_entries(A, d, into=lambda _: jnp.zeros((m, n)))
        there = convolution_entries(A, d, transposed=True, into=lambda _: jnp.zeros((n, m)))
        there_anew = convolution_entries(A, d, transposed=True)
        return convolution_entries(A, d), there_anew.T, here, there.T, d[:, None] * (A @ jnp.eye(n))

    *found, expected = entries(A, d)
    for matrix in found:
        np.testing.assert_allclose(matrix, expected, atol=1e-6)


@functools.cache
def composed_reference(dtype):
    x = drawn.draw(0, 6, 5, 2, dtype=dtype)
    return x, np.asarray(jax.jit(jax.jacfwd(composed, holomorphic=dtype == "complex64"))(x)).reshape(60, 60)


@pytest.mark.parametrize("method", ["dense", "structured", "coloured"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_every_route_gives_the_same_matrix(method, dtype):
    x, expected = composed_reference(dtype)
    matrix = la.materialize(la.jacobian(composed, x, method=method))
    tolerance = 0.1 if dtype == "bfloat16" else 1e-5
    np.testing.assert_allclose(np.asarray(matrix, np.complex64), np.asarray(expected, np.complex64), atol=tolerance)
    assert matrix.dtype == dtype


@pytest.mark.parametrize("method", ["structured", "coloured"])
def test_under_transformations(method, x64):
    xs = drawn.draw(0, 2, 6, 5, 2, dtype=np.float64)

    @jax.jit
    def found_and_expected(xs):
        found = jax.vmap(lambda x: la.materialize(la.jacobian(composed, x, method=method)))(xs)
        return found[1], jax.jacfwd(composed)(xs[1]).reshape(60, 60)

    np.testing.assert_allclose(*found_and_expected(xs), atol=1e-12)
    check_gradient(lambda x: la.norm(la.jacobian(composed, x, method=method)), xs[0])


# --- colours ---


def test_colours_of_images_are_as_few_as_a_row_has_entries():
    found = coloring_of(composed, jnp.zeros((6, 5, 2)))
    assert found.count == 5 * 5 * 2 == np.bincount(found.rows).max()
    for row in range(0, 60, 7):
        colors = found.colors[found.columns[found.rows == row]]
        assert len(set(colors.tolist())) == colors.size
    pattern = np.zeros((60, 60), bool)
    pattern[found.rows, found.columns] = True
    assert (np.asarray(la.materialize(la.jacobian(composed, ones(6, 5, 2), method="dense")))[~pattern] == 0).all()
    assert coloring_of(composed, jnp.zeros((6, 5, 2))) is found  # once per architecture
    assert coloring_of(composed, jnp.zeros((6, 4, 2))) is not found


class TwoConvolutions(nnx.Module):
    def __init__(self, width, *, rngs):
        self.first, self.second = models.Conv(1, width, 3, rngs=rngs), models.Conv(width, 1, 3, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.second(jnp.tanh(self.first(x))))


def test_a_model_of_the_same_architecture_is_not_coloured_again():
    def found(width, seed, size):
        model = drawn.module(lambda: TwoConvolutions(width, rngs=nnx.Rngs(0)), seed)

        def matrices(x):
            return la.materialize(la.layer_jacobians(model, x, "end_to_end")["end_to_end"], method="coloured")

        assert jax.eval_shape(matrices, jnp.ones((2, size, size, 1))).shape == (2, size**2, size**2)
        return coloring._coloring.cache_info().misses

    first = found(2, 0, 4)
    assert found(2, 1, 4) == first  # other parameters
    jax.clear_caches()
    assert found(2, 2, 4) == first  # nor where the program is compiled again
    assert found(2, 0, 3) == first + 1 and found(3, 0, 4) == first + 2  # another shape, another architecture


def largest(x):
    """A maximum has no structure here; only asdex knows where the Jacobian can be nonzero."""
    return jnp.max(jnp.sin(x).reshape(-1, 2), axis=1)


def wheel(x):
    """Neighbours on a ring of 7: what wraps around has no period."""
    return x * jnp.roll(x, 1)


def needs_asdex():
    pytest.importorskip("asdex", reason="asdex 0.5.2 does not import with jax 0.12", exc_type=ImportError)


def test_asdex_finds_the_pattern_where_the_program_gives_none():
    needs_asdex()
    x = drawn.draw(0, 8)
    assert la.jacobian(largest, x).structure is None
    np.testing.assert_allclose(la.materialize(la.jacobian(largest, x, method="coloured")), reference(largest, x))
    assert coloring_of(largest, x).count == 1 and coloring_of(largest, x).mode == "reverse"
    x = drawn.draw(0, 7)
    np.testing.assert_allclose(la.materialize(la.jacobian(wheel, x, method="coloured")), reference(wheel, x))
    assert coloring_of(wheel, x).count == 3


def test_wide_jacobians_colour_their_rows():
    x = drawn.draw(0, 12)
    f = lambda x: jnp.sin(x).reshape(4, 3).sum(1)  # noqa: E731
    assert coloring_of(f, x).mode == "reverse"
    np.testing.assert_allclose(la.materialize(la.jacobian(f, x, method="coloured")), reference(f, x), atol=1e-6)


def test_without_asdex_the_dense_route_serves_and_says_so(monkeypatch):
    def big(x):
        return nnx.max_pool(jnp.cos(x)[None], (2, 2), (1, 1), padding="SAME")[0]

    given = builtins.__import__

    def without(name, *rest, **options):
        if name == "asdex":
            raise AttributeError("jax has no attribute 'private'")
        return given(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    x = drawn.draw(0, 12, 12, 1)
    works = f"asdex .* cannot be imported with jax {jax.__version__} .AttributeError.*asdex 0.5.2 works with jax 0.11"
    with pytest.warns(RuntimeWarning, match=f"formed by all products: .*{works}"):
        matrix = la.materialize(la.jacobian(big, x))
    np.testing.assert_allclose(matrix, reference(big, x), atol=1e-6)

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(LinearAlgebraError, match=r"needs asdex here.*install lax-linalg\[full\].*method='dense'"):
        coloring._detected(big, x, ())


# --- the choice ---


def test_the_choice_follows_the_counted_cost():
    images = 0 * ones(8, 8, 4)
    conv = made(models.Conv, 4, 4, 3)
    route = la.jacobian(conv, images).route()
    assert route.method == "structured" and route.flops["structured"] < route.flops["dense"] / 40
    assert la.jacobian(jax.nn.softmax, jnp.zeros(8)).route().method == "dense"
    two = la.jacobian(lambda x: conv(jnp.tanh(conv(x))), 0 * ones(16, 16, 4))
    assert min(two.route().flops, key=two.route().flops.get) == two.route().method != "dense"
    assert la.jacobian(jnp.tanh, images, mode="forward").route().method == "dense"
    small = la.jacobian(composed, jnp.zeros((6, 5, 2)), memory_budget=1000)
    assert "structured" not in small.route().flops  # its intermediate batch would not fit


def test_linear_layers_are_factorised_once_for_the_whole_batch():
    def count(f):
        J = la.layer_jacobians({"f": f}, drawn.draw(0, 5, 4))["f"]
        return str(jax.make_jaxpr(la.svdvals)(J)).count("f32[5,4,4]")

    assert count(lambda x: W @ x + 1) == 0
    assert count(lambda x: jnp.tanh(W @ x)) > 0


def test_one_linear_map_has_the_singular_values_of_its_structure():
    J = la.jacobian(made(models.Conv, 2, 2, 3, padding="circular"), ones(4, 4, 2))
    expected = np.linalg.svd(la.materialize(J), compute_uv=False)
    np.testing.assert_allclose(la.svdvals(J), expected, atol=1e-5)
    np.testing.assert_allclose(la.svdvals(J.T), expected, atol=1e-5)


def test_a_layer_above_the_memory_limit_is_named():
    J = la.layer_jacobians({"wide": lambda x: jnp.tanh(jnp.tile(x, 20))}, jnp.ones((1, 20)))
    with (
        la.dense_limit(1000),
        pytest.raises(la.DenseLimitError, match=r"Jacobian of .*lambda.* 400×20 .*la.dense_limit"),
    ):
        la.materialize(J["wide"])


def test_memory_is_reused():
    x = drawn.draw(0, 4, 4, 2)
    for f in (made(models.Conv, 2, 2, 3), jax.nn.softmax):
        J = la.jacobian(f, x)
        old = jnp.full((32, 32), jnp.nan)
        where = old.unsafe_buffer_pointer()
        new = la.materialize(J, out=old)
        np.testing.assert_allclose(new, reference(f, x), atol=1e-6)
        assert old.is_deleted()
    assert where is not None
    J = la.jacobian(made(models.Conv, 2, 2, 3), x)
    first = la.materialize(J)
    where = first.unsafe_buffer_pointer()
    assert la.materialize(J, out=first).unsafe_buffer_pointer() == where


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: la.jacobian(jnp.sin, jnp.ones(3), method="sparse"), UnknownNameError, "unknown jacobian method"),
        (
            lambda: la.materialize(la.jacobian(jax.nn.softmax, jnp.ones(3), method="structured")),
            LinearAlgebraError,
            "Jacobian of softmax has no structure: .* depends on the input and is no convolution",
        ),
        (
            lambda: la.materialize(la.jacobian(jnp.sin, jnp.ones(3)), out=jnp.ones((3, 4))),
            DimensionMismatch,
            r"out must be 3×3 float32, got \[3, 4\] float32",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_equinox_layers_have_structure(key):
    layer = eqx.nn.Linear(3, 2, key=key)
    assert kinds(la.jacobian(layer, jnp.ones(3)).structure) == ["Dense"]
