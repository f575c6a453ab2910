"""The loop: interrupted and resumed runs are the uninterrupted one, one compilation, refused updates, probes."""

from __future__ import annotations

import collections
import json
import os
import re
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.compilations import compilations
from tests.train.runs import assert_same_run, saved_arrays, small
from train import checkpoints, config as configs
from train.errors import CheckpointError, ConfigError, DivergenceError
from train.loop import train_and_evaluate


class Crash(Exception):
    pass


def crash_at(step: int):
    def hook(done: int, state) -> None:
        if done == step:
            raise Crash

    return hook


def lines(workdir, kind: str | None = None) -> list[dict]:
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if kind in (None, line["kind"])]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 40 steps without an interruption, with probes."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    train_and_evaluate(small(workdir, spectrum_every=10), workdir)
    return workdir


def test_resumed_after_crashes_equals_uninterrupted(whole, tmp_path):
    workdir = tmp_path / "crashed"
    config = small(workdir, spectrum_every=10)
    for step in (1, 13, 20, 34):
        with pytest.raises(Crash):
            train_and_evaluate(config, workdir, crash_at(step))
    summary = train_and_evaluate(config, workdir)
    assert summary["resumed_from"] == 30
    assert_same_run(whole, workdir, 40)
    for name in os.listdir(whole / "spectra"):
        with np.load(whole / "spectra" / name) as one, np.load(workdir / "spectra" / name) as other:
            assert one.files == other.files
            assert all(np.array_equal(one[key], other[key]) for key in one.files)


