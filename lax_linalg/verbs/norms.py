"""Entrywise norms, operator norms and condition numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.core import Tracer

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import constant_unless
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense.scaling import at_unit_scale, moduli, over_unit, unit_of
from lax_linalg.errors import NonFiniteError, SingularError, UnknownNameError
from lax_linalg.verbs.basic import compute_dtype, dense
from lax_linalg.verbs.svd import svdvals


def scaled_norm(x: jax.Array, p: float = 2) -> jax.Array:
    """Vector p-norm of all entries, scaled against under- and overflow; its gradient at 0 is 0, a valid subgradient.

    Args:
        x: array of any shape.
        p: 1, 2, any p > 0, or inf.

    Example:
        >>> import jax.numpy as jnp
        >>> float(scaled_norm(jnp.array([3e30, 4e30]))) > 4.99e30
        True
    """
    a = moduli(x)
    if a.size == 0:
        return jnp.zeros((), a.dtype)
    if p == jnp.inf:
        return jnp.max(a)
    if p == 1:
        return jnp.sum(a)
    if not p > 0:
        raise UnknownNameError(f"norm: p must be positive or inf, got {p}")

    def near_one(x: jax.Array) -> jax.Array:
        total = jnp.sum(moduli(x) ** p)
        return jnp.where(total == 0, 0, jnp.where(total == 0, 1, total) ** (1 / p))

    return at_unit_scale(near_one, 1)(x)


@verb(algorithm="Scaled sum over the materialised entries.", cost="O(mn)")
def norm(A: LinearOperator, p: float = 2) -> jax.Array:
    """Entrywise p-norm, (Σ |a_ij|^p)^{1/p}: Frobenius for p = 2, as in Julia.

    Args:
        A: operator or array [m, n].
        p: a positive number or inf.

    Returns:
        A real scalar. The norm as a linear map is `opnorm`.

    Example:
        >>> import lax_linalg as la
        >>> float(la.norm([[3.0, 0.0], [0.0, 4.0]]))
        5.0
    """
    return scaled_norm(dense(A), p)


@verb(algorithm="Largest singular value, column or row sum.", cost="cost of svdvals (p = 2), O(mn) else", sizeless=True)
def opnorm(A: LinearOperator, p: float = 2) -> jax.Array:
    """Norm as a linear map, max ‖A x‖_p / ‖x‖_p: σ₁, the largest column sum (p = 1) or row sum (p = inf).

    Args:
        A: operator or array [m, n].
        p: 1, 2 or inf.

    Returns:
        A real scalar; 0 for an empty matrix.

    Raises:
        UnknownNameError: for another p.

    Example:
        >>> import lax_linalg as la
        >>> float(la.opnorm([[3.0, 0.0], [0.0, 4.0]])), float(la.opnorm([[1.0, 2.0]], float("inf")))
        (4.0, 3.0)
    """
    require_p(p)
    if p == 2:
        return jnp.max(svdvals(A), initial=0)
    a = moduli(dense(A))
    return jnp.max(jnp.sum(a, axis=0 if p == 1 else 1), initial=0)


def require_p(p: float) -> None:
    """Raise `UnknownNameError` unless p is 1, 2 or inf."""
    if p not in (1, 2, jnp.inf):
        raise UnknownNameError.of("operator norm p =", str(p), ("1", "2", "inf"))


@verb(
    algorithm="Ratio of extreme singular values; ‖A‖‖A⁻¹‖ for p ≠ 2.",
    cost="cost of svdvals (p = 2), O(n³) else",
    sizeless=True,
)
def cond(A: LinearOperator, p: float = 2) -> jax.Array:
    """Condition number ‖A‖_p ‖A⁻¹‖_p: σ₁/σ_k for p = 2, where A may be rectangular.

    Args:
        A: operator or array [m, n]; square unless p = 2.
        p: 1, 2 or inf.

    Returns:
        A real scalar ≥ 1; inf for a singular matrix, where its gradient is 0, and 0 for an empty one as in Julia.

    Raises:
        UnknownNameError: for another p.

    Example:
        >>> import lax_linalg as la
        >>> round(float(la.cond([[3.0, 0.0], [0.0, 4.0]])), 4)
        1.3333
    """
    require_p(p)
    if 0 in A.shape:
        return jnp.zeros((), jnp.finfo(compute_dtype(A.dtype)).dtype)
    if p == 2:
        s = svdvals(A)
        s = over_unit(s, unit_of(s))  # the derivative of a quotient divides by a square
        smallest = jnp.where(s[-1] == 0, 1, s[-1])
        return jnp.where(s[-1] == 0, jnp.inf, s[0] / smallest)
    from lax_linalg.verbs.solve import inv

    def product(A: LinearOperator) -> jax.Array:
        return opnorm(A, p) * opnorm(inv(A), p)

    try:
        if any(isinstance(x, Tracer) for x in jax.tree.leaves(A)):
            # the derivative of the inverse of a singular matrix is NaN, and a `where` behind it would let that through
            regular = jnp.isfinite(product(jax.lax.stop_gradient(A)))
            A = constant_unless(A, regular)
        value = product(A)
    except (SingularError, NonFiniteError):
        return jnp.full((), jnp.inf, jnp.finfo(compute_dtype(A.dtype)).dtype)
    return jnp.where(jnp.isfinite(value), value, jnp.inf)


@verb(algorithm="Norm of the difference.", cost="cost of add and norm", arity=2)
def isapprox(
    A: LinearOperator, B: LinearOperator, *, rtol: float | None = None, atol: jax.Array | float = 0
) -> jax.Array:
    """Whether A ≈ B, that is ‖A − B‖_F ≤ max(atol, rtol max(‖A‖_F, ‖B‖_F)).

    Args:
        A, B: operators or arrays [m, n].
        rtol: relative tolerance; √ε unless given, 0 where `atol` is.
        atol: absolute tolerance.

    Returns:
        A boolean scalar.

    Raises:
        DimensionMismatch: unless the shapes are equal.

    Example:
        >>> import lax_linalg as la
        >>> bool(la.isapprox(la.inv(la.Diagonal([2.0, 4.0])), [[0.5, 0.0], [0.0, 0.25]]))
        True
    """
    eps = float(jnp.finfo(compute_dtype(jnp.result_type(A.dtype, B.dtype))).eps)
    relative = rtol if rtol is not None else eps**0.5 if isinstance(atol, (int, float)) and atol == 0 else 0.0
    return norm(A - B) <= jnp.maximum(atol, relative * jnp.maximum(norm(A), norm(B)))
