"""How far is a matrix from a defective one? As far as the ε at which two components of its pseudospectrum meet.

python -m docs.gallery.nearest_defective    writes docs/gallery/nearest_defective.png

Left, pseudospectra of a random matrix, with the contour at the distance itself: the figure of eight around two
eigenvalues crosses at the multiple eigenvalue of the nearest defective matrix. Right, what defectiveness does to
powers: the entries λᵏ, kλ^{k−1} and k(k−1)/2 λ^{k−2} of J(λ)ᵏ for λ = 0.9.
"""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.figure import Figure

import lax_linalg as la

PICTURE = pathlib.Path(__file__).with_suffix(".png")


def main(order: int = 8, grid: int = 240, out: pathlib.Path = PICTURE) -> None:
    rng = np.random.default_rng(3)
    A = rng.normal(size=(order, order)) / np.sqrt(order)
    near = la.nearest_defective(A)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    half = 1.6 * abs(near.pair[1] - near.pair[0])
    box = (near.z.real - half, near.z.real + half, near.z.imag - half, near.z.imag + half)
    P = la.pseudospectrum(A, grid=grid, box=box)
    levels = near.upper * np.array([0.1, 0.3, 0.6, 1.0, 1.8, 3.0])
    la.plot.pseudospectrum(P, levels=levels, ax=left)
    left.plot(near.z.real, near.z.imag, "x", color="#d55e00", markersize=9, markeredgewidth=2)
    left.set_title(f"distance to defective: {near.lower:.2g} ≤ d, {near.upper:.3g} attained at ×", fontsize=11)
    k = np.arange(80)
    curve = np.asarray(la.jordan_curve(0.9, k, size=3))
    la.plot.axes(right)
    for j, name in enumerate(("λᵏ", "kλᵏ⁻¹", "k(k−1)/2 λᵏ⁻²")):
        right.plot(k, curve[:, j], label=name, linewidth=1.8, color=("#0072b2", "#d55e00", "#00835f")[j])
    right.set(xlabel="power k", ylabel="entry of J(0.9)ᵏ", xlim=(0, 79), ylim=(0, None))
    right.legend(frameon=False, fontsize=9)
    right.set_title("Jordan block: polynomial times exponential", fontsize=11)
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
