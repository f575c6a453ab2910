"""Measure every figure that the documentation quotes and keep it in benchmarks/RESULTS.md.

python -m scripts.bench                              all of them
python -m scripts.bench --only=toeplitz,structured   these, leaving the other sections as they are
"""

from __future__ import annotations

import datetime
import importlib
import os
import pathlib
import platform
import re
import subprocess
import sys

from absl import flags

import benchmarks
from benchmarks.harness import Row
from lax_linalg.errors import UnknownNameError
from scripts.flags import NAMES, run

_ONLY = flags.DEFINE_list("only", [], "benchmarks to run; all by default")
_OUT = flags.DEFINE_string("out", "benchmarks/RESULTS.md", "file for the results")
_HERE = flags.DEFINE_bool("here", False, "run one benchmark in this process and print its section")

_HEAD = """# Results

Ratios, each measured in one run on one machine against a named peer: medians after warm-up, every result blocked on.
Made by `make bench`; a section by `python -m scripts.bench --only=NAME`.
"""


def names() -> list[str]:
    """The benchmarks there are: files in benchmarks/ that have `rows`."""
    folder = pathlib.Path(benchmarks.__path__[0])
    return sorted(p.stem for p in folder.glob("*.py") if p.stem not in ("__init__", "harness"))


NAMES["only"] = names


def machine() -> str:
    """One line that says what was measured on."""
    import jax

    cpu = "unknown CPU"
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    devices = jax.devices()
    return (
        f"{cpu}, {len(os.sched_getaffinity(0))} cores, {len(devices)} {devices[0].device_kind} device(s), "
        f"Python {platform.python_version()}, jax {jax.__version__}, {datetime.date.today()}"
    )


def section(name: str, rows: list[Row]) -> str:
    """The Markdown of one benchmark."""
    module = importlib.import_module(f"benchmarks.{name}")
    lines = [f"## {name}", "", (module.__doc__ or "").strip(), "", machine(), ""]
    lines += ["| what | ratio | of | target | detail |", "| --- | ---: | --- | --- | --- |"]
    lines += [f"| {r.name} | {r.ratio:.3g} | {r.unit} | {r.target} | {r.detail} |" for r in rows]
    return "\n".join([*lines, ""])


def main() -> None:
    chosen = _ONLY.value or names()
    for name in chosen:
        if name not in names():
            raise UnknownNameError.of("benchmark", name, names())
    if _HERE.value:
        print(section(chosen[0], importlib.import_module(f"benchmarks.{chosen[0]}").rows()))
        return
    out = pathlib.Path(_OUT.value)
    kept = dict(re.findall(r"^(## (?:\w+)\n)(.*?)(?=^## |\Z)", out.read_text(), re.M | re.S)) if out.exists() else {}
    for name in chosen:
        # one process each, so that no benchmark runs in the memory and caches that another left
        done = subprocess.run(
            [sys.executable, "-m", "scripts.bench", "--here", f"--only={name}"], stdout=subprocess.PIPE
        )
        if done.returncode:
            print(f"{name}: failed with exit code {done.returncode}; its section is left as it was", file=sys.stderr)
            continue
        text = done.stdout.decode()
        print(text, flush=True)
        heading, body = text.split("\n", 1)
        kept[heading + "\n"] = body
        body = "\n".join(h + b.rstrip("\n") + "\n" for h, b in sorted(kept.items()))
        out.write_text(_HEAD + "\n" + body)


if __name__ == "__main__":
    run(main)
