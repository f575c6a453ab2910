"""What a probe does with each layer, decided from shapes alone: all singular values, a few, or their density."""

from __future__ import annotations

import fnmatch
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.batch import Batch
from lax_linalg.core.operator import LinearOperator
from lax_linalg.errors import DenseLimitError, DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.jacobian.materialize import directions, program_cost
from lax_linalg.jacobian.operator import Jacobian, structure_at
from lax_linalg.jacobian.positions import block_shape, positions_of
from lax_linalg.operators.lazy import Product, Sum
from lax_linalg.spectra.spectrum import EXACT_SIDE
from lax_linalg.verbs.basic import dense_limit, factored_side, require_dense
from lax_linalg.verbs.svd import svdvals

METHODS = ("auto", "exact", "partial", "density")
PARTIAL_STEPS, PARTIAL_RESTARTS, PARTIAL_RTOL = 60, 4, 1e-2
"""Of `la.svds`: steps of the basis, restarts, and the residual in parts of σ₁ with which a curve is drawn."""
NORM_SAMPLES, DENSITY_SAMPLES, DENSITY_STEPS = 16, 8, 48


class How(NamedTuple):
    """How one layer is measured: the static part of its program.

    Example:
        >>> How("exact").examples
        0
    """

    method: str
    k: int = 0
    examples: int = 0  # measured at a time; 0: all of them
    quantities: tuple[str, ...] | None = ("singular_values",)


class LayerPlan(NamedTuple):
    """One row of a plan.

    Attributes:
        layer: its path.
        shape: that of its Jacobians, [B, m, n], or of a stack of layers [L, B, m, n].
        method: "exact", "partial" or "density".
        how: what the method needs to know.
        products: with J or Jᴴ for one probe of all examples, at most; 0 where the structure's own algorithm needs none.
        flops: of one probe of all examples, counted from the program.
        bytes: of the arrays that the method works on at a time.
        why: the reason for the method.

    Example:
        >>> LayerPlan("stem", (2, 3, 4), "exact", How("exact"), 6, 300.0, 96, "3×4 is small").layer
        'stem'
    """

    layer: str
    shape: tuple[int, ...]
    method: str
    how: How
    products: int
    flops: float
    bytes: int
    why: str


class ProbePlan(dict[str, LayerPlan]):
    """The plan of every layer by its path; it prints as a table.

    Example:
        >>> print(ProbePlan({"stem": LayerPlan("stem", (2, 3, 4), "exact", How("exact"), 6, 3e2, 96, "3×4 is small")}))
        layer  shape  method  products  FLOPs    bytes  why
        stem   2×3×4  exact   6         300      96     3×4 is small
    """

    def __str__(self) -> str:
        rows = [("layer", "shape", "method", "products", "FLOPs", "bytes", "why")]
        for p in self.values():
            method = f"{p.method}, k = {p.how.k}" if p.method == "partial" else p.method
            numbers = (_short(p.products), _short(p.flops).ljust(7), _short(p.bytes))
            rows.append((p.layer, "×".join(map(str, p.shape)), method, *numbers, p.why))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
        return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)


