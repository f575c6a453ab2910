"""The nearest matrix with a multiple eigenvalue: how close two eigenvalues are to coalescing into a Jordan block."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import DimensionMismatch
from lax_linalg.nonnormal.eigenvalue_condition import condition_of_triangle
from lax_linalg.nonnormal.inputs import SchurForm, SquareMatrix, double_precision, over_batch, schur_form, square_matrix

# How many of the most threatened pairs are followed to their saddle point.
_PAIRS, _NEWTON_STEPS = 5, 30


class NearestDefective(NamedTuple):
    """lower ≤ distance to the nearest matrix with a multiple eigenvalue ≤ upper, in the 2-norm.

    Attributes:
        lower, upper: both hold, up to rounding; lower is Bauer and Fike's and may be off by a factor of the order n.
        pair: the two eigenvalues of A that coalesce, complex [2].
        eigenvalue: where they meet.
        perturbation: E such that A + E has `eigenvalue`, defective to within upper − ‖E‖, complex [n, n].

    Example:
        >>> from lax_linalg.nonnormal import nearest_defective
        >>> d = nearest_defective([[1.0, 0.0], [0.0, -1.0]])
        >>> round(d.upper, 6), d.lower <= d.upper
        (1.0, True)
    """

    lower: float
    upper: float
    pair: np.ndarray
    eigenvalue: complex
    perturbation: np.ndarray


class _Candidate(NamedTuple):
    upper: float
    z: complex
    perturbation: np.ndarray


def nearest_defective(A: Any) -> NearestDefective:
    """Distance to the nearest defective matrix, bracketed, with the pair of eigenvalues that is about to coalesce.

    Upper bounds come from saddle points of σ_min(zI − A) between two eigenvalues: where the singular vectors satisfy
    uᴴv = 0, the rank-one change of norm σ_min makes z a defective eigenvalue. Short of uᴴv = 0 Wilkinson's bound
    ‖A − zI‖ |uᴴv| (1 − |uᴴv|²)^{−1/2} is added, so every point that is tried gives a valid bound. The search for the
    lowest saddle is local: `upper` is a bound, not proved to be the distance. The lower bound asks when Bauer and
    Fike's discs around the eigenvalues, of radius nκ_iε or κ(V)ε, first touch.

    Args:
        A: square operator or array [n, n], n ≥ 2, or a batch [..., n, n].

    Returns:
        `NearestDefective(lower, upper, pair, eigenvalue, perturbation)` in double precision. Both bounds are 0 for a
        multiple eigenvalue; at rounding level upper/‖A‖ the matrix is numerically defective.

    Raises:
        DimensionMismatch: unless A is square with n ≥ 2.
        NonFiniteError: for NaN or infinity.
        LinearAlgebraError: under `jit`.

    Cost: O(n³) for each of up to some 100 singular value decompositions.

    Example:
        >>> from lax_linalg.nonnormal import nearest_defective
        >>> d = nearest_defective([[1.0, 3.0], [0.0, -1.0]])
        >>> round(d.upper, 6), complex(round(d.eigenvalue.real, 6))
        (0.302776, 0j)

    Source: J. H. Wilkinson, Utilitas Math. 25 (1984); R. Alam and S. Bora, Linear Algebra Appl. 396 (2005);
        Trefethen & Embree, Spectra and Pseudospectra (2005), § 52.
    """
    return over_batch(lambda a: _nearest(square_matrix(a, "nearest_defective")), A)


def _nearest(A: SquareMatrix) -> NearestDefective:
    n = A.order
    if n < 2:
        raise DimensionMismatch("nearest_defective needs a matrix of order at least 2, got 1×1")
    schur = schur_form(A.array)
    values = schur.eigenvalues
    with double_precision():
        kappa = np.asarray(condition_of_triangle(jnp.asarray(schur.triangle)))
    i, j = np.triu_indices(n, 1)
    gap = np.abs(values[i] - values[j])
    touch = gap / (kappa[i] + kappa[j])  # to first order, the ε at which two discs of radius κε meet
    lower = max(float((touch / n).min()), float(gap.min()) / (2 * _basis_condition(schur)))
    candidates: list[tuple[_Candidate, int]] = []
    for p in np.argsort(touch, kind="stable")[:_PAIRS]:
        a, b = complex(values[i[p]]), complex(values[j[p]])
        share = kappa[i[p]] / (kappa[i[p]] + kappa[j[p]]) if np.isfinite(touch[p]) and touch[p] > 0 else 0.5
        start = a + (b - a) * share
        found = _saddle(A.array, complex(start), float(gap[p])), _bound_at(A.array, a), _bound_at(A.array, b)
        candidates += [(candidate, p) for candidate in found]
            (c, p)
            for c in (_saddle(A.array, complex(start), float(gap[p])), _bound_at(A.array, a), _bound_at(A.array, b))
        ]
        if p == np.argmin(touch):
            candidates.append((_merge(schur, a), p))
    best, p = min(candidates, key=lambda pair: pair[0].upper)
    pair = np.array([values[i[p]], values[j[p]]])
    return NearestDefective(min(lower, best.upper), best.upper, pair, complex(best.z), best.perturbation)


def _basis_condition(schur: SchurForm) -> float:
    """κ(V) for unit eigenvectors, inf where LAPACK's are dependent."""
    s = np.linalg.svd(np.linalg.eig(schur.triangle)[1], compute_uv=False)
    return float(s[0] / s[-1]) if s[-1] > 0 else np.inf


