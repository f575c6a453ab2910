"""The symbols of a convolution: the small matrices into which Fourier bases split it.

With circular padding and a stride S that divides n, write an input position as j = S q + r. The map commutes with
shifts of q, so the DFT over q and m leaves one block for each frequency u, the polyphase (space-to-depth) symbol

    G(u)[o, (r, i)] = Σ_{t: e_t ≡ r mod S} w[t, i, o] exp(2πi u ⌊e_t / S⌋ / N),   e_t = t D − P,   N = n / S.

In two dimensions the phases multiply; groups of channels are a direct sum. A dimension that no Fourier basis splits
(zero padding, or a stride that does not divide n) keeps its positions as part of the symbol, so that everything is one
formula: along each dimension a `Side` holds how the taps act in its basis, and a symbol is the kernel contracted with
one per dimension.

With stride 1 and few taps a symbol is a short sum of waves times taps, written out term by term: XLA makes one loop of
it, which is several times faster than complex matrix products.

Source: Sedghi, Gupta & Long, The singular values of convolutional layers (2019), for stride 1.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.dense.gram_svdvals import tridiagonal
from lax_linalg.dense.sturm import tridiagonal_root_eigenvalues
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.window import existing, positions
from lax_linalg.verbs.basic import compute_dtype


class Side(NamedTuple):
    """One dimension in its basis.

    Attributes:
        taps: how tap t maps the basis' inputs to its outputs at frequency f, [f, M, J, K].
        partner: the frequency with the conjugate block for real kernels, [f].
        outputs, stride: number of outputs, and the stride, which is None where no Fourier basis splits the dimension.
    """

    taps: np.ndarray
    partner: np.ndarray
    outputs: int
    stride: int | None

    @property
    def rows(self) -> np.ndarray:
        """The basis of the outputs, [out, f, M], orthonormal columns."""
        if self.stride is None:
            return np.eye(self.outputs)[:, None]
        u = np.arange(self.outputs)
        return _unit(np.multiply.outer(u, u), len(u))[:, :, None] / np.sqrt(len(u))

    @property
    def columns(self) -> np.ndarray:
        """The basis of the inputs, [n, f, J], orthonormal columns."""
        if self.stride is None:
            return np.eye(self.taps.shape[2])[:, None]
        return np.kron(self.rows, np.eye(self.stride)[:, None])


class Symbols(NamedTuple):
    """A stack of blocks that all stand for the same number of equal ones.

    Attributes:
        blocks: [frequencies, groups, M, J], complex, or real where the block is its own conjugate partner.
        multiplicity: 2 if the complex conjugate of each block is one of the matrix' blocks as well.
        frequencies: the pairs of indices into the sides, [frequencies, d].
    """

    blocks: jax.Array
    multiplicity: int
    frequencies: np.ndarray


def by_fourier(A: Convolution) -> tuple[bool, ...]:
    """For each dimension whether the DFT splits it: circular, with a stride that divides the size.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> by_fourier(la.Convolution(jnp.ones((3, 3, 1, 1)), (8, 9), stride=2, padding="circular"))
        (True, False)
    """
    return tuple(A.circular and n % s == 0 for n, s in zip(A.spatial, A.stride))  # type: ignore[arg-type]


def commutes(A: Convolution) -> bool:
    """Whether inputs and outputs have the same basis, so that eigenvalues and functions go block by block.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> commutes(la.Convolution(jnp.ones((3, 1, 1)), 8, padding="circular"))
        True
    """
    return A.spatial == A.out_spatial and A.in_channels == A.out_channels


def sides(A: Convolution) -> list[Side]:
    """The basis of each dimension, known from the geometry alone.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> [side] = sides(la.Convolution(jnp.ones((3, 1, 1)), 8, stride=2, padding="circular"))
        >>> side.taps.shape
        (4, 1, 2, 3)
    """
    result = []
    columns = zip(by_fourier(A), _partners(A), A.spatial, A.stride, positions(A), existing(A))  # type: ignore[arg-type]
    for split, partner, n, s, j, exists in columns:
        if not split:
            taps = (j[:, None, :] % n == np.arange(n)[:, None]) & exists[:, None, :]
            result.append(Side(taps[None] * 1.0, partner, len(j), None))
            continue
        N, offset, u = n // s, j[0], np.arange(n // s)
        phase = _unit(np.multiply.outer(u, offset // s), N)
        taps = phase[:, None, None, :] * (offset % s == np.arange(s)[:, None])
        result.append(Side(taps, partner, N, s))
    return result


def _partners(A: Convolution) -> list[np.ndarray]:
    """The frequency with the conjugate block for real kernels, along each dimension."""
    sizes = [n // s if split else 1 for split, n, s in zip(by_fourier(A), A.spatial, A.stride)]  # type: ignore[arg-type]
    return [-np.arange(N) % N for N in sizes]


def _unit(k: np.ndarray, N: int) -> np.ndarray:
    """exp(2πi k / N), with the angle reduced before it is rounded."""
    return np.exp(2j * np.pi * (k % N) / N)


def stacks(A: Convolution, bases: list[Side] | None = None) -> list[Symbols]:
    """The blocks of A, from the half spectrum where the kernel is real.

    Cost: O(N k cin cout) for N blocks.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Convolution(jnp.ones((3, 2, 5)), 8, padding="circular")
        >>> [(s.blocks.shape, s.blocks.dtype.name, s.multiplicity) for s in stacks(A)]
        [((2, 1, 5, 2), 'float32', 1), ((3, 1, 5, 2), 'complex64', 2)]
    """
    bases = sides(A) if bases is None else bases
    kernel = A.kernel.astype(compute_dtype(A.dtype))
    return [_stack(A, kernel, bases, sets, count) for sets, count in _chosen(A, [base.partner for base in bases])]


def _representatives(partners: list[np.ndarray]) -> list[tuple[list[np.ndarray], int]]:
    """One of each pair of conjugate frequencies, as products of sets of frequencies, and how many each stands for."""
    own = [np.flatnonzero(partner == np.arange(len(partner))) for partner in partners]
    lower = [np.flatnonzero(partner > np.arange(len(partner))) for partner in partners]
    if len(partners) == 1:
        chosen = [(own, 1), (lower, 2)]
    else:
        everything = np.arange(len(partners[0]))
        chosen = [(own, 1), ([lower[0], own[1]], 2), ([everything, lower[1]], 2)]
    return [(sets, count) for sets, count in chosen if all(len(x) for x in sets)]


@functools.partial(jax.jit, inline=True)
def half_spectrum(A: Convolution) -> jax.Array:
    """The blocks of `stacks` as one array [frequencies, groups, M, J], to be factorised together.

    Real blocks become complex beside complex ones; one program, whoever calls.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> half_spectrum(la.Convolution(jnp.ones((3, 2, 5)), 8, padding="circular")).shape
        (5, 1, 5, 2)
    """
    bases, kernel = sides(A), A.kernel.astype(compute_dtype(A.dtype))
    chosen = _chosen(A, [base.partner for base in bases])
    if not _few_taps(A):
        return jnp.concatenate([_stack(A, kernel, bases, sets, count).blocks for sets, count in chosen])
    waves = np.concatenate([_waves(bases, sets) for sets, _ in chosen])
    real = {count for _, count in chosen} == {1} and not jnp.iscomplexobj(kernel)
    return _sum_of_waves(A, kernel, np.real(waves) if real else waves)


def has_gram_values(A: Convolution) -> bool:
    """Whether `gram_values` has the short way to the Gram matrices: real, few taps, Fourier bases, stride 1.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> has_gram_values(la.Convolution(jnp.ones((3, 2, 5)), 8, padding="circular"))
        True
    """
    return _few_taps(A) and not jnp.iscomplexobj(A.kernel)


@functools.partial(jax.jit, inline=True)
def gram_values(A: Convolution) -> jax.Array:
    """Singular values of the blocks of `half_spectrum`, [frequencies, groups, n], from their Gram matrices.

    With K_d = Σ_t w_tᵀ w_{t+d}, the kernel's correlation, those are K_0 + Σ_d (K_d z_d + K_dᵀ z̄_d), one of each pair of
    opposite lags d, z_d the wave at frequency u: products of taps instead of products of blocks.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> gram_values(la.Convolution(jnp.ones((3, 2, 5)), 8, padding="circular")).shape
        (5, 1, 2)
    """
    d = len(A.kernel_size)
    sizes = np.array(A.spatial)
    circle = int(sizes.prod())
    taps = np.array(list(np.ndindex(*A.kernel_size)))
    lags, which = np.unique((taps[None] - taps[:, None]).reshape(-1, d), axis=0, return_inverse=True)
    which = which.reshape(len(taps), len(taps))
    kept = np.arange(len(lags) // 2, len(lags))  # in order, so that opposite lags stand at opposite ends, 0 between
    u = np.concatenate([list(itertools.product(*sets)) for sets, _ in _chosen(A, _partners(A))])
    # the angle u · d / n in units of one over the number of positions
    turns = (u * (circle // sizes)) @ (lags[kept] * A.dilation).T % circle
    w = A.kernel.astype(compute_dtype(A.dtype)).reshape(len(taps), *A.kernel.shape[d:-1], A.groups, -1)
    w = jnp.moveaxis(w if w.shape[1] > w.shape[3] else jnp.swapaxes(w, 1, 3), 2, 0)  # [groups, taps, larger, smaller]
    portions = -(-len(turns) // PORTION)
    turns = np.resize(turns, (portions, PORTION, turns.shape[1])) if portions > 1 else turns[None]
    values = _values_of_correlations(circle)(w, np.int8(which == kept[:, None, None]), np.int32(turns))
    return values[: len(u) * A.groups].reshape(len(u), A.groups, -1)


PORTION = 64
"""Of how many frequencies the Gram matrices are formed at once, so that they are reduced while in a core's cache."""


