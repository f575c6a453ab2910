"""What is known about a value: everything in eager code, differentiated or not, and nothing under jit or vmap."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lax_linalg.errors import NotDifferentiableError

T = TypeVar("T")


def decided(condition: jax.Array | bool) -> bool | None:
    """The truth of a condition where its value is known, None where a transformation hides it.

    Example:
        >>> decided(jnp.array(True)), jax.jit(lambda x: x if decided(x > 0) is None else -x)(1.0)
        (True, Array(1., dtype=float32, weak_type=True))
    """
    try:
        return bool(condition)
    except jax.errors.ConcretizationTypeError:
        return None


def in_memory(x: Any) -> np.ndarray | None:
    """The numbers of an array that is known and lies in the memory of one CPU device, without a copy; else None.

    Example:
        >>> in_memory(jnp.ones(2)), jax.jit(lambda x: x if in_memory(x) is None else -x)(1.0)
        (array([1., 1.], dtype=float32), Array(1., dtype=float32, weak_type=True))
    """
    if isinstance(x, Tracer) or not isinstance(x, jax.Array):
        return x if isinstance(x, np.ndarray) else None
    device, *others = x.devices()
    return None if others or device.platform != "cpu" else np.asarray(x)


def known_not_finite(x: jax.Array) -> bool:
    """Whether x is known to hold NaN or infinity.

    Example:
        >>> known_not_finite(jnp.array([1.0, jnp.nan]))
        True
    """
    return decided(jnp.isfinite(x).all()) is False


def constant_unless(tree: Any, condition: jax.Array) -> Any:
    """The same numbers, with the derivative 0 unless the condition holds: NaN from where it does not stops here.

    Example:
        >>> print(jax.grad(lambda x: jnp.sqrt(constant_unless(x, x > 0)))(0.0))
        0.0
    """
    inexact = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.inexact)  # noqa: E731
    return jax.tree.map(lambda x: _constant_unless(x, condition) if inexact(x) else x, tree)


@jax.custom_jvp
def _constant_unless(x: jax.Array, condition: jax.Array) -> jax.Array:
    return jnp.asarray(x)


@_constant_unless.defjvp
def _constant_unless_jvp(primals, tangents):
    x, condition = primals
    return jnp.asarray(x), jnp.where(condition, tangents[0], 0)


def undefined_unless(condition: jax.Array, tree: T) -> T:
    """The same numbers and truths where the condition holds, and NaN and False elsewhere; integers stay.

    Derivatives are NaN there as well, of and by what is 0, too.

    Example:
        >>> square = lambda x: undefined_unless(x > 0, x) ** 2
        >>> print(square(3.0), jax.grad(square)(3.0), square(-3.0), jax.grad(square)(-3.0))
        9.0 6.0 nan nan
    """
    factor = jnp.where(condition, 1, jnp.nan)

    def one(x: Any) -> Any:
        dtype = jnp.result_type(x) if hasattr(x, "dtype") or isinstance(x, bool | float | complex) else None
        if dtype == jnp.bool:
            return x & condition
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            return x
        unit = factor.astype(jnp.finfo(dtype).dtype)
        if not jnp.issubdtype(dtype, jnp.complexfloating):
            return x * unit
        return jax.lax.complex(jnp.real(x) * unit, jnp.imag(x) * unit)  # which keeps infinities and signs of zeros

    return jax.tree.map(one, tree)


@jax.custom_jvp
def with_derivative_of(x: jax.Array, value: jax.Array) -> jax.Array:
    """The numbers `value`, a more accurate form of x, with x's derivative.

    Example:
        >>> print(jax.value_and_grad(lambda x: with_derivative_of(x**2, jnp.round(x**2)))(1.1))
        (Array(1., dtype=float32, weak_type=True), Array(2.2, dtype=float32, weak_type=True))
    """
    return value


@with_derivative_of.defjvp
def _with_derivative_of_jvp(primals, tangents):
    return with_derivative_of(*primals), tangents[0]


def above_rounding(pivots: jax.Array, n: int) -> jax.Array:
    """Whether all of the moduli are above n ε times the largest, a boolean scalar: nonzero for all one can tell.

    Example:
        >>> print(above_rounding(jnp.array([1.0, 1e-12]), 2), above_rounding(jnp.array([1.0, -0.5]), 2))
        False True
    """
    moduli = jnp.abs(pivots)
    return jnp.min(moduli, initial=jnp.inf) > n * jnp.finfo(moduli.dtype).eps * jnp.max(moduli, initial=0)


def require_differentiable(x: jax.Array, exists: jax.Array, message: str) -> None:
    """Raise `NotDifferentiableError` if x is being differentiated where its derivative is known not to exist.

    Args:
        x: a result.
        exists: whether it has a derivative, a boolean scalar.
        message: what is not differentiable, and what is instead.

    Example:
        >>> f = lambda x: require_differentiable(x, x > 0, "√x has no derivative at 0") or jnp.sqrt(x)
        >>> print(f(0.0))
        0.0
        >>> try:
        ...     jax.grad(f)(0.0)
        ... except NotDifferentiableError as error:
        ...     print(error)
        √x has no derivative at 0
    """
    if isinstance(x, Tracer) and decided(exists) is False:
        raise NotDifferentiableError(message)
