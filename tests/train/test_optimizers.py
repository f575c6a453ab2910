"""One contract for every registered optimiser, and the shapes of the schedules."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lax_linalg.errors import UnknownNameError
from train.config import TrainConfig
from train.errors import ConfigError
from train.optimizers import make_optimizer, make_schedule, optimizers, schedules
from train.orthogonal_steps import landing, riemannian

every = pytest.mark.parametrize("name", optimizers.names())


CONSTRAINED = ("landing", "riemannian")


def orthonormal(seed: int, shape: tuple[int, ...]) -> jax.Array:
    """A kernel whose matrix has an orthonormal shorter side."""
    m, n = int(np.prod(shape[:-1])), shape[-1]
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((max(m, n), min(m, n))))[0]
    return jnp.asarray(Q if m >= n else Q.T, jnp.float32).reshape(shape)


def params(seed=0):
    kernels = {"conv/kernel": orthonormal(seed, (3, 3, 2, 4)), "wide/kernel": orthonormal(seed + 9, (3, 5))}
    return kernels | {"gain": jnp.asarray(np.ones(3, np.float32))}


def noise(seed: int, tree) -> dict[str, np.ndarray]:
    """Gaussian numbers of a tree's shapes."""
    draw = np.random.default_rng(seed).standard_normal
    return {name: draw(leaf.shape).astype(np.float32) for name, leaf in tree.items()}


@jax.jit
def distance(tree):
    """A quadratic whose minimum every optimiser can reach: its kernels have orthonormal sides."""
    goal = params(1) | {"gain": np.full(3, 0.1, np.float32)}
    return sum(jnp.sum(jnp.square(leaf - goal[name])) for name, leaf in tree.items())


slope = jax.grad(distance)


def kernel_error(tree) -> float:
    """The largest ‖WᵀW − I‖_F over the kernels, of the shorter side."""
    tall = [np.asarray(tree["conv/kernel"]).reshape(-1, 4), np.asarray(tree["wide/kernel"]).T]
    return max(float(np.linalg.norm(W.T @ W - np.eye(W.shape[1]))) for W in tall)


@every
def test_it_minimises_a_quadratic_keeps_dtypes_and_compiles_once(name):
    optimizer, _ = make_optimizer(TrainConfig(optimizer=name, learning_rate=0.04, schedule="cosine"), steps=200)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(tree, state):
        updates, state = optimizer.update(slope(tree), state, tree)
        return optax.apply_updates(tree, updates), state

    tree = params()
    start, state = float(distance(tree)), optimizer.init(tree)
    for _ in range(200):
        tree, state = update(tree, state)
    assert float(distance(tree)) < 0.05 * start
    chex.assert_trees_all_equal_dtypes(tree, params())
    if name in CONSTRAINED:
        assert kernel_error(tree) < (1e-5 if name == "riemannian" else 1e-2)


@every
def test_half_precision_parameters_stay_so(name):
    optimizer, _ = make_optimizer(TrainConfig(optimizer=name, learning_rate=0.04), steps=1)
    tree = {"dense/kernel": jnp.eye(4, 3, dtype=jnp.bfloat16)}
    moved = jax.eval_shape(
        lambda tree: optax.apply_updates(tree, optimizer.update(tree, optimizer.init(tree), tree)[0]), tree
    )
    assert moved["dense/kernel"].dtype == jnp.bfloat16


def test_riemannian_steps_are_orthonormal_after_any_number_of_updates():
    """Also from a start that is not: 1e-5 after 500 steps with random gradients."""
    step = riemannian(optax.constant_schedule(0.3), momentum=0.9)
    tree = {name: 3 * np.asarray(leaf) for name, leaf in params().items() if "kernel" in name}

    @jax.jit
    def many(tree):
        def body(carry, key):
            tree, state = carry
            gradient = {name: jax.random.normal(key, leaf.shape) for name, leaf in tree.items()}
            updates, state = step.update(gradient, state, tree)
            return (optax.apply_updates(tree, updates), state), None

        return jax.lax.scan(body, (tree, step.init(tree)), jax.random.split(jax.random.key(0), 500))[0][0]

    assert kernel_error(many(tree)) < 1e-5


@pytest.mark.parametrize("rate", [1e-3, 1.0, 1e3])
def test_landing_stays_within_its_radius_at_any_learning_rate(rate):
    """‖WᵀW − I‖ ≤ 1/2 after every step, from off the manifold too; without a gradient the distance only falls."""
    step = landing(optax.constant_schedule(rate))
    tree = {name: 2 * np.asarray(leaf) for name, leaf in params().items() if "kernel" in name}
    update = jax.jit(lambda g, tree: optax.apply_updates(tree, step.update(g, step.init(tree), tree)[0]))
    for seed in range(20):
        tree = update(noise(seed, tree), tree)
        assert kernel_error(tree) <= 0.5 + 1e-5
    before, zero = kernel_error(tree), jax.tree.map(np.zeros_like, tree)
    for _ in range(30):
        tree = update(zero, tree)
    assert kernel_error(tree) < (0.99 * before if rate < 1 else 1e-3)


