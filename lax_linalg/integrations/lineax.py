"""Operators of lineax, from and to."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator, MatrixLike, as_operator
from lax_linalg.jacobian.operator import jacobian


def to_lineax(A: MatrixLike, tags: Any = ()) -> Any:
    """The matrix as a `lineax.FunctionLinearOperator`, for lineax's solvers.

    Args:
        A: operator or array [m, n].
        tags: what lineax may take for granted, such as `lineax.positive_semidefinite_tag`.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la, lineax
        >>> A = la.to_lineax(la.Diagonal([2.0, 4.0]), lineax.positive_semidefinite_tag)
        >>> print(lineax.linear_solve(A, jnp.ones(2), lineax.CG(1e-6, 0.0)).value)
        [0.5  0.25]
    """
    import lineax

    A = as_operator(A)
    return lineax.FunctionLinearOperator(lambda x: A @ x, jax.ShapeDtypeStruct(A.shape[1:], A.dtype), tags)


def from_lineax(A: Any) -> LinearOperator:
    """An operator of lineax between vectors, as the Jacobian of its product, whose structure is read off its program.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la, lineax
        >>> print(la.materialize(la.from_lineax(lineax.DiagonalLinearOperator(jnp.array([1.0, 2.0])))))
        [[1. 0.]
         [0. 2.]]
    """
    structure = A.in_structure()
    return jacobian(A.mv, jnp.zeros(structure.shape, structure.dtype))
