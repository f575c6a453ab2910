"""Small numerical tools that the laws share: double precision on the host, monotone inversion, parameter checks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Evaluate JAX code now and in float64, also inside an outer trace: for tables that are built once."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        yield


def as_float(x: jax.typing.ArrayLike) -> jax.Array:
    """`x` as a floating array: integers become the default float, floats keep their precision."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def check_parameter(law: str, name: str, value: float, allowed: str, valid: bool) -> None:
    """Raise one clear error unless `value` is a finite number for which `valid` holds."""
    if not (isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value) and valid):
        raise LinearAlgebraError(f"{law}: {name} = {value!r} is outside its domain; {name} must be {allowed}")


def check_count(name: str, value: int, least: int = 1) -> int:
    """`value` as an int of at least `least`, or one clear error."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise LinearAlgebraError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def bisect_monotone(
    function: Callable[[jax.Array], jax.Array], target: jax.Array, lower: jax.Array, upper: jax.Array, steps: int
) -> jax.Array:
    """Solve function(t) = target elementwise for a non-decreasing function by bisection (jittable, no gradient)."""

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        below = function(middle) < target
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, steps, halve, (lower, upper))
    return 0.5 * (low + high)


def safe_sqrt(x: jax.Array) -> jax.Array:
    """√max(x, 0) with gradient 0 where x ≤ 0 instead of NaN."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def arc_area(x: jax.Array, low: float, high: float) -> jax.Array:
    """∫ from `low` to x of √((t − low)(high − t)) / t dt for 0 ≤ low ≤ x ≤ high, in closed form.

    Example:
        >>> round(float(arc_area(jnp.array(4.0), 0.0, 4.0) / (2 * jnp.pi)), 6)  # Marchenko–Pastur, ratio 1
        1.0
    """
    middle, width, geometric = 0.5 * (low + high), high - low, math.sqrt(low * high)
    arc = jnp.arcsin(jnp.clip((2 * x - low - high) / width, -1, 1))
    if geometric > 0:
        second = jnp.arcsin(jnp.clip(((low + high) * x - 2 * low * high) / (x * width), -1, 1))
    else:
        second = jnp.zeros_like(x)
    area = safe_sqrt((high - x) * (x - low)) + middle * arc - geometric * second
    return area + 0.5 * jnp.pi * (middle - geometric)


def double_exponential_rule(low: float, high: float, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on (low, high) that keep full accuracy at algebraic endpoint singularities (float64).

    x = low + (high − low) / (1 + e^{−π sinh t}), trapezoidal in t. The lower end is resolved to 1e-100 of the width,
    the upper one to rounding, where the densities have square-root edges.

    Source: Takahasi and Mori, Publ. RIMS 9 (1974), the tanh-sinh rule.

    Example:
        >>> x, w = double_exponential_rule(0.0, 1.0)
        >>> round(float(np.sum(w * x**-0.9)), 8)
        10.0
    """
    t, step = np.linspace(-5.0, 3.2, count, retstep=True)
    inner = np.pi * np.sinh(t)
    fraction = 1 / (1 + np.exp(-inner))
    weights = (high - low) * step * np.pi * np.cosh(t) * fraction / (1 + np.exp(inner))
    return low + (high - low) * fraction, weights
