"""Wrong flags, wrong folders and damaged files: one clear line on stderr, exit code 2, and nothing written is lost."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil

import pytest

from tests.scripts.cli import TINY, Outcome, call, contents, run as run_script

# When a read fails, TensorStore leaves the other reads of the same checkpoint unawaited.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:coroutine.*never awaited:RuntimeWarning"),
]


def assert_refused(outcome: Outcome, message: str) -> None:
    """Exit code 2 and one line on stderr in which `message`, a regular expression, is found."""
    assert outcome.code == 2, outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    assert re.search(message, lines[0]), lines[0]


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def arrays_of(workdir: pathlib.Path, step: int) -> pathlib.Path:
    """The file with a checkpoint's parameters."""
    folder = workdir / "checkpoints" / f"{step:08d}" / "model"
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--task=digit", r"unknown task 'digit'; did you mean 'digits'\? Available: .*digits"),
        ("--model=resnt", r"unknown model 'resnt'; did you mean 'resnet'\? Available: .*mlp"),
        ("--model_options=width=(8,)", r"unknown option of model 'mlp': 'width'; did you mean 'widths'\?"),
        ("--model_options=widths=(8", r"--model_options='widths=\(8' must be written as name=value,name=value"),
        ("--model_options=widths=(-1,)", r"widths must be an integer ≥ 1, got -1"),
        ("--model_options=activation=tanhh", r"unknown activation 'tanhh'; did you mean 'tanh'\?"),
        ("--regularizer=sso", r"unknown regularizer 'sso'; did you mean 'so'\? Available: .*none"),
        ("--regularizer=so --regularizer_layers=blocs/*", r"unknown layer 'blocs/\*'.* Available: head, layers/0"),
        ("--regularizer_schedule=cosin", r"unknown schedule 'cosin'; did you mean 'cosine'\?"),
        ("--optimizer=adamm", r"unknown optimizer 'adamm'; did you mean 'adam'\?"),
        ("--schedule=cosin", r"unknown schedule 'cosin'; did you mean 'cosine'\?"),
        ("--spectrum_layers=heads", r"unknown layer 'heads'; did you mean 'head'\?"),
        ("--spectrum_inputs=101", r"--spectrum_inputs=101 is more than the 100 held-out examples"),
        ("--spectrum_inputs=0", r"--spectrum_inputs=0 must be at least 1"),
        ("--steps=-1", r"--steps=-1 must be at least 0"),
        ("--batch_size=0", r"--batch_size=0 must be at least 1"),
        ("--batch_size=5000", r"--batch_size=5000 is more than the 1337 training examples"),
        ("--validation=3", r"3 of 1437 examples cannot be held out: between 10 and 1427 can"),
        ("--seed=-1", r"--seed=-1 must be at least 0"),
        ("--learning_rate=-1", r"--learning_rate=-1\.0 must be at least 0"),
        ("--learning_rate=nan", r"--learning_rate=nan must be at least 0"),
        ("--learning_rate=fast", r"--learning_rate=fast is not a number"),
        ("--steps=ten", r"--steps=ten is not a whole number"),
        ("--augment=maybe", r"--augment=maybe is not true or false"),
        ("--display=lively", r"unknown --display 'lively'; did you mean 'live'\? Available: auto, live, none, plain"),
        ("--on_nonfinite=halt", r"unknown --on_nonfinite 'halt'\. Available: skip, stop"),
        ("--stpes=3", r"Unknown command line flag 'stpes'\. Did you mean: steps"),
        ("--lr=3", r"Unknown command line flag 'lr'\. Did you mean: learning_rate"),
        ("--flagfile=no/such.flags", r"Unable to open flagfile: .*no/such\.flags"),
        ("steps=3", r"unexpected argument 'steps=3'; options are written --name=value"),
        ("--task=mnist", r"this task reads train-images-idx3-ubyte.*; name their folder by --data_dir"),
        ("--task=cifar10 --data_dir=no/such", r"--data_dir=no/such has no data_batch_1\.bin"),
        ("--workdir=", r"--workdir is required"),
    ],
)
def test_train_refuses_wrong_flags_before_it_writes_anything(tmp_path, flags, message):
    assert_refused(call("train", *TINY, f"--workdir={tmp_path}/run", *flags.split()), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--steps=abc", r"--steps: 'abc' is neither a step number nor first or last"),
        ("--steps=0,17", r"no checkpoint of step 17; the nearest is 20, the last 30"),
        ("--layers=heads", r"unknown layer 'heads'; did you mean 'head'\?"),
        ("--inputs=-1", r"--inputs=-1: .*non-negative"),
        ("--inputs=1000", r"--inputs=1000 is more than the 100 held-out examples"),
        ("--processes=0", r"--processes=0: .*positive"),
        ("--workdir=", r"--workdir is required"),
        ("--layer=head", r"Unknown command line flag 'layer'\. Did you mean: layers"),
    ],
)
def test_analyze_refuses_wrong_flags(run, flags, message):
    before = contents(run)
    assert_refused(call("analyze", f"--workdir={run}", *flags.split()), message)
    assert contents(run) == before


