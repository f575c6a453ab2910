"""Reverse-mode derivatives against central differences, the value and its gradient from one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

STEP = 1e-4


def weighted(f: Callable[[jax.Array], Any]) -> Callable[[jax.Array], jax.Array]:
    """x ↦ Σ w · f(x) for fixed random weights w of every number that f returns."""

    def total(x: jax.Array) -> jax.Array:
        leaves = jax.tree.leaves(f(x))
        return sum(jnp.vdot(np.random.default_rng(i).standard_normal(y.shape), y).real for i, y in enumerate(leaves))  # type: ignore[return-value]

    return total


def check_gradient(
    f: Callable[[jax.Array], Any], x: Any, *, rtol: float = 1e-5, atol: float = 1e-5, jit: Callable = jax.jit
) -> Callable:
    """Compare ⟨∇(w · f), t⟩ with the central difference along a random direction t; give x ↦ (w · f, ∇(w · f))."""
    x = np.asarray(x)
    program = jit(jax.value_and_grad(weighted(f)))
    t = np.random.default_rng(7).standard_normal(x.shape)
    slope = (program(x + STEP * t)[0] - program(x - STEP * t)[0]) / (2 * STEP)
    np.testing.assert_allclose(np.sum(np.asarray(program(x)[1]) * t), slope, rtol=rtol, atol=atol)
    return program
