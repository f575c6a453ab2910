"""Train, analyse and report in processes of their own, as a newcomer types them, and what lies in the folder then."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import re
import shutil

import numpy as np
import pytest

from tests.scripts.cli import TINY, TOP, call, run as run_script
from train import analysis, checkpoints
from train.config import TrainConfig
from train.spectrum_summary import QUANTITIES
from train.tasks import tasks


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("end_to_end") / "run"
    return workdir, {
        "train": run_script("train", *TINY, f"--workdir={workdir}"),
        "analyze": run_script("analyze", f"--workdir={workdir}"),
        "report": run_script("report", f"--workdir={workdir}", f"--out={workdir.parent}/page.html"),
    }


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_command_succeeds_and_says_what_it_made(outcomes):
    workdir, outcome = outcomes
    for name, (code, _, err) in outcome.items():
        assert (code, err) == (0, ""), name
    *progress, closing = outcome["train"].out.splitlines()
    assert re.fullmatch(r"step  0/30  validation loss [\d.]+ accuracy [\d.]+", progress[0])
    assert any(re.fullmatch(r"step 30/30  test loss [\d.]+ accuracy [\d.]+", line) for line in progress)
    summary = json.loads((workdir / "summary.json").read_text())
    assert closing.startswith(
        f"finished at step 30: validation accuracy {summary['eval_accuracy']:.4f}, "
        f"test accuracy {summary['test_accuracy']:.4f}; "
    )
    assert f"of which probes {100 * summary['probe_share']:.1f} %" in closing
    assert outcome["analyze"].out.splitlines()[-1].endswith(f"{workdir}/analysis/table.csv")
    assert re.fullmatch(rf"{workdir.parent}/page\.html \(\d\.\d MB\): open it .*\n", outcome["report"].out)
    assert "\x1b" not in "".join(one.out for one in outcome.values()), "no terminal codes in a file or a pipe"


def test_metrics_have_every_line_at_its_step(outcomes):
    workdir, _ = outcomes
    lines = lines_of(workdir / "metrics.jsonl")
    steps = {
        kind: [line["step"] for line in lines if line["kind"] == kind] for kind in {line["kind"] for line in lines}
    }
    assert steps == {
        "train": [5, 10, 15, 20, 25, 30],
        "eval": [0, 10, 20, 30],
        "test": [30],
        "spectrum": [0, 10, 20, 30],
    }
    share = lines_of(workdir / "timings.jsonl")[-1]
    assert {"probe_share", "probe_seconds", "steps_per_second"} <= {
        *share,
        *json.loads((workdir / "summary.json").read_text()),
    }


def test_the_analysis_is_numpys_spectrum_of_the_checkpoints_jacobian(outcomes):
    """The head is linear: its Jacobian at every input is its kernel, read here from the checkpoint."""
    workdir, _ = outcomes
    for step in (0, 10, 20, 30):
        model = checkpoints.restore(workdir, step)
        exact = np.linalg.svd(np.asarray(model.head.kernel[...], np.float64), compute_uv=False)
        for folder in ("analysis", "spectra"):
            with np.load(workdir / folder / f"step_{step:08d}.npz") as found:
                np.testing.assert_allclose(found["head::singular_values"], np.tile(exact, (2, 1)), rtol=3e-5)
                assert found["end_to_end::singular_values"].shape == (2, 10)


def test_the_table_and_the_metrics_say_the_same(outcomes):
    workdir, _ = outcomes
    spectra = {
        line["step"]: line["layers"] for line in lines_of(workdir / "metrics.jsonl") if line["kind"] == "spectrum"
    }
    with open(workdir / "analysis" / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), row["layer"]) for row in rows] == [
        (step, layer) for step in (0, 10, 20, 30) for layer in ("layers/0", "head", "end_to_end")
    ]
    for row in rows:
        probed = spectra[int(row["step"])][row["layer"]]
        for quantity in QUANTITIES:
            if row["layer"] != "end_to_end" or quantity not in ("cond", "sigma_min"):  # singular up to rounding
                assert float(row[quantity]) == pytest.approx(probed[quantity], rel=1e-3), (row["layer"], quantity)


def test_the_accuracy_is_the_models(outcomes):
    workdir, _ = outcomes
    config = json.loads((workdir / "config.json").read_text())
    data = tasks["digits"].data(TrainConfig(**config))
    logits = checkpoints.restore(workdir)(((data.test["image"].astype(np.float32)) - 4.88) / 6.02)
    right = np.mean(np.asarray(logits).argmax(-1) == data.test["label"])
    assert json.loads((workdir / "summary.json").read_text())["test_accuracy"] == pytest.approx(right, abs=1e-6)


def test_a_second_analysis_keeps_the_first(outcomes):
    """Files that are there are not computed again: their bytes and times of change stay; a new checkpoint is added."""
    workdir, _ = outcomes
    files = sorted((workdir / "analysis").glob("step_*.npz"))
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    assert "4 checkpoints analysed, 4 of them earlier" in call("analyze", f"--workdir={workdir}").out
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
    files[2].unlink()
    assert "4 checkpoints analysed, 3 of them earlier" in call("analyze", f"--workdir={workdir}").out
    assert [path.read_bytes() for path in files] == [content for content, _ in before]


def test_a_stopped_analysis_goes_on_where_it_stopped(run, tmp_path, monkeypatch):
    """Ctrl-C after two checkpoints: no traceback, their files whole; the same command does the other two."""
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "analysis")
    results = analysis.analyze

    def stopped(*arguments, **options):
        yield from itertools.islice(results(*arguments, **options), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(analysis, "analyze", stopped)
    code, _, err = call("analyze", f"--workdir={copy}")
    assert (code, err) == (130, "stopped; what was written stays, and the same command resumes\n")
    assert sorted(path.name for path in (copy / "analysis").glob("*.npz")) == ["step_00000000.npz", "step_00000010.npz"]
    monkeypatch.undo()
    assert "4 checkpoints analysed, 2 of them earlier" in call("analyze", f"--workdir={copy}").out
    for path in [*(run / "analysis").glob("*.npz"), run / "analysis" / "table.csv"]:
        assert (copy / "analysis" / path.name).read_bytes() == path.read_bytes()


def test_a_finished_run_is_left_as_it_is(outcomes):
    workdir, outcome = outcomes
    before = {path.name: path.read_bytes() for path in workdir.glob("*.json*")}
    again = call("train", *TINY, f"--workdir={workdir}")
    assert again == (0, outcome["train"].out.splitlines()[-1] + "\n", "")
    assert {path.name: path.read_bytes() for path in workdir.glob("*.json*")} == before


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_is_short_and_grouped(flag):
    code, out, err = call("train", flag)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) < 65
    assert max(map(len, lines)) <= 110
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Task and model:", "Optimisation:", "Regulariser:", "Spectra:", "Run:"]
    listed = [line.split()[0].removeprefix("--") for line in lines if line.startswith("  --")]
    assert sorted(listed) == sorted([*(field.name for field in dataclasses.fields(TrainConfig)), "flagfile"])


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (
            "analyze",
            [
                "workdir",
                "steps",
                "layers",
                "inputs",
                "processes",
                "nonnormality",
                "weights",
                "layout",
                "image_size",
                "model",
                "checkpoint",
                "probe",
                "mapping",
                "out",
            ],
        ),
        ("report", ["workdir", "out", "picture"]),
        ("bench", ["only", "out", "here"]),
    ],
)
def test_help_of_the_other_scripts(script, flags):
    code, out, err = call(script, "--help")
    assert (code, err) == (0, "")
    assert f"python -m scripts.{script}" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  --")] == [
        f"--{name}" for name in [*flags, "plugins", "flagfile"]
    ]


def test_the_presets_are_whole_and_what_the_help_names_is_there():
    presets = sorted((TOP / "scripts" / "presets").glob("*.flags"))
    assert presets
    for preset in presets:
        code, _, err = call("train", f"--flagfile={preset}", "--steps=-1", "--workdir=unused")
        assert (code, err) == (2, "error: --steps=-1 must be at least 0\n")
    for script in ("train", "analyze", "report", "bench"):
        for named in re.findall(r"--flagfile=(\S+)", call(script, "--help").out):
            assert (TOP / named).is_file()
