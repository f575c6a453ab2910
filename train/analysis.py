"""Analysis of the checkpoints of a run: full spectra of every layer's Jacobian and of the layers' weights.

Each checkpoint gives one file analysis/step_NNNNNNNN.npz with the keys

    <layer>::shape                       [2]            rows, columns of the Jacobian
    <layer>::singular_values             [B, k]         descending, for each probe input; of a stack of layers [B, L, k]
    <layer>::eigenvalues                 [B, n] complex of square Jacobians
    <layer>::henrici                     [B]            √(‖J‖_F² − Σ|λ|²) of square Jacobians
    <layer>::nonnormal_<name>            …              of the first input's, if square: see `train.nonnormality`
    <layer>::operator_singular_values    [k]            of the linear map of layers that know theirs
    <layer>::structure                   its structure, such as "Convolution"
    <layer>::mean_field                  [L, 2]         σ_w², σ_b² of hidden layers: see `models.mean_field`
    <layer>::activation                  that follows them

and all of them together the table analysis/table.csv. Files are whole or absent, so the analysis may be stopped at any
time and continues where it stopped. What an older one left out (layers, non-normality, mean field) is added to its
files.
Several processes, of one analysis or of several, claim the checkpoints one by one: none is analysed twice, and what
comes out is the same as from one process.

The device makes the Jacobians; their factorisations run in double precision on the host's cores. That costs little more
there, and it lets Henrici's departure be taken as a difference of sums, which in single precision would leave only
√ε ‖J‖ of a nearly normal Jacobian's.
"""

from __future__ import annotations

import collections
import concurrent.futures
import csv
import functools
import io
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

import lax_linalg as la
from lax_linalg.analysis import dense_spectrum
from models.mean_field import hidden_layers
from train import checkpoints, config as configs, files
from train.analysis_processes import claim, shared_out
from train.errors import CheckpointError, ConfigError
from train.nonnormality import ORDER, QUANTITIES as NONNORMAL, nonnormality_of, numbers_of
from train.probes import probe_inputs
from train.spectrum_summary import QUANTITIES, summarize
from train.state import build_model
from train.tasks import tasks

FOLDER = "analysis"
COLUMNS = (
    *("step", "layer", "inputs", "rows", "columns"),
    *QUANTITIES,
    *("log_volume", "spectral_radius", "henrici"),
    *NONNORMAL,
    *("structure", "operator_sigma_max", "operator_sigma_min"),
    *("weight_variance", "bias_variance"),
)
LAYERS_UNDER_WAY = 2  # Jacobians of so many layers lie on the host at a time

Row = dict[str, Any]


class Result(NamedTuple):
    """What became of one checkpoint: its rows of the table, or why it has none."""

    step: int
    status: str  # "done", "kept" from another analysis, "taken" by one that is at it, or "unusable"
    rows: list[Row]
    message: str = ""
    left: int = 0  # checkpoints still to be analysed


class Analyst(NamedTuple):
    """What the analysis of one run shares over its checkpoints: probe inputs, layer names and compiled programs."""

    inputs: jax.Array
    layers: tuple[str, ...]
    hidden: frozenset[str]  # those that have a place in mean field
    capture: Any  # state -> LayerJacobians


