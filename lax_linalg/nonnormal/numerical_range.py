"""The numerical range W(A) = {xᴴAx : ‖x‖ = 1} and the numerical radius."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.core.batch import Batch
from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator, MatrixLike
from lax_linalg.dense import platform
from lax_linalg.errors import LinearAlgebraError
from lax_linalg.nonnormal.arnoldi import project
from lax_linalg.nonnormal.inputs import SquareMatrix, over_batch, square_matrix
from lax_linalg.nonnormal.trigonometric import proves_positive
from lax_linalg.verbs.basic import dense


class NumericalRange(NamedTuple):
    """W(A) between two convex polygons: conv(points) ⊆ W(A) ⊆ conv(corners).

    Attributes:
        angles: directions θ, [m], equally spaced from 0.
        support: h(θ) = max Re(e^{−iθ} w) over w in W(A), [m]: each is a line that W(A) touches.
        points: boundary points of W(A) on those lines, complex [m], counter-clockwise.

    Example:
        >>> import lax_linalg as la
        >>> W = la.numerical_range([[0.0, 1.0], [0.0, 0.0]], angles=4)
        >>> [round(abs(complex(w)), 4) for w in W.points], [round(abs(complex(w)), 4) for w in W.corners]
        ([0.5, 0.5, 0.5, 0.5], [0.7071, 0.7071, 0.7071, 0.7071])
    """

    angles: jax.Array
    support: jax.Array
    points: jax.Array

    @property
    def corners(self) -> jax.Array:
        """Corners of the outer polygon, where neighbouring supporting lines meet, complex [m]."""
        step = 2 * np.pi / self.angles.shape[-1]
        following = jnp.roll(self.support, -1, -1)
        across = (following - self.support * np.cos(step)) / np.sin(step)
        return jnp.exp(1j * self.angles) * (self.support + 1j * across)


@verb(
    algorithm="Johnson: the top eigenpair of the rotated Hermitian part, angle by angle.",
    cost="O(m n³)",
    square=True,
    sizeless=True,
)
def numerical_range(A: LinearOperator, angles: int = 128) -> NumericalRange:
    """Boundary of the numerical range W(A) = {xᴴAx : ‖x‖ = 1}, from inside and from outside.

    W(A) is convex and holds the eigenvalues; it is their convex hull when A is normal. For each direction θ the largest
    eigenvalue of (e^{−iθ}A + e^{iθ}Aᴴ)/2 gives a supporting line and its eigenvector a boundary point.

    With products A @ x alone, `numerical_range(la.arnoldi(A, m)[:m])` is that of a compression of A and lies inside
    W(A): its points are points of W(A), its lines and corners bound nothing but themselves.

    Args:
        A: square operator or array [n, n]; batches by `jax.vmap`.
        angles: number m ≥ 3 of directions.

    Returns:
        `NumericalRange(angles, support, points)` with the polygons that hold W(A) between them.

    Raises:
        DimensionMismatch: unless A is square.
        NonFiniteError: for NaN or infinity.
        LinearAlgebraError: for fewer than 3 angles.

    Example:
        >>> import lax_linalg as la
        >>> W = la.numerical_range([[1.0, 0.0], [0.0, -1.0]], angles=4)
        >>> [round(float(h), 4) for h in W.support]
        [1.0, 0.0, 1.0, 0.0]

    Source: C. R. Johnson, SIAM J. Numer. Anal. 15 (1978); Trefethen & Embree, Spectra and Pseudospectra (2005), § 17.
    """
    if angles < 3:
        raise LinearAlgebraError(f"numerical_range needs at least 3 angles, got {angles}")
    a = dense(A)
    if a.shape[0] == 0:
        raise LinearAlgebraError("numerical_range: the numerical range of a 0×0 matrix is empty")
    return NumericalRange(*_along(angles, a))


@functools.partial(jax.jit, static_argnums=0)
def _along(angles: int, a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Directions, and the support and a boundary point in each."""
    theta = jnp.arange(angles, dtype=jnp.finfo(a.dtype).dtype) * (2 * np.pi / angles)

    def boundary(t: jax.Array) -> tuple[jax.Array, jax.Array]:
        turned = jnp.exp(-1j * t) * a
        values, vectors = platform.eigh((turned + turned.conj().T) / 2)
        x = vectors[:, -1]
        return values[-1], jnp.vdot(x, a @ x)

    support, points = jax.lax.map(boundary, theta, batch_size=min(angles, 32))
    return theta, support, points


