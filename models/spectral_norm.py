"""`SpectralNorm`: a layer whose kernel is divided by its largest singular value wherever that is above one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from models.checks import positive

VIEWS = ("operator", "kernel")
RESIDUAL, MOST_STEPS = 1e-3, 1_000  # of the power iteration at construction


class SpectralState(nnx.Variable):
    """A singular vector that the power iteration carries from step to step; no parameter."""


class SpectralNorm(nnx.Module):
    """A layer with Ŵ = W / max{1, σ̂₁(W)}, σ̂₁ = uᵀ A v by power iteration with persistent vectors u, v.

    A is the layer's true linear operator at its input size, or its kernel's matrix [k… cin, cout], whose norm can be
    several times too small for a convolution. The parameter W stays as it is (a reparametrisation): the gradient runs
    through W / σ̂₁ with u and v constant, ∂σ̂₁/∂A = u vᵀ. In training each call does `iterations` steps first; in
    evaluation (`model.eval()`) the vectors stay. σ̂₁ ≤ σ₁ always: the estimate is from below. So that it holds before
    any training, power steps at construction go on until ‖Aᵀu − σ̂₁v‖ ≤ 10⁻³ σ̂₁, at most 1,000 of them.

    Args:
        layer: with a `kernel` and `operator(input_shape)`, such as `Dense`, `Conv` or `LocallyConnected`.
        input_shape: of one example; needed for the operator of layers on images.
        on: "operator" or "kernel".
        iterations: power steps a call in training.
        start: power steps at construction, at the least.
        rngs: source of the starting vectors.

    Raises:
        UnknownNameError: for another `on`.
        DimensionMismatch: for an input of another size than `input_shape`.
        LinearAlgebraError: for layers without kernel or operator.

    Cost: two products with A and Aᵀ a step, for one example whatever the batch.

    Example:
        >>> from models.dense import Dense
        >>> fives = Dense(3, 3, kernel_init=nnx.initializers.constant(5.0), rngs=nnx.Rngs(0))
        >>> layer = SpectralNorm(fives, rngs=nnx.Rngs(1))
        >>> round(float(layer.sigma()), 4), round(float(la.opnorm(layer.operator((3,)))), 4)
        (15.0, 1.0)

    Source: Miyato et al., arXiv:1802.05957, algorithm 1 and eq. 8 (there W / σ̂₁, here only where σ̂₁ > 1).
    """

    def __init__(
        self,
        layer: Any,
        *,
        input_shape: Sequence[int] | None = None,
        on: str = "operator",
        iterations: int = 1,
        start: int = 30,
        rngs: nnx.Rngs,
    ):
        if on not in VIEWS:
            raise UnknownNameError.of("spectral norm of the", on, VIEWS)
        if not hasattr(layer, "kernel") or not hasattr(layer, "operator"):
            raise LinearAlgebraError(f"SpectralNorm takes a layer with kernel and operator, got {type(layer).__name__}")
        self.layer = layer
        self.on, self.iterations = on, positive("iterations", iterations)
        self.input_shape = tuple(input_shape) if input_shape is not None else (layer.kernel.shape[0],)
        self.deterministic = False
        A = self._map(layer.kernel[...])
        u, v = (jax.random.normal(rngs.params(), (n,), A.dtype) for n in A.shape)
        pair = _power(A, u / jnp.linalg.norm(u), v / jnp.linalg.norm(v), positive("start", start, minimum=0))
        u, v = _settled(A, *pair)
        self.u, self.v = SpectralState(u), SpectralState(v)

    def _with(self, kernel: jax.Array) -> Any:
        """The layer with another kernel."""
        graphdef, state = nnx.split(self.layer)
        copy: Any = nnx.merge(graphdef, nnx.as_pure(state))
        copy.kernel = nnx.Param(kernel)
        return copy

    def _map(self, kernel: jax.Array) -> la.LinearOperator:
        """What is normalised, as a map."""
        if self.on == "kernel":
            return la.Dense(kernel.reshape(-1, kernel.shape[-1]).T)
        return self._with(kernel).operator(self.input_shape)

    def sigma(self) -> jax.Array:
        """σ̂₁ = uᵀ A v with the present vectors; differentiable in the kernel.

        Returns:
            A scalar ≤ σ₁.

        Example:
            >>> from models.dense import Dense
            >>> bool(SpectralNorm(Dense(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1)).sigma() < 1.001)
            True
        """
        u, v = jax.lax.stop_gradient((self.u[...], self.v[...]))
        return u @ (self._map(self.layer.kernel[...]) @ v)

    def normalised(self) -> jax.Array:
        """Ŵ = W / max{1, σ̂₁}.

        Returns:
            An array of the kernel's shape and dtype.

        Example:
            >>> from models.dense import Dense
            >>> SpectralNorm(Dense(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1)).normalised().shape
            (3, 2)
        """
        kernel = self.layer.kernel[...]
        return kernel / jnp.maximum(1, self.sigma()).astype(kernel.dtype)

    def operator(self, input_shape: Sequence[int]) -> la.LinearOperator:
        """The linear part with Ŵ.

        Args:
            input_shape: of one example.

        Returns:
            The operator of the layer's structure.

        Example:
            >>> from models.dense import Dense
            >>> SpectralNorm(Dense(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1)).operator((3,)).shape
            (2, 3)
        """
        return self._with(self.normalised()).operator(input_shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        d = len(self.input_shape)
        if self.on == "operator" and x.shape[x.ndim - d :] != self.input_shape:
            raise DimensionMismatch(
                f"SpectralNorm was made for inputs {self.input_shape}, got {x.shape}: the operator's norm depends on it"
            )
        if not self.deterministic:
            A = self._map(jax.lax.stop_gradient(self.layer.kernel[...]))
            self.u[...], self.v[...] = _power(A, self.u[...], self.v[...], self.iterations)
        return self._with(self.normalised())(x)


def _power(A: la.LinearOperator, u: jax.Array, v: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """`steps` times v ← Aᵀu/‖Aᵀu‖, u ← Av/‖Av‖; a vector that A maps to zero stays."""

    def step(_: int, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        u, v = pair
        v = _unit(A.T @ u, v)
        return _unit(A @ v, u), v

    if steps <= 2:
        for i in range(steps):
            u, v = step(i, (u, v))
        return u, v
    return jax.lax.fori_loop(0, steps, step, (u, v))


def _settled(A: la.LinearOperator, u: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Power steps from u = A v / ‖A v‖ until the residual is small."""

    residual = max(RESIDUAL, 4 * float(jnp.finfo(A.dtype).eps))  # which half precision cannot fall below

    def unsettled(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        steps, u, v = state
        image = A.T @ u
        return (steps < MOST_STEPS) & (jnp.linalg.norm(image - (image @ v) * v) > residual * jnp.linalg.norm(image))

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        steps, u, v = state
        return steps + 1, *_power(A, u, v, 1)

    return jax.lax.while_loop(unsettled, step, (jnp.array(0), *_power(A, u, v, 1)))[1:]


def _unit(x: jax.Array, otherwise: jax.Array) -> jax.Array:
    norm = jnp.linalg.norm(x)
    return jnp.where(norm > 0, x / jnp.where(norm > 0, norm, 1), otherwise)
