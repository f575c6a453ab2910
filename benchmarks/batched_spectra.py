"""Singular values and eigenvalues of many small Jacobians at once, against NumPy's stacked routines.

`la.svdvals` and `la.eigvals` of a stack inside one compiled program and `numpy.linalg` on the same stack, in single
precision; nothing is moved between devices. Ours is a loop over LAPACK's routine, but for singular values of up to 32
rows or columns, which come from Gram matrices in double precision (`lax_linalg/dense/gram_svdvals.py`).
"""

from __future__ import annotations

import functools

import jax
import numpy as np

import lax_linalg as la
from benchmarks.harness import Row, median_seconds

STACKS = ((64, 32), (16, 128), (4, 256))


def rows() -> list[Row]:
    """A ratio for each stack and quantity."""
    found = []
    for count, n in STACKS:
        stack = jax.random.normal(jax.random.key(n), (count, n, n)) / n**0.5
        array = np.asarray(stack)
        for name, ours, peer in (
            ("singular values", la.svdvals, functools.partial(np.linalg.svd, compute_uv=False)),
            ("eigenvalues", la.eigvals, np.linalg.eigvals),
        ):
            compiled = jax.jit(jax.vmap(ours))
            contenders = {"ours": functools.partial(compiled, stack), "numpy": functools.partial(peer, array)}
            seconds = median_seconds(contenders)
            detail = f"{1e3 * seconds['ours']:.3g} ms"
            found.append(
                Row(f"{name} of {count} {n}×{n}", seconds["numpy"] / seconds["ours"], "NumPy / ours", "", detail)
            )
    return found
