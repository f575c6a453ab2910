"""The contract of a random-matrix law: density, distribution, quantiles, support, exact moments, samples, edge.

A law is a frozen, hashable dataclass: its parameters are plain numbers fixed at construction (so it may be a static
argument of `jax.jit`), while `pdf`, `cdf` and `quantile` are JAX functions of their argument that run under `jit`,
`vmap` and `grad` in the argument's precision.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.random_matrix.numerics import (
    as_float,
    bisect_monotone,
    check_count,
    double_exponential_rule,
    double_precision,
)

if TYPE_CHECKING:
    from lax_linalg.random_matrix.s_transform import ClosedForm
    from lax_linalg.random_matrix.transforms import Scaled, SingularValues


class Law(abc.ABC):
    """A probability law on the real line that describes a spectrum.

    `pdf` is the density of the continuous part and is zero outside the support; point masses are listed in `atoms` and
    counted by `cdf`, so that ∫pdf + Σ masses = 1. `quantity` says what is distributed: eigenvalues, singular values, …

    Example:
        >>> from lax_linalg.random_matrix import MarchenkoPastur
        >>> law = MarchenkoPastur(ratio=1.0)
        >>> law.support, law.quantity
        ((0.0, 4.0), 'squared singular values')
        >>> [round(float(m), 4) for m in law.moments(4)]
        [1.0, 2.0, 5.0, 14.0]
    """

    quantity: ClassVar[str] = "eigenvalues"
    # What `spectrum` draws; None when no matrix ensemble of finite size is known for the law.
    ensemble: ClassVar[str | None] = None

    @property
    @abc.abstractmethod
    def support(self) -> tuple[float, float]:
        """Smallest closed interval that holds all the mass, atoms included."""

    @property
    def bulk(self) -> tuple[float, float]:
        """Smallest closed interval that holds the continuous part: the support unless a point mass lies outside it."""
        return self.support

    @property
    def edge(self) -> float:
        """Right end of the support: the largest value as the matrix grows."""
        return self.support[1]

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        """Point masses as (position, mass) pairs."""
        return ()

    @abc.abstractmethod
    def _density(self, x: jax.Array) -> jax.Array:
        """Density of the continuous part, zero outside the support."""

    @abc.abstractmethod
    def _distribution(self, x: jax.Array) -> jax.Array:
        """P(X ≤ x), atoms included; its derivative is supplied by `pdf`."""

    @abc.abstractmethod
    def _integer_moment(self, order: int) -> float:
        """E Xᵏ in closed form."""

    def pdf(self, x: jax.typing.ArrayLike) -> jax.Array:
        """Density of the continuous part at `x` (any shape); zero outside the support.

        Example:
            >>> from lax_linalg.random_matrix import Semicircle
            >>> [round(float(v), 4) for v in Semicircle().pdf(jnp.array([-3.0, 0.0]))]
            [0.0, 0.3183]
        """
        return _pdf(self, as_float(x))

    def cdf(self, x: jax.typing.ArrayLike) -> jax.Array:
        """P(X ≤ x), atoms included (any shape). Its JAX derivative is exactly `pdf`.

        Example:
            >>> from lax_linalg.random_matrix import Semicircle
            >>> float(Semicircle().cdf(0.0)), round(float(jax.grad(Semicircle().cdf)(0.0)), 4)
            (0.5, 0.3183)
        """
        return _cdf(self, as_float(x))

    def quantile(self, probability: jax.typing.ArrayLike) -> jax.Array:
        """Smallest x with cdf(x) ≥ probability (any shape); 0 and 1 give the ends of the support.

        Example:
            >>> from lax_linalg.random_matrix import Semicircle
            >>> abs(float(Semicircle().quantile(0.5))) < 1e-6
            True
        """
        return _quantile(self, as_float(probability))

    def _inverse_distribution(self, probability: jax.Array) -> jax.Array:
        low, high = self.support
        # Every halving gains one bit: mantissa bits plus what it takes to walk from the width down to small values.
        steps = 2 * jnp.finfo(probability.dtype).nmant
        lower = jnp.full_like(probability, low)
        upper = jnp.full_like(probability, high)
        return bisect_monotone(lambda x: self._distribution(x), probability, lower, upper, steps)

    def moment(self, order: float) -> float:
        """E X^order: closed form for integer orders ≥ 0, double-exponential quadrature for real ones (X ≥ 0).

        Raises:
            LinearAlgebraError: when the moment is infinite or not defined.

        Example:
            >>> from lax_linalg.random_matrix import MarchenkoPastur
            >>> round(MarchenkoPastur(1.0).moment(0.5), 6)  # mean singular value 8/(3π)
            0.848826
        """
        if float(order).is_integer() and order >= 0:
            return 1.0 if order == 0 else self._integer_moment(int(order))
        low, _ = self.support
        if low < 0 or (order < 0 and (low == 0 or any(position <= 0 for position, _ in self.atoms))):
            raise LinearAlgebraError(f"{self}: the moment of order {order} is not defined or not finite")
        # x^order is not smooth at a hard edge, where Chebyshev nodes converge like 1/count² only
        low, high = self.bulk
        nodes, weights = double_exponential_rule(low, high)
        with double_precision():
            density = np.asarray(self._density(jnp.asarray(nodes)))
        return float(np.sum(weights * density * nodes**order) + sum(m * x**order for x, m in self.atoms if x > 0))

    def moments(self, count: int) -> jax.Array:
        """The first `count` moments E X, E X², … as an array [count], in closed form.

        Raises:
            LinearAlgebraError: when `count` is not a positive integer.

        Example:
            >>> from lax_linalg.random_matrix import FussCatalan
            >>> FussCatalan(2).moments(3).tolist()
            [1.0, 3.0, 12.0]
        """
        return jnp.asarray([self.moment(k) for k in range(1, check_count("the number of moments", count) + 1)])

    @property
    def mean(self) -> float:
        """E X."""
        return self.moment(1)

    @property
    def relative_variance(self) -> float:
        """Var X / (E X)²: how far a spectrum is from a single value."""
        return self.moment(2) / self.moment(1) ** 2 - 1

    def quadrature(self, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights of the law itself, atoms included: Σ wᵢ f(xᵢ) → E f(X) (float64, on the host).

        Chebyshev nodes: spectrally accurate for densities with square-root edges, f smooth.
        """
        low, high = self.bulk
        angle = np.pi * (np.arange(count) + 0.5) / count
        nodes = low + (high - low) * np.sin(angle / 2) ** 2
        with double_precision():
            density = np.asarray(self.pdf(nodes))
        weights = density * 0.5 * (high - low) * np.sin(angle) * np.pi / count
        positions = np.array([position for position, _ in self.atoms])
        masses = np.array([mass for _, mass in self.atoms])
        return np.concatenate([nodes, positions]), np.concatenate([weights, masses])

    def contour(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights that integrate 1/(u − x) for u in the upper half plane; may be complex."""
        return self.quadrature()

    def free_factors(self) -> tuple[Law, ...]:
        """The laws whose free multiplicative convolution this law is; itself unless it is a product."""
        return (self,)

    def expect(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        """E f(X) by `quadrature`; `function` maps a float64 NumPy array elementwise."""
        nodes, weights = self.quadrature()
        return float(np.sum(weights * function(nodes)))

    def sample(self, key: jax.Array, count: int) -> jax.Array:
        """`count` independent draws from the law itself (inverse distribution function) as an array [count].

        Eigenvalues of one matrix are *not* independent: they repel; `spectrum` draws those.
        """
        uniform = jax.random.uniform(key, (check_count("the number of draws", count),))
        return self.quantile(uniform)

    def spectrum(self, key: jax.Array, size: int) -> jax.Array:
        """The spectrum of one random matrix of order `size` from the ensemble whose limit is this law.

        Raises:
            LinearAlgebraError: for a law without a finite ensemble (`ensemble` is None).
        """
        raise LinearAlgebraError(f"{self}: no matrix ensemble of finite size is known for this law; use sample")

    def singular_values(self) -> SingularValues:
        """The law of √X, for a law of squared singular values: what `svdvals` returns.

        Raises:
            LinearAlgebraError: when the law has negative values or is not of squared singular values.

        Example:
            >>> from lax_linalg.random_matrix import FussCatalan
            >>> round(FussCatalan(2).singular_values().edge, 4)
            2.5981
        """
        from lax_linalg.random_matrix.transforms import SingularValues

        return SingularValues(self)

    def scaled(self, factor: float) -> Scaled:
        """The law of factor · X, factor > 0.

        Example:
            >>> from lax_linalg.random_matrix import Semicircle
            >>> Semicircle().scaled(3.0).support
            (-6.0, 6.0)
        """
        from lax_linalg.random_matrix.transforms import Scaled

        return Scaled(self, factor)

    def closed_s_transform(self) -> ClosedForm | None:
        """The S-transform in closed form, or None when it is only known numerically."""
        return None


@functools.partial(jax.jit, static_argnums=0)
def _pdf(law: Law, x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(x), jnp.nan, law._density(x))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _raw_cdf(law: Law, x: jax.Array) -> jax.Array:
    low, high = law.support
    inside = jnp.clip(law._distribution(jnp.clip(x, low, high)), 0, 1)
    return jnp.where(jnp.isnan(x), jnp.nan, jnp.where(x < low, 0.0, jnp.where(x >= high, 1.0, inside)))


@_raw_cdf.defjvp
def _cdf_jvp(law, primals, tangents):
    return _raw_cdf(law, *primals), law._density(*primals) * tangents[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _raw_quantile(law: Law, probability: jax.Array) -> jax.Array:
    low, high = law.support
    valid = (probability >= 0) & (probability <= 1)
    inner = law._inverse_distribution(jnp.where(valid, probability, 0.5))
    ends = jnp.where(probability <= 0, low, jnp.where(probability >= 1, high, inner))
    return jnp.where(valid, ends, jnp.nan)


@_raw_quantile.defjvp
def _quantile_jvp(law, primals, tangents):
    x = _raw_quantile(law, *primals)
    return x, tangents[0] / law._density(x)


_cdf = jax.jit(_raw_cdf, static_argnums=0)
_quantile = jax.jit(_raw_quantile, static_argnums=0)
