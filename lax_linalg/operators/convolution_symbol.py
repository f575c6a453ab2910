"""The symbol of a circular convolution: the small matrices that the DFT leaves on the diagonal.

With stride S the input is read in S phases a dimension (space to depth): x_r[l] = x[l S + r]. On the coarse grid of the
outputs the convolution of the phases has stride 1, so that the DFT over that grid turns it into one block

    B(f)[o, (r, i)] = Σ_t w_t[i, o] e^{2πi f q_t / M}   over the taps t with offset t D − p = q_t S + r

for each frequency f: [cout, S^d cin] in place of a matrix of the whole image. A real kernel has B(−f) = conj B(f), so
that half of the frequencies tell all; the few with −f = f have real blocks.

Sources: Sedghi, Gupta & Long, The singular values of convolutional layers, ICLR (2019), for stride 1;
Vaidyanathan, Multirate Systems and Filter Banks (1993), 4.3, for polyphase components.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.operators.convolution_geometry import Axis

# Up to this many taps a matrix product with the phases beats FFTs of kernels padded to the image's size (`python -m
# benchmarks.convolution_spectrum` prints both around it).
FEW_TAPS = 128
PHASES = 2**22  # largest table of phases that may be built: 32 MiB in complex64


def grid_of(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The coarse grid, which is the outputs' size."""
    return tuple(a.inputs // a.stride for a in axes)


@functools.lru_cache(maxsize=64)
def conjugate_classes(grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The frequencies equal to their negatives, and one of each pair (f, −f) of the others, [count, d] each.

    Those of the pairs lie in the half grid that `jnp.fft.rfftn` keeps.

    Example:
        >>> alone, paired = conjugate_classes((4,))
        >>> print(alone.T, paired.T)
        [[0 2]] [[1]]
    """
    all_ = full_grid(grid)
    negative = -all_ % np.array(grid)
    # compared from the last axis on, because that is the one which rfftn halves
    weights = np.cumprod([1, *grid[:0:-1]])[::-1] if False else np.cumprod([1, *grid[:-1]])
    key, negative_key = all_ @ weights, negative @ weights
    return all_[key == negative_key], all_[key < negative_key]


def full_grid(grid: Sequence[int]) -> np.ndarray:
    """All frequencies in C order, [∏ grid, d]."""
    return np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1).reshape(-1, len(grid))


def half_grid(grid: Sequence[int]) -> np.ndarray:
    """The frequencies that `jnp.fft.rfftn` keeps, in C order."""
    return full_grid((*grid[:-1], grid[-1] // 2 + 1))
