"""What normalisation and regularisation cost a training step, and how the time of a deep stack grows with its depth.

Steps are whole updates (loss, gradient, Adam) of one jitted program, on the network of the demonstration or the
convolutional discriminator of the GAN task; contenders take turns in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import models
from benchmarks.harness import Row, median_seconds
from train.regularizers import make_penalty
from train.state import split

DEPTHS = (100, 1_000, 10_000)


def step_of(model: nnx.Module, x: jax.Array, penalty: Callable[[Any], jax.Array] | None = None) -> Callable[[], Any]:
    """One update of a model as a call that keeps its own state."""
    definition, params, rest = split(model)
    optimizer = optax.adam(1e-4)
    labels = jnp.arange(len(x)) % 2

    @jax.jit
    def update(params, rest, opt_state):
        def loss(params):
            merged: Any = definition.merge(params, rest)
            merged.train()
            y = merged(x)
            value = jnp.mean(optax.losses.squared_error(y[:, 0], labels.astype(y.dtype)))
            return value + (1e-2 * penalty(params) if penalty else 0), split(merged)[2]

        (_, rest_new), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), rest_new, opt_state

    state = (params, rest, optimizer.init(params))

    def call() -> Any:
        nonlocal state
        state = update(*state)
        return state

    return call


def discriminator(normalisation: str, norm_of: str = "operator") -> nnx.Module:
    """For 32×32 images, three strided convolutions."""
    return models.Discriminator(
        (32, 32, 3), widths=(32, 64, 128), normalisation=normalisation, norm_of=norm_of, rngs=nnx.Rngs(0)
    )


def rows() -> list[Row]:
    """Overheads of SpectralNorm and SO, and the time per layer of deep stacks."""
    images = jax.random.normal(jax.random.key(0), (64, 32, 32, 3))
    contenders = {
        "none": step_of(discriminator("none"), images),
        "operator": step_of(discriminator("spectral"), images),
        "kernel": step_of(discriminator("spectral", "kernel"), images),
    }
    sn = median_seconds(contenders, repeats=15)

    digits = jax.random.normal(jax.random.key(1), (64, 8, 8, 1))
    demo = models.create("resnet", rngs=nnx.Rngs(0))
    penalty = make_penalty("so", "*", split(demo)[1], demo)
    overlaps = make_penalty("ocnn", "*", split(demo)[1], demo)
    so = median_seconds(
        {
            "bare": step_of(demo, digits),
            "so": step_of(demo, digits, penalty),
            "ocnn": step_of(demo, digits, overlaps),
        },
        repeats=101,
        warmup=10,
    )

    batch = jax.random.normal(jax.random.key(2), (8, 8, 8, 1))
    seconds = {}
    for depth in DEPTHS:
        net = models.create("deep_conv", depth=depth, channels=8, remat=True, rngs=nnx.Rngs(0))
        seconds[depth] = median_seconds({"step": step_of(net, batch)}, repeats=3, warmup=1)["step"]
    a_layer = {depth: 1e6 * value / depth for depth, value in seconds.items()}
    shown = ", ".join(f"{depth} layers {value:.3g} s" for depth, value in seconds.items())

    def detail(times: dict[str, float], one: str, other: str) -> str:
        return f"{1e3 * times[one]:.2f} against {1e3 * times[other]:.2f} ms a step"

    return [
        Row(
            "SpectralNorm on the true operator",
            sn["operator"] / sn["none"],
            "step with / without",
            "≤ 1.15",
            f"discriminator 32×32×3, 32-64-128 channels, batch 64: {detail(sn, 'operator', 'none')}",
        ),
        Row(
            "SpectralNorm on the reshaped kernel",
            sn["kernel"] / sn["none"],
            "step with / without",
            "≤ 1.15",
            detail(sn, "kernel", "none"),
        ),
        Row(
            "SO regulariser",
            so["so"] / so["bare"],
            "step with / without",
            "≤ 1.1",
            f"demonstration's ResNet, batch 64: {detail(so, 'so', 'bare')}",
        ),
        Row("OCNN regulariser", so["ocnn"] / so["bare"], "step with / without", "", detail(so, "ocnn", "bare")),
        Row(
            "deep tanh CNN, time a layer",
            a_layer[DEPTHS[-1]] / a_layer[DEPTHS[0]],
            f"{DEPTHS[-1]} layers / {DEPTHS[0]}",
            "≤ 1.2: linear in depth",
            f"8×8×8, batch 8, recomputing states: {shown}",
        ),
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
