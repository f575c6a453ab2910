"""Penalties on extreme singular values; one-sided, so that each is zero for an orthogonal matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from train.regularizers.weight import Weight, penalty


@penalty("sigma_max")
def sigma_max(weight: Weight) -> jax.Array:
    """Too large a norm: R(W) = max(0, σ_max − 1)².

    Args:
        weight: a matrix [m, n], or a `Weight`, whose copies' penalties are added.

    Returns:
        A scalar of W's dtype, zero exactly when ‖W‖₂ ≤ 1.

    Cost: O(mn min(m, n)).

    Example:
        >>> float(sigma_max(jnp.diag(jnp.array([3.0, 0.5]))))
        4.0
    """
    return jnp.sum(jnp.square(jnp.maximum(jnp.max(weight.singular_values(), axis=-1) - 1, 0)))


@penalty("sigma_min")
def sigma_min(weight: Weight) -> jax.Array:
    """Directions that are lost: R(W) = max(0, 1 − σ_min)².

    Args:
        weight: a matrix [m, n], or a `Weight`, whose copies' penalties are added.

    Returns:
        A scalar of W's dtype, zero exactly when no singular value is below 1.

    Cost: O(mn min(m, n)).

    Example:
        >>> float(sigma_min(jnp.diag(jnp.array([3.0, 0.5]))))
        0.25
    """
    return jnp.sum(jnp.square(jnp.maximum(1 - jnp.min(weight.singular_values(), axis=-1), 0)))


@penalty("cond")
def cond(weight: Weight) -> jax.Array:
    """Ill-conditioning: R(W) = (log σ_max/σ_min)², infinite for a singular matrix.

    Args:
        weight: a matrix [m, n], or a `Weight`, whose copies' penalties are added.

    Returns:
        A scalar of W's dtype, zero exactly when all singular values are equal.

    Cost: O(mn min(m, n)).

    Example:
        >>> round(float(cond(jnp.diag(jnp.array([jnp.e, 1.0])))), 5)
        1.0
    """
    s = weight.singular_values()
    return jnp.sum(jnp.square(jnp.log(jnp.max(s, axis=-1) / jnp.min(s, axis=-1))))
