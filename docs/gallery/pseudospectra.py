"""Eigenvalues tell little about a non-normal matrix: its pseudospectra show what a small perturbation can do.

python -m docs.gallery.pseudospectra        writes docs/gallery/pseudospectra.png

Left, the Grcar matrix: perturbations of 10⁻⁴ move eigenvalues by more than their distance from each other. Right, a
recurrent state-to-state Jacobian diag(φ') W whose weights are a delay line with very weak feedback: every eigenvalue
has a modulus below 0.8, but perturbations of a few per cent reach the unit circle.
"""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import lax_linalg as la

PICTURE = pathlib.Path(__file__).with_suffix(".png")


def grcar(n: int) -> np.ndarray:
    ones = np.ones((n, n))
    return np.triu(ones) - np.triu(ones, 4) - np.eye(n, k=-1)


def recurrent_jacobian(n: int) -> la.Jacobian:
    """∂h'/∂h of h' = tanh(Wh + b) for a delay line with a trace of random feedback."""
    key, other = jax.random.split(jax.random.key(0))
    W = 0.95 * jnp.eye(n, k=1) + 1e-5 / jnp.sqrt(n) * jax.random.normal(key, (n, n))
    b = 0.2 * jax.random.normal(other, (n,))
    return la.jacobian(lambda h: jnp.tanh(W @ h + b), jnp.zeros(n))


def main(order: int = 64, grid: int = 160, out: pathlib.Path = PICTURE) -> None:
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    A = grcar(order)
    P = la.pseudospectrum(A, grid=grid, box=(-2.2, 4.2, -4.2, 4.2))
    la.plot.pseudospectrum(P, numerical_range=la.numerical_range(A), title=f"Grcar matrix, {order}×{order}", ax=left)
    J = recurrent_jacobian(order)
    P = la.pseudospectrum(J, grid=grid, box=(-1.6, 1.6, -1.6, 1.6))
    la.plot.pseudospectrum(
        P,
        levels=10.0 ** np.arange(-8, 0),
        numerical_range=la.numerical_range(J),
        unit_circle=True,
        title=f"recurrent Jacobian, {order}×{order}",
        ax=right,
    )
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
