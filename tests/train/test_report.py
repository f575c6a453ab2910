"""What the report reads, reduces and draws, without a browser."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from lax_linalg.errors import LinearAlgebraError
from tests.train.synthetic import write_run
from train.report import load_runs, render, write_picture, write_report
from train.report.payload import build_payload, collect, thin_curve
from train.report.picture import draw
from train.spectrum_summary import summarize


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs with probes and analyses, one with neither, one with a name that is HTML."""
    top = tmp_path_factory.mktemp("runs")
    write_run(top / "plain", analysed=(0, 100))
    write_run(top / "so", analysed=(0, 100), seed=1, decay=0.004, regularizer="so")
    write_run(top / "bare", probes=False)
    write_run(top / "<b>&", steps=range(0, 21, 20))
    return top


def test_the_picture_draws_the_files_numbers(folders):
    runs = load_runs([str(folders / "plain"), str(folders / "so")])
    figure = draw(runs)
    axes = np.array(figure.axes).reshape(2, 3)
    for column, run in enumerate(runs, start=1):
        spectra = []
        for step in run.steps:
            with np.load(
                run.workdir / ("analysis" if step in (0, 100) else "spectra") / f"step_{step:08d}.npz"
            ) as file:
                spectra.append(np.median(file["end_to_end::singular_values"], axis=0))
                eigenvalues = {key: file[key] for key in file.files if key.endswith("::eigenvalues")}
        drawn = [line.get_ydata() for line in axes[0, column].lines[:-1]]  # the last marks σ = 1
        np.testing.assert_allclose(np.array(drawn).T, spectra, rtol=1e-6)
        (cloud,) = axes[1, column].collections
        points = cloud.get_offsets()
        name = axes[1, column].get_title("center").rpartition(", ")[2]
        np.testing.assert_allclose(
            points[:, 0] + 1j * points[:, 1], eigenvalues[f"{name}::eigenvalues"].ravel(), rtol=1e-6
        )
        conditioning = axes[1, 0].lines[column - 1].get_ydata()
        expected = [summarize(run.spectra(step)["end_to_end"]["singular_values"])["cond"] for step in run.steps]
        np.testing.assert_allclose(conditioning, expected)
        losses = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
        expected = [line["loss"] for line in losses if line["kind"] == "eval"]
        np.testing.assert_allclose(axes[0, 0].lines[2 * column - 1].get_ydata(), expected)


