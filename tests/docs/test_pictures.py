"""Every gallery script that needs no run draws its picture, at a small size, and says how it is run."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

GALLERY = pathlib.Path(__file__).parents[2] / "docs" / "gallery"
SMALL = {
    "deep_conv": {"depths": (4,)},
    "nearest_defective": {"order": 4, "grid": 24},
    "phase_diagram": {"width": 32, "points": 6},
    "pseudospectra": {"order": 12, "grid": 24},
    "spectra_and_laws": {"width": 40},
    "transient_growth": {"order": 16},
}


def test_none_is_left_out():
    drawn = {path.stem for path in GALLERY.glob("*.py") if "def main(" in path.read_text()}  # the others draw runs
    assert drawn == set(SMALL)
    page = (GALLERY / "README.md").read_text()
    for name in SMALL:
        assert f"`python -m docs.gallery.{name}`" in page and f"({name}.png)" in page


@pytest.mark.parametrize("name", sorted(SMALL))
def test_draws(name, tmp_path, capsys):
    path = GALLERY / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"gallery_{name}", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert f"python -m docs.gallery.{name} " in (script.__doc__ or "")
    assert path.with_suffix(".png").exists()
    out = tmp_path / "picture.png"
    script.main(**SMALL[name], out=out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert str(out) in capsys.readouterr().out
