"""The algebra of operators: adjoint, transpose, conjugate, scaling, sum and product, structured where a rule is."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator
from lax_linalg.errors import DimensionMismatch


@verb(algorithm="Lazy: transposes the product of A (`jax.linear_transpose`).", cost="O(1)", finite=False)
def transpose(A: LinearOperator) -> LinearOperator:
    """Transpose Aᵀ, structured or lazy.

    Returns:
        The operator Aᵀ of shape (n, m).

    Example:
        >>> import lax_linalg as la
        >>> la.transpose([[1.0, 2.0]])
        2×1 Dense{float32}
    """
    from lax_linalg.operators.lazy import Transpose

    return Transpose(A)


@verb(algorithm="Conjugated parameters.", cost="O(parameters)", finite=False)
def conj(A: LinearOperator) -> LinearOperator:
    """Complex conjugate, valid on the parameters because every structure is real-linear in what it stores.

    Returns:
        The operator with entries conj(A[i, j]).

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.conj([[1j]])))
        [[0.-1.j]]
    """
    return jax.tree.map(jnp.conj, A) if jnp.issubdtype(A.dtype, jnp.complexfloating) else A


@verb(algorithm="Transpose of the conjugate.", cost="cost of transpose", finite=False)
def adjoint(A: LinearOperator) -> LinearOperator:
    """Conjugate transpose, Aᴴ = conj(A)ᵀ.

    Returns:
        The operator Aᴴ of shape (n, m); for real A it is Aᵀ.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.adjoint([[1.0, 2j]])))
        [[1.-0.j]
         [0.-2.j]]
    """
    return transpose(conj(A))


@verb(algorithm="Scaled parameters where the matrix is linear in them; else lazy.", cost="O(parameters)", finite=False)
def scale(A: LinearOperator, alpha: jax.Array | complex) -> LinearOperator:
    """Multiple α A, structured or lazy.

    Args:
        A: operator [m, n].
        alpha: a number or a scalar array.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.scale([[1.0]], 3)))
        [[3.]]
    """
    from lax_linalg.operators.conversion import linear_over
    from lax_linalg.operators.lazy import Scaled

    linear = linear_over(complex if jnp.iscomplexobj(alpha) else float, A)
    if linear is not None:
        return jax.tree.map(lambda x: _multiple(alpha, x), linear)
    # a whole number is of the default integer type, because that of a permutation's entries would not hold it
    return Scaled(jnp.asarray(alpha, int if isinstance(alpha, int) else None), A)


def _multiple(alpha: jax.Array | complex, x: jax.Array) -> jax.Array:
    """α x part by part for a real α: an imaginary part that a structure does not look at stays where it is."""
    if jnp.iscomplexobj(alpha) or not jnp.iscomplexobj(x):
        return alpha * x
    return jax.lax.complex(alpha * x.real, alpha * x.imag)


@verb(
    algorithm="Sum of the parameters, of the nearest structure that both operands have and that is linear in them; "
    "else lazy.",
    cost="O(parameters)",
    arity=2,
    finite=False,
)
def add(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    """Sum A + B, structured or lazy.

    Raises:
        DimensionMismatch: unless both have the same shape.

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.add([[1.0]], la.I)))
        [[2.]]
    """
    from lax_linalg.operators.conversion import combined, linear_sum
    from lax_linalg.operators.lazy import flat_sum

    same_shape(A, B)
    structured = linear_sum(A, B)
    structured = combined(add, A, B) if structured is None else structured
    return flat_sum(A, B) if structured is None else structured


@verb(
    algorithm="Product of the nearest structures of the operands that have a rule below; else lazy.",
    cost="O(1), or that of the rule",
    arity=2,
    finite=False,
)
def multiply(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    """Product A B, structured or lazy (applied factor by factor).

    Raises:
        DimensionMismatch: unless A has as many columns as B has rows.

    Example:
        >>> import lax_linalg as la
        >>> la.multiply(la.I(2), [[1.0], [2.0]])
        2×1 Dense{float32}
    """
    from lax_linalg.operators.conversion import combined
    from lax_linalg.operators.lazy import lazy_product

    inner(A, B)
    structured = combined(multiply, A, B)
    return lazy_product(A, B) if structured is None else structured


@verb(algorithm="Lazy.", cost="O(1)", arity=2, finite=False)
def kron(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    """Kronecker product A ⊗ B, the block matrix of the a_ij B, structured or lazy.

    Args:
        A: operator or array [m, n].
        B: operator or array [p, q].

    Returns:
        The operator of shape (m p, n q).

    Example:
        >>> import lax_linalg as la
        >>> print(la.materialize(la.kron([[1.0, 2.0]], [[3.0], [4.0]])))
        [[3. 6.]
         [4. 8.]]
    """
    from lax_linalg.operators.kronecker import Kronecker

    return Kronecker(A, B)


def same_shape(A: LinearOperator, B: LinearOperator) -> None:
    """Raise `DimensionMismatch` unless A + B is defined."""
    if A.shape != B.shape:
        raise DimensionMismatch(f"cannot add {A.shape[0]}×{A.shape[1]} and {B.shape[0]}×{B.shape[1]} matrices")


def inner(A: LinearOperator, B: LinearOperator) -> None:
    """Raise `DimensionMismatch` unless A B is defined."""
    if A.shape[1] != B.shape[0]:
        raise DimensionMismatch(
            f"cannot multiply {A.shape[0]}×{A.shape[1]} by {B.shape[0]}×{B.shape[1]}: {A.shape[1]} ≠ {B.shape[0]}"
        )
