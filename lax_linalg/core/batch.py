"""`Batch`: a stack of operators of one structure, as a verb's result over probe inputs needs it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from operator import matmul
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lax_linalg.core.operator import Entries, LinearOperator
from lax_linalg.errors import DimensionMismatch
from lax_linalg.verbs.basic import require_dense_stack

if TYPE_CHECKING:
    from lax_linalg.core.dispatch import Verb


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """Operators make(x[0], *args), make(x[1], *args), … of one shape; every verb maps over them.

    ``la.svdvals(batch)`` is [B, k], ``la.materialize(batch)`` [B, m, n], and so on: the verb is vectorised by
    `jax.vmap`, so the parameters in `args` are shared by all members instead of being copied.

    Attributes:
        make: hashable function (x_b, *args) -> LinearOperator.
        x: what differs from member to member: an array, or a pytree of arrays, with a leading batch axis [B, …].
        args: what all members share.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> batch = la.Batch(la.Diagonal, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> batch
        2 × 2×2 Diagonal{float32}
        >>> print(la.svdvals(batch))
        [[2. 1.]
         [4. 3.]]
    """

    make: Callable[..., Any] = dataclasses.field(metadata={"static": True})
    x: Any
    args: tuple = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, m, n)."""
        return (len(self), *self._one().shape)

    @property
    def dtype(self) -> jnp.dtype:
        return self._one().dtype

    def __len__(self) -> int:
        return jax.tree.leaves(self.x)[0].shape[0]

    def __getitem__(self, index: int) -> LinearOperator:
        """The operator of one probe input."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"a batch of {len(self)} operators has no index {index}")
        return self.make(jax.tree.map(lambda leaf: leaf[index], self.x), *self.args)

    def __iter__(self) -> Iterator[LinearOperator]:
        return (self[b] for b in range(len(self)))

    def __matmul__(self, vectors: Entries) -> jax.Array:
        """The members' products with their own vectors [B, n] or columns [B, n, k]."""
        vectors = jnp.asarray(vectors)
        if vectors.shape[:1] != (len(self),):
            raise DimensionMismatch(
                f"a batch of {len(self)} operators applies to [{len(self)}, …], got {vectors.shape}"
            )
        return self._map(matmul, vectors)

    def map_verb(self, verb: Verb, *rest: Any, **options: Any) -> Any:
        """The verb's results for all members, stacked along a leading axis.

        Raises:
            DimensionMismatch: for verbs whose result is an operator, which cannot be stacked.

        Example:
            >>> import jax.numpy as jnp, lax_linalg as la
            >>> print(la.Batch(la.Diagonal, jnp.ones((2, 3))).map_verb(la.tr))
            [3. 3.]
            >>> la.size(la.Batch(la.Diagonal, jnp.ones((2, 3))))  # nothing to map: what the stack itself is
            (2, 3, 3)
        """
        if verb.name in _KNOWN:
            return _KNOWN[verb.name](self)
        result = self._map(_Call(verb, rest, tuple(options.items())))
        if isinstance(result, LinearOperator):
            raise DimensionMismatch(
                f"{verb.name} gives operators, which a batch does not stack; use batch[b] one by one"
            )
        return result

    def _map(self, function: Callable[..., Any], *stacked: Any) -> Any:
        """The function's results for all members, and what is stacked beside them; all at once."""
        return jax.vmap(lambda x, *others: function(self.make(x, *self.args), *others))(self.x, *stacked)

    def _one(self) -> Any:
        return jax.eval_shape(
            lambda x, args: self.make(jax.tree.map(lambda leaf: leaf[0], x), *args), self.x, self.args
        )

    def __repr__(self) -> str:
        return f"{len(self)} × {self._one()!r}"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Stack(Batch):
    """A `Batch` over depth or time, whose verbs run member after member by `jax.lax.scan`.

    Compile time does not depend on the length, and only one member's intermediate matrices exist at a time:
    `la.dense_limit` counts those, and all that are the result. The members may be batches themselves:
    ``la.svdvals(stack)`` is then [L, B, k].

    Attributes:
        make: hashable function (x_l, *args) -> LinearOperator or Batch.
        x: what differs from member to member, a pytree of arrays [L, …].
        args: what all members share.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> stack = la.Stack(la.Diagonal, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> print(la.det(stack))
        [ 2. 12.]
    """

    def _map(self, function: Callable[..., Any], *stacked: Any) -> Any:
        try:
            hash(function)
        except TypeError:  # options that are arrays
            return _scanned.__wrapped__(function, self, stacked)  # type: ignore[attr-defined]
        return _scanned(function, self, stacked)


_KNOWN: dict[str, Callable[[Batch], Any]] = {"size": lambda batch: batch.shape, "eltype": lambda batch: batch.dtype}


@functools.partial(jax.jit, static_argnums=0)
def _scanned(function: Callable[..., Any], stack: Stack, stacked: tuple) -> Any:
    def member(leaves: tuple) -> Any:
        x, *others = leaves
        return function(stack.make(x, *stack.args), *others)

    results = jax.lax.map(member, (stack.x, *stacked))
    for x in jax.tree.leaves(results):
        if x.size >= math.prod(stack.shape):  # one matrix is formed at a time, but all of them are kept
            require_dense_stack(math.prod(x.shape[:-2]), x.shape[-2:], x.dtype)
    return results


@dataclasses.dataclass(frozen=True)
class _Call:
    """A verb with everything but its operator, hashable where that is."""

    verb: Verb
    rest: tuple
    options: tuple[tuple[str, Any], ...]

    def __call__(self, A: Any) -> Any:
        return self.verb(A, *self.rest, **dict(self.options))
