"""A Jacobian's entries in memory that is used again.

Fresh memory costs more than writing to it: the system clears each page when it is first touched. In memory that is at
hand already, most of the time goes into zeros. But arrays do not change, so a matrix that was formed here is known for
as long as it lives to be zero outside of the places that its route writes, its *pattern*; written over by a Jacobian of
the same pattern, it needs no zeros again.

A pattern is stated by the very code that writes it, from static shapes alone, and travels as static data of the
compiled program's result (`Written`). So it is that of the program that ran, whatever became of the function since.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dispatch import Tracer
from lax_linalg.jacobian.routes import jacobian_entries

_OPTIONS = ("f", "method", "mode", "memory_budget", "mesh")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Written:
    """A matrix, and the pattern outside of which it is zero; None where none is known.

    Example:
        >>> jax.tree.leaves(Written(1.0, "diagonal"))
        [1.0]
    """

    matrix: Any
    pattern: Hashable = dataclasses.field(default=None, metadata={"static": True})


_known: dict[int, tuple[weakref.ref[jax.Array], Hashable]] = {}
"""id of a matrix that was formed here -> (itself, its pattern), as long as it lives."""


_usual: dict[Hashable, Hashable] = {}
"""Function and shape -> the pattern that was written last: a guess that saves compilations, on which nothing rests."""


def remember(written: Written, case: Hashable = None) -> jax.Array:
    """The matrix, whose pattern will be known to `pattern_of`.

    Example:
        >>> pattern_of(remember(Written(jnp.eye(2), "diagonal")))
        'diagonal'
    """
    matrix, number = written.matrix, id(written.matrix)
    if written.pattern is None or isinstance(matrix, Tracer) or len(matrix.sharding.device_set) > 1:
        return matrix

    def forget(dead: weakref.ref[jax.Array]) -> None:
        if _known.get(number, (None,))[0] is dead:
            del _known[number]

    _known[number] = (weakref.ref(matrix, forget), written.pattern)
    if len(_usual) > 1000:
        _usual.clear()
    _usual[case] = written.pattern
    return matrix


def pattern_of(matrix: jax.Array) -> Hashable:
    """The pattern outside of which this very array is zero; None if it was not formed here.

    Example:
        >>> pattern_of(jnp.eye(2)) is None
        True
    """
    reference, pattern = _known.get(id(matrix), (None, None))
    return pattern if reference is not None and reference() is matrix and not matrix.is_deleted() else None


def known_matrices() -> int:
    """How many matrices are remembered.

    Example:
        >>> before = known_matrices()
        >>> matrix = remember(Written(jnp.eye(2), "diagonal"))
        >>> known_matrices() - before
        1
    """
    return len(_known)


def formed(
    f: Callable[..., jax.Array], x: jax.Array, args: tuple, *, out: jax.Array | None = None, **options: Any
) -> jax.Array:
    """`jacobian_entries`, in the memory of `out` if it is given, which is gone afterwards.

    Args:
        f, x, args, options: as for `jacobian_entries`, all of them.
        out: array [m, n] of the Jacobian's dtype. Its values do not matter, but if it came from here and has the same
            pattern, only the pattern's places are written.

    Example:
        >>> options = {"method": "auto", "mode": "auto", "memory_budget": 2**20, "mesh": None}
        >>> print(formed(jnp.square, jnp.array([1.0, 2.0]), (), out=jnp.ones((2, 2)), **options))
        [[2. 0.]
         [0. 4.]]
    """
    case = (f, jnp.shape(x), options["method"])
    if out is None:
        return remember(_fresh(f, x, args, **options), case)
    known = None if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((out, x, args))) else pattern_of(out)
    if known != _usual.get(case):
        known = None  # most likely of no use: one program serves them all
    return remember(_again(Written(out, known), np.zeros((), np.int32), f, x, args, **options), case)


@functools.partial(jax.jit, static_argnames=_OPTIONS)
def _fresh(f: Callable[..., jax.Array], x: jax.Array, args: tuple, **options: Any) -> Written:
    found: list[Hashable] = [None]

    def into(pattern: Hashable) -> None:
        found[0] = pattern

    return Written(jacobian_entries(f, x, args, **options, into=into), found[0])


@functools.partial(jax.jit, static_argnames=_OPTIONS, donate_argnames=("out",), keep_unused=True)
def _again(
    out: Written, zero: jax.Array, f: Callable[..., jax.Array], x: jax.Array, args: tuple, **options: Any
) -> Written:
    """`zero` is unknown to the compiler, which would allocate anew if it knew."""
    found: list[Hashable] = [None]

    def into(pattern: Hashable) -> jax.Array:
        found[0] = pattern
        if pattern == out.pattern:
            return out.matrix
        return jnp.broadcast_to(zero.astype(out.matrix.dtype), out.matrix.shape)  # one pass of stores

    return Written(jacobian_entries(f, x, args, **options, into=into), found[0])