def analyze(
    workdir: str | pathlib.Path,
    *,
    steps: str = "",
    layers: str = "*",
    inputs: int = 0,
    processes: int = 1,
    nonnormality: int = ORDER,
) -> Iterator[Result]:
    """Analyse the checkpoints of a run, one after the other or several at a time.

    Args:
        workdir: folder of a run.
        steps: which checkpoints, as in "0,500,last"; all by default.
        layers: patterns of layers, as in "blocks/*,end_to_end".
        inputs: how many of the run's probe inputs; 0 for all.
        processes: how many processes share the checkpoints; other analyses of the run may be going on as well.
        nonnormality: up to which order square Jacobians are tested exactly, beyond it by projection; 0 for not at all.

    Returns:
        An iterator that gives a `Result` for each checkpoint as soon as its file is written and the table renewed:
        first those analysed earlier, which are not done again, last those that other analyses were at.

    Raises:
        ConfigError: when `workdir` holds no run, there are fewer held-out examples than `inputs`, an option is not
            allowed, or processes keep being killed.
        CheckpointError: when there is no usable checkpoint, or not one of a step asked for.
        UnknownNameError: for a pattern that no layer matches.

    Cost: for each checkpoint and probe input, O(mn min(m, n)) a layer for singular values and about 10 n³ FLOPs for
    eigenvalues. Equal Jacobians (of a linear layer, at all inputs) are factorised once.
    """
    workdir = pathlib.Path(workdir)
    config = configs.load(workdir)
    if inputs < 0 or processes < 1:
        raise ConfigError(f"analysis of {inputs} inputs by {processes} processes: at least 0 and 1 are needed")
    available = checkpoints.steps(workdir)
    if not available:
        raise CheckpointError(f"no checkpoints in {workdir}: there is nothing to analyse yet")
    wanted = choose_steps(steps, available)
    inputs = inputs or config.spectrum_inputs
    analyst = prepare(str(workdir), layers, inputs)
    table = Table(workdir / FOLDER)
    todo = []
    for step in wanted:
        path = file_of(workdir, step)
        if not missing_parts(path, analyst, nonnormality):
            rows = table.rows.get(step) or rows_of(step, read_whole(path))  # just made by another analysis
            yield Result(step, "kept", rows, left=len(wanted))
            continue
        todo.append(step)
        if path.exists() and step not in table.rows:
            warnings.warn(f"{path} is not whole; it is made anew", stacklevel=2)
    usable, left = len(todo) < len(wanted), len(todo)
    for wait in (False, True):  # first what nobody is at, then what others have not finished
        taken = []
        work = functools.partial(analyze_claimed, str(workdir), layers, inputs, nonnormality, wait)
        for result in shared_out(work, todo, min(processes, len(todo))):
            if result.status == "taken":
                taken.append(result.step)
                continue
            left -= 1
            usable |= result.status != "unusable"
            table.renew()
            yield result._replace(left=left)
        todo = sorted(taken)
    table.renew()
    if not usable:
        raise CheckpointError(f"none of the {len(wanted)} checkpoints in {workdir} is usable")


def choose_steps(text: str, available: list[int]) -> list[int]:
    """Read "0,500,last" as steps that have a checkpoint; an empty text means all of them.

    Raises:
        ConfigError: for something that is no number, "first" or "last".
        CheckpointError: for a step without a checkpoint; names the nearest.

    Example:
        >>> choose_steps("last, 0", [0, 50, 100])
        [0, 100]
    """
    chosen = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part in ("first", "last"):
            chosen.add(available[0 if part == "first" else -1])
        elif not part.isdecimal():
            raise ConfigError(f"--steps: {part!r} is neither a step number nor first or last")
        elif int(part) not in available:
            near = min(available, key=lambda step: abs(step - int(part)))
            raise CheckpointError(f"no checkpoint of step {part}; the nearest is {near}, the last {available[-1]}")
        else:
            chosen.add(int(part))
    return sorted(chosen) or available


@functools.cache
def prepare(workdir: str, layers: str, inputs: int) -> Analyst:
    """The probe inputs, layer names and program of a run; made once in each process."""
    config = configs.load(workdir)
    task = tasks[config.task]
    x = probe_inputs(task, task.data(config).held_out, inputs, "--inputs")
    model = build_model(config)
    model.eval()
    graphdef, state = nnx.split(model)
    patterns = None if layers.strip() == "*" else tuple(part.strip() for part in layers.split(","))
    capture = jax.jit(lambda state: la.layer_jacobians(nnx.merge(graphdef, state), x, patterns))
    found = hidden_layers(model)
    names = tuple(jax.eval_shape(capture, state))
    return Analyst(x, names, frozenset(found.variances if found else ()).intersection(names), capture)


def analyze_claimed(
    workdir: str, layers: str, inputs: int, nonnormality: int, wait: bool, threads: int, step: int
) -> Result:
    """Analyse one checkpoint unless another process is at it ("taken") or, by now, has done it ("kept")."""
    path = file_of(workdir, step)
    with claim(path.parent, path.stem, wait) as mine:
        if not mine:
            return Result(step, "taken", [])
        if not missing_parts(path, prepare(workdir, layers, inputs), nonnormality):
            return Result(step, "kept", rows_of(step, read_whole(path)))
        return analyze_checkpoint(workdir, layers, inputs, nonnormality, threads, step)