def test_riemannian_moves_along_the_tangent_projection(x64):
    """To first order in η, W₊ − W = −η(G − W sym(WᵀG)), the projection of the gradient on the tangent space."""
    W, G = np.random.default_rng(0).standard_normal((2, 6, 3))
    W = np.linalg.qr(W)[0]
    sym = (W.T @ G + G.T @ W) / 2

    @jax.jit
    def move(rate, G, W):
        step = riemannian(lambda count: rate)
        return step.update({"w": G}, step.init({"w": W}), {"w": W})[0]

    for rate in (1e-4, 1e-5):
        update = move(rate, G, W)
        np.testing.assert_allclose(update["w"], -rate * (G - W @ sym), atol=20 * rate**2)


@pytest.mark.parametrize("name", ["muon", *CONSTRAINED])
def test_the_layers_of_a_stack_move_as_they_would_alone(name):
    """A kernel [L, kh, kw, cin, cout] is L kernels."""
    optimizer, _ = make_optimizer(TrainConfig(optimizer=name, learning_rate=0.1), steps=1)
    layers = [{"a/kernel": orthonormal(seed, (3, 3, 2, 4))} for seed in (0, 1)]
    slopes = [noise(seed, layers[0]) for seed in (2, 3)]
    stack, slope = ({"a/kernel": np.stack([one["a/kernel"] for one in both])} for both in (layers, slopes))
    update = jax.jit(lambda slope, tree: optimizer.update(slope, optimizer.init(tree), tree))
    together, _ = update(slope, stack)
    for i in range(2):
        alone, _ = update(slopes[i], layers[i])
        np.testing.assert_allclose(together["a/kernel"][i], alone["a/kernel"], atol=1e-5)


def test_groups_have_their_own_learning_rate():
    @jax.jit
    def moves(tree):
        found = {}
        for name in optimizers.names():
            for rules in ("", "gain=0,*/kernel=0.1"):
                config = TrainConfig(optimizer=name, learning_rate=0.01, learning_rates=rules)
                optimizer, _ = make_optimizer(config, steps=1)
                found[name, rules], _ = optimizer.update(slope(tree), optimizer.init(tree), tree)
        return list(found.values())

    found = jax.tree.map(np.asarray, moves(params()))
    for name, one, other in zip(optimizers.names(), found[::2], found[1::2], strict=True):
        assert not np.any(other["gain"]), name
        ratio = np.linalg.norm(other["conv/kernel"]) / np.linalg.norm(one["conv/kernel"])
        assert float(ratio) == pytest.approx(0.1, rel=0.1 if name in CONSTRAINED else 1e-4), name


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"learning_rates": "haed=2"}, UnknownNameError, "unknown parameter 'haed'"),
        ({"learning_rates": "gain"}, ConfigError, "pattern=factor"),
        ({"learning_rates": "gain=-1"}, ConfigError, "finite factor ≥ 0"),
        ({"optimizer": "landing", "orthogonal": "convv"}, UnknownNameError, "did you mean 'conv'"),
    ],
)
def test_rules_that_match_nothing_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_optimizer(TrainConfig(**options), steps=1)[0].init(params())


def test_muon_orthogonalises_kernels_and_leaves_vectors_to_adam():
    """A first Muon step on a kernel has nearly equal singular values as a matrix of patches by channels."""
    optimizer, _ = make_optimizer(TrainConfig(optimizer="muon", learning_rate=1.0), steps=1)
    tree = params()
    step = jax.jit(lambda gradient, tree: optimizer.update(gradient, optimizer.init(tree), tree)[0])
    updates = jax.tree.map(np.asarray, step(noise(0, tree), tree))
    singular_values = np.linalg.svd(updates["conv/kernel"].reshape(-1, 4), compute_uv=False)
    assert singular_values[0] / singular_values[-1] < 2
    size = np.abs(updates["gain"])  # the first step of Adam is the sign of the gradient times a constant
    np.testing.assert_allclose(size, size[0], rtol=1e-3)


def test_clipping_bounds_the_gradient():
    optimizer, _ = make_optimizer(TrainConfig(optimizer="sgd", learning_rate=1.0, clip_norm=0.5), steps=1)
    tree = params()

    @jax.jit
    def norm(tree):
        gradient = jax.tree.map(lambda leaf: 100 * leaf, tree)
        return optax.tree.norm(optimizer.update(gradient, optimizer.init(tree), tree)[0])

    np.testing.assert_allclose(norm(tree), 0.5, rtol=1e-5)


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
