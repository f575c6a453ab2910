"""What a derivative's graph is good for: the Jacobian as operators, its entries, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator
from lax_linalg.jacobian.bands import Walk, banded_cost, banded_entries, banded_rows, image_rows
from lax_linalg.jacobian.graph import Graph, Node, Term, derivative_graph
from lax_linalg.jacobian.materialize import convolution_factor
from lax_linalg.jacobian.rows import row_entries, rows_cost
from lax_linalg.jacobian.slabs import Memory, convolution_entries
from lax_linalg.jacobian.windows import WindowWalk, windowed_cost, windowed_entries, windowed_rows
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.diagonal import Diagonal
from lax_linalg.operators.kronecker import Kronecker
from lax_linalg.operators.lazy import Product, Sum
from lax_linalg.operators.selection import Selection
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.verbs.basic import materialize

# --- as operators ---


def operator_of(graph: Graph, rows: int, dtype: Any) -> LinearOperator:
    """The Jacobian as Diagonal, Convolution, Dense …, their products (kept factored) and sums.

    Example:
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> graph = derivative_graph(lambda x: x + jnp.tanh(jnp.ones((2, 2)) @ x), jnp.zeros(2))
        >>> operator_of(graph, 2, jnp.float32)
        2×2 Sum{float32} of 2 terms
    """
    if graph.output is None:
        return (
            UniformScaling(jnp.zeros((), dtype), rows)
            if rows == graph.input.size
            else Dense(jnp.zeros((rows, graph.input.size), dtype))
        )
    factors = [*_left(graph.output, rows), *_between(graph.output.source, graph.input)]
    return _product(factors, rows, dtype)


def _left(term: Term, rows: int) -> list[LinearOperator]:
    """operator · diag(scale) · S of a term."""
    factors: list[LinearOperator] = [] if term.operator is None else [term.operator]
    size = rows if term.operator is None else term.operator.shape[1]
    if term.scale is not None:
        factors.append(
            UniformScaling(term.scale, size) if jnp.ndim(term.scale) == 0 else Diagonal(term.scale.reshape(-1))
        )
    if term.index is not None:
        factors.append(Selection(jnp.asarray(term.index), term.source.size))
    return factors


def _between(node: Node, ancestor: Node) -> list[LinearOperator]:
    """Factors of the derivative of a node by one that dominates it."""
    factors: list[LinearOperator] = []
    while node is not ancestor:
        dominator = node.dominator
        assert dominator is not None
        if len(node.terms) == 1:
            factors += _left(node.terms[0], node.size)
        else:
            dtype = _dtype(node)
            terms = [[*_left(t, node.size), *_between(t.source, dominator)] for t in node.terms]
            factors.append(Sum(tuple(_product(t, node.size, dtype) for t in terms)))
        node = dominator
    return factors


def _product(factors: list[LinearOperator], size: int, dtype: Any) -> LinearOperator:
    if not factors:
        return UniformScaling(jnp.ones((), dtype), size)
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _dtype(node: Node) -> Any:
    found = [t.scale.dtype for t in node.terms if t.scale is not None]
    found += [t.operator.dtype for t in node.terms if t.operator is not None]
    return jnp.result_type(*found) if found else jnp.result_type(float)


# --- entries ---


def structured_entries(graph: Graph, shape: tuple[int, int], dtype: Any, *, into: Memory | None = None) -> jax.Array:
    """All entries of the Jacobian [m, n] from its graph.

    The first linear map is assembled from its parameters; its rows then go through the others as a batch. Where that
    costs less, the output's rows go back through all maps, or all are composed as bands of image rows or as windows of
    pixels. Nothing is multiplied by the identity. `into`, as for `convolution_entries`, serves a single convolution,
    bands and windows.

    Example:
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> graph = derivative_graph(lambda x: jnp.tanh(jnp.array([[1.0, 2.0]]) @ x), jnp.zeros(2))
        >>> print(structured_entries(graph, (1, 2), jnp.float32))
        [[1. 2.]]
    """
    n = shape[1]
    out = graph.output
    if out is None:
        return jnp.zeros(shape, dtype)
    node, scale = out.source, _column(out.scale)
    if node is graph.input:
        return _scaled_identity(out, shape, dtype)
    if out.index is None and len(node.terms) == 1:
        term = node.terms[0]
        if term.operator is not None and term.source is graph.input and term.index is None:
            return _assembled(term, scale, into=into).astype(dtype)
    way, _ = _cheapest(graph, shape)
    if way in ("bands", "windows"):
        return (banded_entries if way == "bands" else windowed_entries)(graph, shape, dtype, into=into)
    if way == "rows":
        return row_entries(graph, shape[0], dtype)
    if out.index is None and len(node.terms) == 1:
        term = node.terms[0]
        if isinstance(term.operator, Dense):
            images = _images(graph, dtype)
            matrix = term.operator.array @ _moved(images[id(term.source)], term, n).T.astype(term.operator.dtype)
            return (matrix if scale is None else scale * matrix).astype(dtype)
    columns = _moved(_images(graph, dtype)[id(node)], out, n)
    return columns.T.astype(dtype)


def shared_entries(
    f: Callable[..., jax.Array], x: jax.Array, args: tuple, out: jax.ShapeDtypeStruct, mesh: Mesh
) -> jax.Array:
    """`structured_entries` with the work shared by the devices of a mesh, as `shared_side` says; the matrix stays so.

    Example:
        >>> mesh = jax.make_mesh((1,), ("data",))
        >>> W, aval = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jax.ShapeDtypeStruct((2,), jnp.float32)
        >>> print(shared_entries(lambda x: jnp.tanh(W @ x), jnp.zeros(2), (), aval, mesh))
        [[1. 2.]
         [3. 4.]]
    """
    shape, axes = (out.size, x.size), mesh.axis_names

    def local(x: jax.Array, args: tuple) -> jax.Array:
        graph, number = derivative_graph(f, x, args), jax.lax.axis_index(axes)
        assert graph is not None and graph.output is not None
        if side == "rows":
            count = image_rows(graph) // mesh.size
            return _cheapest_rows(graph)[0](graph, number * count, count, out.dtype)
        count = shape[1] // mesh.size
        share = (number * count, count)
        images = _images(graph, out.dtype, share)[id(graph.output.source)]
        if images is None:
            scaled = _scaled_identity(graph.output, shape, out.dtype)
            return jax.lax.dynamic_slice_in_dim(scaled, *share, axis=1)
        return _moved(images, graph.output, shape[1]).T.astype(out.dtype)

    found = derivative_graph(f, x, args)
    side = None if found is None else shared_side(found, shape, mesh.size)
    spec = PartitionSpec(axes, None) if side == "rows" else PartitionSpec(None, axes)
    return jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=spec, check_vma=False)(x, args)


def shared_side(graph: Graph, shape: tuple[int, int], devices: int) -> str | None:
    """What devices can share evenly: "rows" of bands, "columns" of images, or None.

    Example:
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> shared_side(derivative_graph(jnp.tanh, jnp.zeros(6)), (6, 6), 3)
        'columns'
    """
    if graph.output is None:
        return None
    _, cost = _cheapest_rows(graph)
    if cost < _images_cost(graph, shape[1]) + shape[0] * shape[1]:
        return "rows" if image_rows(graph) % devices == 0 else None
    return "columns" if shape[1] % devices == 0 else None


def _cheapest_rows(graph: Graph) -> tuple[Callable[..., jax.Array], float]:
    """What forms shares of a composition's image rows, and its cost; infinite where neither bands nor windows can."""
    costs = {banded_rows: banded_cost(graph, shared=True), windowed_rows: windowed_cost(graph)}
    return min(((form, math.inf if cost is None else cost) for form, cost in costs.items()), key=lambda found: found[1])


