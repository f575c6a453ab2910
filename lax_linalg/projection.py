"""The nearest matrix of a structure: orthogonal projections onto subspaces of matrices, and onto some curved sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dense import Dense
from lax_linalg.core.dispatch import of_finite, require_square
from lax_linalg.core.operator import LinearOperator, MatrixLike, as_operator
from lax_linalg.core.registry import Registry
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.bidiagonal import Bidiagonal
from lax_linalg.operators.block_diagonal import BlockDiagonal
from lax_linalg.operators.circulant import Circulant
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.locally_connected import LocallyConnected, existing_weights, with_weights
from lax_linalg.operators.convolution.window import Window, entries, positions
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.hankel import Hankel
from lax_linalg.operators.hermitian import Hermitian, Symmetric
from lax_linalg.operators.kronecker import Kronecker
from lax_linalg.operators.low_rank import LowRank
from lax_linalg.operators.symtridiagonal import SymTridiagonal
from lax_linalg.operators.toeplitz import Toeplitz, from_diagonals
from lax_linalg.operators.triangular import LowerTriangular, UpperTriangular
from lax_linalg.operators.triangular_toeplitz import TriangularToeplitz
from lax_linalg.operators.tridiagonal import Tridiagonal
from lax_linalg.operators.tridiagonal_toeplitz import TridiagonalToeplitz
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.norms import norm, scaled_norm
from lax_linalg.verbs.polar import polar
from lax_linalg.verbs.svd import svd


class Projection(NamedTuple):
    """The matrix of the structure nearest to A, and the distance ‖A − nearest‖_F; unpacks as `nearest, distance`.

    Example:
        >>> import lax_linalg as la
        >>> nearest, distance = la.project([[1.0, 3.0], [4.0, 1.0]], la.Diagonal)
        >>> nearest, float(distance)
        (2×2 Diagonal{float32}, 5.0)
    """

    nearest: LinearOperator
    distance: jax.Array


def project(A: MatrixLike, onto: type | str | LinearOperator, *, rank: int | None = None) -> Projection:
    """The nearest matrix of a structure in the Frobenius norm, with its distance.

    Args:
        A: operator or array [m, n].
        onto: one of
            a linear structure by its type: `Toeplitz`, `Circulant`, `Hankel`, `TriangularToeplitz` (lower), `Diagonal`,
            `UniformScaling`, `Bidiagonal` (upper), `Tridiagonal`, `SymTridiagonal`, `TridiagonalToeplitz`, `Symmetric`,
            `Hermitian`, `UpperTriangular`, `LowerTriangular`; `Convolution` if A is `LocallyConnected`;
            an operator whose structure and sizes are meant and whose numbers are not: a `Convolution`, a
            `LocallyConnected`, a `BlockDiagonal` or a `Kronecker` of two matrices;
            `LowRank`, with `rank`;
            a name: "orthogonal" (polar factor; semi-orthogonal if rectangular, unitary for complex A), "skew"
            (skew-Hermitian), "posdef" (positive semidefinite Hermitian).
        rank: the rank, for `LowRank`.

    Returns:
        `Projection(nearest, distance)`. Linear structures are orthogonal projections, ‖A‖² = ‖nearest‖² + distance².

    Raises:
        UnknownNameError: for a structure that has no projection here.
        DimensionMismatch: where the sizes do not fit.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Cost: O(mn), from the materialised matrix; O(kernel) from `LocallyConnected` onto `Convolution`; an SVD for
    `LowRank`, `Kronecker`, "orthogonal" and "posdef". Differentiable.

    Example:
        >>> import lax_linalg as la
        >>> nearest, distance = la.project([[1.0, 2.0], [6.0, 3.0]], onto=la.Toeplitz)
        >>> print(la.materialize(nearest), round(float(distance), 4))
        [[2. 2.]
         [6. 2.]] 1.4142
        >>> print(la.materialize(la.project([[0.0, 2.0], [-3.0, 0.0]], "orthogonal").nearest).round(4))
        [[ 0.  1.]
         [-1.  0.]]

    Source: Higham, Matrix nearness problems and applications (1989); Van Loan & Pitsianis, Approximation with Kronecker
    products (1993), for `Kronecker`.
    """
    return of_finite("project", (as_operator(A),), lambda A: _project(A, onto, rank))


def _project(A: LinearOperator, onto: Any, rank: int | None) -> Projection:
    if isinstance(onto, Window) or onto in (Convolution, LocallyConnected):
        return _onto_window(A, onto)
    if isinstance(onto, (BlockDiagonal, Kronecker)):
        if onto.shape != A.shape:
            raise DimensionMismatch(f"project: {_size(A)} onto {onto!r}: the sizes differ")
        a = dense(A)
        nearest = _block_diagonal(a, onto) if isinstance(onto, BlockDiagonal) else _kronecker(a, onto)
        return _measured(a, nearest)
    if onto is LowRank:
        if rank is None or rank < 0:
            raise DimensionMismatch(f"project onto LowRank takes its rank, project(A, la.LowRank, rank=k), got {rank}")
        return _measured(dense(A), _low_rank(dense(A), rank))
    name = onto if isinstance(onto, str) else getattr(onto, "__name__", type(onto).__name__)
    rule = _rules[name]
    if rule.square:
        require_square(A, f"project onto {name}")
    a = dense(A)
    return _measured(a, rule.function(a))


def _size(A: LinearOperator) -> str:
    return f"{A.shape[0]}×{A.shape[1]}"


def _measured(a: jax.Array, nearest: LinearOperator) -> Projection:
    return Projection(nearest, scaled_norm(a - dense(nearest)))


# --- convolutions ---


def _onto_window(A: LinearOperator, onto: Any) -> Projection:
    if isinstance(onto, type):
        if not isinstance(A, Window):
            raise DimensionMismatch(
                f"project onto {onto.__name__} takes the kernel's size, stride and padding from A, which is {A!r}: "
                "give an operator instead of the type, such as la.Convolution(jnp.zeros((3, 3, cin, cout)), (H, W))"
            )
        onto, convolution = A, onto is Convolution
    else:
        convolution = isinstance(onto, Convolution)
    if onto.shape != A.shape:
        raise DimensionMismatch(f"project: {_size(A)} onto {onto!r}: the sizes differ")
    if isinstance(A, Window) and A.geometry == onto.geometry:
        local = A if isinstance(A, LocallyConnected) else A.untie()  # type: ignore[attr-defined]
        nearest = local.tie() if convolution else local
        return Projection(nearest, norm(local - nearest))
    a = dense(A)
    local = with_weights(onto, _weights(a, onto))
    return _measured(a, local.tie() if convolution else local)


def _weights(a: jax.Array, onto: Window) -> jax.Array:
    """The entries of a at the window's taps; taps that meet the same input share an entry in equal parts."""
    rows, columns = entries(onto)
    share = np.ones(())
    for j, n in zip(positions(onto), onto.spatial):  # type: ignore[arg-type]
        same = (j[0][:, None] % n == j[0] % n).sum(0) if onto.circular else np.ones(j.shape[1])
        share = np.multiply.outer(share, same)
    values = a.at[rows, columns].get(mode="fill", fill_value=0) / share[..., None, None].astype(a.real.dtype)
    return jnp.where(existing_weights(onto), values, 0)


