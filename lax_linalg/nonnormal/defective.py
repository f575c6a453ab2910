"""The nearest defective matrix: how far A is from one with a multiple eigenvalue, and which pair is about to meet.

Two components of Λ_ε(A) meet for the first time at ε = dist(A, defective). Where they meet z is a saddle point of
σ_min(zI − A), that is uᴴv = 0 for its singular vectors (zI − A)v = σu, and then A + σuvᴴ has z as an eigenvalue with
right vector v and left vector u: orthogonal ones, so z is multiple. Where the two smallest singular values agree
instead, as for normal matrices, taking both out, A + σ_n u_n v_nᴴ + σ_{n−1} u_{n−1} v_{n−1}ᴴ, leaves z with two
eigenvectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lax_linalg.core.batch import Batch
from lax_linalg.core.operator import MatrixLike
from lax_linalg.nonnormal.inputs import SchurForm, SquareMatrix, over_batch, schur_form, square_matrix

# Pairs of eigenvalues that are followed to their collision: the first ones by first-order perturbation theory.
_PAIRS = 12
_SAMPLES = np.linspace(0, 1, 11)[1:-1]
_NEWTON_STEPS = 40
# |uᴴv| at which a saddle point counts as found; it converges quadratically, so that one more step squares it.
_ORTHOGONAL = 1e-7


class NearestDefective(NamedTuple):
    """lower ≤ distance ≤ upper, and the perturbation that proves the upper end.

    Attributes:
        lower: a proved lower bound of ‖E‖₂ over all E such that A + E has a multiple eigenvalue.
        upper: ‖perturbation‖₂, a proved upper bound. It is the distance itself if the search met the lowest saddle
            point of σ_min, which is its purpose but not proved; `proved` says where the lower bound leaves no doubt.
        z: the multiple eigenvalue of A + perturbation.
        pair: the two eigenvalues of A that collide there, complex [2].
        perturbation: E, complex [n, n].

    Example:
        >>> import lax_linalg as la
        >>> d = la.nearest_defective([[1.0, 0.0], [0.0, -1.0]])
        >>> round(d.upper, 6), [round(x.real, 6) for x in d.pair.tolist()]
        (1.0, [-1.0, 1.0])
    """

    lower: float
    upper: float
    z: complex
    pair: np.ndarray
    perturbation: np.ndarray

    @property
    def proved(self) -> Any:
        """Whether the two bounds meet to six digits, so that `upper` is the distance; a batch has an array of them.

        Example:
            >>> import lax_linalg as la
            >>> bool(la.nearest_defective([[1.0, 3.0], [0.0, -1.0]]).proved)
            True
        """
        return np.asarray(self.upper) <= np.asarray(self.lower) * (1 + 1e-6)


def nearest_defective(A: MatrixLike | Batch) -> NearestDefective:
    """Distance to the nearest defective matrix, min {‖E‖₂ : A + E has a multiple eigenvalue}, over complex E.

    It is the ε at which two components of the ε-pseudospectrum first meet, and half the least gap between eigenvalues
    if A is normal. Saddle points of σ_min(zI − A) between close or ill-conditioned eigenvalues are found by Newton's
    method; the lowest gives `upper`, with the matrix that attains it. The search follows close pairs only and does
    not prove that there is no lower saddle point: `upper` is always an upper bound, and the distance where that point
    was met. `lower` does not depend on the search: separating λ_i from the rest by a similarity of condition
    p_i + √(p_i² − 1), p_i = 1/|y_iᴴx_i|, shows that λ_i meets no other eigenvalue below sep_i/2 over that number, and
    it takes two eigenvalues to meet.

    Args:
        A: square operator or array [n, n], n ≥ 2, or a batch [..., n, n].

    Returns:
        `NearestDefective(lower, upper, z, pair, perturbation)` in double precision, up to rounding 4nε‖A‖. Both bounds
        are inf for n = 1, where no eigenvalue can be multiple.

    Raises:
        DimensionMismatch: unless A is square and not empty.
        NonFiniteError: for NaN or infinity.
        LinearAlgebraError: under `jit`.

    Cost: O(n³) for each of some hundred singular value decompositions, and n more for `lower`.

    Example:
        >>> import numpy as np, lax_linalg as la
        >>> d = la.nearest_defective([[0.0, 1.0], [1e-4, 0.0]])  # eigenvalues ±0.01; ±0 without the 1e-4
        >>> bool(d.lower <= 1e-4 <= d.upper), round(d.upper, 8)
        (True, 0.0001)

    Source: R. Alam and S. Bora, Linear Algebra Appl. 396 (2005); R. Alam, S. Bora, R. Byers, M. L. Overton, Linear
        Algebra Appl. 435 (2011). The similarity: J. W. Demmel, SIAM J. Numer. Anal. 20 (1983).
    """
    return over_batch(lambda a: _nearest(square_matrix(a, "nearest_defective")), A)


def _nearest(A: SquareMatrix) -> NearestDefective:
    schur = schur_form(A.array)
    values, n = schur.eigenvalues, A.order
    if n == 1:
        return NearestDefective(np.inf, np.inf, complex(np.nan), np.full(2, np.nan + 0j), np.full((1, 1), np.nan + 0j))
    right, kappa = _eigenvectors(schur)
    i, j = np.triu_indices(n, 1)
    gap = np.abs(values[i] - values[j])
    # the discs of radius κε around two eigenvalues touch at ε = gap/(κ_i + κ_j), to first order
    first = np.argsort(gap / (kappa[i] + kappa[j]), kind="stable")
    nearest = np.argsort(gap, kind="stable")  # where first order misleads, close pairs are still worth following
    chosen = list(dict.fromkeys([*first[:_PAIRS], *nearest[: _PAIRS // 2]]))
    best = _at(schur, complex(values[i[chosen[0]]]), two=True), chosen[0]
    for pair in chosen:
        for found in _saddles(schur, complex(values[i[pair]]), complex(values[j[pair]])):
            if found.size < best[0].size:
                best = found, pair
    found, pair = best
    a, b = sorted((complex(values[i[pair]]), complex(values[j[pair]])), key=lambda w: (w.real, w.imag))
    perturbation = schur.unitary @ found.perturbation @ schur.unitary.conj().T
    upper = found.size + schur.rounding
    lower = min(_lower_bound(schur, right, kappa), upper)
    return NearestDefective(float(lower), float(upper), found.z, np.array([a, b]), perturbation)


class _Found(NamedTuple):
    """A perturbation of T that makes z a multiple eigenvalue, and its norm."""

    size: float
    z: complex
    perturbation: np.ndarray


def _decompose(schur: SchurForm, z: complex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, s, vh = np.linalg.svd(z * np.eye(len(schur.triangle)) - schur.triangle)
    return u, s, vh.conj().T


def _at(schur: SchurForm, z: complex, two: bool) -> _Found:
    """The perturbation that takes out the smallest or, of two, both smallest singular values at z."""
    u, s, v = _decompose(schur, z)
    count = 2 if two else 1
    e = u[:, -count:] * s[-count:] @ v[:, -count:].conj().T
    return _Found(float(s[-count]), complex(z), e)


def _saddles(schur: SchurForm, a: complex, b: complex) -> list[_Found]:
    """Collisions of the eigenvalues a and b: from the highest σ_min on the segment between them."""
    z = a + (b - a) * _SAMPLES
    shifted = z[:, None, None] * np.eye(len(schur.triangle)) - schur.triangle
    sigma = np.linalg.svd(shifted, compute_uv=False)
    start = complex(z[sigma[:, -1].argmax()])
    z_end, overlap = _newton(schur, start, abs(b - a))
    if overlap <= _ORTHOGONAL:
        return [_at(schur, z_end, two=False)]
    # a crease: the two smallest singular values cross where the components meet, as for a normal matrix
    return [_at(schur, _crease(schur, start, abs(b - a)), two=True)]


def _newton(schur: SchurForm, z: complex, gap: float) -> tuple[complex, float]:
    """A stationary point of σ_min(zI − T), where uᴴv = 0, and |uᴴv| there."""
    best = z, np.inf
    for _ in range(_NEWTON_STEPS):
        u, s, v = _decompose(schur, z)
        p, q = u.conj().T @ v[:, -1], v.conj().T @ u[:, -1]
        if abs(p[-1]) < best[1]:
            best = z, float(abs(p[-1]))
        if abs(p[-1]) <= 1e-14:
            break
        # (0, M; Mᴴ, 0) has the eigenvalues ±s_k with vectors (u_k, ±v_k)/√2: second-order perturbation theory
        along_x = np.concatenate([p + q, p - q]) / 2
        along_y = 1j * np.concatenate([p - q, p + q]) / 2
        distance = s[-1] - np.concatenate([s, -s])
        distance[len(s) - 1] = np.inf
        with np.errstate(divide="ignore", invalid="ignore"):
            cross = 2 * np.real(np.sum(along_x.conj() * along_y / distance))
            hessian = np.array(
                [
                    [2 * np.sum(np.abs(along_x) ** 2 / distance), cross],
                    [cross, 2 * np.sum(np.abs(along_y) ** 2 / distance)],
                ]
            )
        if not np.isfinite(hessian).all() or abs(np.linalg.det(hessian)) < 1e-300:
            break
        dx, dy = np.linalg.solve(hessian, [-p[-1].real, p[-1].imag])
        step = complex(dx, dy)
        if not np.isfinite(step):
            break
        z = z + step * min(1.0, gap / 4 / max(abs(step), 1e-300))
    return best


def _crease(schur: SchurForm, z: complex, gap: float) -> complex:
    """The least σ_{n−1}(zI − T) near z: σ_{n−1} at *any* z bounds the distance from above."""
    import scipy.optimize

    def second(x: np.ndarray) -> float:
        shifted = complex(*x) * np.eye(len(schur.triangle)) - schur.triangle
        return float(np.linalg.svd(shifted, compute_uv=False)[-2])

    corners = np.array([[z.real, z.imag], [z.real + gap / 8, z.imag], [z.real, z.imag + gap / 8]])
    options = {"initial_simplex": corners, "xatol": 1e-9 * gap, "fatol": 1e-12 * schur.norm, "maxfev": 120}
    found = scipy.optimize.minimize(second, corners[0], method="Nelder-Mead", options=options)
    return complex(*found.x)


def _eigenvectors(schur: SchurForm) -> tuple[np.ndarray, np.ndarray]:
    """Unit right eigenvectors of T as columns and the condition numbers 1/|yᴴx|, in the order of its diagonal."""
    import scipy.linalg

    t, n = schur.triangle, len(schur.triangle)
    least = max(float(np.finfo(float).eps) * schur.norm, 1e-300)  # tells repeated eigenvalues apart, as LAPACK's trevc
    right, kappa = np.zeros((n, n), complex), np.empty(n)
    for k in range(n):
        gaps = schur.eigenvalues - t[k, k]
        shifted = np.triu(t, 1) + np.diag(np.where(np.abs(gaps) < least, least, gaps))
        above, after = shifted[:k, :k], shifted[k + 1 :, k + 1 :]
        x = scipy.linalg.solve_triangular(above, -t[:k, k]) if k else np.empty(0)
        y = scipy.linalg.solve_triangular(after, -t[k, k + 1 :], trans=1) if k + 1 < n else np.empty(0)
        length = np.hypot(1, np.linalg.norm(x))
        right[:k, k], right[k, k] = x / length, 1 / length
        kappa[k] = length * np.hypot(1, np.linalg.norm(y))
    return right, kappa


def _lower_bound(schur: SchurForm, right: np.ndarray, kappa: np.ndarray) -> float:
    """The second smallest over i of sep_i/2(p_i + √(p_i² − 1)), below which λ_i stays apart from the other values."""
    n = len(kappa)
    bounds = np.empty(n)
    for k in range(n):
        # T in a basis that begins with the eigenvector: λ_k, then the rest
        x = right[:, k]
        phase = x[0] / abs(x[0]) if x[0] else 1.0
        w = x.copy()
        w[0] += phase
        w /= np.linalg.norm(w)
        t = schur.triangle - 2 * np.outer(w, w.conj() @ schur.triangle)
        t = t - 2 * np.outer(t @ w, w.conj())
        rest = t[1:, 1:] - schur.eigenvalues[k] * np.eye(n - 1)
        sep = max(np.linalg.svd(rest, compute_uv=False)[-1] - schur.rounding, 0.0)
        bounds[k] = sep / 2 / (kappa[k] + np.sqrt(max(kappa[k] ** 2 - 1, 0.0)))
    return float(np.sort(bounds)[1])
