"""One lattice of conversions between structures, from which sums and products of different structures follow.

A *conversion* says that every matrix of one structure is one of another, more general structure. A sum or a product of
two structures without a rule of its own is that of the nearest pair of structures, by number of conversions, that has
one. Sums of one structure that is linear in its parameters need no rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from lax_linalg.core.dispatch import Verb
from lax_linalg.core.operator import LinearOperator

Conversion = Callable[[Any, Any], LinearOperator | None]

_conversions: dict[type, dict[type, tuple[Conversion, bool]]] = {}
"""source -> target -> (conversion, whether products use it too)"""


def conversion(source: type, target: type, *, products: bool = True) -> Callable[[Conversion], Conversion]:
    """Register the decorated function (A, like) as the conversion of `source` to `target`.

    It gives the same matrix A as a `target`, or None if this A is none. `like` is the operand that A shall be combined
    with if that is a `target` (its side of the diagonal or its blocks may be followed), else None.

    Args:
        source, target: operator types.
        products: whether products use it; no if products of `target` cost more than lazy ones of `source`.

    Example:
        >>> import lax_linalg as la
        >>> la.Bidiagonal([1.0, 2.0], [3.0]) + la.SymTridiagonal([1.0, 2.0], [4.0])
        2×2 Tridiagonal{float32}
    """

    def register(function: Conversion) -> Conversion:
        _conversions.setdefault(source, {})[target] = (function, products)
        _paths.cache_clear()
        return function

    return register


@functools.cache
def _paths(source: type[LinearOperator], products: bool) -> dict[type[LinearOperator], tuple[Conversion, ...]]:
    """Every structure that `source` can become, with the fewest conversions that lead there; nearest first."""
    found: dict[type, tuple[Conversion, ...]] = {source: ()}
    for structure in (reached := [source]):
        for target, (function, also) in _conversions.get(structure, {}).items():
            if target not in found and (also or not products):
                found[target] = (*found[structure], function)
                reached.append(target)
    return found


def _follow(A: LinearOperator, target: type, path: tuple[Conversion, ...], other: LinearOperator) -> Any:
    converted: Any = A
    for function in path:
        converted = None if converted is None else function(converted, other if isinstance(other, target) else None)
    return converted


def linear_over(numbers: type, A: LinearOperator) -> LinearOperator | None:
    """A as the nearest structure that is linear in its parameters over these numbers, float or complex, or None.

    Example:
        >>> import lax_linalg as la
        >>> linear_over(complex, la.SymTridiagonal([1.0, 2.0], [3.0]))
        2×2 Tridiagonal{float32}
    """
    for structure, path in _paths(type(A), False).items():
        if structure.linear is complex or (structure.linear is float and numbers is float):
            return _follow(A, structure, path, A)
    return None


def linear_sum(A: LinearOperator, B: LinearOperator) -> LinearOperator | None:
    """A + B of one structure that is linear in its parameters, None for others.

    Example:
        >>> import lax_linalg as la
        >>> linear_sum(la.Diagonal([1.0]), la.Circulant([1.0])) is None
        True
    """
    if type(A) is not type(B) or not A.linear or jax.tree.structure(A) != jax.tree.structure(B):
        return None
    if any(x.shape != y.shape for x, y in zip(jax.tree.leaves(A), jax.tree.leaves(B))):
        return None
    return jax.tree.map(lambda x, y: x + y, A, B)


def combined(verb: Verb, A: LinearOperator, B: LinearOperator) -> LinearOperator | None:
    """The sum or the product (`verb`) of the nearest structures that A and B can become; None if there are none.

    Example:
        >>> import lax_linalg as la
        >>> combined(la.multiply, la.JordanBlock(1.0, 2), la.Diagonal([1.0, 2.0]))
        2×2 Bidiagonal{float32} upper
    """
    for left, right, rule in _pairs(verb, type(A), type(B)):
        a_path, b_path = (_paths(type(X), verb.name == "multiply") for X in (A, B))
        a = _follow(A, left, a_path[left], B)
        b = None if a is None else _follow(B, right, b_path[right], a)
        if a is None or b is None:
            continue
        result = linear_sum(a, b) if rule is None else rule(a, b)
        if result is not None:
            return result
    return None


def _pairs(verb: Verb, left: type, right: type) -> Iterator[tuple[type, type, Callable[..., Any] | None]]:
    """The pairs of structures that A and B can become for which the verb knows more than the lazy result."""
    products = verb.name == "multiply"
    lefts, rights = _paths(left, products), _paths(right, products)
    pairs = [(a, b) for a in lefts for b in rights if lefts[a] or rights[b]]
    for a, b in sorted(pairs, key=lambda pair: len(lefts[pair[0]]) + len(rights[pair[1]])):
        if not products and a is b and a.linear:
            yield a, b, None
        elif LinearOperator not in (rule := verb.lookup(a, b)).types:
            yield a, b, rule.function
