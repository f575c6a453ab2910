"""What the gallery returns: a matrix as the operator of its structure, with the answers that are known for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError


@dataclasses.dataclass(frozen=True)
class Known:
    """A matrix and its known answers, named after the verbs that have to find them; None where none is known.

    The answers come from closed forms in double precision on the host, whatever the dtype of the matrix; those that are
    matrices are NumPy arrays. They are what a verb returns for the exact matrix: comparing takes the verb's condition
    into account, and for entries that the matrix's dtype cannot hold also the rounding of the entries.

    Attributes:
        matrix: the operator.
        eigvals: eigenvalues by real, then imaginary part, [n].
        svdvals: singular values, descending, [min(m, n)].
        det: the determinant.
        logabsdet: log |det|, also where the determinant over- or underflows.
        inv: the inverse, [n, n].
        cholesky: the lower triangular factor, [n, n].
        cond: the condition number in the 2-norm.
        norm: the Frobenius norm.

    Example:
        >>> import lax_linalg as la
        >>> H = la.gallery.hilbert(5)
        >>> H.matrix
        5×5 Hankel{float32}
        >>> float(1 / H.det), H.inv[0].tolist()
        (266716800000.0, [25.0, -300.0, 1050.0, -1400.0, 630.0])
        >>> H.eigvals is None
        True
    """

    matrix: LinearOperator
    eigvals: np.ndarray | None = None
    svdvals: np.ndarray | None = None
    det: float | complex | None = None
    logabsdet: float | None = None
    inv: np.ndarray | None = None
    cholesky: np.ndarray | None = None
    cond: float | None = None
    norm: float | None = None

    def __post_init__(self) -> None:
        for name, order in (("eigvals", np.sort), ("svdvals", lambda s: -np.sort(-s))):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, order(np.asarray(value)))
        for name in ("inv", "cholesky"):
            value = getattr(self, name)
            if value is not None:  # an empty list of rows has lost its second axis
                object.__setattr__(self, name, np.asarray(value).reshape(self.matrix.shape))
        if self.svdvals is not None and self.cond is None and self.svdvals.size:
            smallest = self.svdvals[-1]
            object.__setattr__(self, "cond", float(self.svdvals[0] / smallest) if smallest > 0 else float("inf"))
        if self.det is not None and self.logabsdet is None:
            object.__setattr__(self, "logabsdet", float(np.log(abs(self.det))) if self.det else -float("inf"))

    def __repr__(self) -> str:
        known = [f.name for f in dataclasses.fields(self)[1:] if getattr(self, f.name) is not None]
        return f"{self.matrix!r} with {', '.join(known) or 'no closed form'}"


def normal(matrix: LinearOperator, eigvals: np.ndarray, **others: Any) -> Known:
    """The answers for a normal matrix, whose singular values are the moduli of its eigenvalues.

    Example:
        >>> import lax_linalg as la
        >>> normal(la.Diagonal([1.0, -2.0]), np.array([1.0, -2.0])).cond
        2.0
    """
    return Known(matrix, eigvals=eigvals, svdvals=np.abs(eigvals), **others)


def empty(dtype: Any, m: int = 0, n: int = 0) -> Known:
    """The empty matrix: every member of a family is this one at size 0.

    Example:
        >>> empty(None).det, empty(None).inv.shape
        (1.0, (0, 0))
    """
    nothing = np.zeros(0)
    matrix = Dense(jnp.zeros((m, n), matrix_dtype(dtype)))
    if m != n:
        return Known(matrix, svdvals=nothing, norm=0.0)
    none = np.zeros((0, 0))
    return Known(matrix, eigvals=nothing, svdvals=nothing, det=1.0, logabsdet=0.0, inv=none, cholesky=none, norm=0.0)


def entrywise(n: int, entry: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """The matrix [n, n] with entry(i, j), the indices counted from 1 as the literature does.

    Example:
        >>> print(entrywise(2, np.minimum))
        [[1. 1.]
         [1. 2.]]
    """
    index = np.arange(1.0, n + 1)
    return np.asarray(entry(index[:, None], index[None, :]))


def require_size(name: str, n: int, smallest: int = 0) -> int:
    """n itself, or `DimensionMismatch` unless it is an integer of at least `smallest`.

    Example:
        >>> require_size("grcar", -1)
        Traceback (most recent call last):
        lax_linalg.errors.DimensionMismatch: gallery.grcar takes a size n ≥ 0, got -1
    """
    if not isinstance(n, (int, np.integer)) or n < smallest:
        raise DimensionMismatch(f"gallery.{name} takes a size n ≥ {smallest}, got {n!r}")
    return int(n)


def require(condition: bool, message: str) -> None:
    """Raise `LinearAlgebraError` with the message unless the condition holds.

    Example:
        >>> require(False, "gallery.kms takes |ρ| < 1, got 2")
        Traceback (most recent call last):
        lax_linalg.errors.LinearAlgebraError: gallery.kms takes |ρ| < 1, got 2
    """
    if not condition:
        raise LinearAlgebraError(message)


def stored(x: Any, dtype: Any) -> jax.Array:
    """A parameter in the dtype of the matrix, JAX's default float (or complex) unless given.

    Example:
        >>> stored(np.ones(1), None).dtype
        dtype('float32')
    """
    return jnp.asarray(x, matrix_dtype(dtype, complex if np.iscomplexobj(x) else float))


def matrix_dtype(dtype: Any, default: type = float) -> jnp.dtype:
    """The dtype that was asked for, as JAX's precision mode has it, or the default one.

    Example:
        >>> matrix_dtype(None), matrix_dtype(complex)
        (dtype('float32'), dtype('complex64'))
    """
    return jax.dtypes.canonicalize_dtype(default if dtype is None else dtype)
