"""One registry idiom for everything that plugs in: a decorator with a name, and errors that give the nearest names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from lax_linalg.errors import LinearAlgebraError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary from names to entries that is filled by a decorator.

    Raises:
        UnknownNameError: on a look-up of a name that is not registered.
        LinearAlgebraError: when a name is registered twice.

    Example:
        >>> shapes = Registry("shape")
        >>> @shapes.register("square")
        ... def square(n):
        ...     return (n, n)
        >>> shapes["square"](3)
        (3, 3)
        >>> shapes["squar"]
        Traceback (most recent call last):
        lax_linalg.errors.UnknownNameError: unknown shape 'squar'; did you mean 'square'? Available: square
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        def add(entry: T) -> T:
            if name in self._entries:
                raise LinearAlgebraError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise UnknownNameError.of(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._entries))
