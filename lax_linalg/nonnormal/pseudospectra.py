"""ε-pseudospectra, Λ_ε(A) = {z : σ_min(zI − A) ≤ ε}, on a grid in the complex plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from lax_linalg.core.batch import Batch
from lax_linalg.core.operator import MatrixLike
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.nonnormal.arnoldi import project
from lax_linalg.nonnormal.inputs import is_batch, over_batch, schur_form, square_matrix
from lax_linalg.nonnormal.shifted_inverse import ShiftedTriangle

_TILE = 16
# Adaptive grids start from every 8th point.
_COARSE = 8


@dataclass(frozen=True)
class Pseudospectrum:
    """σ_min(zI − A) on the grid z = x_j + i y_k; the boundary of Λ_ε(A) is its contour at the level ε.

    Attributes:
        x, y: the grid's axes, [nx] and [ny].
        sigma_min: the values, [ny, nx].
        error: of each value, [ny, nx]: its residual carried to σ, and rounding. Every value is an upper bound of σ_min
            up to rounding; that no smaller singular value was missed is checked against the neighbours, not proved.
        eigenvalues: of A, complex [n]; Ritz values when `inner`.
        norm: ‖A‖₂, or that of its projection.
        inner: True when the values come from an Arnoldi projection: then they are upper bounds of σ_min(zI − A), so
            every contour lies inside the true Λ_ε(A), and `error` refers to the projection.

    Example:
        >>> import lax_linalg as la
        >>> P = la.pseudospectrum([[0.0, 1.0], [0.0, 0.0]], grid=(5, 3), box=(-2, 2, -1, 1))
        >>> P.sigma_min.shape, P.inner
        ((3, 5), False)
    """

    x: np.ndarray
    y: np.ndarray
    sigma_min: np.ndarray
    error: np.ndarray
    eigenvalues: np.ndarray
    norm: float
    inner: bool = False

    @property
    def grid(self) -> np.ndarray:
        """The points z, complex [ny, nx]."""
        return self.x[None] + 1j * self.y[:, None]

    @property
    def log10_sigma_min(self) -> np.ndarray:
        """log₁₀ σ_min for contour plots, cut off where rounding leaves no digits."""
        floor = np.finfo(float).eps * max(self.norm, np.finfo(float).tiny)
        return np.log10(np.maximum(self.sigma_min, floor))


jax.tree_util.register_dataclass(
    Pseudospectrum,
    data_fields=["x", "y", "sigma_min", "error", "eigenvalues", "norm", "inner"],
    meta_fields=[],
)


def pseudospectrum(
    A: MatrixLike | Batch,
    grid: int | tuple[int, int] = 100,
    box: tuple[float, float, float, float] | None = None,
    levels: Sequence[float] | None = None,
    krylov: int | None = None,
    tol: float = 1e-6,
) -> Pseudospectrum:
    """σ_min(zI − A) on a grid of complex points: the ε-pseudospectra are its sublevel sets.

    One Schur form makes all systems triangular; inverse Lanczos then runs on all points together, with the shared part
    of the triangular solves as matrix products. Every value is controlled by its residual, and checked against its
    neighbours (σ_min has Lipschitz constant 1); points that fail go through the SVD. A real A needs half the plane.

    Args:
        A: square operator or array [n, n], or a batch [..., n, n] (which needs `box`).
        grid: points along x and y, one number for both.
        box: (x_min, x_max, y_min, y_max); by default the numerical range with a margin.
        levels: refine adaptively for these ε: values are computed only where one of the contours can pass by the
            Lipschitz bound, and interpolated elsewhere with the bound as `error`. None computes the whole grid.
        krylov: replace A by its rectangular Hessenberg matrix from that many Arnoldi steps, which needs only A @ x.
            The result is labelled `inner`: it shows Λ_ε(A) from inside, never too large.
        tol: accuracy of the values relative to ‖A‖₂.

    Returns:
        `Pseudospectrum` in double precision, with an error at every point.

    Raises:
        LinearAlgebraError: for an empty box, fewer than 2 points along an axis, levels that are not positive, or under
            `jit`.
        DimensionMismatch: unless A is square and not empty.
        NonFiniteError: for NaN or infinity.

    Cost: O(25 n³) once, then 16 n² flops a point and Lanczos step, some 20 steps.

    Example:
        >>> import numpy as np
        >>> import lax_linalg as la
        >>> P = la.pseudospectrum(np.diag([1.0, -1.0]), grid=3, box=(-1, 1, -1, 1))
        >>> print(P.sigma_min.round(4))
        [[1.     1.4142 1.    ]
         [0.     1.     0.    ]
         [1.     1.4142 1.    ]]

    Source: S. H. Lui, SIAM J. Sci. Comput. 18 (1997); Trefethen, Acta Numerica 8 (1999); projection: Toh & Trefethen,
        SIAM J. Sci. Comput. 17 (1996); Trefethen & Embree, Spectra and Pseudospectra (2005), §§ 39–40.
    """
    nx, ny = (grid, grid) if isinstance(grid, int) else grid
    if min(nx, ny) < 2:
        raise LinearAlgebraError(f"pseudospectrum needs at least 2 grid points along each axis, got {nx}×{ny}")
    if not tol > 0:
        raise LinearAlgebraError(f"pseudospectrum needs tol > 0, got {tol}")
    if levels is not None and not (len(levels) and np.isfinite(levels).all() and np.min(levels) > 0):
        raise LinearAlgebraError(f"levels are values of ε > 0, got {list(levels)}")
    if box is not None and not (len(box) == 4 and np.isfinite(box).all() and box[0] < box[1] and box[2] < box[3]):
        raise LinearAlgebraError(f"box is (x_min, x_max, y_min, y_max) with x_min < x_max and y_min < y_max, got {box}")
    if krylov is not None:
        projection = project(A, krylov, "pseudospectrum")
        return _on_grid(projection.square.array, projection.row, nx, ny, box, levels, tol, inner=True)
    if box is None and is_batch(A):
        raise LinearAlgebraError("pseudospectrum of a batch needs a box, so that all matrices share one grid")

    def one(a: Any) -> Pseudospectrum:
        array = square_matrix(a, "pseudospectrum").array
        return _on_grid(array, None, nx, ny, box, levels, tol, inner=False)

    return over_batch(one, A)


def _on_grid(
    array: np.ndarray,
    last_row: np.ndarray | None,
    nx: int,
    ny: int,
    box: tuple[float, float, float, float] | None,
    levels: Sequence[float] | None,
    tol: float,
    inner: bool,
) -> Pseudospectrum:
    x_min, x_max, y_min, y_max = _default_box(array) if box is None else box
    x, y = np.linspace(x_min, x_max, nx), np.linspace(y_min, y_max, ny)
    schur = schur_form(array)
    row = None if last_row is None else last_row @ schur.unitary
    pencil = ShiftedTriangle(schur.triangle, row)
    evaluate = _Evaluator(pencil, x, y, not np.iscomplexobj(array), tol)
    if levels is None:
        evaluate(np.ones((ny, nx), bool))
    else:
        _refine(evaluate, np.sort(np.asarray(levels, float)))
    return Pseudospectrum(x, y, evaluate.sigma, evaluate.error, schur.eigenvalues.copy(), schur.norm, inner)


def _default_box(array: np.ndarray) -> tuple[float, float, float, float]:
    """The box around the numerical range, a fifth larger, and never degenerate."""

    def top(hermitian: np.ndarray) -> float:
        return float(np.linalg.eigvalsh((hermitian + hermitian.conj().T) / 2)[-1])

    right, left, up, down = top(array), -top(-array), top(-1j * array), -top(1j * array)
    # λI has a single point as numerical range, and the zero matrix no scale at all
    pad = max(0.2 * max(right - left, up - down), 0.1 * float(np.linalg.norm(array, 2))) or 1.0
    return left - pad, right + pad, down - pad, up + pad


class _Evaluator:
    """σ_min at masked grid points, each point (and, for a real matrix, its mirror image) computed once."""

    def __init__(self, pencil: ShiftedTriangle, x: np.ndarray, y: np.ndarray, real: bool, tol: float):
        self.pencil, self.x, self.y, self.tol = pencil, x, y, tol
        # rows that mirror each other share one representative; σ_min changes by no more than the rounding in |y|
        close = 16 * np.finfo(float).eps * max(np.abs(y).max(), 1e-300)
        height = np.abs(y) if real else y
        order = np.argsort(height, kind="stable")
        starts = np.concatenate([[True], np.diff(height[order]) > close])
        self.representative = np.empty(len(y), int)
        self.representative[order] = order[np.maximum.accumulate(np.where(starts, np.arange(len(y)), 0))]
        self.known = np.zeros((len(y), len(x)), bool)
        self.sigma = np.full((len(y), len(x)), np.nan)
        self.error = np.full((len(y), len(x)), np.inf)

    def __call__(self, wanted: np.ndarray) -> None:
        """Compute the wanted points that are not known yet."""
        wanted = wanted & ~self.known
        rows, columns = np.nonzero(wanted)
        source = np.zeros_like(wanted)
        source[self.representative[rows], columns] = True
        source &= ~self.known
        k, j = np.nonzero(source)
        # points in tiles: neighbours take about as many Lanczos steps, and a batch runs until its slowest has converged
        order = np.lexsort((k % _TILE, j, k // _TILE))
        k, j = k[order], j[order]
        result = self.pencil.sigma_min(self.x[j] + 1j * self.y[k], absolute=self.tol / 2)
        self.sigma[k, j], self.error[k, j] = result.sigma, result.error
        self.known[k, j] = True
        self._compare_neighbours(source)
        wanted |= source
        rows, columns = np.nonzero(wanted)
        for array in (self.sigma, self.error, self.known):
            array[rows, columns] = array[self.representative[rows], columns]

    def _compare_neighbours(self, fresh: np.ndarray) -> None:
        """Recompute by the SVD what exceeds a neighbour's value by more than their distance: Lanczos missed σ_min."""
        suspect = np.zeros_like(fresh)
        for axis, points in ((0, self.y), (1, self.x)):
            step = np.abs(np.diff(points))
            step = step[:, None] if axis == 0 else step[None]
            near, far = ([slice(None)] * 2 for _ in range(2))
            near[axis], far[axis] = slice(None, -1), slice(1, None)
            for a, b in ((tuple(near), tuple(far)), (tuple(far), tuple(near))):
                with np.errstate(invalid="ignore"):
                    suspect[a] |= self.sigma[a] > self.sigma[b] + step + self.error[a] + self.error[b]
        k, j = np.nonzero(suspect & fresh)
        if len(k):
            self.sigma[k, j] = self.pencil.sigma_min_svd(self.x[j] + 1j * self.y[k])


