"""Eigenvalues on the unit circle or the imaginary axis itself: the resolvent next to them by spectral projectors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.nonnormal.inputs import SchurForm, SquareMatrix, schur_form
from lax_linalg.nonnormal.resolvent import Circle, Resolvent, certified_supremum


class NearBound(NamedTuple):
    """d·‖(zI − A)⁻¹‖ ≤ value + slope·d for every z at a distance d > 0 outside the circle (right of the axis)."""

    value: float
    slope: float


def marginal_bound(A: SquareMatrix, schur: SchurForm, continuous: bool) -> NearBound:
    """Bound the resolvent near eigenvalues that lie on the boundary of stability.

    With P_k the spectral projectors of the marginal eigenvalues, (zI − A)⁻¹ = Σ P_k/(z − λ_k) + regular part. Where
    λ_k is the nearest of them, the first term gives d‖P_k‖/|z − λ_k| ≤ ‖P_k‖, the other ones and the regular part O(d).

    Raises:
        LinearAlgebraError: when a marginal eigenvalue is defective, so that the powers are unbounded.
    """
    values = schur.eigenvalues
    reach = -np.real(values) if continuous else 1 - np.abs(values)
    # numerically one eigenvalue: within the square root of the precision, which is how far a double one splits
    closeness = math.sqrt(A.eps) * max(schur.norm, 1e-300)
    marginal = values[reach <= 16 * A.order * A.eps * max(schur.norm, 1e-300)]
    clusters: list[np.ndarray] = []
    while len(marginal):
        near = np.abs(marginal - marginal[0]) <= closeness
        clusters.append(marginal[near])
        marginal = marginal[~near]
    projectors = [_projector(A, schur, cluster, closeness, continuous) for cluster in clusters]
    norms = np.array([np.linalg.norm(p, 2) for p in projectors])
    centres = np.array([c.mean() for c in clusters])
    # the regular part is (zI − A')⁻¹(I − ΣP) where A' has the marginal eigenvalues moved well inside
    inside = -max(schur.norm, 1.0) if continuous else 0.0
    moved = A.array - sum((c - inside) * p for c, p in zip(centres, projectors))
    rest = Resolvent(schur_form(moved), real=False)
    curve = rest.line(0.0) if continuous else Circle(1.0)
    _, regular = certified_supremum(rest, curve, lambda value: 1.0)
    regular *= float(np.linalg.norm(np.eye(A.order) - sum(projectors), 2))
    gaps = np.abs(centres[:, None] - centres[None])
    np.fill_diagonal(gaps, np.inf)
    others = (norms / (gaps / 2)).sum(1)
    return NearBound(float(norms.max()), float(others.max() + regular))


def _projector(
    A: SquareMatrix, schur: SchurForm, cluster: np.ndarray, closeness: float, continuous: bool
) -> np.ndarray:
    """Spectral projector of a cluster of equal eigenvalues, by reordering the Schur form and a Sylvester equation."""
    import scipy.linalg

    centre = cluster.mean()
    t, z, count = scipy.linalg.schur(  # type: ignore[misc]
        schur.triangle, output="complex", sort=lambda value: bool(abs(value - centre) <= 2 * closeness)
    )
    block = t[:count, :count] - centre * np.eye(count)
    if np.linalg.norm(block, 2) > 100 * A.order * A.eps * max(schur.norm, 1e-300):
        where = "on the imaginary axis" if continuous else "of modulus 1"
        raise LinearAlgebraError(
            f"the Kreiss constant is infinite: the eigenvalue {centre:.6g} {where} is defective (a Jordan block), "
            f"so the {'exponential' if continuous else 'powers'} of A grow without bound"
        )
    x = scipy.linalg.solve_sylvester(t[:count, :count], -t[count:, count:], -t[:count, count:])
    projector = np.zeros_like(t)
    projector[:count, :count], projector[:count, count:] = np.eye(count), -x
    basis = schur.unitary @ z
    return basis @ projector @ basis.conj().T
