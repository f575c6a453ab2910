"""Matrices with few diagonals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lax_linalg.gallery.known import Known, empty, entrywise, normal, require_size, stored
from lax_linalg.operators.circulant import Circulant
from lax_linalg.operators.jordan import JordanBlock
from lax_linalg.operators.symtridiagonal import SymTridiagonal
from lax_linalg.operators.tridiagonal import Tridiagonal
from lax_linalg.operators.tridiagonal_toeplitz import TridiagonalToeplitz


def tridiagonal(n: int, lower: complex, diagonal: complex, upper: complex, dtype: Any = None) -> Known:
    """Tridiagonal Toeplitz matrix with b below, a on and c above the diagonal.

    Eigenvalues λ_k = a + 2 √(bc) cos(kπ/(n + 1)), k = 1 … n; singular values |λ_k| where the matrix is normal, that is
    for |b| = |c|. The determinant is the product of the eigenvalues.

    Args:
        n: the size.
        lower, diagonal, upper: b, a, c.
        dtype: of the matrix.

    Returns:
        `Known(matrix, eigvals, det, logabsdet, norm, svdvals)`, the matrix a `TridiagonalToeplitz`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> tridiagonal(3, -1, 2, -1)
        3×3 TridiagonalToeplitz{float32} with eigvals, svdvals, det, logabsdet, cond, norm

    Source: Noschese, Pasquini & Reichel, Numer. Linear Algebra Appl. (2013), equations 4–7.
    """
    n = require_size("tridiagonal", n)
    if n == 0:
        return empty(dtype)
    numbers = [complex(x) if isinstance(x, complex) else float(x) for x in (lower, diagonal, upper)]
    b, a, c = numbers
    A = TridiagonalToeplitz(stored(b, dtype), stored(a, dtype), stored(c, dtype), n)
    k = np.arange(1, n + 1)
    w = a + 2 * np.sqrt(complex(b)) * np.sqrt(complex(c)) * np.sin((n + 1 - 2 * k) * np.pi / (2 * (n + 1)))
    frobenius = math.sqrt(n * abs(a) ** 2 + (n - 1) * (abs(b) ** 2 + abs(c) ** 2))
    real = not any(isinstance(x, complex) for x in numbers)
    logabsdet = float(np.sum(np.log(np.abs(w)))) if w.all() else -math.inf
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the range of floats the logarithm remains
        det = np.prod(w)
    det = float(det.real) if real else complex(det)
    # a normal one is αI + β H with Hermitian H
    if abs(b) == abs(c):
        return normal(A, w, det=det, logabsdet=logabsdet, norm=frobenius)
    return Known(A, eigvals=w, det=det, logabsdet=logabsdet, norm=frobenius)


def second_difference(n: int, dtype: Any = None) -> Known:
    """The matrix −1, 2, −1 of the second difference with fixed ends, everything about which is known.

    λ_k = 4 sin²(kπ/(2(n + 1))), det = n + 1, A⁻¹[i, j] = min(i, j)(n + 1 − max(i, j))/(n + 1) with i, j from 1,
    κ₂ = cot²(π/(2(n + 1))).

    Args:
        n: the size.
        dtype: of the matrix.

    Returns:
        `Known` with every answer, the matrix a `TridiagonalToeplitz`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> float(second_difference(100).det)
        101.0

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), 28.6.
    """
    n = require_size("second_difference", n)
    if n == 0:
        return empty(dtype)
    A = TridiagonalToeplitz(stored(-1.0, dtype), stored(2.0, dtype), stored(-1.0, dtype), n)
    w = 4 * np.sin(np.arange(1, n + 1) * np.pi / (2 * (n + 1))) ** 2
    inverse = entrywise(n, lambda i, j: np.minimum(i, j) * (n + 1 - np.maximum(i, j)) / (n + 1))
    k = np.arange(1.0, n + 1)
    factor = np.diag(np.sqrt((k + 1) / k)) - np.diag(np.sqrt(k[:-1] / (k[:-1] + 1)), -1)
    return normal(A, w, det=float(n + 1), inv=inverse, cholesky=factor, norm=math.sqrt(6.0 * n - 2))


def periodic_second_difference(n: int, dtype: Any = None) -> Known:
    """The singular matrix −1, 2, −1 of the second difference on a ring: λ_k = 4 sin²(kπ/n), k = 0 … n − 1.

    Args:
        n: the size, at least 3.
        dtype: of the matrix.

    Returns:
        `Known(matrix, eigvals, svdvals, det, logabsdet, cond, norm)`, the matrix a `Circulant`.

    Raises:
        DimensionMismatch: unless n ≥ 3.

    Example:
        >>> periodic_second_difference(4).eigvals.round(12).tolist()
        [0.0, 2.0, 2.0, 4.0]
    """
    n = require_size("periodic_second_difference", n, 3)
    column = np.zeros(n)
    column[0], column[1], column[-1] = 2, -1, -1
    w = 4 * np.sin(np.arange(n) * np.pi / n) ** 2
    return normal(Circulant(stored(column, dtype)), w, det=0.0, norm=math.sqrt(6.0 * n))


def clement(n: int, symmetric: bool = False, dtype: Any = None) -> Known:
    """Kac's matrix: zero diagonal, b_k = k above and n − k below it; eigenvalues n − 1, n − 3 … 1 − n.

    Args:
        n: the size.
        symmetric: the symmetric matrix with √(k(n − k)) on both sides instead, of the same eigenvalues.
        dtype: of the matrix.

    Returns:
        `Known(matrix, eigvals, det, logabsdet)`, the matrix a `Tridiagonal`, or a `SymTridiagonal` with `svdvals` too.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> clement(4).eigvals.tolist()
        [-3.0, -1.0, 1.0, 3.0]

    Source: Clement, A class of triple-diagonal matrices for test purposes, SIAM Review (1959).
    """
    n = require_size("clement", n)
    k = np.arange(1.0, n)
    w = np.arange(1.0 - n, n, 2)
    det = float(np.prod(w))
    if symmetric:
        return normal(SymTridiagonal(stored(np.zeros(n), dtype), stored(np.sqrt(k * (n - k)), dtype)), w, det=det)
    A = Tridiagonal(stored(n - k, dtype), stored(np.zeros(n), dtype), stored(k, dtype))
    return Known(A, eigvals=w, det=det)


def jordan(n: int, value: complex = 1.0, dtype: Any = None) -> Known:
    """The Jordan block J = λI + N with λ on the diagonal and ones above it, defective for n ≥ 2.

    J⁻¹ has (−1)ᵏ λ^{−1−k} on the k-th diagonal. Singular values are known for λ = 0 (ones and one zero) and for
    |λ| = 1, σ_k = 2 cos(kπ/(2n + 1)), k = 1 … n.

    Args:
        n: the size.
        value: λ.
        dtype: of the matrix.

    Returns:
        `Known(matrix, eigvals, det, logabsdet, inv, norm)`, and `svdvals` in those cases; the matrix a `JordanBlock`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> jordan(2, 1.0).svdvals.round(4).tolist()  # the golden ratio and its inverse
        [1.618, 0.618]
    """
    n = require_size("jordan", n)
    if n == 0:
        return empty(dtype)
    value = complex(value) if isinstance(value, complex) else float(value)
    w = np.full(n, value)
    s = None
    if value == 0:
        s = np.r_[np.ones(n - 1), 0.0]
    elif abs(value) == 1:
        s = 2 * np.sin((2 * n + 1 - 2 * np.arange(1, n + 1)) * np.pi / (2 * (2 * n + 1)))
    inverse = None
    if value != 0:
        # the distance from the diagonal; the negative ones, below it, are masked
        inverse = entrywise(n, lambda i, j: np.where(j >= i, (-1.0) ** (j - i) * value ** (-1 - np.abs(j - i)), 0.0))
    logabsdet = n * math.log(abs(value)) if value else -math.inf
    frobenius = math.sqrt(n * abs(value) ** 2 + n - 1)
    A = JordanBlock(stored(value, dtype), n)
    return Known(A, w, s, det=value**n, logabsdet=logabsdet, inv=inverse, norm=frobenius)
