"""What holds for every operator that its structure alone makes unitary (`A.unitary`), shared by their rules."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import LinearOperator
from lax_linalg.verbs.basic import compute_dtype, dense
from lax_linalg.verbs.polar import Polar
from lax_linalg.verbs.qr import QR
from lax_linalg.verbs.svd import SVD


def unit_values(A: LinearOperator) -> jax.Array:
    """The singular values of a unitary A, n ones.

    Example:
        >>> import lax_linalg as la
        >>> print(unit_values(la.Permutation([1, 0])))
        [1. 1.]
    """
    return jnp.ones(A.shape[:1], jnp.finfo(compute_dtype(A.dtype)).dtype)


def identity(A: LinearOperator) -> jax.Array:
    """The identity of A's size, in the dtype that A's factorisations have.

    Example:
        >>> import lax_linalg as la
        >>> print(identity(la.Permutation([1, 0])))
        [[1. 0.]
         [0. 1.]]
    """
    return jnp.eye(A.shape[0], dtype=compute_dtype(A.dtype))


def unitary_svd(A: LinearOperator) -> SVD:
    """A itself, ones, and the identity.

    Example:
        >>> import lax_linalg as la
        >>> print(unitary_svd(la.Permutation([1, 0])).U)
        [[0. 1.]
         [1. 0.]]
    """
    return SVD(dense(A), unit_values(A), identity(A))


def unitary_polar(A: LinearOperator) -> Polar:
    """A itself and the identity.

    Example:
        >>> import lax_linalg as la
        >>> print(unitary_polar(la.Permutation([1, 0])).P)
        [[1. 0.]
         [0. 1.]]
    """
    return Polar(dense(A), identity(A))


def unitary_qr(A: LinearOperator) -> QR:
    """A itself and the identity.

    Example:
        >>> import lax_linalg as la
        >>> print(unitary_qr(la.Permutation([1, 0])).R)
        [[1. 0.]
         [0. 1.]]
    """
    return QR(dense(A), identity(A))
