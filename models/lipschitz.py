"""Lipschitz constants of networks between a lower bound that an input shows and upper bounds from their operators."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lax_linalg as la
from lax_linalg.core.eager_checks import known_not_finite
from lax_linalg.errors import LinearAlgebraError, NonFiniteError, UnknownNameError
from models.activations import Activation

# Bounds of φ' over the real line; φ acts entry by entry.
SLOPES: dict[str, tuple[float, float]] = {
    "identity": (1.0, 1.0),
    "tanh": (0.0, 1.0),
    "relu": (0.0, 1.0),
    "leaky_relu": (0.2, 1.0),
    "elu": (0.0, 1.0),
    "softplus": (0.0, 1.0),
    "hard_tanh": (0.0, 1.0),
    "erf": (0.0, 2 / np.pi**0.5),
    "gelu": (-0.14, 1.14),  # −0.129 and 1.129, rounded outwards for the tanh form too
    "silu": (-0.0999, 1.0999),
}
ISOMETRIES = ("maxmin", "groupsort4")  # 1-Lipschitz, but not entry by entry


@dataclasses.dataclass(frozen=True)
class Slope:
    """A nonlinearity in a chain: `low ≤ φ' ≤ high` entry by entry, or only `|φ|_Lip = high` if not `pointwise`."""

    low: float
    high: float
    pointwise: bool = True


@dataclasses.dataclass(frozen=True)
class Residual:
    """x + α f(x) in a chain, f given by its own parts."""

    alpha: Any
    parts: tuple


Part = la.LinearOperator | Slope | Residual


def slope(given: str | Activation) -> Slope:
    """The slope bounds of an activation.

    Args:
        given: an activation by name or function.

    Returns:
        `Slope`.

    Raises:
        UnknownNameError: for an activation whose slopes are not known.

    Example:
        >>> slope("tanh")
        Slope(low=0.0, high=1.0, pointwise=True)
    """
    name = given if isinstance(given, str) else getattr(given, "__name__", str(given))
    if name in ISOMETRIES:
        return Slope(-1.0, 1.0, pointwise=False)
    if name not in SLOPES:
        raise UnknownNameError.of("slope bound of activation", name, [*SLOPES, *ISOMETRIES])
    return Slope(*SLOPES[name])


class LipschitzBounds(NamedTuple):
    """lower ≤ |f|_Lip ≤ tighter ≤ product, in the Euclidean norm; `lower` is 0 where no inputs were given.

    Example:
        >>> LipschitzBounds(1.0, 2.0, 3.0).tighter
        2.0
    """

    lower: jax.Array | float
    tighter: jax.Array | float
    product: jax.Array | float


def lipschitz_bound(model: Any, input_shape: Sequence[int], inputs: jax.Array | None = None) -> LipschitzBounds:
    """Bounds on the Lipschitz constant of a network between its input and output in the Euclidean norm.

    product: Π ‖W_l‖₂ · |φ|_Lip over the layers, 1 + |α| |f|_Lip for a residual block. tighter: every φ' is c + r e with
    |e| ≤ 1, so W_m D W_{m−1} D … W_1 expands into products of *composed* operators,
    b_m = c^{m−1} ‖W_m ⋯ W_1‖ + Σ_{k<m} b_k r c^{m−k−1} ‖W_m ⋯ W_{k+1}‖, at most the product bound by the triangle
    inequality; for φ' ∈ [0, 1] this is Combettes and Pesquet's θ_m / 2^{m−1}. lower: the largest ‖J(x)‖₂ over `inputs`.

    Args:
        model: with `parts(input_shape)`: `MLP`, `ResNet`, `Discriminator`, a GAN (its discriminator).
        input_shape: of one example.
        inputs: [B, *input_shape], for the lower bound.

    Returns:
        `LipschitzBounds`, exact to rounding (singular values of the materialised operators).

    Raises:
        LinearAlgebraError: for models that do not give their parts.
        UnknownNameError: for an activation whose slopes are not known.
        NonFiniteError: for parameters or inputs that hold NaN or infinity.

    Cost: m(m + 1)/2 norms of products of operators for m layers between residual blocks; the Jacobian of one input
    after the other and its norm. All of it is one program, compiled once for each model and shape.

    Example:
        >>> from flax import nnx
        >>> from models.mlp import MLP
        >>> mlp = MLP(input_shape=(4,), num_classes=2, widths=(8,), activation="relu", rngs=nnx.Rngs(0))
        >>> bounds = lipschitz_bound(mlp, (4,), jnp.ones((1, 4)))
        >>> bool(bounds.lower <= bounds.tighter <= bounds.product * 1.000001)
        True

    Source: Szegedy et al., arXiv:1312.6199, section 4.3 (product); Combettes and Pesquet, arXiv:1903.01014.
    """
    if not hasattr(model, "parts"):
        raise LinearAlgebraError(
            f"{type(model).__name__} gives no parts(input_shape): its operators and slopes in order"
        )
    graphdef, state = nnx.split(model)
    bounds = _bounds(graphdef, tuple(input_shape), nnx.as_pure(state), inputs)
    if any(known_not_finite(bound) for bound in bounds):
        raise NonFiniteError("lipschitz_bound needs finite numbers, but the model's parameters or the inputs are not")
    return bounds


@functools.partial(jax.jit, static_argnums=(0, 1))
def _bounds(graphdef: Any, input_shape: tuple[int, ...], state: Any, inputs: jax.Array | None) -> LipschitzBounds:
    model: Any = nnx.merge(graphdef, state)
    parts = model.parts(input_shape)
    lower: Any = 0.0
    if inputs is not None:
        norm = lambda x: la.opnorm(la.jacobian(lambda x: model(x[None])[0], x))  # noqa: E731
        lower = jnp.max(jax.lax.map(norm, inputs))
    return LipschitzBounds(lower, chain_bound(parts, _composed), chain_bound(parts, _separate))


def chain_bound(parts: Sequence[Part], segment: Callable[[list, list], Any]) -> Any:
    """The bound of a chain: its residual blocks and the stretches between them, one after the other."""
    bound: Any = 1.0
    operators: list[la.LinearOperator] = []
    slopes: list[Slope] = []  # slopes[i] follows operators[i]

    def close() -> Any:
        return segment(operators, slopes) if operators else 1.0

    for part in parts:
        if isinstance(part, la.LinearOperator):
            if len(slopes) < len(operators):
                operators[-1] = part @ operators[-1]
            else:
                operators.append(part)
        elif isinstance(part, Slope) and len(operators) == len(slopes) + 1:
            slopes.append(part)
        else:
            bound, operators, slopes = bound * close(), [], []
            if isinstance(part, Slope):
                bound = bound * max(abs(part.low), abs(part.high))
            else:
                bound = bound * (1 + jnp.abs(part.alpha) * chain_bound(part.parts, segment))
    return bound * close()


def _separate(operators: list, slopes: list) -> Any:
    bound: Any = 1.0
    for A in operators:
        bound = bound * la.opnorm(A)
    for s in slopes:
        bound = bound * max(abs(s.low), abs(s.high))
    return bound


def _composed(operators: list, slopes: list) -> Any:
    bounds: list[Any] = []  # of the maps up to each operator
    for m, _ in enumerate(operators):
        total: Any = 0.0
        product, weight = operators[m], 1.0
        for k in range(m, -1, -1):  # product is W_m … W_k, with c's in between
            norm = weight * la.opnorm(product)
            if k == 0:
                total = total + norm
                break
            before = slopes[k - 1]
            centre, spread = (before.low + before.high) / 2, (before.high - before.low) / 2
            if not before.pointwise:
                centre, spread = 0.0, max(abs(before.low), abs(before.high))
            total = total + bounds[k - 1] * spread * norm
            if not centre:
                break
            product, weight = la.Dense(la.materialize(product @ operators[k - 1])), weight * abs(centre)
        bounds.append(total)
    last = slopes[-1] if len(slopes) == len(operators) else None
    return bounds[-1] * (max(abs(last.low), abs(last.high)) if last else 1.0)
