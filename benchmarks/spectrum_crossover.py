"""When an estimated spectral density is cheaper than all singular values, for matrices and for matrix-free Jacobians.

Dense n×n Gaussian matrices, and the Jacobian of two tanh layers of width n, given by products. "Exact" is
`la.spectrum(A)`, "density" `la.spectrum(A, "density")` with its 16 vectors and 64 steps. The ratio is exact / density:
above 1 the estimate is cheaper. `python -m benchmarks.spectrum_crossover` writes the table of docs/spectra.md.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

import lax_linalg as la
from benchmarks.harness import Row, median_seconds

SIZES = (128, 256, 512, 1024, 2048)
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "spectra.md"


def two_layers(x: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.tanh(second @ jnp.tanh(first @ x))


def operators(n: int) -> dict[str, la.LinearOperator]:
    """What is measured at size n."""
    first, second = jax.random.normal(jax.random.key(n), (2, n, n)) / n**0.5
    x = jax.random.normal(jax.random.key(0), (n,))
    return {"matrix": la.Dense(first), "Jacobian": la.jacobian(two_layers, x, first, second)}


def seconds(A: la.LinearOperator, repeats: int) -> dict[str, float]:
    """Median seconds of both methods."""
    exact: Callable = jax.jit(lambda A: la.spectrum(A).singular_values)
    density: Callable = jax.jit(lambda A, key: la.spectrum(A, "density", key=key).density)
    key = jax.random.key(1)
    contenders = {"exact": functools.partial(exact, A), "density": functools.partial(density, A, key)}
    return median_seconds(contenders, repeats=repeats, warmup=1)


def measure(sizes: tuple[int, ...] = SIZES, repeats: int = 3) -> dict[tuple[str, int], dict[str, float]]:
    """(what, n) -> seconds of each method."""
    return {(what, n): seconds(A, repeats) for n in sizes for what, A in operators(n).items()}


def rows() -> list[Row]:
    """A ratio for each matrix."""
    return [
        Row(f"{what}, n = {n}", t["exact"] / t["density"], "exact / density", "", f"exact {t['exact']:.3g} s")
        for (what, n), t in measure().items()
    ]


def table(times: dict[tuple[str, int], dict[str, float]]) -> str:
    """The measured times in Markdown."""
    lines = ["| operator | n | exact, ms | density, ms | exact / density |", "| --- | ---: | ---: | ---: | ---: |"]
    for (what, n), t in times.items():
        ratio = t["exact"] / t["density"]
        lines.append(f"| {what} | {n} | {1e3 * t['exact']:.3g} | {1e3 * t['density']:.3g} | {ratio:.2g} |")
    return "\n".join(lines)


def main() -> None:
    from scripts.bench import machine

    text = f"{table(measure())}\n\nMeasured on {machine()}."
    page = PAGE.read_text()
    PAGE.write_text(
        re.sub(r"(<!-- table -->\n).*?(<!-- end -->)", lambda m: m[1] + text + "\n" + m[2], page, flags=re.S)
    )
    print(text)


if __name__ == "__main__":
    main()
