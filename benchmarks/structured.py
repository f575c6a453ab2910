"""Spectra and systems of structured matrices against dense algebra, and how their time grows with the size.

`python -m benchmarks.structured` draws the growth curves beside the claimed orders into docs/growth.png.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lax_linalg as la
from benchmarks.harness import Row, median_seconds

PICTURE = pathlib.Path(__file__).parent.parent / "docs" / "growth.png"


def rows() -> list[Row]:
    """The Kronecker spectrum and the Woodbury solve against LAPACK on the dense matrix."""
    return [kronecker(), woodbury()]


def kronecker(n: int = 32) -> Row:
    """Singular values of a Kronecker product of two n×n matrices."""
    a, b = (jax.random.normal(key, (n, n)) for key in jax.random.split(jax.random.key(0)))
    A = la.Kronecker(a, b)
    dense = la.materialize(A)
    ours, theirs = jax.jit(la.svdvals), jax.jit(lambda x: jnp.linalg.svd(x, compute_uv=False))
    np.testing.assert_allclose(ours(A), theirs(dense), rtol=1e-3, atol=1e-2)
    seconds = median_seconds({"ours": lambda: ours(A), "dense": lambda: theirs(dense)}, repeats=3, warmup=1)
    return _row(f"Kronecker svdvals, {n} ⊗ {n}", seconds)


def woodbury(n: int = 4096, k: int = 16) -> Row:
    """Solution of (D + U Vᴴ) x = b for one right-hand side."""
    d, U, V, b = _low_rank_system(n, k)
    A = la.Diagonal(d) + la.LowRank(U, V)
    dense = la.materialize(A)
    ours, theirs = jax.jit(la.solve), jax.jit(jnp.linalg.solve)
    np.testing.assert_allclose(ours(A, b), theirs(dense, b), rtol=1e-2, atol=1e-3)
    seconds = median_seconds({"ours": lambda: ours(A, b), "dense": lambda: theirs(dense, b)}, repeats=3, warmup=1)
    return _row(f"diagonal plus low rank solve, n = {n}, k = {k}", seconds)


def _low_rank_system(n: int, k: int) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(1), 4)
    d = 1 + jax.random.uniform(keys[0], (n,))
    U, V = (jax.random.normal(key, (n, k)) / n**0.5 for key in keys[1:3])
    return d, U, V, jax.random.normal(keys[3], (n,))


def _row(name: str, seconds: dict[str, float]) -> Row:
    detail = f"{seconds['ours'] * 1e3:.3g} ms against {seconds['dense'] * 1e3:.3g} ms"
    return Row(name, seconds["dense"] / seconds["ours"], "LAPACK on the dense matrix / ours", "≥ 100", detail)


# --- growth ---


def _one(seed: int, n: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (n,))


def curves() -> dict[str, tuple[str, Callable[[float], float], tuple[int, ...], Callable[[int], Callable[[], Any]]]]:
    """name -> (claimed order, the order as a function of n, sizes, n -> a call to time)."""
    product, svdvals, solve = jax.jit(lambda A, x: A @ x), jax.jit(la.svdvals), jax.jit(la.solve)
    n_log_n = lambda n: n * np.log2(n)  # noqa: E731
    powers = lambda low, high: tuple(2**k for k in range(low, high + 1))  # noqa: E731

    def toeplitz(n: int) -> Callable[[], Any]:
        A, x = la.Toeplitz(_one(0, n), _one(1, n)), _one(2, n)
        return lambda: product(A, x)

    def circulant(n: int) -> Callable[[], Any]:
        A, x = la.Circulant(_one(0, n)), _one(2, n)
        return lambda: product(A, x)

    def circulant_values(n: int) -> Callable[[], Any]:
        A = la.Circulant(_one(0, n))
        return lambda: svdvals(A)

    def tridiagonal(n: int) -> Callable[[], Any]:
        A, b = la.Tridiagonal(_one(0, n - 1), 4 + _one(1, n), _one(2, n - 1)), _one(3, n)
        return lambda: solve(A, b)

    def low_rank(n: int) -> Callable[[], Any]:
        d, U, V, b = _low_rank_system(n, 16)
        A = la.Diagonal(d) + la.LowRank(U, V)
        return lambda: solve(A, b)

    def kronecker_values(n: int) -> Callable[[], Any]:
        m = round(n**0.5)
        A = la.Kronecker(_one(0, m * m).reshape(m, m), _one(1, m * m).reshape(m, m))
        return lambda: svdvals(A)

    def dense_values(n: int) -> Callable[[], Any]:
        A = la.Dense(_one(0, n * n).reshape(n, n))
        return lambda: svdvals(A)

    return {
        "Toeplitz product": ("n log n", n_log_n, powers(11, 18), toeplitz),
        "circulant product": ("n log n", n_log_n, powers(11, 18), circulant),
        "circulant svdvals": ("n log n", n_log_n, powers(11, 18), circulant_values),
        "tridiagonal solve": ("n", lambda n: n, powers(11, 18), tridiagonal),
        "diagonal + rank 16 solve": ("n", lambda n: n, powers(11, 18), low_rank),
        "Kronecker svdvals, √n ⊗ √n": ("n log n", n_log_n, tuple(4**k for k in range(4, 9)), kronecker_values),
        "dense svdvals": ("n³", lambda n: n**3, powers(6, 9), dense_values),
    }


def growth() -> dict[str, list[tuple[int, float]]]:
    """name -> the measured (n, seconds)."""
    measured = {}
    for name, (_, _, sizes, make) in curves().items():
        measured[name] = [(n, median_seconds({"": make(n)}, repeats=9)[""]) for n in sizes]
    return measured


def draw(measured: dict[str, list[tuple[int, float]]], path: pathlib.Path = PICTURE) -> None:
    """The measured times on logarithmic axes, each beside its claimed order through its last point."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8.5, 5.5))
    for color, (name, (order, function, _, _)) in zip(plt.get_cmap("tab10").colors, curves().items()):
        n, t = (np.array(x, float) for x in zip(*measured[name]))
        axes.loglog(n, t * 1e3, "o-", color=color, markersize=4, label=f"{name}: O({order})")
        claimed = np.array([function(x) for x in n])
        axes.loglog(n, claimed / claimed[-1] * t[-1] * 1e3, ":", color=color, linewidth=1)
    axes.set_xlabel("n")
    axes.set_ylabel("milliseconds")
    axes.set_title("Time of one call (points) and its claimed order (dotted, through the last point)", fontsize=10)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(growth())
    print(PICTURE)
