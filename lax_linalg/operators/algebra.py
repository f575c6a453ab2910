"""Rules between different structures: sums and products that keep a structure which both operands share.

A family is a structure together with its special cases; each special case says what it is in general by a property
(`A.toeplitz`, `A.tridiagonal`). The sum of two members is at least a member of the family's general type.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

from lax_linalg.operators.base import LinearOperator
from lax_linalg.operators.bidiagonal import Bidiagonal
from lax_linalg.operators.block_diagonal import BlockDiagonal
from lax_linalg.operators.circulant import Circulant
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.jordan import JordanBlock
from lax_linalg.operators.symtridiagonal import SymTridiagonal
from lax_linalg.operators.toeplitz import Toeplitz
from lax_linalg.operators.triangular import LowerTriangular, UpperTriangular
from lax_linalg.operators.triangular_toeplitz import TriangularToeplitz
from lax_linalg.operators.tridiagonal import Tridiagonal
from lax_linalg.operators.tridiagonal_toeplitz import TridiagonalToeplitz
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import add, inner, multiply, same_shape, scale, transpose
from lax_linalg.verbs.basic import materialize
from lax_linalg.verbs.norms import norm
from lax_linalg.verbs.predicates import (
    isdiag,
    ishermitian,
    isnormal,
    issymmetric,
    istril,
    istriu,
    isunitary,
    tolerance,
)
from lax_linalg.verbs.schur import Schur, schur

# --- constant diagonals ---

CONSTANT_DIAGONALS = (Toeplitz, Circulant, TriangularToeplitz, TridiagonalToeplitz, JordanBlock)


def _toeplitz_sum(A, B) -> Toeplitz:
    """Toeplitz: sums of the columns and of the rows."""
    same_shape(A, B)
    return A.toeplitz + B.toeplitz


for _left, _right in itertools.permutations(CONSTANT_DIAGONALS, 2):
    if {_left, _right} != {JordanBlock, TridiagonalToeplitz} and {_left, _right} != {JordanBlock, TriangularToeplitz}:
        add.rule(_left, _right, cost="O(m + n)")(_toeplitz_sum)


def _series_sum(A, B) -> LinearOperator:
    """Sum of the power series."""
    same_shape(A, B)
    return (A.series if isinstance(A, JordanBlock) else A) + (B.series if isinstance(B, JordanBlock) else B)


def _series_product(A, B) -> LinearOperator:
    """Product of the power series; lazy if the factors lie on different sides."""
    inner(A, B)
    return (A.series if isinstance(A, JordanBlock) else A) @ (B.series if isinstance(B, JordanBlock) else B)


for _left, _right in itertools.permutations((TriangularToeplitz, JordanBlock)):
    add.rule(_left, _right, cost="O(n)")(_series_sum)
    multiply.rule(_left, _right, cost="O(n log n)")(_series_product)

# --- three diagonals ---

THREE_DIAGONALS = (Tridiagonal, SymTridiagonal, Bidiagonal, TridiagonalToeplitz, JordanBlock, Diagonal)


def _tridiagonal(A) -> Tridiagonal:
    if isinstance(A, Diagonal):
        zeros = jnp.zeros_like(A.diagonal[1:])
        return Tridiagonal(zeros, A.diagonal, zeros)
    return A.tridiagonal


def _tridiagonal_sum(A, B) -> Tridiagonal:
    """Tridiagonal: sums of the diagonals."""
    same_shape(A, B)
    return _tridiagonal(A) + _tridiagonal(B)  # type: ignore[return-value]


_CLOSER = (
    {Diagonal, SymTridiagonal},
    {Diagonal, Bidiagonal},
    {Diagonal, JordanBlock},
    {Bidiagonal, JordanBlock},
    {TridiagonalToeplitz, JordanBlock},
)
for _left, _right in itertools.permutations(THREE_DIAGONALS, 2):
    if {_left, _right} not in _CLOSER:
        add.rule(_left, _right, cost="O(n)")(_tridiagonal_sum)


def _bidiagonal_sum(A, B) -> LinearOperator:
    """Bidiagonal: sums of the diagonals."""
    same_shape(A, B)
    return (A.bidiagonal if isinstance(A, JordanBlock) else A) + (B.bidiagonal if isinstance(B, JordanBlock) else B)


add.rule(JordanBlock, JordanBlock, cost="O(n)")(_bidiagonal_sum)
for _other in (Bidiagonal, Diagonal):
    add.rule(JordanBlock, _other, cost="O(n)")(_bidiagonal_sum)
    add.rule(_other, JordanBlock, cost="O(n)")(_bidiagonal_sum)


@add.rule(TridiagonalToeplitz, JordanBlock, cost="O(1)")
def _(A: TridiagonalToeplitz, B: JordanBlock) -> TridiagonalToeplitz:
    """Sums of the three numbers."""
    same_shape(A, B)
    return TridiagonalToeplitz(A.lower, A.diagonal + B.value, A.upper + 1, A.n)


@add.rule(JordanBlock, TridiagonalToeplitz, cost="O(1)")
def _(A: JordanBlock, B: TridiagonalToeplitz) -> LinearOperator:
    """Sums of the three numbers."""
    return B + A


def _diagonal_product(A, B) -> LinearOperator:
    """Scaled rows or columns of the general band matrix."""
    inner(A, B)
    return _band(A) @ _band(B)


def _band(A) -> LinearOperator:
    if isinstance(A, JordanBlock):
        return A.bidiagonal
    return A if isinstance(A, Diagonal) else A.tridiagonal


for _other in (SymTridiagonal, TridiagonalToeplitz, JordanBlock):
    multiply.rule(Diagonal, _other, cost="O(n)")(_diagonal_product)
    multiply.rule(_other, Diagonal, cost="O(n)")(_diagonal_product)

# --- what follows from the algebra: A − Aᵀ stays in the family ---


def _symmetric(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Norm of A − Aᵀ within the structure."""
    return _vanishes(A, transpose(A), rtol)