def _column(scale: jax.Array | None) -> jax.Array | None:
    return scale if scale is None or jnp.ndim(scale) == 0 else scale.reshape(-1, 1)


def _scaled_identity(term: Term, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """diag(scale) S."""
    index = jnp.arange(shape[0]) if term.index is None else jnp.asarray(term.index)
    scale = jnp.ones((), dtype) if term.scale is None else _column(term.scale)
    return jnp.where(index[:, None] == jnp.arange(shape[1]), scale, 0).astype(dtype)  # type: ignore[arg-type]


def _assembled(
    term: Term,
    rows: jax.Array | None = None,
    *,
    transposed: bool = False,
    into: Memory | None = None,
) -> jax.Array:
    """diag(rows) · operator · diag(scale), where nothing stands behind."""
    A, scale = term.operator, term.scale
    assert A is not None
    if isinstance(A, Convolution) and (scale is None or jnp.ndim(scale) == 0):
        factors = rows if rows is None else jnp.broadcast_to(rows.reshape(-1), A.shape[:1])
        if scale is not None:
            factors = jnp.broadcast_to(scale, A.shape[:1]) * (1.0 if factors is None else factors)
        return convolution_entries(A, factors, transposed=transposed, into=into)
    matrix = convolution_entries(A) if isinstance(A, Convolution) else materialize(A)
    if scale is not None:
        matrix = matrix * scale
    if rows is not None:
        matrix = matrix * rows
    return matrix.T if transposed else matrix


def _images(graph: Graph, dtype: Any, share: tuple[jax.Array, int] | None = None) -> dict[int, jax.Array | None]:
    """For every node the unit tangents' images [n, size] as a batch; None stands for the identity.

    With share = (first, count), those of the inputs first … first + count − 1 only, [count, size].
    """
    n = graph.input.size

    def shared(images: jax.Array) -> jax.Array:
        return images if share is None else jax.lax.dynamic_slice_in_dim(images, *share)

    images: dict[int, jax.Array | None] = {id(graph.input): None}
    for node in graph.nodes[1:]:
        total: jax.Array | None = None
        for term in node.terms:
            if term.operator is not None and term.source is graph.input and term.index is None:
                part = shared(_assembled(term, transposed=True))
            elif images[id(term.source)] is None and term.operator is None:
                part = shared(_scaled_identity(term, (node.size, n), dtype).T)
            elif images[id(term.source)] is None:
                part = _through(term, shared(_moved(None, term, n)))
            else:
                part = _through(term, _moved(images[id(term.source)], term, n))
            total = part if total is None else total + part
        images[id(node)] = total
    return images


def _moved(image: jax.Array | None, term: Term, n: int) -> jax.Array:
    """S and the scale applied to images [n, k]."""
    if image is None:
        image = jnp.eye(n, dtype=term.operator.dtype if term.operator is not None else None)
    if term.index is not None:
        kept = jnp.asarray(np.maximum(term.index, 0))
        image = jnp.where(jnp.asarray(term.index >= 0), image[:, kept], 0)
    return image if term.scale is None else image * term.scale.reshape(-1)


def _through(term: Term, image: jax.Array) -> jax.Array:
    """The operator applied to each of n images, [n, k] -> [n, size]."""
    A, n = term.operator, image.shape[0]
    if A is None:
        return image
    if isinstance(A, Convolution):
        if product_cost(A) < 2.0 * math.prod(A.shape):
            return A.apply(image.reshape(n, *A.spatial, A.in_channels)).reshape(n, -1)  # type: ignore[misc]
        return image @ convolution_entries(A, transposed=True)
    if isinstance(A, Dense):
        return image @ A.array.T
    if isinstance(A, Kronecker) and isinstance(A.left, UniformScaling) and isinstance(A.right, Dense):
        return (image.reshape(-1, A.right.shape[1]) @ A.right.array.T).reshape(n, -1)
    return (A @ image.T).T


# --- cost ---


def structured_cost(graph: Graph, shape: tuple[int, int]) -> float:
    """FLOPs, and entries written beside the output, of `structured_entries`; an entry counts as two FLOPs.

    Example:
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> structured_cost(derivative_graph(lambda x: jnp.ones((4, 3)) @ x, jnp.zeros(3)), (4, 3))
        24.0
    """
    return 2.0 * math.prod(shape) + _cheapest(graph, shape)[1]


def _cheapest(graph: Graph, shape: tuple[int, int]) -> tuple[str, float]:
    """What `structured_entries` does with several maps, and its cost beside the output."""
    costs: dict[str, float | None] = {
        "images": _images_cost(graph, shape[1]),
        "rows": rows_cost(graph, shape[0]),
        "windows": windowed_cost(graph),
        "bands": banded_cost(graph),
    }
    serving = {way: cost for way, cost in costs.items() if cost is not None}
    way = min(serving, key=serving.__getitem__)
    return way, serving[way]


def _images_cost(graph: Graph, n: int) -> float:
    """That of the batch of rows that goes through all maps."""
    cost = 0.0
    for node in graph.nodes[1:]:
        for term in node.terms:
            first = term.source is graph.input and term.index is None
            if term.operator is not None and not first:
                cost += n * product_cost(term.operator)
            cost += 2.0 * n * node.size * (len(node.terms) > 1 or term.operator is None)
    return cost


def peak_entries(graph: Graph, shape: tuple[int, int], *, shared: bool = False) -> int:
    """How many entries the largest array of `structured_entries` beside the matrix has; 0 where one map is assembled.

    With `shared`, no fewer than all devices of `shared_entries` have together.

    Example:
        >>> from lax_linalg.jacobian.graph import derivative_graph
        >>> peak_entries(derivative_graph(lambda x: jnp.ones((4, 3)) @ x, jnp.zeros(3)), (4, 3))
        0
    """
    if len(graph.nodes) <= 2 and all(t.operator is not None for node in graph.nodes[1:] for t in node.terms):
        return 0
    way = "images" if shared else _cheapest(graph, shape)[0]
    if way in ("bands", "windows"):
        walk = (Walk if way == "bands" else WindowWalk).counted(graph)
        assert walk is not None  # it has a cost
        return walk.peak
    return shape[way == "images"] * max(node.size for node in graph.nodes[1:])


def product_cost(A: LinearOperator) -> float:
    """FLOPs of one product with a vector among many, in those of a matrix product.

    Example:
        >>> product_cost(Dense(jnp.ones((2, 3))))
        12
    """
    m, n = A.shape
    if isinstance(A, Convolution):
        return min(convolution_factor(A.kernel.shape[-2]) * 2 * m * math.prod(A.kernel.shape[:-1]), 2 * m * n)
    if isinstance(A, Kronecker):
        (p, q), (r, s) = A.left.shape, A.right.shape
        dense = [isinstance(side, Dense) for side in (A.left, A.right)]
        return 2 * (p * q * s * dense[0] + p * r * s * dense[1])
    return 2 * m * n if isinstance(A, Dense) else 2 * m
