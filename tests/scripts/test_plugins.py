"""One's own model, task and regulariser from a module that `--plugins` names, without editing the tree."""

from __future__ import annotations

import json
import sys

import pytest

import models
from tests.scripts.cli import call
from train.regularizers import regularizers
from train.tasks import tasks

MODULE = """
import dataclasses
import models
from train.regularizers.weight import penalty
from train.tasks import tasks

models.registry.register("my_mlp")(lambda **options: models.MLP(widths=(3,), **options))
tasks.register("my_digits")(dataclasses.replace(tasks["digits"], baseline=2.0))


@penalty("my_l1")
def l1(weight):
    return abs(weight.kernel).sum()
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def forget():
        for registry in (models.registry, tasks, regularizers):
            for name in [name for name in registry if name.startswith("my_")]:
                del registry._entries[name]
        for name in [name for name in sys.modules if name.startswith("my_package")]:
            del sys.modules[name]

    yield forget
    forget()


def test_a_run_of_plugins_is_trained_listed_and_analysed(plugin, tmp_path):
    given = ("--plugins=my_package.my_module",)
    listed = call("train", "--help", *given).out
    assert all(name in listed for name in ("my_mlp", "my_digits", "my_l1"))
    flags = ("--task=my_digits", "--model=my_mlp", "--regularizer=my_l1", "--steps=2", f"--workdir={tmp_path / 'run'}")
    plugin()
    assert "unknown task 'my_digits'" in call("train", *flags).err
    code, out, _ = call("train", *flags, "--spectrum_every=1", "--display=plain", *given)
    assert code == 0 and "baseline: a loss of 2" in out
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["penalty"] > 1 for line in lines if line["kind"] == "train")
    plugin()  # what the run needs stands in its config.json
    assert call("analyze", f"--workdir={tmp_path / 'run'}", "--steps=last", "--nonnormality=0").code == 0
    assert "my_mlp" in models.registry


def test_a_module_that_is_not_there(tmp_path):
    code, _, err = call("report", "--plugins=no.such_module", f"--workdir={tmp_path}")
    assert (code, err) == (2, "error: --plugins=no.such_module cannot be imported: No module named 'no'\n")