class NumericalRadius(NamedTuple):
    """lower ≤ w(A) ≤ upper, and the point z of W(A) with |z| ≥ lower.

    Example:
        >>> import lax_linalg as la
        >>> r = la.numerical_radius([[0.0, 1.0], [0.0, 0.0]])
        >>> r.lower <= 0.5 <= r.upper, round(abs(r.z), 6)
        (True, 0.5)
    """

    lower: float
    upper: float
    z: complex


def numerical_radius(A: MatrixLike | Batch, rtol: float = 1e-6, krylov: int | None = None) -> NumericalRadius:
    """Numerical radius w(A) = max |xᴴAx| over unit x, with a proved bracket; ½‖A‖ ≤ w(A) ≤ ‖A‖.

    The directions where the outer polygon reaches beyond the best point found are refined until the two agree. Where
    W(A) is so round that many directions compete, a factorisation certificate proves the bound for all at once.

    Args:
        A: square operator or array [n, n], or a batch [..., n, n].
        rtol: relative width of the bracket that is aimed at.
        krylov: of the compression of A to that many Arnoldi steps, which needs only A @ x. That is an approximation
            from inside: `lower` is a lower bound, and `upper` is inf.

    Returns:
        `NumericalRadius(lower, upper, z)`, in double precision; ‖Aᵏ‖ ≤ 2 w(A)ᵏ (Berger).

    Raises:
        DimensionMismatch: unless A is square and not empty.
        NonFiniteError: for NaN or infinity.
        LinearAlgebraError: under `jit`.

    Cost: O(n³) for each of some 40 to 200 directions.

    Example:
        >>> import lax_linalg as la
        >>> r = la.numerical_radius([[0.0, 2.0], [0.0, 0.0]])
        >>> round(r.lower, 4), round(r.upper, 4)
        (1.0, 1.0)

    Source: the bracket after C. R. Johnson (1978), the certificate after T. Ando, Acta Sci. Math. 34 (1973).
    """
    if krylov is not None:
        return radius_of(project(A, krylov, "numerical_radius").square, rtol)._replace(upper=np.inf)
    return over_batch(lambda a: radius_of(square_matrix(a, "numerical_radius"), rtol), A)


def radius_of(A: SquareMatrix, rtol: float, most_angles: int = 1000) -> NumericalRadius:
    """`numerical_radius` of one checked matrix."""
    scale = float(np.linalg.norm(A.array, 2))
    if scale == 0:
        return NumericalRadius(0.0, 0.0, 0j)
    a = A.array / scale
    theta = np.linspace(0 if A.real else -np.pi, np.pi, 17 if A.real else 33)
    support, points = _boundary(a, theta)
    tried = False
    while True:
        lower = float(np.abs(points).max())
        bounds = _interval_bounds(theta, support)
        upper = float(bounds.max())
        open_ = bounds > lower * (1 + rtol)
        if not open_.any() or len(theta) + open_.sum() > most_angles:
            break
        if len(theta) > 96 and not tried:
            tried = True
            bound = lower * (1 + rtol)
            if proves_positive(2 * bound * np.eye(A.order), a, bound - lower):
                upper = bound
                break
        new = (theta[:-1] + theta[1:])[open_] / 2
        more_support, more_points = _boundary(a, new)
        theta, support, points = (
            np.concatenate(pair) for pair in ((theta, new), (support, more_support), (points, more_points))
        )
        order = np.argsort(theta)
        theta, support, points = theta[order], support[order], points[order]
    rounding = 4 * A.order * float(np.finfo(float).eps)
    z = complex(points[np.abs(points).argmax()])
    return NumericalRadius(max(lower - rounding, 0.0) * scale, (upper + rounding) * scale, z * scale)


def _boundary(a: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Support function and boundary points of W(a) in the directions theta."""
    turned = np.exp(-1j * theta)[:, None, None] * a
    values, vectors = np.linalg.eigh((turned + turned.conj().swapaxes(1, 2)) / 2)
    x = vectors[:, :, -1]
    return values[:, -1], np.einsum("ki,ij,kj->k", x.conj(), a, x)


def _interval_bounds(theta: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Upper bounds of the support function between neighbouring directions: the corner, if it lies between them."""
    step = np.diff(theta)
    h, following = support[:-1], support[1:]
    across = (following - h * np.cos(step)) / np.sin(step)
    between = (across >= 0) & (np.arctan2(across, h) <= step)
    return np.where(between, np.hypot(h, across), np.maximum(h, following))