# --- subspaces of matrices ---


class _Rule(NamedTuple):
    function: Callable[[jax.Array], LinearOperator]
    square: bool


_rules: Registry[_Rule] = Registry("structure to project onto")


def _structure(name: str, *, square: bool) -> Callable[[Callable[[jax.Array], LinearOperator]], Callable]:
    def register(function: Callable[[jax.Array], LinearOperator]) -> Callable:
        _rules.register(name)(_Rule(function, square))
        return function

    return register


def _diagonal_means(a: jax.Array) -> jax.Array:
    """Means over the diagonals of a [m, n], the top right one first, [m + n − 1]."""
    m, n = a.shape
    where = np.arange(m)[:, None] - np.arange(n) + n - 1
    count = np.bincount(where.ravel(), minlength=m + n - 1)
    total = jnp.zeros((m + n - 1,), a.dtype).at[where].add(a)
    return total / count.astype(a.real.dtype)


@_structure("Toeplitz", square=False)
def _(a: jax.Array) -> Toeplitz:
    if 0 in a.shape:
        return Toeplitz(*(jnp.zeros((size,), a.dtype) for size in a.shape))
    return from_diagonals(_diagonal_means(a), *a.shape)


@_structure("Hankel", square=False)
def _(a: jax.Array) -> Hankel:
    v, m = _diagonal_means(a[:, ::-1]), a.shape[0]
    return Hankel(v[:m], v[m - 1 :])


