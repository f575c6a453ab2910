"""Transient growth: the norms of powers and of the exponential, and their supremum over all times."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.batch import Batch
from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator, MatrixLike
from lax_linalg.dense import platform
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.nonnormal.arnoldi import project
from lax_linalg.nonnormal.inputs import SquareMatrix, double_precision, is_batch, over_batch, schur_form, square_matrix
from lax_linalg.nonnormal.kreiss import require_stable, tolerance
from lax_linalg.verbs.basic import dense
from lax_linalg.verbs.functions import matrix_exponential

# Steps are taken in blocks of one compiled program, without a horizon at most so many.
_MOST, _BLOCK = 8192, 32


class TransientGrowth(NamedTuple):
    """The curve ‖Aᵏ‖₂ or ‖e^{tA}‖₂ and its supremum.

    Attributes:
        times: k = 0, 1, … or t, [m].
        norms: the curve, [m]; it begins at 1.
        argmax: the time of the largest value.
        maximum: the largest value: a lower bound of the supremum over all times.
        upper: a proved upper bound of the supremum over *all* times, inf if there is none.

    Example:
        >>> import lax_linalg as la
        >>> g = la.transient_growth([[0.5, 4.0], [0.0, 0.5]])
        >>> g.argmax, round(g.maximum, 3), g.upper == g.maximum
        (1.0, 4.062, True)
    """

    times: np.ndarray
    norms: np.ndarray
    argmax: float
    maximum: float
    upper: float


@verb(algorithm="Repeated products, one singular value each.", cost="O(steps n³)", square=True, sizeless=True)
def power_norms(A: LinearOperator, steps: int) -> jax.Array:
    """The curve ‖Aᵏ‖₂ for k = 0 … steps.

    Args:
        A: square operator or array [n, n]; batches by `jax.vmap`.
        steps: the last power.

    Returns:
        Real numbers [steps + 1], the first one 1. The products are rescaled, so only the curve itself can overflow.

    Raises:
        DimensionMismatch: unless A is square.
        NonFiniteError: for NaN or infinity.

    Runs under `jit`, `vmap` and `grad`; `transient_growth` finds the maximum and proves it.

    Example:
        >>> import lax_linalg as la
        >>> print(la.power_norms([[0.0, 3.0], [0.0, 0.0]], 3))
        [1. 3. 0. 0.]

    Source: Trefethen & Embree, Spectra and Pseudospectra (2005), § 16.
    """
    a = dense(A)
    start = (jnp.eye(a.shape[0], dtype=a.dtype), jnp.zeros((), jnp.finfo(a.dtype).dtype))
    _, norms = _follow(a, start, steps)
    return jnp.concatenate([jnp.ones(1, norms.dtype), norms])


@functools.partial(jax.jit, static_argnums=2)
def _follow(a: jax.Array, start: tuple[jax.Array, jax.Array], steps: int) -> tuple[Any, jax.Array]:
    """Norms of the next products; the state is (P, c) for the power e^c P with ‖P‖ = 1 or 0."""

    def advance(state: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        power, log_scale = state
        power = a @ power
        norm = platform.svdvals(power)[0] if power.size else jnp.zeros((), log_scale.dtype)
        safe = jnp.where(norm == 0, 1, norm)
        log_norm = log_scale + jnp.log(safe)
        return (power / safe, log_norm), jnp.where(norm == 0, 0, jnp.exp(log_norm))

    return jax.lax.scan(advance, start, None, length=steps)


def transient_growth(
    A: MatrixLike | Batch,
    steps: int | None = None,
    continuous: bool = False,
    step: float | None = None,
    krylov: int | None = None,
) -> TransientGrowth:
    """Transient growth sup_k ‖Aᵏ‖₂, or sup_t ‖e^{tA}‖₂, with the curve.

    As soon as ‖Aᵐ‖ ≤ 1 every later power is bounded by an earlier one, ‖A^{qm+r}‖ ≤ ‖Aʳ‖, so the maximum up to then is
    the supremum over all k. Between sampled times ‖e^{(t+s)A}‖ ≤ ‖e^{tA}‖ e^{s ω(A)} with the numerical abscissa ω. If
    that point is not reached, later powers are bounded by κ(V) ρᵐ with the condition number of the eigenvectors, or the
    powers of the last Aᵐ are followed in the same way, with a coarser bound.

    Args:
        A: square operator or array [n, n], or a batch [..., n, n] (which needs `steps`).
        steps: the last k; None follows the curve until the supremum is proved, 32 to 8192 steps.
        continuous: the exponential instead of powers.
        step: for `continuous`, the time between samples; 1/20 of the time scale of growth 1/ω(A) by default, which
            puts `upper` within 5 % of `maximum`.
        krylov: powers of the Hessenberg matrix of that many Arnoldi steps, which needs only A @ x: ‖Aᵏ‖ on the vectors
            whose images stay in the Krylov space. That is an approximation from inside: the curve, of `krylov` powers
            (or `steps`, if fewer), is a lower bound, and `upper` is inf.

    Returns:
        `TransientGrowth(times, norms, argmax, maximum, upper)` in double precision.

    Raises:
        LinearAlgebraError: without `steps`, when ρ(A) > 1 (an eigenvalue has Re λ > 0) and the supremum is infinite;
            or under `jit`, where `power_norms` gives the curve.
        DimensionMismatch: unless A is square and not empty.
        NonFiniteError: for NaN or infinity.

    Cost: O(n³) a step, an SVD and a product.

    Example:
        >>> import lax_linalg as la
        >>> g = la.transient_growth([[-1.0, 10.0], [0.0, -2.0]], continuous=True)
        >>> bool(2.56 <= g.maximum <= g.upper <= 1.06 * g.maximum)
        True

    Source: Trefethen & Embree, Spectra and Pseudospectra (2005), §§ 14–18.
    """
    if steps is not None and steps < 1:
        raise LinearAlgebraError(f"transient_growth needs steps ≥ 1, got {steps}")
    if step is not None and not (continuous and step > 0):
        raise LinearAlgebraError("step is the time between samples: it must be positive and needs continuous=True")
    if krylov is not None:
        if continuous:
            raise LinearAlgebraError("krylov follows powers; an exponential leaves every Krylov space")
        return _from_inside(project(A, krylov, "transient_growth").square.array, steps)
    if steps is None and is_batch(A):
        raise LinearAlgebraError("transient_growth of a batch needs steps, so that all curves have one length")
    return over_batch(lambda a: _growth(square_matrix(a, "transient_growth"), steps, continuous, step), A)


def _from_inside(h: np.ndarray, steps: int | None) -> TransientGrowth:
    """Lower bounds of ‖Aᵏ‖: the first m − k columns of Hᵏ are exactly Aᵏ on the first vectors of the Krylov basis."""
    m = len(h)
    power, norms = np.eye(m), [1.0]
    for k in range(1, min(m - 1, steps or m) + 1):
        power = h @ power
        norms.append(float(np.linalg.norm(power[:, : m - k], 2)))
    top = int(np.argmax(norms))
    return TransientGrowth(np.arange(float(len(norms))), np.array(norms), float(top), norms[top], math.inf)


def _growth(A: SquareMatrix, steps: int | None, continuous: bool, step: float | None) -> TransientGrowth:
    schur = schur_form(A.array)
    try:
        require_stable(A, schur, continuous, "the supremum over all times")
        bounded = True
    except LinearAlgebraError:
        if steps is None:
            raise
        bounded = False
    growth_rate = float(np.linalg.eigvalsh((A.array + A.array.conj().T) / 2)[-1])
    dt = 1.0 if not continuous else step or _time_step(growth_rate, float(np.real(schur.eigenvalues).max()), schur.norm)
    one = 1 + tolerance(A, schur)
    with double_precision():
        a = matrix_exponential(jnp.asarray(A.array) * dt) if continuous else jnp.asarray(A.array)
    norms = _curve(a, _MOST if steps is None else steps, None if steps is not None else one)
    contracted = np.flatnonzero(norms[1:] <= one)
    top = int(norms.argmax())
    maximum = float(norms[top])
    between = math.exp(max(growth_rate, 0.0) * dt) if continuous else 1.0
    upper = math.inf
    if len(contracted):
        upper = float(norms[: contracted[0] + 1].max())
    elif bounded:
        # beyond the last m: ‖Aᵏ‖ ≤ κ(V) ρᵐ, or ‖A^{qm+r}‖ ≤ ‖A^{qm}‖ ‖Aʳ‖ with the powers of Aᵐ where these contract
        last = len(norms) - 1
        radius = math.exp(np.real(schur.eigenvalues).max() * dt) if continuous else np.abs(schur.eigenvalues).max()
        vectors = np.linalg.svd(np.linalg.eig(A.array)[1], compute_uv=False)
        if vectors[-1] > 0:
            upper = max(maximum, float(vectors[0] / vectors[-1] * min(radius, 1.0) ** last))
        if upper > 1.05 * maximum and radius ** (last * _MOST) < 1e-3:
            coarse = _curve(np.linalg.matrix_power(np.asarray(a), last), _MOST, one)
            if (coarse[1:] <= one).any():
                upper = min(upper, float(coarse.max()) * maximum)
    return TransientGrowth(np.arange(len(norms)) * dt, norms, top * dt, maximum, max(between * upper, maximum))


def _curve(a: Any, horizon: int, until: float | None) -> np.ndarray:
    """‖aᵏ‖ for k ≤ horizon, or until it is at most `until`; in whole blocks, so that all lengths run one program."""
    with double_precision():
        a = jnp.asarray(a)
        state: Any = (jnp.eye(a.shape[0], dtype=a.dtype), jnp.zeros(()))
        norms = np.ones(1)
        while len(norms) <= horizon:
            state, block = _follow(a, state, _BLOCK)
            norms = np.concatenate([norms, np.asarray(block)])
            if until is not None and (norms[1:] <= until).any():
                break
    return norms[: horizon + 1]


def _time_step(growth_rate: float, abscissa: float, norm: float) -> float:
    """A twentieth of the time scale of growth, or of decay where nothing grows."""
    if growth_rate > 1e-12 * norm:
        return 0.05 / growth_rate
    return 0.05 / max(abs(abscissa), 1e-3 * norm, 1e-300)