def analyze_checkpoint(workdir: str, layers: str, inputs: int, nonnormality: int, threads: int, step: int) -> Result:
    """Analyse one checkpoint and write its file; what the file already has of it stays."""
    try:
        model = checkpoints.restore(workdir, step)
    except CheckpointError as error:
        return Result(step, "unusable", [], f"{error}; left out")
    analyst = prepare(workdir, layers, inputs)
    path = file_of(workdir, step)
    arrays = read_whole(path)
    missing = {name for name, part in missing_parts(path, analyst, nonnormality) if part == "spectra"}
    modules = {"/".join(map(str, names)): module for names, module in nnx.iter_modules(model)}
    jacobians = {name: J for name, J in analyst.capture(nnx.state(model)).items() if name in missing}
    broken = []
    for name, found in spectra_of(jacobians, threads, nonnormality):
        module = modules.get(name.partition("@")[0])
        if module is not None:
            found |= spectra_of_weights(module, jacobians[name].x.shape[1:])
        arrays |= {f"{name}::{quantity}": values for quantity, values in found.items()}
        if not np.isfinite(found["singular_values"]).all():
            broken.append(name)
    if analyst.hidden and (found := hidden_layers(model)):
        for name in analyst.hidden:
            arrays[f"{name}::mean_field"] = found.variances[name].astype(np.float32)
            arrays[f"{name}::activation"] = np.array(found.activation)
    # sorted within each layer: the same bytes, however many calls it took
    keys = sorted(arrays)
    ordered = {key: arrays[key] for name in analyst.layers for key in keys if key.rpartition("::")[0] == name}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **(ordered | arrays))
    files.write_atomically(path, buffer.getvalue())
    message = f"step {step}: Jacobians hold NaN or infinity in {', '.join(broken)}" if broken else ""
    return Result(step, "done", rows_of(step, ordered | arrays), message)


