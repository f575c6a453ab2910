"""Which tests `make test` runs, chosen by cost and coverage; `make test-all` runs every one.

    python -m tests.selection --measure     # runs the suite under coverage, each test's CPU seconds beside
    python -m tests.selection               # chooses from what was measured and writes tests/deep.txt

Cheap tests stay. Of the others those are chosen that execute the most lines not executed yet for their seconds, until
the budget is spent; what is left over goes to tests/deep.txt and gets the marker `deep`. A test that is not in the
list, such as a new one, is run by `make test`.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

TOP = pathlib.Path(__file__).parent.parent
DEEP = TOP / "tests" / "deep.txt"
MEASURED = TOP / ".measured"
CHEAP = 0.3  # CPU seconds of a test that always stays
BUDGET = 420.0  # CPU seconds of all that stay
KEPT = (  # what lines say nothing of: processes of their own, and what alone sees a fault of tests/mutants.py
    "tests/test_house.py",
    "tests/scripts/test_interrupted.py",
    "tests/scripts/test_end_to_end.py::test_every_command_succeeds_and_says_what_it_made",
    "tests/train/test_loop.py::test_sigterm_saves_and_the_same_call_goes_on",
    "tests/lax_linalg/test_core.py::test_arithmetic_agrees_with_dense_matrices[complex]",
    "tests/models/test_recurrent.py::test_orthogonal_after_any_number_of_updates_and_able_to_learn[polar-static]",
    "tests/lax_linalg/test_contract.py::test_contract[scaling plus low rank-complex128-third]",
    "tests/lax_linalg/test_spectra.py::test_rules_without_a_basis_are_as_good",
    "models/spectral_norm.py::models.spectral_norm.SpectralNorm",
    "train/regularizers/gram.py::train.regularizers.gram.dso",
    "tests/train/test_loop.py::test_strength_zero_is_no_regulariser_and_a_strong_one_makes_kernels_orthogonal",
)


def deep(nodeid: str, names: frozenset[str]) -> bool:
    """Whether a test, or its function with all its cases, is in the list."""
    return nodeid in names or nodeid.split("[")[0] in names


def listed() -> frozenset[str]:
    """The tests that only `make test-all` runs."""
    return frozenset(line for line in DEEP.read_text().splitlines() if line and not line.startswith("#"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Write down a test's CPU seconds, those of its finished child processes included (with `-p tests.selection`)."""
    start = _cpu()
    result = yield
    with (MEASURED / f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}.jsonl").open("a") as file:
        file.write(json.dumps({"test": item.nodeid, "seconds": _cpu() - start}) + "\n")
    return result


def _cpu() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def measure() -> int:
    """Run the suite, deep tests included, with an empty compilation cache."""
    MEASURED.mkdir(exist_ok=True)
    for path in MEASURED.iterdir():
        path.unlink()
    config = "[run]\nsource_pkgs = lax_linalg,models,train,scripts\ndata_file = .measured/lines\n"
    (MEASURED / "config").write_text(config)
    command = [sys.executable, "-m", "pytest", "-p", "tests.selection", "-n", "2", "--dist", "worksteal"]
    coverage = ["-m", "not slow", "--cov", "--cov-config=.measured/config", "--cov-context=test", "--cov-report="]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(MEASURED / "programs")}
    return subprocess.run([*command, *coverage], cwd=TOP, env=environment, check=False).returncode


def costs() -> dict[str, float]:
    """test -> CPU seconds."""
    lines = (line for path in MEASURED.glob("*.jsonl") for line in path.read_text().splitlines())
    return {row["test"]: row["seconds"] for row in map(json.loads, lines)}


def executed() -> dict[str, set[tuple[str, int]]]:
    """test -> the (file, line) that it executes, those of imports left out."""
    from coverage.numbits import numbits_to_nums

    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    with sqlite3.connect(MEASURED / "lines") as data:
        rows = data.execute(
            "select context, path, numbits from line_bits join context on context.id = context_id "
            "join file on file.id = file_id"
        )
        for context, path, bits in rows:
            found[context.rsplit("|", 1)[0]] |= {(path, line) for line in numbits_to_nums(bits)}
    at_import = found.pop("", set())
    return {test: lines - at_import for test, lines in found.items()}


def choose(seconds: dict[str, float], lines: dict[str, set[tuple[str, int]]], budget: float = BUDGET) -> set[str]:
    """The tests that stay: cheap ones, then by new lines a second, once and then a second time, within the budget."""
    chosen = {test for test, cost in seconds.items() if cost < CHEAP or test.startswith(KEPT)}
    spent = sum(seconds[test] for test in chosen)
    for times in (1, 2, 3):
        wanted: dict[tuple[str, int], int] = defaultdict(int)
        for test in lines:
            for line in lines[test]:
                wanted[line] = times
        for test in chosen:
            for line in lines.get(test, ()):
                wanted[line] -= 1

        def gain(test: str, wanted: dict[tuple[str, int], int] = wanted) -> float:
            return sum(wanted[line] > 0 for line in lines.get(test, ())) / seconds[test]

        queue = [(-gain(test), test) for test in seconds if test not in chosen]
        heapq.heapify(queue)
        while queue:
            old, test = heapq.heappop(queue)
            new = -gain(test)
            if new == 0:
                continue
            if new > old:
                heapq.heappush(queue, (new, test))
            elif spent + seconds[test] <= budget:
                chosen.add(test)
                spent += seconds[test]
                for line in lines[test]:
                    wanted[line] -= 1
    return chosen


def write(seconds: dict[str, float], chosen: set[str]) -> None:
    """tests/deep.txt: functions all of whose cases are left over by their name, else case by case."""
    cases: dict[str, list[str]] = defaultdict(list)
    for test in seconds:
        cases[test.split("[")[0]].append(test)
    names = []
    for function, tests in sorted(cases.items()):
        left = sorted(set(tests) - chosen)
        names += [function] if len(left) == len(tests) else left
    head = "# What only `make test-all` runs; written by `python -m tests.selection`."
    DEEP.write_text("\n".join([head, *names]) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Choose the tests that `make test` runs.")
    parser.add_argument("--measure", action="store_true", help="run the whole suite under coverage first")
    parser.add_argument("--budget", type=float, default=BUDGET, help="CPU seconds of the tests that stay")
    options = parser.parse_args()
    if options.measure and (code := measure()):
        return code
    seconds, lines = costs(), executed()
    chosen = choose(seconds, lines, options.budget)
    write(seconds, chosen)
    every = set().union(*lines.values())
    kept = set().union(*(lines[test] for test in chosen & set(lines)))
    print(
        f"{len(chosen)} of {len(seconds)} tests stay, {sum(seconds[t] for t in chosen):.0f} of "
        f"{sum(seconds.values()):.0f} CPU seconds; they execute {len(kept)} of {len(every)} lines"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
