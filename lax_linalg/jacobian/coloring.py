"""Jacobians by coloured columns or rows: entries that never meet in one row travel together in one tangent.

The sparsity pattern depends on the architecture alone. It is read off the derivative's graph where there is one, and
found by asdex otherwise; colours are periodic where the pattern is that of images, and asdex's otherwise. Both are kept
for the life of the process, with the function and its shapes as the key. This is the only file that knows asdex.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lax_linalg.core.operator import LinearOperator
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.jacobian.graph import Graph, Term, derivative_graph
from lax_linalg.jacobian.materialize import columns_of, pull_of, push_of
from lax_linalg.jacobian.slabs import Memory, matrix_for
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.kronecker import Kronecker
from lax_linalg.operators.uniform_scaling import UniformScaling


@dataclasses.dataclass(frozen=True, eq=False)
class Coloring:
    """A sparsity pattern and its colours.

    Attributes:
        shape: (m, n) of the Jacobian.
        rows, columns: positions that can be nonzero, [nnz] each, by rows.
        colors: colour of each column (forward) or row (reverse).
        count: number of colours: products that the whole Jacobian takes.
        mode: "forward" or "reverse".
    """

    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    colors: np.ndarray
    count: int
    mode: str

    def __repr__(self) -> str:
        m, n = self.shape
        return f"{m}×{n} Coloring: {self.rows.size} entries by {self.count} products, {self.mode}"


def coloring_of(f: Callable[..., jax.Array], x: Any, args: tuple = (), *, mode: str = "auto") -> Coloring:
    """The pattern and colours of f's Jacobian, found once per function and shapes.

    Args:
        f: hashable function of (x, *args) that gives one array.
        x: input, or its shape and dtype.
        args: further arguments, alike.
        mode: "forward" (colours of columns), "reverse" (of rows) or "auto" (the fewer).

    Returns:
        A `Coloring`.

    Raises:
        LinearAlgebraError: where the pattern cannot be read off the program and asdex is missing or does not know it.

    Cost: one abstract evaluation and O(nnz log nnz) for images; asdex's detection takes seconds at n = 4096. The second
        call is a look-up.

    Example:
        >>> coloring_of(jnp.sin, jnp.zeros(5))
        5×5 Coloring: 5 entries by 1 products, forward
    """
    leaves, tree = jax.tree.flatten((x, args))
    avals = tuple(jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)) for a in leaves)
    return _coloring(f, tree, avals, mode)


@functools.lru_cache(maxsize=512)
def _coloring(f: Callable[..., jax.Array], tree: Any, avals: tuple, mode: str) -> Coloring:
    with jax.ensure_compile_time_eval():  # the caller may be under jit; nothing here depends on its values
        x, args = jax.tree.unflatten(tree, avals)
        out = jax.eval_shape(f, x, *args)
        shape = (math.prod(out.shape), math.prod(x.shape))
        pattern = _graph_pattern(f, x, args, shape)
        if pattern is None:
            pattern = _detected(f, x, args)
        rows, columns = pattern
        candidates = []
        if mode != "reverse":
            candidates.append((*_colors(rows, columns, x.shape, *shape), "forward"))
        if mode == "reverse" or (mode == "auto" and shape[0] < shape[1]):
            candidates.append((*_colors(columns, rows, out.shape, *shape[::-1]), "reverse"))
        colors, count, chosen = min(candidates, key=lambda c: c[1])
        return Coloring(shape, rows, columns, colors, count, chosen)


# --- patterns ---


def _graph_pattern(f: Any, x: Any, args: tuple, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions by rows, from the derivative's graph; None where there is none."""
    found: list[tuple[np.ndarray, np.ndarray] | None] = [None]

    def read(x: Any, args: tuple) -> jax.Array:
        graph = derivative_graph(f, x, args)
        if graph is not None:
            found[0] = pattern_of(graph, shape)
        return jnp.zeros(())

    jax.eval_shape(read, x, args)
    return found[0]


