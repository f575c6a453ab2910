"""Every structure with the same matrix built without it, at any size, in any dtype: what the contract runs over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.linalg as sl

import lax_linalg as la


@dataclass
class Draw:
    """Random parameters, rounded to one dtype, of which the reference takes the exact values."""

    dtype: Any
    seed: int = 0
    generator: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    @property
    def complex(self) -> bool:
        return jnp.issubdtype(self.dtype, jnp.complexfloating)

    def __call__(self, *shape: int) -> Any:
        """A parameter of standard normal numbers."""
        x = self.generator.standard_normal(shape)
        if self.complex:
            x = x + 1j * self.generator.standard_normal(shape)
        return jnp.asarray(x).astype(self.dtype)

    def number(self, value: float) -> Any:
        """A parameter of one number near the given one."""
        return jnp.asarray(value + 0.1 * self.generator.standard_normal()).astype(self.dtype)

    def definite(self, n: int) -> Any:
        """A Hermitian positive definite matrix, well-conditioned."""
        a = exact(self(n, n))
        return jnp.asarray(a @ a.conj().T + n * np.eye(n)).astype(self.dtype)


def exact(x: Any) -> np.ndarray:
    """The numbers of a parameter in double precision."""
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


Case = tuple[la.LinearOperator, np.ndarray]
CASES: dict[str, Callable[[Draw, int], Case]] = {}
"""name -> (draw, n) -> the operator of a size of about n, and its matrix."""

REAL_ONLY = {"symtridiagonal", "definite symtridiagonal", "symmetric", "lower symmetric", "permutation", "selection"}


def case(function: Callable[[Draw, int], Case]) -> Callable[[Draw, int], Case]:
    CASES[function.__name__.strip("_").replace("_", " ")] = function
    return function


def make(name: str, n: int = 5, dtype: Any = "float64", seed: int = 0) -> Case:
    """The case of this name with its parameters in the given dtype (real ones where the structure is)."""
    dtype = jnp.dtype(dtype)
    if name in REAL_ONLY and jnp.issubdtype(dtype, jnp.complexfloating):
        dtype = jnp.finfo(dtype).dtype
    A, a = CASES[name](Draw(dtype, seed), n)
    return A, np.asarray(a)


def bands(n: int, diagonal: Any, **sides: Any) -> np.ndarray:
    a = np.diag(exact(diagonal)) if n else np.zeros((0, 0))
    if n > 1:
        for side, x in sides.items():
            a = a + np.diag(exact(x), 1 if side == "upper" else -1)
    return a


# --- no structure and little structure ---


@case
def dense(draw, n):
    a = draw(n, n)
    return la.Dense(a), exact(a)


@case
def tall_dense(draw, n):
    a = draw(n + 2, n)
    return la.Dense(a), exact(a)


@case
def wide_dense(draw, n):
    a = draw(n, n + 2)
    return la.Dense(a), exact(a)


@case
def definite_dense(draw, n):
    a = draw.definite(n)
    return la.Dense(a), exact(a)


@case
def diagonal(draw, n):
    d = draw(n)
    return la.Diagonal(d), np.diag(exact(d))


@case
def positive_diagonal(draw, n):
    d = jnp.abs(draw(n)) + 1
    return la.Diagonal(d), np.diag(exact(d))


@case
def uniform_scaling(draw, n):
    value = draw.number(1.5)
    return la.UniformScaling(value, n), exact(value) * np.eye(n)


@case
def permutation(draw, n):
    p = draw.generator.permutation(n)
    return la.Permutation(jnp.asarray(p, int)), np.eye(n)[p]


# --- bands ---


@case
def tridiagonal(draw, n):
    b, a, c = draw(max(n - 1, 0)), draw(n), draw(max(n - 1, 0))
    return la.Tridiagonal(b, a, c), bands(n, a, lower=b, upper=c)


@case
def symtridiagonal(draw, n):
    a, b = draw(n), draw(max(n - 1, 0))
    return la.SymTridiagonal(a, b), bands(n, a, lower=b, upper=b)


@case
def definite_symtridiagonal(draw, n):
    a, b = jnp.abs(draw(n)) + 3, draw(max(n - 1, 0)) / 2
    return la.SymTridiagonal(a, b), bands(n, a, lower=b, upper=b)


@case
def bidiagonal(draw, n):
    a, b = draw(n), draw(max(n - 1, 0))
    return la.Bidiagonal(a, b), bands(n, a, upper=b)


@case
def lower_bidiagonal(draw, n):
    a, b = draw(n), draw(max(n - 1, 0))
    return la.Bidiagonal(a, b, upper=False), bands(n, a, lower=b)


@case
def tridiagonal_toeplitz(draw, n):
    b, a, c = draw.number(-1), draw.number(3), draw.number(0.5)
    off = np.ones(max(n - 1, 0))
    return la.TridiagonalToeplitz(b, a, c, n), bands(
        n, exact(a) * np.ones(n), lower=exact(b) * off, upper=exact(c) * off
    )


@case
def jordan_block(draw, n):
    value = draw.number(0.7)
    return la.JordanBlock(value, n), exact(value) * np.eye(n) + np.eye(n, k=1)


# --- constant diagonals ---


def entries(m: int, n: int, f: Callable[[int, int], Any]) -> np.ndarray:
    return np.array([[f(i, j) for j in range(n)] for i in range(m)]).reshape(m, n)


def toeplitz_matrix(c: Any, r: Any) -> np.ndarray:
    c, r = exact(c), exact(r)
    return entries(len(c), len(r), lambda i, j: c[i - j] if i >= j else r[j - i])


@case
def toeplitz(draw, n):
    c, r = draw(n), draw(n)
    return la.Toeplitz(c, r), toeplitz_matrix(c, r)


@case
def wide_toeplitz(draw, n):
    c, r = draw(n), draw(n + 2)
    return la.Toeplitz(c, r), toeplitz_matrix(c, r)


@case
def tall_toeplitz(draw, n):
    c, r = draw(n + 2), draw(n)
    return la.Toeplitz(c, r), toeplitz_matrix(c, r)


@case
def definite_toeplitz(draw, n):
    c = draw(n)
    c = jnp.concatenate([jnp.full((1,), 2.0 * n + 3, c.dtype), c[1:]]) if n else c
    return la.Toeplitz(c), toeplitz_matrix(c, c.conj())


@case
def circulant(draw, n):
    c = draw(n)
    return la.Circulant(c), entries(n, n, lambda i, j: exact(c)[(i - j) % n])


@case
def even_circulant(draw, n):
    return circulant(draw, n + 1)


@case
def triangular_toeplitz(draw, n):
    c = draw(n)
    return la.TriangularToeplitz(c), np.tril(toeplitz_matrix(c, c))


@case
def upper_triangular_toeplitz(draw, n):
    c = draw(n)
    return la.TriangularToeplitz(c, upper=True), np.triu(toeplitz_matrix(c, c))


@case
def hankel(draw, n):
    c, r = draw(n), draw(n)
    v = np.concatenate([exact(c), exact(r)[1:]])
    return la.Hankel(c, r), entries(n, n, lambda i, j: v[i + j])


@case
def tall_hankel(draw, n):
    c, r = draw(n + 2), draw(n)
    v = np.concatenate([exact(c), exact(r)[1:]])
    return la.Hankel(c, r), entries(n + 2, n, lambda i, j: v[i + j])


# --- few vectors ---


@case
def low_rank(draw, n):
    u, v = draw(n, min(n, 2)), draw(n, min(n, 2))
    return la.LowRank(u, v), exact(u) @ exact(v).conj().T


@case
def tall_low_rank(draw, n):
    u, v = draw(n + 2, 2), draw(n, 2)
    return la.LowRank(u, v), exact(u) @ exact(v).conj().T


@case
def full_low_rank(draw, n):
    u, v = draw(n, n + 1), draw(n, n + 1)
    return la.LowRank(u, v), exact(u) @ exact(v).conj().T


@case
def diagonal_plus_low_rank(draw, n):
    d, u, v = draw(n), draw(n, 1), draw(n, 1)
    return la.Diagonal(d) + la.LowRank(u, v), np.diag(exact(d)) + exact(u) @ exact(v).conj().T


@case
def scaling_plus_low_rank(draw, n):
    value, u, v = draw.number(1.5), draw(n, 2), draw(n, 2)
    return la.UniformScaling(value, n) + la.LowRank(u, v), exact(value) * np.eye(n) + exact(u) @ exact(v).conj().T


def reflector(v: np.ndarray, tau: Any = None) -> np.ndarray:
    tau = 2 / np.vdot(v, v).real if tau is None and v.any() else tau or 0
    return np.eye(len(v)) - tau * np.outer(v, v.conj())


@case
def householder(draw, n):
    v = draw(n)
    return la.Householder(v), reflector(exact(v))


@case
def scaled_householder(draw, n):
    v, tau = draw(n), draw.number(0.3)
    return la.Householder(v, tau), reflector(exact(v), exact(tau))


@case
def householder_product(draw, n):
    V = draw(n, 3)
    a = np.eye(n)
    for v in exact(V).T:
        a = a @ reflector(v)
    return la.HouseholderProduct(V), a


@case
def scaled_householder_product(draw, n):
    V, tau = draw(n, 2), draw(2) / 4
    a = np.eye(n)
    for v, t in zip(exact(V).T, exact(tau)):
        a = a @ reflector(v, t)
    return la.HouseholderProduct(V, tau), a


# --- composites ---


@case
def kronecker(draw, n):
    a, b = draw(min(n, 2), min(n, 2)), draw(n // 2, n // 2)
    return la.Kronecker(a, b), np.kron(exact(a), exact(b))


@case
def definite_kronecker(draw, n):
    a, b = draw.definite(min(n, 2)), draw.definite(n // 2)
    return la.Kronecker(a, b), np.kron(exact(a), exact(b))


@case
def rectangular_kronecker(draw, n):
    a, b = draw(n // 2, n // 2), draw(1, 2)
    return la.Kronecker(a, b), np.kron(exact(a), exact(b))


@case
def crossed_kronecker(draw, n):
    a, b = draw(n // 2, 1), draw(1, n // 2)
    return la.Kronecker(a, b), np.kron(exact(a), exact(b))


@case
def block_diagonal(draw, n):
    a, b = draw(n // 2, n // 2), draw(n - n // 2, n - n // 2)
    return la.BlockDiagonal((a, b)), sl.block_diag(exact(a), exact(b)).reshape(n, n)


@case
def equal_blocks(draw, n):
    a = draw(2, n // 2, n // 2)
    return la.BlockDiagonal(a), sl.block_diag(*exact(a)).reshape(n // 2 * 2, n // 2 * 2)


@case
def definite_blocks(draw, n):
    a, b = draw.definite(n // 2), draw.definite(n - n // 2)
    return la.BlockDiagonal((a, b)), sl.block_diag(exact(a), exact(b)).reshape(n, n)


@case
def rectangular_blocks(draw, n):
    a, b = draw(n // 2, n // 2 + 1), draw(n // 2 + 1, n // 2)
    return la.BlockDiagonal((a, b)), sl.block_diag(exact(a), exact(b)).reshape(n // 2 * 2 + 1, n // 2 * 2 + 1)


# --- wrappers ---


def hermitian_part(a: np.ndarray) -> np.ndarray:
    return np.triu(a, 1) + np.triu(a, 1).conj().T + np.diag(np.diag(a).real)


@case
def symmetric(draw, n):
    a = draw(n, n)
    return la.Symmetric(a), hermitian_part(exact(a))


@case
def lower_symmetric(draw, n):
    a = draw(n, n)
    return la.Symmetric(a, "L"), hermitian_part(exact(a).T)


@case
def hermitian(draw, n):
    a = draw(n, n)
    return la.Hermitian(a), hermitian_part(exact(a))


@case
def definite_hermitian(draw, n):
    a = draw.definite(n)
    return la.Hermitian(a), hermitian_part(exact(a))


@case
def upper_triangular(draw, n):
    a = draw(n, n)
    return la.UpperTriangular(a), np.triu(exact(a))


@case
def lower_triangular(draw, n):
    a = draw(n, n)
    return la.LowerTriangular(a), np.tril(exact(a))


@case
def unit_lower_triangular(draw, n):
    a = draw(n, n)
    return la.LowerTriangular(a, unit=True), np.tril(exact(a), -1) + np.eye(n)


# --- lazy algebra ---


@case
def sum_(draw, n):
    d, c, a = draw(n), draw(n), draw(n, 2)
    low = exact(a) @ exact(a).conj().T
    A = la.Sum((la.Diagonal(d), la.Circulant(c), la.LowRank(a, a)))
    return A, np.diag(exact(d)) + circulant_matrix(c) + low


def circulant_matrix(c: Any) -> np.ndarray:
    c = exact(c)
    return entries(len(c), len(c), lambda i, j: c[(i - j) % len(c)])


@case
def product(draw, n):
    d, c, a = draw(n), draw(n), draw(n, n + 1)
    A = la.Product((la.Diagonal(d), la.Circulant(c), la.Dense(a)))
    return A, np.diag(exact(d)) @ circulant_matrix(c) @ exact(a)


@case
def square_product(draw, n):
    d, c = draw(n), draw(n)
    return la.Product((la.Circulant(c), la.Diagonal(d))), circulant_matrix(c) @ np.diag(exact(d))


@case
def scaled(draw, n):
    alpha, c = draw.number(-2), draw(n)
    return la.Scaled(alpha, la.Circulant(c)), exact(alpha) * circulant_matrix(c)


@case
def transpose(draw, n):
    u, c = draw(n), draw(n)
    inner = la.Product((la.Diagonal(u), la.Circulant(c)))
    return la.Transpose(inner), (np.diag(exact(u)) @ circulant_matrix(c)).T


@case
def strided_transpose(draw, n):
    n = n + n % 2
    w = draw(2, 1, 2)  # two channels at every other pixel: a square matrix whose transpose is no convolution
    k = exact(w)[:, 0]
    a = entries(n, n, lambda i, j: k[(j - i // 2 * 2) % n, i % 2] if (j - i // 2 * 2) % n < 2 else 0 * k[0, 0])
    return la.Convolution(w, n, stride=2, padding="circular").T, a.T


@case
def jacobian(draw, n):
    a, x = draw(n, n), draw(n)
    at = exact(x)
    return la.jacobian(_quadratic, x, a), np.diag(exact(a) @ at) + np.diag(at) @ exact(a)


def _quadratic(x: Any, a: Any) -> Any:
    return x * (a @ x)


@case
def circular_convolution(draw, n):
    channels = 2 if n % 2 == 0 else 1
    w = draw(2, channels, channels)
    blocks = [exact(w[t]).T for t in (0, 1)]
    shift = np.eye(n // channels)[[*range(1, n // channels), 0]] if n else np.zeros((0, 0))
    a = np.kron(np.eye(n // channels), blocks[0]) + np.kron(shift, blocks[1])
    return la.Convolution(w, n // channels, padding="circular"), a


@case
def convolution(draw, n):
    w = draw(3, 1, 1)
    k = exact(w)[:, 0, 0]
    return la.Convolution(w, n), entries(n, n, lambda i, j: k[j - i + 1] if abs(i - j) <= 1 else 0 * k[0])


@case
def locally_connected(draw, n):
    w = draw(n, 3, 1, 1)
    k = exact(w)[:, :, 0, 0]
    matrix = entries(n, n, lambda i, j: k[i, j - i + 1] if abs(i - j) <= 1 else 0 * k[0, 0])
    return la.LocallyConnected(w, n), matrix


@case
def selection(draw, n):
    index = draw.generator.permutation(n + 2) - 1  # with one row of zeros
    index = index[:n] if n else index[:0]
    matrix = np.array([[float(i == j) for j in range(n + 2)] for i in index]).reshape(n, n + 2)
    return la.Selection(jnp.asarray(index, int), n + 2), matrix


@case
def host_operator(draw, n):
    w = draw(n, n + 1)
    return la.HostOperator(np.asarray(w)), exact(w)
