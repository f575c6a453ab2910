"""Powers that grow before they decay, and what the Kreiss constant proves about them.

python -m docs.gallery.transient_growth     writes docs/gallery/transient_growth.png

Left, ‖Aᵏ‖ of a Jordan block of size 8: each further vector of the chain adds a power of k to the exponential decay, so
the curve rises to its maximum although every eigenvalue is 0.7. Right, ‖e^{tA}‖ of advection with a little diffusion.
The dashed lines are certified: 𝒦 ≤ sup ‖Aᵏ‖ ≤ e n 𝒦.
"""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.figure import Figure

import lax_linalg as la

PICTURE = pathlib.Path(__file__).with_suffix(".png")


def advection(n: int, diffusion: float = 0.02, reaction: float = 9.0) -> np.ndarray:
    """ν u″ + u′ + r u with u = 0 at both ends of [0, 1], by central differences."""
    h = 1 / (n + 1)
    second = (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1)) / h**2
    return diffusion * second + (np.eye(n, k=1) - np.eye(n, k=-1)) / (2 * h) + reaction * np.eye(n)


def main(order: int = 48, out: pathlib.Path = PICTURE) -> None:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    J = la.JordanBlock(0.7, 8)
    la.plot.transient_growth(
        la.transient_growth(J, steps=80),
        kreiss=la.kreiss_constant(J),
        order=8,
        decay=0.7,
        title="Jordan block, 8×8, λ = 0.7",
        ax=left,
    )
    A = advection(order)
    la.plot.transient_growth(
        la.transient_growth(A, continuous=True, step=0.01, steps=300),
        kreiss=la.kreiss_constant(A, continuous=True),
        order=order,
        decay=float(np.linalg.eigvals(A).real.max()),
        continuous=True,
        title=f"advection and diffusion, {order} points",
        ax=right,
    )
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
