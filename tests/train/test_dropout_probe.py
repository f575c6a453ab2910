"""Dropout's covariance in the probe: the prediction, the draws, and their standard error, layer by layer."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from tests.train.runs import small
from train.dropout_probe import compare
from train.errors import ConfigError
from train.loop import train_and_evaluate


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_standard_error_is_that_of_the_draws(p):
    """Over independent repeats the error's mean square is the standard error's; and the variance is the formula's."""
    x = 1 + np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), 300)
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: compare(key, x, p, draws=8)))(keys))
    ratio = np.mean(found["error"] ** 2) / np.mean(found["standard_error"] ** 2)
    assert ratio == pytest.approx(1, abs=0.25)
    total = x.var(0).sum()
    expected = (total + p / (1 - p) * (x.var(0) + x.mean(0) ** 2).sum()) / total
    np.testing.assert_allclose(found["variance"], expected, rtol=1e-5)
    np.testing.assert_allclose(np.mean(found["monte_carlo"]), expected, rtol=0.02)


def test_a_run_records_every_dropout_and_agrees_with_its_prediction(tmp_path):
    config = small(tmp_path, model_options="widths=(12,8),dropout=0.3", steps=6, checkpoint_every=0, dropout_every=3)
    train_and_evaluate(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if line["kind"] == "dropout"]
    assert [line["step"] for line in measured] == [0, 3, 6]
    for line in measured:
        for name in ("dropout", "dropout@2"):
            assert line[f"{name}/error"] < 3 * line[f"{name}/standard_error"]
            assert line[f"{name}/variance"] > 1
    assert np.isfinite(measured[0]["dropout/variance"])


def test_a_model_without_dropout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no dropout"):
        train_and_evaluate(small(tmp_path, model_options="widths=(4,)", dropout_every=1), tmp_path)
