"""Time and learning of plain tanh networks of up to 10,000 convolutions.

python -m docs.gallery.deep_conv runs/deep_1000 runs/deep_10000     writes docs/gallery/deep_conv.png

Left, the time of one gradient (8×8 images, 8 channels, batch 8, states recomputed) against the depth, with the line of
slope one through the first point: linear. The program is compiled by one scan, so compiling takes the same time at any
depth (grey). Right, accuracy on the held-out digits of the runs named on the command line, which
scripts/presets/deep_conv_1000.flags and deep_conv_10000.flags make.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from matplotlib.figure import Figure

import models

PICTURE = pathlib.Path(__file__).with_suffix(".png")
DEPTHS = (10, 30, 100, 300, 1_000, 3_000, 10_000)


def seconds(depth: int, repeats: int = 3) -> tuple[float, float]:
    """Seconds of compiling a gradient, and of one gradient (the fastest of a few)."""
    model = models.create("deep_conv", depth=depth, channels=8, remat=True, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model)
    x = jax.random.normal(jax.random.key(0), (8, 8, 8, 1))

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: jnp.mean(nnx.merge(graphdef, p)(x) ** 2))(params)

    start = time.perf_counter()
    compiled = gradient.lower(params).compile()
    compiling = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(params))
        times.append(time.perf_counter() - start)
    return compiling, min(times)


def main(runs: Sequence[str] = (), depths: Sequence[int] = DEPTHS, out: pathlib.Path = PICTURE) -> None:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    compiling, running = zip(*map(seconds, depths))
    left.loglog(depths, running, "o-", color="#1f5fbf", label="one gradient")
    left.loglog(depths, compiling, "s--", color="#999999", label="compiling")
    left.loglog(depths, [running[0] * d / depths[0] for d in depths], ":", color="#d1495b", label="linear in depth")
    left.set(xlabel="layers", ylabel="seconds", title="time against depth")
    left.legend()
    for run in runs:
        lines = [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]
        measured = [line for line in lines if line["kind"] == "eval"]
        options = json.loads((pathlib.Path(run) / "config.json").read_text())["model_options"]
        label = next((part for part in options.split(",") if part.startswith("depth=")), run).replace("depth=", "")
        right.plot([e["step"] for e in measured], [e["accuracy"] for e in measured], "o-", label=f"{label} layers")
    right.set(xlabel="step", ylabel="accuracy", ylim=(0, 1), title="digits held out")
    if runs:
        right.legend(loc="lower right")
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
