"""Matrices of rational numbers, with inverses and determinants in closed form."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from lax_linalg.core.dense import Dense
from lax_linalg.gallery.known import Known, empty, entrywise, normal, require, require_size, stored
from lax_linalg.operators.diagonal_plus_low_rank import DiagonalPlusLowRank
from lax_linalg.operators.hankel import Hankel
from lax_linalg.operators.hermitian import Symmetric
from lax_linalg.operators.uniform_scaling import UniformScaling


def hilbert(n: int, dtype: Any = None) -> Known:
    """The Hilbert matrix A[i, j] = 1/(i + j − 1), i, j from 1: the classical ill-conditioned matrix.

    A⁻¹[i, j] = (−1)^{i+j} (i + j − 1) C(n+i−1, n−j) C(n+j−1, n−i) C(i+j−2, i−1)²;
    det = c_n⁴/c_{2n} with c_n = 1! 2! … (n − 1)!; L[i, j] = √(2j − 1) ((i − 1)!)²/((i − j)! (i + j − 1)!).

    Args:
        n: the size.
        dtype: of the matrix.

    Returns:
        `Known(matrix, det, logabsdet, inv, cholesky)`, integers rounded once; the matrix a `Hankel`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> hilbert(3).inv.tolist()
        [[9.0, -36.0, 30.0], [-36.0, 192.0, -180.0], [30.0, -180.0, 180.0]]

    Source: Choi, Tricks or treats with the Hilbert matrix, Amer. Math. Monthly (1983).
    """
    n = require_size("hilbert", n)

    def factor(i: int, j: int) -> float:
        f = math.factorial
        return float(Fraction(f(i - 1) ** 2, f(i - j) * f(i + j - 1))) * math.sqrt(2 * j - 1) if i >= j else 0.0

    index = range(1, n + 1)
    # 1/det is the integer c_{2n}/c_n⁴
    reciprocal = Fraction(_superfactorial(2 * n), _superfactorial(n) ** 4)
    entries = 1 / np.arange(1.0, 2 * n)
    return Known(
        Hankel(stored(entries[:n], dtype), stored(entries[n - 1 :], dtype)),
        det=float(1 / reciprocal),
        logabsdet=-math.log(reciprocal.numerator),
        inv=np.array([[float(_inverse_hilbert(n, i, j)) for j in index] for i in index]),
        cholesky=np.array([[factor(i, j) for j in index] for i in index]),
    )


def _inverse_hilbert(n: int, i: int, j: int) -> int:
    c = math.comb
    sign = (-1) ** (i + j) * (i + j - 1)
    return sign * c(n + i - 1, n - j) * c(n + j - 1, n - i) * c(i + j - 2, i - 1) ** 2


def lotkin(n: int, dtype: Any = None) -> Known:
    """The Lotkin matrix: the Hilbert matrix with ones in its first row, ill-conditioned and not symmetric.

    With H⁻¹ and its column sums s_j, s₁ = (−1)^{n+1} n: A⁻¹[i, 1] = H⁻¹[i, 1]/s₁ and, for j > 1,
    A⁻¹[i, j] = H⁻¹[i, j] − H⁻¹[i, 1] s_j/s₁ (Sherman–Morrison); det A = s₁ det H.

    Args:
        n: the size.
        dtype: of the matrix.

    Returns:
        `Known(matrix, det, logabsdet, inv)`, the inverse's integers rounded once.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> lotkin(2).inv.tolist()
        [[-2.0, 6.0], [3.0, -6.0]]

    Source: Lotkin, A set of test matrices, MTAC 9 (1955).
    """
    n = require_size("lotkin", n)
    if n == 0:
        return empty(dtype)
    index = range(1, n + 1)
    H = [[_inverse_hilbert(n, i, j) for j in index] for i in index]
    sums = [sum(column) for column in zip(*H)]

    def inverse(i: int, j: int) -> Fraction:
        return H[i][j] - Fraction(H[i][0] * (sums[j] - (j == 0)), sums[0])

    entries = np.array([[1 / (i + j - 1) if i > 1 else 1.0 for j in index] for i in index])
    reciprocal = Fraction(_superfactorial(2 * n), _superfactorial(n) ** 4) / sums[0]
    return Known(
        Dense(stored(entries, dtype)),
        det=float(1 / reciprocal),
        logabsdet=-math.log(abs(reciprocal.numerator)) + math.log(reciprocal.denominator),
        inv=np.array([[float(inverse(i, j)) for j in range(n)] for i in range(n)]),
    )


def _superfactorial(n: int) -> int:
    """1! 2! … (n − 1)!"""
    return math.prod(math.factorial(i) for i in range(1, n))


def cauchy(x: Any, y: Any, dtype: Any = None) -> Known:
    """The Cauchy matrix A[i, j] = 1/(x_i + y_j).

    det = ∏_{i<j} (x_j − x_i)(y_j − y_i)/∏_{i,j} (x_i + y_j), and every entry of the inverse is such a quotient.

    Args:
        x, y: numbers [n] each.
        dtype: of the matrix.

    Returns:
        `Known(matrix, det, logabsdet, inv)`, `inv` where the x and the y are distinct; the matrix a `Dense`.

    Raises:
        DimensionMismatch: unless x and y have one axis of the same length.
        LinearAlgebraError: if an x_i + y_j is zero.

    Example:
        >>> cauchy([1.0, 2.0], [0.0, 1.0]).inv.round(4).tolist()
        [[4.0, -6.0], [-6.0, 12.0]]

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), 28.1.
    """
    x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
    n = require_size("cauchy", x.size)
    require(x.shape == y.shape == (n,), f"gallery.cauchy takes x [n] and y [n], got shapes {x.shape} and {y.shape}")
    # exact rational arithmetic on the given numbers, rounded once
    p, q = [Fraction(v) for v in x], [Fraction(v) for v in y]
    require(all(a + b != 0 for a in p for b in q), "gallery.cauchy takes x and y with x_i + y_j ≠ 0")
    numerator, denominator = Fraction(1), Fraction(1)
    for i in range(n):
        for j in range(n):
            denominator *= p[i] + q[j]
            if i < j:
                numerator *= (p[j] - p[i]) * (q[j] - q[i])
    det = numerator / denominator

    def inverse(i: int, j: int) -> Fraction:  # row i belongs to y_i, column j to x_j
        top = math.prod((p[j] + q[k]) * (p[k] + q[i]) for k in range(n))
        bottom = (p[j] + q[i]) * math.prod((p[j] - p[k]) for k in range(n) if k != j)
        return top / (bottom * math.prod((q[i] - q[k]) for k in range(n) if k != i))

    inv = None
    if det != 0:
        inv = np.array([[float(inverse(i, j)) for j in range(n)] for i in range(n)])
    logabsdet = math.log(abs(det.numerator)) - math.log(det.denominator) if det else -math.inf
    return Known(Dense(stored(1 / (x[:, None] + y[None, :]), dtype)), det=float(det), logabsdet=logabsdet, inv=inv)


def pascal(n: int, dtype: Any = None) -> Known:
    """The symmetric Pascal matrix A[i, j] = C(i + j, i), i, j from 0: of determinant 1, with eigenvalues λ and 1/λ.

    Its Cholesky factor is L[i, j] = C(i, j), Pascal's triangle, and its inverse has integers.

    Args:
        n: the size.
        dtype: of the matrix.

    Returns:
        `Known(matrix, det, logabsdet, inv, cholesky)`, the matrix a `Symmetric`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> pascal(3).inv.tolist()
        [[3.0, -3.0, 1.0], [-3.0, 5.0, -2.0], [1.0, -2.0, 1.0]]

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), 28.4.
    """
    n = require_size("pascal", n)
    if n == 0:
        return empty(dtype)
    index = range(n)
    matrix = np.array([[float(math.comb(i + j, i)) for j in index] for i in index])
    triangle = [[math.comb(i, j) for j in index] for i in index]
    # L⁻¹[i, j] = (−1)^{i+j} C(i, j), and A⁻¹ = L⁻ᵀ L⁻¹
    inverse = [
        [float((-1) ** (i + j) * sum(triangle[k][i] * triangle[k][j] for k in index)) for j in index] for i in index
    ]
    A = Symmetric(stored(matrix, dtype))
    return Known(A, det=1.0, inv=np.array(inverse), cholesky=np.array(triangle, float))


def lehmer(n: int, dtype: Any = None) -> Known:
    """Lehmer's matrix A[i, j] = min(i, j)/max(i, j), i, j from 1: positive definite with a tridiagonal inverse.

    A⁻¹[i, i] = 4 i³/(4 i² − 1) but n²/(2n − 1) at the end, A⁻¹[i, i + 1] = −i (i + 1)/(2i + 1);
    det = ∏ (2i − 1)/i², i = 1 … n; L[i, j] = √(2j − 1)/i for j ≤ i.

    Args:
        n: the size.
        dtype: of the matrix.

    Returns:
        `Known(matrix, det, logabsdet, inv, cholesky)`, the matrix a `Symmetric`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> lehmer(2).det
        0.75

    Source: Newman & Todd, The evaluation of matrix inversion programs, J. SIAM (1958).
    """
    n = require_size("lehmer", n)
    if n == 0:
        return empty(dtype)
    i = np.arange(1.0, n + 1)
    main = 4 * i**3 / (4 * i**2 - 1)
    main[-1] = n**2 / (2 * n - 1)
    beside = -i[:-1] * (i[:-1] + 1) / (2 * i[:-1] + 1)
    return Known(
        Symmetric(stored(entrywise(n, lambda i, j: np.minimum(i, j) / np.maximum(i, j)), dtype)),
        det=float(np.prod((2 * i - 1) / i**2)),
        logabsdet=float(np.sum(np.log(2 * i - 1) - 2 * np.log(i))),
        inv=np.diag(main) + np.diag(beside, 1) + np.diag(beside, -1),
        cholesky=np.tril(np.sqrt(2 * i - 1)[None, :] / i[:, None]),
    )


def minij(n: int, dtype: Any = None) -> Known:
    """The matrix A[i, j] = min(i, j), i, j from 1, the covariance of a random walk.

    λ_k = 1/(4 sin²((2k − 1)π/(4n + 2))), k = 1 … n; det = 1; the inverse is −1, 2, −1 with 1 in its last corner; the
    Cholesky factor is the triangle of ones.

    Args:
        n: the size.
        dtype: of the matrix.

    Returns:
        `Known` with every answer, the matrix a `Symmetric`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> minij(3).eigvals.round(4).tolist()
        [0.308, 0.6431, 5.0489]

    Source: Todd, Basic Numerical Mathematics II: Numerical Algebra (1977).
    """
    n = require_size("minij", n)
    if n == 0:
        return empty(dtype)
    k = np.arange(1, n + 1)
    w = 1 / (4 * np.sin((2 * k - 1) * np.pi / (4 * n + 2)) ** 2)
    inverse = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    inverse[-1, -1] = 1
    A = Symmetric(stored(entrywise(n, np.minimum), dtype))
    frobenius = math.sqrt(sum((2 * (n - i) + 1) * i**2 for i in range(1, n + 1)))
    return normal(A, w, det=1.0, inv=inverse, cholesky=np.tril(np.ones((n, n))), norm=frobenius)


def pei(n: int, alpha: float = 1.0, dtype: Any = None) -> Known:
    """The Pei matrix α I + 1 1ᵀ: eigenvalues α, n − 1 times, and α + n; singular for α = 0 and α = −n.

    A⁻¹ = (I − 1 1ᵀ/(α + n))/α; det = α^{n−1} (α + n).

    Args:
        n: the size.
        alpha: α.
        dtype: of the matrix.

    Returns:
        `Known(matrix, eigvals, svdvals, det, logabsdet, inv, cond, norm)`, the matrix a `DiagonalPlusLowRank`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> pei(4, 2.0).eigvals.tolist()
        [2.0, 2.0, 2.0, 6.0]

    Source: Pei, A test matrix for inversion procedures, Comm. ACM (1962).
    """
    n, alpha = require_size("pei", n), float(alpha)
    if n == 0:
        return empty(dtype)
    ones = stored(np.ones((n, 1)), dtype)
    w = np.r_[np.full(n - 1, alpha), alpha + n]
    inverse = None
    if w.all():
        inverse = (np.eye(n) - np.ones((n, n)) / (alpha + n)) / alpha
    return normal(
        DiagonalPlusLowRank(UniformScaling(stored(alpha, dtype), n), ones, ones),
        w,
        det=float(np.prod(w)),
        logabsdet=float(np.sum(np.log(np.abs(w)))) if w.all() else -math.inf,
        inv=inverse,
        norm=math.sqrt(n * (alpha + 1) ** 2 + n * (n - 1)),
    )
