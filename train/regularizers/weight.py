"""What a regulariser sees of a layer: its kernel, how it acts, and the matrices that are to be orthogonal.

A convolution kernel of shape (kH, kW, c_in, c_out) is the matrix W of shape kH·kW·c_in × c_out, whose columns are the
filters; a dense kernel is the matrix as it is; each group of a grouped convolution is a matrix of its own, and so is
each position of a locally connected layer and each layer of a scanned stack. Orthogonal means that the smaller Gram
matrix is the identity.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

import lax_linalg as la
from lax_linalg.core.registry import Registry


@dataclasses.dataclass(frozen=True)
class Weight:
    """One layer's weight.

    Attributes:
        kernel: [*copies, *taps, c_in / groups, c_out], or [m, n].
        strides, dilation: of a convolution, one number for each axis of taps; empty otherwise.
        groups: groups of channels, along the last axis.
        copies: number of leading axes that index independent kernels.
        operator: the layer's linear map where the penalty is to act on that instead of the kernel's matrix.

    Example:
        >>> Weight(jnp.ones((3, 3, 2, 8)), strides=(1, 1), groups=2).matrices().shape
        (2, 18, 4)
    """

    kernel: jax.Array
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    copies: int = 0
    operator: la.LinearOperator | None = None

    def matrices(self) -> jax.Array:
        """The matrices that are to be orthogonal, [count, m, n]: one for each copy and group, or the operator's one."""
        if self.operator is not None:
            return la.materialize(self.operator)[None]
        *copies, cout = *self.kernel.shape[: self.copies], self.kernel.shape[-1]
        blocks = self.kernel.reshape(*copies, -1, self.groups, cout // self.groups)
        return jnp.moveaxis(blocks, -2, self.copies).reshape(-1, blocks.shape[-3], blocks.shape[-1])

    def singular_values(self) -> jax.Array:
        """All singular values of each copy, [count, k] in no order: a grouped kernel's are those of its direct sum."""
        if self.operator is not None:
            return la.svdvals(self.operator)[None]
        matrices = self.matrices()
        values = lambda W: la.svdvals(la.Dense(W))  # noqa: E731
        s = values(matrices[0])[None] if len(matrices) == 1 else jax.vmap(values)(matrices)
        return s.reshape(-1, self.groups * s.shape[-1])


Regularizer = Callable[[Weight | jax.Array], jax.Array]

regularizers: Registry[Regularizer] = Registry("regularizer")


def penalty(name: str) -> Callable[[Callable[[Weight], jax.Array]], Regularizer]:
    """Register a function of a `Weight`; an array counts as one dense kernel, and its dtype is kept.

    Args:
        name: what `--regularizer` calls it.

    Returns:
        A decorator.
    """

    def register(function: Callable[[Weight], jax.Array]) -> Regularizer:
        @regularizers.register(name)
        @functools.wraps(function)
        def of(weight: Weight | jax.Array) -> jax.Array:
            weight = weight if isinstance(weight, Weight) else Weight(jnp.asarray(weight))
            return function(weight).astype(weight.kernel.dtype)

        return of

    return register


def as_matrix(kernel: jax.Array) -> jax.Array:
    """A kernel as its matrix: all axes but the last flattened, [kH, kW, c_in, c_out] -> [kH·kW·c_in, c_out].

    Example:
        >>> as_matrix(jnp.ones((3, 3, 8, 16))).shape
        (72, 16)
    """
    return kernel.reshape(-1, kernel.shape[-1])
