"""Singular values of stacks of small matrices in single precision, from Gram matrices in double precision.

The eigenvalues of AᴴA are the squares of A's singular values, and squaring loses half of the digits, which double
precision has to spare: the values come out with an error of about ε ‖A‖, and small ones more accurate than from a
bidiagonal form in single precision. LAPACK reduces the Gram matrices to tridiagonal ones, half the work of a
bidiagonal form, and bisection finds the values of the whole stack in one vectorised loop, where LAPACK's iteration goes
matrix by matrix.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from lax_linalg.dense.sturm import tridiagonal_root_eigenvalues

LARGEST = 32
"""Up to which smaller side this is the faster way; beyond, the n² work for each bit of bisection outweighs it."""


def small_and_single(side: int, dtype: jnp.dtype) -> bool:
    """Whether stacks of matrices with this smaller side and dtype take this way on the CPU.

    Example:
        >>> import jax.numpy as jnp
        >>> small_and_single(16, jnp.dtype("float32")), small_and_single(16, jnp.dtype("float64"))
        (True, False)
    """
    return 2 <= side <= LARGEST and jnp.finfo(dtype).dtype == jnp.float32


def tridiagonal(G: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Diagonals [N, n], off-diagonals [N, n − 1] of LAPACK's tridiagonal forms of Hermitian matrices [N, n, n].

    Example:
        >>> import jax.numpy as jnp
        >>> print(tridiagonal(jnp.array([[[2.0, 1.0], [1.0, 3.0]]]))[0])
        [[2. 3.]]
    """
    return lax.map(lambda G: lax.linalg.tridiagonal(G, lower=True)[1:3], G)


def gram_svdvals(a: jax.Array) -> jax.Array:
    """Singular values, descending, of matrices [N, m, n] in float32 or complex64.

    Cost: O(m n² + 4n³/3 + 29 n²) for each matrix, n the smaller side.

    Example:
        >>> import jax.numpy as jnp
        >>> print(gram_svdvals(jnp.array([[[3.0, 0.0], [4.0, 0.0], [0.0, 1.0]]])))
        [[5. 1.]]
    """
    with jax.enable_x64(True):
        return tridiagonal_root_eigenvalues(*lax.map(lambda a: lax.linalg.tridiagonal(_gram(a), lower=True)[1:3], a))


def _gram(a: jax.Array) -> jax.Array:
    """AᴴA or its conjugate's counterpart AAᴴ, of the smaller side, from real products in double precision."""
    a = a if a.shape[0] >= a.shape[1] else a.T
    if not jnp.iscomplexobj(a):
        a = a.astype(jnp.float64)
        return a.T @ a
    x, y = jnp.real(a).astype(jnp.float64), jnp.imag(a).astype(jnp.float64)
    both, mixed = jnp.concatenate([x, y]), x.T @ y
    return lax.complex(both.T @ both, mixed - mixed.T)
