"""Adversarial training: each player's gradient is its own, modes and good samples are counted as the protocol says."""

from __future__ import annotations

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from scripts.flags import preset
from tests.train.runs import small
from train import modes
from train.config import TrainConfig
from train.data import mixtures
from train.display import closing, short
from train.errors import ConfigError
from train.loop import train_and_evaluate
from train.tasks import tasks
from train.tasks.generation import adversarial, coverage, digit_neighbours


@pytest.mark.parametrize("loss", models.gan_losses.names())
def test_the_gradient_of_the_sum_is_each_players_own(loss):
    options = {"input_shape": (2,), "widths": (4,), "generator_widths": (4,), "loss": loss}
    gan = nnx.jit(lambda: models.GAN(rngs=nnx.Rngs(0), **options))()
    gan.eval()
    real, z = np.random.default_rng(0).standard_normal((2, 6, 2)).astype(np.float32)
    graphdef, params, rest = nnx.split(gan, nnx.Param, ...)

    def player(which):
        return jax.grad(lambda p: which(*nnx.merge(graphdef, p, rest).losses(real, z)).mean())

    # the generator's gradient, computed without any stop: the loss of the scores of its samples
    judge = models.gan_losses[loss][1]

    def alone(p):
        model = nnx.merge(graphdef, p, rest)
        return judge(model.discriminator(model.generator(z))[:, 0]).mean()

    gradients = player(lambda c, g, _: c + g), player(lambda c, g, _: c), jax.grad(alone)
    both, critic, generator = jax.jit(lambda p: [gradient(p) for gradient in gradients])(params)
    for expected, part in ((critic, "discriminator"), (generator, "generator")):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), both[part], expected[part])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(critic["generator"]))


def test_losses_are_those_of_the_papers():
    real, fake = np.array([[-2.0, 0.5, 2.0]] * 2, np.float32)
    critic, judge = models.gan_losses["hinge"]
    np.testing.assert_allclose(critic(real, fake), [3 + 0, 0.5 + 1.5, 0 + 3])
    np.testing.assert_allclose(judge(fake), -fake)
    critic, judge = models.gan_losses["non_saturating"]
    sigmoid = 1 / (1 + np.exp(-fake))
    np.testing.assert_allclose(critic(real, fake), -np.log(sigmoid) - np.log(1 - sigmoid), rtol=1e-5)
    np.testing.assert_allclose(judge(fake), -np.log(sigmoid), rtol=1e-5)


@pytest.mark.parametrize(("mixture", "modes"), [(mixtures.ring(), 8), (mixtures.grid(), 25)])
def test_real_data_cover_all_modes_with_the_rayleigh_share(mixture, modes):
    """Of a two-dimensional Gaussian 1 − e^{−9/2} = 98.9 % lies within 3σ."""
    points = jnp.asarray(mixture.load().test["point"])
    found = jax.jit(coverage)(points, jnp.asarray(mixture.centres), mixture.sigma)
    assert float(found["modes"]) == modes
    share, deviation = 1 - np.exp(-4.5), np.sqrt(np.exp(-4.5) / 2500)
    assert float(found["high_quality"]) == pytest.approx(share, abs=4 * deviation)


def test_real_digits_are_of_high_quality_and_noise_is_not():
    train, _, limit = digit_neighbours()
    noise = np.random.default_rng(0).uniform(-1, 1, (50, 64))
    gap = np.sqrt(((noise[:, None] - train) ** 2).sum(-1)).min(1)
    assert (gap > limit).all()


@pytest.mark.parametrize("task", ["ring", pytest.param("digit_images", marks=pytest.mark.slow)])
def test_a_run_records_modes_and_quality(task, tmp_path, capsys):
    config = small(
        tmp_path,
        task=task,
        model="gan",
        model_options="widths=(4,),generator_widths=(4,)",
        steps=4,
        augment=False,
        display="plain",
    )
    summary = train_and_evaluate(config, tmp_path)
    share = summary["eval_high_quality"]
    assert f"modes {summary['eval_modes']:.0f}, high quality {100 * share:.1f} %" in closing(summary, "runs/a")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if line["kind"] == "eval"]
    assert len(measured) == 2
    assert (
        f"modes {short(measured[-1]['modes'])} high_quality {short(measured[-1]['high_quality'])}"
        in capsys.readouterr().out
    )
    assert all(0 <= line["modes"] <= 10 and 0 <= line["high_quality"] <= 1 for line in measured)


