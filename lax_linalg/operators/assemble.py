"""Factorisations of a composite put together from those of its parts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.eager_checks import in_memory
from lax_linalg.verbs.svd import SVD


@jax.custom_jvp
def sorted_descending(s: jax.Array) -> jax.Array:
    """The numbers s ≥ 0, [r], largest first.

    Example:
        >>> import jax.numpy as jnp
        >>> print(sorted_descending(jnp.array([1.0, 3.0, 2.0])))
        [3. 2. 1.]
    """
    # non-negative floats are ordered as their bits read as integers, which XLA sorts four times as fast
    bits = {2: jnp.int16, 4: jnp.int32, 8: jnp.int64}[s.dtype.itemsize]
    ordered = jax.lax.sort(jax.lax.bitcast_convert_type(s, bits), is_stable=False)
    return jax.lax.bitcast_convert_type(ordered[::-1], s.dtype)


@sorted_descending.defjvp
def _sorted_descending_jvp(primals, tangents):
    (s,), (ds,) = primals, tangents
    order = jnp.argsort(-s)
    return s[order], ds[order]


def padded(s: jax.Array | np.ndarray, shape: tuple[int, int]) -> jax.Array:
    """Singular values s [r], in any order: sorted, largest first, and the zeros that a matrix of this shape has beside.

    Known values are sorted by NumPy, which takes a fourth of XLA's time.

    Example:
        >>> import jax.numpy as jnp
        >>> print(padded(jnp.array([1.0, 2.0]), (3, 4)))
        [2. 1. 0.]
    """
    zeros = min(shape) - s.shape[0]
    known = in_memory(s)
    if known is not None:
        known = np.sort(known)[::-1]
        return jnp.asarray(np.pad(known, (0, zeros)) if zeros else known)
    s = sorted_descending(jnp.asarray(s))
    return jnp.concatenate([s, jnp.zeros((zeros,), s.dtype)])


def paired_svd(U: jax.Array, s: jax.Array, Vt: jax.Array, left: np.ndarray, right: np.ndarray, full: bool) -> SVD:
    """The SVD of Σ_i s_i u_l(i) v_r(i)ᴴ from unitary U [m, m], Vt [n, n] in any order: sorted, zeros at the end.

    Args:
        U, Vt: complete orthonormal bases of the two sides.
        s: the values that have a pair of vectors, [r].
        left, right: which column of U and which row of Vt belong to them, [r] each.
        full: keep the square U and Vt.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> F = paired_svd(jnp.eye(2), jnp.array([3.0]), jnp.eye(1), np.array([1]), np.array([0]), False)
        >>> print(F.U.T)
        [[0. 1.]]
    """
    m, n = U.shape[0], Vt.shape[0]
    order = jnp.argsort(-s)
    U = U[:, jnp.concatenate([jnp.asarray(left)[order], jnp.asarray(np.setdiff1d(np.arange(m), left))])]
    Vt = Vt[jnp.concatenate([jnp.asarray(right)[order], jnp.asarray(np.setdiff1d(np.arange(n), right))])]
    k = min(m, n)
    S = padded(s, (m, n))
    return SVD(U, S, Vt) if full else SVD(U[:, :k], S, Vt[:k])
