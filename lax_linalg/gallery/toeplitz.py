"""Matrices with constant diagonals, or constant antidiagonals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lax_linalg.gallery.known import Known, empty, normal, require, require_size, stored
from lax_linalg.operators.circulant import Circulant
from lax_linalg.operators.toeplitz import Toeplitz


def kms(n: int, rho: float = 0.5, dtype: Any = None) -> Known:
    """The Kac–Murdock–Szegő matrix A[i, j] = ρ^|i−j|, the correlations of a first-order autoregression.

    det = (1 − ρ²)^{n−1}; the inverse is tridiagonal, 1 + ρ² on (1 at its ends) and −ρ beside the diagonal over 1 − ρ².

    Args:
        n: the size.
        rho: ρ, |ρ| < 1: positive definite.
        dtype: of the matrix.

    Returns:
        `Known(matrix, det, logabsdet, inv, cholesky, norm)`, the matrix a `Toeplitz`.

    Raises:
        DimensionMismatch: unless n ≥ 0.
        LinearAlgebraError: unless |ρ| < 1.

    Example:
        >>> kms(3, 0.5).det
        0.5625

    Source: Kac, Murdock & Szegő, On the eigenvalues of certain Hermitian forms, J. Rational Mech. Anal. (1953).
    """
    n = require_size("kms", n)
    if n == 0:
        return empty(dtype)
    require(abs(rho) < 1, f"gallery.kms takes |ρ| < 1, got {rho}")
    rest = (1 - rho) * (1 + rho)
    main = np.full(n, 1 + rho**2)
    main[0] = main[-1] = 1 if n > 1 else rest
    beside = np.full(n - 1, -rho)
    inverse = (np.diag(main) + np.diag(beside, 1) + np.diag(beside, -1)) / rest
    powers = float(rho) ** np.arange(n)
    factor = np.array([[powers[i - j] if i >= j else 0.0 for j in range(n)] for i in range(n)])
    factor[:, 1:] *= math.sqrt(rest)
    k = np.arange(1, n)
    frobenius = math.sqrt(n + 2 * float(np.sum((n - k) * powers[1:] ** 2)))
    logabsdet = (n - 1) * math.log(rest)
    A = Toeplitz(stored(powers, dtype))
    return Known(A, det=rest ** (n - 1), logabsdet=logabsdet, inv=inverse, cholesky=factor, norm=frobenius)


def grcar(n: int, k: int = 3, dtype: Any = None) -> Known:
    """Grcar's matrix: −1 below the diagonal, 1 on it and on k diagonals above; sensitive eigenvalues, well-conditioned.

    det is the n-th term of d_n = d_{n−1} + … + d_{n−1−k} with d_0 = 1 and d_j = 0 for j < 0: Fibonacci's for k = 1.

    Args:
        n: the size.
        k: the number of superdiagonals.
        dtype: of the matrix.

    Returns:
        `Known(matrix, det, logabsdet, norm)`, the matrix a `Toeplitz`.

    Raises:
        DimensionMismatch: unless n ≥ 0 and k ≥ 0.

    Example:
        >>> grcar(100).matrix
        100×100 Toeplitz{float32}
        >>> grcar(5, 1).det
        8.0

    Source: Trefethen & Embree, Spectra and Pseudospectra (2005), section 7.
    """
    n, k = require_size("grcar", n), require_size("grcar", k, 0)
    if n == 0:
        return empty(dtype)
    column, row = np.zeros(n), np.zeros(n)
    column[:2] = [1, -1][:n]
    row[: k + 1] = 1
    # expanding along the last column: the minors of the Hessenberg matrix, the −1 below turning every sign
    minors = [1]
    for _ in range(n):
        minors.append(sum(minors[-1 - k :]))
    det = minors[-1]
    count = n + (n - 1) + sum(max(n - j, 0) for j in range(1, k + 1))
    A = Toeplitz(stored(column, dtype), stored(row, dtype))
    return Known(A, det=float(det), logabsdet=math.log(det), norm=math.sqrt(count))


def prolate(n: int, w: float = 0.25, dtype: Any = None) -> Known:
    """The prolate matrix A[i, j] = sin(2πw(i − j))/(π(i − j)), 2w on the diagonal: eigenvalues crowd at 0 and 1.

    Symmetric positive definite, κ growing exponentially in n; its eigenvectors, the discrete prolate spheroidal
    sequences, are those of a tridiagonal matrix that it commutes with (`prolate_commuting`).

    Args:
        n: the size.
        w: the half bandwidth, 0 < w < ½.
        dtype: of the matrix.

    Returns:
        `Known(matrix, norm)`, the matrix a `Toeplitz`.

    Raises:
        DimensionMismatch: unless n ≥ 0.
        LinearAlgebraError: unless 0 < w < ½.

    Example:
        >>> prolate(20).matrix
        20×20 Toeplitz{float32}

    Source: Varah, The prolate matrix, Linear Algebra Appl. (1993); Slepian, Bell System Tech. J. (1978).
    """
    n = require_size("prolate", n)
    if n == 0:
        return empty(dtype)
    require(0 < w < 0.5, f"gallery.prolate takes 0 < w < ½, got {w}")
    k = np.arange(1.0, n)
    rest = np.sin(2 * np.pi * w * k) / (np.pi * k)
    frobenius = math.sqrt(n * (2 * w) ** 2 + 2 * float(np.sum((n - k) * rest**2)))
    return Known(Toeplitz(stored(np.r_[2 * w, rest], dtype)), norm=frobenius)


def prolate_commuting(n: int, w: float = 0.25) -> np.ndarray:
    """The symmetric tridiagonal matrix that commutes with `prolate(n, w)`, with well separated eigenvalues.

    Diagonal ((n − 1)/2 − i)² cos 2πw, i = 0 … n − 1; i (n − i)/2 beside it, i = 1 … n − 1.

    Args:
        n: the size.
        w: the half bandwidth.

    Returns:
        The matrix [n, n], a NumPy array.

    Example:
        >>> float(prolate_commuting(2)[0, 1])
        0.5

    Source: Slepian, Prolate spheroidal wave functions V: the discrete case, Bell System Tech. J. (1978).
    """
    i = np.arange(n)
    beside = i[1:] * (n - i[1:]) / 2
    return np.diag(((n - 1) / 2 - i) ** 2 * math.cos(2 * math.pi * w)) + np.diag(beside, 1) + np.diag(beside, -1)


def circulant(eigenvalues: Any, dtype: Any = None) -> Known:
    """The circulant matrix with these eigenvalues λ_k, k = 0 … n − 1 in the order of the DFT.

    Args:
        eigenvalues: [n]; real where the matrix is symmetric with λ_k = λ_{n−k}, complex in general.
        dtype: of the matrix; complex unless λ_{n−k} is the conjugate of λ_k.

    Returns:
        `Known(matrix, eigvals, svdvals, det, logabsdet, inv, cond, norm)`, `inv` where no eigenvalue is 0; the matrix a
        `Circulant`.

    Example:
        >>> circulant([3.0, 1.0, 1.0]).matrix
        3×3 Circulant{float32}
    """
    w = np.asarray(eigenvalues, complex)
    n = w.size
    if n == 0:
        return empty(dtype)
    real = bool(np.all(w == np.roll(w[::-1], 1).conj()))

    def column(values: np.ndarray) -> np.ndarray:
        c = np.fft.ifft(values)
        return c.real if real else c

    index = (np.arange(n)[:, None] - np.arange(n)[None, :]) % n
    inverse = column(1 / w)[index] if w.all() else None
    det = np.prod(w)
    return normal(
        Circulant(stored(column(w), dtype)),
        w,
        det=float(det.real) if real else complex(det),
        logabsdet=float(np.sum(np.log(np.abs(w)))) if w.all() else -math.inf,
        inv=inverse,
        norm=float(np.linalg.norm(w)),
    )