def _bound_at(a: np.ndarray, z: complex) -> _Candidate:
    """The bound that the smallest singular triplet at z gives, choosing within a double singular value."""
    n = len(a)
    shifted = z * np.eye(n) - a
    u, s, vh = np.linalg.svd(shifted)
    pairs = [(u[:, -1], vh[-1].conj())]
    if s[-2] - s[-1] <= 1e-6 * s[-2]:
        # any w gives a triplet (U w, V w); one with wᴴ(UᴴV)w = 0 exists where 0 is in that numerical range
        w = _isotropic(u[:, -2:].conj().T @ vh[-2:].conj().T)
        pairs.append((u[:, -2:] @ w, vh[-2:].conj().T @ w))
    best = None
    for left, right in pairs:
        left, right = left / np.linalg.norm(left), right / np.linalg.norm(right)
        # exact left and right null vectors of z − A − E, whatever the triplet's own error
        e = s[-1] * np.outer(left, right.conj()) if s[-2] - s[-1] > 1e-6 * s[-2] else _rank_one(shifted, left, right)
        slope = min(abs(np.vdot(left, right)), 1.0)
        wilkinson = np.linalg.norm(shifted - e, 2) * slope / max(np.sqrt(1 - slope**2), 1e-300)
        upper = float(np.linalg.norm(e, 2) + wilkinson)
        if best is None or upper < best.upper:
            best = _Candidate(upper, complex(z), e)
    assert best is not None
    return best


def _rank_one(shifted: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The smallest E with (S − E) right = 0 and leftᴴ(S − E) = 0."""
    row, column = left.conj() @ shifted, shifted @ right
    return np.outer(left, row) + np.outer(column, right.conj()) - np.outer(left, right.conj()) * (row @ right)


def _isotropic(m: np.ndarray) -> np.ndarray:
    """A unit w with wᴴ m w as close to 0 as a search over the sphere finds, for 2×2 m."""
    centre, radius = np.array([np.pi / 4, 0.0]), np.array([np.pi / 4, np.pi])
    w = np.array([1.0, 0.0], complex)
    for _ in range(30):
        half, phase = (np.linspace(c - r, c + r, 17) for c, r in zip(centre, radius))
        grid = np.stack(np.meshgrid(half, phase, indexing="ij"), -1).reshape(-1, 2)
        trial = np.stack([np.cos(grid[:, 0]), np.sin(grid[:, 0]) * np.exp(1j * grid[:, 1])])
        best = int(np.abs(np.einsum("ik,ij,jk->k", trial.conj(), m, trial)).argmin())
        w, centre, radius = trial[:, best], grid[best], radius / 4
    return w


def _saddle(a: np.ndarray, start: complex, gap: float) -> _Candidate:
    """Newton's method for uᴴv = 0, the gradient of σ_min, with halved steps; the best bound on the way."""

    def slope(z: complex) -> complex:
        u, _, vh = np.linalg.svd(z * np.eye(len(a)) - a)
        return complex(np.vdot(u[:, -1], vh[-1].conj()))

    z, best = start, _bound_at(a, start)
    if gap == 0:
        return best
    value = slope(z)
    for _ in range(_NEWTON_STEPS):
        h = 1e-5 * gap
        columns = [(slope(z + d) - slope(z - d)) / (2 * h) for d in (h, 1j * h)]
        jacobian = np.array([[c.real for c in columns], [c.imag for c in columns]])
        try:
            dx, dy = np.linalg.solve(jacobian, [-value.real, -value.imag])
        except np.linalg.LinAlgError:
            break
        step = complex(dx, dy)
        step *= min(1.0, gap / 2 / max(abs(step), 1e-300))
        while abs(step) > 1e-14 * gap:
            trial = slope(z + step)
            if abs(trial) < abs(value):
                break
            step /= 4
        else:
            break
        z, value = z + step, trial
        if abs(value) < 1e-13:
            break
    return min(best, _bound_at(a, z), key=lambda c: c.upper)


def _merge(schur: SchurForm, eigenvalue: complex) -> _Candidate:
    """Move another eigenvalue onto this one: with A = [[λ, *], [0, B]] in Schur form the cost is σ_min(B − λI)."""
    target = schur.eigenvalues[np.abs(schur.eigenvalues - eigenvalue).argmin()]
    t, z = schur.triangle, schur.unitary
    first = int(np.abs(schur.eigenvalues - target).argmin())
    for k in range(first, 0, -1):
        # a rotation that exchanges the diagonal entries k − 1 and k
        pair = slice(k - 1, k + 1)
        x = np.array([t[k - 1, k], t[k, k] - t[k - 1, k - 1]])
        if np.linalg.norm(x) == 0:
            continue
        q, _ = np.linalg.qr(x[:, None], mode="complete")
        t, z = t.copy(), z.copy()
        t[:, pair] = t[:, pair] @ q
        t[pair] = q.conj().T @ t[pair]
        t[k, k - 1] = 0
        z[:, pair] = z[:, pair] @ q
    u, s, vh = np.linalg.svd(target * np.eye(len(t) - 1) - t[1:, 1:])
    basis = z[:, 1:]
    e = basis @ (s[-1] * np.outer(u[:, -1], vh[-1])) @ basis.conj().T
    return _Candidate(float(s[-1]), complex(target), e)