def _refine(evaluate: _Evaluator, levels: np.ndarray) -> None:
    """Halve cells that a contour can cross until the grid is reached; interpolate in the others."""
    ny, nx = evaluate.sigma.shape
    rows, columns = _stations(ny), _stations(nx)
    wanted = np.zeros((ny, nx), bool)
    wanted[np.ix_(rows[0], columns[0])] = True
    evaluate(wanted)
    for level in range(len(rows) - 1):
        k, j = rows[level], columns[level]
        corner = np.ix_(k, j)
        value, known = evaluate.sigma[corner], evaluate.known[corner]
        width, height = np.diff(evaluate.x[j])[None], np.diff(evaluate.y[k])[:, None]
        # any point of a cell is within half the diagonal of one of its corners
        reach = np.hypot(width, height) / 2
        four = np.stack([value[:-1, :-1], value[1:, :-1], value[:-1, 1:], value[1:, 1:]])
        all_known = known[:-1, :-1] & known[1:, :-1] & known[:-1, 1:] & known[1:, 1:]
        with np.errstate(invalid="ignore"):
            low, high = four.min(0) - reach, four.max(0) + reach
        crossed = all_known & (np.searchsorted(levels, high) > np.searchsorted(levels, low))
        wanted = np.zeros((ny, nx), bool)
        finer_k, finer_j = rows[level + 1], columns[level + 1]
        for a, b in zip(*np.nonzero(crossed)):
            inside_k = finer_k[(finer_k >= k[a]) & (finer_k <= k[a + 1])]
            inside_j = finer_j[(finer_j >= j[b]) & (finer_j <= j[b + 1])]
            wanted[np.ix_(inside_k, inside_j)] = True
        evaluate(wanted)
    _interpolate(evaluate)