@_structure("Circulant", square=True)
def _(a: jax.Array) -> Circulant:
    n = a.shape[0]
    return Circulant(a[(np.arange(n)[:, None] + np.arange(n)) % n, np.arange(n)].mean(1))


@_structure("TriangularToeplitz", square=True)
def _(a: jax.Array) -> TriangularToeplitz:
    return TriangularToeplitz(_diagonal_means(a)[a.shape[0] - 1 :])


@_structure("TridiagonalToeplitz", square=True)
def _(a: jax.Array) -> TridiagonalToeplitz:
    n = a.shape[0]
    means = jnp.pad(_diagonal_means(a), 1)
    return TridiagonalToeplitz(means[n + 1], means[n], means[n - 1], n)


@_structure("Diagonal", square=True)
def _(a: jax.Array) -> Diagonal:
    return Diagonal(jnp.diagonal(a))


@_structure("UniformScaling", square=True)
def _(a: jax.Array) -> UniformScaling:
    return UniformScaling(jnp.trace(a) / max(a.shape[0], 1), a.shape[0])


@_structure("Bidiagonal", square=True)
def _(a: jax.Array) -> Bidiagonal:
    return Bidiagonal(jnp.diagonal(a), jnp.diagonal(a, 1))


@_structure("Tridiagonal", square=True)
def _(a: jax.Array) -> Tridiagonal:
    return Tridiagonal(jnp.diagonal(a, -1), jnp.diagonal(a), jnp.diagonal(a, 1))


@_structure("SymTridiagonal", square=True)
def _(a: jax.Array) -> SymTridiagonal:
    a = a.real
    return SymTridiagonal(jnp.diagonal(a), (jnp.diagonal(a, -1) + jnp.diagonal(a, 1)) / 2)


@_structure("Symmetric", square=True)
def _(a: jax.Array) -> Symmetric:
    return Symmetric((a.real + a.real.T) / 2)


@_structure("Hermitian", square=True)
def _(a: jax.Array) -> Hermitian:
    return Hermitian((a + a.conj().T) / 2)


@_structure("UpperTriangular", square=True)
def _(a: jax.Array) -> UpperTriangular:
    return UpperTriangular(jnp.triu(a))


@_structure("LowerTriangular", square=True)
def _(a: jax.Array) -> LowerTriangular:
    return LowerTriangular(jnp.tril(a))


@_structure("skew", square=True)
def _(a: jax.Array) -> Dense:
    return Dense((a - a.conj().T) / 2)


def _block_diagonal(a: jax.Array, onto: BlockDiagonal) -> BlockDiagonal:
    row, column, blocks = 0, 0, []
    for m, n in (b.shape for b in onto.blocks):
        blocks.append(a[row : row + m, column : column + n])
        row, column = row + m, column + n
    return BlockDiagonal(tuple(map(Dense, blocks)))


# --- curved sets with known nearest points ---


@_structure("orthogonal", square=False)
def _(a: jax.Array) -> Dense:
    return Dense(polar(Dense(a)).U)


@_structure("posdef", square=True)
def _(a: jax.Array) -> Hermitian:
    # Higham (1988): the nearest positive semidefinite matrix is (B + H)/2, H the Hermitian polar factor of B
    B = (a + a.conj().T) / 2
    return Hermitian((B + polar(Dense(B)).P) / 2)


def _low_rank(a: jax.Array, rank: int) -> LowRank:
    # Eckart & Young (1936)
    U, s, Vt = svd(Dense(a))
    return LowRank(U[:, :rank] * s[:rank], Vt[:rank].conj().T)


def _kronecker(a: jax.Array, onto: Kronecker) -> Kronecker:
    # the rearranged matrix, a row vec(A_ij) for each block, has rank one exactly where a is a Kronecker product
    (m, n), (p, q) = onto.left.shape, onto.right.shape
    rearranged = a.reshape(m, p, n, q).transpose(0, 2, 1, 3).reshape(m * n, p * q)
    U, s, Vt = svd(Dense(rearranged))
    root = jnp.sqrt(s[0])
    return Kronecker(Dense((root * U[:, 0]).reshape(m, n)), Dense((root * Vt[0]).reshape(p, q)))
