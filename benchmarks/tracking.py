"""A few singular values and the density of a Jacobian of 65,536², in the time of its products.

The layer is relu(conv 3×3, 16→16) on a 64×64 image. A product is the mean of J v and Jᵀ w, each compiled by itself.
`svds` asks for the 8 largest values: cold from a random vector, warm from the triplets before one step of training. The
density takes 16 vectors and 64 steps, 2,048 products with J and Jᵀ. In turns with them products inside of a compiled
loop, as JAX makes them of the layer and as ours are (lax_linalg/canonical.py).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import lax_linalg as la
from benchmarks.harness import Row, median_seconds

SIDE, CHANNELS, K, LOOP = 64, 16, 8, 20


def layer(x: jax.Array, kernel: jax.Array) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.nn.relu(jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=numbers)[0])


def rows() -> list[Row]:
    draw = np.random.default_rng(0).standard_normal
    kernel = jnp.asarray(draw((3, 3, CHANNELS, CHANNELS)) / 12, jnp.float32)
    x = jnp.asarray(draw((SIDE, SIDE, CHANNELS)), jnp.float32)
    updated = kernel - 1e-3 * jnp.sign(jax.grad(lambda w: jnp.mean(layer(x, w) ** 2))(kernel))  # Adam's first step
    before, J = la.jacobian(layer, x, kernel), la.jacobian(layer, x, updated)
    v = jnp.asarray(draw(J.shape[1]), jnp.float32)

    @jax.jit
    def plain(x, kernel, v):
        pull = jax.vjp(lambda x: layer(x, kernel), x)[1]
        return jax.lax.fori_loop(0, LOOP, lambda _, w: pull(w)[0], v.reshape(x.shape))

    ours = jax.jit(lambda J, v: jax.lax.fori_loop(0, LOOP, lambda _, w: J.T @ w, v))
    forward, reverse = jax.jit(lambda J, v: J @ v), jax.jit(lambda J, v: J.T @ v)
    old = la.svds(before, K, rtol=1e-2)
    contenders = {
        "J v": lambda: forward(J, v),
        "Jᵀ w": lambda: reverse(J, v),
        "plain loop": lambda: plain(x, updated, v),
        "our loop": lambda: ours(J, v),
        "cold 1e-2": lambda: la.svds(J, K, rtol=1e-2),
        "cold 1e-3": lambda: la.svds(J, K, rtol=1e-3),
        "warm 1e-2": lambda: la.svds(J, K, rtol=1e-2, start=old),
        "density": lambda: la.spectral_density(J, key=jax.random.key(0), samples=16, steps=64).density,
    }
    seconds = median_seconds(contenders, repeats=7)
    product = (seconds["J v"] + seconds["Jᵀ w"]) / 2
    exact = la.svds(J, K, rtol=1e-5).S

    def values(name: str, target: str, **options) -> Row:
        found = la.svds(J, K, **options)
        residual = float((found.residuals / found.S[0]).max())
        error = float(jnp.abs(found.S - exact).max() / exact[0])
        detail = f"largest residual {residual:.1e} σ₁, largest error {error:.1e} σ₁; a product {1e3 * product:.2f} ms"
        return Row(f"{K} largest values, {name}", seconds[name] / product, "time / a product's", target, detail)

    detail = f"{LOOP} products: {1e3 * seconds['our loop']:.1f} against {1e3 * seconds['plain loop']:.1f} ms"
    return [
        Row("Jᵀ w in a loop", seconds["plain loop"] / seconds["our loop"], "jax.vjp's time / ours", "", detail),
        values("cold 1e-2", "≤ 300", rtol=1e-2),
        values("cold 1e-3", "≤ 800", rtol=1e-3),
        values("warm 1e-2", "≤ 60", rtol=1e-2, start=old),
        Row("density", seconds["density"] / product, "time / a product's", "≤ 2,300", "2,048 products"),
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
