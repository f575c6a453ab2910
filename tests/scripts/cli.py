"""The scripts as a person runs them: in processes of their own, or in this one where that is enough."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import runpy
import subprocess
import sys
import warnings
from typing import NamedTuple

from absl import flags

TOP = pathlib.Path(__file__).parent.parent.parent


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"scripts.{script}", *arguments]


def start(script: str, *arguments: str) -> subprocess.Popen:
    """The script in a process of its own, whose output is text in pipes."""
    return subprocess.Popen(
        command(script, *arguments), cwd=TOP, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(script: str, *arguments: str, **environment: str) -> Outcome:
    """The script in a process of its own, to its end."""
    done = subprocess.run(
        command(script, *arguments),
        cwd=TOP,
        text=True,
        capture_output=True,
        timeout=300,
        env=os.environ | environment,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def call(script: str, *arguments: str) -> Outcome:
    """What `python -m scripts.<script>` runs, without the seconds that a new process takes to import JAX.

    The module runs anew as __main__ with flags of its own: those that it defines are taken away afterwards, and those
    of scripts that other tests import are out of its way meanwhile.
    """
    from scripts.flags import GROUPS

    out, err = io.StringIO(), io.StringIO()
    others = {n: flags.FLAGS[n] for n in flags.FLAGS if _defined_in(n).startswith(("scripts.", "?"))}
    for name in others:
        delattr(flags.FLAGS, name)
    before, argv, groups = set(flags.FLAGS), sys.argv, dict(GROUPS)
    sys.argv = [f"scripts/{script}.py", *arguments]
    GROUPS.clear()
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("default")
            runpy.run_module(f"scripts.{script}", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = argv
        GROUPS.clear()
        GROUPS.update(groups)
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        for name, flag in others.items():
            flags.FLAGS[name] = flag
    return Outcome(code, out.getvalue(), err.getvalue())


def _defined_in(flag: str) -> str:
    return flags.FLAGS.find_module_defining_flag(flag) or "?"  # as of one that was put back


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, but for the empty files that only mark who holds it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


TINY = (
    "--task=digits", "--model=mlp", "--model_options=widths=(8,)", "--batch_size=32", "--steps=30", "--log_every=5",
    "--eval_every=10", "--checkpoint_every=10", "--spectrum_every=10", "--spectrum_inputs=2", "--validation=100",
)  # fmt: skip
"""Flags of a run that takes a second: a narrow MLP on the real images, with probes and checkpoints."""
