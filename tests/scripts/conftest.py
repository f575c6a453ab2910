"""One small run, trained and analysed by the scripts, that the tests of this folder look at or copy."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from tests.scripts.cli import TINY, call


@pytest.fixture(scope="package")
def run(tmp_path_factory) -> pathlib.Path:
    """A finished run with checkpoints, probes and analyses at steps 0, 10, 20 and 30; not to be changed."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    for script, flags in (("train", TINY), ("analyze", ())):
        outcome = call(script, *flags, f"--workdir={workdir}")
        assert outcome.code == 0, outcome.err
    return workdir


@pytest.fixture
def copy(run, tmp_path) -> pathlib.Path:
    """The same, to be damaged."""
    return shutil.copytree(run, tmp_path / "copy")
