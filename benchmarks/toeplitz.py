"""Products with Toeplitz and circulant matrices: against the dense product, and against the bare FFTs they need.

One vector, float32. The dense product is measured as long as the matrix fits in 1 GiB; beyond, the entries are said to
be extrapolated by n². The bare FFTs are those of one embedded product: two real transforms forward and one back.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

import lax_linalg as la
from benchmarks.harness import Row, median_seconds
from lax_linalg.operators.fourier import fft_size

SIZES = tuple(2**k for k in range(11, 17))
DENSE_LIMIT = 2**14  # 1 GiB in float32


def rows() -> list[Row]:
    """Dense over structured at every size, and structured over the bare FFTs."""
    found, dense_at_limit = [], {}
    for n in SIZES:
        c, r, x = (jax.random.normal(key, (n,)) for key in jax.random.split(jax.random.key(n), 3))
        for A in (la.Toeplitz(c, r), la.Circulant(c)):
            kind = type(A).__name__
            length = fft_size(2 * n - 1) if kind == "Toeplitz" else n
            contenders = {
                "ours": lambda A=A, x=x: _product(A, x),
                "fft": lambda c=c, x=x, length=length: _transforms(c, x, length),
            }
            if n <= DENSE_LIMIT:
                a = la.materialize(A)
                contenders["dense"] = lambda a=a, x=x: _dense(a, x)
            seconds = median_seconds(contenders, repeats=15)
            if n <= DENSE_LIMIT:
                dense, note = seconds["dense"], ""
                dense_at_limit[kind] = (dense, n)
            else:
                measured, size = dense_at_limit[kind]
                dense, note = measured * (n / size) ** 2, f", dense extrapolated from n = {size}"
            detail = f"{seconds['ours'] * 1e6:.0f} µs{note}"
            found.append(Row(f"{kind} product, n = {n}", dense / seconds["ours"], "dense / ours", "> 1", detail))
            found.append(
                Row(f"{kind} product, n = {n}, bare FFTs", seconds["ours"] / seconds["fft"], "ours / FFTs", "≤ 2")
            )
    return found


@jax.jit
def _product(A: la.LinearOperator, x: jax.Array) -> jax.Array:
    return A @ x


@jax.jit
def _dense(a: jax.Array, x: jax.Array) -> jax.Array:
    return a @ x


@functools.partial(jax.jit, static_argnums=2)
def _transforms(c: jax.Array, x: jax.Array, length: int) -> jax.Array:
    return jnp.fft.irfft(jnp.fft.rfft(c, length) * jnp.fft.rfft(x, length), length)
