"""Spectra and systems of structured matrices against dense algebra."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import lax_linalg as la
from benchmarks.harness import Row, median_seconds


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
