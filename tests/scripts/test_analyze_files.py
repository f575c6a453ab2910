"""`scripts.analyze` on files and models of others: tables come out, and what is wrong is one line."""

import json

import numpy as np
import pytest

from tests.scripts.cli import call

MODEL = """
import jax, jax.numpy as jnp

def build():
    return {"a": jax.tree_util.Partial(jnp.matmul, jnp.ones((2, 3)))}

def broken():
    raise RuntimeError("no data")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a_model_of_mine.py").write_text(MODEL)
    np.save(tmp_path / "probe.npy", np.ones((1, 3), np.float32))
    np.savez(tmp_path / "first.npz", **{"a.0.0": np.eye(2, 3, dtype=np.float32)})
    np.savez(tmp_path / "second.npz", weight=2 * np.eye(2, 3, dtype=np.float32))
    (tmp_path / "names.json").write_text(json.dumps({"a/0/0": "weight"}))
    np.savez(tmp_path / "nan.npz", **{"a.0.0": np.full((2, 3), np.nan)})
    return tmp_path


def test_tables_of_weights_and_models(folder):
    files = f"{folder}/first.npz,{folder}/first.npz"
    done = call("analyze", f"--weights={files}", f"--out={folder}/table.json")
    assert done.code == 0 and "since the first file" in done.out, done
    assert json.loads((folder / "table.json").read_text())["rows"][0]["sigma_max"] == 1
    model = ("--model=a_model_of_mine:build", f"--probe={folder}/probe.npy", f"--mapping={folder}/names.json")
    done = call("analyze", *model, f"--checkpoint={folder}/second.npz", f"--out={folder}/table.csv")
    assert done.code == 0, done
    assert (folder / "table.csv").read_text().splitlines()[1].startswith("a,weight,Dense,,2,3,6,exact,,2")


def test_bad_input_is_one_line(folder):
    probe = f"--probe={folder}/probe.npy"
    cases = {
        (f"--weights={folder}/probe.npy",): "none of",
        (f"--weights={folder}/nan.npz",): r"'a.0.0' holds 6 NaN",
        (f"--weights={folder}/missing.npz",): "cannot be read",
        (f"--weights={folder}/first.npz", "--layout=OIHV"): "did you mean 'OIHW'",
        (f"--weights={folder}/first.npz", "--out=a.txt"): "written as .csv or .json",
        (f"--weights={folder}/first.npz", "--workdir=a"): "three questions",
        ("--model=a_model_of_mine:broken", probe): "raised RuntimeError: no data",
        ("--model=a_model_of_mine:buid", probe): "raised AttributeError",
        ("--model=a_model_of_mine:build",): "needs --probe",
        ("--model=a_model_of_mine:build", f"--probe={folder}/names.json"): "--probe or --mapping",
        ("--model=a_model_of_mine:build", probe, f"--checkpoint={folder}/second.npz"): "missing: 'a/0/0'",
        ("--model=a_model_of_mine:build", probe, f"--checkpoint={folder}/nan.npz"): "holds NaN or infinity",
    }
    for arguments, message in cases.items():
        done = call("analyze", *arguments)
        assert done.code == 2 and len(done.err.splitlines()) == 1 and message in done.err, (arguments, done)
