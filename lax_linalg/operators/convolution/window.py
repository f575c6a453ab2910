"""What convolutions and locally connected maps share: a window of taps that slides over channels-last images.

In one dimension the window at output m meets the inputs j = m S − P + t D, t = 0 … K − 1; in two dimensions this holds
in each. A tap *exists* at an output where j lies inside the image; with circular padding j is taken modulo n and every
tap exists everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.operator import LinearOperator, whole_number
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from lax_linalg.verbs.basic import require_dense

Padding = str | int | Sequence[int | tuple[int, int]]


class Window(LinearOperator):
    """The geometry of a sliding window: sizes, stride, padding, dilation and groups, checked and made uniform.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.Convolution(jnp.ones((3, 1, 1)), 8, stride=2).out_spatial
        (4,)
    """

    kernel: jax.Array
    spatial: tuple[int, ...] | int
    stride: tuple[int, ...] | int
    padding: Padding
    dilation: tuple[int, ...] | int
    groups: int

    _axes: ClassVar[dict[int, int]] = {}
    """Number of axes of a kernel -> number of spatial dimensions."""
    _layout: ClassVar[str] = ""

    def _validate(self) -> None:
        if jnp.ndim(self.kernel) not in self._axes:
            raise DimensionMismatch(f"a kernel is {self._layout}, got shape {list(jnp.shape(self.kernel))}")
        d = self._axes[jnp.ndim(self.kernel)]
        for name in ("spatial", "stride", "dilation"):
            object.__setattr__(self, name, _per_dimension(name, getattr(self, name), d))
        object.__setattr__(self, "padding", self._normal_padding(d))
        object.__setattr__(self, "groups", whole_number("groups", self.groups, 1))
        if self.kernel.shape[-1] % self.groups:
            raise DimensionMismatch(
                f"{self.groups} groups do not divide the kernel's {self.kernel.shape[-1]} output channels"
            )
        for n, k, (front, behind) in zip(self.spatial, self.extent, self.pads):  # type: ignore[arg-type]
            if n + front + behind < k:
                raise DimensionMismatch(
                    f"a kernel that spans {k} does not fit an input of {n} with padding ({front}, {behind}): no output"
                )

    def _normal_padding(self, d: int) -> str | tuple[tuple[int, int], ...]:
        padding = self.padding
        if isinstance(padding, str):
            if padding == "circular":
                return padding
            if padding == "valid":
                return ((0, 0),) * d
            if padding == "zero":
                return tuple(((k - 1) // 2, k // 2) for k in self.extent)
            raise UnknownNameError.of("padding", padding, ("zero", "circular", "valid"))
        sides: Any = (padding,) * d if not isinstance(padding, Iterable) else tuple(padding)
        pairs = [(p, p) if not isinstance(p, Iterable) else tuple(p) for p in sides]
        try:
            if len(pairs) == d and all(len(p) == 2 for p in pairs):
                return tuple((whole_number("front", p), whole_number("behind", q)) for p, q in pairs)
        except DimensionMismatch:
            pass
        raise DimensionMismatch(f"padding takes {d} (front, behind) pairs of non-negative sizes, got {padding!r}")

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Number of taps K in each dimension."""
        d = len(self.dilation) if isinstance(self.dilation, tuple) else self._axes[jnp.ndim(self.kernel)]
        return self.kernel.shape[-2 - d : -2]

    @property
    def extent(self) -> tuple[int, ...]:
        """What the dilated kernel spans in each dimension, (k − 1) D + 1."""
        sizes = self.kernel_size
        dilation = (self.dilation,) * len(sizes) if isinstance(self.dilation, int) else self.dilation
        return tuple((k - 1) * s + 1 for k, s in zip(sizes, dilation))

    @property
    def circular(self) -> bool:
        return self.padding == "circular"

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """(front, behind) sizes of the padding in each dimension."""
        if self.circular:
            return tuple(((k - 1) // 2, k // 2) for k in self.extent)
        return self.padding  # type: ignore[return-value]

    @property
    def in_channels(self) -> int:
        return self.kernel.shape[-2] * self.groups

    @property
    def out_channels(self) -> int:
        return self.kernel.shape[-1]

    @property
    def out_spatial(self) -> tuple[int, ...]:
        """Spatial size of the output, ⌊(n + front + behind − extent) / S⌋ + 1."""
        sizes = zip(self.spatial, self.pads, self.extent, self.stride)  # type: ignore[arg-type]
        return tuple((n + sum(p) - k) // s + 1 for n, p, k, s in sizes)

    @property
    def shape(self) -> tuple[int, int]:
        return math.prod(self.out_spatial) * self.out_channels, math.prod(self.spatial) * self.in_channels  # type: ignore[arg-type]

    @property
    def geometry(self) -> tuple:
        """Everything but the numbers: the structure that two operators must share for their sum to have it."""
        return (self.kernel_size, self.in_channels, self.out_channels, self.spatial, self.stride, self.padding,
                self.dilation, self.groups)  # fmt: skip

    def with_kernel(self, kernel: jax.Array) -> Self:
        """The same window with other numbers.

        Example:
            >>> import jax.numpy as jnp, lax_linalg as la
            >>> A = la.Convolution(jnp.ones((3, 1, 1)), 8)
            >>> float(la.norm(A.with_kernel(0 * A.kernel)))
            0.0
        """
        return type(self)(kernel, self.spatial, self.stride, self.padding, self.dilation, self.groups)  # type: ignore[call-arg]

    def _describe(self) -> str:
        def joined(values: Sequence[int]) -> str:
            return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))

        k = "×".join(map(str, self.kernel_size))
        parts = [k, f"{self.in_channels}→{self.out_channels}", f"stride {joined(self.stride)}"]  # type: ignore[arg-type]
        if self.circular:
            parts.append("circular")
        elif len({q for p in self.pads for q in p}) == 1:
            parts.append(f"pad {self.pads[0][0]}")
        else:
            parts.append("pad " + "×".join(f"({a},{b})" for a, b in self.pads))
        if set(self.dilation) != {1}:  # type: ignore[arg-type]
            parts.append(f"dilation {joined(self.dilation)}")  # type: ignore[arg-type]
        if self.groups > 1:
            parts.append(f"{self.groups} groups")
        return ", ".join(parts)


def _per_dimension(name: str, value: Any, d: int) -> tuple[int, ...]:
    values = (value,) * d if not isinstance(value, Iterable) else tuple(value)
    try:
        if len(values) == d:
            return tuple(whole_number(name, v, 1) for v in values)
    except DimensionMismatch:
        pass
    raise DimensionMismatch(f"{name} takes a positive integer or {d} of them, got {value!r}")


# --- where the taps fall: static index arithmetic, in NumPy ---


def positions(A: Window) -> list[np.ndarray]:
    """For each dimension the input position m S − P + t D of tap t at output m, [out, K]; outside 0 … n − 1 in padding.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> print(positions(la.Convolution(jnp.ones((3, 1, 1)), 3))[0])
        [[-1  0  1]
         [ 0  1  2]
         [ 1  2  3]]
    """
    return [
        np.arange(m)[:, None] * s - front + np.arange(k) * step
        for m, s, (front, _), k, step in zip(A.out_spatial, A.stride, A.pads, A.kernel_size, A.dilation)  # type: ignore[arg-type]
    ]


def existing(A: Window) -> list[np.ndarray]:
    """For each dimension whether tap t exists at output m, [out, K].

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> print(existing(la.Convolution(jnp.ones((3, 1, 1)), 3))[0].sum(0))
        [2 3 2]
    """
    if A.circular:
        return [np.ones(j.shape, bool) for j in positions(A)]
    return [(j >= 0) & (j < n) for j, n in zip(positions(A), A.spatial)]  # type: ignore[arg-type]


def occurrences(A: Window) -> np.ndarray:
    """At how many outputs each tap exists, [*kernel_size].

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> print(occurrences(la.Convolution(jnp.ones((3, 1, 1)), 8)))
        [7 8 7]
    """
    return functools.reduce(np.multiply.outer, [e.sum(0) for e in existing(A)])


def collides(A: Window) -> bool:
    """Whether two taps can meet the same input at one output, as wrapped ones do that are n apart.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> collides(la.Convolution(jnp.ones((5, 1, 1)), 4, padding="circular"))
        True
    """
    return A.circular and any(len(set(j[0] % n)) < len(j[0]) for j, n in zip(positions(A), A.spatial))  # type: ignore[arg-type]


def patches(A: Window, x: jax.Array) -> jax.Array:
    """What the window sees of images x [batch, *spatial, cin] at each output, [batch, *out, *K, cin]; 0 in the padding.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Convolution(jnp.ones((2, 1, 1)), 3, padding="valid")
        >>> print(patches(A, jnp.array([1.0, 2, 3])[None, :, None])[0, :, :, 0])
        [[1. 2.]
         [2. 3.]]
    """
    d = len(A.out_spatial)
    for axis, (j, n) in enumerate(zip(positions(A), A.spatial)):  # type: ignore[arg-type]
        where = 1 + 2 * axis
        if A.circular:
            j = j % n
        else:
            front, behind = max(0, -int(j.min())), max(0, int(j.max()) + 1 - n)
            widths = [(0, 0)] * x.ndim
            widths[where] = (front, behind)
            x, j = jnp.pad(x, widths), j + front
        x = jnp.take(x, j, axis=where, mode="clip", unique_indices=False)
    order = (0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1)
    return jnp.transpose(x, order)


def scatter(A: Window, weights: jax.Array) -> jax.Array:
    """The dense matrix [m, n] of the weights [*out, *K, cin / groups, cout] that the window has at each output.

    Taps in the padding are dropped; those that meet the same input add up. Cost: O(mn + weights).

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Convolution(jnp.ones((2, 1, 1)), 3, padding="valid")
        >>> print(scatter(A, jnp.array([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None]))
        [[1. 2. 0.]
         [0. 3. 4.]]
    """
    require_dense(A, weights.dtype)
    return _scattered(A, weights)


@jax.jit
def _scattered(A: Window, weights: jax.Array) -> jax.Array:
    rows, columns = entries(A)
    m, n = A.shape
    return jnp.zeros((m, n), weights.dtype).at[rows, columns].add(weights, mode="drop")


def entries(A: Window) -> tuple[jax.Array, jax.Array]:
    """Row and column of each weight in the matrix, broadcasting to [*out, *K, cin / groups, cout].

    Taps in the padding have the column n, out of the range.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> rows, columns = entries(la.Convolution(jnp.ones((3, 1, 1)), 2))
        >>> print(columns[:, :, 0, 0])
        [[2 0 1]
         [0 1 2]]
    """
    d, n = len(A.out_spatial), A.shape[1]
    cin, cout = A.kernel.shape[-2], A.out_channels
    where, exists = jnp.zeros((1,) * 2 * d, int), jnp.ones((1,) * 2 * d, bool)
    for axis, (j, e) in enumerate(zip(positions(A), existing(A))):
        shape = [1] * 2 * d
        shape[axis], shape[d + axis] = j.shape
        size = A.spatial[axis]  # type: ignore[index]
        where = where * size + jnp.asarray(j % size).reshape(shape)
        exists = exists & jnp.asarray(e).reshape(shape)
    channel = (jnp.arange(cout) // (cout // A.groups)) * cin + jnp.arange(cin)[:, None]
    columns = where[..., None, None] * A.in_channels + channel
    outputs = jnp.arange(math.prod(A.out_spatial)).reshape(*A.out_spatial, *(1,) * (d + 2))
    return outputs * cout + jnp.arange(cout), jnp.where(exists[..., None, None], columns, n)