@functools.cache
def _values_of_correlations(circle: int) -> Callable[..., jax.Array]:
    """The function behind `gram_values`: of taps [g, t, l, n], which pairs of taps have which lag, and angles.

    Its arrays are all arguments and it is mapped by a loop: vmap writes traced operations anew, outside of the block
    that gives them double precision.
    """

    @jax.custom_batching.sequential_vmap
    def values(w: jax.Array, pairs: jax.Array, turns: jax.Array) -> jax.Array:
        with jax.enable_x64(True):
            w = w.astype(jnp.float64)
            products = jnp.einsum("gtmi,gsmj->tsgij", w, w)
            K = jnp.tensordot(pairs.astype(jnp.float64), products, 2)
            KT = jnp.swapaxes(K, -1, -2)
            # the lag 0 is its own opposite
            half = jnp.where(jax.lax.iota(jnp.int32, K.shape[0]) == 0, 0.5, 1.0)

            def portion(turns: jax.Array) -> tuple[jax.Array, jax.Array]:
                angles = (2 * math.pi / circle) * turns
                parts = jnp.tensordot(half * jnp.cos(angles), K + KT, 1), jnp.tensordot(jnp.sin(angles), K - KT, 1)
                return tridiagonal(jax.lax.complex(*parts).reshape(-1, *K.shape[2:]))

            d, e = jax.lax.map(portion, turns)
            return tridiagonal_root_eigenvalues(d.reshape(-1, d.shape[-1]), e.reshape(-1, e.shape[-1]))

    return values


