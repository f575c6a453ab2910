"""`BlockDiagonal`: a direct sum, factorised block by block and all at once where the blocks are alike."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lax_linalg.core.eager_checks import decided, known_not_finite
from lax_linalg.core.operator import LinearOperator, as_part, operator
from lax_linalg.errors import DimensionMismatch, NotPositiveDefiniteError, SingularError
from lax_linalg.operators.assemble import padded, paired_svd
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.lazy import Product, Sum
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import add, conj, inner, multiply, same_shape, scale, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense, tr
from lax_linalg.verbs.cholesky import Cholesky, cholesky, not_positive_definite
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product_of_dets
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigen, sorted_eigenvalues
from lax_linalg.verbs.functions import exp, log, sqrt
from lax_linalg.verbs.lu import LU, lu
from lax_linalg.verbs.norms import norm, opnorm, require_p, scaled_norm
from lax_linalg.verbs.polar import Polar, polar
from lax_linalg.verbs.predicates import ishermitian
from lax_linalg.verbs.qr import QR, qr
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, default_rtol, inv, lstsq, pinv, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


@operator(data=("blocks",))
class BlockDiagonal(LinearOperator):
    """The direct sum A₁ ⊕ … ⊕ A_r, with the blocks along the diagonal; they may differ in size and be rectangular.

    Args:
        blocks: operators or arrays [m_i, n_i].

    Cost: the sum of the blocks'; blocks of one type and size go through one batched call.

    Example:
        >>> import lax_linalg as la
        >>> A = la.BlockDiagonal([[[1.0, 2.0]], [[3.0]]])
        >>> A
        2×3 BlockDiagonal{float32} of 2 blocks
        >>> print(la.materialize(A))
        [[1. 2. 0.]
         [0. 0. 3.]]
    """

    blocks: tuple[LinearOperator, ...]

    def __post_init__(self) -> None:
        blocks: Any = self.blocks
        if not isinstance(blocks, Sequence) and jnp.ndim(blocks) != 3:
            raise DimensionMismatch(
                f"blocks are a sequence of matrices or one array [r, m, n], got shape {list(jnp.shape(blocks))}"
            )
        object.__setattr__(self, "blocks", tuple(as_part(b) for b in blocks))

    @property
    def shape(self) -> tuple[int, int]:
        return sum(b.shape[0] for b in self.blocks), sum(b.shape[1] for b in self.blocks)

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(*(b.dtype for b in self.blocks)) if self.blocks else jnp.dtype(jnp.result_type(float))

    @property
    def unitary(self) -> bool:
        return all(b.unitary for b in self.blocks)

    def _matmat(self, X: jax.Array) -> jax.Array:
        return _stacked(_each(self, _product, _split(X, self, 1)), X.shape[1], X.dtype)

    def _describe(self) -> str:
        return f"of {len(self.blocks)} blocks"


# --- running one function over all blocks ---


def _each(A: BlockDiagonal, f: Callable[..., Any], *arguments: list[Any], **options: Hashable) -> list[Any]:
    """[f(block, argument of the block, …, **options)], in one call where the blocks agree in everything but numbers.

    That call is a program, compiled once for each function: f is a verb or a function of this module.
    """
    leaves = [jax.tree.flatten((b, *args)) for b, *args in zip(A.blocks, *arguments)]
    kinds = {(tree, tuple((jnp.shape(x), jnp.result_type(x)) for x in xs)) for xs, tree in leaves}
    if len(kinds) != 1 or len(leaves) < 2 or not leaves[0][0]:
        return [f(b, *args, **options) for b, *args in zip(A.blocks, *arguments)]
    tree = leaves[0][1]
    stacked = [jnp.stack(xs) for xs in zip(*(xs for xs, _ in leaves))]
    results = _batched(f, tree, tuple(options.items()), stacked)
    return [jax.tree.map(lambda x, i=i: x[i], results) for i in range(len(leaves))]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _batched(f: Callable[..., Any], tree: Any, options: tuple[tuple[str, Any], ...], stacked: list[jax.Array]) -> Any:
    return jax.vmap(lambda xs: f(*jax.tree.unflatten(tree, xs), **dict(options)))(stacked)


def _product(A: LinearOperator, X: jax.Array) -> jax.Array:
    return A._matmat(X)


def _lstsq_above(A: LinearOperator, b: jax.Array, atol: jax.Array) -> jax.Array:
    return lstsq(A, b, rtol=0.0, atol=atol)


def _pinv_above(A: LinearOperator, atol: jax.Array) -> LinearOperator:
    return pinv(A, rtol=0.0, atol=atol)


def _each_or_raise(A: BlockDiagonal, f: Callable[..., Any], *arguments: list[Any]) -> list[Any]:
    """`_each` for an f that raises on values: if a batched result is not finite, the blocks are tried one by one."""
    results = _each(A, f, *arguments)
    numbers = jax.tree.leaves(results)
    if not any(known_not_finite(x) for x in numbers):
        return results
    for i, (start, b, *args) in enumerate(zip(_offsets(A, 0), A.blocks, *arguments)):
        try:
            f(b, *args)
        except NotPositiveDefiniteError as error:
            if error.index is None:
                raise
            raise not_positive_definite(start + error.index) from None
        except SingularError as error:
            index = None if error.index is None else start + error.index
            raise SingularError(f"block {i} of {len(A.blocks)}: {error}", index=index) from None
    return results


def _offsets(A: BlockDiagonal, axis: int) -> list[int]:
    """Where each block starts, and the total size."""
    return list(itertools.accumulate((b.shape[axis] for b in A.blocks), initial=0))


def _split(X: jax.Array, A: BlockDiagonal, axis: int) -> list[jax.Array]:
    starts = _offsets(A, axis)
    return [X[i:j] for i, j in itertools.pairwise(starts)]


def _stacked(parts: list[jax.Array], columns: int, dtype: Any) -> jax.Array:
    return jnp.concatenate(parts) if parts else jnp.zeros((0, columns), dtype)


def _placed(parts: Sequence[jax.Array]) -> jax.Array:
    return jax.scipy.linalg.block_diag(*parts) if parts else jnp.zeros((0, 0))


def _square(A: BlockDiagonal) -> bool:
    """Whether every block is square; a square direct sum of others is singular."""
    return all(b.shape[0] == b.shape[1] for b in A.blocks)


def _aligned(A: BlockDiagonal) -> bool:
    """Whether all blocks are tall or all are wide, so that thin factors of them make thin factors of the sum."""
    shapes = [b.shape for b in A.blocks]
    return all(m >= n for m, n in shapes) or all(m <= n for m, n in shapes)


def _plain(A: BlockDiagonal) -> bool:
    return bool(A.blocks) and _square(A)


# --- algebra ---


@materialize.rule(BlockDiagonal, cost="O(mn)")
def _(A: BlockDiagonal) -> jax.Array:
    """Blocks placed on a zero matrix."""
    require_dense(A)
    return _placed([materialize(b) for b in A.blocks]).astype(A.dtype)


@diag.rule(BlockDiagonal, cost="cost of diag of the blocks")
def _(A: BlockDiagonal) -> jax.Array:
    """Diagonals of square blocks, end to end."""
    if not _plain(A):
        return diag.fallback(A)
    return jnp.concatenate([diag(b) for b in A.blocks]).astype(A.dtype)


@transpose.rule(BlockDiagonal, cost="cost of transpose of the blocks")
def _(A: BlockDiagonal) -> BlockDiagonal:
    """Block by block."""
    return BlockDiagonal(tuple(transpose(b) for b in A.blocks))


@conj.rule(BlockDiagonal, cost="cost of conj of the blocks")
def _(A: BlockDiagonal) -> BlockDiagonal:
    """Block by block."""
    return BlockDiagonal(tuple(conj(b) for b in A.blocks))


@scale.rule(BlockDiagonal, cost="cost of scale of the blocks")
def _(A: BlockDiagonal, alpha) -> BlockDiagonal:
    """Block by block."""
    return BlockDiagonal(tuple(scale(b, alpha) for b in A.blocks))


@add.rule(BlockDiagonal, BlockDiagonal, cost="cost of add of the blocks")
def _(A: BlockDiagonal, B: BlockDiagonal) -> LinearOperator:
    """Block by block; lazy where the blocks do not fit."""
    same_shape(A, B)
    if [b.shape for b in A.blocks] != [b.shape for b in B.blocks]:
        return Sum((A, B))
    return BlockDiagonal(tuple(add(a, b) for a, b in zip(A.blocks, B.blocks)))


@conversion(UniformScaling, BlockDiagonal)
def _(A: UniformScaling, like: BlockDiagonal | None) -> BlockDiagonal | None:
    if like is None or not _square(like):
        return None
    return BlockDiagonal(tuple(UniformScaling(A.value, b.shape[0]) for b in like.blocks))


@conversion(Diagonal, BlockDiagonal)
def _(A: Diagonal, like: BlockDiagonal | None) -> BlockDiagonal | None:
    if like is None or not _square(like):
        return None
    return BlockDiagonal(tuple(map(Diagonal, _split(A.diagonal, like, 0))))


@multiply.rule(BlockDiagonal, BlockDiagonal, cost="cost of multiply of the blocks")
def _(A: BlockDiagonal, B: BlockDiagonal) -> LinearOperator:
    """Block by block; lazy where the blocks do not fit."""
    inner(A, B)
    if [b.shape[1] for b in A.blocks] != [b.shape[0] for b in B.blocks]:
        return Product((A, B))
    return BlockDiagonal(tuple(multiply(a, b) for a, b in zip(A.blocks, B.blocks)))


# --- spectra ---


@svdvals.rule(BlockDiagonal, cost="cost of svdvals of the blocks")
def _(A: BlockDiagonal) -> jax.Array:
    """Singular values of all blocks, sorted."""
    if not A.blocks:
        return svdvals.fallback(A)
    return padded(jnp.concatenate(_each(A, svdvals)), A.shape)


@svd.rule(BlockDiagonal, cost="cost of svd of the blocks plus O(m² + n²)")
def _(A: BlockDiagonal, *, full: bool = False) -> SVD:
    """Singular vectors of the blocks, extended by zeros and sorted."""
    if not A.blocks:
        return svd.fallback(A, full=full)
    if not full and _aligned(A):  # thin factors are differentiable, complete ones are not
        thin = _each(A, svd)
        s = jnp.concatenate([f.S for f in thin])
        order = jnp.argsort(-s)
        return SVD(_placed([f.U for f in thin])[:, order], s[order], _placed([f.Vt for f in thin])[order])
    factors = _each(A, svd, full=True)
    left, right = (
        np.concatenate([np.arange(i, i + min(b.shape)) for i, b in zip(_offsets(A, axis), A.blocks)]) for axis in (0, 1)
    )
    s = jnp.concatenate([f.S for f in factors])
    return paired_svd(_placed([f.U for f in factors]), s, _placed([f.Vt for f in factors]), left, right, full)


@norm.rule(BlockDiagonal, cost="cost of norm of the blocks")
def _(A: BlockDiagonal, p: float = 2) -> jax.Array:
    """p-norm of the blocks' p-norms."""
    return scaled_norm(jnp.stack(_each(A, norm, p=float(p))), p) if A.blocks else norm.fallback(A, p)


