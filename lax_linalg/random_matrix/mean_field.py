"""Mean field of wide networks: how the length and the correlation of signals move from layer to layer.

x^l = φ(h^l), h^{l+1} = W x^l + b with W_ij ~ N(0, σ_w²/N), b_i ~ N(0, σ_b²). The maps below are JAX functions of their
numbers (jit, grad, vmap), exact to rounding for every activation whose kinks are declared; `MeanField` gathers the
numbers of one network in double precision.

Source: Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli (2016); Schoenholz, Gilmer, Ganguli and Sohl-Dickstein (2017).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.random_matrix.activations import Activation, as_activation, scaled_cuts
from lax_linalg.random_matrix.numerics import as_float, check_parameter, double_precision
from lax_linalg.random_matrix.quadrature import gaussian_rule

CRITICAL = 1e-9  # |χ₁ − 1| below which a network counts as critical
SHORTEST, LONGEST = 1e-14, 1e12  # squared lengths that the search for a fixed point covers

AnyActivation = str | Activation | Callable[[jax.Array], jax.Array]


def gaussian_average(activation: AnyActivation, length: jax.typing.ArrayLike, function: Callable) -> jax.Array:
    """∫Dz function(√q z, z): `function` takes the pre-activation and z, both [nodes].

    Example:
        >>> round(float(gaussian_average("relu", 2.0, lambda h, z: jax.nn.relu(h) ** 2)), 5)
        1.0
    """
    length = as_float(length)
    z, weights = gaussian_rule(scaled_cuts(as_activation(activation), length).astype(length.dtype))
    return jnp.sum(weights * function(jnp.sqrt(length) * z, z))


def length_map(activation: AnyActivation, length, weight_variance, bias_variance) -> jax.Array:
    """Variance of the next pre-activation, V(q) = σ_w² ∫Dz φ(√q z)² + σ_b².

    Args:
        activation: name, function or `Activation`.
        length: q > 0, scalar.
        weight_variance: σ_w².
        bias_variance: σ_b².

    Source: Poole et al. (2016), eq. 3.

    Example:
        >>> round(float(length_map("relu", 3.0, 2.0, 0.5)), 5)
        3.5
    """
    phi = as_activation(activation)
    return weight_variance * gaussian_average(phi, length, lambda h, z: phi(h) ** 2) + bias_variance


def slope_moment(activation: AnyActivation, length, order: int = 1) -> jax.Array:
    """μ_k = ∫Dz φ'(√q z)^{2k}.

    Example:
        >>> round(float(slope_moment("relu", 1.0)), 6)
        0.5
    """
    phi = as_activation(activation)
    return gaussian_average(phi, length, lambda h, z: phi.slope(h) ** (2 * order))


def length_map_slope(activation: AnyActivation, length, weight_variance) -> jax.Array:
    """V'(q) = σ_w² ∫Dz (φ'² + φφ'')(√q z), written without φ'' as σ_w² ∫Dz z φφ'/√q.

    Source: Schoenholz et al. (2017), eq. 8.

    Example:
        >>> round(float(length_map_slope("relu", 3.0, 2.0)), 6)
        1.0
    """
    phi = as_activation(activation)
    integral = gaussian_average(phi, length, lambda h, z: z * phi(h) * phi.slope(h))
    return weight_variance * integral / jnp.sqrt(as_float(length))


def fixed_length(activation: AnyActivation, weight_variance, bias_variance, start=1.0) -> jax.Array:
    """q*: where the length goes, starting from `start`. Zero if signals die out, infinity if they blow up.

    The nearest root of V(q) = q in the direction V moves the start, by a scan over 10^−14 … 10^12 and bisection; a
    start that V keeps (ReLU at σ_w² = 2) is its own fixed point. Differentiable by the implicit function theorem.

    Example:
        >>> round(float(fixed_length("relu", 1.5, 0.5)), 5)  # σ_b²/(1 − σ_w²/2)
        2.0
    """
    phi = as_activation(activation)
    weight_variance, bias_variance = as_float(weight_variance), as_float(bias_variance)
    dtype = jnp.result_type(weight_variance, bias_variance)
    start = jnp.asarray(start, dtype)
    tolerance = 64 * jnp.finfo(dtype).eps

    def drift(log_q):  # sign of V(q) − q, zero within rounding
        q = jnp.exp(log_q)
        change = length_map(phi, q, weight_variance, bias_variance) / q - 1
        return jnp.where(jnp.abs(change) < tolerance, 0.0, change)

    count = 105
    grid = jnp.linspace(math.log(SHORTEST), math.log(LONGEST), count, dtype=dtype)
    moves = jax.lax.map(drift, grid)
    first = drift(jnp.log(start))
    up = first > 0
    log_start = jnp.log(start)
    above, below = grid > log_start, grid < log_start
    crossed_up = above & (moves <= 0)
    crossed_down = below & (moves >= 0)
    top = jnp.argmax(crossed_up)
    bottom = count - 1 - jnp.argmax(crossed_down[::-1])
    low = jnp.where(up, jnp.maximum(grid[jnp.maximum(top - 1, 0)], log_start), grid[bottom])
    high = jnp.where(up, grid[top], jnp.minimum(grid[jnp.minimum(bottom + 1, count - 1)], log_start))

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        rises = drift(middle) > 0
        return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

    low, high = jax.lax.fori_loop(0, jnp.finfo(dtype).nmant + 8, halve, (low, high))
    q = jax.lax.stop_gradient(jnp.exp(0.5 * (low + high)))
    # A Newton step carries the implicit derivative; it is left out where V'(q) is 1 to rounding.
    gap = 1 - jax.lax.stop_gradient(length_map_slope(phi, q, weight_variance))
    regular = jnp.abs(gap) > 1e-6
    change = length_map(phi, q, weight_variance, bias_variance) - q
    q = q + jnp.where(regular, change / jnp.where(regular, gap, 1.0), 0.0)
    moved = jnp.where(up, jnp.where(jnp.any(crossed_up), q, jnp.inf), jnp.where(jnp.any(crossed_down), q, 0.0))
    return jnp.where(first == 0, start, moved)


def correlation_map(activation: AnyActivation, correlation, length, weight_variance, bias_variance) -> jax.Array:
    """Correlation of two pre-activations one layer on, C(c) = (σ_w² ∫∫Dz₁Dz₂ φ(u₁)φ(u₂) + σ_b²)/q.

    u₁ = √q z₁, u₂ = √q (c z₁ + √(1−c²) z₂); `length` should be the fixed point q*, so that C(1) = 1.

    Source: Poole et al. (2016), eq. 5.

    Example:
        >>> q = fixed_length("tanh", 1.5, 0.1)
        >>> round(float(correlation_map("tanh", 1.0, q, 1.5, 0.1)), 4)
        1.0
    """
    phi = as_activation(activation)
    return (weight_variance * _pair_average(phi, phi, correlation, length, phi.cuts) + bias_variance) / length


def correlation_map_slope(activation: AnyActivation, correlation, length, weight_variance) -> jax.Array:
    """C'(c) = σ_w² ∫∫Dz₁Dz₂ φ'(u₁)φ'(u₂); χ₁ at c = 1.

    Source: Schoenholz et al. (2017), eq. 9.

    Example:
        >>> round(float(correlation_map_slope("relu", 1.0, 1.0, 2.0)), 4)
        1.0
    """
    phi = as_activation(activation)
    return weight_variance * _pair_average(phi.slope, phi.slope, correlation, length, phi.cuts)


def _pair_average(f: Callable, g: Callable, correlation, length, cuts: tuple[float, ...]) -> jax.Array:
    """E f(u₁) g(u₂) for Gaussians of variance `length` and the given correlation."""
    length = as_float(length)
    c = jnp.clip(jnp.asarray(correlation, length.dtype), -1, 1)
    root = jnp.sqrt(length)
    rest = jnp.sqrt(jnp.maximum((1 - c) * (1 + c), jnp.finfo(length.dtype).tiny))
    places = jnp.asarray(np.array(cuts), length.dtype) / root
    # Seen from z₁ the second factor is smooth but turns fast near ±cuts when |c| is near one.
    outer = jnp.asarray(np.array(sorted({*cuts, *(-cut for cut in cuts)})), length.dtype) / root
    z1, w1 = gaussian_rule(outer)

    def inner(z):
        z2, w2 = gaussian_rule((places - c * z) / rest)
        return jnp.sum(w2 * g(root * (c * z + rest * z2)))

    return jnp.sum(w1 * f(root * z1) * jax.vmap(inner)(z1))


class CriticalPoint(NamedTuple):
    """A point of the critical line χ₁ = 1: σ_w², σ_b² and the fixed length q there.

    Example:
        >>> point = critical_point("relu", 2.0)
        >>> point.weight_variance, point.bias_variance
        (2.0, 0.0)
    """

    weight_variance: float
    bias_variance: float
    length: float


def critical_line(activation: AnyActivation, length) -> tuple[jax.Array, jax.Array]:
    """The point of the critical line at length q: σ_w² = 1/∫Dz φ'(√q z)², σ_b² = q − σ_w² ∫Dz φ(√q z)².

    Args:
        activation: name, function or `Activation`.
        length: q > 0, scalar (use `jax.vmap` for many).

    Returns:
        (σ_w², σ_b²); a negative σ_b² means that no network is critical at this q.

    Source: Schoenholz et al. (2017); Pennington, Schoenholz and Ganguli (2017), eq. 8.

    Example:
        >>> [abs(round(float(v), 6)) for v in critical_line("relu", 1.0)]  # He initialisation
        [2.0, 0.0]
    """
    phi = as_activation(activation)
    weight_variance = 1 / slope_moment(phi, length)
    return weight_variance, length - weight_variance * gaussian_average(phi, length, lambda h, z: phi(h) ** 2)


def critical_point(activation: AnyActivation, weight_variance: float) -> CriticalPoint:
    """The bias variance that makes a network with the given weight variance critical, and its fixed length.

    Solves σ_w²(q) = `weight_variance` for the smallest q in 10^−10 … 10^8 with σ_b² ≥ 0 (float64 on the host).

    Raises:
        LinearAlgebraError: when the critical line does not reach the weight variance; the range is given.

    Cost: O(200) Gaussian integrals.

    Example:
        >>> f"{critical_point('tanh', 1.05).bias_variance:.2e}"
        '2.01e-05'
    """
    phi = as_activation(activation)
    check_parameter("critical_point", "weight_variance", weight_variance, "positive", weight_variance > 0)
    with double_precision():
        line = jax.jit(functools.partial(critical_line, phi))
        grid = np.linspace(math.log(1e-10), math.log(1e8), 109)
        values = np.array([[float(v) for v in line(math.exp(g))] for g in grid])
        excess = values[:, 0] - weight_variance
        constant = np.flatnonzero(np.abs(excess) < 1e-12 * weight_variance)
        if len(constant) > len(grid) // 2:  # every length is critical (ReLU): take 1
            return CriticalPoint(weight_variance, max(0.0, float(line(1.0)[1])), 1.0)
        for i in np.flatnonzero(excess[1:] * excess[:-1] <= 0):
            low, high, rises = grid[i], grid[i + 1], excess[i + 1] > excess[i]
            for _ in range(60):
                middle = 0.5 * (low + high)
                if (float(line(math.exp(middle))[0]) > weight_variance) == rises:
                    high = middle
                else:
                    low = middle
            length = math.exp(0.5 * (low + high))
            bias_variance = float(line(length)[1])
            if bias_variance >= -1e-14 * length:
                return CriticalPoint(weight_variance, max(0.0, bias_variance), length)
    allowed = values[values[:, 1] >= -1e-14 * np.exp(grid), 0]
    reach = f"[{allowed.min():.6g}, {allowed.max():.6g}]" if len(allowed) else "empty"
    raise LinearAlgebraError(
        f"critical_point: {phi} is not critical at any bias for weight variance {weight_variance:g}; "
        f"its critical line covers weight variances {reach}"
    )


@dataclasses.dataclass(frozen=True)
class MeanField:
    """The mean-field numbers of a wide network with one activation, σ_w² and σ_b².

    Args:
        activation: name, function or `Activation`.
        weight_variance: σ_w² > 0 (weights of variance σ_w²/fan_in).
        bias_variance: σ_b² ≥ 0.
        start: squared length of the first pre-activations, from which q* is reached.

    Raises:
        LinearAlgebraError: for variances outside their domain.

    Cost: a few hundred Gaussian integrals for q*; a few thousand two-dimensional rules for c*. Float64 on the host.

    Example:
        >>> network = MeanField("tanh", weight_variance=1.5, bias_variance=0.05)
        >>> network.phase, round(network.length, 4), round(network.chi, 4)
        ('ordered', 0.418, 0.9386)
    """

    activation: AnyActivation
    weight_variance: float
    bias_variance: float = 0.0
    start: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "activation", as_activation(self.activation))
        for name, value, least in (
            ("weight_variance", self.weight_variance, "positive"),
            ("bias_variance", self.bias_variance, "non-negative"),
            ("start", self.start, "positive"),
        ):
            check_parameter("MeanField", name, value, least, value > 0 or (value == 0 and least == "non-negative"))

    @classmethod
    def critical(cls, activation: AnyActivation, weight_variance: float) -> MeanField:
        """The network of the given weight variance on the critical line.

        Example:
            >>> MeanField.critical("tanh", 1.1).phase
            'critical'
        """
        point = critical_point(activation, weight_variance)
        return cls(activation, weight_variance, point.bias_variance, start=point.length)

    def _double(self, function: Callable, *numbers: float) -> float:
        with double_precision():
            return float(_compiled(function, self.activation)(*(np.float64(number) for number in numbers)))

    @functools.cached_property
    def length(self) -> float:
        """q*, the variance of the pre-activations deep in the network (0: they die; infinity: they blow up)."""
        return self._double(fixed_length, self.weight_variance, self.bias_variance, self.start)

    @property
    def _positive_length(self) -> float:
        """q*, or a tiny length standing for the limit q → 0 of functions that have kinks there."""
        return max(self.length, 1e-10)

    @functools.cached_property
    def chi(self) -> float:
        """χ₁ = σ_w² ∫Dz φ'(√q* z)²: mean squared singular value of a layer's Jacobian (1 on the critical line)."""
        if math.isinf(self.length):
            return math.nan
        return self.weight_variance * self._double(slope_moment, self._positive_length)

    @property
    def phase(self) -> str:
        """'ordered' (χ₁ < 1), 'chaotic' (χ₁ > 1), 'critical', or 'unbounded' when lengths diverge."""
        if math.isinf(self.length):
            return "unbounded"
        if abs(self.chi - 1) < CRITICAL:
            return "critical"
        return "ordered" if self.chi < 1 else "chaotic"

    @functools.cached_property
    def length_scale(self) -> float:
        """ξ_q = −1/log|V'(q*)|: layers over which a length forgets its start."""
        if math.isinf(self.length):
            return math.nan
        return _depth_scale(abs(self._double(length_map_slope, self._positive_length, self.weight_variance)))

    @functools.cached_property
    def correlation(self) -> float:
        """c*: the stable correlation of two inputs deep in the network; 1 unless the phase is chaotic."""
        if math.isinf(self.length):
            return math.nan
        if self.chi <= 1 + CRITICAL:
            return 1.0
        arguments = self._positive_length, self.weight_variance, self.bias_variance
        low, high = -1.0, 1.0 - 1e-12  # C(c) > c below c*, C(c) < c between c* and 1
        for _ in range(48):
            middle = 0.5 * (low + high)
            if self._double(correlation_map, middle, *arguments) > middle:
                low = middle
            else:
                high = middle
        return 0.5 * (low + high)

    @functools.cached_property
    def correlation_scale(self) -> float:
        """ξ_c = −1/log C'(c*): layers over which a correlation approaches c*; infinite on the critical line."""
        if math.isinf(self.length):
            return math.nan
        if self.correlation == 1.0:
            return math.inf if self.phase == "critical" else _depth_scale(self.chi)
        slope = self._double(correlation_map_slope, self.correlation, self._positive_length, self.weight_variance)
        return _depth_scale(slope)

    def lengths(self, depth: int) -> np.ndarray:
        """q⁰ … q^depth from `start` as an array [depth + 1].

        Example:
            >>> MeanField("relu", 2.0).lengths(3).round(6).tolist()
            [1.0, 1.0, 1.0, 1.0]
        """
        values = [self.start]
        for _ in range(depth):
            values.append(self._double(length_map, values[-1], self.weight_variance, self.bias_variance))
        return np.array(values)

    def correlations(self, start: float, depth: int) -> np.ndarray:
        """c⁰ … c^depth at the fixed length, from the correlation `start`, as an array [depth + 1].

        Example:
            >>> bool(MeanField("tanh", 0.8, 0.1).correlations(0.2, 30)[-1] > 0.99)
            True
        """
        check_parameter("MeanField.correlations", "start", start, "in [−1, 1]", abs(start) <= 1)
        values = [float(start)]
        for _ in range(depth):
            values.append(
                self._double(
                    correlation_map, values[-1], self._positive_length, self.weight_variance, self.bias_variance
                )
            )
        return np.array(values)

    def __str__(self) -> str:
        return f"{self.activation}(σ_w² = {self.weight_variance:g}, σ_b² = {self.bias_variance:g}): {self.phase}"


