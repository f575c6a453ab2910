"""What `with` blocks choose for their thread, and programs that are compiled once for each of those choices."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax

T = TypeVar("T", bound=Hashable)

_variables: list[contextvars.ContextVar[Any]] = []


def choice(name: str, default: T) -> contextvars.ContextVar[T]:
    """A context variable that what is traced may depend on.

    Example:
        >>> choice("colour", "blue").get()
        'blue'
    """
    variable = contextvars.ContextVar(name, default=default)
    _variables.append(variable)
    return variable


def program(function: Callable[..., Any], static: int = 0) -> Callable[..., Any]:
    """`jax.jit` for a function that reads choices, which `jit` knows nothing of: another choice is another program.

    Args:
        function: of `static` hashable arguments and pytrees of arrays, all of them positional.
        static: how many of the first arguments are part of the program.

    Example:
        >>> import jax.numpy as jnp
        >>> print(program(lambda n, x: n * x, static=1)(3, jnp.ones(2)))
        [3. 3.]
    """

    @functools.partial(jax.jit, static_argnums=tuple(range(static + 1)))
    def compiled(_: tuple[Hashable, ...], *arguments: Any) -> Any:
        return function(*arguments)

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        return compiled(tuple(variable.get() for variable in _variables), *arguments)

    return run