@pytest.mark.parametrize("script", ["analyze", "report"])
def test_folders_without_a_run(tmp_path, script):
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.write_text("not a run")
    for workdir in (tmp_path / "missing", empty, file):
        assert_refused(call(script, f"--workdir={workdir}"), re.escape(str(workdir)))
    assert contents(tmp_path) == {"file": b"not a run"}
    assert not any(empty.iterdir())


def test_folders_that_cannot_be_made(run, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for workdir in (file, file / "run", file / "a" / "b"):
        assert_refused(call("train", *TINY, f"--workdir={workdir}"), rf"{workdir} cannot be made: {file} is a file")
    assert_refused(call("report", f"--workdir={run}", f"--out={file}/page.html"), rf"{file} is a file, not a folder")
    assert_refused(call("report", f"--workdir={run}", f"--out={tmp_path}"), rf"{tmp_path} cannot be written: it is")
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_folders_that_may_not_be_written(run, copy, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    for arguments in (
        ("train", *TINY, f"--workdir={locked}"),
        ("report", f"--workdir={run}", f"--out={locked}/p.html"),
    ):
        assert_refused(call(*arguments), "Permission denied")
    copy.chmod(0o500)
    try:
        assert_refused(call("train", *TINY, "--steps=40", f"--workdir={copy}"), "Permission denied")
    finally:
        copy.chmod(0o700)
    assert contents(copy) == contents(run)


def test_a_folder_with_another_run_is_refused_with_the_differing_flags(run):
    before = contents(run)
    outcome = call("train", *TINY, f"--workdir={run}", "--seed=3", "--optimizer=sgd")
    assert_refused(outcome, r"holds another run \(seed 0 -> 3, optimizer 'adam' -> 'sgd'\); give a new --workdir")
    assert contents(run) == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "Expecting property name"),
        (b"[1, 2]", "it holds no names with values"),
        (b'{"steps": "many"}', "--steps='many' must be a whole number"),
        (b'{"stepz": 3}', "unexpected keyword argument 'stepz'"),
        (b"\xff\xfe\x00", "can't decode byte"),
    ],
)
def test_a_damaged_configuration(copy, content, why):
    (copy / "config.json").write_bytes(content)
    before = contents(copy)
    for script, flags in (("train", TINY), ("analyze", ())):
        outcome = call(script, *flags, f"--workdir={copy}")
        assert_refused(outcome, rf"{copy}/config\.json is not the configuration of a run: .*{re.escape(why)}")
    assert contents(copy) == before


