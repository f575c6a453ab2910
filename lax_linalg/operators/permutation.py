"""`Permutation`: reordered components; everything about it is read off its cycles."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError
from lax_linalg.operators.unitary import identity, unit_values, unitary_polar, unitary_qr, unitary_svd
from lax_linalg.verbs.arithmetic import inner, multiply, transpose
from lax_linalg.verbs.basic import diag, materialize, require_dense
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigen, sorted_eigenvalues
from lax_linalg.verbs.lu import LU, lu
from lax_linalg.verbs.norms import cond, norm, opnorm, require_p
from lax_linalg.verbs.polar import Polar, polar
from lax_linalg.verbs.predicates import (
    isdiag,
    ishermitian,
    isnormal,
    isposdef,
    issymmetric,
    istril,
    istriu,
    isunitary,
)
from lax_linalg.verbs.qr import QR, qr
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, inv, lstsq, pinv, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


@operator(data=("p",))
class Permutation(LinearOperator):
    """The permutation matrix P with P x = x[p], so that P A = A[p] as in `lu`.

    Args:
        p: the integers 0 … n − 1 in any order, [n].

    Raises:
        DimensionMismatch: unless p has one axis.
        LinearAlgebraError: unless p is a permutation (checked where its values are known).

    Cost: O(n) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> P = la.Permutation([2, 0, 1])
        >>> print(P @ [1.0, 2.0, 3.0], float(la.det(P)))
        [3. 1. 2.] 1.0
    """

    p: jax.Array

    def _validate(self) -> None:
        if jnp.ndim(self.p) != 1:
            raise DimensionMismatch(f"a permutation has 1 axis, got an array of shape {list(jnp.shape(self.p))}")
        if not jnp.issubdtype(self.p.dtype, jnp.integer):
            if self.p.size:
                raise LinearAlgebraError(f"a permutation holds integers, got {self.p.dtype.name}")
            object.__setattr__(self, "p", self.p.astype(int))
        if isinstance(self.p, (Tracer, jax.ShapeDtypeStruct)):
            return
        if not bool((jnp.sort(self.p) == jnp.arange(self.p.size)).all()):
            raise LinearAlgebraError(f"a permutation holds each of 0 … {self.p.size - 1} once, got {self.p.tolist()}")

    @property
    def shape(self) -> tuple[int, int]:
        n = self.p.shape[-1]
        return n, n

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(jnp.int8)  # zeros and ones, which leave the dtype of what they meet alone

    @property
    def unitary(self) -> bool:
        return True

    def _matmat(self, X: jax.Array) -> jax.Array:
        return X[self.p]


def _inverse(p: jax.Array) -> jax.Array:
    return jnp.zeros_like(p).at[p].set(jnp.arange(p.shape[0], dtype=p.dtype))


def _real() -> jnp.dtype:
    return jnp.dtype(jnp.result_type(float))


def _labels(p: jax.Array) -> jax.Array:
    """The smallest member of each index's cycle, by pointer doubling."""
    labels = jnp.arange(p.shape[0], dtype=p.dtype)
    for _ in range(math.ceil(math.log2(max(p.shape[0], 2)))):
        labels = jnp.minimum(labels, labels[p])
        p = p[p]
    return labels


def _sign(p: jax.Array) -> jax.Array:
    cycles = jnp.sum(_labels(p) == jnp.arange(p.shape[0]))
    return jnp.where((p.shape[0] - cycles) % 2 == 0, 1, -1).astype(_real())


@materialize.rule(Permutation, cost="O(n²)")
def _(A: Permutation) -> jax.Array:
    """Ones at (i, p_i)."""
    require_dense(A)
    return jnp.eye(A.shape[0], dtype=A.dtype)[A.p]


@diag.rule(Permutation, cost="O(n)")
def _(A: Permutation) -> jax.Array:
    """Ones at the fixed points."""
    return (A.p == jnp.arange(A.shape[0])).astype(A.dtype)


@transpose.rule(Permutation, cost="O(n)")
def _(A: Permutation) -> Permutation:
    """The inverse permutation."""
    return Permutation(_inverse(A.p))


@multiply.rule(Permutation, Permutation, cost="O(n)")
def _(A: Permutation, B: Permutation) -> Permutation:
    """Composition."""
    inner(A, B)
    return Permutation(B.p[A.p])


@multiply.rule(Permutation, Dense, cost="O(mn)")
def _(A: Permutation, B: Dense) -> Dense:
    """Permuted rows."""
    inner(A, B)
    return Dense(B.array[A.p])


@multiply.rule(Dense, Permutation, cost="O(mn)")
def _(A: Dense, B: Permutation) -> Dense:
    """Permuted columns."""
    inner(A, B)
    return Dense(A.array[:, _inverse(B.p)])


@svdvals.rule(Permutation, cost="O(n)")
def _(A: Permutation) -> jax.Array:
    """Ones: A is orthogonal."""
    return unit_values(A)


@svd.rule(Permutation, cost="O(n²)")
def _(A: Permutation, *, full: bool = False) -> SVD:
    """A, ones and the identity."""
    return unitary_svd(A)


@eigvals.rule(Permutation, cost="O(n log n)")
def _(A: Permutation) -> jax.Array:
    """Roots of unity: those of order k for each cycle of length k."""
    _, position, length = _cycles(A.p)
    return sorted_eigenvalues(_root_of_unity(position, length))


