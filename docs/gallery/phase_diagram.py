"""Where a network's initialisation lies in the phases of mean field.

python -m docs.gallery.phase_diagram        writes docs/gallery/phase_diagram.png

In the ordered phase signals converge and gradients vanish with depth, in the chaotic one nearby inputs part and
gradients explode; trainable depth diverges on the critical line. The marked networks are measured: σ_w² = N·var W and
σ_b² = var b of layers as three common recipes draw them.
"""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp

import lax_linalg as la
from lax_linalg.random_matrix import critical_point

PICTURE = pathlib.Path(__file__).with_suffix(".png")


def place(weights: jax.Array, bias: jax.Array) -> tuple[float, float]:
    """(σ_w², σ_b²) of a dense layer with weights [out, in] and bias [out]."""
    return float(weights.shape[1] * jnp.var(weights)), float(jnp.var(bias))


def main(width: int = 512, points: int = 48, out: pathlib.Path = PICTURE) -> None:
    w_key, b_key = jax.random.split(jax.random.key(0))
    normal = jax.random.normal(w_key, (width, width)) / jnp.sqrt(width)
    noise = jax.random.normal(b_key, (width,))
    point = critical_point("tanh", 1.75)
    networks = {
        "LeCun, no bias": place(normal, 0 * noise),
        "critical Gaussian": place(normal * 1.75**0.5, noise * float(point.bias_variance) ** 0.5),
        "He, no bias": place(normal * 2**0.5, 0 * noise),
    }
    ax = la.plot.phase_diagram("tanh", networks, bias_variance=(0.0, 0.2), points=points)
    ax.figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
