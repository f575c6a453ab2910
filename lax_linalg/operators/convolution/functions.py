"""Systems, inverses and predicates of convolutions: what their symbols (`convolution_symbols`) make cheap.

A circular convolution with stride 1 is closed under inversion, polar factors and the exponential: the result is one
with a kernel of the size of the image, whose symbols are the function of the symbols.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dense import Dense
from lax_linalg.core.eager_checks import known_not_finite
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense.scaling import over_unit, unit_of
from lax_linalg.errors import SingularError
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.spectra import splits
from lax_linalg.operators.convolution.symbols import by_fourier, commutes, stacks
from lax_linalg.operators.lazy import Transpose, own_transpose
from lax_linalg.verbs.basic import compute_dtype, materialize
from lax_linalg.verbs.functions import exp, matrix_exponential
from lax_linalg.verbs.norms import norm, opnorm
from lax_linalg.verbs.polar import Polar, polar
from lax_linalg.verbs.predicates import isnormal, isunitary, tolerance
from lax_linalg.verbs.solve import by_columns, default_rtol, inv, lstsq, pinv, solve


def _closed(A: Convolution) -> bool:
    """Whether functions of the symbols are convolutions again: circular with stride 1."""
    return all(by_fourier(A)) and set(A.stride) == {1}  # type: ignore[arg-type]


@functools.partial(jax.jit, static_argnums=1)
def _grid(A: Convolution, f: Callable[..., jax.Array], *shared: jax.Array) -> jax.Array:
    """f(G, *shared) of the symbols G of all frequencies, [*N, groups, M, J], where f(conj G) = conj f(G).

    It is compiled once for each function: f is one of a module.
    """
    sizes = [n // s for n, s in zip(A.spatial, A.stride)]  # type: ignore[arg-type]
    grid = None
    for stack in stacks(A):
        values = jax.vmap(jax.vmap(lambda G: f(G, *shared)))(stack.blocks)
        if grid is None:
            dtype = jnp.result_type(values.dtype, jnp.complex64)
            grid = jnp.zeros((*sizes, *values.shape[1:]), dtype)
        if stack.multiplicity == 2:
            partner = (-stack.frequencies) % np.array(sizes)
            grid = grid.at[tuple(partner.T)].set(values.conj().astype(grid.dtype))
        grid = grid.at[tuple(stack.frequencies.T)].set(values.astype(grid.dtype))
    assert grid is not None  # the zero frequency always has a block
    return grid


@functools.partial(jax.jit, static_argnums=1)
def _map(A: Convolution, f: Callable[..., jax.Array], *shared: jax.Array) -> Convolution:
    """The circular convolution whose symbols are f of A's."""
    grid = _grid(A, f, *shared)
    d = len(A.out_spatial)
    kernel = jnp.fft.fftn(grid, axes=tuple(range(d))) / math.prod(grid.shape[:d])
    if not jnp.issubdtype(A.dtype, jnp.complexfloating):
        kernel = kernel.real
    kernel = jnp.roll(kernel, [(n - 1) // 2 for n in grid.shape[:d]], tuple(range(d)))
    kernel = jnp.moveaxis(kernel, -1, d)  # [*n, J, groups, M]
    return Convolution(kernel.reshape(*kernel.shape[: d + 1], -1), A.spatial, 1, "circular", 1, A.groups)


def _require_regular(A: Convolution, result: jax.Array, name: str) -> None:
    if not known_not_finite(result):
        return
    inverses = _grid(A, jnp.linalg.inv)
    d = len(A.out_spatial)
    singular = ~np.isfinite(np.asarray(inverses)).all(tuple(range(d, inverses.ndim)))
    index = int(singular.argmax())
    frequency = ", ".join(map(str, np.unravel_index(index, singular.shape)))
    raise SingularError(
        f"{name}: the convolution is singular, its symbol at frequency {frequency} is; la.lstsq and la.pinv accept it",
        index=index,
    )


@inv.rule(Convolution, cost="O(N c³ + N c² log N) for N pixels; O(n³) unless circular with stride 1")
def _(A: Convolution) -> LinearOperator:
    """Convolution with the inverse symbols, circular with stride 1; else of the materialised matrix."""
    if not (_closed(A) and commutes(A)):
        return inv.fallback(A)
    inverse = _map(A, jnp.linalg.inv)
    _require_regular(A, inverse.kernel, "inv")
    return inverse


@pinv.rule(Convolution, cost="O(N c³ + N c² log N) for N pixels; O(mn min(m, n)) unless circular with stride 1")
def _(A: Convolution, *, rtol: float | None = None, atol: jax.Array | float = 0) -> LinearOperator:
    """Convolution with the pseudo-inverse symbols, circular with stride 1; else of the materialised matrix."""
    if not _closed(A):
        return pinv.fallback(A, rtol=rtol, atol=atol)
    return _map(A, _pinv_above, _threshold(A, rtol, atol))


def _pinv_above(G: jax.Array, threshold: jax.Array) -> jax.Array:
    return materialize(pinv(Dense(G), rtol=0.0, atol=threshold))


def _threshold(A: Convolution, rtol: float | None, atol: jax.Array | float) -> jax.Array:
    rtol = default_rtol(A.shape, compute_dtype(A.dtype)) if rtol is None else rtol
    return jnp.maximum(atol, rtol * jax.lax.stop_gradient(opnorm(A)))


@solve.rule(Convolution, cost="O(N c³ + N log N) for N pixels; O(n³) unless circular with stride 1")
@by_columns
def _(A: Convolution, b: jax.Array) -> jax.Array:
    """Solves with every symbol between two FFTs, circular with stride 1; else with the materialised matrix."""
    m, n = A.shape
    if m != n:
        return lstsq(A, b)
    if not (_closed(A) and commutes(A)):
        return solve.fallback(A, b)
    x = _between_transforms(A, b, jnp.linalg.solve, _grid(A, _itself))
    _require_regular(A, x, "solve")
    return x


def _itself(G: jax.Array) -> jax.Array:
    return G


@lstsq.rule(Convolution, cost="O(N c³ + N log N) for N frequencies; O(mn min(m, n)) unless circular and S divides n")
@by_columns
def _(A: Convolution, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Least squares with every symbol between two FFTs, where the DFT splits A; else with the materialised matrix."""
    if not all(by_fourier(A)):
        return lstsq.fallback(A, b, rtol=rtol, atol=atol)
    inverses = _grid(A, _pinv_above, _threshold(A, rtol, atol))
    return _between_transforms(A, b, jnp.matmul, inverses)


@lstsq.rule(Transpose, cost="cost of lstsq with A for a convolution; O(mn min(m, n)) else")
@by_columns
def _(A: Transpose, b: jax.Array, *, rtol: float | None = None, atol: jax.Array | float = 0) -> jax.Array:
    """Transpose of y ↦ A⁺ y, where the DFT splits the convolution A; else with the materialised matrix."""
    own, parent = own_transpose(A), A.parent
    if own is not None:
        return lstsq(own, b, rtol=rtol, atol=atol)
    # no other structure leaves its transpose lazy and has a least-squares rule
    if not (isinstance(parent, Convolution) and all(by_fourier(parent))):
        return lstsq.fallback(A, b, rtol=rtol, atol=atol)
    rows = jax.ShapeDtypeStruct((parent.shape[0], b.shape[1]), b.dtype)
    (x,) = jax.linear_transpose(lambda y: lstsq(parent, y, rtol=rtol, atol=atol), rows)(b)
    return x


def _between_transforms(A: Convolution, b: jax.Array, f: Callable, grid: jax.Array) -> jax.Array:
    """x from b [m, k] by f(symbol, coefficients of b) at each frequency."""
    d, k = len(A.out_spatial), b.shape[1]
    axes = tuple(range(d))
    images = b.reshape(*A.out_spatial, A.groups, -1, k)
    x = f(grid, jnp.fft.fftn(images, axes=axes).astype(grid.dtype))  # [*N, groups, (*S, cin / groups), k]
    x = jnp.fft.ifftn(x, axes=axes).reshape(*A.out_spatial, A.groups, *A.stride, -1, k)  # type: ignore[misc]
    # position S q + r in each dimension: q and r next to each other, groups behind
    order = [axis for i in range(d) for axis in (i, d + 1 + i)] + [d, 2 * d + 1, 2 * d + 2]
    x = jnp.transpose(x, order).reshape(A.shape[1], k)
    real = not jnp.iscomplexobj(b) and not jnp.issubdtype(A.dtype, jnp.complexfloating)
    return (x.real if real else x).astype(b.dtype)


@polar.rule(Convolution, cost="O(N c³) for N pixels plus O(mn), the size of the factors")
def _(A: Convolution) -> Polar:
    """Polar factors of every symbol, circular with stride 1; else of the materialised matrix."""
    if not _closed(A):
        return polar.fallback(A)
    U, P = (materialize(_map(A, f)) for f in (_polar_u, _polar_p))
    return Polar(U, P)


def _polar_u(G: jax.Array) -> jax.Array:
    return polar(Dense(G)).U


def _polar_p(G: jax.Array) -> jax.Array:
    return polar(Dense(G)).P


@exp.rule(Convolution, cost="O(N c³ + N c² log N) for N pixels; O(n³) unless circular with stride 1")
def _(A: Convolution) -> LinearOperator:
    """Convolution with the exponentials of the symbols, circular with stride 1; else of the materialised matrix."""
    if not (_closed(A) and commutes(A)):
        return exp.fallback(A)
    return _map(A, matrix_exponential)


# --- predicates ---


@isunitary.rule(Convolution, cost="O(N c³) for N blocks; O(mn min(m, n)) if there is one block")
def _(A: Convolution, *, rtol: float | None = None) -> jax.Array:
    """Gram matrices of the symbols."""
    if not splits(A):
        return isunitary.fallback(A, rtol=rtol)
    total, k = jnp.zeros((), jnp.finfo(compute_dtype(A.dtype)).dtype), min(A.shape)
    for stack in stacks(A):
        G = stack.blocks
        H = jnp.conj(jnp.swapaxes(G, -1, -2))
        gram = H @ G if G.shape[-2] >= G.shape[-1] else G @ H
        total += stack.multiplicity * jnp.sum(jnp.abs(gram - jnp.eye(gram.shape[-1])) ** 2)
    return jnp.sqrt(total) <= tolerance(A, total, rtol) * k**0.5


@isnormal.rule(Convolution, cost="O(N c³) for N blocks; O(n³) if there is one block")
def _(A: Convolution, *, rtol: float | None = None) -> jax.Array:
    """Commutators of the symbols with their adjoints."""
    if not (splits(A) and commutes(A)):
        return isnormal.fallback(A, rtol=rtol)
    A = A.with_kernel(over_unit(A.kernel, unit_of(A.kernel)))  # whose squares stay in range
    total = jnp.zeros((), jnp.finfo(compute_dtype(A.dtype)).dtype)
    for stack in stacks(A):
        G = stack.blocks
        H = jnp.conj(jnp.swapaxes(G, -1, -2))
        total += stack.multiplicity * jnp.sum(jnp.abs(G @ H - H @ G) ** 2)
    return jnp.sqrt(total) <= tolerance(A, total, rtol) * norm(A) ** 2
