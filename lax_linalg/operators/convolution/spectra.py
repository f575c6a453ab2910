"""Spectra of convolutions, exact: from the blocks into which Fourier bases split them, see `convolution_symbols`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.eager_checks import in_memory
from lax_linalg.dense import platform
from lax_linalg.operators.assemble import padded
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.symbols import (
    Symbols,
    by_fourier,
    commutes,
    gram_values,
    half_spectrum,
    has_gram_values,
    sides,
    stacks,
    unpaired,
)
from lax_linalg.operators.convolution.window import Window
from lax_linalg.operators.convolution.zero_padding import closed_svdvals
from lax_linalg.verbs.basic import compute_dtype, require_dense
from lax_linalg.verbs.det import LogAbsDet, det, logabsdet, product_of_dets
from lax_linalg.verbs.eigen import eigvals, sorted_eigenvalues
from lax_linalg.verbs.norms import opnorm, require_p, scaled_norm
from lax_linalg.verbs.svd import SVD, svd, svdvals


def splits(A: Convolution) -> bool:
    """Whether there is more than one block, so that working with the blocks pays.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> splits(la.Convolution(jnp.ones((3, 1, 1)), 8))
        False
    """
    return A.groups > 1 or any(by_fourier(A))


def _takes_gram(A: Convolution) -> bool:
    side = min(A.in_channels, A.out_channels) // A.groups
    return has_gram_values(A) and platform.takes_gram(side, compute_dtype(A.dtype))


def _from_blocks(A: Convolution) -> jax.Array:
    """Singular values of every block of the half spectrum, [frequencies, groups, min(M, J)]."""
    blocks = half_spectrum(A)
    if 1 in blocks.shape[-2:]:
        return jax.vmap(jax.vmap(lambda b: scaled_norm(b.ravel())[None]))(blocks)
    return platform.each(platform.svdvals, blocks)


@jax.custom_jvp
def _from_gram(A: Convolution) -> jax.Array:
    return jax.lax.platform_dependent(A, cpu=gram_values, default=_from_blocks)


@_from_gram.defjvp
def _from_gram_jvp(primals, tangents):
    return jax.jvp(_from_blocks, primals, tangents)


# --- singular values ---


@svdvals.rule(Convolution, cost="O(N min(M, J) M J) for N blocks of M×J; O(mn min(m, n)) if there is one block")
def _(A: Convolution) -> jax.Array:
    """SVD of every symbol (circular; groups one by one), closed forms for separable kernels, else materialised."""
    closed = closed_svdvals(A)
    if closed is not None:
        return closed
    if not splits(A):
        return svdvals.fallback(A)
    if _takes_gram(A):
        return _sorted_from_gram(A)
    values = _from_blocks(A)
    known = in_memory(values)
    values, xp = (values, jnp) if known is None else (known, np)
    return padded(xp.concatenate([values, values[unpaired(A) :]]).ravel(), A.shape)


@jax.jit
def _sorted_from_gram(A: Convolution) -> jax.Array:
    """One program, outside of `jit` too: what Python would do in between takes as long as half of it."""
    values = _from_gram(A)
    return padded(jnp.concatenate([values, values[unpaired(A) :]]).ravel(), A.shape)


@opnorm.rule(Convolution, cost="cost of svdvals (p = 2), O(kernel) or one product (p = 1 and inf)")
def _(A: Convolution, p: float = 2) -> jax.Array:
    """Largest singular value of all symbols, not sorted; column and row sums from the kernel."""
    require_p(p)
    if p != 2:
        return opnorm.lookup(Window).function(A, p)
    closed = closed_svdvals(A)
    if closed is not None or not splits(A):
        return jnp.max(svdvals(A) if closed is None else closed, initial=0)
    return jnp.max(jax.jit(_from_gram)(A) if _takes_gram(A) else _from_blocks(A), initial=0)


@svd.rule(Convolution, cost="cost of the SVD of N blocks plus O(m² + n²), the size of the vectors")
def _(A: Convolution, *, full: bool = False) -> SVD:
    """SVD of every symbol, its vectors times plane waves; cosines and sines for a real kernel."""
    if not splits(A):
        return svd.fallback(A, full=full)
    m, n = A.shape
    k = min(m, n)
    require_dense(A, shape=(m, m if full else k))
    require_dense(A, shape=(n if full else k, n))
    factorise = platform.full_svd if full else platform.svd
    return _on_waves(A, full, [platform.each(factorise, stack.blocks) for stack in stacks(A)])


@functools.partial(jax.jit, static_argnums=1)
def _on_waves(A: Convolution, full: bool, factors: list[tuple[jax.Array, jax.Array, jax.Array]]) -> SVD:
    """The SVD of A from those of its stacks of blocks."""
    bases = sides(A)
    left: list[jax.Array] = []
    right: list[jax.Array] = []
    values: list[jax.Array] = []
    rest: tuple[list[jax.Array], list[jax.Array]] = ([], [])
    for stack, (U, s, Vt) in zip(stacks(A, bases), factors):
        r = s.shape[-1]
        V = jnp.conj(jnp.swapaxes(Vt, -1, -2))
        values.append(jnp.tile(s.ravel(), stack.multiplicity))
        left.append(_waves(A, [b.rows for b in bases], stack, U[..., :r]))
        right.append(_waves(A, [b.columns for b in bases], stack, V[..., :r]))
        if full:
            rest[0].append(_waves(A, [b.rows for b in bases], stack, U[..., r:]))
            rest[1].append(_waves(A, [b.columns for b in bases], stack, V[..., r:]))
    s = jnp.concatenate(values)
    order = jnp.argsort(-s)
    U, V = (jnp.concatenate([jnp.concatenate(x, 1)[:, order], *y], 1) for x, y in zip((left, right), rest))
    return SVD(U, s[order], V.conj().T)


def _waves(A: Convolution, bases: list[np.ndarray], stack: Symbols, vectors: jax.Array) -> jax.Array:
    """The blocks' vectors [frequencies, groups, M, r] as vectors of the whole map, columns [size, count].

    A block that stands for a conjugate pair gives √2 times the real and the imaginary part of every vector.
    """
    *_, r = vectors.shape
    paired, d = stack.multiplicity == 2, len(bases)
    dtype = vectors.dtype if paired else compute_dtype(A.dtype)
    waves = [b[:, f] for b, f in zip(bases, stack.frequencies.T)]
    if not paired and not jnp.issubdtype(dtype, jnp.complexfloating):
        waves = [np.real(w) for w in waves]
    waves = [
        w.astype(np.result_type(jnp.finfo(dtype).dtype, np.complex64 if np.iscomplexobj(w) else "f2")) for w in waves
    ]
    sizes = [w.shape[-1] for w in waves]
    v = vectors.reshape(len(stack.frequencies), A.groups, *sizes, vectors.shape[2] // int(np.prod(sizes)), r)
    one_hot = np.eye(A.groups, dtype=jnp.finfo(dtype).dtype)
    if d == 1:
        columns = jnp.einsum("pfM,fgMor,gG->pgofGr", waves[0], v, one_hot)
    else:
        columns = jnp.einsum("pfM,qfm,fgMmor,gG->pqgofGr", waves[0], waves[1], v, one_hot)
    columns = columns.reshape(int(np.prod(columns.shape[: d + 2])), int(np.prod(columns.shape[d + 2 :])))
    if paired:
        return jnp.concatenate([columns.real, columns.imag], 1) * 2**0.5
    return columns


# --- eigenvalues and determinants ---


@eigvals.rule(Convolution, cost="O(N M³) for N blocks of M×M; O(n³) if there is one block or the stride is not 1")
def _(A: Convolution) -> jax.Array:
    """Eigenvalues of every symbol (sizes kept, circular or grouped); else of the materialised matrix."""
    if not (splits(A) and commutes(A)):
        return eigvals.fallback(A)
    parts = []
    for stack in stacks(A):
        w = platform.each(platform.eigvals, stack.blocks).ravel()
        parts += [w] if stack.multiplicity == 1 else [w, w.conj()]
    return sorted_eigenvalues(jnp.concatenate(parts))


@logabsdet.rule(Convolution, cost="O(N M³) for N blocks of M×M; O(n³) if there is one block or the stride is not 1")
def _(A: Convolution) -> LogAbsDet:
    """LU of every symbol (sizes kept, circular or grouped); else of the materialised matrix."""
    if not (splits(A) and commutes(A)):
        return logabsdet.fallback(A)
    parts = []
    for stack in stacks(A):
        sign, logs = jnp.linalg.slogdet(stack.blocks)
        # det of a conjugate pair is |det|²
        sign = jnp.abs(sign) ** 2 if stack.multiplicity == 2 else sign
        parts.append(LogAbsDet(stack.multiplicity * jnp.sum(logs), jnp.prod(sign)))
    return LogAbsDet(sum(p.logabs for p in parts), jnp.prod(jnp.stack([p.sign for p in parts])))  # type: ignore[arg-type]


@det.rule(Convolution, cost="O(N M³) for N blocks of M×M; O(n³) if there is one block or the stride is not 1")
def _(A: Convolution) -> jax.Array:
    """Product of the symbols' determinants (sizes kept, circular or grouped); else of the materialised matrix."""
    if not (splits(A) and commutes(A)):
        return det.fallback(A)
    det_of_blocks = product_of_dets(A, lambda A: _of_blocks(A, lambda b: (jnp.linalg.det(b),))[0], _logabsdets)
    return det_of_blocks if jnp.issubdtype(A.dtype, jnp.complexfloating) else jnp.real(det_of_blocks)


def _logabsdets(A: Convolution) -> LogAbsDet:
    signs, logs = _of_blocks(A, jnp.linalg.slogdet)
    return LogAbsDet(jnp.real(logs), signs)


def _of_blocks(A: Convolution, function: Callable[[jax.Array], tuple[jax.Array, ...]]) -> list[jax.Array]:
    """What a function gives of each block of the whole spectrum, conjugate ones included, complex."""
    found = []
    for stack in stacks(A):
        values = [v.ravel().astype(jnp.result_type(v.dtype, jnp.complex64)) for v in function(stack.blocks)]
        found += [values] if stack.multiplicity == 1 else [values, [v.conj() for v in values]]
    return [jnp.concatenate(columns) for columns in zip(*found)]