def _hermitian(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """Norm of A − Aᴴ within the structure."""
    return _vanishes(A, A.H, rtol)


def _vanishes(A: LinearOperator, B: LinearOperator, rtol: float | None) -> jax.Array:
    if A.shape != B.shape:
        return jnp.asarray(False)
    size = norm(A)
    return norm(add(A, scale(B, -1))) <= tolerance(A, size, rtol) * size


for _structure in (*CONSTANT_DIAGONALS, Tridiagonal, Bidiagonal):
    issymmetric.rule(_structure, cost="O(m + n)")(_symmetric)
    ishermitian.rule(_structure, cost="O(m + n)")(_hermitian)
issymmetric.rule(BlockDiagonal, cost="cost of add and norm of the blocks")(_symmetric)
ishermitian.rule(BlockDiagonal, cost="cost of add and norm of the blocks")(_hermitian)


@isnormal.rule(BlockDiagonal, cost="cost of multiply and norm of the blocks")
def _(A: BlockDiagonal, *, rtol: float | None = None) -> jax.Array:
    """Norm of A Aᴴ − AᴴA within the structure."""
    if A.shape[0] != A.shape[1]:
        return jnp.asarray(False)
    size = norm(A)
    return norm(A @ A.H - A.H @ A) <= tolerance(A, size, rtol) * size**2


@isunitary.rule(BlockDiagonal, cost="cost of multiply and norm of the blocks, if they are square")
def _(A: BlockDiagonal, *, rtol: float | None = None) -> jax.Array:
    """Norm of AᴴA − I within the structure, if the blocks are square."""
    if any(m != n for m, n in (b.shape for b in A.blocks)):
        return isunitary.fallback(A, rtol=rtol)
    residual = norm(A.H @ A + UniformScaling(-jnp.ones((), A.dtype)))
    return residual <= tolerance(A, residual, rtol) * A.shape[0] ** 0.5


# --- what a triangular matrix of numbers in a row is by type ---


def _schur_of_triangle(A: Bidiagonal | TriangularToeplitz) -> Schur:
    """That of the triangular matrix."""
    return schur((UpperTriangular if A.upper else LowerTriangular)(materialize(A)))


def _one_sided(A: Bidiagonal | TriangularToeplitz, upper: bool, rtol: float | None) -> jax.Array:
    return jnp.asarray(True) if A.upper == upper else isdiag(A, rtol=rtol)


def _istriu(A: Bidiagonal | TriangularToeplitz, *, rtol: float | None = None) -> jax.Array:
    """True by type above the diagonal; whether it is diagonal below."""
    return _one_sided(A, True, rtol)


def _istril(A: Bidiagonal | TriangularToeplitz, *, rtol: float | None = None) -> jax.Array:
    """True by type below the diagonal; whether it is diagonal above."""
    return _one_sided(A, False, rtol)


for _structure in (Bidiagonal, TriangularToeplitz):
    schur.rule(_structure, cost="O(n²), the size of the factors")(_schur_of_triangle)
    istriu.rule(_structure, cost="cost of isdiag")(_istriu)
    istril.rule(_structure, cost="cost of isdiag")(_istril)
