"""Matrices whose non-normal behaviour is known, and plain references for it."""

from __future__ import annotations

import numpy as np


def grcar(n: int) -> np.ndarray:
    ones = np.ones((n, n))
    return np.triu(ones) - np.triu(ones, 4) - np.eye(n, k=-1)


def tridiagonal_toeplitz(n: int, below: complex, diagonal: complex, above: complex) -> np.ndarray:
    return below * np.eye(n, k=-1) + diagonal * np.eye(n) + above * np.eye(n, k=1)


def stable(seed: int, n: int, radius: float = 0.95, departure: float = 1.0, complex_: bool = False) -> np.ndarray:
    """Random, of the given spectral radius, with its strictly upper Schur part scaled by `departure`."""
    rng = np.random.default_rng(seed)
    t = np.triu(rng.normal(size=(n, n)), 1) * departure
    values = rng.uniform(-1, 1, n) + (1j * rng.uniform(-1, 1, n) if complex_ else 0)
    t = t + np.diag(values * radius / np.abs(values).max())
    g = rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if complex_ else 0)
    q = np.linalg.qr(g)[0]
    return q @ t @ q.conj().T


def normal(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))[0]
    return q * (rng.normal(size=n) + 1j * rng.normal(size=n)) @ q.conj().T


def sigma_min(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """One SVD a point: what the fast routes must agree with."""
    z = np.asarray(z)
    shifted = z.reshape(-1, 1, 1) * np.eye(len(a)) - a
    return np.linalg.svd(shifted, compute_uv=False)[:, -1].reshape(z.shape)