def spectra_of(
    jacobians: dict[str, Any], threads: int, nonnormality: int
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Form the Jacobians layer by layer on the device while the host's threads factorise those of the layers before."""
    form = jax.jit(la.materialize)
    waiting: collections.deque = collections.deque()

    def oldest() -> tuple[str, dict[str, np.ndarray]]:
        name, leading, shape, futures, copies = waiting.popleft()
        spectra = [future.result() for future in futures]
        more = {key: spectra[0].pop(key) for key in list(spectra[0]) if key.startswith("nonnormal_")}
        found = {
            quantity: np.stack([spectra[i][quantity] for i in copies]).reshape(*leading, *values.shape)
            for quantity, values in spectra[0].items()
        }
        return name, {"shape": np.array(shape), **found, **more}

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for name, batch in jacobians.items():
            matrices = np.asarray(form(batch))
            if isinstance(batch, la.Stack):  # [L, B, m, n]
                matrices = np.moveaxis(matrices, 0, 1)
            leading, shape = matrices.shape[:-2], matrices.shape[-2:]
            distinct, copies = _distinct(matrices.reshape(-1, *shape))
            orders = [nonnormality] + [0] * (len(distinct) - 1)
            futures = [pool.submit(spectrum_of, matrix, order) for matrix, order in zip(distinct, orders)]
            waiting.append((name, leading, shape, futures, copies))
            while len(waiting) > LAYERS_UNDER_WAY:
                yield oldest()
        while waiting:
            yield oldest()


def spectrum_of(matrix: np.ndarray, nonnormality: int = 0) -> dict[str, np.ndarray]:
    """Singular values, and of a square matrix the eigenvalues and Henrici's departure; NaN if the matrix is not finite.

    Args:
        matrix: [m, n], of any floating-point type; factorised in double precision.
        nonnormality: the order up to which non-normality is tested exactly; 0 for not at all.

    Returns:
        "singular_values" [min(m, n)] descending and, if m = n, "eigenvalues" [n] and "henrici" [], in single precision;
        on request what `train.nonnormality.nonnormality_of` finds, as "nonnormal_…".

    Example:
        >>> found = spectrum_of(np.array([[1.0, 3.0], [0.0, 2.0]]))
        >>> sorted(found["eigenvalues"].real.tolist()), float(found["henrici"].round(4))
        ([1.0, 2.0], 3.0)
    """
    found = dense_spectrum(matrix)
    spectra = {"singular_values": found.singular_values.astype(np.float32)}
    if found.eigenvalues is None:
        return spectra
    more = nonnormality_of(matrix, nonnormality, found.eigenvalues) if nonnormality else {}
    return {
        **spectra,
        "eigenvalues": found.eigenvalues.astype(np.complex64),
        "henrici": np.asarray(found.henrici, np.float32),
        **{f"nonnormal_{quantity}": values for quantity, values in more.items()},
    }


def spectra_of_weights(module: Any, input_shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The singular values of a layer's own linear map, by its structure's algorithm; empty for other layers."""
    if not hasattr(module, "operator"):
        return {}
    operator = module.operator(input_shape)
    return {
        "operator_singular_values": np.asarray(jax.jit(la.svdvals)(operator)),
        "structure": np.array(type(operator).__name__),
    }


def _distinct(matrices: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """The different matrices of a stack [B, m, n], and for each of the B the index of its equal."""
    distinct: list[np.ndarray] = []
    copies = []
    for matrix in matrices:
        same = (i for i, other in enumerate(distinct) if np.array_equal(matrix, other))
        index = next(same, len(distinct))
        if index == len(distinct):
            distinct.append(matrix)
        copies.append(index)
    return distinct, copies


def file_of(workdir: str | pathlib.Path, step: int) -> pathlib.Path:
    """Where the analysis of a step lies."""
    return pathlib.Path(workdir) / FOLDER / f"step_{step:08d}.npz"


def read_whole(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an analysis file; none when it is missing, truncated or corrupt.

    Example:
        >>> read_whole(pathlib.Path("no/such/file.npz"))
        {}
    """
    try:
        # np.load alone would leave the file of a broken archive open
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile):
        return {}


def missing_parts(path: pathlib.Path, analyst: Analyst, nonnormality: int) -> set[tuple[str, str]]:
    """What an analysis file lacks, as (layer, part).

    "spectra" are missing when there are none, or those of another number of probe inputs, or when non-normality is
    asked for and a square Jacobian was not tested, or only by projection where it is now to be exact; "mean_field" when
    a hidden layer has not got its variances.
    """
    arrays = read_whole(path)
    missing = {(name, "mean_field") for name in analyst.hidden if f"{name}::mean_field" not in arrays}
    for name in analyst.layers:
        values = arrays.get(f"{name}::singular_values")
        if values is None or len(values) != len(analyst.inputs):
            missing.add((name, "spectra"))
        elif nonnormality and f"{name}::eigenvalues" in arrays:
            projected = arrays.get(f"{name}::nonnormal_projected")
            if projected is None or (projected and arrays[f"{name}::shape"][0] <= nonnormality):
                missing.add((name, "spectra"))
    return missing


def rows_of(step: int, arrays: dict[str, np.ndarray]) -> list[Row]:
    """The rows of the table for one step: a layer a row, each number the median over the probe inputs."""
    rows = []
    for name in dict.fromkeys(key.rpartition("::")[0] for key in arrays):
        of = {key.rpartition("::")[2]: values for key, values in arrays.items() if key.rpartition("::")[0] == name}
        s = np.asarray(of["singular_values"], np.float64)
        m, n = of["shape"].tolist()
        row: Row = {"step": step, "layer": name, "inputs": len(s), "rows": m, "columns": n, **summarize(s)}
        with np.errstate(divide="ignore"):
            row["log_volume"] = float(np.median(np.log(s).sum(-1)))
        if "eigenvalues" in of:
            row["spectral_radius"] = float(np.median(np.abs(of["eigenvalues"]).max(-1)))
            row["henrici"] = float(np.median(of["henrici"]))
        if "nonnormal_kreiss" in of:
            row |= numbers_of({key.removeprefix("nonnormal_"): values for key, values in of.items()})
        if "structure" in of:
            row["structure"] = str(of["structure"])
            row["operator_sigma_max"], row["operator_sigma_min"] = of["operator_singular_values"][[0, -1]].tolist()
        if "mean_field" in of:
            row["weight_variance"], row["bias_variance"] = of["mean_field"].mean(0, dtype=np.float64).tolist()
        rows.append(row)
    return rows


class Table:
    """analysis/table.csv: a row for each step and layer of all the analysis files there are, whoever made them."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.rows: dict[int, list[Row]] = {}
        self._seen: dict[pathlib.Path, int] = {}
        self._look()

    def renew(self) -> None:
        """Take in the files that are new and write the table; one process at a time."""
        with claim(self.folder, "table", wait=True):
            self._look()
            self._write()

    def _look(self) -> None:
        for path in sorted(self.folder.glob("step_*.npz")):
            changed = path.stat().st_mtime_ns
            if self._seen.get(path) != changed:
                self._seen[path] = changed
                step = int(path.stem.removeprefix("step_"))
                if arrays := read_whole(path):
                    self.rows[step] = rows_of(step, arrays)

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for step in sorted(self.rows):
            for row in self.rows[step]:
                writer.writerow(
                    {key: f"{value:.7g}" if isinstance(value, float) else value for key, value in row.items()}
                )
        files.write_atomically(self.folder / "table.csv", text.getvalue().encode())
