"""Pseudospectra against one SVD a grid point, and Kreiss constants against closed forms.

The peer is the loop one would write: `np.linalg.svd(z * I - A, compute_uv=False)[-1]` at every point of the grid. All
of its 40,000 points would take half an hour, so the loop is timed on 200 of them, at random, in turns with our runs,
and scaled. The values are checked everywhere: that σ_min(zI − A) lies within 10⁻⁶ ‖A‖₂ of ours is a question about the
inertia of the banded matrix (zI − A)ᴴ(zI − A) − s²I, which a banded Cholesky factorisation answers at once.
"""

from __future__ import annotations

import time

import numpy as np
import scipy.linalg

import lax_linalg as la
from benchmarks.harness import Row

ORDER, GRID, POINTS = 256, 200, 200
BOX = (-2.0, 4.0, -4.0, 4.0)


def grcar(n: int) -> np.ndarray:
    """Minus one below the diagonal, ones on it and on the three diagonals above."""
    ones = np.ones((n, n))
    return np.triu(ones) - np.triu(ones, 4) - np.eye(n, k=-1)


def svd_loop(A: np.ndarray, z: np.ndarray) -> np.ndarray:
    """σ_min(zI − A) point by point."""
    eye = np.eye(len(A))
    return np.array([np.linalg.svd(w * eye - A, compute_uv=False)[-1] for w in z])


def agreement(A: np.ndarray, P: la.Pseudospectrum, within: float, band: int = 4) -> float:
    """Share of the grid points where s − δ ≤ σ_min(zI − A) ≤ s + δ for our value s and δ = within·‖A‖₂.

    Args:
        A: banded, such that AᴴA has at most `band` diagonals on either side.
        P: our values.
        within: δ/‖A‖₂, well above √ε, because squares are compared.
        band: diagonals on either side.
    """
    delta = within * P.norm

    def bands(matrix: np.ndarray) -> np.ndarray:
        return np.stack([np.append(np.diagonal(matrix, -d), np.zeros(d)) for d in range(band + 1)])

    gram, below, above = bands(A.conj().T @ A), bands(A), bands(A.conj().T)

    def positive(z: complex, s: float) -> bool:
        shifted = gram - z.conjugate() * below - z * above
        shifted[0] += abs(z) ** 2 - s * s
        return scipy.linalg.lapack.zpbtrf(shifted, lower=1)[1] == 0

    good = [
        not positive(z, s + delta) and (s <= delta or positive(z, s - delta))
        for z, s in zip(P.grid.ravel(), P.sigma_min.ravel())
    ]
    return float(np.mean(good))


def measure(order: int = ORDER, grid: int = GRID, points: int = POINTS, rounds: int = 3) -> dict[str, float]:
    """Seconds of ours on the whole grid and of the loop scaled to it, the largest difference, the agreeing share."""
    A = grcar(order)
    rng = np.random.default_rng(0)
    P = la.pseudospectrum(A, grid=grid, box=BOX)  # compiles
    ours, loop, difference = [], [], 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        P = la.pseudospectrum(A, grid=grid, box=BOX)
        ours.append(time.perf_counter() - start)
        k, j = rng.integers(0, grid, (2, points // rounds))
        start = time.perf_counter()
        sigma = svd_loop(A, P.grid[k, j])
        loop.append((time.perf_counter() - start) / len(k) * grid**2)
        difference = max(difference, float(np.abs(sigma - P.sigma_min[k, j]).max() / P.norm))
    return {
        "ours": float(np.median(ours)),
        "loop": float(np.median(loop)),
        "difference": difference,
        "agreement": agreement(A, P, 1e-6),
    }


def kreiss_examples() -> list[tuple[str, float, la.KreissConstant]]:
    """Constants with a closed form or of one variable, and our certificates."""

    def best(function, low: float, high: float) -> float:
        x = np.geomspace(low, high, 200_001)
        return float(function(x).max())

    def nilpotent(b: float) -> float:
        return best(lambda d: d / (1 + d) * (b / 2 / (1 + d) + np.hypot(1, b / 2 / (1 + d))), 1e-6, 1e6)

    def two_by_two(b: float) -> float:  # [[−1, b], [0, −2]] in continuous time: the maximum lies on the real axis
        def value(x):
            p, q = (x + 1) ** 2, (x + 2) ** 2
            s = p + q + b * b
            return x * np.sqrt((s + np.sqrt(s * s - 4 * p * q)) / (2 * p * q))

        return best(value, 1e-4, 1e4)

    return [
        ("[[0, 8], [0, 0]], 17/8", 17 / 8, la.kreiss_constant([[0.0, 8.0], [0.0, 0.0]])),
        ("[[0, 100], [0, 0]]", nilpotent(100.0), la.kreiss_constant([[0.0, 100.0], [0.0, 0.0]])),
        ("[[-1, 5], [0, -2]], e^tA", two_by_two(5.0), la.kreiss_constant([[-1.0, 5.0], [0.0, -2.0]], continuous=True)),
    ]


def rows() -> list[Row]:
    """The speed on a Grcar matrix, and how wide the certificates of Kreiss constants are around known values."""
    found = measure()
    detail = (
        f"{ORDER}×{ORDER} Grcar, {GRID}×{GRID} grid: {found['ours']:.1f} s, loop {found['loop']:.0f} s scaled from "
        f"{POINTS} points, where σ_min differs by {found['difference']:.1e} ‖A‖; within 1e-6 ‖A‖ at "
        f"{100 * found['agreement']:.6g} % of all points"
    )
    table = [Row("pseudospectrum", found["loop"] / found["ours"], "SVD loop / ours", "≥ 10", detail)]
    for name, want, K in kreiss_examples():
        holds = "holds" if K.lower <= want * (1 + 1e-9) and want <= K.upper * (1 + 1e-9) else "FAILS"
        detail = f"{K.lower:.6g} ≤ {want:.6g} ≤ {K.upper:.6g}: {holds}"
        table.append(Row(f"Kreiss constant of {name}", K.upper / K.lower, "upper / lower", "≤ 1.001", detail))
    return table


if __name__ == "__main__":
    for row in rows():
        print(row)
