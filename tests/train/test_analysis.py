"""Analysis by several processes: the files of one process, no work twice, nothing lost when one is killed."""

from __future__ import annotations

import functools
import os
import pathlib
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import lax_linalg as la
from tests.train import workers
from tests.train.runs import small
from train import analysis
from train.analysis_processes import claim, shared_out
from train.errors import ConfigError
from train.loop import train_and_evaluate

STEPS = [0, 10, 20, 30]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four checkpoints, not analysed."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    train_and_evaluate(small(workdir, steps=30, model_options="widths=(6,6),dropout=0.1"), workdir)
    return workdir


@pytest.fixture(scope="module")
def files(run):
    """The analysis of the run by one process, by name; the run is left without it."""
    results = list(analysis.analyze(run))
    assert [(result.step, result.status, result.left) for result in results] == [
        (step, "done", left) for step, left in zip(STEPS, (3, 2, 1, 0))
    ]
    return taken_away(run)


def contents(run: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "analysis").iterdir() if path.is_file()}


def taken_away(run: pathlib.Path) -> dict[str, bytes]:
    found = contents(run)
    for name in found:
        (run / "analysis" / name).unlink()
    return found


def test_several_processes_write_what_one_does(run, files):
    results = list(analysis.analyze(run, processes=2))
    assert sorted(result.step for result in results) == STEPS
    assert {result.status for result in results} == {"done"}
    assert [result.left for result in results] == [3, 2, 1, 0]
    assert taken_away(run) == files


def test_a_checkpoint_that_another_process_is_at_comes_last(run, files):
    with claim(run / "analysis", "step_00000010", wait=False) as mine:
        assert mine
        results = analysis.analyze(run)
        first = [next(results).step for _ in range(3)]
    assert first == [0, 20, 30]  # the holder has let go without having done it
    (last,) = results
    assert (last.step, last.status, last.left) == (10, "done", 0)
    assert taken_away(run) == files


def test_a_checkpoint_that_another_process_has_done_is_not_done_again(run, files):
    with claim(run / "analysis", "step_00000010", wait=False):
        results = analysis.analyze(run)
        first = [next(results).step for _ in range(3)]
        (run / "analysis" / "step_00000010.npz").write_bytes(files["step_00000010.npz"])
    (last,) = results
    assert (first, last.step, last.status) == ([0, 20, 30], 10, "kept")
    assert last.rows == analysis.rows_of(10, analysis.read_whole(analysis.file_of(run, 10)))
    assert taken_away(run) == files


def test_more_layers_are_added_to_a_file_and_the_rest_of_it_stays(run, files):
    assert [r.status for r in analysis.analyze(run, layers="head", steps="0,last")] == ["done", "done"]
    before = analysis.read_whole(analysis.file_of(run, 30))
    assert {key.split("::")[0] for key in before} == {"head"}
    assert {r.status for r in analysis.analyze(run)} == {"done"}
    assert taken_away(run) == files


def test_what_an_older_analysis_left_out_is_completed(run, files):
    """Without non-normality, by projection only, or from before mean field: the files end up as from one call."""
    list(analysis.analyze(run, nonnormality=0, steps="30"))
    path = analysis.file_of(run, 30)
    before = analysis.read_whole(path)
    assert not any("nonnormal" in key for key in before) and before["layers/1::mean_field"].shape == (1, 2)
    np.savez(path, **{key: values for key, values in before.items() if "mean_field" not in key})
    assert [r.status for r in analysis.analyze(run, nonnormality=0, steps="30")] == ["done"]
    after = analysis.read_whole(path)
    assert after.keys() == before.keys()
    np.testing.assert_array_equal(after["layers/1::mean_field"], before["layers/1::mean_field"])
    assert [r.status for r in analysis.analyze(run, nonnormality=2, steps="30")] == ["done"]
    assert analysis.read_whole(path)["layers/1::nonnormal_projected"]
    assert [r.status for r in analysis.analyze(run, nonnormality=2, steps="30")] == ["kept"]
    assert [r.status for r in analysis.analyze(run, steps="30")] == ["done"]
    assert not analysis.read_whole(path)["layers/1::nonnormal_projected"]
    assert [r.status for r in analysis.analyze(run, nonnormality=2, steps="30")] == ["kept"]  # the better stays
    (row,) = (row for row in analysis.rows_of(30, analysis.read_whole(path)) if row["layer"] == "layers/1")
    assert row["weight_variance"] > 0 and row["kreiss_lower"] >= 1
    made = taken_away(run)
    assert made["step_00000030.npz"] == files["step_00000030.npz"]


def test_stacks_of_layers_keep_their_axes():
    matrices = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)  # 3 layers, 2 inputs
    stack = la.Stack(functools.partial(la.Batch, la.Dense), matrices)
    ((name, found),) = analysis.spectra_of({"depth": stack}, threads=1, nonnormality=0)
    assert (name, found["singular_values"].shape, found["henrici"].shape) == ("depth", (2, 3, 4), (2, 3))
    expected = np.linalg.svd(np.moveaxis(matrices, 0, 1).astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(found["singular_values"], expected, rtol=1e-5)
    (row,) = analysis.rows_of(5, {f"depth::{quantity}": values for quantity, values in found.items()})
    np.testing.assert_allclose(row["sigma_max"], np.median(expected[..., 0]), rtol=1e-5)


def test_a_killed_process_takes_nothing_with_it(tmp_path):
    work = functools.partial(workers.dies_once, str(tmp_path))
    with pytest.warns(UserWarning, match="an analysing process died; [1-4] checkpoints go to others"):
        results = list(shared_out(work, [1, 2, 3, 4], 2))
    assert sorted(step for step, _ in results) == [1, 2, 3, 4]
    assert os.getpid() not in {process for _, process in results}


def test_processes_that_keep_dying_end_the_analysis_with_the_remedy():
    message = r"died 3 times at step 1 .*what is done is kept; try fewer --processes"
    with pytest.raises(ConfigError, match=message), warnings.catch_warnings(record=True):
        list(shared_out(workers.always_dies, [1], 2))


@pytest.mark.slow
def test_analyses_started_apart_share_the_work_and_one_may_be_killed(run, files):
    command = [sys.executable, "-m", "scripts.analyze", f"--workdir={run}"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    deadline = time.monotonic() + 300
    while not list((run / "analysis").glob("step_*.npz")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started[0].send_signal(signal.SIGKILL)
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started[1:]] == [0, 0]
    assert all("4 checkpoints analysed" in output for output in outputs[1:])
    lines = [line for output in outputs for line in output.splitlines() if line.startswith("step ")]
    assert len(lines) <= 4 + 1  # none twice, but the one whose line the killed process may have printed
    assert taken_away(run) == files
    for name, content in files.items():
        if name.endswith(".npz"):
            (run / "analysis" / name).write_bytes(content)
            assert np.load(run / "analysis" / name).files
    taken_away(run)
