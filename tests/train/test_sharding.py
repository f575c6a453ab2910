"""On eight emulated devices penalties and optimisers give what they give on one, and keep where the arrays lie."""

from __future__ import annotations

import pytest

from tests.train.emulated import on_eight_devices
from train.optimizers import optimizers
from train.regularizers import regularizers

PENALTIES = """
from train.regularizers import Weight, regularizers
kernel = jax.random.normal(jax.random.key(0), (3, 3, 2, 8))
for name in {names}:
    f = jax.jit(jax.value_and_grad(lambda k: regularizers[name](Weight(k, strides=(2, 2)))))
    value, gradient = f(kernel)
    sharding = NamedSharding(mesh, PartitionSpec(None, None, None, "data"))
    sharded = jax.device_put(kernel, sharding)
    f = jax.value_and_grad(lambda k: regularizers[name](Weight(k, strides=(2, 2))))
    step = jax.jit(f, out_shardings=(None, sharding))
    for _ in range(2):
        v, g = step(sharded)
        np.testing.assert_allclose(v, value, rtol=1e-4)
        np.testing.assert_allclose(g, gradient, rtol=1e-3, atol=1e-4 * float(abs(gradient).max()))
        assert g.sharding == sharded.sharding
        sharded = sharded - 0.0 * g
    assert step._cache_size() == 1, name
"""

STEPS = """
import optax
from train.config import TrainConfig
from train.optimizers import make_optimizer, optimizers
kernel = jax.nn.initializers.orthogonal()(jax.random.key(0), (16, 8))
target = jax.nn.initializers.orthogonal()(jax.random.key(1), (16, 8))
sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
for name in {names}:
    optimizer, _ = make_optimizer(TrainConfig(optimizer=name, learning_rate=0.05), 4)
    def update(tree, state):
        grads = jax.tree.map(lambda w: w - target, tree)
        updates, state = optimizer.update(grads, state, tree)
        return optax.apply_updates(tree, updates), state
    update = jax.jit(update)
    results = []
    for put in (lambda w: w, lambda w: jax.device_put(w, sharding)):
        tree = {{"dense/kernel": put(kernel)}}
        state = optimizer.init(tree)
        tree, state = update(tree, state)
        results.append(tree["dense/kernel"])
    np.testing.assert_allclose(results[0], results[1], atol=1e-5, err_msg=name)
    update(tree, state)
    assert update._cache_size() <= 3, name
"""


@pytest.mark.parametrize(
    ("penalties", "steps"),
    [(["ocnn"], ["muon"]), pytest.param(regularizers.names(), optimizers.names(), marks=pytest.mark.slow)],
    ids=["one", "all"],
)
def test_sharding_is_stable(penalties, steps):
    """The same values and moves, gradients that lie as their kernels do, and no compiling at every call."""
    on_eight_devices(PENALTIES.format(names=list(penalties)) + STEPS.format(names=list(steps)))
