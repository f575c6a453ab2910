"""Compute full spectra of all layer Jacobians and weights at every checkpoint of a run; resumes where it stopped.

python -m scripts.analyze --workdir=runs/a --steps=0,last

Or analyse the weights in the files of other programs (.safetensors, .npz), without a model; from the second file on
what changed since the first is shown as well.

python -m scripts.analyze --weights=model.safetensors --layout=OIHW --image_size=32
"""

from __future__ import annotations

from absl import flags as absl_flags

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
    "image_size", 0, "input size of the convolutions in the files, taken as circular; 0 for 16", lower_bound=0
)
OUT = absl_flags.DEFINE_string("out", "", "where the table of --weights is written, .csv or .json")


def analyze_weights() -> None:
    """Print the table of each file, and write the last one."""
    import lax_linalg as la

    if OUT.value and not OUT.value.endswith((".csv", ".json")):
        raise absl_flags.Error(f"--out={OUT.value}: a table is written as .csv or .json")
    first: la.Analysis | None = None
    for path in filter(None, map(str.strip, WEIGHTS.value.split(","))):
        operators, left_out = la.weight_operators(
            la.read_arrays(path), layout=LAYOUT.value, image_size=IMAGE_SIZE.value
        )
        if not operators:
            raise la.LinearAlgebraError(f"{path} holds no matrix and no kernel among its {len(left_out)} arrays")
        found = la.analyze(operators)
        found.left_out.update(left_out)
        print(f"{path}\n{found}\n")
        if first is not None:
            print(f"since the first file\n{first.compare(found)}\n")
        first = first or found
        if OUT.value:
            (found.to_csv if OUT.value.endswith(".csv") else found.to_json)(OUT.value)


def main() -> None:
    if WEIGHTS.value and WORKDIR.value:
        raise absl_flags.Error("--workdir and --weights are two questions; ask one of them")
    if WEIGHTS.value:
        return analyze_weights()
    if not WORKDIR.value:
        raise absl_flags.Error("--workdir is required: the folder of a run that scripts.train made; or --weights")
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
