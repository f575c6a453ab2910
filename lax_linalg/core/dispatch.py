"""Verbs: generic functions with one rule per structure, dispatched by plum on the types of their operators.

A *verb* (``svdvals``, ``logdet`` …) is declared once, in ``verbs/``, with its contract and its generic algorithm.
A *rule* is the better algorithm that one structure allows; it stands in the structure's own file:

    @svdvals.rule(Circulant, cost="O(n log n)")
    def _(A):
        '''Moduli of the DFT of the first column.'''

Arrays are accepted wherever an operator is: they arrive in the rules as ``Dense``. The documentation's table of
algorithms is generated from ``Verb.rules``, so a rule without a docstring or a cost is refused.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
import plum
from jax.core import Tracer

from lax_linalg.core.eager_checks import decided, in_memory, undefined_unless
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError

if TYPE_CHECKING:
    from lax_linalg.core.batch import Batch
    from lax_linalg.core.operator import LinearOperator, MatrixLike

P = ParamSpec("P")
R = TypeVar("R")

verbs: dict[str, Verb] = {}
"""Every verb by name, in the order of definition."""


@dataclass(frozen=True)
class Rule:
    """One row of a verb's dispatch table: the types it serves, its algorithm in words and its cost."""

    types: tuple[type, ...]
    algorithm: str
    cost: str
    function: Callable[..., Any]

    def takes(self, rest: tuple[Any, ...], options: dict[str, Any]) -> bool:
        """Whether the rule knows these arguments after its operators."""
        signature = _signature(self.function)
        try:
            signature.bind(*self.types, *rest, **options)
        except TypeError:
            return False
        return True


_signature = functools.cache(inspect.signature)