def test_the_table_compares_the_presets_over_seeds(tmp_path, monkeypatch):
    """Each kind and seed is one run with the preset's other options; the table has means and the worst of each."""
    ran = []

    def train(config, folder):
        ran.append(config)
        folder.mkdir(parents=True)
        high = 0.9 + 0.02 * config.seed if "spectral" in config.model_options else 0.5
        lines = [{"kind": "eval", "step": step, "modes": 7.0 + config.seed, "high_quality": high} for step in (0, 9)]
        lines[0]["modes"] = 0.0
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return {"status": "finished" if config.seed < 2 else "interrupted"}

    monkeypatch.setattr(modes, "train_and_evaluate", train)
    ring = preset(TrainConfig, pathlib.Path(__file__).parents[2] / "scripts" / "presets" / "ring.flags")
    outcomes = list(modes.compare({"ring": ring}, tmp_path, seeds=2, steps=9))
    assert [config.seed for config in ran] == [0, 1, 0, 1] and {config.steps for config in ran} == {9}
    assert [outcome.row.split("|")[1:7] for outcome in outcomes] == [
        [" ring ", " spectral ", " 2 ", " 7.5 ", " 91.0 % ", " 7, 90.0 % "],
        [" ring ", " none ", " 2 ", " 7.5 ", " 50.0 % ", " 7, 50.0 % "],
    ]
    one, other = (config.model_options for config in (ran[0], ran[2]))
    assert one == ring.model_options and other == one.replace("=spectral", "=none")
    # Ctrl-C stops the whole table, not one run of it
    assert list(modes.compare({"ring": ring}, tmp_path / "more", seeds=5)) == [] and ran[-1].seed == 2
    for presets, seeds, message in ((({}), 0, "at least one"), ({"a": TrainConfig()}, 1, "no normalisation=spectral")):
        with pytest.raises(ConfigError, match=message):
            list(modes.compare(presets, tmp_path, seeds))


def test_kinks_start_spread_over_the_data_and_the_latent_vectors():
    @nnx.jit
    def build():
        wide, narrow = (400, 8), (4,)
        return (
            models.GAN(input_shape=(2,), widths=wide, generator_widths=wide, spread=5.0, rngs=nnx.Rngs(0)),
            models.GAN(input_shape=(2,), widths=narrow, generator_widths=narrow, rngs=nnx.Rngs(0)),
        )

    gan, plain = build()
    critic, maker = (
        np.asarray(layer.bias[...]) / np.linalg.norm(layer.kernel[...], axis=0)
        for layer in (gan.discriminator.layers[0].layer, gan.generator.layers[0])
    )
    assert 4.9 < np.abs(critic).max() <= 5 and np.std(critic) == pytest.approx(5 / 3**0.5, rel=0.1)
    assert np.std(maker) == pytest.approx(1, rel=0.1)
    assert not np.any(gan.discriminator.layers[1].layer.bias[...])
    assert not np.any(plain.generator.layers[0].bias[...])


def test_a_latent_mixture_has_its_components_equally_often_and_its_deviation():
    draw = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)  # noqa: E731
    latent = nnx.jit(lambda: models.Latent(3, components=5, deviation=0.05, rngs=nnx.Rngs(0)))()
    centres, sample = np.asarray(latent.centres[...]), jax.jit(lambda latent, noise: latent(noise))
    z = np.asarray(sample(latent, draw(20_000, latent.numbers)))
    nearest = ((z[:, None] - centres) ** 2).sum(-1).argmin(1)
    count = np.bincount(nearest, minlength=5)
    assert np.abs(count - 4000).max() < 4 * np.sqrt(20_000 * 0.2 * 0.8)
    error = z - centres[nearest]
    assert error.std() == pytest.approx(0.05, rel=0.02) and np.abs(error.mean(0)).max() < 4 * 0.05 / np.sqrt(20_000)
    wide = nnx.jit(lambda: models.Latent(2, components=4000, deviation=0.6, rngs=nnx.Rngs(0)))()
    assert np.var(sample(wide, draw(20_000, 3))) == pytest.approx(1, abs=0.05)
    # one component is the Gaussian itself, and takes no more numbers than its size
    noise = draw(4, 8)
    np.testing.assert_array_equal(models.Latent(8, rngs=nnx.Rngs(0))(noise), noise)
    # the far ends of the Gaussian still choose a component
    assert np.isfinite(sample(latent, np.full((2, 4), [[9.0], [-9.0]], np.float32))).all()


def test_errors_are_clear():
    def create(name, **options):  # computes nothing: what is wrong shows while the model is made
        nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0), **options))

    with pytest.raises(LinearAlgebraError, match=r"latent_deviation must lie in \(0, 1\), got 1"):
        create("gan", input_shape=(2,), latent_components=3, latent_deviation=1)
    with pytest.raises(DimensionMismatch, match="size 64 take 65 Gaussian numbers, 64 are given"):
        jax.eval_shape(lambda: models.Latent(64, components=2, rngs=nnx.Rngs(0))(jnp.zeros((1, 64))))
    with pytest.raises(LinearAlgebraError, match="use --model=gan"):
        jax.eval_shape(lambda: adversarial(models.MLP(input_shape=(2,), num_classes=1, rngs=nnx.Rngs(0)), {}))
    with pytest.raises(UnknownNameError, match="did you mean 'hinge'"):
        create("gan", input_shape=(2,), loss="hing")
    assert tasks["grid"].input_shape == (2,)
