"""Means and covariances carried through linear maps, affine layers and dropout, and their check by Monte-Carlo.

Dropout is a random diagonal matrix D with independent entries of P(D_ii = 0) = p, so it acts on (μ, Σ) by

    μ' = (1 − p) μ,    Σ' = (1 − p)² Σ + p(1 − p) 𝒟(Σ + μμᴴ),

𝒟 keeping the diagonal; the inverted form divides D by 1 − p: μ' = μ, Σ' = Σ + p/(1 − p) 𝒟(Σ + μμᴴ).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.operator import LinearOperator, as_operator
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError


class Moments(NamedTuple):
    """Mean μ [n] and covariance Σ [n, n] of a random vector.

    Example:
        >>> import jax.numpy as jnp
        >>> Moments(jnp.zeros(2), jnp.eye(2)).mean.shape
        (2,)
    """

    mean: jax.Array
    covariance: jax.Array


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Dropout as a step of `pushforward`: each entry becomes 0 with probability `p`.

    Args:
        p: in [0, 1).
        inverted: divide the kept entries by 1 − p, as Flax and PyTorch do in training; else they keep their size.

    Raises:
        LinearAlgebraError: for p outside [0, 1).

    Example:
        >>> Dropout(0.5)
        Dropout(p=0.5, inverted=True)
    """

    p: float
    inverted: bool = True

    def __post_init__(self):
        _check_probability(self.p)

    def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """One random draw on vectors [..., n]."""
        kept = jnp.where(jax.random.bernoulli(key, 1 - self.p, x.shape), x, 0)
        return kept / (1 - self.p) if self.inverted else kept


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """x ↦ A x + b as a step of `pushforward`.

    Args:
        operator: A [m, n], an operator or an array.
        bias: b [m], or None.

    Raises:
        DimensionMismatch: when the bias does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> Affine(jnp.ones((1, 2)), jnp.ones(1))
        Affine(1×2 Dense{float32}, bias [1])
    """

    operator: Any
    bias: jax.Array | None = None

    def __post_init__(self):
        object.__setattr__(self, "operator", as_operator(self.operator))
        rows = self.operator.shape[0]
        if self.bias is not None and jnp.shape(self.bias) != (rows,):
            raise DimensionMismatch(
                f"the bias of a {rows}×{self.operator.shape[1]} affine map must be [{rows}], "
                f"got shape {list(jnp.shape(self.bias))}"
            )

    def __repr__(self) -> str:
        bias = "" if self.bias is None else f", bias [{self.operator.shape[0]}]"
        return f"Affine({self.operator}{bias})"


Step = Affine | Dropout | LinearOperator | jax.Array


def dropout_covariance(
    mean: jax.typing.ArrayLike, covariance: jax.typing.ArrayLike, p: float, *, inverted: bool = False
) -> jax.Array:
    """Covariance after dropout, Σ' = (1 − p)² Σ + p(1 − p) 𝒟(Σ + μμᴴ); divided by (1 − p)² in the inverted form.

    Args:
        mean: μ [n].
        covariance: Σ [n, n].
        p: probability in [0, 1) with which an entry is dropped.
        inverted: whether kept entries are divided by 1 − p, as Flax and PyTorch do.

    Returns:
        Σ' [n, n]. The mean becomes (1 − p) μ, or stays μ in the inverted form.

    Raises:
        LinearAlgebraError: for p outside [0, 1).
        DimensionMismatch: when mean and covariance do not fit.

    Cost: O(n²).

    Source: Wang and Manning (2013), Fast dropout training, for independent entries; exact for any x.

    Example:
        >>> import jax.numpy as jnp
        >>> print(dropout_covariance(jnp.array([1.0, 0.0]), jnp.array([[1.0, 0.5], [0.5, 1.0]]), 0.5))
        [[0.75  0.125]
         [0.125 0.5  ]]
    """
    _check_probability(p)
    mean, covariance = _checked(mean, covariance)
    spread = p * (1 - p) * (jnp.diagonal(covariance) + jnp.abs(mean) ** 2)
    result = (1 - p) ** 2 * covariance + jnp.diag(spread.astype(covariance.dtype))
    return result / (1 - p) ** 2 if inverted else result