def _stations(count: int) -> list[np.ndarray]:
    """Grid indices of every refinement: every 8th, 4th, 2nd, and all, each with the last one."""
    stations, stride = [], _COARSE
    while stride >= 1:
        stations.append(np.unique(np.append(np.arange(0, count, stride), count - 1)))
        stride //= 2
    return stations


def _interpolate(evaluate: _Evaluator) -> None:
    """Fill the grid from the coarse levels up, bilinearly; the nearest computed value bounds the error."""
    ny, nx = evaluate.sigma.shape
    rows, columns = _stations(ny), _stations(nx)
    x, y, sigma = evaluate.x, evaluate.y, evaluate.sigma
    for level in range(len(rows) - 1):
        k, j, finer_k, finer_j = rows[level], columns[level], rows[level + 1], columns[level + 1]
        coarse = sigma[np.ix_(k, j)]
        along_x = np.stack([np.interp(x[finer_j], x[j], line) for line in coarse])
        both = np.stack([np.interp(y[finer_k], y[k], line) for line in along_x.T], axis=1)
        fine = np.ix_(finer_k, finer_j)
        sigma[fine] = np.where(np.isnan(sigma[fine]), both, sigma[fine])
    missing_k, missing_j = np.nonzero(~evaluate.known)
    known_k, known_j = np.nonzero(evaluate.known)
    anchors = x[known_j] + 1j * y[known_k]
    for first in range(0, len(missing_k), 256):
        k, j = missing_k[first : first + 256], missing_j[first : first + 256]
        distance = np.abs((x[j] + 1j * y[k])[:, None] - anchors[None])
        nearest = distance.argmin(1)
        at = known_k[nearest], known_j[nearest]
        evaluate.error[k, j] = (
            np.abs(sigma[k, j] - sigma[at]) + distance[np.arange(len(k)), nearest] + evaluate.error[at]
        )
