"""The Kreiss constant with lower and upper certificates.

𝒦(A) = sup_{d > 0} d·M(d), where M(d) is the largest ‖(zI − A)⁻¹‖ on the circle |z| = 1 + d, or on the line Re z = d for
continuous time. By Hadamard's three-circles (three-lines) theorem log M is a convex function of log |z| (of Re z): two
proved values of M bound all values between them by the chord, with an error of second order. Beyond the numerical range
M(d) ≤ 1/(d − g), where g is how far W(A) reaches beyond the unit disc (the half-plane). So a dozen circles, each with a
proved maximum, bracket the supremum over an unbounded set in the plane.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lax_linalg.core.batch import Batch
from lax_linalg.core.operator import MatrixLike
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.nonnormal.arnoldi import Projection, project
from lax_linalg.nonnormal.inputs import SchurForm, SquareMatrix, over_batch, schur_form, square_matrix
from lax_linalg.nonnormal.marginal import NearBound, marginal_bound
from lax_linalg.nonnormal.numerical_range import radius_of
from lax_linalg.nonnormal.resolvent import Circle, Curve, Resolvent, certified_supremum

_MOST_CURVES = 100


class KreissConstant(NamedTuple):
    """lower ≤ 𝒦(A) ≤ upper; lower is attained at z, or approached as |z| → ∞ when z is infinite.

    Example:
        >>> import lax_linalg as la
        >>> K = la.kreiss_constant([[0.0, 8.0], [0.0, 0.0]])
        >>> K.lower <= K.upper <= 1.001 * K.lower
        True
    """

    lower: float
    upper: float
    z: complex


def kreiss_constant(
    A: MatrixLike | Batch, continuous: bool = False, rtol: float = 1e-3, krylov: int | None = None
) -> KreissConstant:
    """Kreiss constant: how far powers (or the exponential) of A can grow before they decay.

    𝒦(A) = sup_{|z|>1} (|z| − 1) ‖(zI − A)⁻¹‖, and sup_{Re z>0} Re z ‖(zI − A)⁻¹‖ for continuous time. By the Kreiss
    matrix theorem 𝒦 ≤ sup_k ‖Aᵏ‖ ≤ e n 𝒦 (sup_t ‖e^{tA}‖ likewise). 𝒦 ≥ 1, with equality exactly when the numerical
    range lies in the closed unit disc (left half-plane), as it does for stable normal matrices.

    Args:
        A: square operator or array [n, n], or a batch [..., n, n].
        continuous: the constant of e^{tA} instead of Aᵏ.
        rtol: relative width of the bracket that is aimed at.
        krylov: search the rectangular Hessenberg matrix of that many Arnoldi steps, which needs only A @ x. That is an
            approximation from inside: `lower` is a lower bound, and `upper` is inf.

    Returns:
        `KreissConstant(lower, upper, z)` in double precision. Both ends hold for a matrix within rounding of A: the
        allowance is 4nε‖A‖ in every singular value, and whether A is stable is decided up to the precision in which it
        was given. Where rounding prevents a proof, upper is honest and larger than (1 + rtol)·lower, at worst inf.

    Raises:
        LinearAlgebraError: 𝒦 is infinite, because ρ(A) > 1 (an eigenvalue has Re λ > 0) or an eigenvalue on the
            boundary is defective; or the call runs under `jit`.
        DimensionMismatch: unless A is square and not empty.
        NonFiniteError: for NaN or infinity.

    Cost: some 10 to 30 circles, each O(n³) for its proof and O(n) values of σ_min for its search; with `krylov`, that
        many products and then circles of that order.

    Example:
        >>> import lax_linalg as la
        >>> la.kreiss_constant([[0.5, 0.0], [0.0, -1.0]])
        KreissConstant(lower=1.0, upper=1.0, z=(inf+0j))

    Source: H.-O. Kreiss, BIT 2 (1962); M. Spijker, BIT 31 (1991); Trefethen & Embree, Spectra and Pseudospectra (2005),
        § 18. Other globally convergent methods: T. Mitchell, SIAM J. Matrix Anal. Appl. 41 (2020).
    """
    if not rtol > 0:
        raise LinearAlgebraError(f"kreiss_constant needs rtol > 0, got {rtol}")
    if krylov is not None:
        return _from_inside(project(A, krylov, "kreiss_constant"), continuous, rtol)
    return over_batch(lambda a: _kreiss(square_matrix(a, "kreiss_constant"), continuous, rtol), A)


def require_stable(A: SquareMatrix, schur: SchurForm, continuous: bool, question: str) -> float:
    """The distance of the spectrum from instability; raises when an eigenvalue lies beyond it by more than rounding."""
    if continuous:
        growth, name, limit = float(np.real(schur.eigenvalues).max()), "spectral abscissa max Re λ", 0.0
    else:
        growth, name, limit = float(np.abs(schur.eigenvalues).max()), "spectral radius", 1.0
    if growth - limit > tolerance(A, schur):
        fix = "shift A by −cI, c ≥ max Re λ," if continuous else "scale A by 1/ρ(A)"
        raise LinearAlgebraError(
            f"{question} is infinite: the {name} is {growth:.6g} > {limit:g} (and so the Kreiss constant is infinite); "
            f"{fix} to ask about transients relative to the asymptotic growth, or ask for a finite horizon"
        )
    return limit - growth


def tolerance(A: SquareMatrix, schur: SchurForm) -> float:
    """What rounding of the entries, in the precision they were given in, may do to norms and well-conditioned λ."""
    return 8 * A.order * A.eps * max(schur.norm, 1e-300)


def _kreiss(A: SquareMatrix, continuous: bool, rtol: float) -> KreissConstant:
    schur = schur_form(A.array)
    margin = require_stable(A, schur, continuous, "the supremum over z")
    excess = _reach(A, schur, continuous)
    if excess <= tolerance(A, schur):
        return KreissConstant(1.0, 1.0, complex(math.inf))
    search = _Search(A, schur, continuous, rtol, excess)
    found = search.run(marginal_bound(A, schur, continuous) if margin <= tolerance(A, schur) else None)
    if not np.isfinite(found.z):
        return found
    # what A itself has at z, without the rounding of its Schur form
    sigma = np.linalg.svd(found.z * np.eye(A.order) - A.array, compute_uv=False)[-1]
    distance = found.z.real if continuous else abs(found.z) - 1
    return found._replace(lower=float(min(distance / sigma, found.upper)))


def _from_inside(projection: Projection, continuous: bool, rtol: float) -> KreissConstant:
    """The largest d/σ_min(zĨ − H̃) that a search over circles (lines) finds."""
    if projection.row is None:  # the eigenvalues of H are some of A's
        require_stable(projection.square, projection.schur, continuous, "the supremum over z")
    resolvent, best = projection.resolvent, (1.0, complex(math.inf))

    def value(log_d: float) -> float:
        nonlocal best
        d = math.exp(log_d)
        peak = resolvent.largest(resolvent.line(d) if continuous else Circle(1 + d))
        best = max(best, (d * peak.value, peak.z), key=lambda found: found[0])
        return d * peak.value

    scale = math.log(max(projection.schur.norm, 1e-300 if continuous else 1.0))
    grid = scale + np.linspace(math.log(1e-4), math.log(10), 17)
    values = [value(x) for x in grid]
    middle = int(np.argmax(values))
    low, high = grid[max(middle - 1, 0)], grid[min(middle + 1, len(grid) - 1)]
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = value(left), value(right)
    while high - low > math.sqrt(rtol):  # d·M(d) is flat at its maximum: the error is of second order
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = value(right)
    return KreissConstant(float(best[0]), math.inf, best[1])


def _reach(A: SquareMatrix, schur: SchurForm, continuous: bool) -> float:
    """An upper bound of how far the numerical range reaches beyond the unit disc or the left half-plane."""
    if continuous:
        return float(np.linalg.eigvalsh((A.array + A.array.conj().T) / 2)[-1]) + schur.rounding
    if schur.norm <= 1:
        return 0.0
    return radius_of(A, 1e-6).upper - 1


class _Search:
    """Branch and bound in the distance d from the unit circle (imaginary axis)."""

    def __init__(self, A: SquareMatrix, schur: SchurForm, continuous: bool, rtol: float, excess: float):
        self.resolvent = Resolvent(schur, A.real)
        self.continuous, self.rtol, self.excess = continuous, rtol, excess
        self.lower, self.z = 1.0, complex(math.inf)
        self.distance, self.log_bound = np.empty(0), np.empty(0)
        self.near: NearBound | None = None

    def curve(self, d: float) -> Curve:
        return self.resolvent.line(d) if self.continuous else Circle(1 + d)

    def visit(self, d: float) -> None:
        """Find and prove the maximum on one curve, loosely where it is far from deciding the supremum."""

        def slack(value: float) -> float:
            return float(np.clip((self.lower / max(d * value, 1e-300)) ** 0.25 - 1, self.rtol / 4, 1.0))

        peak, bound = certified_supremum(self.resolvent, self.curve(d), slack)
        if d > self.excess:
            bound = min(bound, 1 / (d - self.excess))
        if d * peak.value > self.lower:
            self.lower, self.z = d * peak.value, peak.z
        at = int(np.searchsorted(self.distance, d))
        self.distance = np.insert(self.distance, at, d)
        self.log_bound = np.insert(self.log_bound, at, math.log(bound))

    def run(self, near: NearBound | None) -> KreissConstant:
        """Bracket the supremum, with the bound `near` the boundary where eigenvalues lie on it."""
        self.near = near
        first = 0.0 if near is None else self.rtol / 2 * near.value / max(near.slope, self.rtol * near.value)
        self.visit(max(first, 2 * self.excess))
        target = self.lower * (1 + self.rtol)
        last = self.excess * target / (target - 1)
        for d in {first, last} - set(self.distance):
            self.visit(d)
        left = 0.0 if near is None else near.value + near.slope * first
        while True:
            bounds, where = self._chords()
            tail = self.distance[-1] / (self.distance[-1] - self.excess)
            upper = max(left, tail, float(bounds.max()), self.lower)
            worst = int(bounds.argmax())
            done = bounds[worst] <= self.lower * (1 + self.rtol) or len(self.distance) >= _MOST_CURVES
            low, high = self.distance[worst], self.distance[worst + 1]
            if done or high - low <= 1e-9 * high:
                return KreissConstant(float(self.lower), float(upper), self.z)
            self.visit(float(np.clip(where[worst], low + 0.1 * (high - low), high - 0.1 * (high - low))))

    def _chords(self) -> tuple[np.ndarray, np.ndarray]:
        """For each pair of neighbouring curves, a bound of d·M(d) between them and the d of that bound."""
        d, m = self.distance, self.log_bound
        s = d if self.continuous else np.log1p(d)
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = np.diff(m) / np.diff(s)
            # log d + chord is concave; its maximum is where d log d / ds = −slope
            if self.continuous:
                top = np.where(slope < 0, -1 / slope, np.inf)
            else:
                top = np.where(slope < -1, -1 / (1 + slope), np.inf)
            where = np.clip(top, d[:-1], d[1:])
            position = where if self.continuous else np.log1p(where)
            chord = np.log(where) + m[:-1] + slope * (position - s[:-1])
        monotone = np.log(d[1:]) + m[:-1]  # M decreases: good enough where a chord has no end
        usable = np.isfinite(chord)
        bounds = np.where(usable, np.minimum(chord, monotone), monotone)
        if self.near is not None:
            bounds = np.minimum(bounds, np.log(self.near.value + self.near.slope * d[1:]))
        return np.exp(bounds), np.where(usable, where, (d[:-1] + d[1:]) / 2)
