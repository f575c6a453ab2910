"""sup ‖(zI − A)⁻¹‖ over a circle or a vertical line outside the spectrum: found, then proved.

Write φ for half the phase of the Blaschke product whose zeros are the eigenvalues. In that variable every entry
uᴴ(zI − A)⁻¹v of the resolvent, whose poles are the eigenvalues, obeys the Bernstein–Szegő inequality for rational
functions: if S bounds |f| on the curve, arccos(|f|/S) has slope at most 1 in φ. The curve is πn long in φ, so

- 4n points equally spaced in φ come within 1/cos(π/8) − 1 = 8 % of the supremum wherever the eigenvalues lie;
- samples v_j = ‖(z_j − A)⁻¹‖ prove sup < S once arccos(v_j/S) + arccos(v_{j+1}/S) exceeds every gap φ_{j+1} − φ_j.

The second is the robust proof. It needs many singular values where the resolvent is flat along the curve, so the
quicker algebraic certificate of `trigonometric` is tried first; that one squares the matrix and ends at σ_min ≈ 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lax_linalg.nonnormal.inputs import SchurForm
from lax_linalg.nonnormal.shifted_inverse import ShiftedTriangle
from lax_linalg.nonnormal.trigonometric import proves_positive

# Up to this order one batched SVD is faster than compiling and running inverse Lanczos.
_SVD_ORDER = 48


@dataclass(frozen=True)
class Circle:
    """|z| = radius, run through by its angle t ∈ [−π, π]."""

    radius: float

    def points(self, t: np.ndarray) -> np.ndarray:
        return self.radius * np.exp(1j * t)

    def phase(self, t: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
        inside = 1 - eigenvalues / self.radius * np.exp(-1j * t[:, None])
        return len(eigenvalues) * t / 2 + np.angle(inside).sum(1)

    def towards(self, eigenvalues: np.ndarray) -> np.ndarray:
        """The parameter of the point nearest to each eigenvalue."""
        return np.angle(eigenvalues)

    def nodes(self, eigenvalues: np.ndarray) -> np.ndarray:
        """Parameters that resolve the phase: each eigenvalue's own phase in equal steps."""
        a = eigenvalues / self.radius
        u = np.tan(np.linspace(-np.pi, np.pi, 16, endpoint=False)[1:] / 2)
        width = (1 - np.abs(a)) / (1 + np.abs(a))
        t = np.angle(a)[:, None] + 2 * np.arctan(width[:, None] * u)
        return (t + np.pi) % (2 * np.pi) - np.pi

    def form(self, triangle: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Q, B of (z − T)ᴴ(z − T) − ε² as a trigonometric polynomial, and how far it shrinks σ² − ε²."""
        eye = np.eye(len(triangle))
        return (self.radius**2 - eps**2) * eye + triangle.conj().T @ triangle, self.radius * triangle, 1.0


@dataclass(frozen=True)
class Line:
    """Re z = abscissa, run through by t ∈ [−π, π] with Im z = scale·tan(t/2); the ends are infinity."""

    abscissa: float
    scale: float

    def points(self, t: np.ndarray) -> np.ndarray:
        return self.abscissa + 1j * self.scale * np.tan(np.clip(t, -np.pi, np.pi) / 2)

    def phase(self, t: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
        y = np.imag(self.points(t))[:, None]
        return np.arctan((y - np.imag(eigenvalues)) / (self.abscissa - np.real(eigenvalues))).sum(1)

    def towards(self, eigenvalues: np.ndarray) -> np.ndarray:
        """The parameter of the point nearest to each eigenvalue."""
        return 2 * np.arctan(np.imag(eigenvalues) / self.scale)

    def nodes(self, eigenvalues: np.ndarray) -> np.ndarray:
        """Parameters that resolve the phase: each eigenvalue's own phase in equal steps."""
        u = np.tan(np.linspace(-np.pi, np.pi, 16, endpoint=False)[1:] / 2)
        y = np.imag(eigenvalues)[:, None] + (self.abscissa - np.real(eigenvalues))[:, None] * u
        return 2 * np.arctan(y / self.scale)

    def form(self, triangle: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Q, B of ((z − T)ᴴ(z − T) − ε²)·cos²(t/2), and how far that factor shrinks it where |Im z| ≤ 2·scale."""
        eye, c = np.eye(len(triangle)), self.scale
        shifted = self.abscissa * eye - triangle
        h = shifted.conj().T @ shifted - eps**2 * eye
        skew = shifted.conj().T - shifted
        return (h + c**2 * eye) / 2, (c**2 * eye - h + c * skew) / 4, 0.2


Curve = Circle | Line


class Peak(NamedTuple):
    """A value ‖(zI − A)⁻¹‖ that is attained at z."""

    value: float
    z: complex


class Resolvent:
    """Norms of (zI − A)⁻¹ along circles and lines that have all eigenvalues on one side.

    Args:
        schur: the Schur form of A.
        real: A is real, so half of each curve is enough.
        row: one more row below A, [n], of a rectangular Hessenberg matrix H̃. Then the norms are 1/σ_min(zĨ − H̃), the
            eigenvalues of A may lie anywhere, and only a search is possible, no proof.
    """

    def __init__(self, schur: SchurForm, real: bool, row: np.ndarray | None = None):
        self.schur, self.real, self.projected = schur, real, row is not None
        self.pencil = ShiftedTriangle(schur.triangle, None if row is None else row @ schur.unitary)

    def line(self, abscissa: float) -> Line:
        return Line(abscissa, max(self.schur.norm, abs(abscissa), 1e-300))

    def sigma_min(self, z: np.ndarray) -> np.ndarray:
        """σ_min(zI − A), for a search: exact for small orders, by Lanczos beyond."""
        if len(self.schur.triangle) <= _SVD_ORDER:
            return self.pencil.sigma_min_svd(z)
        return self.pencil.sigma_min(z, absolute=math.inf, svd_fallback=False).sigma

    def at(self, z: complex) -> Peak:
        """The norm at one point by the SVD, rounded down."""
        sigma = float(self.pencil.sigma_min_svd(np.array([z]))[0])
        return Peak(1 / (sigma + self._rounding(z)), complex(z))

    def _rounding(self, z: complex | np.ndarray) -> float:
        largest = max(float(np.max(np.abs(np.where(np.isfinite(z), z, 0)))), self.schur.norm, 1e-300)
        return 4 * len(self.schur.triangle) * float(np.finfo(float).eps) * min(largest, 4 * self.schur.norm + largest)

    def samples(self, curve: Curve, per_order: int = 4) -> np.ndarray:
        """Parameters t, about `per_order`·n of them, equally spaced in the phase, both ends included."""
        first, last = (0.0 if self.real else -np.pi), np.pi
        eigenvalues = self.schur.eigenvalues
        if self.projected:  # no phase to go by: equal steps, and where eigenvalues are near
            return np.unique(np.clip(np.append(np.linspace(first, last, 129), curve.towards(eigenvalues)), first, last))
        nodes = np.concatenate([curve.nodes(eigenvalues).ravel(), np.linspace(first, last, 65)])
        nodes = np.unique(np.clip(nodes, first, last))
        phase = curve.phase(nodes, eigenvalues)
        count = max(8, per_order * len(eigenvalues) // (2 if self.real else 1)) + 1
        return np.interp(np.linspace(phase[0], phase[-1], count), phase, nodes)

    def largest(self, curve: Curve) -> Peak:
        """The supremum along the curve as a search finds it: a lower bound that is attained, not a proof."""
        t = self.samples(curve)
        value = self._values(curve, t)
        left, right = np.concatenate([value[:1], value[:-1]]), np.concatenate([value[1:], value[-1:]])
        peaks = np.flatnonzero((value >= left) & (value >= right) & (value >= 0.85 * value.max()))
        peaks = peaks[np.argsort(-value[peaks])][:8]
        low, high = np.maximum(peaks - 1, 0), np.minimum(peaks + 1, len(t) - 1)
        # columns: three parameters around each peak and their values; the bracket is halved in every round
        t3, v3 = t[np.stack([low, peaks, high])], value[np.stack([low, peaks, high])]
        for _ in range(6):
            middles = (t3[:-1] + t3[1:]) / 2
            between = self._values(curve, middles.ravel()).reshape(middles.shape)
            t5 = np.stack([t3[0], middles[0], t3[1], middles[1], t3[2]])
            v5 = np.stack([v3[0], between[0], v3[1], between[1], v3[2]])
            top = np.clip(v5.argmax(0), 1, 3) + np.array([[-1], [0], [1]])
            t3, v3 = np.take_along_axis(t5, top, 0), np.take_along_axis(v5, top, 0)
            keep = v3.max(0) >= 0.98 * v3.max()
            t3, v3 = t3[:, keep], v3[:, keep]
        candidates = np.concatenate([t3.ravel(), _vertex(t3, v3)])
        return self.at(curve.points(candidates[[self._values(curve, candidates).argmax()]])[0])

    def _values(self, curve: Curve, t: np.ndarray) -> np.ndarray:
        return 1 / np.maximum(self.sigma_min(curve.points(t)), 1e-300)

    def proves_below(self, curve: Curve, bound: float, found: float) -> bool | Peak:
        """Whether ‖(zI − A)⁻¹‖ ≤ bound along the whole curve.

        Args:
            curve: with all eigenvalues inside the circle or to the left of the line.
            bound: the claim.
            found: the largest value that is known, below `bound`.

        Returns:
            True when proved, a `Peak` that contradicts the claim, or False when the arithmetic or the budget of
            singular values does not suffice.
        """
        eps = 1 / bound
        q, b, shrink = curve.form(self.schur.triangle, eps)
        if proves_positive(q, b, shrink * (1 / found**2 - eps**2) / 2):
            return True
        return self._covers(curve, bound)

    def _covers(self, curve: Curve, bound: float) -> bool | Peak:
        n, eigenvalues = len(self.schur.triangle), self.schur.eigenvalues
        budget = int(np.clip(1.5e10 / n**3, 64, 60 * n + 400))
        t, phase, value = np.empty(0), np.empty(0), np.empty(0)
        new = self.samples(curve, 2)
        while len(t) + len(new) <= budget:
            z = curve.points(new)
            sigma = self.pencil.sigma_min_svd(z)
            over = 1 / np.maximum(sigma - self._rounding(self._near(z)), 1e-300)
            if over.max() >= bound:
                worst = int(over.argmax())
                peak = self.at(z[worst])
                return peak if peak.value >= bound else False
            t, value = np.concatenate([t, new]), np.concatenate([value, over])
            phase = np.concatenate([phase, curve.phase(new, eigenvalues)])
            order = np.argsort(t)
            t, phase, value = t[order], phase[order], value[order]
            reach = np.arccos(value / bound)
            open_gap = reach[:-1] + reach[1:] <= np.diff(phase) * (1 + 1e-9) + 1e-13 * n
            if not open_gap.any():
                return True
            new = (t[:-1] + t[1:])[open_gap] / 2
            if np.min(np.diff(t)[open_gap]) < 1e-13:
                return False
        return False

    def _near(self, z: np.ndarray) -> np.ndarray:
        """The points whose rounding matters: far out σ_min is of the order of |z| itself."""
        return np.where(np.abs(z) > 4 * self.schur.norm + 1, 0, z)


def _vertex(t: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where the parabola through three points has its vertex, kept between the outer two; [3, k] -> [k]."""
    left, right = t[0] - t[1], t[2] - t[1]
    rise, fall = v[0] - v[1], v[2] - v[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        step = (rise * right**2 - fall * left**2) / (2 * (rise * right - fall * left))
    return t[1] + np.clip(np.where(np.isfinite(step), step, 0), np.minimum(left, right), np.maximum(left, right))


def certified_supremum(resolvent: Resolvent, curve: Curve, slack: Callable[[float], float]) -> tuple[Peak, float]:
    """The peak along the curve and a proved upper bound.

    Args:
        resolvent, curve: with all eigenvalues inside the circle or to the left of the line.
        slack: from the peak's value to the relative gap that the bound may have at best; where rounding prevents that,
            larger gaps are tried, and the bound is inf when none is proved.
    """
    peak = resolvent.largest(curve)
    gap = slack(peak.value)
    while gap < 1e3:
        bound = peak.value * (1 + gap)
        answer = resolvent.proves_below(curve, bound, peak.value)
        if answer is True:
            return peak, bound
        if isinstance(answer, Peak):
            peak = answer
        else:
            gap *= 8
    return peak, math.inf
