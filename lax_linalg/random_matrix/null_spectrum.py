"""Whether a matrix's singular values are those of random entries: drawn spectra of the same size, at a fitted scale."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from lax_linalg.random_matrix.tracy_widom import TracyWidom

SAMPLES, LEVEL, EDGE_LEVEL = 19, 0.05, 0.01
"""With 19 drawn spectra the least p-value is 1/20, at which randomness is rejected."""


class NullTest(NamedTuple):
    """What `NullSpectrum.test` found.

    Attributes:
        edge: the singular value that the largest one of a random matrix exceeds with a chance of 1 % in the limit of
            large sizes (Tracy–Widom), or the largest of the drawn ones if that is more: with 5 % at any size.
        outside: number of values beyond it.
        distance: Kolmogorov–Smirnov distance from the drawn spectra.
        p_value: chance of a distance as large.
        verdict: "random", "random with k outside" or "not random".

    Example:
        >>> NullTest(2.0, 0, 0.01, 0.5, "random").outside
        0
    """

    edge: float
    outside: int
    distance: float
    p_value: float
    verdict: str


class NullSpectrum(NamedTuple):
    """Spectra of random matrices of one size, whose entries have variance 1.

    Attributes:
        squares: [S, k] squared singular values, each spectrum rising.
        edge: their edge, as of `NullTest`, squared.

    Example:
        >>> null_spectrum(8, 8).squares.shape
        (19, 8)
    """

    squares: np.ndarray
    edge: float

    def test(self, singular_values: np.ndarray) -> NullTest:
        """Compare a spectrum, whose scale is unknown, with the drawn ones.

        All spectra are divided by their medians, which values outside do not move. The distance of each from all
        the others together has the same law if the matrix is random, so that its rank is a p-value at any size.

        Example:
            >>> s = np.linalg.svd(np.random.default_rng(1).standard_normal((30, 40)), compute_uv=False)
            >>> null_spectrum(30, 40).test(7 * s).verdict
            'random'
        """
        x = np.sort(np.asarray(singular_values, np.float64))
        middle, unit = float(np.median(x)), float(np.median(self.squares))
        if not middle > 0:
            return NullTest(float("nan"), 0, 1.0, 1 / (SAMPLES + 1), "not random")
        drawn = self.squares / np.median(self.squares, axis=1, keepdims=True)
        spectra = [(x / middle) ** 2, *drawn]
        everything = np.sort(np.concatenate([_resampled(s, drawn.shape[1]) for s in spectra]))
        distances = np.array([_ks(s, everything) for s in spectra]) * (SAMPLES + 1) / SAMPLES
        p = float(np.sum(distances >= distances[0] * (1 - 1e-9))) / (SAMPLES + 1)
        edge = middle * float(np.sqrt(max(self.edge / unit, drawn.max())))
        outside = int(np.sum(x > edge))
        verdict = "not random" if p <= LEVEL else "random" if outside == 0 else f"random with {outside} outside"
        return NullTest(edge, outside, float(distances[0]), p, verdict)


@functools.lru_cache(maxsize=128)
def null_spectrum(rows: int, columns: int, *, blocks: int = 1, beta: int = 1, maxima: int = 1) -> NullSpectrum:
    """Draw spectra of Gaussian matrices by their bidiagonal models.

    A circular convolution with a random kernel of t taps is a direct sum of complex Gaussian matrices, one for each
    frequency, of which t are independent: blocks = t, beta = 2, and maxima = the number of frequencies.

    Args:
        rows, columns: of the matrix, or of each block.
        blocks: how many independent blocks there are.
        beta: 1 for real entries, 2 for complex ones of variance 1.
        maxima: number of blocks whose largest values count for the edge (a bound by Bonferroni's inequality).

    Returns:
        `NullSpectrum`, which is kept for the next layer of the same sizes.

    Cost: O(19 · blocks · min(rows, columns)²).

    Source: Dumitriu & Edelman, J. Math. Phys. 43 (2002), for the bidiagonal model; Johnstone (2001) for the edge.

    Example:
        >>> null = null_spectrum(100, 100)
        >>> bool(380 < null.squares.max() < 420), round(null.edge)  # (√99 + √100)² and a little more
        (True, 422)
    """
    from scipy.linalg import eigvalsh_tridiagonal

    short, long = min(rows, columns), max(rows, columns)
    draw = np.random.default_rng([rows, columns, blocks, beta])
    squares = np.empty((SAMPLES, blocks, short))
    for sample in range(SAMPLES):
        for block in range(blocks):
            # lower bidiagonal L with χ variables of falling degrees, whose L Lᵀ is tridiagonal
            main = np.sqrt(draw.chisquare(beta * (long - np.arange(short))) / beta)
            below = np.sqrt(draw.chisquare(beta * np.arange(short - 1, 0, -1)) / beta)
            diagonal = main**2 + np.concatenate([[0.0], below**2])
            squares[sample, block] = eigvalsh_tridiagonal(diagonal, below * main[:-1])
    law = TracyWidom.wishart(rows, columns, variance=columns, beta=beta)
    edge = float(law.quantile(1 - EDGE_LEVEL / maxima))
    return NullSpectrum(np.sort(np.maximum(squares, 0).reshape(SAMPLES, -1), axis=1), edge)


def _resampled(values: np.ndarray, count: int) -> np.ndarray:
    """The quantiles of a spectrum at `count` places, so that every spectrum has the same weight."""
    if len(values) == count:
        return values
    return np.quantile(values, (np.arange(count) + 0.5) / count, method="inverted_cdf")


def _ks(x: np.ndarray, everything: np.ndarray) -> float:
    """sup |F_x − F| over the jumps of both."""
    y = np.concatenate([x, everything])
    sides = ("left", "right")
    return max(
        float(np.max(np.abs(np.searchsorted(x, y, s) / len(x) - np.searchsorted(everything, y, s) / len(everything))))
        for s in sides
    )
