"""A Jacobian in memory that is used again: zeros known to stand are not written, and nothing else is trusted."""

from __future__ import annotations

import functools
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.jacobian.reuse import Written, _again, known_matrices, pattern_of, remember
from tests.lax_linalg import drawn

OPTIONS = {"method": "auto", "mode": "auto", "memory_budget": 2**26, "mesh": None}


@functools.partial(jax.jit, static_argnames=("spatial", "options"))
def reference(x, kernel, spatial, options):
    return jax.jacfwd(layer(spatial, options))(x, kernel).reshape(-1, x.size)


@functools.cache
def layer(spatial, options):
    """(x, kernel) ↦ tanh of a convolution; equal geometries give one function, other ones another."""

    def f(x, kernel):
        return jnp.tanh(la.Convolution(kernel, spatial, **dict(options)).apply(x[None])[0])

    return f


def blank():
    """A matrix of ones that nothing here has written."""
    return jnp.asarray(np.ones((48, 48), np.float32))


def case(number, *, spatial=(6, 4), kernel=(3, 3, 2, 2), **options):
    """(Jacobian, its matrix by jacfwd) for a random image and kernel."""
    options = tuple(sorted(options.items()))
    cin = kernel[2] * dict(options).get("groups", 1)
    x, kernel = drawn.draw(2 * number, *spatial, cin), drawn.draw(2 * number + 1, *kernel)
    return la.jacobian(layer(spatial, options), x, kernel), reference(x, kernel, spatial, options)


# All of these are 48×48, and no two write the same places, but for the last two
GEOMETRIES = {
    "3×3": {},
    "1×1": {"kernel": (1, 1, 2, 2)},
    "5×3": {"kernel": (5, 3, 2, 2)},
    "circular": {"padding": "circular"},
    "dilated": {"dilation": 2, "padding": ((2, 2), (2, 2))},
    "shifted": {"padding": ((2, 0), (1, 1))},
    "other image": {"spatial": (4, 6)},
    "more channels": {"spatial": (3, 2), "kernel": (3, 3, 8, 8)},
    "wrapped": {"spatial": (2, 3), "kernel": (3, 3, 8, 8), "padding": "circular"},
    "groups": {"kernel": (3, 3, 1, 2), "groups": 2},
}


@pytest.mark.parametrize(
    "names", [("3×3", "circular", "shifted", "groups"), pytest.param(tuple(GEOMETRIES), marks=pytest.mark.slow)]
)
def test_every_geometry_in_memory_of_every_other(names):
    # a tour through all ordered pairs, each matrix formed in the memory of the one before
    expected = {name: case(3, **GEOMETRIES[name]) for name in names}
    matrix, before, patterns = jnp.full((48, 48), jnp.nan), "", {}
    for shift in range(len(names)):
        for a in names:
            for name in (a, names[(names.index(a) + shift) % len(names)]):
                J, wanted = expected[name]
                matrix = la.materialize(J, out=matrix)
                np.testing.assert_allclose(matrix, wanted, atol=1e-5, err_msg=f"{name} after {before}")
                np.testing.assert_array_equal(np.asarray(matrix)[np.asarray(wanted) == 0], 0)
                patterns[name], before = pattern_of(matrix), name
    assert None not in patterns.values()
    different = set(patterns.values())
    assert len(different) == len(names) - 1 and patterns["groups"] == patterns["3×3"]  # zeros inside are written


def test_what_was_inside_does_not_matter():
    J, wanted = case(0)
    poisoned = la.jacobian(J.f, J.x, jnp.full_like(J.args[0], jnp.nan))
    matrix = la.materialize(poisoned)
    assert np.isnan(matrix).any()
    np.testing.assert_allclose(la.materialize(J, out=matrix), wanted, atol=1e-5)

    def dead(x, kernel):  # every factor of the rows is zero
        return jax.nn.relu(la.Convolution(kernel, (6, 4)).apply(x[None])[0] - 1e3)

    matrix = la.materialize(la.jacobian(dead, J.x, J.args[0]), out=la.materialize(J))
    np.testing.assert_array_equal(matrix, np.zeros((48, 48)))


@pytest.mark.parametrize(
    ("method", "pattern", "spatial"),
    [("structured", "bands", (16, 2)), ("structured", "windows", (6, 6)), ("coloured", "coloured", (4, 6))],
)
def test_compositions(method, pattern, spatial):
    size = 2 * spatial[0] * spatial[1]

    def two(x, kernel):
        for _ in range(2):
            x = jnp.tanh(la.Convolution(kernel, spatial).apply(x[None])[0])
        return x

    def at(number):
        return drawn.draw(2 * number, *spatial, 2), drawn.draw(2 * number + 1, 3, 3, 2, 2, scale=0.25)

    first = la.materialize(la.jacobian(two, *at(0), method=method))
    known, where = pattern_of(first), first.unsafe_buffer_pointer()
    assert known[0] == pattern
    second = la.materialize(la.jacobian(two, *at(1), method=method), out=first)
    np.testing.assert_allclose(second, jax.jit(jax.jacfwd(two))(*at(1)).reshape(size, size), atol=1e-5)
    assert pattern_of(second) == known and second.unsafe_buffer_pointer() == where
    single, wanted = case(2, spatial=spatial)
    np.testing.assert_allclose(la.materialize(single, out=second), wanted, atol=1e-5)


