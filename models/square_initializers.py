"""Initial weights of square maps that are not rotations: near the identity, a Jordan block, a chain.

Shapes are [n, n], or [kh, kw, n, n] for convolutions, whose matrix then stands at the centre tap, as in
`delta_orthogonal`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError
from models.initializers import Initializer, in_single, initializers, orthogonal


@initializers.register("near_identity")
def near_identity(epsilon: float = 0.01) -> Initializer:
    """I + εA with Gaussian A of variance 1/fan_in: eigenvalues 1 + ελ(A), within ε of 1 for large dense kernels.

    Args:
        epsilon: ε ≥ 0.

    Returns:
        An initializer for square kernels.

    Raises:
        LinearAlgebraError: for a negative ε.
        DimensionMismatch: on use with a kernel that is not square.

    Example:
        >>> w = near_identity(0.1)(jax.random.key(0), (200, 200))
        >>> bool(jnp.linalg.norm(w - jnp.eye(200), 2) < 0.25)
        True
    """
    if not epsilon >= 0:
        raise LinearAlgebraError(f"epsilon must be ≥ 0, got {epsilon!r}")
    noise = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        return _at_centre(jnp.eye(_order(shape), dtype=dtype), shape) + epsilon * noise(key, shape, dtype)

    return in_single(init)


@initializers.register("jordan")
def jordan(eigenvalue: float = 0.9, coupling: float = 1.0) -> Initializer:
    """One Jordan block, λ on the diagonal and the coupling on the superdiagonal of the kernel: defective, not random.

    Args:
        eigenvalue: λ, the only one.
        coupling: entries above the diagonal; 1 in the canonical form.

    Returns:
        An initializer for square kernels.

    Raises:
        DimensionMismatch: on use with a kernel that is not square.

    Example:
        >>> print(jordan(0.5)(jax.random.key(0), (3, 3)))
        [[0.5 1.  0. ]
         [0.  0.5 1. ]
         [0.  0.  0.5]]

    Source: Orhan and Pitkow, arXiv:1905.13715 (chains with feedback λ as recurrent matrices).
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        n = _order(shape)
        return _at_centre(eigenvalue * jnp.eye(n, dtype=dtype) + coupling * jnp.eye(n, k=1, dtype=dtype), shape)

    return init


@initializers.register("nonnormal_chain")
def nonnormal_chain(coupling: float = 1.0) -> Initializer:
    """A chain of n units in a random orthonormal basis, Q (c N) Qᵀ with N the shift: what enters leaves after n steps.

    Every eigenvalue is 0 and yet n − 1 singular values are c: as far from normal as a matrix of its norm can be, and a
    memory of n steps without a single slow mode.

    Args:
        coupling: c ≥ 0, by which a signal grows at each unit.

    Returns:
        An initializer for square kernels.

    Raises:
        LinearAlgebraError: for a negative coupling.
        DimensionMismatch: on use with a kernel that is not square.

    Example:
        >>> w = nonnormal_chain()(jax.random.key(0), (4, 4))
        >>> bool(jnp.abs(jnp.linalg.matrix_power(w, 4)).max() < 1e-5), round(float(jnp.linalg.norm(w, 2)), 4)
        (True, 1.0)

    Source: Ganguli, Huh and Sompolinsky, Memory traces in dynamical systems, PNAS 105 (2008) 18970; as an
    initialisation Orhan and Pitkow, arXiv:1905.13715.
    """
    if not coupling >= 0:
        raise LinearAlgebraError(f"coupling must be ≥ 0, got {coupling!r}")

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        n = _order(shape)
        Q = orthogonal()(key, (n, n), dtype)
        return _at_centre(coupling * Q @ jnp.eye(n, k=-1, dtype=dtype) @ Q.T, shape)

    return in_single(init)


def _order(shape: tuple[int, ...]) -> int:
    if shape[-1] != shape[-2]:
        raise DimensionMismatch(f"this initializer is for square maps, got {shape[-2]}→{shape[-1]}")
    return shape[-1]


def _at_centre(matrix: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    centre = tuple((k - 1) // 2 for k in shape[:-2])
    return jnp.zeros(shape, matrix.dtype).at[centre].set(matrix)