def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, copy):
    flip(arrays_of(copy, 30))
    (copy / "summary.json").unlink()
    outcome = call("train", *TINY, f"--workdir={copy}")
    assert outcome.code == 0
    assert re.fullmatch(r"warning: checkpoint 30 is not usable \(.*\); moved to .*00000030\n", outcome.err)
    assert (copy / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert json.loads((copy / "summary.json").read_text())["resumed_from"] == 20


def test_analysis_leaves_a_damaged_checkpoint_out(run, copy):
    shutil.rmtree(copy / "analysis")
    truncate(arrays_of(copy, 20))
    outcome = call("analyze", f"--workdir={copy}")
    assert outcome.code == 0
    assert re.fullmatch(r"warning: checkpoint 20 in .* is not usable: .*; left out\n", outcome.err)
    assert "3 checkpoints analysed" in outcome.out
    names = {f"analysis/step_{step:08d}.npz" for step in (0, 10, 30)}
    made = {name: content for name, content in contents(copy).items() if name.endswith(".npz") and "analysis" in name}
    assert made.keys() == names
    assert all(content == contents(run)[name] for name, content in made.items())


def test_no_usable_checkpoint(copy):
    shutil.rmtree(copy / "analysis")
    for step in (0, 10, 20, 30):
        flip(arrays_of(copy, step))
    (copy / "summary.json").unlink()
    before = contents(copy)
    assert_refused(call("train", *TINY, f"--workdir={copy}"), r"none of the 4 checkpoints in .* is usable")
    after = contents(copy)
    assert {name: after[name] for name in before} == before, "nothing is moved, nothing overwritten"
    outcome = call("analyze", f"--workdir={copy}")
    assert outcome.code == 2
    *warned, last = outcome.err.splitlines()
    assert [line.split(" in ")[0] for line in warned] == [f"warning: checkpoint {step}" for step in (0, 10, 20, 30)]
    assert re.fullmatch(r"error: none of the 4 checkpoints in .* is usable", last)


def test_no_checkpoint_at_all(copy):
    shutil.rmtree(copy / "checkpoints")
    (copy / "summary.json").unlink()
    before = contents(copy)
    outcome = call("train", *TINY, f"--workdir={copy}")
    assert_refused(outcome, r"has metrics up to step 30 but no checkpoint to go on from; give a new --workdir")
    assert_refused(call("analyze", f"--workdir={copy}"), r"no checkpoints in .*: there is nothing to analyse yet")
    assert contents(copy) == before


def test_damaged_metrics(run, copy):
    """A resumed run keeps the damaged file aside and the whole lines in place; the report says what it leaves out."""
    path = copy / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:-9] + b"\x00\xff\n"
    path.write_bytes(b"".join(lines))
    outcome = call("report", f"--workdir={copy}")
    assert (outcome.code, outcome.err) == (0, f"warning: {path}: line 3 cut or broken, left out\n")

    damaged = path.read_bytes()
    (copy / "summary.json").unlink()
    outcome = call("train", *TINY, f"--workdir={copy}")
    assert outcome.code == 0
    assert outcome.err == f"warning: {path} has damaged lines, which are left out; it is kept as {path}.damaged\n"
    assert (copy / "metrics.jsonl.damaged").read_bytes() == damaged
    assert path.read_bytes() == b"".join(lines[:2] + lines[3:])


def test_damaged_spectra(run, copy):
    """The report leaves them out with a warning, the analysis makes its own anew, and they become the same again."""
    probe, analysis = copy / "spectra" / "step_00000010.npz", copy / "analysis" / "step_00000020.npz"
    truncate(probe)
    flip(analysis)
    outcome = call("report", f"--workdir={copy}")
    assert outcome.code == 0
    assert outcome.err == "".join(f"warning: {path}: truncated or corrupt, left out\n" for path in (probe, analysis))
    assert (copy / "report.html").stat().st_size > 1e6
    outcome = call("analyze", f"--workdir={copy}")
    assert (outcome.code, outcome.err) == (0, f"warning: {analysis} is not whole; it is made anew\n")
    assert "4 checkpoints analysed, 3 of them earlier" in outcome.out
    for name in ("analysis/step_00000020.npz", "analysis/table.csv"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_report_refuses_a_run_given_twice(run):
    assert_refused(call("report", f"--workdir={run},{run}/"), "is given twice")


def test_processes_of_their_own_end_with_code_2_and_one_line(tmp_path):
    for arguments, message in (
        (("train", "--task=digit", f"--workdir={tmp_path}/run"), "unknown task 'digit'; did you mean 'digits'"),
        (("analyze", f"--workdir={tmp_path}/run"), "no run in .*/run"),
    ):
        outcome = run_script(*arguments)
        assert_refused(outcome, message)
        assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []
