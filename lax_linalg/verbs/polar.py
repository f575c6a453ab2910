"""The polar decomposition."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.dispatch import verb
from lax_linalg.core.eager_checks import above_rounding, decided
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense import platform
from lax_linalg.dense.scaling import at_unit_scale
from lax_linalg.errors import NotDifferentiableError
from lax_linalg.verbs.basic import dense


class Polar(NamedTuple):
    """A = U P: U [m, n] the nearest (semi-)orthogonal matrix, P [n, n] = √(AᴴA); unpacks as `U, P = F`.

    Example:
        >>> import lax_linalg as la
        >>> la.polar([[-2.0]]).P.shape
        (1, 1)
    """

    U: jax.Array
    P: jax.Array


@verb(algorithm="SVD of the materialised matrix.", cost="O(mn min(m, n))")
def polar(A: LinearOperator) -> Polar:
    """Polar decomposition A = U P, P Hermitian positive semidefinite.

    Args:
        A: operator or array [m, n].

    Returns:
        `Polar(U, P)`: U = W Vᴴ and P = V Σ Vᴴ of the thin SVD A = W Σ Vᴴ. U has orthonormal columns (m ≥ n) or rows
        and is the (semi-)orthogonal matrix nearest to A in every unitarily invariant norm.

    Raises:
        DenseLimitError, NonFiniteError: as `svdvals`.
        NotDifferentiableError: on differentiating at an A that is not of full rank; NaN under ``jit``.

    Differentiable where A has full rank, also where singular values repeat (as at an orthogonal A).

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> U, P = la.polar(jnp.array([[0.0, -2.0], [3.0, 0.0]]))
        >>> print(jnp.abs(P.round(4)))
        [[3. 0.]
         [0. 2.]]

    Source: Higham, Functions of Matrices (2008), chapter 8.
    """
    a = dense(A)
    U = unitary_factor(a)
    P = U.conj().T @ a
    return Polar(U, (P + P.conj().T) / 2)


def unitary_factor(a: jax.Array) -> jax.Array:
    """The factor U = W Vᴴ of a matrix [m, n], differentiable wherever it has full rank.

    Example:
        >>> import jax.numpy as jnp
        >>> print(unitary_factor(jnp.array([[2.0]])).round(4))
        [[1.]]
    """
    return _UNITARY_FACTOR(a)


@jax.custom_jvp
def _unitary_factor(a: jax.Array) -> jax.Array:
    W, _, Vt = platform.svd(a)
    return W @ Vt


@_unitary_factor.defjvp
def _unitary_factor_jvp(primals, tangents):
    # Uᴴ dU = Ω with the Sylvester equation P Ω + Ω P = Uᴴ dA − dAᴴ U, diagonal in the singular vectors; what of dA
    # lies outside the ranges of A and Aᴴ turns them: (I − U Uᴴ) dA P⁻¹ for tall A, its mirror image for wide A
    (a,), (da,) = primals, tangents
    W, s, Vt = platform.svd(a)
    V = Vt.conj().T
    full_rank = above_rounding(s, max(a.shape))
    if decided(full_rank) is False:
        raise NotDifferentiableError("polar has no derivative at a matrix that is not of full rank")
    M = W.conj().T @ da @ V
    pairs = s[:, None] + s[None, :]
    dU = W @ (jnp.where(pairs > 0, (M - M.conj().T) / pairs, 0)) @ Vt
    m, n = a.shape
    if m > n:
        dU += ((da - W @ (W.conj().T @ da)) @ V / s) @ Vt
    if n > m:
        dU += W @ (W.conj().T @ (da - da @ V @ Vt) / s[:, None])
    return W @ Vt, jnp.where(full_rank, dU, jnp.nan)


_UNITARY_FACTOR = at_unit_scale(_unitary_factor, 0)