def test_the_picture_is_written_small_and_the_same_each_time(folders, tmp_path):
    workdirs = [str(folders / "plain"), str(folders / "so")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        once = write_picture(workdirs, tmp_path / "once.png").read_bytes()
        assert once == write_picture(workdirs, tmp_path / "again.png").read_bytes()
    assert once[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(once) < 200_000
    assert write_picture(workdirs[:1], tmp_path / "one.svg").read_text().startswith("<?xml")


def test_the_picture_says_what_it_cannot_draw(folders, tmp_path):
    for workdirs, out, message in (
        ([folders / "plain"], "picture.bmp", r"a picture's name ends in \.png, \.svg or \.pdf"),
        ([folders / "bare"], "picture.png", "has no spectra to draw"),
        ([folders / "none"], "picture.png", "there is no run at"),
    ):
        with pytest.raises(LinearAlgebraError, match=message):
            write_picture([str(workdir) for workdir in workdirs], tmp_path / out)
    assert list(tmp_path.iterdir()) == []


def test_the_numbers_of_the_page_are_the_files(folders):
    """The block read back as the page reads it, against NumPy on the .npz files."""
    runs = load_runs([str(folders / "plain"), str(folders / "so")])
    description, block = build_payload(runs)
    numbers = np.frombuffer(block, "<f4")
    assert description["steps"] == [0, 20, 40, 60, 80, 100]
    assert description["left_out"] == 0
    for run, drawn in zip(runs, description["runs"]):
        for layer, series in drawn["layers"].items():
            for i, step in enumerate(series["steps"]):
                values = run.spectra(step)[layer]["singular_values"]
                for quantity, (offset, length) in series["numbers"].items():
                    assert length == len(series["steps"])
                    assert numbers[offset + i] == pytest.approx(summarize(values)[quantity], rel=1e-5)
                offset, length = series["curves"]
                points = length // len(series["steps"]) // 3
                low, median, high = numbers[offset + 3 * points * i :][: 3 * points].reshape(3, points)
                np.testing.assert_allclose(low, values.min(0), rtol=1e-6)
                np.testing.assert_allclose(median, np.median(values, axis=0), rtol=1e-6)
                np.testing.assert_allclose(high, values.max(0), rtol=1e-6)


def test_a_budget_thins_the_numbers_and_the_page_says_so(tmp_path):
    sizes = {"a": (150, 150), "b": (150, 150), "end_to_end": (10, 150)}
    write_run(tmp_path / "run", steps=range(0, 61, 4), analysed=(0, 60), inputs=2, sizes=sizes)
    runs = load_runs([str(tmp_path / "run")])
    whole, block = build_payload(runs)
    for budget in (40_000, 15_000):
        few, small = build_payload(runs, budget=budget)
        assert len(small) <= 1.2 * budget < len(block)
        assert (few["steps"][0], few["steps"][-1]) == (0, 60)
        assert few["left_out"] == len(whole["steps"]) - len(few["steps"])
    assert few["left_out"] > 0
    assert f"{few['left_out']} steps are left out" in render(runs, budget=budget)


def test_names_and_settings_are_text_not_markup(folders, tmp_path):
    page = write_report([str(folders / "<b>&")], tmp_path / "page.html")[0].read_text()
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page


def test_the_members_of_a_stack_count_as_inputs(tmp_path):
    """Layers of a scan and states over time are recorded as [inputs, members, k], numbers of the table included."""
    workdir = write_run(tmp_path / "run", sizes={"time": (5, 5)}, inputs=4)
    for path in (workdir / "spectra").glob("*.npz"):
        with np.load(path) as archive:
            values = archive["time::singular_values"]
        np.savez(path, **{"time::singular_values": np.stack([values, 2 * values], axis=1)})
    (run,) = load_runs([workdir])
    layer = collect(run, [100])["time"]
    with np.load(workdir / "spectra" / "step_00000100.npz") as archive:
        recorded = archive["time::singular_values"]
    assert recorded.shape == (4, 2, 5)
    np.testing.assert_array_equal(layer.singular_values[0], recorded.reshape(8, 5))
    (shown,) = build_payload([run], budget=10**6)[0]["runs"][0]["layers"].values()
    assert shown["inputs"] == 8


def test_a_run_without_spectra_says_how_to_get_them(folders, tmp_path):
    page = write_report([str(folders / "bare")], tmp_path / "page.html")[0].read_text()
    assert "has no spectra: train it with <code>--spectrum_every=50</code>" in page
    assert f"python -m scripts.analyze --workdir={folders / 'bare'}" in page


def test_an_analysis_without_non_normality_says_how_to_complete_it(folders, tmp_path):
    words = "was analysed without non-normality; the same command completes its files"
    assert words in write_report([str(folders / "plain")], tmp_path / "page.html")[0].read_text()
    write_run(tmp_path / "run", steps=range(0, 21, 20), inputs=1, analysed=(20,), nonnormal=("blocks/1",))
    assert words not in write_report([str(tmp_path / "run")], tmp_path / "page.html")[0].read_text()


def test_a_long_curve_keeps_its_spikes():
    rng = np.random.default_rng(0)
    loss = rng.uniform(1, 2, 20_000)
    loss[[777, 12_345]] = 50, 0.01
    lines = [{"step": step, "loss": float(value)} for step, value in enumerate(loss)]
    x, y = thin_curve(lines, "loss", points=400)
    assert len(x) <= 402
    assert {777, 12_345} <= set(x)
    assert (y.max(), y.min()) == (50, 0.01)
    assert (np.diff(x) > 0).all()


@pytest.mark.slow
def test_phases_of_runs_with_hidden_layers(tmp_path):
    """Ranges hold the points of all steps, other activations have their own line, and runs without them no diagram."""
    write_run(tmp_path / "a", steps=range(0, 41, 20), analysed=(0, 40), activation="tanh")
    write_run(tmp_path / "b", steps=range(0, 41, 20), analysed=(40,), activation="relu", seed=1)
    write_run(tmp_path / "c", steps=range(0, 41, 20), analysed=(40,))
    description, block = build_payload(load_runs([str(tmp_path / name) for name in "abc"]))
    numbers = np.frombuffer(block, "<f4")
    a, b, c = (run["mean_field"] for run in description["runs"])
    assert (a["activation"], sorted(a["steps"]), b["activation"], sorted(b["steps"]), c) == (
        "tanh", [0, 40], "relu", [40], None,
    )  # fmt: skip
    phase = description["phase"]
    assert set(phase["phases"]) == {"tanh", "relu"}
    for run in (a, b):
        for offset, length in run["steps"].values():
            weight, bias = numbers[offset : offset + length].reshape(2, -1)
            assert np.all((phase["x"][0] < weight) & (weight < phase["x"][1]) & (bias < phase["y"][1]))
    offset, length = phase["phases"]["relu"]["line"]
    np.testing.assert_allclose(numbers[offset : offset + length], [2.0, 0.0], rtol=1e-6)  # He's, and no other
    offset, length = phase["phases"]["relu"]["chi"]
    chi = numbers[offset : offset + length].reshape(36, 36)
    weights = np.linspace(*phase["x"], 36)
    np.testing.assert_allclose(chi[3][weights < 1.99], np.log10(weights[weights < 1.99] / 2), atol=1e-5)
    assert build_payload(load_runs([str(tmp_path / "c")]))[0]["phase"] is None
