"""What is read off the weights of a sliding window without forming its matrix: norms and the diagonal."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.dense.scaling import moduli
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.convolution.locally_connected import LocallyConnected, existing_weights
from lax_linalg.operators.convolution.window import Window, collides, existing, occurrences, positions
from lax_linalg.verbs.basic import compute_dtype, diag
from lax_linalg.verbs.norms import norm, opnorm, require_p, scaled_norm
from lax_linalg.verbs.svd import svdvals


def folded(A: Window) -> Window:
    """The same matrix with taps that meet the same input added up, so that every weight is an entry of the matrix.

    Circular windows whose taps wrap onto each other become windows of the image's size without dilation.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Convolution(jnp.ones((5, 1, 1)), 3, padding="circular")
        >>> folded(A).kernel[:, 0, 0].tolist()
        [2.0, 1.0, 2.0]
    """
    if not collides(A):
        return A
    kernel, lead = A.kernel, A.kernel.ndim - 2 - len(A.kernel_size)
    for axis, (j, n) in enumerate(zip(positions(A), A.spatial), start=lead):  # type: ignore[arg-type]
        t = jnp.asarray((j[0] + (n - 1) // 2) % n)
        moved = jnp.moveaxis(kernel, axis, 0)
        kernel = jnp.moveaxis(jnp.zeros((n, *moved.shape[1:]), kernel.dtype).at[t].add(moved), 0, axis)
    return type(A)(kernel, A.spatial, A.stride, "circular", 1, A.groups)  # type: ignore[call-arg]


def _computed(A: Window) -> Window:
    A = folded(A)
    return A.with_kernel(A.kernel.astype(compute_dtype(A.dtype)))


@norm.rule(Convolution, cost="O(kernel)")
def _(A: Convolution, p: float = 2) -> jax.Array:
    """Norm of the kernel, every tap weighted by the number of outputs where it exists."""
    A = _computed(A)  # type: ignore[assignment]
    count = occurrences(A)[..., None, None]
    kernel = jnp.where(count > 0, A.kernel, 0)
    if p == jnp.inf:
        return scaled_norm(kernel, p)
    weight = np.asarray(np.maximum(count, 1) ** (1 / p), jnp.finfo(kernel.dtype).dtype)
    return scaled_norm(kernel * weight, p)


@norm.rule(LocallyConnected, cost="O(kernel)")
def _(A: LocallyConnected, p: float = 2) -> jax.Array:
    """Norm of the weights that exist."""
    A = _computed(A)  # type: ignore[assignment]
    return scaled_norm(jnp.where(existing_weights(A), A.kernel, 0), p)


@opnorm.rule(Window, cost="one product (p = 1 and inf), cost of svdvals (p = 2)")
def _(A: Window, p: float = 2) -> jax.Array:
    """Product of the moduli of the weights with ones; the largest singular value for p = 2."""
    require_p(p)
    if p == 2:
        return jnp.max(svdvals(A), initial=0)
    A = _computed(A)
    positive = A.with_kernel(moduli(A.kernel))
    ones = jnp.ones((A.shape[0 if p == 1 else 1],), positive.dtype)
    return jnp.max((positive.T if p == 1 else positive) @ ones, initial=0)


@diag.rule(Window, cost="O(min(m, n) K)")
def _(A: Window) -> jax.Array:
    """The tap that meets the output's own index, gathered."""
    A = folded(A)
    d, r = len(A.kernel_size), np.arange(min(A.shape))
    output, o = np.divmod(r, A.out_channels)
    pixel, i = np.divmod(r, A.in_channels)
    per_group = A.kernel.shape[-2]
    found = i // per_group == o // (A.out_channels // A.groups)
    at, where = np.unravel_index(output, A.out_spatial), np.unravel_index(pixel, A.spatial)  # type: ignore[arg-type]
    taps = []
    for m, j, place, exists, n in zip(at, where, positions(A), existing(A), A.spatial):  # type: ignore[arg-type]
        hit = (place[m] % n == j[:, None]) & exists[m]
        found &= hit.any(1)
        taps.append(hit.argmax(1))
    lead = () if isinstance(A, Convolution) else at[:d]
    return jnp.where(found, A.kernel[(*lead, *taps, i % per_group, o)], 0)
