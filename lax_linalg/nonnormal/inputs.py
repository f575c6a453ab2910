"""What the host-driven instruments of this room have in common: checked input, double precision, leading batch axes.

Kreiss constants, pseudospectra and distances decide their work from values (where to refine, when a certificate holds),
so they run outside of `jit`, in double precision whatever the global setting, on the dense matrix.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.batch import Batch
from lax_linalg.core.operator import LinearOperator
from lax_linalg.dense import platform
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError
from lax_linalg.verbs.basic import materialize


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Run the block in float64; on the CPU where the default device has no complex double precision."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        if jax.default_backend() == "tpu":
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        yield


class SquareMatrix(NamedTuple):
    """A checked dense matrix [n, n] in double precision, and the unit roundoff that its entries came with."""

    array: np.ndarray
    eps: float

    @property
    def order(self) -> int:
        return self.array.shape[0]

    @property
    def real(self) -> bool:
        return not np.iscomplexobj(self.array)


def dense_array(A: Any, name: str) -> np.ndarray:
    """The entries of an operator or array on the host, in their own precision.

    Raises:
        LinearAlgebraError: under `jit`, `vmap` or `grad`, where there are no values yet.
    """
    entries = materialize(A) if isinstance(A, LinearOperator) else A
    try:
        array = np.asarray(entries)
    except jax.errors.TracerArrayConversionError:
        raise LinearAlgebraError(
            f"{name} chooses its work from the values of the matrix, so it cannot run inside jit, vmap or grad; "
            "call it on concrete arrays (leading batch axes are accepted)"
        ) from None
    if not (np.issubdtype(array.dtype, np.number) or array.dtype in (np.bool_, jnp.bfloat16)):
        raise LinearAlgebraError(f"{name} needs a matrix of numbers, got {type(A).__name__} of {array.dtype}")
    return array


def square_matrix(A: Any, name: str) -> SquareMatrix:
    """Check that A [n, n] is one non-empty, square, finite matrix.

    Raises:
        DimensionMismatch: not two axes, not square, or empty.
        NonFiniteError: NaN or infinity among the entries.
    """
    array = dense_array(A, name)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        shape = "×".join(map(str, array.shape)) or "scalar"
        raise DimensionMismatch(f"{name} needs a square matrix, got {shape}")
    if array.shape[0] == 0:
        raise DimensionMismatch(f"{name} needs a non-empty square matrix, got 0×0")
    eps = float(jnp.finfo(array.dtype).eps) if jnp.issubdtype(array.dtype, jnp.inexact) else 2.0**-52
    array = array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise NonFiniteError(f"{name} needs finite numbers, but {bad} of {array.size} entries are NaN or infinite")
    return SquareMatrix(array, eps)


def over_batch(function: Callable[[Any], Any], A: Any) -> Any:
    """`function` on A, or on every matrix of a batch [..., n, n], with the results' fields stacked along those axes."""
    if isinstance(A, Batch):
        A = np.asarray(materialize(A))  # type: ignore[arg-type]
    if not is_batch(A):
        return function(A)
    batch = np.shape(A)[:-2]
    if 0 in batch:
        raise DimensionMismatch(f"a batch of shape {list(np.shape(A))} holds no matrix")
    results = [function(a) for a in np.reshape(A, (-1, *np.shape(A)[-2:]))]

    def stack(*leaves: Any) -> np.ndarray:
        return np.stack([np.asarray(leaf) for leaf in leaves]).reshape(*batch, *np.shape(leaves[0]))

    return jax.tree.map(stack, *results)


def is_batch(A: Any) -> bool:
    """Whether A is a stack of matrices [..., n, n] or a `Batch` of operators."""
    return isinstance(A, Batch) or (not isinstance(A, LinearOperator) and np.ndim(A) > 2)


class SchurForm(NamedTuple):
    """A = Z T Zᴴ with T upper triangular, Z unitary, complex double precision, and ‖A‖₂."""

    triangle: np.ndarray
    unitary: np.ndarray
    norm: float

    @property
    def eigenvalues(self) -> np.ndarray:
        return np.diagonal(self.triangle)

    @property
    def rounding(self) -> float:
        """What rounding may change a singular value of z − A by, for |z| of the order of ‖A‖."""
        return 4 * len(self.triangle) * float(np.finfo(float).eps) * max(self.norm, 1e-300)


def schur_form(array: np.ndarray) -> SchurForm:
    """Complex Schur form by the platform's route; a matrix that is triangular already is taken as it is."""
    if np.array_equal(array, np.triu(array)):
        triangle, unitary = array.astype(complex), np.eye(len(array), dtype=complex)
    else:
        with double_precision():
            t, z = platform.schur(jnp.asarray(array))
        triangle, unitary = np.triu(np.asarray(t)), np.asarray(z)
    return SchurForm(triangle, unitary, float(np.linalg.norm(array, 2)))
