"""The operator protocol: a linear map that holds only its minimal parameters.

An operator is a frozen dataclass and a JAX pytree. A structure's class gives ``shape``, ``dtype`` and ``_matmat`` (its
product with a block of columns); everything else, from ``A.T`` to ``svdvals(A)``, follows from the verbs, and the
structure's file overrides the verbs for which its structure allows something better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import Any, ClassVar, TypeVar, dataclass_transform, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, register_pytree_with_keys
from jax.typing import ArrayLike

from lax_linalg.errors import DimensionMismatch

C = TypeVar("C", bound=type)
Scalar = complex | float | int
Entries = ArrayLike | Sequence[ArrayLike | Sequence[ArrayLike]]
"""Numbers as a caller may give them: an array of JAX or NumPy, or nested lists."""


class LinearOperator:
    """Abstract linear map of shape (m, n) with Julia's arithmetic.

    ``A @ x`` applies it to a vector [n] or to columns [n, k]; ``A.T``, ``A.H``, ``A + B``, ``2 * A``, ``A @ B`` and
    ``A - I`` are operators again, structured where the result has a structure and lazy otherwise. ``A[i, j]``, ``A[i]``
    and ``A[:, j]`` are entries, ``A[1:3, :]`` is an operator.

    Raises:
        DimensionMismatch: where shapes do not fit.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> A = la.Diagonal(jnp.array([1.0, 2.0]))
        >>> print((A + la.I) @ jnp.ones(2))
        [2. 3.]
    """

    data_fields: ClassVar[tuple[str, ...]] = ()
    meta_fields: ClassVar[tuple[str, ...]] = ()
    linear: ClassVar[type | None] = None
    """The numbers over which the matrix is linear in the data: complex, float, or None where it is not."""
    __array_ufunc__ = None  # NumPy arrays on the left leave the operation to us
    __hash__ = None  # type: ignore[assignment]  # holds arrays

    # --- what a structure gives ---
    @property
    def shape(self) -> tuple[int, int]:
        raise NotImplementedError

    @property
    def dtype(self) -> jnp.dtype:
        """Common dtype of the parameters."""
        return jnp.result_type(*(getattr(self, f).dtype for f in self.data_fields))

    @property
    def unitary(self) -> bool:
        """Whether the structure alone makes A square and unitary, so that no verb has to find it out from numbers."""
        return False

    @property
    def unsized(self) -> bool:
        """Whether A takes its size from what it meets, as the plain I does."""
        return False

    def _of_size(self, n: int) -> LinearOperator:
        """A itself; an unsized one of size n."""
        return self

    def _matmat(self, X: jax.Array) -> jax.Array:
        """A X for columns X [n, k], already of dtype result_type(A, X)."""
        raise NotImplementedError

    def _computed(self) -> LinearOperator:
        """The same operator with half-precision parameters as float32, the precision in which verbs compute."""

        def promoted(x: Any) -> Any:
            if isinstance(x, LinearOperator):
                return x._computed()
            half = jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32
            return x.astype(jnp.float32) if half else x

        return jax.tree.map(promoted, self, is_leaf=lambda x: isinstance(x, LinearOperator) and x is not self)

    def _numbers(self) -> list[Any]:
        """The numbers that the matrix depends on, arrays: all parameters, unless the structure leaves some unread.

        Verbs need these to be finite. What is not among them may be NaN.
        """
        parts = jax.tree.leaves(self, is_leaf=lambda x: isinstance(x, LinearOperator) and x is not self)
        return [number for x in parts for number in (x._numbers() if isinstance(x, LinearOperator) else [x])]

    def _describe(self) -> str:
        """What the printed form adds behind the type, e.g. "3×3, 16→16, stride 1"."""
        return ""

    def _validate(self) -> None:
        """Check the parameters that a caller gave (not run when JAX rebuilds the pytree)."""

    # --- what follows ---
    def __post_init__(self) -> None:
        for field in self.data_fields:
            value = getattr(self, field)
            if isinstance(value, (list, np.ndarray, np.generic, Scalar)):
                object.__setattr__(self, field, jnp.asarray(value))
        self._validate()

    @property
    def T(self) -> LinearOperator:
        from lax_linalg.verbs.arithmetic import transpose

        return transpose(self)

    @property
    def H(self) -> LinearOperator:
        from lax_linalg.verbs.arithmetic import adjoint

        return adjoint(self)

    @property
    def ndim(self) -> int:
        return 2

    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...
    @overload
    def __matmul__(self, other: Entries) -> jax.Array: ...
    def __matmul__(self, other: Any) -> Any:
        from lax_linalg.verbs.arithmetic import multiply

        if isinstance(other, LinearOperator):
            return multiply(self, other)
        return self._apply(jnp.asarray(other))

    def _apply(self, X: jax.Array) -> jax.Array:
        """A X for a vector X [n] or columns X [n, k], once the shape is checked."""
        if X.ndim not in (1, 2) or X.shape[0] != self.shape[1]:
            raise DimensionMismatch(
                f"a {_size(self)} {type(self).__name__} applies to [{self.shape[1]}] or [{self.shape[1]}, k], "
                f"got an array of shape {list(X.shape)}; use jax.vmap for further axes"
            )
        X = X.astype(jnp.result_type(self.dtype, X.dtype))
        return self._matmat(X) if X.ndim == 2 else self._matmat(X[:, None])[:, 0]

    def __rmatmul__(self, other: Entries) -> jax.Array:
        X = jnp.asarray(other)
        if X.ndim not in (1, 2) or X.shape[-1] != self.shape[0]:
            raise DimensionMismatch(f"cannot multiply an array of shape {list(X.shape)} by a {_size(self)} matrix")
        return (self.T @ X.T).T

    def __add__(self, other: MatrixLike) -> LinearOperator:
        from lax_linalg.verbs.arithmetic import add

        return add(self, _term(self, other))

    def __radd__(self, other: MatrixLike) -> LinearOperator:
        from lax_linalg.verbs.arithmetic import add

        if isinstance(other, int) and other == 0:  # where sum([A, B]) starts
            return self
        return add(_term(self, other), self)

    def __sub__(self, other: MatrixLike) -> LinearOperator:
        return self + (-_term(self, other))

    def __rsub__(self, other: MatrixLike) -> LinearOperator:
        return (-self) + other

    def __mul__(self, other: ArrayLike) -> LinearOperator:
        from lax_linalg.verbs.arithmetic import scale

        alpha = other if isinstance(other, Scalar) else jnp.asarray(other)
        if jnp.ndim(alpha) != 0:
            raise DimensionMismatch(
                f"* scales by a number, got an array of shape {list(jnp.shape(alpha))}; the matrix product is @"
            )
        return scale(self, alpha)

    __rmul__ = __mul__

    def __truediv__(self, other: ArrayLike) -> LinearOperator:
        if isinstance(other, LinearOperator):
            return NotImplemented
        return self * (1 / other)

    def __neg__(self) -> LinearOperator:
        return self * (-1)

    def __pow__(self, exponent: complex | jax.Array) -> LinearOperator:
        from lax_linalg.verbs.functions import power

        return power(self, exponent)

    def __getitem__(self, key: Any) -> Any:
        from lax_linalg.verbs.entries import getindex

        return getindex(self, key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        from lax_linalg.verbs.basic import materialize

        return np.asarray(materialize(self), dtype=dtype)

    def __repr__(self) -> str:
        try:
            detail = self._describe()
            head = f"{_size(self)} {type(self).__name__}{{{jnp.dtype(self.dtype).name}}}"
        except Exception:  # a pytree of in_axes, shardings … is not a matrix, yet must print
            fields = ", ".join(f"{f}={getattr(self, f)!r}" for f in self.data_fields + self.meta_fields)
            return f"{type(self).__name__}({fields})"
        return f"{head} {detail}" if detail else head


MatrixLike = LinearOperator | Entries
"""What a verb takes as a matrix."""


@dataclass_transform(frozen_default=True)
def operator(*, data: Sequence[str], meta: Sequence[str] = (), linear: type | None = None) -> Callable[[C], C]:
    """Class decorator: a frozen dataclass and a pytree whose leaves are `data` and whose static part is `meta`.

    With `linear` the matrix is linear in the data over these numbers, complex or float: multiples and sums of such
    operators with equal static parts are then those of their data.

    JAX rebuilds instances without running their checks, because a pytree's leaves may be tracers, axes or shardings.

    Example:
        >>> import jax, jax.numpy as jnp, lax_linalg as la
        >>> jax.tree.map(jnp.shape, la.Diagonal(jnp.ones(3))).diagonal
        (3,)
    """

    def wrap(cls: C) -> C:
        cls.data_fields, cls.meta_fields, cls.linear = tuple(data), tuple(meta), linear  # type: ignore[attr-defined]
        cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)  # type: ignore[assignment]

        def flatten_with_keys(a: Any):
            return [(GetAttrKey(f), getattr(a, f)) for f in data], tuple(getattr(a, f) for f in meta)

        def flatten(a: Any):
            return [getattr(a, f) for f in data], tuple(getattr(a, f) for f in meta)

        def unflatten(aux: tuple, leaves: Iterable[Any]):
            a = object.__new__(cls)
            for field, value in zip((*data, *meta), (*leaves, *aux)):
                object.__setattr__(a, field, value)
            return a

        register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return wrap


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """The value as an int, whatever kind of integer it is; `DimensionMismatch` if it is none or too small.

    Example:
        >>> whole_number("n", np.int64(3))
        3
        >>> whole_number("n", 2.5)
        Traceback (most recent call last):
        lax_linalg.errors.DimensionMismatch: n is a whole number ≥ 0, got 2.5
    """
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise DimensionMismatch(f"{name} is a whole number ≥ {least}, got {value!r}")
    return number


FACTORED: dict[type, Callable[[Any], LinearOperator]] = {}
"""What a verb returned as a tuple of factors, such as `LU` -> the matrix as the product of these."""


def as_operator(A: MatrixLike) -> LinearOperator:
    """A itself if it is an operator, the product of a factorisation's factors, or an array A [m, n] as `Dense`.

    Raises:
        DimensionMismatch: if A is an array that is not two-dimensional.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> la.as_operator(jnp.ones((2, 3)))
        2×3 Dense{float32}
    """
    if isinstance(A, LinearOperator):
        return A
    if type(A) in FACTORED:
        return FACTORED[type(A)](A)
    from lax_linalg.core.dense import Dense

    try:
        array = jnp.asarray(A)
    except TypeError:
        raise DimensionMismatch(f"expected a matrix or a linear operator, got a {type(A).__name__}") from None
    return Dense(array)


def as_part(A: MatrixLike) -> LinearOperator:
    """`as_operator(A)` for a part of another operator, which needs a size.

    Example:
        >>> import lax_linalg as la
        >>> la.BlockDiagonal((la.I, la.I(2)))
        Traceback (most recent call last):
        lax_linalg.errors.DimensionMismatch: I has no size of its own; write la.I(n)
    """
    part = as_operator(A)
    if part.unsized:
        _ = part.shape  # raises
    return part


def _size(A: LinearOperator) -> str:
    m, n = A.shape
    return f"{m}×{n}"


def _term(A: LinearOperator, other: Any) -> LinearOperator:
    """`other` as a summand of A; a number is refused as in Julia, because A + 2 could mean two things."""
    if isinstance(other, LinearOperator):
        return other
    array = jnp.asarray(other)
    if array.ndim == 0:
        raise DimensionMismatch(f"cannot add the number {other} to a {_size(A)} matrix; write A + {other} * I")
    return as_operator(array)
