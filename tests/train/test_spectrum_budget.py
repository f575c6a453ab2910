"""Probes within a budget: parameters and other metrics to the last bit as without, steps as the clock allows."""

from __future__ import annotations

import json

import chex
import numpy as np
import pytest

import lax_linalg as la
from tests.train.emulated import on_eight_devices
from tests.train.runs import saved_arrays, small
from train.errors import ConfigError
from train.loop import train_and_evaluate
from train.probes import share


def lines(workdir, name="metrics") -> list[dict]:
    return [json.loads(line) for line in (workdir / f"{name}.jsonl").read_text().splitlines()]


def test_a_budget_changes_nothing_but_when_spectra_are_taken(tmp_path, monkeypatch):
    costs = iter(np.linspace(0.01, 0.05, 1000))
    monkeypatch.setattr(la.SpectrumRecord, "cost", property(lambda record: next(costs)))
    for name, changes in (("plain", {}), ("budget", {"spectrum_budget": "50%", "spectrum_every": 2})):
        train_and_evaluate(small(tmp_path / name, **changes), tmp_path / name)
    plain, budget = lines(tmp_path / "plain"), lines(tmp_path / "budget")
    assert [line for line in budget if line["kind"] != "spectrum"] == plain
    chex.assert_trees_all_equal(*(saved_arrays(tmp_path / name, 40) for name in ("plain", "budget")))
    steps = [line["step"] for line in budget if line["kind"] == "spectrum"]
    assert steps[0] == 0
    assert all(step % 2 == 0 for step in steps)
    assert sorted(path.name for path in (tmp_path / "budget" / "spectra").iterdir()) == [
        f"step_{step:08d}.npz" for step in steps
    ]
    summary = json.loads((tmp_path / "budget" / "summary.json").read_text())
    done = [line for line in lines(tmp_path / "budget", "timings") if line.get("probe") == "done"]
    assert summary["probes"] == len(steps) == len(done)
    assert summary["probe_seconds"] > 0
    assert summary["probe_compile_seconds"] > 0


def test_probes_that_the_clock_does_not_allow_are_left_out(tmp_path, monkeypatch):
    """A first probe that cost an hour leaves no time for another."""
    monkeypatch.setattr(la.SpectrumRecord, "cost", property(lambda record: 3600.0))
    train_and_evaluate(small(tmp_path, spectrum_budget="0.05"), tmp_path)
    assert [line["step"] for line in lines(tmp_path) if line["kind"] == "spectrum"] == [0]


@pytest.mark.parametrize("text", ["5", "0", "-1%", "five", "100%", "5%%", "nan"])
def test_a_budget_that_is_no_share_is_refused_before_anything_is_written(text, tmp_path):
    with pytest.raises(ConfigError, match="--spectrum_budget=.* must be a share of the time between 0 and 1"):
        share(text)
    if text == "5":
        with pytest.raises(ConfigError, match="as in 5% or 0.05"):
            train_and_evaluate(small(tmp_path / "run", spectrum_budget=text), tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_probe_inputs_are_shared_by_the_runs_devices():
    """On eight emulated devices the spectra are those of one; where the inputs do not divide evenly, one measures."""
    code = """
import pathlib, tempfile
from tests.train.runs import small
from train import probes
from train.loop import train_and_evaluate

made, original = [], probes.make_spectra
probes.make_spectra = lambda *arguments: made.append(original(*arguments)) or made[-1]
found = []
for parallel, inputs in ((False, 8), (True, 8), (True, 6)):
    workdir = pathlib.Path(tempfile.mkdtemp()) / "run"
    changes = dict(steps=4, spectrum_every=4, model_options="widths=(6,)")
    train_and_evaluate(small(workdir, data_parallel=parallel, spectrum_inputs=inputs, **changes), workdir)
    with np.load(workdir / "spectra" / "step_00000000.npz") as arrays:
        found.append({name: arrays[name] for name in arrays.files})
assert [schedule.sharded for schedule in made] == [False, True, False]
for name, values in found[0].items():
    np.testing.assert_allclose(found[1][name], values, atol=1e-5)
    np.testing.assert_allclose(found[2][name], values[:6], atol=1e-5)
"""
    on_eight_devices(code)
