"""Where the routes to a Jacobian's entries cross over, and what method="auto" chooses by counted cost.

For each function all routes that can serve are timed; the ratio is that of the chosen one to the fastest, 1 where the
count chose right. The table behind it is in the details: milliseconds by route, the chosen one in brackets. The factors
in the counts (`convolution_factor`, SCATTER, PLACING) were set with the first group of functions in view. The second
group was put together afterwards, of other sizes, channels, kernels, strides, depths and kinds, and changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

import lax_linalg as la
from benchmarks.harness import Row, median_seconds
from lax_linalg.errors import LinearAlgebraError

Case = tuple[str, Callable[..., jax.Array], jax.Array, tuple]


def convolutions(size: int, channels: int, depth: int, *, k: int = 3, stride: int = 1, padding: str = "zero") -> Case:
    """A stack of k×k convolutions and tanh."""
    kernels = jax.random.normal(jax.random.key(0), (depth, k, k, channels, channels)) / (k * channels**0.5)

    def f(x: jax.Array, kernels: jax.Array) -> jax.Array:
        for l in range(depth):
            A = la.Convolution(kernels[l], x.shape[:2], stride=stride, padding=padding)
            x = jnp.tanh(A.apply(x[None])[0])
        return x

    x = jax.random.normal(jax.random.key(1), (size, size, channels))
    kind = f"conv {k}×{k}" + f", stride {stride}" * (stride > 1) + ", circular" * (padding == "circular")
    return f"{depth} × ({kind}, tanh), {size}×{size}×{channels}", f, x, (kernels,)


def classifier(size: int, channels: int, classes: int) -> Case:
    """Two convolutions, the second with stride 2, and a dense layer: few outputs."""
    keys = jax.random.split(jax.random.key(0), 4)
    kernels = [jax.random.normal(key, (3, 3, channels, channels)) / (3 * channels**0.5) for key in keys[:2]]
    head = jax.random.normal(keys[2], (classes, (size // 2) ** 2 * channels)) / size

    def f(x: jax.Array, first: jax.Array, second: jax.Array, head: jax.Array) -> jax.Array:
        x = jnp.tanh(la.Convolution(first, (size, size)).apply(x[None])[0])
        x = jnp.tanh(la.Convolution(second, (size, size), stride=2).apply(x[None])[0])
        return head @ x.reshape(-1)

    x = jax.random.normal(keys[3], (size, size, channels))
    return f"classifier of {classes}, {size}×{size}×{channels}", f, x, (*kernels, head)


def block(size: int, channels: int) -> Case:
    """A residual block of two convolutions."""
    _, f, x, args = convolutions(size, channels, 2)
    return f"x + f(x) of 2 convolutions, {size}×{size}×{channels}", lambda x, *args: x + f(x, *args), x, args


def pooled(size: int, channels: int) -> Case:
    """A convolution and a maximum over windows, which has no structure."""
    _, f, x, args = convolutions(size, channels, 1)

    def g(x: jax.Array, *args: jax.Array) -> jax.Array:
        y = f(x, *args)
        return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (2, 2, 1), (2, 2, 1), "VALID")

    return f"conv, tanh, maxima of 2×2, {size}×{size}×{channels}", g, x, args


def dense(n: int, depth: int) -> Case:
    """A stack of dense layers and tanh."""
    weights = jax.random.normal(jax.random.key(0), (depth, n, n)) / n**0.5

    def f(x: jax.Array, weights: jax.Array) -> jax.Array:
        for l in range(depth):
            x = jnp.tanh(weights[l] @ x)
        return x

    return f"{depth} × (dense, tanh), n = {n}", f, jax.random.normal(jax.random.key(1), (n,)), (weights,)


def pointwise(n: int) -> Case:
    """An elementwise function."""
    return f"tanh, n = {n}", jnp.tanh, jax.random.normal(jax.random.key(1), (n,)), ()


CASES = (
    *(lambda c=c: convolutions(*c) for c in ((4, 16, 2), (8, 8, 1), (8, 8, 2), (8, 8, 4), (16, 4, 2), (16, 4, 4))),
    *(lambda c=c: convolutions(*c) for c in ((32, 1, 2), (32, 1, 6))),
    *(lambda c=c: dense(*c) for c in ((128, 2), (512, 4))),
    lambda: pointwise(1024),
)
HELD_OUT = (
    *(lambda c=c: convolutions(*c) for c in ((10, 6, 1), (6, 12, 3), (12, 3, 2), (20, 2, 5), (5, 24, 2))),
    lambda: convolutions(12, 6, 2, k=5),
    lambda: convolutions(16, 6, 2, stride=2),
    lambda: convolutions(9, 5, 2, padding="circular"),
    lambda: block(10, 6),
    lambda: classifier(12, 6, 10),
    lambda: pooled(12, 4),
    lambda: dense(300, 3),
)


def rows() -> list[Row]:
    """One row per function, and the worst of those that nothing was fitted to."""
    fitted, held_out = ([_row(*case()) for case in cases] for cases in (CASES, HELD_OUT))
    worst = max(held_out, key=lambda row: row.ratio)
    right = sum(row.ratio == 1 for row in held_out)
    detail = f"{worst.name}; the fastest was chosen in {right} of {len(held_out)}"
    return [*fitted, *held_out, Row("worst choice of the second group", worst.ratio, worst.unit, "≤ 2", detail)]


def _row(name: str, f: Callable[..., jax.Array], x: jax.Array, args: tuple) -> Row:
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
    return Row(name, seconds[chosen] / min(seconds.values()), "chosen time / fastest", "≤ 2", times)


if __name__ == "__main__":
    for row in rows():
        print(row)