def _short(number: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= size:
            return f"{number / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{number:.0f}"


def probe_plan(
    jacobians: Mapping[str, Batch],
    *,
    method: str | Mapping[str, str],
    k: int,
    quantities: tuple[str, ...] | None,
    memory_budget: int,
) -> tuple[ProbePlan, dict[str, str]]:
    """The plan of all layers from their shapes, and path → reason of those that cannot be measured.

    Args:
        jacobians: as `la.layer_jacobians` gives them, with shapes in place of arrays.
        method: for all layers, or by pattern; "auto" is exact where the structure has an algorithm of its own, or
            min(m, n) ≤ 2,048 and two matrices fit the memory budget, and partial otherwise.
        k: values of "partial".
        quantities: of "exact"; None for the matrices themselves.
        memory_budget: bytes that a layer may work on.

    Raises:
        UnknownNameError: for unknown methods, and patterns that match no layer.
        DimensionMismatch: for a k below 1.

    Cost: one abstract evaluation of each layer.

    Example:
        >>> import lax_linalg as la
        >>> J = la.layer_jacobians([jnp.tanh], jnp.zeros((2, 3)), "0")
        >>> options = {"method": "auto", "k": 8, "quantities": ("singular_values",), "memory_budget": 2**20}
        >>> probe_plan(J, **options)[0]["0"].why
        '3×3 is small'
    """
    if not isinstance(k, int) or k < 1:
        raise DimensionMismatch(f"k is a positive number of singular values, got {k!r}")
    wanted = {"*": method} if isinstance(method, str) else dict(method)
    for pattern, name in wanted.items():
        if name not in METHODS:
            raise UnknownNameError.of("probe method", name, METHODS)
        if not any(fnmatch.fnmatchcase(path, pattern) for path in jacobians):
            raise UnknownNameError.of("layer", pattern, jacobians)
    plan, left_out = ProbePlan(), {}
    for path, J in jacobians.items():
        chosen = next((name for pattern, name in wanted.items() if fnmatch.fnmatchcase(path, pattern)), "auto")
        try:
            plan[path] = _layer_plan(path, J, chosen, k, quantities, memory_budget)
        except LinearAlgebraError as error:
            left_out[path] = str(error)
    return plan, left_out


def _layer_plan(
    path: str, J: Batch, method: str, k: int, quantities: tuple[str, ...] | None, memory_budget: int
) -> LayerPlan:
    """The plan of one layer.

    Raises:
        LinearAlgebraError: with the reason why it cannot be measured, as the end of a sentence about the layer.
    """
    *batch, m, n = J.shape
    one: Any = J._one()
    one = one._one() if isinstance(one, Batch) else one  # of a stack of layers
    count, side, itemsize = math.prod(batch), min(m, n), jnp.dtype(J.dtype).itemsize
    program = jax.make_jaxpr(one.f)(one.x, *one.args)
    product = program_cost(program.jaxpr)
    ways = directions(one.f, one.x, one.args, program.jaxpr)
    size = f"{m}×{n}"
    matrices = 2 * m * n * itemsize

    def row(name: str, why: str, products: int, flops: float, each: int, k: int = 0) -> LayerPlan:
        fitting = max(1, memory_budget // max(1, each))
        parts = [b for b in range(1, batch[-1] + 1) if batch[-1] % b == 0 and b <= fitting]  # equal ones
        examples = 0 if parts[-1] == batch[-1] else parts[-1]
        how = How(name, k, examples, quantities if name == "exact" else None)
        working = each * (examples or batch[-1])
        return LayerPlan(path, tuple(J.shape), name, how, count * products, count * flops, working, why)

    def exact(why: str) -> LayerPlan:
        return row("exact", why, side, side * product + 8 / 3 * m * n * side, matrices)

    small = side <= EXACT_SIDE and matrices <= memory_budget
    if method == "auto" and small:
        return exact(f"{size} is small")
    if method in ("auto", "exact") and quantities == ("singular_values",):
        structure = _closed_form(one, memory_budget)
        if structure is not None:
            own = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(structure))
            why = f"{size}, but {type(structure).__name__} has its own algorithm"
            return row("exact", why, 0, 8 / 3 * own / itemsize * min(side, EXACT_SIDE), own)
        positions = positions_of(one.f, one.x, one.args)
        if positions is not None:
            blocks, a, b = block_shape(positions, one.x, one.out)
            if min(a, b) <= EXACT_SIDE and 2 * blocks * a * b * itemsize <= memory_budget:
                flops = min(a, b) * (product + 8 / 3 * blocks * a * b)
                return row("exact", f"{blocks} positions of {a}×{b}", min(a, b), flops, 2 * blocks * a * b * itemsize)
    if method == "exact":
        try:
            require_dense(one)
        except DenseLimitError as error:
            raise LinearAlgebraError(f"is above the limit, measure it by method='partial': {error}") from None
        return exact("asked for")
    if not ways.reverse:
        raise LinearAlgebraError(
            f"is {size}, too large for all values within memory_budget={memory_budget}, and cannot be differentiated "
            "in reverse (a while_loop), which a few values need; raise the budget, or run the loop by jax.lax.scan"
        )
    why = (
        "asked for" if method in ("partial", "density") else f"{size} is above {_limit(side, matrices, memory_budget)}"
    )
    if method == "density":
        steps = min(DENSITY_STEPS, side)
        each = 2 * DENSITY_SAMPLES * steps * (m + n) * itemsize
        found = row("density", why, 2 * DENSITY_SAMPLES * steps, 2 * DENSITY_SAMPLES * steps * product, each)
    else:
        k = min(k, side)
        steps = min(max(PARTIAL_STEPS, 2 * k + 20), side)
        products = 2 * steps * (1 + PARTIAL_RESTARTS) + NORM_SAMPLES
        each = 2 * steps * (m + n) * itemsize
        found = row("partial", why, products, products * product + 8 * steps**2 * (m + n), each, k)
    if each > memory_budget:
        raise LinearAlgebraError(
            f"is {size} and needs {each} bytes for {steps} vectors on both sides, more than memory_budget="
            f"{memory_budget}; raise it"
        )
    return found


def _limit(side: int, matrices: int, memory_budget: int) -> str:
    if side > EXACT_SIDE:
        return f"{EXACT_SIDE} values"
    return f"the memory budget ({_short(matrices)}B of {_short(memory_budget)}B)"


def _closed_form(J: Jacobian, memory_budget: int) -> LinearOperator | None:
    """The structure of a layer, where its singular values need no factorisation of a large matrix."""
    A = jax.eval_shape(functools.partial(structure_at, J.f), J.x, J.args)
    if A is None or isinstance(A, (Product, Sum)):
        return None
    try:
        with factored_side(EXACT_SIDE), dense_limit(memory_budget):
            jax.eval_shape(svdvals, A)
    except DenseLimitError:
        return None
    return A
