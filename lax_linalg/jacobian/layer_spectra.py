"""`layer_svdvals`: the singular values of all layers' Jacobians, those of one shape by one call of LAPACK.

A stack of matrices is shared by the cores, while one matrix keeps one busy: layers that have the same shape, or one the
transpose of another's, are put into one stack. A layer whose Jacobian is the same at every input is factorised once.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lax_linalg import platform
from lax_linalg.dispatch import require_finite
from lax_linalg.jacobian.operator import Jacobian, structure_at
from lax_linalg.operators.base import LinearOperator
from lax_linalg.operators.batch import Batch, Stack
from lax_linalg.operators.convolution import Convolution
from lax_linalg.operators.convolution_spectra import splits
from lax_linalg.operators.convolution_zero import closed_svdvals
from lax_linalg.operators.dense import Dense
from lax_linalg.operators.lazy import Product, Sum
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.svd import svdvals


def layer_svdvals(jacobians: Mapping[str, Batch]) -> dict[str, jax.Array]:
    """All singular values of every layer's Jacobian, descending, [B, min(m, n)] by path.

    The values are those of `la.svdvals(batch)` for each batch; the factorisations of equal size run together.

    Args:
        jacobians: what `la.layer_jacobians` gives, or batches by name.

    Returns:
        path → real array [B, k], or [L, B, k] for a stack of layers.

    Raises:
        DenseLimitError, NonFiniteError: as `la.svdvals`.

    Cost: O(mn min(m, n)) for each matrix, O(mn) memory for all of them at once.

    Example:
        >>> import lax_linalg as la
        >>> W = jnp.array([[2.0, 0.0], [0.0, 3.0]])
        >>> J = la.layer_jacobians({"linear": lambda x: W @ x, "wave": lambda x: jnp.sin(W @ x)}, jnp.zeros((1, 2)))
        >>> {path: values.tolist() for path, values in la.layer_svdvals(J).items()}
        {'linear': [[3.0, 2.0]], 'wave': [[3.0, 2.0]], 'end_to_end': [[9.0, 4.0]]}
    """
    found: dict[str, jax.Array] = {}
    groups: dict[Any, list[tuple[str, jax.Array]]] = collections.defaultdict(list)
    for path, batch in jacobians.items():
        require_finite(batch, "svdvals")
        matrices = _matrices(batch)
        if matrices is None:
            found[path] = svdvals(batch)  # type: ignore[arg-type]  # verbs map batches
        else:
            m, n = matrices.shape[-2:]
            matrices = matrices if m <= n else matrices.swapaxes(-1, -2)
            groups[matrices.shape[-2:], matrices.dtype].append((path, matrices))
    for members in groups.values():
        stack = jnp.concatenate([matrices for _, matrices in members]) if len(members) > 1 else members[0][1]
        values, start = jax.vmap(platform.svdvals)(stack), 0
        for path, matrices in members:
            part = values[start : start + len(matrices)]
            start += len(matrices)
            found[path] = jnp.broadcast_to(part, (len(jacobians[path]), part.shape[-1]))
    return {path: found[path] for path in jacobians}


def _matrices(batch: Batch) -> jax.Array | None:
    """The members as matrices [B, m, n], or [1, m, n] where all are the same; None for a structure with a rule."""
    if isinstance(batch, Stack) or not isinstance(batch._one(), Jacobian):
        return None

    def matrix(x: Any, args: tuple) -> jax.Array | None:
        J = batch.make(x, *args)
        if J.mesh is None and J.method in ("auto", "structured"):
            structure = structure_at(J.f, J.x, J.args)
            if structure is not None and not isinstance(structure, (Product, Sum)):
                return dense(structure) if _without_rule(structure) else None
        return dense(J)

    try:
        one = jax.vmap(matrix, in_axes=(0, None), out_axes=None)(batch.x, batch.args)
    except ValueError:  # it differs from input to input
        return jax.vmap(matrix, in_axes=(0, None))(batch.x, batch.args)
    return None if one is None else one[None]


def _without_rule(A: LinearOperator) -> bool:
    """Whether svdvals would form the matrix."""
    if isinstance(A, Convolution):
        return closed_svdvals(A) is None and not splits(A)
    return isinstance(A, Dense)
