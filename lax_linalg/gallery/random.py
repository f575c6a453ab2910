"""Random matrices: of a prescribed spectrum, Gaussian, and uniformly distributed orthogonal ones."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator
from lax_linalg.errors import UnknownNameError
from lax_linalg.gallery.known import Known, empty, matrix_dtype, normal, require, require_size
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.hermitian import Hermitian, Symmetric
from lax_linalg.operators.householder import HouseholderProduct
from lax_linalg.operators.lazy import Product

MODES = ("one large", "one small", "geometric", "arithmetic", "log-uniform")


def spectrum(k: int, cond: float, mode: str = "geometric", key: jax.Array | None = None) -> np.ndarray:
    """k singular values from 1 down to 1/κ, distributed as in LAPACK's and Higham's test matrices.

    Args:
        k: how many.
        cond: κ ≥ 1.
        mode: "one large" (1, then 1/κ), "one small" (1, 1/κ last), "geometric", "arithmetic" (equally spaced), or
            "log-uniform" (logarithms drawn uniformly, which needs `key`).
        key: of the random mode.

    Returns:
        The values, descending, [k]; double precision.

    Raises:
        UnknownNameError: for another mode.
        LinearAlgebraError: unless κ ≥ 1, or without a key in the random mode.

    Example:
        >>> spectrum(3, 100.0).round(4).tolist()
        [1.0, 0.1, 0.01]

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), 28.3.
    """
    require(cond >= 1, f"a condition number is at least 1, got {cond}")
    t = np.arange(k) / max(k - 1, 1)
    if mode == "one large":
        return np.r_[1.0, np.full(max(k - 1, 0), 1 / cond)][:k]
    if mode == "one small":
        return np.r_[np.ones(k - 1), 1 / cond][-k:] if k > 1 else np.ones(k)
    if mode == "geometric":
        return cond**-t
    if mode == "arithmetic":
        return 1 - t * (1 - 1 / cond)
    if mode == "log-uniform":
        require(key is not None, "the mode log-uniform draws its values: give key=")
        return -np.sort(-(cond ** -np.asarray(jax.random.uniform(key, (k,)), float)))  # type: ignore[arg-type]
    raise UnknownNameError.of("mode", str(mode), MODES)


def haar(key: jax.Array, n: int, dtype: Any = None) -> Known:
    """An orthogonal (unitary for a complex dtype) matrix from Haar's measure, as n − 1 reflections and n signs.

    The QR factorisation of a Gaussian matrix with the phases of R's diagonal moved into Q, without forming either:
    n²/2 random numbers are all it takes, and a product with a vector costs O(n²).

    Args:
        key: of the random numbers.
        n: the size.
        dtype: of the matrix.

    Returns:
        `Known(matrix, svdvals, logabsdet, norm)`, the matrix a product of a `HouseholderProduct` and a `Diagonal`.

    Raises:
        DimensionMismatch: unless n ≥ 0.

    Example:
        >>> Q = haar(jax.random.key(0), 8).matrix
        >>> bool(jnp.allclose(Q.H @ (Q @ jnp.ones(8)), 1, atol=1e-5))
        True

    Source: Stewart, The efficient generation of random orthogonal matrices, SIAM J. Numer. Anal. (1980).
    """
    n = require_size("haar", n)
    if n == 0:
        return empty(dtype)
    return Known(_stiefel(key, n, n, matrix_dtype(dtype)), svdvals=np.ones(n), logabsdet=0.0, norm=math.sqrt(n))


@functools.partial(jax.jit, static_argnames=("n", "k", "dtype"))
def _stiefel(key: jax.Array, n: int, k: int, dtype: Any) -> LinearOperator:
    """A Haar unitary [n, n], of which the first k columns are used: k reflections suffice for them."""
    # column j is Gaussian from its diagonal on; the reflection takes it to −e^{iφ} ‖x‖ e_j with φ its corner's phase
    X = jnp.tril(jax.random.normal(key, (n, k), jnp.promote_types(dtype, jnp.float32)))
    corner = jnp.diagonal(X)
    phase = jnp.where(corner == 0, 1, corner / jnp.where(corner == 0, 1, jnp.abs(corner)))
    V = X.at[jnp.arange(k), jnp.arange(k)].add(phase * jnp.linalg.norm(X, axis=0))
    signs = jnp.ones((n,), X.dtype).at[:k].set(-phase)
    if n == k:  # the last column has one entry: its phase is all there is to draw
        signs = signs.at[-1].set(phase[-1])
        V = V[:, :-1]
    return Product((HouseholderProduct(V.astype(dtype)), Diagonal(signs.astype(dtype))))


def randsvd(
    key: jax.Array, shape: int | tuple[int, int], cond: float = 1e3, mode: str = "geometric", dtype: Any = None
) -> Known:
    """A random matrix U diag(σ) Vᴴ with the singular values of `spectrum` and Haar-distributed singular vectors.

    Args:
        key: of the random numbers.
        shape: n or (m, n).
        cond: κ = σ₁/σ_k.
        mode: how the values lie between 1 and 1/κ, as in `spectrum`.
        dtype: of the matrix.

    Returns:
        `Known(matrix, svdvals, cond, norm)`, with `logabsdet` where square; the matrix a `Dense`, formed in its dtype.

    Raises:
        DimensionMismatch: unless the sizes are whole numbers ≥ 0.
        UnknownNameError, LinearAlgebraError: as `spectrum`.

    Example:
        >>> import lax_linalg as la
        >>> A = randsvd(jax.random.key(0), (20, 10), cond=100.0)
        >>> round(float(la.cond(A.matrix)), 2)
        100.0

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed., 2002), 28.3.
    """
    m, n = (require_size("randsvd", size) for size in ((shape, shape) if isinstance(shape, int) else shape))
    if 0 in (m, n):
        return empty(dtype, m, n)
    left, right, own = jax.random.split(key, 3)
    k = min(m, n)
    s = spectrum(k, cond, mode, own)
    matrix = _singular_vectors_around(s, left, right, m, n, matrix_dtype(dtype))
    logabsdet = float(np.sum(np.log(s))) if m == n else None
    return Known(Dense(matrix), svdvals=s, logabsdet=logabsdet, norm=float(np.linalg.norm(s)))


@functools.partial(jax.jit, static_argnames=("m", "n", "dtype"))
def _singular_vectors_around(s: Any, left: jax.Array, right: jax.Array, m: int, n: int, dtype: Any) -> jax.Array:
    """U diag(s) Vᴴ, [m, n]."""
    k = min(m, n)
    U, V = _stiefel(left, m, k, dtype), _stiefel(right, n, k, dtype)
    middle = jnp.zeros((n, m), U.dtype).at[jnp.arange(k), jnp.arange(k)].set(jnp.asarray(s, U.dtype))
    return U @ (V @ middle).conj().T


def randeigh(key: jax.Array, eigenvalues: Any, dtype: Any = None) -> Known:
    """A random Hermitian matrix Q diag(λ) Qᴴ with these real eigenvalues and Haar-distributed eigenvectors.

    Args:
        key: of the random numbers.
        eigenvalues: real, [n].
        dtype: of the matrix.

    Returns:
        `Known(matrix, eigvals, svdvals, det, logabsdet, cond, norm)`, a `Symmetric` (`Hermitian` if complex) matrix.

    Example:
        >>> import lax_linalg as la
        >>> print(la.eigvals(randeigh(jax.random.key(0), [3.0, 1.0, 1.0]).matrix).round(4))
        [1. 1. 3.]
    """
    w = np.asarray(eigenvalues, float)
    n = w.size
    if n == 0:
        return empty(dtype)
    matrix = _eigenvectors_around(w, key, n, matrix_dtype(dtype))
    structure = Hermitian if jnp.iscomplexobj(matrix) else Symmetric
    logabsdet = float(np.sum(np.log(np.abs(w)))) if w.all() else -math.inf
    return normal(structure(matrix), w, det=float(np.prod(w)), logabsdet=logabsdet, norm=float(np.linalg.norm(w)))


@functools.partial(jax.jit, static_argnames=("n", "dtype"))
def _eigenvectors_around(w: Any, key: jax.Array, n: int, dtype: Any) -> jax.Array:
    """Q diag(w) Qᴴ, [n, n]."""
    Q = _stiefel(key, n, n, dtype)
    half = Q @ jnp.diag(jnp.asarray(w, jnp.finfo(Q.dtype).dtype).astype(Q.dtype))
    return (Q @ half.conj().T).conj().T


def ginibre(key: jax.Array, shape: int | tuple[int, int], variance: float | None = None, dtype: Any = None) -> Known:
    """A Gaussian matrix with independent entries of variance 1/n: no value of it is known, but its law is.

    Eigenvalues follow the circular law, squared singular values `MarchenkoPastur`, E |det|² = n!/nⁿ.

    Args:
        key: of the random numbers.
        shape: n or (m, n).
        variance: of the entries; 1/n unless given. A complex dtype splits it between real and imaginary parts.
        dtype: of the matrix.

    Returns:
        `Known(matrix)`, the matrix a `Dense`.

    Raises:
        DimensionMismatch: unless the sizes are whole numbers ≥ 0.

    Example:
        >>> ginibre(jax.random.key(0), 4)
        4×4 Dense{float32} with no closed form
    """
    m, n = (require_size("ginibre", size) for size in ((shape, shape) if isinstance(shape, int) else shape))
    if 0 in (m, n):
        return empty(dtype, m, n)
    deviation = math.sqrt(1 / n if variance is None else variance)
    return Known(Dense(deviation * jax.random.normal(key, (m, n), matrix_dtype(dtype))))