class Verb(Generic[P, R]):
    """A generic function over operators.

    Attributes:
        name: the verb's name.
        arity: how many leading arguments are operators and take part in the dispatch.
        square: whether the (first) operator must be square.
        sizeless: whether the value at λI is the same for every size n ≥ 1, so that an I without a size may be given.
        finite: whether NaN and infinity are refused: `NonFiniteError` where the values are known; under ``jit`` and
            ``vmap`` the result is NaN, False or a count of −1 instead.
        promote: whether half precision becomes float32 before a rule sees it.
        rules: the dispatch table, generic rule first.

    Example:
        >>> import lax_linalg as la
        >>> la.svdvals.lookup(la.Diagonal).algorithm
        'Moduli of the diagonal, sorted.'
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        arity: int,
        square: bool,
        sizeless: bool,
        finite: bool,
        promote: bool,
        algorithm: str,
        cost: str,
    ):
        functools.update_wrapper(self, function)
        self.__signature__ = _for_callers(inspect.signature(function), arity)
        self.name = function.__name__
        self.arity, self.square, self.sizeless, self.finite, self.promote = arity, square, sizeless, finite, promote
        self.rules: list[Rule] = []
        self._function = plum.Function(function)
        self._algorithm, self._cost = algorithm, cost
        if self.name in verbs:
            raise LinearAlgebraError(f"verb {self.name!r} is defined twice")
        verbs[self.name] = self

    def _generic(self) -> None:
        """Register the declaration itself as the rule for any operator; late, because the base class imports verbs."""
        from lax_linalg.core.operator import LinearOperator

        if not self.rules:
            generic = self.__wrapped__  # type: ignore[attr-defined]
            self._add((LinearOperator,) * self.arity, generic, self._algorithm, self._cost, precedence=0)

    def _add(
        self, types: tuple[type, ...], function: Callable[..., Any], algorithm: str, cost: str, precedence: int
    ) -> None:
        if not algorithm or not cost:
            raise LinearAlgebraError(f"rule {self.name}{types} needs a docstring (its algorithm) and a cost")
        rule = Rule(types, algorithm, cost, function)
        self.rules.append(rule)
        # plum resolves on the operators' types alone: it is given the rule as a parameterless token
        self._function.register(lambda *_: rule, plum.Signature(*types, precedence=precedence))

    def rule(self, *types: type, cost: str, precedence: int = 0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function for the given types; its docstring's first line names the algorithm."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self._generic()
            self._add(types, function, (function.__doc__ or "").strip().split("\n")[0], cost, precedence)
            self._resolve.cache_clear()
            return function

        if len(types) != self.arity:
            raise LinearAlgebraError(
                f"{self.name} dispatches on {self.arity} operators, a rule gave {len(types)} types"
            )
        return register

    @functools.cached_property
    def _resolve(self):
        @functools.lru_cache(maxsize=4096)
        def resolve(types: tuple[type, ...]) -> Rule:
            self._generic()
            method, _ = self._function.resolve_method(plum.Signature(*types))
            return method()

        return resolve

    def lookup(self, *types: type) -> Rule:
        """The rule that serves operators of these types."""
        return self._resolve(types)

    def fallback(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The rule for operators without structure, for the instances of a structure that its own rule does not fit."""
        self._generic()
        return self.rules[0].function(*args, **kwargs)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        from lax_linalg.core.batch import Batch
        from lax_linalg.core.operator import as_operator

        if args and isinstance(args[0], Batch):
            if self.finite:
                require_finite(args[0], self.name)
            return args[0].map_verb(self, *args[1:], **kwargs)
        if len(args) < self.arity:
            raise TypeError(f"{self.name} takes {self.arity} operator(s) as positional arguments, got {len(args)}")
        operands: tuple[Any, ...] = args[: self.arity]
        operators = tuple(as_operator(a) for a in operands)
        if self.sizeless:
            operators = tuple(a._of_size(1) for a in operators)
        if self.square and not operators[0].unsized:
            require_square(operators[0], self.name)
        if self.finite:
            return of_finite(self.name, operators, lambda *checked: self._apply(checked, args[self.arity :], kwargs))
        return self._apply(operators, args[self.arity :], kwargs)

    def _apply(self, operators: tuple[LinearOperator, ...], rest: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.promote:
            operators = tuple(a._computed() if _is_half(a) else a for a in operators)
        rule = self._resolve(tuple(type(a) for a in operators))
        if (rest or options) and not rule.takes(rest, options):  # an option that only the generic rule knows
            rule = self.rules[0]
        # accelerators multiply float32 matrices in fewer bits unless told otherwise, which no residual bound survives
        with jax.default_matmul_precision("highest"):
            return rule.function(*operators, *rest, **options)

    def __repr__(self) -> str:
        return f"<verb {self.name} with {len(self.rules)} rules>"


class _Unary(Protocol):
    """A rule is written for operators; callers of the verb may give whatever is a matrix."""

    def __call__(
        self, rule: Callable[Concatenate[LinearOperator, P], R], /
    ) -> Verb[Concatenate[MatrixLike | Batch, P], R]: ...


class _Binary(Protocol):
    """The same for two operators."""

    def __call__(
        self, rule: Callable[Concatenate[LinearOperator, LinearOperator, P], R], /
    ) -> Verb[Concatenate[MatrixLike | Batch, MatrixLike, P], R]: ...


def _for_callers(signature: inspect.Signature, arity: int) -> inspect.Signature:
    """The signature of a rule as callers of its verb see it."""
    parameters = list(signature.parameters.values())
    for i in range(arity):
        parameters[i] = parameters[i].replace(annotation="MatrixLike", kind=inspect.Parameter.POSITIONAL_ONLY)
    return signature.replace(parameters=parameters)


@overload
def verb(
    *,
    algorithm: str,
    cost: str,
    arity: Literal[1] = 1,
    square: bool = False,
    sizeless: bool = False,
    finite: bool = True,
    promote: bool | None = None,
) -> _Unary: ...
@overload
def verb(*, algorithm: str, cost: str, arity: Literal[2], finite: bool = True) -> _Binary: ...
def verb(
    *,
    algorithm: str,
    cost: str,
    arity: int = 1,
    square: bool = False,
    sizeless: bool = False,
    finite: bool = True,
    promote: bool | None = None,
) -> _Unary | _Binary:
    """Declare a verb; the decorated function carries the public docstring and is the generic rule.

    Verbs that refuse NaN compute, and see float32 in place of half precision unless `promote` says otherwise.
    """

    def declare(function: Callable[..., Any]) -> Verb[..., Any]:
        return Verb(
            function,
            arity=arity,
            square=square,
            sizeless=sizeless,
            finite=finite,
            promote=finite if promote is None else promote,
            algorithm=algorithm,
            cost=cost,
        )

    return declare


def _is_half(A: LinearOperator) -> bool:
    """Whether A is of half precision (an I of any size and a pytree of axes have parameters all the same)."""
    return jnp.issubdtype(A.dtype, jnp.floating) and jnp.finfo(A.dtype).bits < 32


def require_square(A: LinearOperator, verb_name: str) -> None:
    """Raise `DimensionMismatch` unless A is square."""
    m, n = A.shape
    if m != n:
        raise DimensionMismatch(f"{verb_name} needs a square matrix, got {m}×{n}")


def require_finite(A: Any, verb_name: str) -> jax.Array | None:
    """Raise `NonFiniteError` if a number of A is known to be NaN or infinite.

    Args:
        A: an operator, whose `_numbers` are looked at, or a pytree of arrays.
        verb_name: who asks.

    Returns:
        None if all numbers are known to be finite; whether they are, a traced boolean, where a transformation hides it.
    """
    hidden = []
    for leaf in A._numbers() if hasattr(A, "_numbers") else jax.tree.leaves(A):
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        if isinstance(leaf, jax.ShapeDtypeStruct):
            continue
        values = in_memory(leaf)
        if values is not None:
            bad = leaf.size - np.count_nonzero(np.isfinite(values))
        else:
            # what a traced function closes over is checked all the same
            with contextlib.nullcontext() if isinstance(leaf, Tracer) else jax.ensure_compile_time_eval():
                finite = jnp.isfinite(leaf)
                every = finite.all()
                known = decided(every)
                bad = leaf.size - int(finite.sum()) if known is False else 0
            if known is None:
                hidden.append(every)
        if bad:
            what = "numbers" if A is leaf else f"parameters of the {type(A).__name__} matrix"
            raise NonFiniteError(
                f"{verb_name} needs finite numbers, but {bad} of {leaf.size} {what} are NaN or infinite"
            )
    return functools.reduce(jnp.logical_and, hidden) if hidden else None


_checked: ContextVar[tuple[Any, ...]] = ContextVar("checked", default=())
"""Traced parameters that the verbs in progress have checked: what their rules do with these need not do so again."""


def of_finite(name: str, operators: tuple[Any, ...], function: Callable[..., R]) -> R:
    """function(*operators), and the one place that knows what becomes of numbers that are not finite.

    Where they are known they raise `NonFiniteError`. Where a transformation hides them, the numbers of the result are
    NaN, truths False and a count −1; indices stay. So are derivatives NaN, for the function sees NaN parameters.

    Args:
        name: of the function, for the error.
        operators: its arguments.
        function: of the operators; what it returns is a pytree.

    Example:
        >>> import jax, jax.numpy as jnp, lax_linalg as la
        >>> entries = lambda x: of_finite("entries", (la.Diagonal(x),), lambda A: (A.diagonal, jnp.array(True)))
        >>> jax.jit(entries)(jnp.array([1.0, jnp.inf]))
        (Array([nan, nan], dtype=float32), Array(False, dtype=bool))
    """
    hidden = []
    for A in operators:
        traced = [x for x in jax.tree.leaves(A) if isinstance(x, Tracer)]
        if not traced or not all(any(x is y for y in _checked.get()) for x in traced):
            finite = require_finite(A, name)
            hidden += [] if finite is None else [finite]
    if not hidden:
        return function(*operators)
    finite = functools.reduce(jnp.logical_and, hidden)
    operators = undefined_unless(finite, operators)
    token = _checked.set((*_checked.get(), *jax.tree.leaves(operators)))
    try:
        result = undefined_unless(finite, function(*operators))
    finally:
        _checked.reset(token)
    if isinstance(result, jax.Array) and result.ndim == 0 and jnp.issubdtype(result.dtype, jnp.integer):
        return jnp.where(finite, result, -1)  # type: ignore[return-value]
    return result