def pushforward(steps: Step | Iterable[Step], mean: jax.typing.ArrayLike, covariance: jax.typing.ArrayLike) -> Moments:
    """Exact (μ, Σ) behind a chain of linear maps, affine layers and dropout: A: (Aμ + b, AΣAᴴ), `Dropout` as above.

    Args:
        steps: one step or several, first to last: an operator or array A, `Affine(A, b)` or `Dropout(p)`.
        mean: μ [n].
        covariance: Σ [n, n].

    Returns:
        `Moments(mean, covariance)`.

    Raises:
        DimensionMismatch: when sizes do not fit.

    Cost: 2n products with each operator.

    Example:
        >>> import jax.numpy as jnp, lax_linalg as la
        >>> moments = la.pushforward([la.Diagonal([2.0, 1.0]), la.Dropout(0.5)], jnp.ones(2), jnp.eye(2))
        >>> print(moments.mean, moments.covariance)
        [2. 1.] [[12. 0.]
         [ 0. 3.]]
    """
    mu, sigma = _checked(mean, covariance)
    for step in _chain(steps):
        if isinstance(step, Dropout):
            sigma = dropout_covariance(mu, sigma, step.p, inverted=step.inverted)
            mu = mu if step.inverted else (1 - step.p) * mu
        else:
            A = step.operator
            if A.shape[1] != mu.shape[0]:
                raise DimensionMismatch(f"pushforward: {step} does not apply to moments of size {len(mu)}")
            mu = A @ mu + (0 if step.bias is None else step.bias)
            sigma = (A @ (A @ sigma).conj().T).conj().T
    return Moments(mu, sigma)


class MomentCheck(NamedTuple):
    """What `check_pushforward` found, in units of each entry's own sampling error.

    Attributes:
        mean_deviation: largest |sampled − predicted| / standard error over the entries of the mean.
        covariance_deviation: the same over the entries of the covariance on and above the diagonal.
        bound: what the largest deviation stays below with probability `confidence` when the prediction is right.
        confidence: of the whole check, all entries together.
        agrees: whether both deviations are within the bound.
        sampled: the sampled moments.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> check_pushforward(jax.random.key(0), Dropout(0.3), jnp.ones(2), jnp.eye(2)).agrees
        True
    """

    mean_deviation: float
    covariance_deviation: float
    bound: float
    confidence: float
    agrees: bool
    sampled: Moments