@opnorm.rule(BlockDiagonal, cost="cost of opnorm of the blocks")
def _(A: BlockDiagonal, p: float = 2) -> jax.Array:
    """Largest of the blocks' norms, for p = 1, 2 and ∞."""
    require_p(p)
    return jnp.max(jnp.stack(_each(A, opnorm, p=float(p)))) if A.blocks else opnorm.fallback(A, p)


@eigvals.rule(BlockDiagonal, cost="cost of eigvals of the blocks")
def _(A: BlockDiagonal) -> jax.Array:
    """Eigenvalues of square blocks, sorted."""
    if not _plain(A):
        return eigvals.fallback(A)
    return sorted_eigenvalues(jnp.concatenate(_each(A, eigvals)))


@eigen.rule(BlockDiagonal, cost="cost of eigen of the blocks plus O(n²)")
def _(A: BlockDiagonal) -> Eigen:
    """Eigenvectors of square blocks, extended by zeros and sorted."""
    if not _plain(A):
        return eigen.fallback(A)
    factors = _each(A, eigen)
    return sorted_eigen(jnp.concatenate([f.values for f in factors]), _placed([f.vectors for f in factors]))


@schur.rule(BlockDiagonal, cost="cost of schur of the blocks plus O(n²)")
def _(A: BlockDiagonal) -> Schur:
    """Schur factors of square blocks, placed on the diagonal."""
    if not _plain(A):
        return schur.fallback(A)
    factors = _each(A, schur)
    return Schur(
        _placed([f.T for f in factors]), _placed([f.Z for f in factors]), jnp.concatenate([f.values for f in factors])
    )


