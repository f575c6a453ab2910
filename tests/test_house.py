"""The house keeps its order: imports go downwards, Flax stays behind its bridge, the wheel holds lax_linalg alone."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

from tests import mutants, selection

TOP = pathlib.Path(__file__).parent.parent
FLOORS = ("lax_linalg", "models", "train", "scripts")  # lowest first
LATE = ("flax", "lineax", "matfree", "asdex", "matplotlib", "scipy", "equinox", "optax")


def imported(path: pathlib.Path, *, at_import_time: bool) -> set[str]:
    """Top-level packages that a file imports: all of them, or those that `import` of the file itself triggers."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if at_import_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def files(package: str) -> list[pathlib.Path]:
    return sorted((TOP / package).rglob("*.py"))


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_downwards_only(floor):
    above = set(FLOORS[FLOORS.index(floor) + 1 :]) | {"tests", "benchmarks"}
    if floor == "scripts":
        above -= {"benchmarks"}  # scripts.bench runs them
    for path in files(floor):
        upward = imported(path, at_import_time=False) & above
        assert not upward, f"{path.relative_to(TOP)} imports {upward}"


def test_flax_stays_behind_the_bridge():
    for path in files("lax_linalg"):
        if path != TOP / "lax_linalg" / "integrations" / "flax.py":
            assert "flax" not in imported(path, at_import_time=False), path


def test_the_library_imports_heavy_packages_only_where_they_are_used():
    for path in files("lax_linalg"):
        if path != TOP / "lax_linalg" / "integrations" / "flax.py":
            early = imported(path, at_import_time=True) & set(LATE)
            assert not early, f"{path.relative_to(TOP)} imports {early} at import time"


def test_with_blocks_choose_by_what_is_part_of_the_key_of_every_program():
    """`jit` knows nothing of Python's own context variables: what is traced reads JAX's user contexts only."""
    # who listens while a model is traced changes no program; which tracers are checked concerns their own trace alone
    allowed = {("flax.py", "watch"), ("dispatch.py", "checked")}
    found = set()
    for path in files("lax_linalg"):
        text = path.read_text()
        assert "threading.local" not in text and not re.search(r"^ *global ", text, re.MULTILINE), path
        found |= {(path.name, name) for name in re.findall(r'ContextVar\("(\w+)"', text)}
    assert found == allowed, "for what a program depends on take jax.make_user_context"


def test_importing_the_library_loads_nothing_heavy():
    code = "import sys, lax_linalg; print(*sorted(m for m in sys.modules if '.' not in m))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    loaded = set(out.stdout.split())
    assert not loaded & (set(LATE) - {"scipy"})  # JAX itself loads scipy


@pytest.mark.slow
def test_the_wheel_holds_the_library_alone(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(TOP)],
        check=True,
        capture_output=True,
        timeout=240,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"lax_linalg"}
    assert "lax_linalg/py.typed" in names


def test_nothing_else_stands_at_the_top():
    tracked = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    texts = {"LICENSE", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"}
    tools = {".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "Makefile", "pyproject.toml"}
    allowed = {*FLOORS, "tests", "benchmarks", "docs", *texts, *tools}
    assert {line.split("/")[0] for line in tracked.stdout.split()} <= allowed


def test_what_is_said_about_tests_exists():
    for name in selection.listed():
        path, _, function = name.partition("::")
        assert (TOP / path).exists(), f"{name}: run python -m tests.selection"
        bare = function.split("[")[0].rpartition(".")[2]
        assert bare in (TOP / path).read_text() or (TOP / path).stem == bare, f"{name}: run python -m tests.selection"
    for mutant in mutants.MUTANTS:
        assert (TOP / mutant.file).read_text().count(mutant.old) == 1, mutant