def check_pushforward(
    key: jax.Array,
    steps: Step | Iterable[Step] | Callable[[jax.Array, jax.Array], jax.Array],
    mean: jax.typing.ArrayLike,
    covariance: jax.typing.ArrayLike,
    *,
    predicted: Moments | None = None,
    samples: int = 20_000,
    confidence: float = 0.999,
) -> MomentCheck:
    """Compare predicted moments with those of random draws, at a stated confidence.

    x ~ N(μ, Σ) is sent through the steps; each of the d + d(d + 1)/2 sampled entries is standardised by its own sampled
    standard error, and the largest is held against the normal quantile of (1 − confidence)/(number of entries): by the
    union bound a correct prediction passes with at least that probability, up to the normal approximation of averages
    of `samples` terms.

    Args:
        key: of the draws.
        steps: as in `pushforward`, or any random function (key, x [samples, n]) -> y [samples, d].
        mean, covariance: of x, real.
        predicted: the moments to check; those of `pushforward` unless given (needed for a function).
        samples: number of draws, ≥ 100.
        confidence: in (0, 1).

    Raises:
        LinearAlgebraError: for a confidence outside (0, 1), too few samples, or a function without `predicted`.

    Cost: O(samples · d²).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> wrong = Moments(jnp.zeros(2), 1.1 * jnp.eye(2))
        >>> check_pushforward(jax.random.key(0), jnp.eye(2), jnp.zeros(2), jnp.eye(2), predicted=wrong).agrees
        False
    """
    if not 0 < confidence < 1:
        raise LinearAlgebraError(f"check_pushforward: confidence = {confidence!r} must be in (0, 1), such as 0.999")
    if samples < 100:
        raise LinearAlgebraError(f"check_pushforward: {samples} samples are too few for a normal bound; use ≥ 100")
    mean, covariance = _checked(mean, covariance)
    start, *keys = jax.random.split(key, 2)
    x = jax.random.multivariate_normal(start, mean, covariance, (samples,), method="eigh")
    if callable(steps) and not isinstance(steps, Dropout):
        if predicted is None:
            raise LinearAlgebraError("check_pushforward: give the `predicted` moments of a function")
        y = steps(keys[0], x)
    else:
        chain = _chain(steps)
        if predicted is None:
            predicted = pushforward(chain, mean, covariance)
        y = x
        for step, step_key in zip(chain, jax.random.split(keys[0], max(1, len(chain)))):
            if isinstance(step, Dropout):
                y = step(step_key, y)
            else:
                y = (step.operator @ y.T).T + (0 if step.bias is None else step.bias)
    draws = np.asarray(y, np.float64)
    sampled_mean = draws.mean(axis=0)
    centred = draws - sampled_mean
    sampled = centred.T @ centred / (samples - 1)
    square = (centred**2).T @ centred**2 / samples
    error_mean = np.sqrt(np.diagonal(sampled) / samples)
    error_covariance = np.sqrt(np.maximum(square - sampled**2, 0) / samples)
    upper = np.triu_indices(len(sampled_mean))
    first = _largest_ratio(sampled_mean - np.asarray(predicted.mean), error_mean, sampled_mean)
    second = _largest_ratio((sampled - np.asarray(predicted.covariance))[upper], error_covariance[upper], sampled)
    tail = (1 - confidence) / (len(sampled_mean) + len(upper[0])) / 2
    bound = float(jax.scipy.special.ndtri(jnp.asarray(1 - tail))) if tail > 1e-6 else float(np.sqrt(-2 * np.log(tail)))
    return MomentCheck(
        first,
        second,
        bound,
        confidence,
        max(first, second) <= bound,
        Moments(jnp.asarray(sampled_mean), jnp.asarray(sampled)),
    )


def _largest_ratio(difference: np.ndarray, error: np.ndarray, scale: np.ndarray) -> float:
    """Largest |difference|/error; entries without any spread must agree to rounding."""
    rounding = 1e-5 * max(1e-30, float(np.max(np.abs(scale))))
    certain = error <= rounding * 1e-3
    ratio = np.where(certain, np.where(np.abs(difference) <= rounding, 0.0, np.inf), 0.0)
    ratio = np.where(certain, ratio, np.abs(difference) / np.where(certain, 1.0, error))
    return float(np.max(ratio))


def _chain(steps: Any) -> list[Affine | Dropout]:
    if isinstance(steps, (Affine, Dropout, LinearOperator)) or hasattr(steps, "shape"):
        steps = [steps]
    return [step if isinstance(step, (Affine, Dropout)) else Affine(step) for step in steps]


def _check_probability(p: float) -> None:
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)) or not 0 <= p < 1:
        raise LinearAlgebraError(f"the dropout probability p must be a number in [0, 1), got {p!r}")


def _checked(mean: jax.typing.ArrayLike, covariance: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
    mean, covariance = jnp.asarray(mean), jnp.asarray(covariance)
    dtype = jnp.result_type(mean, covariance, jnp.float32 if not jnp.issubdtype(mean.dtype, jnp.inexact) else mean)
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise DimensionMismatch(
            f"moments are a mean [n] and a covariance [n, n], got {list(mean.shape)} and {list(covariance.shape)}"
        )
    return mean.astype(dtype), covariance.astype(dtype)
