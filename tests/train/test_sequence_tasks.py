"""Memory tasks: their layout, baselines that the memoryless optimum reaches, data as functions of the seed."""

from __future__ import annotations

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import models
from lax_linalg.errors import DimensionMismatch
from train.config import TrainConfig
from train.data import sequences
from train.loop import train_and_evaluate
from train.tasks import tasks
from train.tasks.sequence import permutation, state_spectra


@pytest.mark.parametrize("delay", [200, 1000])
def test_copying_layout_and_baseline(delay):
    task = tasks[f"copying_{delay}"]
    batch = jax.jit(task.prepare)({"symbols": sequences.copying().train["symbols"][:500]})
    batch = {name: np.asarray(array) for name, array in batch.items()}
    given = np.argmax(batch["input"], -1)
    assert given.shape == (500, delay + 20) == batch["target"].shape
    np.testing.assert_array_equal(given[:, :10], batch["target"][:, -10:])
    assert (given[:, delay + 9] == 9).all() and (given[:, 10 : delay + 9] == 0).all() and not given[:, -10:].any()
    assert not batch["target"][:, :-10].any() and set(np.unique(given[:, :10])) == set(range(1, 9))

    def memoryless(x):  # certain of the blanks, then uniform over the symbols
        logits = jnp.where(jnp.arange(9) == 0, 50.0, 0.0)
        guess = jnp.where(jnp.arange(9) == 0, -50.0, 0.0)
        late = jnp.arange(x.shape[1])[:, None] >= delay + 10
        return jnp.broadcast_to(jnp.where(late, guess, logits), (*x.shape[:2], 9))

    @jax.jit
    def both(batch):
        perfect = task.per_example(lambda x: 99 * jax.nn.one_hot(batch["target"], 9), batch)
        return task.per_example(memoryless, batch)["loss"], perfect

    losses, right = jax.tree.map(np.asarray, both(batch))
    loss = float(np.mean(losses, dtype=np.float64))
    assert loss == pytest.approx(task.baseline, rel=1e-4) == pytest.approx(10 * math.log(8) / (delay + 20), rel=1e-4)
    assert float(right["loss"].max()) < 1e-6 and float(right["accuracy"].min()) == 1


def test_adding_is_the_sum_of_one_number_of_each_half():
    task = tasks["adding_200"]
    batch = jax.jit(task.prepare)({"key": sequences.adding().train["key"][:4000]})
    values, marker = np.asarray(batch["input"])[..., 0], np.asarray(batch["input"])[..., 1]
    np.testing.assert_array_equal(marker[:, :100].sum(1), np.ones(4000))
    np.testing.assert_array_equal(marker[:, 100:].sum(1), np.ones(4000))
    np.testing.assert_allclose((values * marker).sum(1), batch["target"], rtol=1e-5)
    loss = np.asarray(jax.jit(lambda batch: task.per_example(lambda x: jnp.ones((len(x), 1)), batch)["loss"])(batch))
    assert abs(float(loss.mean()) - 1 / 6) < 4 * float(loss.std()) / math.sqrt(4000)


def test_data_are_a_function_of_the_seed():
    for load in (sequences.copying, sequences.adding):
        (name,) = set(load().train) - {"label"}
        np.testing.assert_array_equal(load("", 3).train[name], load("", 3).train[name])
        assert (load("", 3).train[name] != load("", 4).train[name]).any()
        assert (load("", 3).train[name][:2000] != load("", 3).test[name]).any()


def test_pixels_are_the_image_in_a_fixed_order():
    plain, permuted = tasks["pixel_digits"], tasks["permuted_digits"]
    raw = {"image": plain.data(TrainConfig()).train["image"][:3]}
    x, y = (np.asarray(jax.jit(task.prepare)(raw)["input"]) for task in (plain, permuted))
    assert x.shape == y.shape == (3, 64, 1)
    np.testing.assert_array_equal(x[:, permutation(64)], y)
    order = permutation(784)
    np.testing.assert_array_equal(np.sort(order), np.arange(784))
    np.testing.assert_array_equal(order, np.random.RandomState(92916).permutation(784))
    assert tasks["permuted_mnist"].input_shape == (784, 1)


def test_state_spectra_of_an_isometry_and_of_a_model_without_states():
    @jax.jit
    def of_an_isometry(x):
        options = {"hidden": 5, "activation": "identity"}
        net = models.RecurrentNet(input_shape=(30, 2), num_classes=1, rngs=nnx.Rngs(0), **options)
        return state_spectra(net, {"input": x})

    measured = of_an_isometry(np.ones((3, 30, 2), np.float32))
    for name in ("lyapunov_max", "lyapunov_min"):
        assert abs(float(measured[name])) < 1e-5
    for name in ("state_sigma_max", "state_sigma_min"):
        assert float(measured[name]) == pytest.approx(1, abs=1e-5)
    assert state_spectra(lambda x: x, {"input": jnp.ones((3, 30, 2))}) == {}


def test_a_model_that_answers_once_is_told_how_to_answer_always():
    batch = tasks["copying_200"].prepare({"symbols": jnp.ones((2, 10), jnp.uint8)})
    with pytest.raises(DimensionMismatch, match="outputs=every"):
        tasks["copying_200"].per_example(lambda x: jnp.zeros((2, 9)), batch)


@pytest.mark.slow
def test_an_orthogonal_cell_trains_through_the_loop(tmp_path):
    config = TrainConfig(
        task="permuted_digits", model="rnn", steps=40, batch_size=64, optimizer="rmsprop", learning_rate=2e-3,
        model_options="hidden=16, parametrization=cayley, trivialization=dynamic, rebase_every=10, init=cayley",
        learning_rates="cell/hidden/*=0.1", eval_every=0, checkpoint_every=0, display="none",
        spectrum_every=40, spectrum_layers="time", spectrum_inputs=2, workdir=str(tmp_path),
    )  # fmt: skip
    summary = train_and_evaluate(config, tmp_path)
    losses = [line["loss"] for line in map(json.loads, (tmp_path / "metrics.jsonl").open()) if line["kind"] == "train"]
    assert summary["status"] == "finished" and losses[-1] < 0.9 * losses[0]
    assert np.isfinite(losses).all()
    # the evaluation sees the state Jacobians 𝒟(φ') Q: with modReLU φ' is 0 or 1, so they never expand
    (*_, last) = (line for line in map(json.loads, (tmp_path / "metrics.jsonl").open()) if line["kind"] == "eval")
    assert last["lyapunov_max"] < 1e-3 and last["state_sigma_max"] < 1 + 1e-4
    # and so does the probe, at 8 times of each input
    with np.load(tmp_path / "spectra" / "step_00000040.npz") as probed:
        sigma = probed["time::singular_values"]
    assert sigma.shape == (2, 8, 16) and sigma.max() < 1 + 1e-4
