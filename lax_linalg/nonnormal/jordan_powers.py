"""Jordan blocks, the limit of non-normality: exact powers, functions, and the curve polynomial × exponential."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lax_linalg.errors import LinearAlgebraError


def jordan_curve(eigenvalue: Any, powers: Any, size: int = 2) -> jax.Array:
    """Binomial times exponential, C(k, j) λ^{k−j} for j = 0 … size − 1: the distinct entries of J(λ)ᵏ.

    For size 2 it is (λᵏ, kλ^{k−1}): the response δ_k = (kλ^{k−1}, λᵏ) of a Jordan block to its last unit vector, read
    from the bottom. Where a factor leaves the range of the dtype, logarithms are added instead, log C(k, j) as a sum of
    j terms: huge k neither overflow in between nor cancel; what is itself out of range becomes 0 or inf.

    Args:
        eigenvalue: λ, real or complex scalar.
        powers: k ≥ 0, an integer or an array of integers [...].
        size: the size of the block.

    Returns:
        [..., size] in the dtype of λ; relative error O(jε), or O(kε) in the phase of a complex λ.

    Raises:
        LinearAlgebraError: for a size below 1, or powers that are not integers ≥ 0.

    Cost: O(size) an element.

    Example:
        >>> import lax_linalg as la
        >>> print(la.jordan_curve(0.5, [0, 1, 2, 3]))
        [[1.    0.   ]
         [0.5   1.   ]
         [0.25  1.   ]
         [0.125 0.75 ]]

    Source: Horn & Johnson, Matrix Analysis (2nd ed.), 3.1 and Topics in Matrix Analysis, 6.2.
    """
    size = _block_size(size)
    lam = _floating(eigenvalue)
    real = jnp.finfo(lam.dtype).dtype
    return _curve(lam, *(jnp.asarray(x, real) for x in _exponents(powers, size, real)))


@jax.jit
def _curve(lam: jax.Array, k: jax.Array, left: jax.Array, odd: jax.Array) -> jax.Array:
    """C(k, j) λ^{k−j} for k [..., 1], left = k − j [..., size] and its parity."""
    modulus = jnp.abs(lam)
    zero, one = jnp.zeros_like(k), jnp.ones_like(k)

    def following(carry: tuple[jax.Array, jax.Array], j: jax.Array):
        binomial, log_binomial = carry
        ratio = (k - j + 1) / j
        after = binomial * (k - j + 1) / j, log_binomial + jnp.log(jnp.where(ratio > 0, ratio, 1))
        return after, after

    _, columns = jax.lax.scan(following, (one, zero), jnp.arange(1, left.shape[-1], dtype=k.dtype))
    binomial, log_binomial = (
        jnp.concatenate([first, jnp.moveaxis(column[..., 0], 0, -1)], -1) for first, column in zip((one, zero), columns)
    )
    # the product where both factors are in range (for integers it is exact), their logarithms elsewhere
    power = jnp.where(left == 0, 1, modulus ** jnp.maximum(left, 0))
    log_modulus = jnp.log(jnp.where(modulus == 0, 1, modulus))
    in_range = (modulus == 0) | ((power > 0) & jnp.isfinite(power) & jnp.isfinite(binomial))
    moduli = jnp.where(in_range, binomial * power, jnp.exp(log_binomial + left * log_modulus))
    if jnp.issubdtype(lam.dtype, jnp.complexfloating):
        # the phase is a power of a unit number: its real-λ cases ±1 stay exact
        turns = left * (jnp.angle(lam) / (2 * jnp.pi))
        sign = jnp.exp(2j * jnp.pi * (turns - jnp.round(turns))).astype(lam.dtype)
    else:
        sign = jnp.where((lam < 0) & (odd == 1), -1, 1).astype(lam.dtype)
    return jnp.where(left >= 0, sign * moduli, 0)


def _exponents(powers: Any, size: int, real: Any) -> tuple[Any, Any, Any]:
    """k [..., 1], k − j [..., size] and its parity; differences are taken between integers, which is exact."""
    if isinstance(powers, Tracer):
        integers, difference = powers, powers[..., None] - jnp.arange(size)
        if not jnp.issubdtype(powers.dtype, jnp.integer):
            raise LinearAlgebraError(f"powers of a Jordan block are integers k ≥ 0, got {powers.dtype}")
        return integers[..., None].astype(real), difference.astype(real), (difference % 2).astype(real)
    integers = np.asarray(powers)
    if not np.issubdtype(integers.dtype, np.integer) or np.any(integers < 0):
        raise LinearAlgebraError(f"powers of a Jordan block are integers k ≥ 0, got {powers}")
    difference = integers.astype(np.int64)[..., None] - np.arange(size)
    return integers[..., None].astype(float), difference.astype(float), (difference % 2).astype(float)


def jordan_power(eigenvalue: Any, size: int, power: Any) -> jax.Array:
    """J(λ)ᵏ exactly, without products: (J(λ)ᵏ)_{i,i+j} = C(k, j) λ^{k−j}.

    Args:
        eigenvalue: λ, real or complex scalar.
        size: the size n of the block.
        power: integer k ≥ 0, or an array of them [...]; as large as the dtype's integers are exact.

    Returns:
        Upper triangular Toeplitz matrices [..., n, n] in the dtype of λ.

    Raises:
        LinearAlgebraError: as `jordan_curve`.

    Cost: O(n²) to write the matrix, independent of k.

    Example:
        >>> import lax_linalg as la
        >>> print(la.jordan_power(2.0, 3, 3))
        [[ 8. 12.  6.]
         [ 0.  8. 12.]
         [ 0.  0.  8.]]

    Source: Golub & Van Loan, Matrix Computations (4th ed.), 9.1.2.
    """
    return _upper_toeplitz(jordan_curve(eigenvalue, power, size))


def jordan_function(function: Callable[[Any], Any], eigenvalue: Any, size: int) -> jax.Array:
    """f(J(λ)) from the derivatives of f: f(J)_{i,i+j} = f⁽ʲ⁾(λ)/j!.

    Args:
        function: a scalar function that JAX differentiates `size` − 1 times at λ (holomorphic when λ is complex).
        eigenvalue: λ, real or complex scalar.
        size: the size n of the block.

    Returns:
        Upper triangular Toeplitz matrix [n, n].

    Raises:
        LinearAlgebraError: for a size below 1.

    Cost: one Taylor-mode pass, O(n²) operations of f, where JAX's `jet` has rules for f; nested forward mode, O(2ⁿ),
        elsewhere.

    Example:
        >>> import jax.numpy as jnp
        >>> import lax_linalg as la
        >>> print(la.jordan_function(jnp.exp, 0.0, 3).round(4))
        [[1.  1.  0.5]
         [0.  1.  1. ]
         [0.  0.  1. ]]

    Source: Higham, Functions of Matrices (2008), Definition 1.2.
    """
    return _upper_toeplitz(_taylor(function, _floating(eigenvalue), _block_size(size)))


def _taylor(function: Callable[[Any], Any], x: jax.Array, count: int) -> jax.Array:
    """Taylor coefficients f⁽ʲ⁾(x)/j!, [count]."""
    factorials = np.array([math.factorial(j) for j in range(count)], float)
    if count == 1:
        return jnp.asarray(function(x))[None]
    from jax.experimental import jet

    series = [jnp.ones_like(x)] + [jnp.zeros_like(x)] * (count - 2)
    try:
        value, derivatives = jet.jet(function, (x,), (series,))
    except (NotImplementedError, TypeError, KeyError):
        value, derivatives = function(x), []
        derivative = function
        for _ in range(count - 1):
            derivative = _derivative(derivative)
            derivatives.append(derivative(x))
    taylor = jnp.stack([jnp.asarray(value), *derivatives])
    return taylor / jnp.asarray(factorials, jnp.finfo(taylor.dtype).dtype)


def _derivative(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def _upper_toeplitz(first_row: jax.Array) -> jax.Array:
    n = first_row.shape[-1]
    offset = np.arange(n)[None] - np.arange(n)[:, None]
    return jnp.where(offset >= 0, first_row[..., np.maximum(offset, 0)], 0)


def _floating(eigenvalue: Any) -> jax.Array:
    lam = jnp.asarray(eigenvalue)
    if lam.ndim != 0:
        raise LinearAlgebraError(f"the eigenvalue of a Jordan block is a scalar, got shape {list(lam.shape)}")
    return lam if jnp.issubdtype(lam.dtype, jnp.inexact) else lam.astype(jnp.result_type(float))


def _block_size(size: int) -> int:
    if not isinstance(size, int | np.integer) or size < 1:
        raise LinearAlgebraError(f"a Jordan block has a size of at least 1, got {size}")
    return int(size)
