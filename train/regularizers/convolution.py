"""True convolution orthogonality: all overlaps of the shifted filters, at any stride, dilation and number of groups."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from lax_linalg.errors import LinearAlgebraError
from train.regularizers.gram import so
from train.regularizers.weight import Weight, penalty


@penalty("ocnn")
def ocnn(weight: Weight) -> jax.Array:
    """Orthogonality of a convolution A: ‖AAᵀ − I‖_F² for each output position, or ‖AᵀA − I‖_F² if that is smaller.

    On an endless (or large enough circular) image, a convolution of stride S is a convolution of stride 1 on S×S
    blocks of pixels with kernel P. Then AAᵀ is a convolution too, with the taps G_d = Σ_t P_tᵀ P_{t+d}, and the penalty
    is ‖G_0 − I‖_F² + Σ_{d≠0} ‖G_d‖_F²: the filters must be orthonormal and orthogonal to all their shifted copies. AᵀA
    has Σ_t P_t P_{t+d}ᵀ; the two penalties differ by the constant S² c_in − c_out, and the one that can reach zero is
    taken. Zero padding cuts the filters off at the border, which is left out of account here; `regularizer_on=operator`
    with "so" has it.

    Args:
        weight: a `Weight`, whose groups' and copies' penalties are added; a matrix is the dense case, that of "so".

    Returns:
        A scalar of the kernel's dtype, zero exactly when the convolution is orthogonal.

    Raises:
        LinearAlgebraError: for the kernels of a locally connected layer, which is no convolution.

    Cost: (2q − 1)^d q^d · S^d c_in c_out min(S^d c_in, c_out) multiply-adds in d dimensions with q = ⌈extent/S⌉.

    Example:
        >>> shift = jnp.zeros((3, 3, 1, 1)).at[0, 2].set(1.0)
        >>> float(ocnn(Weight(shift, strides=(1, 1))))
        0.0

    Source: Wang et al., Orthogonal Convolutional Neural Networks, arXiv:1911.12207, who give the rows' penalty with the
    overlaps at multiples of the stride.
    """
    d = len(weight.strides)
    if not d and weight.copies:
        raise LinearAlgebraError(
            "ocnn acts on convolutions, not on locally connected kernels; use so with regularizer_on=operator for those"
        )
    if not d:
        return so(dataclasses.replace(weight, operator=None))
    kernels = weight.kernel.reshape(-1, *weight.kernel.shape[weight.copies :])
    groups = jnp.split(kernels, weight.groups, axis=-1)
    dilation = weight.dilation or (1,) * d
    return sum((jnp.sum(jax.vmap(lambda k: _ocnn(k, weight.strides, dilation))(g)) for g in groups), jnp.zeros(()))


def _ocnn(kernel: jax.Array, strides: tuple[int, ...], dilation: tuple[int, ...]) -> jax.Array:
    P = polyphase(kernel, strides, dilation)
    d = len(strides)
    cin, cout = P.shape[-2:]
    if cout > cin:
        P = jnp.swapaxes(P, -2, -1)
        cin, cout = cout, cin
    letters = "HW"[:d]
    full = [(q - 1, q - 1) for q in P.shape[:d]]
    G = jax.lax.conv_general_dilated(
        jnp.moveaxis(P, -1, 0), P, (1,) * d, full, dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C")
    )
    centre = (slice(None), *(q - 1 for q in P.shape[:d]))
    return jnp.sum(jnp.square(G.at[centre].add(-jnp.eye(cout, dtype=G.dtype))))


def polyphase(kernel: jax.Array, strides: tuple[int, ...], dilation: tuple[int, ...]) -> jax.Array:
    """The kernel of the same convolution at stride 1 on blocks of `strides` pixels, whose pixels count as channels.

    Args:
        kernel: [*taps, cin, cout].
        strides, dilation: one number for each axis of taps.

    Returns:
        [⌈extent/S⌉…, S… · cin, cout] with extent = (taps − 1) dilation + 1.

    Example:
        >>> polyphase(jnp.ones((3, 3, 2, 8)), (2, 2), (1, 1)).shape
        (2, 2, 8, 8)
    """
    d = len(strides)
    zero = jnp.zeros((), kernel.dtype)
    taps = [((k - 1) * D + 1) for k, D in zip(kernel.shape, dilation)]
    behind = [-(-n // S) * S - n for n, S in zip(taps, strides)]
    spread = [(0, b, D - 1) for b, D in zip(behind, dilation)]
    padded = jax.lax.pad(kernel, zero, [*spread, (0, 0, 0), (0, 0, 0)])
    split = [size for n, b, S in zip(taps, behind, strides) for size in ((n + b) // S, S)]
    blocks = padded.reshape(*split, *kernel.shape[-2:])
    order = [*range(0, 2 * d, 2), *range(1, 2 * d, 2), 2 * d, 2 * d + 1]
    cin, cout = kernel.shape[-2:]
    return blocks.transpose(order).reshape(*split[::2], math.prod(strides) * cin, cout)
