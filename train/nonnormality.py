"""How far a layer's Jacobian is from normal, and what that does to its powers: numbers and curves of `scripts.analyze`.

They are taken at the first probe input, of J itself where its powers are bounded and of J/ρ(J) elsewhere: transients
relative to the asymptotic growth. Up to `order` they are exact or certified; larger Jacobians are seen through an
Arnoldi projection, whose Kreiss constant, numerical radius, curve and pseudospectra are approximations from inside.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

import lax_linalg as la

ORDER = 64
"""Jacobians up to this order are analysed exactly unless told otherwise: at most some seconds each."""

KRYLOV, POWERS, GRID, ANGLES = 32, 64, 40, 64

QUANTITIES = ("eigenvector_condition", "kreiss_lower", "kreiss_upper", "numerical_radius", "transient_max")


def nonnormality_of(
    matrix: np.ndarray, order: int = ORDER, eigenvalues: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Measures, curves and pseudospectra of one square Jacobian.

    Args:
        matrix: [n, n], real or complex; computed with in double precision.
        order: up to which nothing is projected.
        eigenvalues: of the matrix, if they are known; single precision is enough for a projection, all they are for.

    Returns:
        By name, in single precision, NaN throughout for a matrix that is not finite:

        - "scale" []: c = max(1, ρ(J)); what follows but for κ(V) is of J/c.
        - "eigenvector_condition" []: κ₂(V); NaN when projected.
        - "kreiss" [2]: lower and upper bound of the Kreiss constant; (inf, inf) when powers grow without bound.
        - "numerical_radius" [2]: lower and upper bound.
        - "transient" [k]: ‖(J/c)ᵏ‖ for k = 0, 1, …; lower bounds when projected.
        - "pseudospectrum" [40, 40]: log₁₀ σ_min(zI − J/c), on "box" [4] (x_min, x_max, y_min, y_max).
        - "numerical_range" [64] complex: its boundary.
        - "projected" []: whether that is an Arnoldi projection's, from inside.

    Cost: seconds up to order 64; beyond it O(32 n²), and O(10 n³) for eigenvalues that are not given.

    Example:
        >>> found = nonnormality_of(np.array([[0.5, 4.0], [0.0, 0.5]]))
        >>> [round(float(x), 2) for x in found["transient"][:3]], round(float(found["kreiss"][0]), 2)
        ([1.0, 4.06, 4.02], 2.12)
    """
    A = np.asarray(matrix, np.complex128 if np.iscomplexobj(matrix) else np.float64)
    n = len(A)
    projected = n > order
    if not np.isfinite(A).all() or n == 0:
        return _nothing(projected)
    if eigenvalues is None or not projected:
        eigenvalues = np.linalg.eigvals(A)
    # a little more, so that rounding leaves no eigenvalue beyond the unit circle
    scale = max(1.0, float(np.abs(eigenvalues).max()) * (1 + 1e-6))
    B = A / scale
    krylov = min(KRYLOV, n) if projected else None
    condition = np.nan
    if not projected:
        s = np.linalg.svd(np.linalg.eig(A)[1], compute_uv=False)
        condition = s[0] / s[-1] if s[-1] > 0 else np.inf
    try:
        K = la.kreiss_constant(B, rtol=0.05, krylov=krylov)
        kreiss = K.lower, K.upper
    except la.LinearAlgebraError:  # a defective eigenvalue of modulus 1, or one that rounding pushed beyond it
        kreiss = np.inf, np.inf
    radius = la.numerical_radius(B, rtol=1e-3, krylov=krylov)
    square = B
    if krylov:
        hessenberg = la.arnoldi(B, krylov)
        square = hessenberg[: hessenberg.shape[1]]
    P = la.pseudospectrum(B, grid=GRID, krylov=krylov)
    return {
        "scale": np.array(scale, np.float32),
        "eigenvector_condition": np.array(condition, np.float32),
        "kreiss": np.array(kreiss, np.float32),
        "numerical_radius": np.array([radius.lower, min(radius.upper, np.linalg.norm(B, 2))], np.float32),
        "transient": _curve(B, krylov).astype(np.float32),
        "pseudospectrum": P.log10_sigma_min.astype(np.float32),
        "box": np.array([P.x[0], P.x[-1], P.y[0], P.y[-1]], np.float32),
        "numerical_range": np.asarray(
            _boundary()(square.astype(np.complex64 if np.iscomplexobj(square) else np.float32)), np.complex64
        ),
        "projected": np.array(projected),
    }


def numbers_of(found: dict[str, np.ndarray]) -> dict[str, float]:
    """The row of the table: `QUANTITIES` of what `nonnormality_of` returned, the lower bound of the numerical radius.

    Example:
        >>> numbers_of(nonnormality_of(np.eye(3)))["kreiss_upper"]
        1.0
    """
    return {
        "eigenvector_condition": float(found["eigenvector_condition"]),
        "kreiss_lower": float(found["kreiss"][0]),
        "kreiss_upper": float(found["kreiss"][1]),
        "numerical_radius": float(found["numerical_radius"][0]),
        "transient_max": float(found["transient"].max()),
    }


@functools.cache
def _boundary() -> jax.stages.Wrapped:
    return jax.jit(lambda A: la.numerical_range(A, ANGLES).points)


def _curve(B: np.ndarray, krylov: int | None) -> np.ndarray:
    if krylov:
        # the bound is near the truth while the power is well below the order of the Krylov space
        return la.transient_growth(B, steps=krylov // 2, krylov=krylov).norms
    power, norms = np.eye(len(B)), [1.0]
    for _ in range(POWERS):
        power = power @ B
        norms.append(float(np.linalg.norm(power, 2)))
    return np.array(norms)


def _nothing(projected: bool) -> dict[str, np.ndarray]:
    shapes = {
        "scale": (),
        "eigenvector_condition": (),
        "kreiss": (2,),
        "numerical_radius": (2,),
        "transient": (1,),
        "pseudospectrum": (GRID, GRID),
        "box": (4,),
        "numerical_range": (ANGLES,),
    }
    nothing = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
    return nothing | {"projected": np.array(projected)}
