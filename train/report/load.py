"""Read one training run's directory, and tolerate what an interrupted run leaves (a cut last line, a torn file)."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lax_linalg.errors import LinearAlgebraError

KINDS = ("train", "eval", "test", "spectrum")
STEP_FILE = re.compile(r"step_(\d+)\.npz")


@dataclass
class Run:
    """What a run left on disk: settings and curves in memory, spectra by file name until they are asked for.

    `probes` and `analyses` map a step to its .npz file; `warnings` says, a line each, what could not be read.
    """

    workdir: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    probes: dict[int, Path] = field(default_factory=dict)
    analyses: dict[int, Path] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def held_out(self) -> str:
        """What its evaluations are of: "validation" examples, or "test" ones where none were set aside."""
        return "validation" if self.config.get("validation") else "test"

    @property
    def steps(self) -> list[int]:
        """Every step that has a spectrum, ascending."""
        return sorted(set(self.probes) | set(self.analyses))

    def spectra(self, step: int) -> dict[str, dict[str, np.ndarray]]:
        """The arrays of one step by layer and quantity; where both exist the analysis wins over the probe."""
        layers: dict[str, dict[str, np.ndarray]] = {}
        for files in (self.probes, self.analyses):
            if step in files:
                for name, values in read_spectra(files[step]).items():
                    layers.setdefault(name, {}).update(values)
        return layers


def load_run(workdir: str | Path, name: str | None = None) -> Run:
    """Read a run's settings, curves and the names of its spectra.

    Args:
        workdir: the directory that training wrote.
        name: how the run is called on the page; the directory's own name by default.

    Returns:
        A `Run`, whose `warnings` name every file or line that was left out.

    Raises:
        LinearAlgebraError: the directory is missing, or holds neither metrics nor spectra.

    Cost: O(size of the metrics); each spectrum file is opened once to check that it is whole.

    Example:
        >>> load_run("no/such/run")
        Traceback (most recent call last):
        lax_linalg.errors.LinearAlgebraError: there is no run at no/such/run: the directory does not exist...
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise LinearAlgebraError(
            f"there is no run at {workdir}: the directory does not exist; "
            "give the --workdir that scripts.train was given"
        )
    run = Run(workdir, name or workdir.resolve().name)
    run.config = _read_json(workdir / "config.json", run.warnings)
    run.summary = _read_json(workdir / "summary.json", run.warnings)
    lines = read_jsonl(workdir / "metrics.jsonl", run.warnings)
    run.metrics = {kind: [line for line in lines if line.get("kind") == kind] for kind in KINDS}
    run.probes = whole_files(workdir / "spectra", run.warnings)
    run.analyses = whole_files(workdir / "analysis", run.warnings)
    if not (lines or run.probes or run.analyses):
        raise LinearAlgebraError(
            f"{workdir} holds no run yet: neither metrics.jsonl nor spectra/ nor analysis/ has anything to show; "
            f"train one with `python -m scripts.train --workdir={workdir}`"
        )
    return run


def load_runs(workdirs: list[str]) -> list[Run]:
    """Read several runs and give each the shortest name that tells it from the others.

    Example:
        >>> load_runs([])
        []
    """
    paths = [Path(workdir) for workdir in workdirs]
    resolved = [path.resolve() for path in paths]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise LinearAlgebraError(f"the run {paths[i]} is given twice")
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return [load_run(path, "/".join(full.parts[-depth:])) for path, full in zip(paths, resolved, strict=True)]


def read_jsonl(path: Path, warnings: list[str]) -> list[dict[str, Any]]:
    """Every whole line of a JSON-lines file, non-finite numbers as None; a cut or broken line becomes a warning.

    Example:
        >>> read_jsonl(Path("no/such.jsonl"), [])
        []
    """
    if not path.is_file():
        return []
    lines, broken = [], []
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            value = None
        if isinstance(value, dict):
            lines.append(finite(value))
        elif line.strip():
            broken.append(number)
    if broken:
        where = f"line {broken[0]}" if len(broken) == 1 else f"{len(broken)} lines, the first {broken[0]},"
        warnings.append(f"{path}: {where} cut or broken, left out")
    return lines


def finite(value: Any) -> Any:
    """Replace NaN and infinities by None throughout a JSON value, because JSON has no word for them.

    Example:
        >>> finite({"loss": float("nan"), "cond": [1.0, float("inf")]})
        {'loss': None, 'cond': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def whole_files(directory: Path, warnings: list[str]) -> dict[int, Path]:
    """The readable step_*.npz files of a directory by step; each unreadable one becomes a warning.

    Example:
        >>> whole_files(Path("no/such/directory"), [])
        {}
    """
    found: dict[int, Path] = {}
    for path in sorted(directory.glob("step_*.npz")):
        match = STEP_FILE.fullmatch(path.name)
        if match is None:
            continue
        if is_whole(path):
            found[int(match[1])] = path
        else:
            warnings.append(f"{path}: truncated or corrupt, left out")
    return dict(sorted(found.items()))


def is_whole(path: Path) -> bool:
    """Whether every member of an .npz archive is there with the right checksum.

    Cost: one read of the file.

    Example:
        >>> is_whole(Path("no/such/file.npz"))
        False
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, RuntimeError):
        return False


def read_spectra(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a spectrum file, `"<layer>::<quantity>"` split into layer and quantity.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "step_0.npz"
        >>> np.savez(file, **{"blocks/0::singular_values": np.ones((1, 2))})
        >>> read_spectra(file)
        {'blocks/0': {'singular_values': array([[1., 1.]])}}
    """
    layers: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for layer, quantity, key in _members(archive.files):
            layers.setdefault(layer, {})[quantity] = archive[key]
    return layers


def _members(keys: list[str]) -> Iterator[tuple[str, str, str]]:
    for key in keys:
        layer, separator, quantity = key.rpartition("::")
        if separator:
            yield layer, quantity, key


def _read_json(path: Path, warnings: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        warnings.append(f"{path}: unreadable ({error}), left out")
        return {}
    if not isinstance(value, dict):
        warnings.append(f"{path}: holds no names with values, left out")
        return {}
    return finite(value)