def pattern_of(graph: Graph, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns that can be nonzero, in the order of rows.

    Example:
        >>> rows, columns = pattern_of(derivative_graph(lambda x: x[1:], jnp.zeros(3)), (2, 3))
        >>> rows.tolist(), columns.tolist()
        ([0, 1], [1, 2])
    """
    scipy_sparse = _scipy_sparse()

    n = graph.input.size
    patterns: dict[int, Any] = {id(graph.input): scipy_sparse.identity(n, np.float32, format="csr")}

    def of(term: Term, rows: int) -> Any:
        found = patterns[id(term.source)]
        if term.index is not None:
            kept = np.flatnonzero(term.index >= 0)
            ones = np.ones(kept.size, np.float32)
            found = scipy_sparse.csr_matrix((ones, (kept, term.index[kept])), (term.index.size, found.shape[0])) @ found
        if term.operator is not None:
            found = _operator_pattern(term.operator) @ found
        found.data[:] = 1
        return found

    for node in graph.nodes[1:]:
        total: Any = sum((of(term, node.size) for term in node.terms[1:]), of(node.terms[0], node.size))
        total.data[:] = 1
        patterns[id(node)] = total
    if graph.output is None:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    final = of(graph.output, shape[0]).tocsr()
    final.sort_indices()
    rows = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(final.indptr))
    return rows, final.indices.astype(np.int32)


def _operator_pattern(A: LinearOperator) -> Any:
    """Where an operator of a graph can be nonzero, whatever its numbers."""
    scipy_sparse = _scipy_sparse()

    if isinstance(A, Convolution):
        return _convolution_pattern(A)
    if isinstance(A, Kronecker):
        sides = (_operator_pattern(A.left), _operator_pattern(A.right))
        return scipy_sparse.kron(*sides, format="csr").astype(np.float32)
    if isinstance(A, UniformScaling):
        return scipy_sparse.identity(A.shape[0], np.float32, format="csr")
    return scipy_sparse.csr_matrix(np.ones(A.shape, np.float32))


def _convolution_pattern(A: Convolution) -> Any:
    """One Kronecker factor per dimension, and one for the channels."""
    scipy_sparse = _scipy_sparse()

    sizes = zip(A.kernel.shape, A.spatial, A.out_spatial, A.stride, A.dilation, A.pads)  # type: ignore[arg-type]
    total = scipy_sparse.identity(1, np.float32, format="csr")
    for k, size, length, stride, dilation, (front, _) in sizes:
        at = np.arange(length)[:, None] * stride - front + np.arange(k) * dilation
        at = at % size if A.circular else at
        inside = (at >= 0) & (at < size)
        rows = np.broadcast_to(np.arange(length)[:, None], at.shape)[inside]
        total = scipy_sparse.kron(
            total, scipy_sparse.csr_matrix((np.ones(rows.size, np.float32), (rows, at[inside])), (length, size))
        )
    group = np.ones((A.out_channels // A.groups, A.in_channels // A.groups), np.float32)
    channels = scipy_sparse.kron(scipy_sparse.identity(A.groups, np.float32), group)
    return scipy_sparse.kron(total, channels, format="csr")


def _detected(f: Any, x: Any, args: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Positions by rows, found by asdex."""
    asdex = _asdex()
    fixed = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), args)  # asdex looks at the program, not at the numbers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = asdex.jacobian_sparsity(lambda x: f(x, *fixed), np.ones(x.shape, x.dtype))
    except Exception as error:
        raise LinearAlgebraError(
            f"asdex cannot find the sparsity of this Jacobian ({type(error).__name__}: {error}); use method='dense'"
        ) from None
    order = np.lexsort((found.cols, found.rows))
    return np.asarray(found.rows)[order], np.asarray(found.cols)[order]


def _asdex() -> Any:
    try:
        import asdex
    except Exception as error:  # asdex reaches into JAX's private modules, so that more than ImportError can happen
        try:
            installed = importlib.metadata.version("asdex")
        except importlib.metadata.PackageNotFoundError:
            why = "which is not installed; install lax-linalg[full]"
        else:
            why = (
                f"but asdex {installed} cannot be imported with jax {jax.__version__} ({type(error).__name__}: {error})"
                "; asdex 0.5.2 works with jax 0.11, so install 'jax<0.12' or an asdex that is newer"
            )
        raise LinearAlgebraError(
            f"method='coloured' needs asdex here, {why}, or use method='dense', which gives the same matrix by more "
            "products"
        ) from None
    return asdex


def _scipy_sparse() -> Any:
    import scipy.sparse

    return scipy.sparse


# --- colours ---


def _colors(rows: np.ndarray, columns: np.ndarray, images: tuple[int, ...], m: int, n: int) -> tuple[np.ndarray, int]:
    """A colour for each of n columns, such that no row holds one twice, and the number of colours."""
    colors, count = _periodic(rows, columns, images, m)
    if count <= 1.5 * np.bincount(rows, minlength=1).max():  # no colouring has fewer than a row has entries
        return colors, count
    try:
        asdex = _asdex()
    except LinearAlgebraError:
        return colors, count
    greedy, fewest = asdex.color_cols(asdex.SparsityPattern.from_coo(rows, columns, (m, n)))
    return (np.asarray(greedy, np.int32), int(fewest)) if fewest < count else (colors, count)


