"""One unit for every algorithm: matrices come to the middle of the range of floats, and results go back, exactly.

Products and squares of the entries of 10²⁰ A or 10⁻²⁰ A leave the range of single precision, and so does what
derivatives divide by, however harmless the result is. Division by a power of two costs no digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def unit_of(x: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """A power of four at or below the largest modulus, up to a factor of four, a constant for the derivative; 1 for 0.

    Args:
        x: real or complex numbers.
        axis: one unit for all numbers along these axes, which stay with length 1; for all numbers unless given.

    Example:
        >>> print(unit_of(jnp.array([5.0, -1.0])), unit_of(jnp.zeros(2)))
        4.0 1.0
    """
    moduli = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)) if jnp.iscomplexobj(x) else jnp.abs(x)
    largest = jax.lax.stop_gradient(jnp.max(moduli, axis=axis, initial=0, keepdims=axis is not None))
    _, exponent = jnp.frexp(jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1))
    return jnp.ldexp(jnp.ones((), largest.dtype), (exponent - 1) // 2 * 2)


def over_unit(x: jax.Array, unit: jax.Array) -> jax.Array:
    """x / unit for a real unit: complex numbers part by part, since their division squares it.

    Example:
        >>> print(over_unit(jnp.array([2e-30 + 4e-30j]), jnp.array(1e-30)).round(3))
        [2.+4.j]
    """
    return jax.lax.complex(x.real / unit, x.imag / unit) if jnp.iscomplexobj(x) else x / unit


def moduli(z: jax.Array) -> jax.Array:
    """|z| of each number, whose derivatives divide by numbers near 1.

    Example:
        >>> print(moduli(jnp.array([3e20 + 4e20j])) / 1e20)
        [5.]
    """
    if not jnp.iscomplexobj(z):
        return jnp.abs(z)
    unit = unit_of(z[..., None], axis=-1)[..., 0]
    return unit * jnp.abs(over_unit(z, unit))


def phases(z: jax.Array) -> jax.Array:
    """z/|z| of each number, 1 where it is 0.

    Example:
        >>> print(phases(jnp.array([-2e-30, 0.0])), phases(jnp.array([2e-30j])))
        [-1.  1.] [0.+1.j]
    """
    zero = z == 0
    if not jnp.iscomplexobj(z):
        return jnp.where(zero, 1, jnp.sign(z))
    z = over_unit(z, unit_of(z[..., None], axis=-1)[..., 0])
    return jnp.where(zero, 1, z / jnp.where(zero, 1, jnp.abs(z)))


def times_unit(x: jax.Array, unit: jax.Array, degree: float) -> jax.Array:
    """x · unit^degree for half a whole number; the power itself may leave the range where the result does not.

    Example:
        >>> print(times_unit(jnp.array(3.0), jnp.array(4.0), -0.5))
        1.5
    """
    _, exponent = jnp.frexp(unit)
    return by_power_of_two(x, (exponent - 1) // 2 * round(2 * degree)) if degree else x


def by_power_of_two(x: jax.Array, exponent: jax.Array) -> jax.Array:
    """x · 2^exponent in two steps, because the power itself may over- or underflow where the result does not.

    Example:
        >>> print(by_power_of_two(jnp.array(2.0**-100), jnp.array(130)) == 2.0**30)  # 2^130 is no float32
        True
    """
    largest = 2 * (jnp.finfo(x.dtype).maxexp - 2)
    exponent = jnp.clip(exponent, -largest, largest)
    half = exponent // 2
    for part in (half, exponent - half):
        x = x * jnp.ldexp(jnp.ones((), x.real.dtype), part).astype(x.dtype)
    return x


def at_unit_scale(function: Callable[[jax.Array], Any], *degrees: float) -> Callable[[jax.Array], Any]:
    """The function of one matrix, of which the algorithm sees numbers near 1 alone.

    Args:
        function: of a matrix, with one result or a tuple of them.
        degrees: d for each of the results, where f(cA) = cᵈ f(A); halves of whole numbers.

    Returns:
        The same function. Its k-th derivative is of degree d − k, and no number on the way is larger, since tangents
        of A are taken as they are.

    Example:
        >>> norm = at_unit_scale(lambda a: jnp.sqrt(jnp.sum(a * a)), 1)
        >>> print(norm(jnp.full((2, 2), 1e-30)) / 2e-30)
        1.0
    """

    def back(results: Any, unit: jax.Array, order: int) -> Any:
        if not isinstance(results, tuple):
            return times_unit(results, unit, degrees[0] - order)
        return tuple(times_unit(x, unit, d - order) for x, d in zip(results, degrees))

    @jax.custom_jvp
    def scaled(a: jax.Array) -> Any:
        unit = unit_of(a)
        return back(function(over_unit(a, unit)), unit, 0)

    @scaled.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (a,), (da,) = primals, tangents
        unit = unit_of(a)
        results, derivatives = jax.jvp(function, (over_unit(a, unit),), (da,))
        return back(results, unit, 0), back(derivatives, unit, 1)

    return scaled
