"""Closed and cheaper exact routes to the singular values of convolutions that no Fourier basis splits (zero padding).

- 1×1 kernels: A = E ⊗ Kᵀ with a partial permutation E of the pixels; the values of K, once for each pixel.
- One channel (in each group), stride 1 and sizes kept, real: Aᵀ is A turned by half a turn, so A J is symmetric for the
  reversal J of the pixels, and the singular values are the moduli of its eigenvalues.
- Separable kernels: Kronecker products of one-dimensional convolutions and a channel matrix.
- Kernels that equal their mirror image along a dimension: even and odd functions do not mix, four blocks of a quarter
  of the size in two dimensions.

The first two are seen from the geometry and work under `jit`; the last two look at the kernel's values and are taken
where these are known, separability being accepted up to rounding, which moves no singular value by more than that.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lax_linalg.core.dense import Dense
from lax_linalg.dense import platform
from lax_linalg.operators.assemble import padded
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.symbols import Side, by_fourier, sides, stack_of
from lax_linalg.operators.convolution.window import occurrences
from lax_linalg.operators.hermitian import Symmetric
from lax_linalg.verbs.basic import compute_dtype, materialize
from lax_linalg.verbs.svd import svdvals


def closed_svdvals(A: Convolution) -> jax.Array | None:
    """All singular values by one of the routes above, or None if none applies.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> closed_svdvals(la.Convolution(jnp.eye(2)[None, None], (1, 2)))
        Array([1., 1., 1., 1.], dtype=float32)
    """
    kernel = A.kernel.astype(compute_dtype(A.dtype))
    if set(A.kernel_size) == {1}:
        matrices = kernel.reshape(A.kernel.shape[-2], A.groups, -1).swapaxes(0, 1)
        return padded(jnp.tile(platform.each(platform.svdvals, matrices).ravel(), int(occurrences(A).sum())), A.shape)
    if any(by_fourier(A)):
        return None
    if A.kernel.shape[-2:] == (1, A.groups) and not jnp.iscomplexobj(kernel) and _turns(A):
        return padded(_half_turn(A, kernel).ravel(), A.shape)
    if isinstance(A.kernel, Tracer):
        return None
    values = _separable(A, np.asarray(kernel))
    if values is not None:
        return padded(values, A.shape)
    mirrored = [_mirrors(A, axis) for axis in range(len(A.kernel_size))]
    return padded(_even_and_odd(A, mirrored), A.shape) if any(mirrored) else None


def _turns(A: Convolution) -> bool:
    """Whether the transpose of every single-channel part is that part turned by half a turn."""
    return set(A.stride) == {1} and A.out_spatial == A.spatial  # type: ignore[arg-type]


def _half_turn(A: Convolution, kernel: jax.Array) -> jax.Array:
    def one(w: jax.Array) -> jax.Array:
        T = materialize(Convolution(w[..., None, None], A.spatial, 1, A.padding, A.dilation))
        return svdvals(Symmetric(T[:, ::-1]))

    return jax.vmap(one, in_axes=-1)(kernel[..., 0, :])


def _separable(A: Convolution, kernel: np.ndarray) -> jax.Array | None:
    """Products of the factors' singular values, if the kernel has rank 1 between two sets of its axes."""
    if A.groups > 1:
        return None
    d, (cin, cout) = len(A.kernel_size), kernel.shape[-2:]

    def one_dimensional(axis: int, w: np.ndarray) -> Convolution:
        """Along one dimension with a kernel [K, cin, cout]."""
        options = ((x[axis],) if isinstance(x, tuple) else x for x in (A.spatial, A.stride, A.padding, A.dilation))
        return Convolution(jnp.asarray(w), *options)  # type: ignore[arg-type]

    if cin * cout > 1:
        pair = _rank_one(kernel.reshape(-1, cin * cout))
        if pair is not None:
            space = Convolution(
                jnp.asarray(pair[0].reshape(*A.kernel_size, 1, 1)), A.spatial, A.stride, A.padding, A.dilation
            )
            return jnp.kron(svdvals(space), svdvals(Dense(jnp.asarray(pair[1].reshape(cin, cout)))))
    for axis in range(d if d > 1 else 0):
        moved = np.moveaxis(kernel, axis, 0)
        pair = _rank_one(moved.reshape(moved.shape[0], -1))
        if pair is not None:
            along = one_dimensional(axis, pair[0][:, None, None])
            across = one_dimensional(1 - axis, pair[1].reshape(-1, cin, cout))
            return jnp.kron(svdvals(along), svdvals(across))
    return None


def _rank_one(a: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """x, y with a = x yᵀ up to rounding, or None."""
    if min(a.shape) == 1:
        return None  # always so, and nothing is gained
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    if s[1] > 4 * np.finfo(s.dtype).eps * s[0]:
        return None
    return u[:, 0] * s[0], vt[0]


def _mirrors(A: Convolution, axis: int) -> bool:
    """Whether reversing inputs and outputs along the axis leaves A as it is."""
    n, s, (front, behind) = A.spatial[axis], A.stride[axis], A.pads[axis]  # type: ignore[index]
    exact = (n + front + behind - A.extent[axis]) % s == 0
    return (
        n > 1 and not A.circular and front == behind and exact and bool(jnp.all(A.kernel == jnp.flip(A.kernel, axis)))
    )


def _even_and_odd(A: Convolution, mirrored: list[bool]) -> jax.Array:
    choices = [
        [_parity(side, sign) for sign in (1, -1)] if mirror else [side] for side, mirror in zip(sides(A), mirrored)
    ]
    values = []
    for bases in itertools.product(*choices):
        if math.prod(b.taps.size for b in bases):
            blocks = stack_of(A, list(bases)).blocks
            values.append(platform.each(platform.svdvals, blocks).ravel())
    return jnp.concatenate(values)


def _parity(side: Side, sign: int) -> Side:
    """The side's taps between even (sign 1) or odd functions of outputs and inputs."""
    rows, columns = (_functions(size, sign) for size in side.taps.shape[1:3])
    return side._replace(taps=np.einsum("ma,fmjt,jb->fabt", rows, side.taps, columns))


def _functions(n: int, sign: int) -> np.ndarray:
    """An orthonormal basis of the even or odd vectors of length n, [n, ⌈n/2⌉ or ⌊n/2⌋]."""
    half = np.eye(n)[:, : n // 2]
    basis = (half + sign * half[::-1]) / 2**0.5
    return np.hstack([basis, np.eye(n)[:, n // 2 : n // 2 + 1]]) if sign == 1 and n % 2 else basis