@functools.cache
def _compiled(function: Callable, activation: Activation) -> Callable:
    return jax.jit(functools.partial(function, activation))


def _depth_scale(slope: float) -> float:
    if slope <= 0:
        return 0.0
    return math.inf if slope == 1 else abs(1 / math.log(slope))


def phase_diagram(activation: AnyActivation, weight_variances, bias_variances) -> jax.Array:
    """χ₁ on a grid: below 1 ordered, above 1 chaotic.

    Args:
        activation: name, function or `Activation`.
        weight_variances: σ_w² [m].
        bias_variances: σ_b² [n].

    Returns:
        χ₁ [m, n]; NaN where lengths diverge.

    Cost: O(150 m n) Gaussian integrals.

    Source: Poole et al. (2016), figure 1.

    Example:
        >>> import numpy as np
        >>> (phase_diagram("tanh", np.array([0.8, 2.0]), np.array([0.1])) > 1).tolist()
        [[False], [True]]
    """
    phi = as_activation(activation)

    def chi(pair):
        length = fixed_length(phi, pair[0], pair[1])
        finite = jnp.isfinite(length)
        value = pair[0] * slope_moment(phi, jnp.where(finite, jnp.maximum(length, 1e-10), 1.0))
        return jnp.where(finite, value, jnp.nan)

    weights, biases = jnp.meshgrid(as_float(weight_variances), as_float(bias_variances), indexing="ij")
    pairs = jnp.stack([weights.ravel(), biases.ravel()], axis=1)
    return jax.jit(lambda p: jax.lax.map(chi, p))(pairs).reshape(weights.shape)