# --- factorisations ---


@qr.rule(BlockDiagonal, cost="cost of qr of the blocks plus O(mn)")
def _(A: BlockDiagonal) -> QR:
    """Factors of the blocks, placed on the diagonal."""
    if not A.blocks or not _aligned(A):
        return qr.fallback(A)
    factors = _each(A, qr)
    return QR(_placed([f.Q for f in factors]), _placed([f.R for f in factors]))


@lu.rule(BlockDiagonal, cost="cost of lu of the blocks plus O(mn)")
def _(A: BlockDiagonal) -> LU:
    """Factors of the blocks, placed on the diagonal; rows pivoted within the blocks."""
    if not A.blocks or not _aligned(A):
        return lu.fallback(A)
    factors = _each(A, lu)
    p = jnp.concatenate([f.p + start for f, start in zip(factors, _offsets(A, 0))])
    return LU(_placed([f.L for f in factors]), _placed([f.U for f in factors]), p)


@cholesky.rule(BlockDiagonal, cost="cost of cholesky of the blocks plus O(n²)")
def _(A: BlockDiagonal) -> Cholesky:
    """Factors of square blocks, placed on the diagonal."""
    if not _plain(A):
        return cholesky.fallback(A)
    factors = _each_or_raise(A, cholesky)
    # in a batched call a block that is not Hermitian cannot raise
    if any(decided(ishermitian(b)) is False for b in A.blocks):
        return cholesky.fallback(A)
    L = _placed([f.L for f in factors])
    return Cholesky(L, L.conj().T)