def unpaired(A: Convolution) -> int:
    """How many blocks of `half_spectrum` stand for themselves alone; they come first, the others stand for two.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> unpaired(la.Convolution(jnp.ones((3, 2, 5)), 8, padding="circular"))
        2
    """
    return sum(math.prod(map(len, sets)) for sets, count in _chosen(A, _partners(A)) if count == 1)


def _chosen(A: Convolution, partners: list[np.ndarray]) -> list[tuple[list[np.ndarray], int]]:
    """The frequencies of the blocks, as products of sets, and how many blocks each stands for."""
    if jnp.issubdtype(A.dtype, jnp.complexfloating):
        return [([np.arange(len(partner)) for partner in partners], 1)]
    return _representatives(partners)


def stack_of(A: Convolution, bases: list[Side]) -> Symbols:
    """The blocks at all frequencies of the bases, in one stack; for a complex kernel, or bases that are real.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Convolution(jnp.ones((3, 1, 1)), 4)
        >>> stack_of(A, sides(A)).blocks.shape
        (1, 1, 4, 4)
    """
    kernel = A.kernel.astype(compute_dtype(A.dtype))
    return _stack(A, kernel, bases, [np.arange(len(base.partner)) for base in bases], 1)


def _stack(A: Convolution, kernel: jax.Array, bases: list[Side], sets: list[np.ndarray], multiplicity: int) -> Symbols:
    real = multiplicity == 1 and not jnp.iscomplexobj(kernel)
    frequencies = np.array(list(itertools.product(*sets)), int).reshape(-1, len(bases))
    if _few_taps(A):
        waves = _waves(bases, sets)
        return Symbols(_sum_of_waves(A, kernel, np.real(waves) if real else waves), multiplicity, frequencies)
    taps = [_cast(np.real(b.taps[x]) if real else b.taps[x], kernel.dtype) for b, x in zip(bases, sets)]
    # [*K, groups, cout, cin], so that no large array is transposed
    w = jnp.moveaxis(kernel.reshape(*kernel.shape[:-1], A.groups, -1), -3, -1)
    if len(bases) == 1:
        blocks = jnp.einsum("fMJt,tgoi->fgMoJi", taps[0], w)
    else:
        # the inner dimension first: its partial sums serve all frequencies of the outer one
        blocks = jnp.einsum("fMJt,twgmoji->fwgMmoJji", taps[0], jnp.einsum("wmjs,tsgoi->twgmoji", taps[1], w))
    d = len(bases)
    M, J = (int(np.prod(blocks.shape[k : k + d + 1])) for k in (d + 1, 2 * d + 2))
    return Symbols(blocks.reshape(len(frequencies), A.groups, M, J), multiplicity, frequencies)