def test_zeros_that_stand_are_not_written():
    J, _ = case(0)
    zero = np.zeros((), np.int32)

    def program(pattern):
        out = Written(jnp.zeros((48, 48)), pattern)
        return str(jax.make_jaxpr(lambda out: _again(out, zero, J.f, J.x, J.args, **OPTIONS))(out))

    known = pattern_of(la.materialize(J))
    clears = "f32[48,48] = broadcast_in_dim"
    assert clears in program(None) and clears in program(("slabs",)) and clears not in program(known)


def test_only_the_array_itself_is_known():
    J, wanted = case(0)
    matrix = la.materialize(J)
    assert pattern_of(matrix) is not None
    set_outside = matrix.at[0, 47].set(1.0)
    foreign = (matrix + 0.0, set_outside, matrix.T, blank(), jnp.copy(matrix))
    for other in foreign:
        assert pattern_of(other) is None
        np.testing.assert_allclose(la.materialize(J, out=other), wanted, atol=1e-5)
    # in memory that another program took over, object and place may be the same but the values are not
    changed = jax.jit(lambda a: a.at[0, 47].set(1.0), donate_argnums=0)(matrix)
    assert matrix.is_deleted() and pattern_of(matrix) is None and pattern_of(changed) is None
    np.testing.assert_allclose(la.materialize(J, out=changed), wanted, atol=1e-5)


def test_a_donated_alias_takes_the_array_with_it():
    J, _ = case(0)
    matrix = la.materialize(J)
    alias = matrix.addressable_shards[0].data
    jax.block_until_ready(jax.jit(lambda a: a + 1, donate_argnums=0)(alias))
    assert matrix.is_deleted() and pattern_of(matrix) is None
    with pytest.raises(LinearAlgebraError, match="given away"):
        la.materialize(J, out=matrix)


def test_a_deleted_array_is_refused():
    J, _ = case(0)
    matrix = la.materialize(J)
    matrix.delete()
    assert pattern_of(matrix) is None
    with pytest.raises(LinearAlgebraError, match="given away or deleted before; pass the last result"):
        la.materialize(J, out=matrix)


@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_under_transformations():
    J, wanted = case(0)

    def again(old, kernel):
        return la.materialize(la.jacobian(J.f, J.x, kernel), out=old)

    matrix = la.materialize(J)
    np.testing.assert_allclose(jax.jit(again)(matrix, J.args[0]), wanted, atol=1e-5)
    outer = jax.jit(again)(blank(), J.args[0])
    np.testing.assert_allclose(outer, wanted, atol=1e-5)
    assert pattern_of(outer) is None  # what a program of one's own returns is not known
    np.testing.assert_allclose(
        jax.vmap(again, in_axes=(0, None))(jnp.ones((2, 48, 48)), J.args[0]), [wanted, wanted], atol=1e-5
    )

    def size(kernel, old):
        return jnp.sum(again(old, kernel) ** 2)

    kept = la.materialize(J)
    gradient = jax.grad(size)(J.args[0], kept)
    np.testing.assert_allclose(gradient, jax.grad(size)(J.args[0], blank()), atol=1e-4)
    assert np.linalg.norm(gradient) > 0


def test_a_function_that_became_another_is_written_anew():
    x, kernel = drawn.draw(0, 6, 4, 2), drawn.draw(1, 5, 5, 2, 2)
    taps = [5]

    def fickle(x, kernel):
        return la.Convolution(kernel[: taps[0], : taps[0]], (6, 4)).apply(x[None])[0]

    old = la.materialize(la.jacobian(fickle, x, kernel))
    jax.clear_caches()
    taps[0] = 3
    new = la.materialize(la.jacobian(fickle, x, kernel), out=old)
    np.testing.assert_allclose(new, jax.jit(jax.jacfwd(fickle))(x, kernel).reshape(48, 48), atol=1e-5)


def test_nothing_is_kept_alive_and_nothing_compiles_again():
    J, _ = case(0)
    gc.collect()
    before = known_matrices()
    matrix = la.materialize(J)
    for number in range(2):
        matrix = la.materialize(case(number)[0], out=matrix)
    compiled = _again._cache_size()
    for number in range(5):
        matrix = la.materialize(case(number)[0], out=matrix)
    assert _again._cache_size() == compiled and known_matrices() == before + 1
    del matrix
    gc.collect()
    assert known_matrices() == before
    assert pattern_of(remember(Written(jnp.zeros(3)))) is None


def test_other_precisions():
    def rounded(x, kernel):
        return la.Convolution(kernel, (6, 4)).apply(x[None])[0].astype(jnp.float32)

    J, _ = case(0)
    x, kernel = J.x.astype(jnp.bfloat16), J.args[0].astype(jnp.bfloat16)
    matrix = la.materialize(la.jacobian(rounded, x, kernel), out=blank())
    again = la.materialize(la.jacobian(rounded, x, 2 * kernel), out=matrix)
    wanted = la.materialize(la.jacobian(rounded, x, 2 * kernel, method="dense"))
    np.testing.assert_allclose(again, wanted, atol=1e-2)
