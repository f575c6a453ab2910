"""`DeepLinear`: a product of matrices, and the exact course of its singular values under gradient flow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import LinearAlgebraError
from models.catalog import registry
from models.checks import positive
from models.dense import Dense
from models.initializers import Initializer
from models.lipschitz import Part
from models.mean_field import HiddenLayers, variances


@registry.register("deep_linear")
class DeepLinear(nnx.Module):
    """y = W_L ⋯ W_1 x on flattened inputs: as a function linear, as an optimisation problem not.

    Args:
        input_shape: one example's shape.
        num_classes: size of the output.
        depth: number of matrices L.
        width: size in between.
        kernel_init: initializer or its name.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1.

    Cost: O(L width²) an example.

    Example:
        >>> model = DeepLinear(input_shape=(4,), num_classes=3, depth=3, width=5, rngs=nnx.Rngs(0))
        >>> model(jnp.ones((2, 4))).shape, model.operator().shape
        ((2, 3), (3, 4))

    Source: Saxe, McClelland and Ganguli, arXiv:1312.6120.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        depth: int = 3,
        width: int = 64,
        kernel_init: str | Initializer = "orthogonal",
        rngs: nnx.Rngs,
    ):
        fan = [math.prod(input_shape), *[width] * (positive("depth", depth) - 1), num_classes]
        self.layers = nnx.List(
            [Dense(m, n, use_bias=False, kernel_init=kernel_init, rngs=rngs) for m, n in itertools.pairwise(fan)]
        )

    def operator(self, input_shape: Sequence[int] | None = None) -> la.LinearOperator:
        """The whole map W_L ⋯ W_1.

        Args:
            input_shape: not needed.

        Returns:
            `la.Dense` [num_classes, inputs].

        Example:
            >>> DeepLinear(input_shape=(4,), num_classes=3, rngs=nnx.Rngs(0)).operator().shape
            (3, 4)
        """
        product = self.layers[0].kernel[...].T
        for layer in self.layers[1:]:
            product = layer.kernel[...].T @ product
        return la.Dense(product)

    def parts(self, input_shape: Sequence[int]) -> list[Part]:
        """The operators in order, for `lipschitz_bound`.

        Args:
            input_shape: of one example.

        Returns:
            The layers' operators.

        Example:
            >>> len(DeepLinear(input_shape=(4,), num_classes=3, rngs=nnx.Rngs(0)).parts((4,)))
            3
        """
        return [layer.operator() for layer in self.layers]

    def mean_field(self) -> HiddenLayers:
        """The square matrices in between.

        Example:
            >>> DeepLinear(input_shape=(4,), num_classes=3, rngs=nnx.Rngs(0)).mean_field().variances.keys()
            dict_keys(['layers/1'])
        """
        between = range(1, len(self.layers) - 1)
        return HiddenLayers("identity", {f"layers/{i}": variances(self.layers[i].kernel[...]) for i in between})

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers:
            x = layer(x)
        return x


def saxe_mode(t: jax.Array, s: jax.Array | float, u0: jax.Array | float, depth: int, tau: float = 1.0) -> jax.Array:
    """The strength u(t) of a mode of a deep linear network under gradient flow, τ u' = L u^{2−2/L} (s − u), u(0) = u₀.

    It holds for ½‖W_L ⋯ W_1 X − Y‖² with white inputs, where s is the mode's singular value of the input–output
    correlation, from balanced layers that share the mode's singular vectors and have the strength u₀^{1/L} each. Closed
    forms: L = 1, u = s + (u₀ − s) e^{−t/τ}; L = 2, u = s e^{2st/τ}/(e^{2st/τ} − 1 + s/u₀). For L ≥ 3 the time at which
    the mode has a given strength is an integral, taken by Gauss–Legendre quadrature, and inverted by bisection.

    Args:
        t: times ≥ 0, an array of any shape.
        s: the mode's final strength, > 0.
        u0: its strength at the start, in (0, s).
        depth: number of layers L.
        tau: 1 / learning rate, in the units of t.

    Returns:
        u(t), an array of t's shape.

    Raises:
        LinearAlgebraError: unless 0 < u0 < s.
        DimensionMismatch: for a depth < 1.

    Cost: O(1) a time for L ≤ 2, 200 quadratures of 64 nodes a time else.

    Example:
        >>> [round(float(saxe_mode(t, 2.0, 0.01, depth=2)), 4) for t in (0.0, 1.0, 10.0)]
        [0.01, 0.4306, 2.0]

    Source: Saxe, McClelland and Ganguli, arXiv:1312.6120, eqs. 6 and 7 (L = 2) and 14 (any depth).
    """
    L = positive("depth", depth)
    t = jnp.asarray(t, jnp.result_type(float))
    if not 0 < u0 < s:
        raise LinearAlgebraError(f"a mode grows from u0 to s, so 0 < u0 < s is needed, got u0 = {u0}, s = {s}")
    if L == 1:
        return s + (u0 - s) * jnp.exp(-t / tau)
    if L == 2:
        decay = jnp.exp(-2 * s * t / tau)
        return s / (1 + (s / u0 - 1) * decay)
    # In y = log(u/(s − u)), dt = τ dy / (L s u^{1 − 2/L}): smooth, and u(y) fills (0, s).
    nodes, weights = (jnp.asarray(a) for a in np.polynomial.legendre.leggauss(64))
    start = jnp.log(u0 / (s - u0))

    def elapsed(y: jax.Array) -> jax.Array:
        points = start + (y - start)[..., None] * (nodes + 1) / 2
        u = s * jax.nn.sigmoid(points)
        return tau * (y - start) / 2 * jnp.sum(weights * u ** (2 / L - 1), axis=-1) / (L * s)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        late = elapsed(middle) > t
        return jnp.where(late, low, middle), jnp.where(late, middle, high)

    reach = start + L * s * jnp.maximum(t, 0) / tau * s ** (1 - 2 / L)
    low, high = jax.lax.fori_loop(0, 60, halve, (jnp.full_like(t, start), jnp.minimum(reach, 60.0)))
    return s * jax.nn.sigmoid((low + high) / 2)
