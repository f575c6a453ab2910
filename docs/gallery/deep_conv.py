"""Time of plain tanh networks of up to 10,000 convolutions.

python -m docs.gallery.deep_conv     writes docs/gallery/deep_conv.png

The time of one gradient (8×8 images, 8 channels, batch 8, states recomputed) against the depth, with the line of slope
one through the first point: linear. The program is compiled by one scan, so compiling takes the same time at any depth
(grey). How such networks learn is drawn by docs/gallery/deep_training.py.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from matplotlib.figure import Figure

import models

PICTURE = pathlib.Path(__file__).with_suffix(".png")
DEPTHS = (10, 30, 100, 300, 1_000, 3_000, 10_000)


def seconds(depth: int, repeats: int = 5) -> tuple[float, float]:
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


def main(depths: Sequence[int] = DEPTHS, out: pathlib.Path = PICTURE) -> None:
    """Draw both times against the depth."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    ax = figure.subplots()
    compiling, running = zip(*map(seconds, depths))
    ax.loglog(depths, running, "o-", color="#1f5fbf", label="one gradient")
    ax.loglog(depths, compiling, "s--", color="#999999", label="compiling")
    ax.loglog(depths, [running[0] * d / depths[0] for d in depths], ":", color="#d1495b", label="linear in depth")
    ax.set(xlabel="layers", ylabel="seconds", title="time against depth")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
