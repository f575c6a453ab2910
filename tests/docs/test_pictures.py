"""Every gallery script draws its picture, at a small size, and says how it is run; curves of runs are kept."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import pytest

from docs.gallery import curves

GALLERY = pathlib.Path(__file__).parents[2] / "docs" / "gallery"
SMALL = {
    "deep_conv": {"depths": (4,)},
    "deep_training": {},
    "memory": {},
    "nearest_defective": {"order": 4, "grid": 24},
    "phase_diagram": {"width": 32, "points": 6},
    "pseudospectra": {"order": 12, "grid": 24},
    "spectra_and_laws": {"width": 40},
    "transient_growth": {"order": 16},
}


def test_none_is_left_out():
    drawn = {path.stem for path in GALLERY.glob("*.py") if "def main(" in path.read_text()}
    assert drawn == set(SMALL)
    page = (GALLERY / "README.md").read_text()
    for name in SMALL:
        assert f"`python -m docs.gallery.{name}`" in page and f"({name}.png)" in page


QUICK = ("nearest_defective", "spectra_and_laws", "transient_growth")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(SMALL)])
def test_draws(name, tmp_path, capsys):
    path = GALLERY / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"gallery_{name}", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert f"python -m docs.gallery.{name}" in (script.__doc__ or "").split("\n")[2]
    assert path.with_suffix(".png").exists()
    out = tmp_path / "picture.png"
    script.main(**SMALL[name], out=out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert str(out) in capsys.readouterr().out


def test_curves_of_runs_are_kept_beside_those_of_other_runs(tmp_path):
    path = tmp_path / "curves.csv"

    def write(name, losses):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.json").write_text(json.dumps({"task": "digits"}))
        lines = [
            {"kind": kind, "step": step, "loss": loss, "accuracy": 0.5, "grad_norm": 1.0}
            for kind in ("train", "eval", "test")
            for step, loss in enumerate(losses)
        ]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path / name

    curves.keep([write("a", [2.30259, 1.0]), write("b", [3.0])], path)
    curves.keep([write("a", [2.0])], path)  # the same run once more takes the place of its earlier curve
    points = curves.read(path)
    assert [(point.run, point.kind, point.step, point.loss) for point in points] == [
        ("b", "train", 0, 3.0), ("b", "eval", 0, 3.0), ("a", "train", 0, 2.0), ("a", "eval", 0, 2.0),
    ]  # fmt: skip
    before = path.read_text()
    curves.keep([], path)
    assert path.read_text() == before
