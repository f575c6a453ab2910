"""Where the routes to a Jacobian's entries cross over, and what method="auto" chooses by counted cost.

For each function all routes that can serve are timed; the ratio is that of the chosen one to the fastest, 1 where the
count chose right. The table behind it is in the details: milliseconds by route, the chosen one in brackets.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

import lax_linalg as la
from benchmarks.harness import Row, median_seconds
from lax_linalg.errors import LinearAlgebraError


def convolutions(size: int, channels: int, depth: int) -> tuple[str, Callable[..., jax.Array], jax.Array, tuple]:
    """A stack of 3×3 convolutions and tanh."""
    kernels = jax.random.normal(jax.random.key(0), (depth, 3, 3, channels, channels)) / (3 * channels**0.5)

    def f(x: jax.Array, kernels: jax.Array) -> jax.Array:
        for l in range(depth):
            x = jnp.tanh(la.Convolution(kernels[l], (size, size)).apply(x[None])[0])
        return x

    x = jax.random.normal(jax.random.key(1), (size, size, channels))
    return f"{depth} × (conv 3×3, tanh), {size}×{size}×{channels}", f, x, (kernels,)


def dense(n: int, depth: int) -> tuple[str, Callable[..., jax.Array], jax.Array, tuple]:
    """A stack of dense layers and tanh."""
    weights = jax.random.normal(jax.random.key(0), (depth, n, n)) / n**0.5

    def f(x: jax.Array, weights: jax.Array) -> jax.Array:
        for l in range(depth):
            x = jnp.tanh(weights[l] @ x)
        return x

    return f"{depth} × (dense, tanh), n = {n}", f, jax.random.normal(jax.random.key(1), (n,)), (weights,)


def pointwise(n: int) -> tuple[str, Callable[..., jax.Array], jax.Array, tuple]:
    """An elementwise function."""
    return f"tanh, n = {n}", jnp.tanh, jax.random.normal(jax.random.key(1), (n,)), ()


CASES = (
    *(lambda c=c: convolutions(*c) for c in ((4, 16, 2), (8, 8, 1), (8, 8, 2), (8, 8, 4), (16, 4, 2), (16, 4, 4))),
    *(lambda c=c: convolutions(*c) for c in ((32, 1, 2), (32, 1, 6))),
    *(lambda c=c: dense(*c) for c in ((128, 2), (512, 4))),
    lambda: pointwise(1024),
)


def rows() -> list[Row]:
    """One row per function."""
    found = []
    for case in CASES:
        name, f, x, args = case()
        contenders = {}
        for method in ("dense", "structured", "coloured"):
            J = la.jacobian(f, x, *args, method=method)
            try:
                J.route()
            except LinearAlgebraError:
                continue
            contenders[method] = lambda J=J: la.materialize(J)
        seconds = median_seconds(contenders, repeats=5)
        chosen = la.jacobian(f, x, *args).route().method
        times = ", ".join(f"{f'[{m}]' if m == chosen else m} {1e3 * s:.2f} ms" for m, s in seconds.items())
        found.append(Row(name, seconds[chosen] / min(seconds.values()), "chosen time / fastest", "≤ 2", times))
    return found


if __name__ == "__main__":
    for row in rows():
        print(row)