def test_torn_lines_and_lines_of_the_lost_future_are_cut(whole, tmp_path):
    workdir = tmp_path / "torn"
    config = small(workdir, spectrum_every=10)
    with pytest.raises(Crash):
        train_and_evaluate(config, workdir, crash_at(27))
    with open(workdir / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "train", "step": 25, "loss": 9.0}\n{"kind": "train", "st')
    with open(workdir / "timings.jsonl", "ab") as file:
        file.write(b'{"step": 2')
    train_and_evaluate(config, workdir)
    assert_same_run(whole, workdir, 40)
    assert all(json.loads(line) for line in (workdir / "timings.jsonl").read_text().splitlines())


def test_sigterm_saves_and_the_same_call_goes_on(whole, tmp_path):
    workdir = tmp_path / "terminated"
    config = small(workdir, spectrum_every=10)
    before = signal.getsignal(signal.SIGTERM)
    summary = train_and_evaluate(
        config, workdir, lambda step, state: os.kill(os.getpid(), signal.SIGTERM) if step == 17 else None
    )
    assert (summary["status"], summary["step"]) == ("interrupted", 17)
    assert checkpoints.steps(workdir)[-1] == 17
    assert signal.getsignal(signal.SIGTERM) is before
    assert train_and_evaluate(config, workdir)["resumed_from"] == 17
    assert_same_run(whole, workdir, 40)


def test_a_finished_run_is_left_alone(whole):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    summary = train_and_evaluate(small(whole, spectrum_every=10), whole)
    assert summary["status"] == "finished"
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_lines_and_files_are_those_of_the_schedule(whole):
    assert [line["step"] for line in lines(whole, "train")] == list(range(5, 41, 5))
    assert [line["step"] for line in lines(whole, "eval")] == [0, 20, 40]
    assert [line["step"] for line in lines(whole, "spectrum")] == [0, 10, 20, 30, 40]
    assert checkpoints.steps(whole) == [0, 10, 20, 30, 40]
    assert sorted(path.name for path in (whole / "spectra").iterdir()) == [
        f"step_{s:08d}.npz" for s in range(0, 41, 10)
    ]
    assert lines(whole, "train")[-1].keys() == {
        "kind", "step", "loss", "penalty", "accuracy", "grad_norm", "learning_rate"
    }  # fmt: skip
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["probes"] == 5
    assert 0 < summary["probe_share"] < 1
    assert summary["eval_accuracy"] == lines(whole, "eval")[-1]["accuracy"]


def test_recorded_spectra_are_those_of_the_saved_model(whole):
    """The probe of a step, taken in flight, is the singular values of the restored checkpoint's Jacobians."""
    import lax_linalg as la
    from train.tasks import tasks

    task = tasks["digits"]
    inputs = task.prepare({name: array[:4] for name, array in task.load("").test.items()})["input"]
    for step in (0, 30):
        jacobians = la.layer_jacobians(checkpoints.restore(whole, step), inputs)
        with np.load(whole / "spectra" / f"step_{step:08d}.npz") as spectra:
            assert {key.split("::")[0] for key in spectra.files} == set(jacobians)
            for layer, batch in jacobians.items():
                expected = np.linalg.svd(np.asarray(la.materialize(batch)), compute_uv=False)
                np.testing.assert_allclose(
                    spectra[f"{layer}::singular_values"], expected, rtol=1e-4, atol=1e-5 * expected.max()
                )


def test_extending_a_run_equals_a_longer_one(whole, tmp_path):
    workdir = tmp_path / "extended"
    train_and_evaluate(small(workdir, spectrum_every=10, steps=20), workdir)
    train_and_evaluate(small(workdir, spectrum_every=10, steps=40), workdir)
    assert_same_run(whole, workdir, 40)


def test_another_configuration_is_refused_with_the_differing_fields(whole, tmp_path):
    with pytest.raises(ConfigError, match=r"holds another run \(seed 0 -> 3, steps 40 -> 20\)"):
        train_and_evaluate(small(whole, spectrum_every=10, seed=3, steps=20), whole)


def test_lost_checkpoints_are_not_mistaken_for_a_new_run(tmp_path):
    workdir = tmp_path / "lost"
    with pytest.raises(Crash):
        train_and_evaluate(small(workdir), workdir, crash_at(25))
    (workdir / "checkpoints").rename(workdir / "elsewhere")
    before = (workdir / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="metrics up to step 20 but no checkpoint"):
        train_and_evaluate(small(workdir), workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_the_step_compiles_once(tmp_path):
    """From the second update on, a run with augmentation, evaluation and logging compiles nothing."""
    counts: list[int] = []

    def hook(step: int, state) -> None:
        if 25 < step <= 39:  # the first log, evaluation and epoch are behind; the last step is special
            counts.append(len(compiled))

    with compilations() as compiled:
        train_and_evaluate(
            small(tmp_path, log_every=2, eval_every=3, checkpoint_every=0, spectrum_every=3), tmp_path, hook
        )
    assert len(counts) > 1 and set(counts) == {counts[0]}


def test_each_program_compiles_exactly_once_in_a_run(tmp_path, caplog):
    """The update once, the probe once, the evaluation once for each set of examples, the copy for each item."""
    config = small(tmp_path, model_options="widths=(17,)", spectrum_every=10, validation=100)
    jax.config.update("jax_log_compiles", True)  # in every thread: the probe compiles in one of its own
    try:
        train_and_evaluate(config, tmp_path)
    finally:
        jax.config.update("jax_log_compiles", False)
    compiled = collections.Counter(re.findall(r"^Compiling jit\((\w+)\)", "\n".join(caplog.messages), re.M))
    programs = {name: compiled[name] for name in ("update", "_measured", "evaluate", "_sealed")}
    assert programs == {"update": 1, "_measured": 1, "evaluate": 2, "_sealed": 2}


def overflowing(workdir, **changes):
    """The third update or so overflows single precision."""
    return small(workdir, optimizer="sgd", learning_rate=1e38, augment=False, spectrum_every=1, log_every=4, **changes)


def test_divergence_stops_with_the_state_before_it(tmp_path):
    message = r"update 2 refused: layer 'layers/0' turns finite .* last spectrum, at step 1: sigma_max .* saved in"
    with pytest.raises(DivergenceError, match=message) as stop:
        train_and_evaluate(overflowing(tmp_path), tmp_path)
    assert "\n" not in str(stop.value)
    assert checkpoints.steps(tmp_path)[-1] == 1
    assert all(np.isfinite(array).all() for array in saved_arrays(tmp_path, 1).values())
    assert max(line["step"] for line in lines(tmp_path)) == 1
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "diverged"
    with pytest.raises(DivergenceError, match="update 2 refused"):  # the same call, the same end
        train_and_evaluate(overflowing(tmp_path), tmp_path)


def test_divergence_can_be_skipped(tmp_path):
    summary = train_and_evaluate(overflowing(tmp_path, on_nonfinite="skip"), tmp_path)
    assert (summary["status"], summary["step"]) == ("finished", 40)
    assert lines(tmp_path, "train")[-1]["refused_updates"] == 39
    assert all(np.isfinite(array).all() for array in saved_arrays(tmp_path, 40).values())


def test_probes_that_do_not_keep_up_are_skipped_on_request_and_recorded(tmp_path, monkeypatch):
    import lax_linalg as la

    monkeypatch.setattr(
        la.SpectrumProbe, "pending", property(lambda probe: 4 if 2 <= len(probe.skipped) + 2 < 5 else 0)
    )
    summary = train_and_evaluate(small(tmp_path, spectrum_every=10, spectrum_overflow="skip"), tmp_path)
    assert (summary["probes"], summary["probes_skipped"]) == (2, 3)
    timings = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [line["step"] for line in timings if "skipped" in str(line.get("probe"))] == [0, 10, 20]
    assert [line["step"] for line in lines(tmp_path, "spectrum")] == [30, 40]


def test_strength_zero_is_no_regulariser_and_a_strong_one_makes_kernels_orthogonal(tmp_path):
    def final(name, **changes):
        workdir = tmp_path / name
        train_and_evaluate(small(workdir, steps=60, checkpoint_every=0, **changes), workdir)
        arrays = saved_arrays(workdir, 60)
        return arrays, lines(workdir, "train")

    plain, _ = final("plain")
    zero, _ = final("zero", regularizer="so", regularizer_strength=0.0)
    for name in (name for name in plain if "kernel" in name and name.startswith("model")):
        np.testing.assert_allclose(plain[name], zero[name], atol=1e-6)
    strong, history = final("strong", regularizer="so", regularizer_strength=10.0, regularizer_layers="layers/*")
    W = strong["model//item/params/layers/0/kernel"]
    assert np.linalg.norm(W.T @ W - np.eye(W.shape[1])) < 0.1
    assert all(line["penalty"] < 0.2 for line in history)


def test_a_decoupled_regulariser_acts_after_the_update(tmp_path):
    """One step of SGD: W − η G − η s ∇R(W), as AdamW decays; the loss's gradient norm does not see the penalty."""
    results = {}
    for name, changes in {
        "plain": {},
        "coupled": {"regularizer": "so"},
        "decoupled": {"regularizer": "so", "regularizer_decoupled": True},
    }.items():
        config = small(
            tmp_path, optimizer="sgd", learning_rate=0.1, regularizer_strength=0.5, steps=1, log_every=1, **changes
        )
        train_and_evaluate(replace(config, workdir=str(tmp_path / name)), tmp_path / name)
        results[name] = saved_arrays(tmp_path / name, 1), lines(tmp_path / name, "train")[0]
    for name, array in results["coupled"][0].items():
        if name.startswith("model") and np.issubdtype(array.dtype, np.floating):
            np.testing.assert_allclose(results["decoupled"][0][name], array, atol=1e-6, err_msg=name)
    norms = {name: line["grad_norm"] for name, (_, line) in results.items()}
    assert norms["decoupled"] == pytest.approx(norms["plain"], rel=1e-5)
    assert results["decoupled"][1]["penalty"] == pytest.approx(results["coupled"][1]["penalty"], rel=1e-5)


def test_config_is_written_whole(whole):
    assert configs.load(whole) == small(whole, spectrum_every=10)
