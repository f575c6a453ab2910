"""Every structure: its entries against a matrix built without it, its products and every verb against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from verb_oracle import check_verbs

import lax_linalg as la

N = 5


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def reflection(v: np.ndarray) -> np.ndarray:
    return np.eye(len(v)) - 2 * np.outer(v, v) / (v @ v)


def cases() -> dict:
    """name -> (the structure, the same matrix from NumPy and SciPy)."""
    c, r, d, e, f = draw(0, N), draw(1, N), draw(2, N), draw(3, N - 1), draw(4, N - 1)
    r[0] = c[0]
    a, b, u, v = draw(5, 2, 2), draw(6, 3, 3), draw(7, N, 2), draw(8, N, 2)
    p = np.array([2, 0, 1, 4, 3])
    symmetric = a + a.T
    return {
        "toeplitz": (la.Toeplitz(c, r), sl.toeplitz(c, r)),
        "wide toeplitz": (la.Toeplitz(c[:3], r), sl.toeplitz(c[:3], r)),
        "circulant": (la.Circulant(c), sl.circulant(c)),
        "complex circulant": (la.Circulant(c + 1j * d), sl.circulant(c + 1j * d)),
        "hankel": (la.Hankel(c, np.r_[c[-1], e]), sl.hankel(c, np.r_[c[-1], e])),
        "triangular toeplitz": (la.TriangularToeplitz(c), np.tril(sl.toeplitz(c))),
        "tridiagonal": (la.Tridiagonal(e, d, f), np.diag(d) + np.diag(e, -1) + np.diag(f, 1)),
        "symtridiagonal": (la.SymTridiagonal(d, e), np.diag(d) + np.diag(e, -1) + np.diag(e, 1)),
        "bidiagonal": (la.Bidiagonal(d, e), np.diag(d) + np.diag(e, 1)),
        "lower bidiagonal": (la.Bidiagonal(d, e, upper=False), np.diag(d) + np.diag(e, -1)),
        "kronecker": (la.Kronecker(a, b), np.kron(a, b)),
        "rectangular kronecker": (la.Kronecker(a, draw(9, 2, 3)), np.kron(a, draw(9, 2, 3))),
        "block diagonal": (la.BlockDiagonal((a, b)), sl.block_diag(a, b)),
        "low rank": (la.LowRank(u, v), u @ v.T),
        "diagonal plus low rank": (la.Diagonal(d) + la.LowRank(u, v), np.diag(d) + u @ v.T),
        "householder": (la.Householder(c), reflection(c)),
        "symmetric": (la.Symmetric(symmetric), symmetric),
        "hermitian": (la.Hermitian(symmetric + 1j * (a - a.T)), symmetric + 1j * (a - a.T)),
        "upper triangular": (la.UpperTriangular(b), np.triu(b)),
        "lower triangular": (la.LowerTriangular(b), np.tril(b)),
        "permutation": (la.Permutation(p), np.eye(N)[p]),
        "jordan": (la.JordanBlock(0.7, 4), 0.7 * np.eye(4) + np.eye(4, k=1)),
    }


NAMES = tuple(cases())


@pytest.mark.parametrize("name", NAMES)
def test_entries_and_products(name, x64):
    A, a = cases()[name]
    np.testing.assert_allclose(la.materialize(A), a, atol=1e-13)
    X, Y = draw(10, a.shape[1], 3), draw(11, a.shape[0], 3)
    np.testing.assert_allclose(A @ X, a @ X, atol=1e-12)
    np.testing.assert_allclose(A @ X[:, 0], a @ X[:, 0], atol=1e-12)
    np.testing.assert_allclose(A.T @ Y, a.T @ Y, atol=1e-12)
    np.testing.assert_allclose(A.H @ Y, a.conj().T @ Y, atol=1e-12)
    np.testing.assert_allclose(la.materialize(2.0 * A), 2 * a, atol=1e-12)
    np.testing.assert_allclose(la.materialize(A.H @ A), a.conj().T @ a, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_agrees_with_dense_algebra(name, x64):
    check_verbs(cases()[name][0])
