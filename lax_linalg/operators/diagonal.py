"""`Diagonal`: elementwise multiplication, the Jacobian of every elementwise activation."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.dense import Dense
from lax_linalg.core.eager_checks import decided
from lax_linalg.core.operator import LinearOperator, operator
from lax_linalg.dense.branch import principal
from lax_linalg.dense.scaling import moduli, phases
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.assemble import sorted_descending
from lax_linalg.operators.conversion import conversion
from lax_linalg.verbs.arithmetic import inner, multiply, transpose
from lax_linalg.verbs.basic import compute_dtype, diag, materialize, require_dense
from lax_linalg.verbs.cholesky import Cholesky, cholesky
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product, sum_logabsdet
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigen, sorted_eigenvalues
from lax_linalg.verbs.functions import exp, log, sqrt
from lax_linalg.verbs.lu import LU, lu
from lax_linalg.verbs.norms import cond, norm, opnorm, require_p, scaled_norm
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
    tolerance,
)
from lax_linalg.verbs.qr import QR, qr
from lax_linalg.verbs.schur import Schur, schur
from lax_linalg.verbs.solve import by_columns, default_rtol, inv, lstsq, pinv, reciprocals, require_nonzero, solve
from lax_linalg.verbs.svd import SVD, svd, svdvals


@operator(data=("diagonal",), linear=complex)
class Diagonal(LinearOperator):
    """The square matrix diag(d₁ … d_n).

    Args:
        diagonal: its entries, [n].

    Raises:
        DimensionMismatch: unless `diagonal` has one axis.

    Cost: O(n) memory and per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> print(la.Diagonal([1.0, 2.0]) @ [3.0, 4.0])
        [3. 8.]
    """

    diagonal: jax.Array

    def _validate(self) -> None:
        if jnp.ndim(self.diagonal) != 1:
            raise DimensionMismatch(f"a diagonal has 1 axis, got an array of shape {list(jnp.shape(self.diagonal))}")

    @property
    def shape(self) -> tuple[int, int]:
        n = self.diagonal.shape[-1]
        return n, n

    def _matmat(self, X: jax.Array) -> jax.Array:
        return self.diagonal.astype(X.dtype)[:, None] * X


@materialize.rule(Diagonal, cost="O(n²)")
def _(A: Diagonal) -> jax.Array:
    """Placed on a zero matrix."""
    require_dense(A)
    return jnp.diag(A.diagonal)


@diag.rule(Diagonal, cost="O(1)")
def _(A: Diagonal) -> jax.Array:
    """The stored diagonal."""
    return A.diagonal


@transpose.rule(Diagonal, cost="O(1)")
def _(A: Diagonal) -> Diagonal:
    """The matrix itself."""
    return A


@conversion(Diagonal, Dense, products=False)
def _(A: Diagonal, like: LinearOperator | None) -> Dense:
    return Dense(materialize(A))


@multiply.rule(Diagonal, Diagonal, cost="O(n)")
def _(A: Diagonal, B: Diagonal) -> Diagonal:
    """Product of the diagonals."""
    inner(A, B)
    return Diagonal(A.diagonal * B.diagonal)


@multiply.rule(Diagonal, Dense, cost="O(mn)")
def _(A: Diagonal, B: Dense) -> Dense:
    """Scaled rows."""
    inner(A, B)
    return Dense(A.diagonal[:, None] * B.array)


@multiply.rule(Dense, Diagonal, cost="O(mn)")
def _(A: Dense, B: Diagonal) -> Dense:
    """Scaled columns."""
    inner(A, B)
    return Dense(A.array * B.diagonal)


@svdvals.rule(Diagonal, cost="O(n log n)")
def _(A: Diagonal) -> jax.Array:
    """Moduli of the diagonal, sorted."""
    d = A.diagonal.astype(compute_dtype(A.dtype))
    return sorted_descending(moduli(d))


@eigvals.rule(Diagonal, cost="O(n log n)")
def _(A: Diagonal) -> jax.Array:
    """The diagonal, sorted."""
    return sorted_eigenvalues(_complex(A))


@norm.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, p: float = 2) -> jax.Array:
    """Vector norm of the diagonal."""
    return scaled_norm(_computed(A), p)


@opnorm.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, p: float = 2) -> jax.Array:
    """Largest modulus of the diagonal, for p = 1, 2 and ∞."""
    require_p(p)
    return jnp.max(moduli(_computed(A)), initial=0)


@cond.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, p: float = 2) -> jax.Array:
    """Ratio of extreme moduli of the diagonal, for p = 1, 2 and ∞."""
    require_p(p)
    return cond.fallback(A, 2)


def _computed(A: Diagonal) -> jax.Array:
    return A.diagonal.astype(compute_dtype(A.dtype))


def _complex(A: Diagonal) -> jax.Array:
    d = _computed(A)
    return d.astype(jnp.result_type(d.dtype, jnp.complex64))


def _placed(A: Diagonal) -> tuple[jax.Array, jax.Array]:
    """The materialised matrix and the identity, in the dtype of A's factorisations."""
    d = _computed(A)
    require_dense(A, d.dtype)
    return jnp.diag(d), jnp.eye(A.shape[0], dtype=d.dtype)


