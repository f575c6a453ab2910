"""Jacobians along a scan: of every layer of a deep stack, and of a recurrent state at every time, without Python loops.

A scan h_t = step(h_{t−1}, s_t) is run once for its states; the Jacobian ∂h_t/∂h_{t−1} is then the derivative of one
step at (h_{t−1}, s_t), and `la.Stack` maps over t. Compile time depends neither on the depth nor on the time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lax_linalg.core.batch import Batch, Stack
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, NonFiniteError
from lax_linalg.jacobian.operator import DEFAULT_MEMORY_BUDGET, Jacobian, function_name, hoist, require_inexact


def scan_jacobians(
    step: Callable[..., Any],
    carry: Any,
    xs: Any,
    *args: Any,
    batched: bool = False,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    name: str | None = None,
) -> Stack:
    """The Jacobian of every layer of a scanned stack at the layer's own input, J_l = ∂h_l / ∂h_{l−1}.

    Args:
        step: the scan's body, (h, x_l, *args) -> h' or (h', y), as `jax.lax.scan` takes it; h' must have h's shapes.
            Arrays inside a callable pytree are data.
        carry: h_0, an array or a pytree of arrays, which count as one vector in the order of the tree.
        xs: what differs from layer to layer, stacked parameters say: a pytree of arrays [L, …].
        *args: further arguments of the body, held fixed.
        batched: the carry is a batch [B, …] of independent examples, on which the body works as a whole.
        memory_budget: bytes that the chunks of tangents of one layer may take.
        name: what messages call the stack; the body's name unless given.

    Returns:
        A `Stack` over depth: `la.materialize(J)` is [L, n, n], `la.svdvals(J)` [L, n], `J[l]` one `Jacobian`; with
        `batched` the members are batches, [L, B, n, n] and [L, B, n].

    Raises:
        LinearAlgebraError: for integer carries, or a body that does not give the carry's shapes back.
        DimensionMismatch: for xs without a common leading axis.
        NonFiniteError: if a layer turns a finite carry into NaN or infinity, naming the layer (outside of `jit`).

    Cost: one forward scan, which keeps the L carries; matrices are formed layer by layer when a verb asks for them.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> W = jnp.stack([2 * jnp.eye(2), 3 * jnp.eye(2)])
        >>> J = la.scan_jacobians(lambda h, W: (jnp.tanh(W @ h), None), jnp.zeros(2), W)
        >>> print(la.svdvals(J))
        [[2. 2.]
         [3. 3.]]
    """
    return _along(step, carry, xs, args, batched, memory_budget, "layer", name)


def recurrent_jacobians(
    cell: Callable[..., Any], h0: Any, xs: Any, *args: Any, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Stack:
    """The state-to-state Jacobian of a recurrent cell at every time, J_t = ∂h_t / ∂h_{t−1}, along one sequence.

    The product J_T ⋯ J_1 is the derivative of the last state by the first; `la.lyapunov_exponents` and
    `la.finite_time_lyapunov` take the result as it is and never form the product, which would over- or underflow.

    Args:
        cell: (h, x_t, *args) -> h' or (h', y). Flax NNX cells fit: `nnx.GRUCell(…)`. Arrays inside a callable pytree
            are data, so that equal cells share one compilation.
        h0: the first state, an array or a pytree of arrays (an LSTM's pair), which count as one vector in the order of
            the tree.
        xs: the inputs, a pytree of arrays [T, …]; for several sequences use `jax.vmap`.
        *args: further arguments of the cell, held fixed.
        memory_budget: bytes that the chunks of tangents of one step may take.

    Returns:
        A `Stack` over time, [T, n, n] when materialised; `J.x[0]` holds the states h_0 … h_{T−1}, `J.x[1]` the inputs.

    Raises:
        LinearAlgebraError: for integer states, or a cell that does not give the state's shapes back.
        DimensionMismatch: for xs without a common leading axis.
        NonFiniteError: if a step turns a finite state into NaN or infinity, naming the time (outside of `jit`).

    Cost: one forward pass of the cell; matrices are formed step by step when a verb asks for them.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> W = jnp.diag(jnp.array([2.0, 0.5]))
        >>> J = la.recurrent_jacobians(lambda h, x: W @ h + x, jnp.zeros(2), jnp.zeros((300, 2)))
        >>> print(jnp.round(la.lyapunov_exponents(J).exponents / jnp.log(2), 4))
        [ 1. -1.]

    Source: Engelken, Wolf & Abbott, arXiv:2006.02427 (Lyapunov spectra of recurrent networks).
    """
    return _along(cell, h0, xs, args, False, memory_budget, "time step")


@dataclasses.dataclass(frozen=True)
class Step:
    """One step as a function of the carry as one array: (h, x_l, arrays, args) -> h'.

    Attributes:
        function: the body, with its arrays taken out by `hoist`.
        pair: whether it returns (h', y).
        carry: the tree, shapes and dtypes of a carry of several arrays, which is then given as one vector; or None.
        batched: the body works on batches; here it gets one of a single example.

    Example:
        >>> print(Step(lambda h, x: (h + x, None), True)(jnp.zeros(2), 1.0, (), ()))
        [1. 1.]
    """

    function: Callable[..., Any]
    pair: bool
    carry: tuple[Any, tuple[jax.ShapeDtypeStruct, ...]] | None = None
    batched: bool = False

    @property
    def __name__(self) -> str:
        return function_name(self.function)

    def __call__(self, h: jax.Array, x: Any, arrays: tuple, args: tuple) -> jax.Array:
        state = jax.tree.map(lambda leaf: leaf[None], self.unravel(h)) if self.batched else self.unravel(h)
        state = self.advance(state, x, arrays, args)
        return self.ravel(jax.tree.map(lambda leaf: leaf[0], state) if self.batched else state)

    def advance(self, state: Any, x: Any, arrays: tuple, args: tuple) -> Any:
        """The body itself, on the carry as the user has it."""
        out = self.function(state, *arrays, x, *args)
        return out[0] if self.pair else out

    def unravel(self, h: jax.Array) -> Any:
        if self.carry is None:
            return h
        tree, avals = self.carry
        ends = np.cumsum([math.prod(a.shape) for a in avals])[:-1]
        return jax.tree.unflatten(tree, [p.reshape(a.shape).astype(a.dtype) for p, a in zip(jnp.split(h, ends), avals)])

    def ravel(self, state: Any) -> jax.Array:
        if self.carry is None:
            return state
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(state)])


@dataclasses.dataclass(frozen=True)
class StepAt:
    """Makes the Jacobian of one step: ((h, x_l), arrays, args) -> `Jacobian`, or a `Batch` of them."""

    step: Step
    memory_budget: int

    def __call__(self, at: tuple[jax.Array, Any], arrays: tuple, args: tuple) -> Jacobian | Batch:
        h, x = at
        if self.step.batched:
            return Batch(_Example(self), h, (x, arrays, args))
        return self.at(h, x, arrays, args)

    def at(self, h: jax.Array, x: Any, arrays: tuple, args: tuple) -> Jacobian:
        out = jax.ShapeDtypeStruct(h.shape, h.dtype)
        return Jacobian(self.step, h, out, (x, arrays, args), self.memory_budget)


@dataclasses.dataclass(frozen=True)
class _Example:
    """`StepAt` of one example of a batched carry: (h_b, x_l, arrays, args) -> `Jacobian`."""

    make: StepAt

    def __call__(self, h: jax.Array, x: Any, arrays: tuple, args: tuple) -> Jacobian:
        return self.make.at(h, x, arrays, args)


def _along(
    function: Callable[..., Any],
    carry: Any,
    xs: Any,
    args: tuple,
    batched: bool,
    memory_budget: int,
    unit: str,
    name: str | None = None,
) -> Stack:
    """Run the scan for its carries and put the steps' Jacobians at them."""
    function, arrays = hoist(function)
    name = name or function_name(function)
    carry = jax.tree.map(jnp.asarray, carry)
    leaves, tree = jax.tree.flatten(carry)
    for leaf in leaves:
        require_inexact(f"the carry of {name}", leaf.dtype, "start from floating-point numbers")
    xs = jax.tree.map(jnp.asarray, xs)
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(xs)}
    if not leaves or len(lengths) != 1 or None in lengths or lengths == {0}:
        shapes = [list(leaf.shape) for leaf in jax.tree.leaves(xs)]
        raise DimensionMismatch(
            f"{name} is scanned over the leading axis of xs, which all its arrays must share; got shapes {shapes}"
        )
    if batched and (any(leaf.ndim == 0 for leaf in leaves) or len({leaf.shape[0] for leaf in leaves}) != 1):
        shapes = [list(leaf.shape) for leaf in leaves]
        raise DimensionMismatch(f"a batched carry has one leading axis [B, …], got shapes {shapes}")
    single = len(leaves) == 1 and leaves[0] is carry
    one = tuple(jax.ShapeDtypeStruct(leaf.shape[batched:], leaf.dtype) for leaf in leaves)
    pair = _gives_pair(function, carry, jax.tree.map(lambda leaf: leaf[0], xs), arrays, args, name)
    step = Step(function, pair, None if single else (tree, one), batched)

    def advance(state: Any, x: Any) -> tuple[Any, jax.Array]:
        flat = jax.vmap(step.ravel)(state) if batched else step.ravel(state)
        return step.advance(state, x, arrays, args), flat

    last, states = jax.lax.scan(advance, carry, xs)
    _require_finite(states, last, unit, name)
    return Stack(StepAt(step, max(1, memory_budget)), (states, xs), (arrays, args))


def _gives_pair(function: Callable[..., Any], carry: Any, x: Any, arrays: tuple, args: tuple, name: str) -> bool:
    """Whether the body returns (h', y) rather than h'."""
    out = jax.eval_shape(lambda carry, x, arrays, args: function(carry, *arrays, x, *args), carry, x, arrays, args)

    def kind(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: (tuple(leaf.shape), jnp.dtype(leaf.dtype).name), tree)

    if kind(out) == kind(carry):
        return False
    if isinstance(out, tuple) and len(out) == 2 and kind(out[0]) == kind(carry):
        return True
    raise LinearAlgebraError(
        f"{name} must give the carry's shapes and dtypes back, as h' or (h', y): it takes {kind(carry)} and returns "
        f"{kind(out)}"
    )


def _require_finite(states: jax.Array, last: Any, unit: str, name: str) -> None:
    """Raise `NonFiniteError` naming the first step that turned finite numbers into others; traced values pass."""
    flat = [leaf for leaf in jax.tree.leaves(last) if not isinstance(leaf, Tracer)]
    if isinstance(states, Tracer) or not flat:
        return
    if all(np.isfinite(np.asarray(leaf)).all() for leaf in flat) and np.isfinite(np.asarray(states)).all():
        return
    finite = np.asarray(np.isfinite(np.asarray(states)).reshape(states.shape[0], -1).all(axis=1))
    if not finite[0]:
        raise NonFiniteError(f"the first carry of {name} holds NaN or infinity")
    bad = int(np.argmin(finite)) - 1 if not finite.all() else states.shape[0] - 1
    raise NonFiniteError(
        f"{unit} {bad} of {states.shape[0]} of {name} turns a finite carry into NaN or infinity; look at its "
        "parameters and at the size of its input"
    )