def _few_taps(A: Convolution) -> bool:
    """Whether the blocks are written out as sums over the taps: a Fourier basis in each dimension, stride 1."""
    return math.prod(A.kernel_size) <= 32 and all(by_fourier(A)) and set(A.stride) == {1}  # type: ignore[arg-type]


def _waves(bases: list[Side], sets: list[np.ndarray]) -> np.ndarray:
    """exp(2πi u · e_t / n) for the products of sets of frequencies u and all taps t, [frequencies, taps]."""
    waves = np.ones((1, 1))
    for base, x in zip(bases, sets):
        along = base.taps[x, 0, 0]
        waves = np.einsum("ft,us->futs", waves, along).reshape(len(waves) * len(x), -1)
    return waves


def _sum_of_waves(A: Convolution, kernel: jax.Array, waves: np.ndarray) -> jax.Array:
    """Σ_t waves[f, t] w_t for every frequency, [frequencies, groups, cout / groups, cin / groups]."""
    d, dtype = len(A.kernel_size), kernel.dtype
    w = jnp.moveaxis(kernel.reshape(math.prod(A.kernel_size), *kernel.shape[d:-1], A.groups, -1), 1, -1)

    def along(part: np.ndarray) -> jax.Array:
        columns = _cast(part, dtype).T[:, :, None, None, None]
        total = columns[0] * w[0]
        for column, tap in zip(columns[1:], w[1:]):
            total = total + column * tap
        return total

    if jnp.iscomplexobj(kernel) or not np.iscomplexobj(waves):
        return along(waves)
    return jax.lax.complex(along(np.real(waves)), along(np.imag(waves)))


def _cast(taps: np.ndarray, dtype: jnp.dtype) -> np.ndarray:
    """In the precision of the kernel, real where no phase is complex."""
    real = jnp.finfo(dtype).dtype
    if np.iscomplexobj(taps):
        return taps.astype(np.result_type(real, np.complex64))
    return taps.astype(real)
