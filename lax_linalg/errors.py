"""Exceptions named after the mathematics; every message says what was given, what is allowed and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType


class LinearAlgebraError(ValueError):
    """Base class of every error that lax_linalg raises on purpose.

    Example:
        >>> issubclass(SingularError, LinearAlgebraError)
        True
    """


class DimensionMismatch(LinearAlgebraError):
    """The shapes do not fit: not square, inner sizes differ, or the wrong number of axes.

    Example:
        >>> raise DimensionMismatch("tr needs a square matrix, got 2×3")
        Traceback (most recent call last):
        lax_linalg.errors.DimensionMismatch: tr needs a square matrix, got 2×3
    """


class SingularError(LinearAlgebraError):
    """The matrix has no inverse; `index` is the first zero pivot (0-based) where one is known.

    Example:
        >>> SingularError("pivot 3 is zero", index=3).index
        3
    """

    def __init__(self, message: str, index: int | None = None):
        super().__init__(message)
        self.index = index


class NotPositiveDefiniteError(LinearAlgebraError):
    """The matrix is not positive definite; `index` is the order of the first failing leading minor (0-based).

    Example:
        >>> NotPositiveDefiniteError("leading minor 2 is not positive", index=2).index
        2
    """

    def __init__(self, message: str, index: int | None = None):
        super().__init__(message)
        self.index = index


class NonFiniteError(LinearAlgebraError):
    """The input holds NaN or infinity where a finite matrix is required.

    Under ``jit`` and ``vmap``, where no number is known, results are NaN, truths False and counts −1 instead.

    Example:
        >>> raise NonFiniteError("svdvals: the matrix holds 1 NaN")
        Traceback (most recent call last):
        lax_linalg.errors.NonFiniteError: svdvals: the matrix holds 1 NaN
    """


class DenseLimitError(LinearAlgebraError, MemoryError):
    """A dense matrix above the caller's limit would be needed; the message names the alternative.

    Example:
        >>> issubclass(DenseLimitError, MemoryError)
        True
    """


class NotDifferentiableError(LinearAlgebraError):
    """A derivative is asked for where it does not exist; raised where the values are known, NaN under ``jit``.

    Example:
        >>> import jax, jax.numpy as jnp, lax_linalg as la
        >>> try:
        ...     jax.grad(lambda a: la.polar(a).U.sum())(jnp.zeros((2, 2)))
        ... except la.NotDifferentiableError as error:
        ...     print(error)
        polar has no derivative at a matrix that is not of full rank
    """


class ConvergenceError(LinearAlgebraError):
    """An iteration stopped before its tolerance; the message gives what it reached.

    Example:
        >>> raise ConvergenceError("residual 1e-3 after 50 steps")
        Traceback (most recent call last):
        lax_linalg.errors.ConvergenceError: residual 1e-3 after 50 steps
    """


class UnknownNameError(LinearAlgebraError, KeyError):
    """A name that no registry entry, layer or option has; the message gives the nearest ones.

    Example:
        >>> print(UnknownNameError.of("model", "resnt", ["resnet", "mlp"]))
        unknown model 'resnt'; did you mean 'resnet'? Available: mlp, resnet
    """

    __str__ = Exception.__str__  # KeyError would print the repr

    @classmethod
    def of(
        cls, kind: str, name: str, allowed: Iterable[str], spelled_here: Mapping[str, str] = MappingProxyType({})
    ) -> UnknownNameError:
        """Build the error for `name` with its nearest spelling among `allowed`.

        What a name of other libraries is called here, as in {"trace": "tr"}, is in `spelled_here`.

        Example:
            >>> str(UnknownNameError.of("task", "x", []))
            "unknown task 'x'. Available: none"
        """
        names = sorted(allowed)
        if name in spelled_here:
            near = spelled_here[name].split(" or ")
        else:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
        return cls(f"unknown {kind} {name!r}{hint} Available: {', '.join(names) or 'none'}")
