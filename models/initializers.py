"""Initial weights by name. Every entry is a factory: options → initializer(key, shape, dtype).

Shapes are those of the layers: a dense kernel [cin, cout], a convolution's kernel [kh, kw, cin, cout] (HWIO).
"Orthogonal" refers to the linear map: the layer's operator Q has QᵀQ = I where cin ≤ cout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.registry import Registry
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError
from models.activations import Activation, activation

Initializer = Callable[..., jax.Array]

initializers: Registry[Callable[..., Initializer]] = Registry("initializer")


@initializers.register("zeros")
def zeros() -> Initializer:
    """All entries 0: the layer starts as the zero map.

    Returns:
        An initializer.

    Example:
        >>> float(zeros()(jax.random.key(0), (2, 2)).sum())
        0.0
    """
    return jax.nn.initializers.zeros


@initializers.register("lecun")
def lecun() -> Initializer:
    """Truncated normal of variance 1/fan_in.

    Returns:
        An initializer.

    Example:
        >>> lecun()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    Source: LeCun et al., Efficient BackProp (1998), 4.6.
    """
    return jax.nn.initializers.lecun_normal()


@initializers.register("he")
def he() -> Initializer:
    """Normal of variance 2/fan_in, critical for ReLU.

    Returns:
        An initializer.

    Example:
        >>> he()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    Source: He et al., arXiv:1502.01852, eq. 10.
    """
    return gaussian(gain=2**0.5)


@initializers.register("gaussian")
def gaussian(gain: float = 1.0) -> Initializer:
    """Normal entries, w ~ N(0, gain²/fan_in); gain is the σ_w of mean-field theory.

    Args:
        gain: σ_w ≥ 0.

    Returns:
        An initializer.

    Raises:
        LinearAlgebraError: for a negative gain.

    Example:
        >>> w = gaussian(2.0)(jax.random.key(0), (400, 400))
        >>> round(float(w.std() * 20), 1)
        2.0
    """
    if gain == 0:
        return zeros()
    return jax.nn.initializers.variance_scaling(_gain(gain) ** 2, "fan_in", "normal")


@initializers.register("critical_gaussian")
def critical_gaussian(activation: str | Activation = "tanh", q: float = 0.01) -> Initializer:
    """Normal entries with σ_w on the critical line of the activation at pre-activation variance q.

    Args:
        activation: name or function φ.
        q: the fixed point q* of the pre-activations' variance, > 0.

    Returns:
        An initializer for kernels; the biases' variance on the line is `critical_point(activation, q)[1]`.

    Raises:
        LinearAlgebraError: for q ≤ 0.

    Example:
        >>> w = critical_gaussian("relu")(jax.random.key(0), (400, 400))
        >>> round(float((w.std() * 20) ** 2), 1)
        2.0
    """
    return gaussian(critical_point(activation, q)[0] ** 0.5)


def critical_point(phi: str | Activation, q: float) -> tuple[float, float]:
    """The point of the critical line χ₁ = 1 at variance q: σ_w² = 1/∫Dz φ'(√q z)², σ_b² = q − σ_w² ∫Dz φ(√q z)².

    Args:
        phi: name or function of the activation.
        q: variance of the pre-activations, > 0.

    Returns:
        (σ_w², σ_b²); σ_b² may come out negative for activations without a critical point at this q.

    Raises:
        LinearAlgebraError: for q ≤ 0.

    Cost: two Gauss–Hermite quadratures of 200 nodes.

    Example:
        >>> sigma_w2, sigma_b2 = critical_point("relu", 1.0)
        >>> round(sigma_w2, 3), round(abs(sigma_b2), 3)
        (2.0, 0.0)

    Source: Poole et al., arXiv:1606.05340, eqs. 3 and 5; Schoenholz et al., arXiv:1611.01232, eq. 5.
    """
    if not q > 0:
        raise LinearAlgebraError(f"q must be a positive variance, got {q!r}")
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    function = activation(phi)
    with jax.ensure_compile_time_eval():  # numbers, where a model is built under jit as well
        x = jnp.asarray(q**0.5 * nodes)
        slope = np.asarray(jax.vmap(jax.grad(function))(x), np.float64)
        value = np.asarray(function(x), np.float64)
    sigma_w2 = 1 / float(weights @ slope**2)
    return sigma_w2, q - sigma_w2 * float(weights @ value**2)


@initializers.register("orthogonal")
def orthogonal(gain: float = 1.0) -> Initializer:
    """Haar-distributed: the kernel reshaped to [kh kw cin, cout] is gain times a (semi-)orthogonal matrix.

    Args:
        gain: multiplies the orthogonal matrix.

    Returns:
        An initializer.

    Example:
        >>> w = orthogonal()(jax.random.key(0), (4, 4))
        >>> bool(jnp.allclose(w.T @ w, jnp.eye(4), atol=1e-5))
        True

    Source: Saxe et al., arXiv:1312.6120.
    """
    return in_single(jax.nn.initializers.orthogonal(scale=_gain(gain)))


@initializers.register("delta_orthogonal")
def delta_orthogonal(gain: float = 1.0) -> Initializer:
    """An orthogonal matrix at the kernel's centre tap and 0 elsewhere, so that a stride-1 convolution is an isometry.

    The centre tap is (k − 1)//2, which "zero" and "circular" padding align with the output pixel. A dense kernel counts
    as its own centre tap.

    Args:
        gain: multiplies the orthogonal matrix.

    Returns:
        An initializer for kernels [..., cin, cout] with cin ≤ cout.

    Raises:
        DimensionMismatch: on use with a convolution of cin > cout, which cannot keep norms.

    Example:
        >>> w = delta_orthogonal()(jax.random.key(0), (3, 3, 2, 4))
        >>> c = w[1, 1]
        >>> bool(jnp.allclose(c @ c.T, jnp.eye(2), atol=1e-5)), float(jnp.abs(w).sum() - jnp.abs(c).sum())
        (True, 0.0)

    Source: Xiao et al., arXiv:1806.05393, algorithm 1.
    """
    matrix = orthogonal(gain)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        *taps, cin, cout = shape
        if taps and cin > cout:
            raise DimensionMismatch(
                f"delta_orthogonal keeps norms only for cin ≤ cout, got {cin}→{cout} channels; "
                "use 'orthogonal' or 'lecun' for this layer"
            )
        centre = tuple((k - 1) // 2 for k in taps)
        return jnp.zeros(shape, dtype).at[centre].set(matrix(key, (cin, cout), dtype))

    return init


def in_single(init: Initializer) -> Initializer:
    """The same initial weights for every floating dtype: computed in at least single precision, then rounded.

    Matrix factorisations have no half-precision kernels, and sums of large and small terms would lose the small ones.

    Args:
        init: function of (key, shape, dtype).

    Returns:
        An initializer.

    Example:
        >>> in_single(jax.nn.initializers.orthogonal())(jax.random.key(0), (2, 2), jnp.bfloat16).dtype
        dtype(bfloat16)
    """

    def rounded(
        key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> jax.Array:
        options = {} if out_sharding is None else {"out_sharding": out_sharding}
        return init(key, shape, jnp.promote_types(dtype, jnp.float32), **options).astype(dtype)

    return rounded


def initializer(given: str | Initializer, **options: Any) -> Initializer:
    """The initializer of that name with its options, or the given function itself.

    Args:
        given: a registered name, or a function of (key, shape, dtype).
        **options: the named factory's options, such as gain.

    Returns:
        A function of (key, shape, dtype).

    Raises:
        UnknownNameError: for a name that is not registered.

    Example:
        >>> initializer("orthogonal", gain=2.0)(jax.random.key(0), (2, 2)).shape
        (2, 2)
    """
    return initializers[given](**options) if isinstance(given, str) else given


def _gain(gain: float) -> float:
    if not gain >= 0:
        raise LinearAlgebraError(f"an initializer's gain must be ≥ 0, got {gain!r}")
    return float(gain)
