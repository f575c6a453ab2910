"""One contract for every registered optimiser, and the shapes of the schedules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lax_linalg.errors import UnknownNameError
from train.config import TrainConfig
from train.optimizers import make_optimizer, make_schedule, optimizers, schedules

every = pytest.mark.parametrize("name", optimizers.names())


def params(dtype=jnp.float32):
    return {
        "conv/kernel": jnp.full((3, 3, 2, 4), 0.5, dtype),
        "conv/bias": jnp.ones(4, dtype),
        "gain": jnp.ones((), dtype),
    }


def distance(tree):
    return sum(jnp.sum(jnp.square(leaf - 0.1)) for leaf in tree.values())


@every
def test_it_minimises_a_quadratic_keeps_dtypes_and_compiles_once(name):
    optimizer, _ = make_optimizer(TrainConfig(optimizer=name, learning_rate=0.04, schedule="cosine"), steps=200)

    @jax.jit
    def update(tree, state):
        updates, state = optimizer.update(jax.grad(distance)(tree), state, tree)
        return optax.apply_updates(tree, updates), state

    tree = params()
    start, state = float(distance(tree)), optimizer.init(tree)
    for _ in range(200):
        tree, state = update(tree, state)
    assert float(distance(tree)) < 0.05 * start
    assert all(leaf.dtype == jnp.float32 for leaf in tree.values())
    assert update._cache_size() == 1


def test_muon_orthogonalises_kernels_and_leaves_vectors_to_adam():
    """A first Muon step on a kernel has nearly equal singular values as a matrix of patches by channels."""
    optimizer, _ = make_optimizer(TrainConfig(optimizer="muon", learning_rate=1.0), steps=1)
    tree = params()
    gradient = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(0), leaf.shape), tree)
    updates, _ = optimizer.update(gradient, optimizer.init(tree), tree)
    singular_values = np.linalg.svd(updates["conv/kernel"].reshape(-1, 4), compute_uv=False)
    assert singular_values[0] / singular_values[-1] < 2
    size = np.abs(updates["conv/bias"])  # the first step of Adam is the sign of the gradient times a constant
    np.testing.assert_allclose(size, size[0], rtol=1e-3)


def test_clipping_bounds_the_gradient():
    optimizer, _ = make_optimizer(TrainConfig(optimizer="sgd", learning_rate=1.0, clip_norm=0.5), steps=1)
    tree = params()
    updates, _ = optimizer.update(jax.tree.map(lambda leaf: 100 * leaf, tree), optimizer.init(tree), tree)
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-5)


@pytest.mark.parametrize("name", schedules.names())
def test_schedules_rise_then_end_where_their_name_says(name):
    schedule = make_schedule(name, 2.0, steps=100, warmup_steps=20)
    assert float(schedule(0)) == 0.0
    np.testing.assert_allclose([schedule(10), schedule(20)], [1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(schedule(100), 2.0 if name == "constant" else 0.0, atol=1e-6)


def test_unknown_names_give_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'adamw'"):
        make_optimizer(TrainConfig(optimizer="adamww"), steps=1)
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        make_optimizer(TrainConfig(schedule="cosin"), steps=1)
