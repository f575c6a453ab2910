"""How a Jacobian's entries are formed: by structure, by coloured or by all products; chosen by counted cost."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lax_linalg.errors import LinearAlgebraError, UnknownNameError
from lax_linalg.jacobian.coloring import Coloring, coloring_of, coloured_values, placed, shared_coloured
from lax_linalg.jacobian.graph import Graph, derivative_graph
from lax_linalg.jacobian.materialize import (
    chosen_mode,
    chunk_size,
    dense_jacobian,
    directions,
    primitive_names,
    program_cost,
)
from lax_linalg.jacobian.slabs import Memory
from lax_linalg.jacobian.structured import (
    peak_entries,
    shared_entries,
    shared_side,
    structured_cost,
    structured_entries,
)

METHODS = ("auto", "dense", "structured", "coloured")
SCATTER = 20.0
"""FLOPs of matrix products that placing one entry of a sparse matrix takes the time of."""
SMALL = 2**14
"""Matrices of fewer entries are not worth a colouring."""
FEW = 16
"""So many products are made as they are: the pattern of a whole network with ten outputs takes minutes to detect."""


class Route(NamedTuple):
    """The way that was chosen and what each would cost.

    Attributes:
        method: "dense", "structured" or "coloured".
        flops: method -> estimated FLOPs, in those of matrix products, of the methods that can serve.

    Example:
        >>> import lax_linalg as la
        >>> la.jacobian(jnp.tanh, jnp.zeros(3)).route()
        Route(method='structured', flops={'dense': 36.0, 'structured': 18.0})
    """

    method: str
    flops: dict[str, float]


class _Plan(NamedTuple):
    route: Route
    graph: Graph | None
    coloring: Coloring | None


def plan(
    f: Callable[..., jax.Array], x: Any, args: tuple, method: str, mode: str, memory_budget: int, mesh: Mesh | None
) -> _Plan:
    """Choose the route; see `Route`.

    Raises:
        UnknownNameError: for an unknown method.
        LinearAlgebraError: for a method that cannot serve this function.

    Example:
        >>> plan(jnp.tanh, jnp.zeros(3), (), "dense", "auto", 2**20, None).route.method
        'dense'
    """
    if method not in METHODS:
        raise UnknownNameError.of("jacobian method", method, METHODS)
    program = jax.make_jaxpr(f)(x, *args)
    m, n = sum(math.prod(v.aval.shape) for v in program.jaxpr.outvars), math.prod(x.shape)
    product = program_cost(program.jaxpr)
    only = directions(f, x, args, program.jaxpr).only
    side = {"forward": n, "reverse": m}[chosen_mode(mode, m, n, only)]
    flops = {"dense": side * product + 2.0 * m * n}
    if method == "dense" or mode != "auto":  # a direction asks for products
        return _Plan(Route("dense", flops), None, None)
    graph = derivative_graph(f, x, args, required=method == "structured")
    itemsize = jnp.dtype(x.dtype).itemsize
    peak = 0 if graph is None else peak_entries(graph, (m, n), shared=mesh is not None) * itemsize
    if graph is not None and (method == "structured" or peak <= memory_budget):
        if mesh is None or shared_side(graph, (m, n), mesh.size) is not None:
            flops["structured"] = structured_cost(graph, (m, n))
        elif method == "structured":
            raise LinearAlgebraError(
                f"{mesh.size} devices cannot share this {m}×{n} Jacobian evenly by its structure; use method='auto'"
            )
    coloring = None
    pays = only is None and m * n >= SMALL and side > FEW and _local(program.jaxpr, graph)
    if method == "coloured" or (method == "auto" and pays):
        coloring = _coloring(f, x, args, method)
        if coloring is not None:
            flops["coloured"] = coloring.count * product + SCATTER * coloring.rows.size + 2.0 * m * n
    chosen = method if method != "auto" else min(flops, key=flops.__getitem__)
    return _Plan(Route(chosen, flops), graph, coloring)


def _local(jaxpr: Any, graph: Graph | None) -> bool:
    """Whether the program looks as if most entries were zero and colours were worth looking for."""
    if graph is not None and len(graph.nodes) <= 2:
        return False  # one map is assembled directly
    names = set(primitive_names(jaxpr))
    return bool(names & {"conv_general_dilated", "reduce_window_max", "reduce_window_sum"})


def _coloring(f: Any, x: Any, args: tuple, method: str) -> Coloring | None:
    """The coloring; where none can be found, the reason is raised if asked for by name, and said once otherwise."""
    try:
        return coloring_of(f, x, args)
    except LinearAlgebraError as error:
        if method == "coloured":
            raise
        if "cannot be imported" in str(error):
            warnings.warn(f"Jacobians are formed by all products: {error}", RuntimeWarning, stacklevel=2)
        return None


def jacobian_entries(
    f: Callable[..., jax.Array],
    x: jax.Array,
    args: tuple = (),
    *,
    method: str = "auto",
    mode: str = "auto",
    memory_budget: int = 64 * 2**20,
    mesh: Mesh | None = None,
    into: Memory | None = None,
) -> jax.Array:
    """∂ vec f(x, *args) / ∂ vec x as a matrix [m, n], by the route of the least counted cost; not compiled by itself.

    Args:
        f: function of (x, *args) that gives one array.
        x: where to differentiate, n = x.size.
        args: further arguments of f, held fixed.
        method: "auto", "structured" (from the derivative's graph), "coloured" (columns that share no row travel
            together) or "dense" (all min(m, n) products). All give the exact matrix.
        mode, memory_budget, mesh: as for `dense_jacobian`; a mode makes "auto" dense. With a mesh, products and
            columns are shared by its devices, of compositions of convolutions image rows and rows of the matrix.
        into: what writes by a pattern asks it for the matrix to write into, see `convolution_entries`.

    Raises:
        UnknownNameError: for an unknown method or mode.
        LinearAlgebraError: for a method that cannot serve this function.

    Example:
        >>> print(jacobian_entries(jnp.square, jnp.array([1.0, 2.0])))
        [[2. 0.]
         [0. 4.]]
    """
    chosen = plan(f, x, args, method, mode, memory_budget, mesh)
    if chosen.route.method == "dense":
        return dense_jacobian(f, x, args, mode=mode, memory_budget=memory_budget, mesh=mesh)
    out = jax.eval_shape(f, x, *args)
    if chosen.route.method == "structured":
        assert chosen.graph is not None
        if mesh is not None:
            return shared_entries(f, x, args, out, mesh)
        return structured_entries(chosen.graph, (out.size, x.size), out.dtype, into=into)
    assert chosen.coloring is not None
    chunk = chunk_size(f, x, args, memory_budget)
    if mesh is not None:
        return shared_coloured(f, x, args, chosen.coloring, chunk, mesh)
    return placed(coloured_values(f, x, args, chosen.coloring, chunk), chosen.coloring, into=into)
