"""Planted faults: does the short suite see what the whole one sees?

    python -m tests.mutants              # every mutant, about an hour
    python -m tests.mutants 3 17         # these

Each mutant changes one piece of text in a copy of the tree. The tests that execute its line, then those that execute
its file (measured by `python -m tests.selection --measure`), run on the copy, cheapest first, until one fails: those of
`make test`, and where none of them fails those that only `make test-all` runs.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

from tests import selection


class Mutant(NamedTuple):
    """One fault: the text that it replaces occurs once in the file."""

    file: str
    old: str
    new: str


MUTANTS = [
    Mutant("lax_linalg/core/operator.py", "return (self.T @ X.T).T", "return (self.H @ X.T).T"),
    Mutant(
        "lax_linalg/core/dispatch.py", "return jnp.where(finite, result, -1)", "return jnp.where(finite, result, 0)"
    ),
    Mutant("lax_linalg/dense/sturm.py", "return negative - n", "return negative - n + 1"),
    Mutant(
        "lax_linalg/dense/gram_svdvals.py",
        "lax.complex(both.T @ both, mixed - mixed.T)",
        "lax.complex(both.T @ both, mixed)",
    ),
    Mutant(
        "lax_linalg/dense/scaling.py", "return unit * jnp.abs(over_unit(z, unit))", "return jnp.abs(over_unit(z, unit))"
    ),
    Mutant("lax_linalg/verbs/arithmetic.py", "return transpose(conj(A))", "return transpose(A)"),
    Mutant("lax_linalg/verbs/det.py", "jnp.where(exchanges % 2, -1, 1)", "jnp.where(exchanges % 2, 1, -1)"),
    Mutant(
        "lax_linalg/verbs/norms.py", "return opnorm(A, p) * opnorm(inv(A), p)", "return opnorm(A, p) * opnorm(inv(A))"
    ),
    Mutant("lax_linalg/verbs/polar.py", "pairs = s[:, None] + s[None, :]", "pairs = s[:, None] - s[None, :]"),
    Mutant(
        "lax_linalg/verbs/eigen.py", "order = jnp.lexsort((w.imag, w.real))", "order = jnp.lexsort((w.real, w.imag))"
    ),
    Mutant(
        "lax_linalg/verbs/schur.py",
        "return (T, Z), (jnp.triu(M + T @ omega - omega @ T), Z @ omega)",
        "return (T, Z), (jnp.triu(M + omega @ T - T @ omega), Z @ omega)",
    ),
    Mutant(
        "lax_linalg/operators/toeplitz.py",
        "return Toeplitz(v[n - 1 :], v[n - 1 :: -1])",
        "return Toeplitz(v[n - 1 :: -1], v[n - 1 :])",
    ),
    Mutant("lax_linalg/operators/hankel.py", "return A.antidiagonals[: 2 * k : 2][:k]", "return A.antidiagonals[:k]"),
    Mutant(
        "lax_linalg/operators/householder.py",
        "return 1 - tau * jnp.sum(jnp.abs(V) ** 2, axis=0)",
        "return 1 + tau * jnp.sum(jnp.abs(V) ** 2, axis=0)",
    ),
    Mutant(
        "lax_linalg/operators/kronecker.py",
        "return tr(A.left) * tr(A.right) if _square(A)",
        "return tr(A.left) + tr(A.right) if _square(A)",
    ),
    Mutant(
        "lax_linalg/operators/low_rank.py",
        "return jnp.sum(A.U[:n] * A.V[:n].conj(), axis=1)",
        "return jnp.sum(A.U[:n] * A.V[:n], axis=1)",
    ),
    Mutant(
        "lax_linalg/operators/permutation.py",
        "jnp.where((p.shape[0] - cycles) % 2 == 0, 1, -1)",
        "jnp.where(cycles % 2 == 0, 1, -1)",
    ),
    Mutant(
        "lax_linalg/operators/tridiagonal_toeplitz.py",
        "return a + 2 * jnp.sqrt(b) * jnp.sqrt(c)",
        "return a + 2 * jnp.sqrt(b * jnp.conj(c))",
    ),
    Mutant(
        "lax_linalg/operators/triangular_toeplitz.py",
        "lambda k, _, total: total / k)",
        "lambda k, _, total: total / (k + 1))",
    ),
    Mutant(
        "lax_linalg/operators/convolution/algebra.py",
        "reach = [k - 1 for k in A.extent]",
        "reach = [k for k in A.extent]",
    ),
    Mutant(
        "lax_linalg/operators/convolution/window.py",
        "return self.kernel.shape[-2 - d : -2]",
        "return self.kernel.shape[-2 - d : -2][::-1]",
    ),
    Mutant(
        "lax_linalg/jacobian/operator.py",
        "return self._matmat(X.real) + 1j * self._matmat(X.imag)",
        "return self._matmat(X.real) - 1j * self._matmat(X.imag)",
    ),
    Mutant("lax_linalg/spectra/estimates.py", "scale = (A.shape[0] - vectors + 1)", "scale = (A.shape[0] - vectors)"),
    Mutant(
        "lax_linalg/spectra/krylov.py",
        "w = w - alpha[:, None] * v - last[:, None] * before",
        "w = w - alpha[:, None] * v",
    ),
    Mutant("lax_linalg/spectra/lyapunov.py", "order = jnp.argsort(-exponents)", "order = jnp.argsort(exponents)"),
    Mutant("lax_linalg/spectra/opnorm_bound.py", "* math.prod(A.stride) ** 0.5", "* math.prod(A.stride) ** 0"),
    Mutant(
        "lax_linalg/nonnormal/henrici.py",
        "g = a.conj() - jnp.linalg.solve(v.T, (v * w.conj()).T)",
        "g = a.conj() + jnp.linalg.solve(v.T, (v * w.conj()).T)",
    ),
    Mutant(
        "lax_linalg/nonnormal/numerical_range.py",
        "following = jnp.roll(self.support, -1, -1)",
        "following = jnp.roll(self.support, 1, -1)",
    ),
    Mutant("lax_linalg/nonnormal/kreiss.py", "return limit - growth", "return growth - limit"),
    Mutant("lax_linalg/spectra/summary.py", "entropy = -on.sum(", "entropy = on.sum("),
    Mutant(
        "models/activations.py",
        "return jnp.stack([low, high], axis=-1).reshape(x.shape)",
        "return jnp.stack([high, low], axis=-1).reshape(x.shape)",
    ),
    Mutant(
        "models/attention.py",
        "scores = 2 * scores - squares[..., :, None] - squares[..., None, :]",
        "scores = 2 * scores - squares[..., :, None]",
    ),
    Mutant("models/recurrent.py", "return s * (s * z + b)", "return s * (z + b)"),
    Mutant(
        "models/spectral_norm.py",
        "return kernel / jnp.maximum(1, self.sigma())",
        "return kernel / jnp.minimum(1, self.sigma())",
    ),
    Mutant("models/parametrizations.py", "return lower - lower.T", "return lower + lower.T"),
    Mutant("train/regularizers/gram.py", "return 2 * so(weight) + count * abs(m - n)", "return 2 * so(weight)"),
    Mutant("train/step.py", "(0 if decoupled else strength(step) * measures", "(0 if decoupled else measures"),
    Mutant(
        "train/tasks/sequence.py",
        "return RECALLED * math.log(SYMBOLS) / (delay + 20)",
        "return RECALLED * math.log(SYMBOLS) / delay",
    ),
    Mutant(
        "train/tasks/generation.py",
        "jnp.min(distance, axis=1) < 3 * jnp.asarray(sigma)",
        "jnp.min(distance, axis=1) < jnp.asarray(sigma)",
    ),
    Mutant(
        "models/embedding.py",
        "return self.nearest(u[b] - u[a] + u[c], count, (a, b, c))",
        "return self.nearest(u[b] + u[a] - u[c], count, (a, b, c))",
    ),
]


def line_of(mutant: Mutant) -> int:
    """The line of the replaced text, from 1."""
    text = (selection.TOP / mutant.file).read_text()
    return text[: text.index(mutant.old)].count("\n") + 1


def reached(mutant: Mutant, executed: dict[str, set[tuple[str, int]]]) -> tuple[set[str], set[str]]:
    """The tests that execute the line, and the others that execute some line of the file.

    In a run of all tests a function that JAX has traced once is not executed again, so that the first do not suffice.
    """
    at, line = "/" + mutant.file, line_of(mutant)
    in_file = {test: {n for path, n in lines if path.endswith(at)} for test, lines in executed.items()}
    return {test for test, lines in in_file.items() if line in lines}, {
        test for test, lines in in_file.items() if lines
    }


def planted(mutant: Mutant, folder: pathlib.Path) -> None:
    """A copy of the tree with the fault."""
    ignore = shutil.ignore_patterns(".*", "runs", "*.egg-info", "__pycache__")
    shutil.copytree(selection.TOP, folder, ignore=ignore, dirs_exist_ok=True)
    path = folder / mutant.file
    path.write_text(path.read_text().replace(mutant.old, mutant.new))


def fails(tests: list[str], folder: pathlib.Path) -> str:
    """The first of the tests that fails on the copy, or nothing."""
    for start in range(0, len(tests), 40):  # a test that fails without the fault counts, too: see that none does
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", *tests[start : start + 40]]
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            if line.startswith(("FAILED ", "ERROR ")):
                return line.split(" ", 1)[1].partition(" - ")[0]
        if done.returncode not in (0, 5):
            raise SystemExit(
                f"pytest ended with exit code {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
    return ""


def main() -> int:
    names = selection.listed()
    seconds, executed = selection.costs(), selection.executed()
    chosen = [int(number) for number in sys.argv[1:]] or range(1, len(MUTANTS) + 1)
    for number in chosen:
        mutant = MUTANTS[number - 1]
        line = line_of(mutant)
        at_line, in_file = reached(mutant, executed)
        order = [
            t for tests in (at_line, in_file - at_line) for t in sorted(tests & set(seconds), key=seconds.__getitem__)
        ]
        short = [test for test in order if not selection.deep(test, names)]
        with tempfile.TemporaryDirectory() as folder:
            planted(mutant, pathlib.Path(folder))
            found = fails(short, pathlib.Path(folder))
            verdict = f"caught by {found}" if found else "missed"
            if not found:
                deep = fails([test for test in order if test not in short], pathlib.Path(folder))
                verdict = f"missed, caught by {deep} in test-all" if deep else "missed, in test-all too"
        print(f"{number:2} {mutant.file}:{line} ({len(short)} of {len(order)} tests) {verdict}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
