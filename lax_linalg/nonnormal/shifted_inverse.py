"""σ_min(zI − T) for an upper triangle T and many points z at once: inverse Lanczos on (zI − T)ᴴ(zI − T).

The strictly upper part of zI − T is the same for every z. So a block of rows of all the triangular systems is updated
by *one* matrix product with the block's rows of T, and only the small diagonal blocks are solved point by point: the
solves run at the speed of matrix multiplication. Vectors are stored as interleaved real and imaginary row blocks with
the points along the last axis, so all arithmetic is real, contiguous, and free of complex dtypes on every platform.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lax_linalg.nonnormal.inputs import double_precision

# Lanczos steps between two tests of convergence, and at most; points that need more are left to the SVD.
_STRIDE, _MOST_STEPS = 4, 128
_EPS = float(np.finfo(float).eps)


class SmallestSingularValues(NamedTuple):
    """σ [m] and a bound or, from Lanczos, the residual's estimate of the error of each, [m]."""

    sigma: np.ndarray
    error: np.ndarray


class ShiftedTriangle:
    """The pencil zI − T, prepared for σ_min at many z; optionally with one more row g below: σ_min([zI − T; −g]).

    Args:
        triangle: T, upper triangular, complex [n, n].
        row: g, complex [n], as the last row of a rectangular Hessenberg matrix gives in Schur coordinates.
    """

    def __init__(self, triangle: np.ndarray, row: np.ndarray | None = None):
        n = len(triangle)
        stacked = triangle if row is None else np.vstack([triangle, row])
        self.triangle, self.row, self.order = triangle, row, n
        self.scale = float(np.linalg.norm(stacked, 2)) or 1.0
        self._block = min(-(-n // 8) * 8, max(32, -(-n // 256) * 32))
        self._padded = -(-n // self._block) * self._block
        t = np.zeros((self._padded,) * 2, complex)
        t[:n, :n] = triangle / self.scale
        upper = np.triu(t, 1)
        self._panels = _interleave(upper, self._block), _interleave(upper.conj().T, self._block)
        # a point that hits an eigenvalue is moved off it by far less than the arithmetic can see
        self._diagonal = np.diagonal(t).copy()
        rng = np.random.default_rng(0)
        start = rng.normal(size=n) + 1j * rng.normal(size=n)
        self._start = self._pad(start / np.linalg.norm(start))
        self._row = self._pad(np.zeros(n, complex) if row is None else row.conj() / self.scale)

    def _pad(self, x: np.ndarray) -> np.ndarray:
        full = np.zeros(self._padded, complex)
        full[: len(x)] = x
        return full

    def sigma_min(
        self, z: np.ndarray, absolute: float = 2e-7, relative: float = 5e-3, svd_fallback: bool = True
    ) -> SmallestSingularValues:
        """σ_min at the points z [m].

        A value is accepted when its Lanczos residual is below `absolute`·‖T‖ and below `relative`·σ; the value's own
        error is of the order of the residual's square. Points that do not get there go through the SVD.

        Args:
            z: complex points, [m].
            absolute, relative: tolerances on the residual in σ.
            svd_fallback: leave points that did not converge as they are, with their residual as error, when False.

        Cost: 16 n² flops a Lanczos step and point, some 20 steps; O(n³) for a point that falls back.
        """
        z = np.asarray(z, complex).ravel()
        sigma, error = np.zeros(len(z)), np.zeros(len(z))
        for piece, size in self._pieces(len(z)):
            points = np.resize(z[piece], size) / self.scale  # the last piece is filled up with repetitions
            with double_precision():
                s, e = _lanczos(
                    *(jnp.asarray(p) for p in self._panels),
                    *_parts(self._diagonal),
                    *_parts(points),
                    *_parts(self._start),
                    *_parts(self._row),
                    absolute,
                    relative,
                    self.order,
                    block=self._block,
                    bordered=self.row is not None,
                    most=min(_MOST_STEPS, self._padded + 8),
                )
            count = piece.stop - piece.start
            sigma[piece], error[piece] = np.asarray(s)[:count], np.asarray(e)[:count]
        failed = error > np.minimum(absolute, relative * np.maximum(sigma, _EPS))
        sigma, error = sigma * self.scale, error * self.scale
        if svd_fallback and failed.any():
            sigma[failed] = self.sigma_min_svd(z[failed])
            error[failed] = 0.0
        return SmallestSingularValues(sigma, error + 8 * self.order * _EPS * (self.scale + np.abs(z)))

    def _pieces(self, count: int):
        large = int(np.clip(2**17 // self._padded, 64, 1024))
        if jax.default_backend() != "cpu":
            large *= 16
        done = 0
        while done < count:
            size = large if count - done > 64 else 64
            yield slice(done, min(done + size, count)), size
            done += size

    def sigma_min_svd(self, z: np.ndarray) -> np.ndarray:
        """σ_min at the points z [m] by one SVD each, O(n³) a point."""
        z = np.asarray(z, complex).ravel()
        n = self.order
        columns = n + (self.row is not None)
        out = np.empty(len(z))
        step = max(1, 2**22 // (n * columns))
        for first in range(0, len(z), step):
            points = z[first : first + step]
            shifted = np.zeros((len(points), columns, n), complex)
            shifted[:, :n] = points[:, None, None] * np.eye(n) - self.triangle
            if self.row is not None:
                shifted[:, n] = -self.row
            out[first : first + step] = np.linalg.svd(shifted, compute_uv=False)[:, -1]
        return out


def _parts(x: np.ndarray) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(np.real(x)), jnp.asarray(np.imag(x))


def _interleave(a: np.ndarray, block: int) -> np.ndarray:
    """The real form [[Re, −Im], [Im, Re]] of a complex matrix, block by block."""
    k = len(a) // block
    blocks = a.reshape(k, block, k, block)
    re, im = np.real(blocks), np.imag(blocks)
    real = np.stack([np.stack([re, -im], 2), np.stack([im, re], 2)])
    # real: [row part, k, block, column part, k, block] -> rows (k, part, block), columns (k, part, block)
    return np.ascontiguousarray(real.transpose(1, 0, 2, 4, 3, 5)).reshape(2 * len(a), 2 * len(a))


def _layout(real: jax.Array, imaginary: jax.Array, block: int) -> jax.Array:
    """[n, m] twice -> [2n, m] in row blocks of real parts followed by imaginary parts."""
    n, m = real.shape
    return jnp.stack([real.reshape(-1, block, m), imaginary.reshape(-1, block, m)], 1).reshape(2 * n, m)


def _solve_block(d: jax.Array, rhs: jax.Array, reciprocal: jax.Array, block: int, upper: bool) -> jax.Array:
    """Substitution within one diagonal block, all points at once; rows of x not yet known are zero."""
    d, rhs, reciprocal = (a.reshape(2, block, -1) for a in (d, rhs, reciprocal))

    def row(j: jax.Array, x: jax.Array) -> jax.Array:
        i = block - 1 - j if upper else j
        re, im = rhs[:, i] + d[:, i] @ x
        r = reciprocal[:, i]
        new = jnp.stack([re * r[0] - im * r[1], re * r[1] + im * r[0]])
        return x.reshape(2, block, -1).at[:, i].set(new).reshape(2 * block, -1)

    return lax.fori_loop(0, block, row, jnp.zeros_like(rhs).reshape(2 * block, -1))


def _solve(panels: jax.Array, reciprocal: jax.Array, b: jax.Array, block: int, upper: bool) -> jax.Array:
    """(D − N) x = b for strictly triangular N given by its panels and 1/D by `reciprocal`."""
    count, width = len(b) // (2 * block), 2 * block
    known: dict[int, jax.Array] = {}
    for i in range(count - 1, -1, -1) if upper else range(count):
        rows, rhs = slice(width * i, width * (i + 1)), b[width * i : width * (i + 1)]
        if known:
            columns = slice(width * min(known), width * (max(known) + 1))
            rhs = rhs + panels[rows, columns] @ jnp.concatenate([known[j] for j in sorted(known)])
        known[i] = _solve_block(panels[rows, rows], rhs, reciprocal[rows], block, upper)
    return jnp.concatenate([known[j] for j in range(count)])


@functools.partial(jax.jit, static_argnames=("block", "bordered", "most"))
def _lanczos(
    upper: jax.Array,
    lower: jax.Array,
    diagonal_re: jax.Array,
    diagonal_im: jax.Array,
    z_re: jax.Array,
    z_im: jax.Array,
    start_re: jax.Array,
    start_im: jax.Array,
    row_re: jax.Array,
    row_im: jax.Array,
    absolute: float,
    relative: float,
    order: int,
    *,
    block: int,
    bordered: bool,
    most: int,
) -> tuple[jax.Array, jax.Array]:
    """σ_min and its residual at every z, for a triangle of norm 1; one Lanczos process a column, in lockstep."""
    n, m = len(start_re), len(z_re)
    d_re, d_im = z_re[None] - diagonal_re[:, None], z_im[None] - diagonal_im[:, None]
    square = d_re**2 + d_im**2
    least = (1e-4 * _EPS) ** 2
    d_re, square = jnp.where(square < least, least**0.5, d_re), jnp.maximum(square, least)
    valid = (jnp.arange(n) < order)[:, None]
    re, im = jnp.where(valid, d_re / square, 0), jnp.where(valid, -d_im / square, 0)
    reciprocal, conjugate = _layout(re, im, block), _layout(re, -im, block)

    def spread(a_re: jax.Array, a_im: jax.Array) -> jax.Array:
        return _layout(jnp.broadcast_to(a_re[:, None], (n, m)), jnp.broadcast_to(a_im[:, None], (n, m)), block)

    def inverse_adjoint(v: jax.Array) -> jax.Array:
        return _solve(lower, conjugate, v, block, upper=False)

    p = inverse_adjoint(spread(row_re, row_im)) if bordered else None

    def apply(v: jax.Array) -> jax.Array:
        """((zI − T)ᴴ(zI − T) + gᴴg)⁻¹ v, the border by Sherman and Morrison."""
        w = inverse_adjoint(v)
        if p is not None:
            w3, p3 = w.reshape(-1, 2, block, m), p.reshape(-1, 2, block, m)
            inner_re = jnp.sum(p3 * w3, (0, 1, 2))
            inner_im = jnp.sum(p3[:, 0] * w3[:, 1] - p3[:, 1] * w3[:, 0], (0, 1))
            divisor = 1 + jnp.sum(p3**2, (0, 1, 2))
            c_re, c_im = inner_re / divisor, inner_im / divisor
            turned = jnp.stack([c_re * p3[:, 0] - c_im * p3[:, 1], c_re * p3[:, 1] + c_im * p3[:, 0]], 1)
            w = w - turned.reshape(w.shape)
        return _solve(upper, reciprocal, w, block, upper=True)

    def step(j: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        previous, v, alpha, beta = state
        w = apply(v)
        a = jnp.sum(v * w, 0)
        w = w - a * v - jnp.where(j > 0, beta[j - 1], 0) * previous
        b = jnp.sqrt(jnp.sum(w * w, 0))
        tiny = b <= 1e-14 * jnp.abs(a)  # an invariant subspace: nothing more to find
        b = jnp.where(tiny, 0, b)
        following = jnp.where(tiny, 0, w / jnp.where(tiny, 1, b))
        return v, following, alpha.at[j].set(a), beta.at[j].set(b)

    def advance(state):
        k, vectors, _, _ = state
        vectors = lax.fori_loop(k, k + _STRIDE, step, vectors)
        k = k + _STRIDE
        sigma, error = _largest_ritz_value(vectors[2], vectors[3], k)
        return k, vectors, sigma, error

    def unfinished(state):
        k, _, sigma, error = state
        return (k < most) & jnp.any(error > jnp.minimum(absolute, relative * jnp.maximum(sigma, _EPS)))

    v = spread(start_re, start_im)
    zeros = jnp.zeros((most, m))
    first = (0, (jnp.zeros_like(v), v, zeros, zeros), jnp.zeros(m), jnp.full(m, jnp.inf))
    _, _, sigma, error = lax.while_loop(unfinished, advance, first)
    return sigma, error


def _largest_ritz_value(alpha: jax.Array, beta: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """σ = θ^{−1/2} and its residual for the largest eigenvalue θ of each k×k tridiagonal, by bisection on Sturm counts.

    The residual of the Ritz pair is β_k |s_k| for the unit eigenvector s; s grows from its last entry by a stable
    backward recurrence. Values beyond the range of the arithmetic are σ = 0.
    """
    index = jnp.arange(len(alpha))[:, None]
    inside = index < k
    off = jnp.where(index < k - 1, beta, 0)  # β_i couples i and i + 1
    before = jnp.concatenate([jnp.zeros_like(off[:1]), off[:-1]])
    low = jnp.max(jnp.where(inside, alpha, 0), 0)
    high = jnp.max(jnp.where(inside, alpha + off + before, 0), 0) * (1 + 4 * _EPS)

    def is_above(x: jax.Array) -> jax.Array:
        def pivot(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            d, above = state
            d = alpha[i] - x - before[i] ** 2 / d
            return d, above & (d < 0)

        return lax.fori_loop(0, k, pivot, (jnp.ones_like(x), jnp.ones(x.shape, bool)))[1]

    def halve(_: jax.Array, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = is_above(middle)
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, theta = lax.fori_loop(0, 44, halve, (low, high))

    def backward(j: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        i = k - 1 - j
        pivot, s, total = state
        s = s * -pivot / off[i]
        return alpha[i] - theta - off[i] ** 2 / pivot, s, total + s * s

    last = alpha[k - 1] - theta
    _, _, total = lax.fori_loop(1, k, backward, (last, jnp.ones_like(theta), jnp.ones_like(theta)))
    sigma = 1 / jnp.sqrt(theta)
    residual = beta[k - 1] / jnp.sqrt(total)
    # θ ± residual, and what bisection has left of its bracket, carried to σ = θ^{−1/2}
    error = sigma * (residual + theta - low) / (2 * theta)
    overflowed = ~jnp.isfinite(theta) | ~jnp.isfinite(low) | (theta <= 0)
    return jnp.where(overflowed, 0, sigma), jnp.where(overflowed | jnp.isnan(error), 0, error)
