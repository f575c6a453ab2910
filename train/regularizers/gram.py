"""How far the smaller Gram matrix is from the identity: Frobenius norm, largest entry or spectral norm."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from train.regularizers.weight import Weight, penalty


@penalty("so")
def so(weight: Weight) -> jax.Array:
    """Soft orthogonality of a matrix: R(W) = ‖WᵀW − I‖_F², with WWᵀ in place of WᵀW when W is wide.

    Its gradient is 4W(WᵀW − I) = 4(WWᵀ − I)W: the diagonal of WᵀW − I brings each column to length one, the rest
    subtracts from each column its projections on the others, so a small step is one soft Gram–Schmidt step. The two
    sides differ by a constant, ‖WᵀW − I_n‖² − ‖WWᵀ − I_m‖² = n − m, so the smaller Gram matrix gives the same gradient
    at less cost and a penalty that reaches zero.

    Args:
        weight: a matrix [m, n], or a `Weight`, whose matrices' penalties are added.

    Returns:
        A scalar of W's dtype, zero exactly when the shorter side of W is orthonormal.

    Cost: O(mn min(m, n)).

    Example:
        >>> float(so(jnp.eye(5, 3))), float(so(2 * jnp.eye(5, 3)))
        (0.0, 27.0)

    Source: Bansal, Chen and Wang, "Can we gain more from orthogonality regularizations", NeurIPS 2018, eq. 4.
    """
    return jnp.sum(jnp.square(_distances(weight)))


@penalty("dso")
def dso(weight: Weight) -> jax.Array:
    """Double soft orthogonality of a matrix: R(W) = ‖WᵀW − I‖_F² + ‖WWᵀ − I‖_F².

    Both terms have the gradient of SO, so R = 2·SO + |m − n|, which is how it is computed: the larger Gram matrix is
    never formed. The least value, |m − n|, is reached exactly when the shorter side of W is orthonormal.

    Args:
        weight: a matrix [m, n], or a `Weight`, whose matrices' penalties are added.

    Returns:
        A scalar of W's dtype, at least |m − n| for each matrix.

    Cost: O(mn min(m, n)).

    Example:
        >>> float(dso(jnp.eye(3))), float(dso(jnp.eye(5, 3)))
        (0.0, 2.0)

    Source: Bansal, Chen and Wang, "Can we gain more from orthogonality regularizations", NeurIPS 2018, eq. 5.
    """
    count, m, n = weight.matrices().shape
    return 2 * so(weight) + count * abs(m - n)


@penalty("mc")
def mc(weight: Weight) -> jax.Array:
    """Mutual coherence of a matrix: R(W) = max_ij |WᵀW − I|_ij, over the smaller Gram matrix.

    For columns of length one this is the largest |cos| of an angle between two of them. Only the entry that attains the
    maximum has a gradient (where several do, they share it), so steps must be small against the gaps.

    Args:
        weight: a matrix [m, n], or a `Weight`: the largest of its groups, added over its copies.

    Returns:
        A scalar of W's dtype, zero exactly when the shorter side of W is orthonormal.

    Cost: O(mn min(m, n)).

    Example:
        >>> float(mc(jnp.eye(5, 3))), float(mc(2 * jnp.eye(5, 3)))
        (0.0, 3.0)

    Source: Bansal, Chen and Wang, "Can we gain more from orthogonality regularizations", NeurIPS 2018, section 3.3.
    """
    largest = jnp.max(jnp.abs(_distances(weight)), axis=(-2, -1))
    return jnp.sum(jnp.max(largest.reshape(-1, 1 if weight.operator is not None else weight.groups), axis=-1))


@penalty("srip")
def srip(weight: Weight) -> jax.Array:
    """Spectral restricted isometry of a matrix: R(W) = ‖WᵀW − I‖₂ = max_i |σ_i² − 1|, over the smaller Gram matrix.

    All singular values are computed, so the value is exact; the authors estimate it by two power iterations, which give
    a lower bound.

    Args:
        weight: a matrix [m, n], or a `Weight`: the largest of its groups, added over its copies.

    Returns:
        A scalar of W's dtype, zero exactly when the shorter side of W is orthonormal.

    Cost: O(mn min(m, n)) with the constant of a singular value decomposition.

    Example:
        >>> float(srip(jnp.eye(5, 3))), float(srip(jnp.diag(jnp.array([1.0, 2.0]))))
        (0.0, 3.0)

    Source: Bansal, Chen and Wang, "Can we gain more from orthogonality regularizations", NeurIPS 2018, section 3.4.
    """
    return jnp.sum(jnp.max(jnp.abs(jnp.square(weight.singular_values()) - 1), axis=-1))


def _distances(weight: Weight) -> jax.Array:
    """WᵀW − I or WWᵀ − I, the smaller of the two, of each matrix."""
    W = weight.matrices()
    _, m, n = W.shape
    Wt = jnp.swapaxes(W, -2, -1)
    return (Wt @ W if n <= m else W @ Wt) - jnp.eye(min(m, n), dtype=W.dtype)
