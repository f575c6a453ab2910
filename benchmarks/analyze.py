"""`la.analyze` of a ResNet-18 as people write it for 32×32 images: the whole model, and its kernels alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

import lax_linalg as la
from benchmarks.harness import Row

WHOLE, ALONE = 180.0, 30.0  # seconds


class Block(nnx.Module):
    """Two convolutions with batch normalisation and a shortcut."""

    def __init__(self, width: int, out: int, stride: int, rngs: nnx.Rngs):
        options: dict[str, Any] = {"use_bias": False, "rngs": rngs}
        self.conv1 = nnx.Conv(width, out, (3, 3), strides=stride, padding=1, **options)
        self.bn1 = nnx.BatchNorm(out, rngs=rngs)
        self.conv2 = nnx.Conv(out, out, (3, 3), padding=1, **options)
        self.bn2 = nnx.BatchNorm(out, rngs=rngs)
        self.down = nnx.Conv(width, out, (1, 1), strides=stride, **options) if width != out else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.bn2(self.conv2(jax.nn.relu(self.bn1(self.conv1(x)))))
        return jax.nn.relu(y + (x if self.down is None else self.down(x)))


class ResNet18(nnx.Module):
    """Stem, eight blocks of 64 to 512 channels, mean over the image, head."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, 64, (3, 3), padding=1, use_bias=False, rngs=rngs)
        widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
        pairs = itertools.pairwise(widths)
        self.blocks = nnx.List([Block(w, out, 1 if w == out else 2, rngs) for w, out in pairs])
        self.head = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


def seconds(call: Callable[[], la.Analysis]) -> tuple[float, la.Analysis]:
    """Of one call, compilation included: nobody analyses a checkpoint twice."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def rows() -> list[Row]:
    """The rows of benchmarks/RESULTS.md."""
    model = ResNet18(nnx.Rngs(0))
    model.eval()
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    operators, _ = la.weight_operators({"/".join(map(str, p)): np.asarray(v[...]) for p, v in flat})
    alone, table = seconds(lambda: la.analyze(operators))
    x = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    whole, full = seconds(lambda: la.analyze(model, x))
    kernels = f"{len(table.rows)} rows, {alone:.0f} s"
    detail = f"{len(full.rows)} rows, {sum(r['method'] == 'partial' for r in full.rows)} partial, {whole:.0f} s"
    return [
        Row("kernels of a ResNet-18 alone", ALONE / alone, "30 s / ours", "≥ 1", kernels),
        Row("ResNet-18 on 32×32 images", WHOLE / whole, "180 s / ours", "≥ 1", detail),
    ]
