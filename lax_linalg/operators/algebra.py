"""What several structures know about themselves by the algebra: predicates, and what a triangle is by type."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense.scaling import unit_of
from lax_linalg.operators.bidiagonal import Bidiagonal
from lax_linalg.operators.block_diagonal import BlockDiagonal
from lax_linalg.operators.circulant import Circulant
from lax_linalg.operators.jordan import JordanBlock
from lax_linalg.operators.toeplitz import Toeplitz
from lax_linalg.operators.triangular import LowerTriangular, UpperTriangular
from lax_linalg.operators.triangular_toeplitz import TriangularToeplitz
from lax_linalg.operators.tridiagonal import Tridiagonal
from lax_linalg.operators.tridiagonal_toeplitz import TridiagonalToeplitz
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import add, scale, transpose
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

CONSTANT_DIAGONALS = (Toeplitz, Circulant, TriangularToeplitz, TridiagonalToeplitz, JordanBlock)

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
    B = A * (1 / unit_of(size))  # whose squares stay in range
    return norm(B @ B.H - B.H @ B) <= tolerance(A, size, rtol) * norm(B) ** 2


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
