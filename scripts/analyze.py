"""Compute full spectra of all layer Jacobians and weights at every checkpoint of a run; resumes where it stopped.

python -m scripts.analyze --workdir=runs/a --steps=0,last

Or analyse the weights in the files of other programs (.safetensors, .npz), without a model; from the second file on
what changed since the first is shown as well.

python -m scripts.analyze --weights=model.safetensors --layout=OIHW --image_size=32

Or a model of your own (NNX, Linen, equinox, functions) with its checkpoints: those, Flax msgpack, Orbax folders.

python -m scripts.analyze --model=my_package.my_module:build --checkpoint=weights.msgpack --probe=probe.npy
"""

from __future__ import annotations

import importlib
import json
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
from absl import flags as absl_flags

import lax_linalg as la
from scripts import flags

WORKDIR = absl_flags.DEFINE_string("workdir", "", "folder of a run, or several separated by commas (required)")
STEPS = absl_flags.DEFINE_string("steps", "", "checkpoints to analyse, for example 0,500,last; all by default")
LAYERS = absl_flags.DEFINE_string("layers", "*", "layers to analyse, for example blocks/*,end_to_end")
INPUTS = absl_flags.DEFINE_integer("inputs", 0, "number of probe inputs; 0 takes that of the run", lower_bound=0)
PROCESSES = absl_flags.DEFINE_integer("processes", 1, "number of processes that share the checkpoints", lower_bound=1)
NONNORMALITY = absl_flags.DEFINE_integer(
    "nonnormality",
    64,
    "analyse non-normality exactly up to this order and by projection above it; 0 turns it off",
    lower_bound=0,
)
WEIGHTS = absl_flags.DEFINE_string("weights", "", "file of weights, or several separated by commas, without a model")
LAYOUT = absl_flags.DEFINE_string(
    "layout", "HWIO", "how the files lay out kernels and matrices: HWIO and [in, out], or OIHW and [out, in] (PyTorch)"
)
IMAGE_SIZE = absl_flags.DEFINE_integer(
    "image_size", 0, "input size of the convolutions in the files, taken as circular; 0 for 8", lower_bound=0
)
MODEL = absl_flags.DEFINE_string("model", "", "your own model, my_package.my_module:build, a function that makes it")
CHECKPOINT = absl_flags.DEFINE_string(
    "checkpoint", "", "its parameters, in one file or Orbax folder or several in order, separated by commas"
)
PROBE = absl_flags.DEFINE_string("probe", "", "its probe inputs [B, ...], an .npy file")
MAPPING = absl_flags.DEFINE_string("mapping", "", "JSON file {name in the model: name in the checkpoint}")
OUT = absl_flags.DEFINE_string("out", "", "where the last table of --weights or --model is written, .csv or .json")


def show(analyses: Iterable[tuple[str, la.Analysis]]) -> None:
    """Print tables, from the second on with what changed since the first, and write the last one."""
    first: la.Analysis | None = None
    for path, found in analyses:
        print(f"{path}\n{found}\n")
        if first is not None:
            print(f"since the first file\n{first.compare(found)}\n")
        first = first or found
        if OUT.value:
            (found.to_csv if OUT.value.endswith(".csv") else found.to_json)(OUT.value)


def parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def of_weights() -> Iterator[tuple[str, la.Analysis]]:
    """The analysis of each file of weights."""
    for path in parts(WEIGHTS.value):
        operators, left_out = la.weight_operators(
            la.read_arrays(path), layout=LAYOUT.value, image_size=IMAGE_SIZE.value
        )
        if not operators:
            raise la.LinearAlgebraError(f"{path} holds no matrix and no kernel among its {len(left_out)} arrays")
        found = la.analyze(operators)
        found.left_out.update(left_out)
        yield path, found


def of_model() -> Iterator[tuple[str, la.Analysis]]:
    """The analysis of the model with each checkpoint's parameters."""
    module, _, name = MODEL.value.partition(":")
    if not PROBE.value or not module or not name:
        raise absl_flags.Error("--model=my_package.my_module:build needs --probe=inputs.npy, and a colon")
    try:
        x = np.load(PROBE.value, allow_pickle=False)
        mapping = json.loads(pathlib.Path(MAPPING.value).read_text()) if MAPPING.value else {}
    except (ValueError, EOFError) as error:
        raise absl_flags.Error(f"--probe or --mapping cannot be read: {error}") from None
    try:
        model = getattr(importlib.import_module(module), name)()
    except Exception as error:  # whatever someone else's code raises
        raise absl_flags.Error(f"--model={MODEL.value} raised {type(error).__name__}: {error}") from None
    if callable(getattr(model, "eval", None)):
        model.eval()
    layers = None if LAYERS.value.strip() == "*" else parts(LAYERS.value)
    for path in parts(CHECKPOINT.value) or [""]:
        filled = la.with_arrays(model, la.read_arrays(path), mapping) if path else model
        yield path or "as made", la.analyze(filled, x, layers=layers)


def main() -> None:
    if sum(map(bool, (WEIGHTS.value, WORKDIR.value, MODEL.value))) > 1:
        raise absl_flags.Error("--workdir, --weights and --model are three questions; ask one of them")
    if OUT.value and not OUT.value.endswith((".csv", ".json")):
        raise absl_flags.Error(f"--out={OUT.value}: a table is written as .csv or .json")
    if WEIGHTS.value or MODEL.value:
        return show(of_weights() if WEIGHTS.value else of_model())
    if not WORKDIR.value:
        raise absl_flags.Error(
            "--workdir is required, the folder of a run that scripts.train made; or --weights or --model"
        )
    from train.analysis import analyze
    from train.analysis_display import follow

    for workdir in filter(None, map(str.strip, WORKDIR.value.split(","))):
        results = analyze(
            workdir,
            steps=STEPS.value,
            layers=LAYERS.value,
            inputs=INPUTS.value,
            processes=PROCESSES.value,
            nonnormality=NONNORMALITY.value,
        )
        follow(results, workdir)


if __name__ == "__main__":
    flags.run(main)