@eigen.rule(Permutation, cost="O(n²), the size of the vectors")
def _(A: Permutation) -> Eigen:
    """Roots of unity with a Fourier basis on each cycle, all together unitary."""
    return sorted_eigen(*_fourier(A))


@schur.rule(Permutation, cost="O(n²), the size of the factors")
def _(A: Permutation) -> Schur:
    """Diagonal in the Fourier bases of the cycles."""
    w, V = _fourier(A)
    return Schur(jnp.diag(w), V, w)


def _fourier(A: Permutation) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and a unitary basis of eigenvectors. On the cycle i, p_i, p_{p_i}, … one has the phases ωʲ."""
    require_dense(A, jnp.result_type(_real(), jnp.complex64))
    labels, position, length = _cycles(A.p)
    # column k belongs to the cycle of k, and to the root of unity with the number of k's position
    together = labels[:, None] == labels[None, :]
    turns = (position[:, None] * position[None, :]) % length[None, :]  # reduced before rounding
    V = _root_of_unity(turns, length[None, :]) / jnp.sqrt(length.astype(_real()))
    return _root_of_unity(position, length), jnp.where(together, V, 0)


def _root_of_unity(k: jax.Array, n: jax.Array) -> jax.Array:
    """exp(2πi k/n)."""
    angle = 2 * jnp.pi * k.astype(_real()) / n
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def _cycles(p: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each index the smallest member of its cycle, how many steps i ↦ p_i lead from there to it, and the length."""
    labels = _labels(p)
    start = labels == jnp.arange(p.shape[0], dtype=labels.dtype)
    # pointer doubling along the steps backwards, which stop at the start
    back, position = jnp.where(start, labels, _inverse(p)), jnp.where(start, 0, 1)
    for _ in range(math.ceil(math.log2(max(p.shape[0], 2)))):
        position, back = position + position[back], back[back]
    return labels, position, jnp.zeros(p.shape, jnp.int32).at[labels].add(1)[labels]


@polar.rule(Permutation, cost="O(n²)")
def _(A: Permutation) -> Polar:
    """A and the identity."""
    return unitary_polar(A)


@qr.rule(Permutation, cost="O(n²)")
def _(A: Permutation) -> QR:
    """A and the identity."""
    return unitary_qr(A)


@lu.rule(Permutation, cost="O(n²)")
def _(A: Permutation) -> LU:
    """Identities and the inverse permutation."""
    return LU(identity(A), identity(A), _inverse(A.p))


@det.rule(Permutation, cost="O(n log n)")
def _(A: Permutation) -> jax.Array:
    """Parity of n minus the number of cycles."""
    return _sign(A.p)


@logabsdet.rule(Permutation, cost="O(n log n)")
def _(A: Permutation) -> LogAbsDet:
    """Zero, and the parity of n minus the number of cycles."""
    return LogAbsDet(jnp.zeros((), _real()), _sign(A.p))


def _involution(A: Permutation, *, rtol: float | None = None) -> jax.Array:
    """Whether the permutation is its own inverse."""
    return jnp.all(A.p[A.p] == jnp.arange(A.shape[0]))


def _always(A: Permutation, *, rtol: float | None = None) -> jax.Array:
    """True by type."""
    return jnp.asarray(True)


def _identity(A: Permutation, *, rtol: float | None = None) -> jax.Array:
    """Whether nothing moves."""
    return jnp.all(A.p == jnp.arange(A.shape[0]))


for _predicate, _rule in (
    *((v, _involution) for v in (issymmetric, ishermitian)),
    *((v, _always) for v in (isunitary, isnormal)),
    *((v, _identity) for v in (isposdef, isdiag, istriu, istril)),
):
    _predicate.rule(Permutation, cost="O(1)" if _rule is _always else "O(n)")(_rule)


@norm.rule(Permutation, cost="O(1)")
def _(A: Permutation, p: float = 2) -> jax.Array:
    """n^{1/p}."""
    n = A.shape[0]
    return jnp.asarray(min(n, 1) if p == jnp.inf else n ** (1 / p), _real())


@opnorm.rule(Permutation, cost="O(1)")
def _(A: Permutation, p: float = 2) -> jax.Array:
    """1, for p = 1, 2 and ∞."""
    require_p(p)
    return jnp.asarray(min(A.shape[0], 1), _real())


@cond.rule(Permutation, cost="O(1)")
def _(A: Permutation, p: float = 2) -> jax.Array:
    """1, for p = 1, 2 and ∞."""
    return opnorm(A, p)


@solve.rule(Permutation, cost="O(n) per column")
@by_columns
def _(A: Permutation, b: jax.Array) -> jax.Array:
    """Product with the transpose."""
    return b[_inverse(A.p)]


@lstsq.rule(Permutation, cost="O(n) per column")
@by_columns
def _(A: Permutation, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Product with the transpose."""
    return b[_inverse(A.p)]


@inv.rule(Permutation, cost="O(n)")
def _(A: Permutation) -> LinearOperator:
    """The transpose."""
    return transpose(A)


@pinv.rule(Permutation, cost="O(n)")
def _(A: Permutation, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """The transpose."""
    return transpose(A)
