"""Triangular and Hessenberg matrices that test what an algorithm does near singularity and defectiveness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lax_linalg.core.dense import Dense
from lax_linalg.gallery.known import Known, empty, entrywise, require, require_size, stored
from lax_linalg.operators.triangular import UpperTriangular


def kahan(n: int, theta: float = 1.2, dtype: Any = None) -> Known:
    """Kahan's matrix diag(1, s … s^{n−1}) (I − c N − c N² − …), s = sin θ, c = cos θ: nearly singular unseen by QR.

    Column pivoting leaves it as it is, and R's last diagonal entry overestimates σ_n by a factor exponential in n.
    det = s^{n(n−1)/2}; A⁻¹[i, j] = c (1 + c)^{j−i−1} s^{−j} above the diagonal and s^{−i} on it, i, j from 0.

    Args:
        n: the size.
        theta: θ, 0 < θ < π.
        dtype: of the matrix.

    Returns:
        `Known(matrix, eigvals, det, logabsdet, inv)`, the matrix an `UpperTriangular`.

    Raises:
        DimensionMismatch: unless n ≥ 0.
        LinearAlgebraError: unless 0 < θ < π.

    Example:
        >>> kahan(3).matrix
        3×3 UpperTriangular{float32}

    Source: Kahan, Numerical linear algebra, Canadian Math. Bull. (1966); Higham (2002), 8.3.
    """
    n = require_size("kahan", n)
    require(0 < theta < math.pi, f"gallery.kahan takes 0 < θ < π, got {theta}")
    s, c = math.sin(theta), math.cos(theta)
    scales = s ** np.arange(n)
    matrix = scales[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1))
    steps = entrywise(n, lambda i, j: np.maximum(j - i - 1, 0))
    inverse = (np.eye(n) + np.triu(c * (1 + c) ** steps, 1)) / scales[None, :]
    logabsdet = n * (n - 1) / 2 * math.log(s)
    A = UpperTriangular(stored(matrix, dtype))
    return Known(A, eigvals=scales, det=math.exp(logabsdet), logabsdet=logabsdet, inv=inverse)


def frank(n: int, dtype: Any = None) -> Known:
    """Frank's upper Hessenberg matrix, A[i, j] = n + 1 − max(i, j) for j ≥ i − 1, i, j from 1; det = 1.

    The eigenvalues are positive and come in pairs λ, 1/λ, the small ones ill-conditioned: with the zeros x of the
    Hermite polynomial He_n they are (x/2 + √(1 + x²/4))².

    Args:
        n: the size.
        dtype: of the matrix.

    Returns:
        `Known(matrix, eigvals, det, logabsdet)`, the matrix a `Dense`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> frank(2).eigvals.round(4).tolist()
        [0.382, 2.618]

    Source: Frank, Computing eigenvalues of complex matrices by determinant evaluation, J. SIAM (1958); Varah, A
    generalization of the Frank matrix, SIAM J. Sci. Stat. Comput. (1986).
    """
    n = require_size("frank", n)
    if n == 0:
        return empty(dtype)
    matrix = np.triu(entrywise(n, lambda i, j: n + 1 - np.maximum(i, j)), -1)
    zeros, _ = np.polynomial.hermite_e.hermegauss(n)
    return Known(Dense(stored(matrix, dtype)), eigvals=np.exp(2 * np.arcsinh(zeros / 2)), det=1.0)