def _periodic(rows: np.ndarray, columns: np.ndarray, images: tuple[int, ...], m: int) -> tuple[np.ndarray, int]:
    """Colours that repeat along each axis of an image as soon as no window holds one twice."""
    shape = images or (1,)
    index = np.unravel_index(np.arange(math.prod(shape)), shape)
    periods = []
    for axis, size in enumerate(shape):
        low, high = np.full(m, size), np.full(m, -1)
        np.minimum.at(low, rows, index[axis][columns])
        np.maximum.at(high, rows, index[axis][columns])
        periods.append(max(1, int((high - low).max(initial=0)) + 1))
    colors = np.ravel_multi_index([i % p for i, p in zip(index, periods)], periods)
    return np.asarray(colors, np.int32), math.prod(periods)


# --- entries ---


def coloured_values(
    f: Callable[..., jax.Array], x: jax.Array, args: tuple, coloring: Coloring, chunk: int
) -> jax.Array:
    """The entries at the coloring's positions, [nnz].

    Cost: `coloring.count` products with the linearised f, `chunk` at a time.

    Example:
        >>> print(coloured_values(jnp.square, jnp.array([1.0, 2.0]), (), coloring_of(jnp.square, jnp.zeros(2)), 8))
        [2. 4.]
    """
    return _compressed(f, x, args, coloring, chunk, 0, coloring.count)[_places(coloring)]


def _places(coloring: Coloring) -> tuple[np.ndarray, np.ndarray]:
    """Where each entry stands among the compressed columns or rows."""
    if coloring.mode == "forward":
        return coloring.rows, coloring.colors[coloring.columns]
    return coloring.columns, coloring.colors[coloring.rows]


def _compressed(
    f: Callable[..., jax.Array], x: jax.Array, args: tuple, coloring: Coloring, chunk: int, start: Any, count: int
) -> jax.Array:
    """The products of the colours start … start + count − 1 as columns; of those behind the last colour zeros."""
    out = jax.eval_shape(f, x, *args)
    if coloring.mode == "forward":
        push, domain, codomain = push_of(f, x, args), x, out
    else:
        push, domain, codomain = pull_of(f, x, args), out, x
    return columns_of(push, domain, codomain, count, chunk, start, labels=coloring.colors)


def shared_coloured(
    f: Callable[..., jax.Array], x: jax.Array, args: tuple, coloring: Coloring, chunk: int, mesh: Mesh
) -> jax.Array:
    """The dense matrix, with the products and then the columns shared by the devices of a mesh, whose matrix stays so.

    Where the columns cannot be shared evenly, every device gets all of them.

    Example:
        >>> mesh = jax.make_mesh((1,), ("data",))
        >>> x = jnp.array([1.0, 2.0])
        >>> print(shared_coloured(jnp.square, x, (), coloring_of(jnp.square, x), 8, mesh))
        [[2. 0.]
         [0. 4.]]
    """
    (m, n), axes, devices = coloring.shape, mesh.axis_names, mesh.size
    share, width = -(-coloring.count // devices), n // devices
    even = n % devices == 0
    owner = coloring.columns // max(width, 1)
    longest = int(np.bincount(owner, minlength=1).max(initial=0)) if even else 0
    tables = np.full((3, devices, longest), 0, np.int32)
    tables[0] = m * width  # behind the last entry: dropped
    for d in range(devices if even else 0):
        mine = np.flatnonzero(owner == d)
        places = (coloring.rows[mine].astype(np.int64) * width + coloring.columns[mine] - d * width, *(
            place[mine] for place in _places(coloring)
        ))  # fmt: skip
        for table, values in zip(tables, places):
            table[d, : mine.size] = values

    def local(x: jax.Array, args: tuple) -> jax.Array:
        number = jax.lax.axis_index(axes)
        products = _compressed(f, x, args, coloring, chunk, number * share, share)
        products = jax.lax.all_gather(products, axes, axis=1, tiled=True)
        if not even:
            return placed(products[_places(coloring)], coloring)
        at, *places = jnp.asarray(tables)[:, number]
        zeros = jnp.zeros((m * width,), products.dtype)
        return zeros.at[at].set(products[tuple(places)], mode="drop").reshape(m, width)

    spec = PartitionSpec(None, axes) if even else PartitionSpec()
    return jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=spec, check_vma=False)(x, args)


def placed(values: jax.Array, coloring: Coloring, *, into: Memory | None = None) -> jax.Array:
    """The dense matrix with these values at the coloring's positions; `into` as for `convolution_entries`.

    Example:
        >>> print(placed(jnp.array([2.0, 4.0]), coloring_of(jnp.square, jnp.zeros(2))))
        [[2. 0.]
         [0. 4.]]
    """
    m, n = coloring.shape
    flat = coloring.rows.astype(np.int64) * n + coloring.columns
    flat = flat.astype(np.int32 if m * n < 2**31 else np.int64)
    zeros = matrix_for(("coloured", coloring), (m, n), values.dtype, into).reshape(-1)
    return zeros.at[flat].set(values, unique_indices=True, indices_are_sorted=True).reshape(m, n)
