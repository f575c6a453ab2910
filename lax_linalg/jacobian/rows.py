"""Entries of a derivative from the output's side: all rows at once go backwards through the maps of its graph.

For few outputs and many inputs. A two-dimensional convolution takes rows of images back by one matrix product with its
taps, each the matrix of a convolution along the width, which is faster than XLA's convolutions of few channels.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator
from lax_linalg.jacobian.graph import Graph, Term
from lax_linalg.jacobian.slabs import row_matrices
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.kronecker import Kronecker
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.arithmetic import transpose


def rows_cost(graph: Graph, m: int) -> float:
    """FLOPs, and entries written beside the output, of `row_entries` of m rows.

    Example:
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> rows_cost(derivative_graph(lambda x: jnp.ones((4, 3)) @ x, jnp.zeros(3)), 4)
        152.0
    """
    cost = 0.0 if graph.output is None else 2.0 * m * graph.output.source.size
    for node in graph.nodes[1:]:
        for term in node.terms:
            cost += m * (2.0 * term.source.size + (0.0 if term.operator is None else _product_cost(term.operator)))
    return cost


def row_entries(graph: Graph, m: int, dtype: Any) -> jax.Array:
    """All entries of the Jacobian [m, n].

    Example:
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> graph = derivative_graph(lambda x: jnp.tanh(jnp.array([[1.0, 2.0]]) @ x), jnp.zeros(2))
        >>> print(row_entries(graph, 1, jnp.float32))
        [[1. 2.]]
    """
    out = graph.output
    if out is None:
        return jnp.zeros((m, graph.input.size), dtype)
    pending = {id(out.source): _back(jnp.eye(m, dtype=dtype), out)}
    for node in reversed(graph.nodes[1:]):
        rows = pending.pop(id(node), None)
        if rows is None:
            continue
        for term in node.terms:
            part = _back(rows, term)
            before = pending.get(id(term.source))
            pending[id(term.source)] = part if before is None else before + part
    return pending.get(id(graph.input), jnp.zeros((m, graph.input.size))).astype(dtype)


def _back(rows: jax.Array, term: Term) -> jax.Array:
    """rows · operator · diag(scale) · S."""
    if term.operator is not None:
        rows = _times(rows, term.operator)
    if term.scale is not None:
        rows = rows * term.scale.reshape(-1)
    if term.index is None:
        return rows
    kept = np.flatnonzero(term.index >= 0)
    zeros = jnp.zeros((rows.shape[0], term.source.size), rows.dtype)
    return zeros.at[:, term.index[kept]].add(rows[:, kept])


def _times(rows: jax.Array, A: LinearOperator) -> jax.Array:
    """rows · A, [m, k] -> [m, n]."""
    if isinstance(A, Dense):
        return rows @ A.array
    if isinstance(A, Kronecker) and isinstance(A.left, UniformScaling) and isinstance(A.right, Dense):
        shape = (rows.shape[0], -1)
        return A.left.value * (rows.reshape(-1, A.right.shape[0]) @ A.right.array).reshape(shape)
    if not isinstance(A, Convolution) or not _by_taps(A):
        return (transpose(A) @ rows.T).T
    taps = row_matrices(A)
    p, k, q = taps.shape
    m, height, size = rows.shape[0], A.out_spatial[0], A.spatial[0]  # type: ignore[index]
    stride, dilation, front = A.stride[0], A.dilation[0], A.pads[0][0]  # type: ignore[index]
    products = (rows.reshape(m * height, p) @ taps.reshape(p, k * q)).reshape(m, height, k, q)
    total: Any = 0
    for t in range(k):  # tap t of output row h is input row h · stride − front + t · dilation
        low = t * dilation - front
        high = size - low - (height - 1) * stride - 1
        edges = ((0, 0, 0), (low, high, stride - 1), (0, 0, 0))
        total = total + jax.lax.pad(products[:, :, t], jnp.zeros((), products.dtype), edges)
    return total.reshape(m, size * q)


def _by_taps(A: Convolution) -> bool:
    return len(A.out_spatial) == 2 and not A.circular


def _product_cost(A: LinearOperator) -> float:
    """FLOPs of one row through an operator, its share of the taps' assembly left out."""
    m, n = A.shape
    if isinstance(A, Convolution):
        width = A.spatial[-1] * A.in_channels  # type: ignore[index]
        return 2.0 * m * A.kernel.shape[0] * (width + n / m) if _by_taps(A) else 2.0 * m * n
    if isinstance(A, Kronecker):
        return 2.0 * math.prod(A.right.shape) * A.left.shape[0] + 2.0 * math.prod(A.left.shape) * A.right.shape[1]
    return 2.0 * m * n
