"""Lazy algebra: sums, products, multiples and transposes of operators that have no joint structure."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.canonical import canonical
from lax_linalg.core.operator import LinearOperator, as_part, operator
from lax_linalg.verbs.arithmetic import conj, inner, multiply, same_shape, scale, transpose
from lax_linalg.verbs.basic import diag, materialize, require_dense


@operator(data=("parent",))
class Transpose(LinearOperator):
    """The transpose of an operator, Aᵀ x by transposing x ↦ A x.

    Cost: that of one product with A.

    Example:
        >>> import lax_linalg as la
        >>> A = la.Product((la.Diagonal([1.0, 2.0]), la.Dense([[1.0], [1.0]])))
        >>> la.Transpose(A)
        1×2 Transpose{float32} of 2×1 Product{float32} of 2 factors
    """

    parent: LinearOperator

    def __post_init__(self) -> None:
        object.__setattr__(self, "parent", as_part(self.parent))

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.parent.shape
        return n, m

    @property
    def dtype(self) -> jnp.dtype:
        return self.parent.dtype

    def _matmat(self, X: jax.Array) -> jax.Array:
        if not jnp.issubdtype(X.dtype, jnp.inexact):  # integers have no linear maps in JAX
            return self._matmat(X.astype(float)).astype(X.dtype)
        columns = jax.ShapeDtypeStruct((self.parent.shape[1], X.shape[1]), X.dtype)
        transposed = jax.linear_transpose(self.parent._matmat, columns)
        return canonical(lambda X: transposed(X)[0], X)(X)

    def _describe(self) -> str:
        return f"of {self.parent!r}"


def own_transpose(A: Transpose) -> LinearOperator | None:
    """Aᵀ as A's structure transposes it, for a `Transpose` that was put around one with a rule; None if there is none.

    Example:
        >>> import lax_linalg as la
        >>> own_transpose(la.Transpose(la.Toeplitz([1.0, 2.0], [1.0, 3.0])))
        2×2 Toeplitz{float32}
    """
    own = transpose(A.parent)
    return None if isinstance(own, Transpose) else own


@operator(data=("alpha", "parent"))
class Scaled(LinearOperator):
    """The multiple α A.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.Scaled(2.0, la.Dense([[1.0]]))))
        [[2.]]
    """

    alpha: jax.Array
    parent: LinearOperator

    def __post_init__(self) -> None:
        object.__setattr__(self, "parent", as_part(self.parent))
        super().__post_init__()

    @property
    def shape(self) -> tuple[int, int]:
        return self.parent.shape

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(self.alpha, self.parent.dtype)

    def _matmat(self, X: jax.Array) -> jax.Array:
        return self.alpha.astype(X.dtype) * self.parent._matmat(X)

    def _describe(self) -> str:
        return f"of {self.parent!r}"


@operator(data=("terms",))
class Sum(LinearOperator):
    """The sum A₁ + … + A_r of operators of one shape.

    Raises:
        DimensionMismatch: if the shapes differ.

    Example:
        >>> import lax_linalg as la
        >>> la.Sum((la.I(3), la.Diagonal([1.0, 2.0, 3.0])))
        3×3 Sum{float32} of 2 terms
    """

    terms: tuple[LinearOperator, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(as_part(t) for t in self.terms))
        for term in self.terms[1:]:
            same_shape(self.terms[0], term)

    @property
    def shape(self) -> tuple[int, int]:
        return self.terms[0].shape

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(*(t.dtype for t in self.terms))

    def _matmat(self, X: jax.Array) -> jax.Array:
        return sum((t._matmat(X) for t in self.terms[1:]), self.terms[0]._matmat(X))

    def _describe(self) -> str:
        return f"of {len(self.terms)} terms"


@operator(data=("factors",))
class Product(LinearOperator):
    """The product A₁ A₂ … A_r, kept factored.

    Raises:
        DimensionMismatch: if neighbours do not fit.

    Example:
        >>> import lax_linalg as la
        >>> la.Product((la.I(2), la.Dense([[1.0], [2.0]])))
        2×1 Product{float32} of 2 factors
    """

    factors: tuple[LinearOperator, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(as_part(f) for f in self.factors))
        for left, right in zip(self.factors, self.factors[1:]):
            inner(left, right)

    @property
    def shape(self) -> tuple[int, int]:
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(*(f.dtype for f in self.factors))

    def _matmat(self, X: jax.Array) -> jax.Array:
        for factor in reversed(self.factors):
            X = factor._matmat(X)
        return X

    def _describe(self) -> str:
        return f"of {len(self.factors)} factors"


def _terms(A: LinearOperator) -> tuple[LinearOperator, ...]:
    return A.terms if isinstance(A, Sum) else (A,)


def _factors(A: LinearOperator) -> tuple[LinearOperator, ...]:
    return A.factors if isinstance(A, Product) else (A,)


def flat_sum(A: LinearOperator, B: LinearOperator) -> Sum:
    """The lazy sum, of which the terms of sums are terms.

    Example:
        >>> import lax_linalg as la
        >>> flat_sum(la.Sum((la.I(2), la.I(2))), la.I(2))
        2×2 Sum{float32} of 3 terms
    """
    return Sum(_terms(A) + _terms(B))


def lazy_product(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    """The factors side by side and numbers in front, so that what stands behind these keeps its structure.

    Example:
        >>> import lax_linalg as la
        >>> P = la.Permutation([1, 0])
        >>> lazy_product(2.0 * P, P)
        2×2 Scaled{float32} of 2×2 Permutation{int8}
    """
    inner(A, B)
    if isinstance(A, Scaled):
        return scale(multiply(A.parent, B), A.alpha)
    if isinstance(B, Scaled):
        return scale(multiply(A, B.parent), B.alpha)
    return Product(_factors(A) + _factors(B))


@transpose.rule(Transpose, cost="O(1)")
def _(A: Transpose) -> LinearOperator:
    """The operator that was transposed."""
    return A.parent


@transpose.rule(Scaled, cost="cost of transpose")
def _(A: Scaled) -> LinearOperator:
    """(α A)ᵀ = α Aᵀ."""
    return scale(transpose(A.parent), A.alpha)


@transpose.rule(Sum, cost="cost of transpose of the terms")
def _(A: Sum) -> Sum:
    """Term by term."""
    return Sum(tuple(transpose(t) for t in A.terms))


@transpose.rule(Product, cost="cost of transpose of the factors")
def _(A: Product) -> Product:
    """(A₁ … A_r)ᵀ = A_rᵀ … A₁ᵀ."""
    return Product(tuple(transpose(f) for f in reversed(A.factors)))


@conj.rule(Transpose, cost="cost of conj")
def _(A: Transpose) -> LinearOperator:
    """conj(Aᵀ) = conj(A)ᵀ."""
    return transpose(conj(A.parent))


@conj.rule(Scaled, cost="cost of conj")
def _(A: Scaled) -> LinearOperator:
    """conj(α A) = conj(α) conj(A)."""
    return scale(conj(A.parent), jnp.conj(A.alpha))


@conj.rule(Sum, cost="cost of conj of the terms")
def _(A: Sum) -> Sum:
    """Term by term."""
    return Sum(tuple(conj(t) for t in A.terms))


@conj.rule(Product, cost="cost of conj of the factors")
def _(A: Product) -> Product:
    """Factor by factor."""
    return Product(tuple(conj(f) for f in A.factors))


@scale.rule(Scaled, cost="O(1)")
def _(A: Scaled, alpha) -> LinearOperator:
    """α (β A) = (α β) A."""
    return scale(A.parent, alpha * A.alpha)


@diag.rule(Sum, cost="cost of diag of the terms")
def _(A: Sum) -> jax.Array:
    """Sum of the diagonals."""
    return sum((diag(t) for t in A.terms[1:]), diag(A.terms[0]))


@diag.rule(Scaled, cost="cost of diag")
def _(A: Scaled) -> jax.Array:
    """α times the diagonal."""
    return A.alpha * diag(A.parent)


@diag.rule(Transpose, cost="cost of diag")
def _(A: Transpose) -> jax.Array:
    """The diagonal of A."""
    return diag(A.parent)


@materialize.rule(Sum, cost="O(mn) per term")
def _(A: Sum) -> jax.Array:
    """Sum of the materialised terms."""
    require_dense(A)
    return sum((materialize(t) for t in A.terms[1:]), materialize(A.terms[0])).astype(A.dtype)


@materialize.rule(Scaled, cost="O(mn)")
def _(A: Scaled) -> jax.Array:
    """α times the materialised matrix."""
    return (A.alpha * materialize(A.parent)).astype(A.dtype)


@materialize.rule(Transpose, cost="O(mn)")
def _(A: Transpose) -> jax.Array:
    """Transpose of the materialised matrix."""
    return materialize(A.parent).T


@materialize.rule(Product, cost="products with the narrowest end")
def _(A: Product) -> jax.Array:
    """The last factor's columns, or the first factor's rows if they are fewer, sent through the others."""
    require_dense(A)
    m, n = A.shape
    if m < n:
        return (transpose(Product(A.factors[1:])) @ materialize(A.factors[0]).T.astype(A.dtype)).T
    return Product(A.factors[:-1]) @ materialize(A.factors[-1]).astype(A.dtype)
