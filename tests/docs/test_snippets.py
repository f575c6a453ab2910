"""The documentation's Python code: it passes a type checker as its readers' own code does, and README's code runs."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest

TOP = pathlib.Path(__file__).parents[2]
USER = """
import jax, jax.numpy as jnp, lax_linalg as la, numpy as np
from typing import assert_type

a, x = np.eye(2), np.ones(2)
A = la.as_operator(a)
assert_type(A @ x, jax.Array)
assert_type(A @ [1.0, 2.0], jax.Array)
assert_type(A @ A, la.LinearOperator)
assert_type(jnp.ones(2) @ A, jax.Array)
assert_type(2 * A - la.I, la.LinearOperator)
assert_type(la.I @ x, jax.Array)
for M in (a, A, jnp.eye(2), [[1.0, 0.0], [0.0, 1.0]]):
    assert_type(la.svdvals(M), jax.Array)
    assert_type(la.solve(M, x), jax.Array)
    assert_type(la.norm(M, p=1), jax.Array)
    assert_type(la.add(M, a), la.LinearOperator)
    assert_type(la.svd(M).S, jax.Array)
    assert_type(la.stable_rank(M), jax.Array)
    assert_type(la.svds(M, 1).S, jax.Array)
    assert_type(la.henrici(M), jax.Array)
    la.numerical_radius(M), la.compare(la.svdvals(M), la.MarchenkoPastur())
assert_type(la.svdvals(la.Batch(la.Diagonal, jnp.ones((2, 2)))), jax.Array)
la.trace(a)  # line of the error
la.svdvals("a matrix")  # line of the error
"""


def snippets() -> dict[str, str]:
    """The Python code of README.md and of each page of docs/, in the order of the page."""
    pages = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
    code = {page.stem.lower(): "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S)) for page in pages}
    return {page: text for page, text in code.items() if text}


def test_a_type_checker_accepts_the_documentation_against_the_installed_library(tmp_path):
    venv.create(tmp_path / "venv", symlinks=True)
    site = next((tmp_path / "venv").glob("**/site-packages"))
    for package in ("lax_linalg", "models"):
        shutil.copytree(TOP / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    code = tmp_path / "code"
    code.mkdir()
    for page, text in {**snippets(), "user": USER}.items():
        (code / f"snippets_of_{page}.py").write_text(text)
    (code / "pyrightconfig.json").write_text('{"reportUnusedExpression": "none", "include": ["."]}')
    checker = [sys.executable, "-m", "pyright", "--pythonpath", str(tmp_path / "venv" / "bin" / "python")]
    done = subprocess.run([*checker, "-p", str(code)], cwd=code, capture_output=True, text=True, timeout=280)
    errors = [line for line in done.stdout.splitlines() if " - error: " in line]
    wanted = [i for i, line in enumerate(USER.splitlines(), 1) if line.endswith("# line of the error")]
    assert [line for line in errors if not any(f"snippets_of_user.py:{i}:" in line for i in wanted)] == []
    assert len(errors) == len(wanted) == 2, done.stdout + done.stderr


@pytest.mark.slow
# test_your_model and test_analyze run these
@pytest.mark.parametrize("page", sorted(set(snippets()) - {"your_model", "spectra", "trained_weights"}))
def test_the_code_runs(page):
    exec(snippets()[page], {})