@polar.rule(BlockDiagonal, cost="cost of polar of the blocks plus O(mn)")
def _(A: BlockDiagonal) -> Polar:
    """Factors of the blocks, placed on the diagonal."""
    if not A.blocks or not _aligned(A):
        return polar.fallback(A)
    factors = _each(A, polar)
    return Polar(_placed([f.U for f in factors]), _placed([f.P for f in factors]))


# --- determinants and systems ---


@det.rule(BlockDiagonal, cost="cost of det of the blocks")
def _(A: BlockDiagonal) -> jax.Array:
    """Product of the blocks' determinants; 0 if a block is not square."""
    if not A.blocks:
        return det.fallback(A)
    if not _square(A):
        return jnp.zeros((), compute_dtype(A.dtype))
    return product_of_dets(A, lambda A: jnp.stack(_each(A, det)), _logabsdets)


def _logabsdets(A: BlockDiagonal) -> LogAbsDet:
    parts = _each(A, logabsdet)
    return LogAbsDet(jnp.stack([f.logabs for f in parts]), jnp.stack([f.sign for f in parts]))


@logabsdet.rule(BlockDiagonal, cost="cost of logabsdet of the blocks")
def _(A: BlockDiagonal) -> LogAbsDet:
    """Sum over the blocks; singular if a block is not square."""
    if not A.blocks:
        return logabsdet.fallback(A)
    if not _square(A):
        dtype = compute_dtype(A.dtype)
        return LogAbsDet(jnp.full((), -jnp.inf, jnp.finfo(dtype).dtype), jnp.zeros((), dtype))
    logs, signs = _logabsdets(A)
    return LogAbsDet(jnp.sum(logs), jnp.prod(signs))


