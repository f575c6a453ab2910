"""The end-to-end Jacobian of a deep network at initialisation: squared singular values by S-transforms."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.dense import platform
from lax_linalg.errors import LinearAlgebraError, UnknownNameError
from lax_linalg.random_matrix.activations import Activation, as_activation
from lax_linalg.random_matrix.haar import Haar, haar_orthogonal
from lax_linalg.random_matrix.implicit import ImplicitLaw
from lax_linalg.random_matrix.law import Law
from lax_linalg.random_matrix.marchenko_pastur import MarchenkoPastur
from lax_linalg.random_matrix.mean_field import MeanField
from lax_linalg.random_matrix.numerics import check_count, check_parameter
from lax_linalg.random_matrix.slope import SlopeLaw

WEIGHTS = ("gaussian", "orthogonal")


@dataclasses.dataclass(frozen=True)
class JacobianLaw(ImplicitLaw):
    """Squared singular values of J = Π_l D_l W_l for a wide network of depth L.

    S_{JJᵀ} = (S_{WWᵀ} S_{D²})^L with S_{WWᵀ} = 1/(σ_w²(1 + m)) for Gaussian and 1/σ_w² for orthogonal weights, D the
    slopes φ'(√q* z). Mean χ₁^L, relative variance L(μ₂/μ₁² − 1 − s₁), s₁ = −1 Gaussian and 0 orthogonal,
    μ_k = ∫Dz φ'^{2k}.

    Args:
        activation: name, function or `Activation`.
        weights: "gaussian" or "orthogonal".
        depth: L ≥ 1.
        weight_variance: σ_w² > 0.
        bias_variance: σ_b² ≥ 0.
        length: q, the pre-activations' variance; default: the fixed point q* of the mean field.

    Raises:
        UnknownNameError: for another kind of weights, or an unregistered activation.
        LinearAlgebraError: for parameters outside their domain, or lengths that diverge.

    Cost: about a second once (the table of the implicit equation), then O(nodes) a value, up to 1200 nodes.

    Source: Pennington, Schoenholz and Ganguli (2017), Resurrecting the sigmoid, eqs. 12–17; (2018), The emergence of
    spectral universality in deep networks.

    Example:
        >>> law = JacobianLaw("relu", "orthogonal", depth=8, weight_variance=2.0)
        >>> round(law.mean, 6), round(law.relative_variance, 6), law.atoms
        (1.0, 8.0, ((0.0, 0.5),))
    """

    activation: str | Activation | Callable[[jax.Array], jax.Array]
    weights: str = "orthogonal"
    depth: int = 1
    weight_variance: float = 1.0
    bias_variance: float = 0.0
    length: float | None = None

    ensemble = "random network of the same depth"

    def __post_init__(self):
        object.__setattr__(self, "activation", as_activation(self.activation))
        object.__setattr__(self, "depth", check_count("JacobianLaw: depth", self.depth))
        if self.weights not in WEIGHTS:
            raise UnknownNameError.of("kind of weights", self.weights, WEIGHTS)
        if self.length is None:
            network = MeanField(self.activation, self.weight_variance, self.bias_variance)
            if math.isinf(network.length):
                raise LinearAlgebraError(
                    f"JacobianLaw: with {self.activation}, σ_w² = {self.weight_variance:g} and σ_b² ="
                    f" {self.bias_variance:g} lengths diverge, so there is no fixed point; give `length`"
                )
            object.__setattr__(self, "length", max(network.length, 1e-10))
        check_parameter("JacobianLaw", "weight_variance", self.weight_variance, "positive", self.weight_variance > 0)
        check_parameter("JacobianLaw", "bias_variance", self.bias_variance, "non-negative", self.bias_variance >= 0)
        length = 0.0 if self.length is None else self.length
        check_parameter("JacobianLaw", "length", length, "positive", length > 0)

    @classmethod
    def critical(cls, activation, weights: str, depth: int, weight_variance: float) -> JacobianLaw:
        """The law on the critical line at the given weight variance (mean squared singular value 1).

        Example:
            >>> law = JacobianLaw.critical("tanh", "orthogonal", depth=32, weight_variance=1.05)
            >>> round(law.mean, 6), round(law.relative_variance, 3)
            (1.0, 0.137)
        """
        network = MeanField.critical(activation, weight_variance)
        return cls(activation, weights, depth, weight_variance, network.bias_variance, network.length)

    @property
    def slope_law(self) -> SlopeLaw:
        """Law of φ'(√q z)², the D² factor."""
        return SlopeLaw(self.activation, self.length)  # type: ignore[arg-type]

    def free_factors(self) -> tuple[Law, ...]:
        weights = (
            MarchenkoPastur(1.0, self.weight_variance) if self.weights == "gaussian" else Haar(self.weight_variance)
        )
        return (self.slope_law, weights) * self.depth

    @property
    def relative_variance(self) -> float:
        """Var/mean² = L(μ₂/μ₁² − 1 − s₁), in closed form."""
        first, second = self.slope_law.moment(1), self.slope_law.moment(2)
        return self.depth * (second / first**2 - 1 + (self.weights == "gaussian"))

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """Squared singular values of the Jacobian of one random network of width `size`, descending."""
        jacobian = random_network_jacobian(
            key, size, self.activation, self.weights, self.depth, self.weight_variance, self.bias_variance, self.length
        )
        return platform.svdvals(jacobian) ** 2

    def __str__(self) -> str:
        return (
            f"end-to-end Jacobian({self.activation}, {self.weights}, depth {self.depth},"
            f" σ_w² = {self.weight_variance:g}, q = {self.length:.4g})"
        )


@functools.partial(jax.jit, static_argnames=("size", "activation", "weights", "depth"))
def random_network_jacobian(
    key: jax.Array,
    size: int,
    activation: Activation,
    weights: str,
    depth: int,
    weight_variance,
    bias_variance,
    length,
) -> jax.Array:
    """Input-to-output Jacobian Π D_l W_l [size, size] of a random network, at an input of the given length.

    The first signal is φ(h), h ~ N(0, q); then h ← W x + b, J ← D W J, x = φ(h) for `depth` layers.

    Cost: O(depth · size³).

    Example:
        >>> from lax_linalg.random_matrix import as_activation
        >>> j = random_network_jacobian(jax.random.key(0), 8, as_activation("linear"), "orthogonal", 3, 1.0, 0.0, 1.0)
        >>> bool(jnp.allclose(j.T @ j, jnp.eye(8), atol=1e-4))
        True
    """
    start_key, *layer_keys = jax.random.split(key, depth + 1)
    signal = activation(jnp.sqrt(length) * jax.random.normal(start_key, (size,)))

    def layer(state, layer_key):
        jacobian, signal = state
        weight_key, bias_key = jax.random.split(layer_key)
        if weights == "gaussian":
            matrix = jax.random.normal(weight_key, (size, size)) * jnp.sqrt(weight_variance / size)
        else:
            matrix = haar_orthogonal(weight_key, size) * jnp.sqrt(weight_variance)
        h = matrix @ signal + jnp.sqrt(bias_variance) * jax.random.normal(bias_key, (size,))
        return (activation.slope(h)[:, None] * (matrix @ jacobian), activation(h)), None

    (jacobian, _), _ = jax.lax.scan(layer, (jnp.eye(size), signal), jnp.stack(layer_keys))
    return jacobian
