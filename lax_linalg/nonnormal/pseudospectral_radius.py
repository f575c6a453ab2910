"""Pseudospectral radius and abscissa with a proved bracket.

Outside the spectrum every component of Λ_ε holds an eigenvalue. So a circle (a vertical line) on which σ_min > ε keeps
all of Λ_ε on the side of the spectrum: one proof about a curve bounds the extreme point from above, and any point with
σ_min ≤ ε bounds it from below.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lax_linalg.core.batch import Batch
from lax_linalg.core.operator import MatrixLike
from lax_linalg.errors import ConvergenceError, LinearAlgebraError
from lax_linalg.nonnormal.arnoldi import Projection, project
from lax_linalg.nonnormal.inputs import SchurForm, SquareMatrix, over_batch, schur_form, square_matrix
from lax_linalg.nonnormal.numerical_range import radius_of
from lax_linalg.nonnormal.resolvent import Circle, Curve, Peak, Resolvent


class PseudospectralExtreme(NamedTuple):
    """lower ≤ value ≤ upper, with σ_min(zI − A) ≤ ε at the point z that attains the lower end.

    Example:
        >>> import lax_linalg as la
        >>> r = la.pseudospectral_radius([[0.0, 1.0], [0.0, 0.0]], 0.1)
        >>> r.lower <= 0.3316625 <= r.upper
        True
    """

    lower: float
    upper: float
    z: complex


def pseudospectral_radius(
    A: MatrixLike | Batch, eps: float, rtol: float = 1e-6, krylov: int | None = None
) -> PseudospectralExtreme:
    """ε-pseudospectral radius, ρ_ε(A) = max {|z| : σ_min(zI − A) ≤ ε}: the largest |λ| of A + E over ‖E‖ ≤ ε.

    Args:
        A: square operator or array [n, n], or a batch [..., n, n].
        eps: ε > 0, above the rounding level 4nε_machine‖A‖.
        rtol: width of the bracket that is aimed at, relative to the larger of the value and ε.
        krylov: search the rectangular Hessenberg matrix of that many Arnoldi steps, which needs only A @ x. That is an
            approximation from inside: `lower` is a lower bound, and `upper` is inf.

    Returns:
        `PseudospectralExtreme(lower, upper, z)` in double precision.

    Raises:
        LinearAlgebraError: for ε out of range, or under `jit`.
        DimensionMismatch: unless A is square and not empty.
        NonFiniteError: for NaN or infinity.

    Cost: some 10 circles, each O(n³) for its proof and O(n) values of σ_min for its search.

    Example:
        >>> import numpy as np
        >>> import lax_linalg as la
        >>> r = la.pseudospectral_radius(np.diag([1.0, -2.0]), 0.5)
        >>> round(r.lower, 5), round(r.upper, 5)
        (2.5, 2.5)

    Source: Trefethen & Embree, Spectra and Pseudospectra (2005), § 14; criss-cross methods for the same number:
        E. Mengi and M. L. Overton, IMA J. Numer. Anal. 25 (2005).
    """
    if krylov is not None:
        return _from_inside(project(A, krylov, "pseudospectral_radius"), eps, rtol, False)
    return over_batch(lambda a: _extreme(square_matrix(a, "pseudospectral_radius"), eps, rtol, False), A)


def pseudospectral_abscissa(
    A: MatrixLike | Batch, eps: float, rtol: float = 1e-6, krylov: int | None = None
) -> PseudospectralExtreme:
    """ε-pseudospectral abscissa, α_ε(A) = max {Re z : σ_min(zI − A) ≤ ε}: the largest Re λ of A + E over ‖E‖ ≤ ε.

    Args:
        A: square operator or array [n, n], or a batch [..., n, n].
        eps: ε > 0, above the rounding level 4nε_machine‖A‖.
        rtol: width of the bracket that is aimed at, relative to the larger of |value| and ε.
        krylov: search the rectangular Hessenberg matrix of that many Arnoldi steps, which needs only A @ x. That is an
            approximation from inside: `lower` is a lower bound, and `upper` is inf.

    Returns:
        `PseudospectralExtreme(lower, upper, z)` in double precision.

    Raises:
        LinearAlgebraError: for ε out of range, or under `jit`.
        DimensionMismatch: unless A is square and not empty.
        NonFiniteError: for NaN or infinity.

    Cost: some 10 vertical lines, each O(n³) for its proof and O(n) values of σ_min for its search.

    Example:
        >>> import lax_linalg as la
        >>> a = la.pseudospectral_abscissa([[-1.0, 0.0], [0.0, -3.0]], 0.25)
        >>> round(a.lower, 5), round(a.upper, 5)
        (-0.75, -0.75)

    Source: J. V. Burke, A. S. Lewis, M. L. Overton, IMA J. Numer. Anal. 23 (2003); Trefethen & Embree (2005), § 14.
    """
    if krylov is not None:
        return _from_inside(project(A, krylov, "pseudospectral_abscissa"), eps, rtol, True)
    return over_batch(lambda a: _extreme(square_matrix(a, "pseudospectral_abscissa"), eps, rtol, True), A)


def _extreme(A: SquareMatrix, eps: float, rtol: float, line: bool) -> PseudospectralExtreme:
    schur = schur_form(A.array)
    _check(schur, eps, rtol)
    resolvent = Resolvent(schur, A.real)
    size = np.real(schur.eigenvalues) if line else np.abs(schur.eigenvalues)
    outermost = schur.eigenvalues[size.argmax()]
    direction = 1.0 if line or outermost == 0 else outermost / abs(outermost)
    # Λ + disc(ε) ⊆ Λ_ε ⊆ W(A) + disc(ε)
    lower, z = float(size.max()) + eps, outermost + eps * direction
    upper = high = _outermost_of_numerical_range(A, line) + eps + schur.rounding

    def width() -> float:
        return rtol * max(abs(lower), abs(high), eps)

    def curve(position: float) -> Curve:
        return resolvent.line(position) if line else Circle(position)

    # search: h(x) = 1/max ‖(zI − A)⁻¹‖ on the curve at x increases through ε at the extreme point
    at_low = at_high = np.nan
    for _ in range(60):
        if high - lower <= width() / 4:
            break
        x = _between(lower, high, at_low, at_high, width() / 8)
        peak = resolvent.largest(curve(x))
        if peak.value >= 1 / eps:
            lower, z, at_low = x, peak.z, 1 / peak.value - eps
        else:
            high, at_high = x, 1 / peak.value - eps
    # proof, at a distance that grows until the arithmetic suffices
    step = width() / 2
    while lower + step < upper:
        x = lower + step
        peak = resolvent.largest(curve(x))
        answer: bool | Peak = peak
        if peak.value < 1 / eps:
            answer = resolvent.proves_below(curve(x), 1 / eps, peak.value)
        if answer is True:
            upper = x
        elif isinstance(answer, Peak):
            lower, z = x, answer.z
        else:
            step *= 8
    if not lower <= upper:
        raise ConvergenceError(f"rounding leaves no bracket at ε = {eps}: {lower} > {upper}")
    return PseudospectralExtreme(float(lower), float(upper), complex(z))


def _check(schur: SchurForm, eps: float, rtol: float) -> None:
    if not (np.isfinite(eps) and eps > schur.rounding):
        raise LinearAlgebraError(
            f"ε must be a number above the rounding level {schur.rounding:.2g} of this matrix, got {eps}"
        )
    if not rtol > 0:
        raise LinearAlgebraError(f"rtol must be positive, got {rtol}")


def _from_inside(projection: Projection, eps: float, rtol: float, line: bool) -> PseudospectralExtreme:
    """The outermost circle (line) found on which σ_min(zĨ − H̃) ≤ ε somewhere."""
    schur, resolvent = projection.schur, projection.resolvent
    _check(schur, eps, rtol)

    def outside(position: float) -> Peak | None:
        if not line and position <= 0:
            return None
        peak = resolvent.largest(resolvent.line(position) if line else Circle(position))
        return peak if peak.value >= 1 / eps else None

    # beyond norm + ε there is none; the first one inwards, then bisection between the two
    high = schur.norm + eps
    last = -high if line else 0.0
    ladder = np.concatenate(
        [np.linspace(high, last, 25)[1:], np.real(schur.eigenvalues) if line else np.abs(schur.eigenvalues)]
    )
    found = None
    for position in np.sort(ladder)[::-1]:
        found = outside(float(position))
        if found is not None:
            low = float(position)
            break
        high = float(position)
    if found is None:
        raise LinearAlgebraError(
            f"{len(schur.triangle)} Arnoldi steps show no point of the pseudospectrum at ε = {eps}; take more steps"
        )
    while high - low > rtol * max(abs(low), eps):
        middle = (low + high) / 2
        peak = outside(middle)
        if peak is None:
            high = middle
        else:
            low, found = middle, peak
    return PseudospectralExtreme(low, np.inf, found.z)


def _between(low: float, high: float, at_low: float, at_high: float, least: float) -> float:
    """The secant's root of a bracketed increasing function, kept off the ends; the midpoint where it is unknown."""
    if not (np.isfinite(at_low) and np.isfinite(at_high)) or at_high <= at_low:
        return (low + high) / 2
    root = low - at_low * (high - low) / (at_high - at_low)
    return float(np.clip(root, low + least, high - least))


def _outermost_of_numerical_range(A: SquareMatrix, line: bool) -> float:
    if line:
        return float(np.linalg.eigvalsh((A.array + A.array.conj().T) / 2)[-1])
    return radius_of(A, 1e-6).upper