@tr.rule(BlockDiagonal, cost="cost of tr of the blocks")
def _(A: BlockDiagonal) -> jax.Array:
    """Sum of the traces of square blocks."""
    return jnp.sum(jnp.stack([tr(b) for b in A.blocks])) if _plain(A) else tr.fallback(A)


@solve.rule(BlockDiagonal, cost="cost of solve of the blocks")
@by_columns
def _(A: BlockDiagonal, b: jax.Array) -> jax.Array:
    """Solves block by block."""
    if A.shape[0] != A.shape[1]:
        return lstsq(A, b)
    if not _square(A):
        if isinstance(b, Tracer):
            return jnp.full_like(b, jnp.inf)
        raise SingularError("solve: a square BlockDiagonal with rectangular blocks is singular; la.lstsq accepts it")
    return _stacked(_each_or_raise(A, solve, _split(b, A, 0)), b.shape[1], b.dtype)


@lstsq.rule(BlockDiagonal, cost="cost of lstsq of the blocks")
@by_columns
def _(A: BlockDiagonal, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Least squares block by block, with the threshold of the whole matrix."""
    atol = _threshold(A, rtol, atol)
    parts = _each(A, _lstsq_above, _split(b, A, 0), [atol] * len(A.blocks))
    return _stacked(parts, b.shape[1], b.dtype)


@inv.rule(BlockDiagonal, cost="cost of inv of the blocks")
def _(A: BlockDiagonal) -> LinearOperator:
    """Inverses of square blocks."""
    return BlockDiagonal(tuple(_each_or_raise(A, inv))) if _plain(A) else inv.fallback(A)


@pinv.rule(BlockDiagonal, cost="cost of pinv of the blocks")
def _(A: BlockDiagonal, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """Pseudo-inverses of the blocks, with the threshold of the whole matrix."""
    atol = _threshold(A, rtol, atol)
    return BlockDiagonal(tuple(_each(A, _pinv_above, [atol] * len(A.blocks))))


def _threshold(A: BlockDiagonal, rtol: float | None, atol: jax.Array | float) -> jax.Array:
    rtol = default_rtol(A.shape, compute_dtype(A.dtype)) if rtol is None else rtol
    return jnp.maximum(atol, rtol * jax.lax.stop_gradient(opnorm(A)))


# --- functions ---


@exp.rule(BlockDiagonal, cost="cost of exp of the blocks")
def _(A: BlockDiagonal) -> LinearOperator:
    """Exponentials of square blocks."""
    return BlockDiagonal(tuple(_each(A, exp))) if _plain(A) else exp.fallback(A)


@log.rule(BlockDiagonal, cost="cost of log of the blocks")
def _(A: BlockDiagonal) -> LinearOperator:
    """Logarithms of square blocks."""
    return BlockDiagonal(tuple(_each_or_raise(A, log))) if _plain(A) else log.fallback(A)


@sqrt.rule(BlockDiagonal, cost="cost of sqrt of the blocks")
def _(A: BlockDiagonal) -> LinearOperator:
    """Square roots of square blocks."""
    return BlockDiagonal(tuple(_each_or_raise(A, sqrt))) if _plain(A) else sqrt.fallback(A)
