"""`TridiagonalToeplitz`: three constant diagonals, with eigenvalues and eigenvectors in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import operator, whole_number
from lax_linalg.dense.scaling import moduli, over_unit, unit_of
from lax_linalg.errors import DimensionMismatch
from lax_linalg.operators.band import Band
from lax_linalg.operators.conversion import conversion
from lax_linalg.operators.toeplitz import Toeplitz
from lax_linalg.operators.tridiagonal import Tridiagonal
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import transpose
from lax_linalg.verbs.basic import compute_dtype, require_dense
from lax_linalg.verbs.eigen import Eigen, eigen, eigvals, sorted_eigenvalues


@operator(data=("lower", "diagonal", "upper"), meta=("n",), linear=complex)
class TridiagonalToeplitz(Band):
    """The matrix [n, n] with the numbers b below, a on and c above the diagonal.

    Eigenvalues λ_k = a + 2 √(bc) cos(kπ/(n + 1)), k = 1 … n, with right eigenvectors (b/c)^{j/2} sin(jkπ/(n + 1)): far
    from normal where |b| and |c| differ much. (−1, 2, −1) is the second difference of fixed ends.

    Args:
        lower: b.
        diagonal: a.
        upper: c.
        n: the size.

    Raises:
        DimensionMismatch: unless the three are numbers and n a size.

    Cost: O(1) memory, O(n) per product with a vector.

    Example:
        >>> import lax_linalg as la
        >>> print(la.eigvals(la.TridiagonalToeplitz(-1.0, 2.0, -1.0, 2)).real)
        [1. 3.]

    Source: Noschese, Pasquini & Reichel, Tridiagonal Toeplitz matrices: properties and novel applications, Numer.
    Linear Algebra Appl. (2013), equations 4–7.
    """

    lower: jax.Array
    diagonal: jax.Array
    upper: jax.Array
    n: int

    def _validate(self) -> None:
        for name in self.data_fields:
            if jnp.ndim(getattr(self, name)) != 0:
                shape = list(jnp.shape(getattr(self, name)))
                raise DimensionMismatch(f"TridiagonalToeplitz: {name} is one number, got shape {shape}")
        object.__setattr__(self, "n", whole_number("TridiagonalToeplitz: the size n", self.n))

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.n

    @property
    def tridiagonal(self) -> Tridiagonal:
        """The same matrix as a `Tridiagonal`."""
        off = (max(self.n - 1, 0),)
        return Tridiagonal(
            jnp.broadcast_to(self.lower, off),
            jnp.broadcast_to(self.diagonal, (self.n,)),
            jnp.broadcast_to(self.upper, off),
        )

    @property
    def toeplitz(self) -> Toeplitz:
        """The same matrix as a `Toeplitz`."""
        zeros = jnp.zeros((self.n,), self.dtype)
        column = zeros.at[1:2].set(self.lower).at[:1].set(self.diagonal)
        return Toeplitz(column, zeros.at[1:2].set(self.upper).at[:1].set(self.diagonal))

    def _matmat(self, X: jax.Array) -> jax.Array:
        lower, diagonal, upper = (x.astype(X.dtype) for x in (self.lower, self.diagonal, self.upper))
        return (diagonal * X).at[1:].add(lower * X[:-1]).at[:-1].add(upper * X[1:])


@transpose.rule(TridiagonalToeplitz, cost="O(1)")
def _(A: TridiagonalToeplitz) -> TridiagonalToeplitz:
    """Outer numbers exchanged."""
    return TridiagonalToeplitz(A.upper, A.diagonal, A.lower, A.n)


@conversion(UniformScaling, TridiagonalToeplitz)
def _(A: UniformScaling, like: TridiagonalToeplitz | None) -> TridiagonalToeplitz:
    zero = jnp.zeros_like(A.value)
    return TridiagonalToeplitz(zero, A.value, zero, A.shape[0])


conversion(TridiagonalToeplitz, Tridiagonal)(lambda A, like: A.tridiagonal)
conversion(TridiagonalToeplitz, Toeplitz)(lambda A, like: A.toeplitz)


def _numbers(A: TridiagonalToeplitz) -> tuple[jax.Array, jax.Array, jax.Array]:
    dtype = jnp.result_type(compute_dtype(A.dtype), jnp.complex64)
    return A.lower.astype(dtype), A.diagonal.astype(dtype), A.upper.astype(dtype)


def _half_turns(k: jax.Array, n: int, dtype: jnp.dtype) -> jax.Array:
    """cos(kπ/(n + 1)) for integers k, antisymmetric about the middle to the last bit."""
    return jnp.sin((n + 1 - 2 * k).astype(dtype) * (jnp.pi / (2 * (n + 1))))


def _eigenvalues(A: TridiagonalToeplitz) -> jax.Array:
    b, a, c = _numbers(A)
    k = jnp.arange(1, A.n + 1)
    # √b √c is either root of bc, and neither over- nor underflows
    return a + 2 * jnp.sqrt(b) * jnp.sqrt(c) * _half_turns(k, A.n, jnp.finfo(a.dtype).dtype)


@eigvals.rule(TridiagonalToeplitz, cost="O(n log n)")
def _(A: TridiagonalToeplitz) -> jax.Array:
    """a + 2 √(bc) cos(kπ/(n + 1)), sorted; not differentiable at bc = 0, where A is defective."""
    return sorted_eigenvalues(_eigenvalues(A))


@eigen.rule(TridiagonalToeplitz, cost="O(n²), the size of the vectors")
def _(A: TridiagonalToeplitz) -> Eigen:
    """a + 2 √(bc) cos(kπ/(n + 1)) with (b/c)^{j/2} sin(jkπ/(n + 1)), scaled to unit columns."""
    w = _eigenvalues(A)
    b, _, c = _numbers(A)
    unit = unit_of(jnp.stack([b, c]))  # the derivative of an angle divides by a square
    b, c = over_unit(b, unit), over_unit(c, unit)
    real = jnp.finfo(w.dtype).dtype
    require_dense(A, w.dtype)
    n = A.n
    j = jnp.arange(1, n + 1)
    # sin(jkπ/(n + 1)), the product reduced before rounding
    product = (j[:, None].astype(jnp.uint32) * j[None, :].astype(jnp.uint32)) % (2 * (n + 1))
    waves = jnp.sin(product.astype(real) * (jnp.pi / (n + 1)))

    # (√b/√c)^j in logarithms, its largest element 1, so that strong grading does not overflow
    def log_modulus(x: jax.Array) -> jax.Array:
        return jnp.log(jnp.where(x == 0, 1, moduli(x)))

    slope = (log_modulus(b) - log_modulus(c)) / 2
    steps = jnp.where(slope > 0, j - n, j - 1).astype(real)
    graded = jnp.exp(steps * slope)
    # where one side vanishes A is defective, and its one eigenvector is the first or the last unit vector
    graded = jnp.where(b == 0, jnp.where(c == 0, graded, j == 1), jnp.where(c == 0, j == n, graded))
    angle = (jnp.angle(b) - jnp.angle(c)) / 2
    turned = graded * jax.lax.complex(jnp.cos(j * angle), jnp.sin(j * angle))
    V = jnp.where((b == 0) & (c == 0), jnp.eye(n, dtype=w.dtype), turned[:, None] * waves)
    size = jnp.linalg.norm(V, axis=0)
    V = V / jnp.where(size > 0, size, 1)
    order = jnp.lexsort((w.imag, w.real))
    return Eigen(w[order], V[:, order])
