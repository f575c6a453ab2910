"""Principal values: which side of the cut along the negative real axis a number belongs to."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lax_linalg.core.eager_checks import with_derivative_of


def on_the_cut(w: jax.Array) -> jax.Array:
    """The same complex numbers with imaginary parts 0 in place of −0, so that arguments lie in (−π, π].

    Platforms differ in the side of the cut on which they take −0i, and in whether rounding leaves one.

    Example:
        >>> import jax.numpy as jnp
        >>> print(jnp.angle(on_the_cut(jnp.array(complex(-1.0, -0.0)))))
        3.1415927
    """
    return with_derivative_of(w, jax.lax.complex(w.real, jnp.where(w.imag == 0, 0, w.imag)))


def off_the_cut(w: jax.Array, noise: jax.Array) -> jax.Array:
    """Eigenvalues of a real matrix, the negative ones of them real instead of on either side of the cut by rounding.

    Example:
        >>> import jax.numpy as jnp
        >>> print(off_the_cut(jnp.array([-1 - 1e-9j, 1 - 1e-9j]), jnp.array(1e-6)))
        [-1.+0.e+00j  1.-1.e-09j]
    """
    return with_derivative_of(w, jnp.where((w.real < 0) & (jnp.abs(w.imag) <= noise), w.real, w))


def principal(name: str, w: jax.Array) -> jax.Array:
    """Principal "log" or "sqrt" of complex numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> print(principal("log", jnp.array(complex(-1.0, -0.0))))
        3.1415927j
    """
    return {"log": jnp.log, "sqrt": jnp.sqrt}[name](on_the_cut(w))
