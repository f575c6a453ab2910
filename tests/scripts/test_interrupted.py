"""Killed at any instant or told to stop, and started again by the same command: the run is the uninterrupted one."""

from __future__ import annotations

import json
import random
import signal
import time

import numpy as np
import pytest

from tests.scripts.cli import TINY, call, start
from tests.train.runs import assert_same_run

STEPS = 400
FLAGS = (
    *TINY,
    "--model_options=widths=(8,),dropout=0.1",
    "--augment",
    f"--steps={STEPS}",
    "--checkpoint_every=20",
    "--keep=3",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody interrupts."""
    workdir = tmp_path_factory.mktemp("interrupted") / "whole"
    assert call("train", *FLAGS, f"--workdir={workdir}").code == 0
    return workdir


def stop_at(process, workdir, number: int, lines: int, delay: float) -> None:
    """Send a signal `delay` seconds after metrics.jsonl has got so many lines longer; the run may have ended before."""
    path = workdir / "metrics.jsonl"

    def count() -> int:
        return path.read_bytes().count(b"\n") if path.exists() else 0

    before = count() if lines else 0
    while process.poll() is None and count() < before + lines:
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(number)


def assert_same_as_whole(whole, workdir) -> None:
    assert_same_run(whole, workdir, STEPS)
    for one in (whole / "spectra").iterdir():
        with np.load(one) as first, np.load(workdir / "spectra" / one.name) as second:
            assert first.files == second.files
            assert all(np.array_equal(first[key], second[key]) for key in first.files)
    assert {path.name for path in (whole / "spectra").iterdir()} == {
        path.name for path in (workdir / "spectra").iterdir()
    }


def test_stopped_then_killed_then_finished_equals_uninterrupted(whole, tmp_path):
    """SIGTERM saves and exits 0; kill −9 at a random instant after that loses nothing that was saved."""
    workdir = tmp_path / "run"
    chance = random.Random()  # a new instant each time: every one must pass
    flags = (*FLAGS, f"--workdir={workdir}")

    process = start("train", *flags)
    stop_at(process, workdir, signal.SIGTERM, chance.randint(2, 30), chance.uniform(0, 0.05))
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert out.splitlines()[-1].startswith(f"interrupted at step {summary['step']}: ")
    assert summary["step"] < STEPS  # 0 if it is told to stop before the first update

    process = start("train", *flags)
    stop_at(process, workdir, signal.SIGKILL, chance.randint(1, 30), chance.uniform(0, 0.05))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL

    outcome = call("train", *flags)
    assert outcome.code == 0, outcome.err
    assert json.loads((workdir / "summary.json").read_text())["resumed_from"] >= summary["step"] // 20 * 20
    assert_same_as_whole(whole, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_again_and_again_equals_uninterrupted(whole, tmp_path, seed):
    """Three kills a run, from the first moments of a process, over compilation and checkpoints, to its last step."""
    chance = random.Random(seed)
    workdir = tmp_path / "run"
    for _ in range(3):
        process = start("train", *FLAGS, f"--workdir={workdir}")
        early = chance.random() < 0.3
        stop_at(
            process,
            workdir,
            signal.SIGKILL,
            0 if early else chance.randint(1, 60),
            chance.uniform(0, 6 if early else 0.2),
        )
        process.communicate(timeout=300)
    assert call("train", *FLAGS, f"--workdir={workdir}").code == 0
    assert_same_as_whole(whole, workdir)