@eigen.rule(Diagonal, cost="O(n²), the size of the vectors")
def _(A: Diagonal) -> Eigen:
    """The diagonal, sorted, with unit vectors."""
    return sorted_eigen(_complex(A), _placed(A)[1].astype(_complex(A).dtype))


@schur.rule(Diagonal, cost="O(n²), the size of the factors")
def _(A: Diagonal) -> Schur:
    """The matrix itself and the identity."""
    w = _complex(A)
    T, identity = (x.astype(w.dtype) for x in _placed(A))
    return Schur(T, identity, w)


@svd.rule(Diagonal, cost="O(n²), the size of the vectors")
def _(A: Diagonal, *, full: bool = False) -> SVD:
    """Unit vectors by decreasing modulus, with the phases of the diagonal on the left."""
    d = _computed(A)
    phase, modulus = phases(d), moduli(d)
    order = jnp.argsort(-modulus)
    V = _placed(A)[1][:, order]
    return SVD(V * phase[order], modulus[order], V.T)


@polar.rule(Diagonal, cost="O(n²), the size of the factors")
def _(A: Diagonal) -> Polar:
    """Phases and moduli."""
    d = _computed(A)
    require_dense(A, d.dtype)
    return Polar(jnp.diag(phases(d)), jnp.diag(moduli(d).astype(d.dtype)))


@qr.rule(Diagonal, cost="O(n²), the size of the factors")
def _(A: Diagonal) -> QR:
    """The identity and the matrix itself."""
    R, identity = _placed(A)
    return QR(identity, R)


@lu.rule(Diagonal, cost="O(n²), the size of the factors")
def _(A: Diagonal) -> LU:
    """The identity and the matrix itself, without pivoting."""
    U, identity = _placed(A)
    return LU(identity, U, jnp.arange(A.shape[0], dtype=jnp.int32))


@cholesky.rule(Diagonal, cost="O(n²), the size of the factors")
def _(A: Diagonal) -> Cholesky:
    """Square roots of the diagonal."""
    d = _computed(A)
    if decided(jnp.all((d.real > 0) & (d.imag == 0))) is False:
        return cholesky.fallback(A)  # says what is wrong with the matrix
    require_dense(A, d.dtype)
    positive = d.real > 0
    L = jnp.diag(jnp.where(positive, jnp.sqrt(jnp.where(positive, d.real, 1)), jnp.nan).astype(d.dtype))
    return Cholesky(L, L)


def _always(A: LinearOperator, *, rtol: float | None = None) -> jax.Array:
    """True by type."""
    return jnp.asarray(True)


for _predicate in (issymmetric, isnormal, isdiag, istriu, istril):
    _predicate.rule(Diagonal, cost="O(1)")(_always)


@ishermitian.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, *, rtol: float | None = None) -> jax.Array:
    """Whether the diagonal is real."""
    d = _computed(A)
    return 2 * scaled_norm(d.imag) <= tolerance(A, d, rtol) * scaled_norm(d)


@isposdef.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, *, rtol: float | None = None) -> jax.Array:
    """Whether the diagonal is real and positive."""
    return ishermitian(A, rtol=rtol) & jnp.all(_computed(A).real > 0)


@isunitary.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, *, rtol: float | None = None) -> jax.Array:
    """Whether the moduli are 1."""
    d = _computed(A)
    return scaled_norm(jnp.abs(d) ** 2 - 1) <= tolerance(A, d, rtol) * A.shape[0] ** 0.5


@det.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> jax.Array:
    """Product of the diagonal."""
    return product(_computed(A))


@logabsdet.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> LogAbsDet:
    """Sum of the logarithms of the diagonal."""
    return sum_logabsdet(_computed(A))


@solve.rule(Diagonal, cost="O(n) per column")
@by_columns
def _(A: Diagonal, b: jax.Array) -> jax.Array:
    """Division by the diagonal."""
    require_nonzero(A.diagonal, "solve")
    return b / A.diagonal.astype(b.dtype)[:, None]


@lstsq.rule(Diagonal, cost="O(n) per column")
@by_columns
def _(A: Diagonal, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Division by the entries of the diagonal that are not small."""
    d = A.diagonal.astype(b.dtype)
    return reciprocals(d, default_rtol(A.shape, d.dtype) if rtol is None else rtol, atol)[:, None] * b


@inv.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> Diagonal:
    """Reciprocals of the diagonal."""
    require_nonzero(A.diagonal, "inv")
    return Diagonal(1 / _computed(A))


@pinv.rule(Diagonal, cost="O(n)")
def _(A: Diagonal, *, rtol: float | None = None, atol: jax.Array | float = 0) -> Diagonal:
    """Reciprocals of the entries of the diagonal that are not small."""
    d = _computed(A)
    return Diagonal(reciprocals(d, default_rtol(A.shape, d.dtype) if rtol is None else rtol, atol))


@exp.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> Diagonal:
    """Exponentials of the diagonal."""
    return Diagonal(jnp.exp(_computed(A)))


@log.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> Diagonal:
    """Principal logarithms of the diagonal."""
    require_nonzero(A.diagonal, "log")
    return Diagonal(principal("log", _complex(A)))


@sqrt.rule(Diagonal, cost="O(n)")
def _(A: Diagonal) -> Diagonal:
    """Principal square roots of the diagonal."""
    return Diagonal(principal("sqrt", _complex(A)))
