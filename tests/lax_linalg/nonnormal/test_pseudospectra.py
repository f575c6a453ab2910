"""Pseudospectra: discs of Jordan blocks, distances for normal matrices, symbols, plain SVDs, grids, projections."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from nonnormal_matrices import grcar, normal, sigma_min, stable, tridiagonal_toeplitz

import lax_linalg as la
from lax_linalg.nonnormal.inputs import schur_form
from lax_linalg.nonnormal.shifted_inverse import ShiftedTriangle


def disc_radius(n: int, eps: float) -> float:
    """Radius of Λ_ε of a nilpotent Jordan block: ‖(r − N)⁻¹‖ is that of the triangle with entries r^{−1−j}."""

    def excess(r: float) -> float:
        j = np.arange(n)
        inverse = np.where(j[None] >= j[:, None], r ** -(1.0 + j[None] - j[:, None]), 0)
        return np.log(np.linalg.norm(inverse, 2) * eps)

    return scipy.optimize.brentq(excess, eps, 2 + eps, xtol=1e-13)


@pytest.mark.parametrize(("n", "eps"), [(2, 0.1), (2, 1e-8), (5, 0.01), (20, 1e-3)])
def test_jordan_blocks_have_discs(n, eps):
    radius = disc_radius(n, eps)
    if n == 2:
        assert radius == pytest.approx(np.sqrt(eps * (1 + eps)), rel=1e-6)
    r = la.pseudospectral_radius(np.eye(n, k=1), eps)
    assert r.lower <= radius * (1 + 1e-9) and radius <= r.upper * (1 + 1e-9)
    assert r.upper - r.lower <= 1e-5 * max(r.upper, eps)  # round: the hardest case for the proof
    a = la.pseudospectral_abscissa(np.eye(n, k=1) - 0.5 * np.eye(n), eps)
    assert a.lower <= radius - 0.5 + 1e-9 and radius - 0.5 <= a.upper + 1e-9
    P = la.pseudospectrum(np.eye(n, k=1), grid=(21, 20), box=(-1.5, 1.5, -1.4, 1.4))
    inside = np.abs(P.grid) <= radius
    np.testing.assert_array_equal(P.sigma_min <= eps, inside)


@pytest.mark.parametrize("seed", [0, 1])
def test_normal_matrices_have_the_distance(seed):
    A = normal(seed, 9)
    P = la.pseudospectrum(A, grid=(16, 17))
    want = np.abs(P.grid[..., None] - np.linalg.eigvals(A)).min(-1)
    np.testing.assert_allclose(P.sigma_min, want, atol=1e-6 * P.norm)
    assert np.all(np.abs(P.sigma_min - want) <= P.error)
    r = la.pseudospectral_radius(A, 0.3)
    assert r.lower <= np.abs(np.linalg.eigvals(A)).max() + 0.3 + 1e-9 <= r.upper + 2e-9


def test_toeplitz_symbol():
    # inside the ellipse that the symbol z + z⁻¹/4 draws, σ_min falls exponentially with n; outside it stays above the
    # distance to the ellipse's convex hull, which is the numerical range of the infinite matrix
    z = np.array([0.3 + 0.1j, -0.5 + 0.3j, 0.6j])
    outside = np.array([1.6 + 0.2j, -1.3 + 0.9j, 1.1j])
    boundary = np.exp(1j * np.linspace(0, 2 * np.pi, 4000))
    boundary = boundary + 0.25 / boundary
    previous = np.inf
    for n in (16, 32):
        A = tridiagonal_toeplitz(n, 0.25, 0.0, 1.0)
        pencil = ShiftedTriangle(schur_form(A).triangle)
        values = pencil.sigma_min(z).sigma
        assert np.all(values < previous / 4)
        previous = values
        far = pencil.sigma_min(outside).sigma
        assert np.all(far >= np.abs(outside[:, None] - boundary).min(1) - 1e-6)
    # the explicit approximate eigenvector (1, z, z² …) of the shift: σ_min(z − N) ≤ |z|ⁿ √((1 − |z|²)/(1 − |z|²ⁿ))
    r = np.array([0.3, 0.6, 0.9])
    got = ShiftedTriangle(np.eye(16, k=1).astype(complex)).sigma_min(r).sigma
    assert np.all(got <= r**16 * np.sqrt((1 - r**2) / (1 - r**32)) * (1 + 1e-5) + 1e-15)


@hypothesis.given(st.integers(0, 10**6), st.sampled_from([1, 2, 5, 16]), st.booleans(), st.floats(-6, 6))
@hypothesis.settings(max_examples=20, deadline=None)
def test_against_one_svd_a_point(seed, n, complex_, magnitude):
    A = 10**magnitude * stable(seed, n, departure=2.0, complex_=complex_)
    P = la.pseudospectrum(A, grid=8)
    want = sigma_min(A, P.grid)
    assert np.abs(P.sigma_min - want).max() <= 1e-6 * P.norm
    assert np.all(np.abs(P.sigma_min - want) <= P.error)
    assert P.norm == pytest.approx(np.linalg.norm(A, 2))


def test_grcar_through_several_blocks():
    # order 70 goes through several panels of the solver, and its pseudospectra reach far from the spectrum
    A = grcar(70)
    P = la.pseudospectrum(A, grid=(11, 13), box=(-2.0, 4.0, -4.0, 4.0))
    want = sigma_min(A, P.grid)
    assert np.abs(P.sigma_min - want).max() <= 1e-6 * P.norm
    np.testing.assert_allclose(P.sigma_min, P.sigma_min[::-1], rtol=1e-12)  # a real matrix: symmetric about the axis
    low = la.pseudospectrum(A.astype(np.float32), grid=(11, 13), box=(-2.0, 4.0, -4.0, 4.0))
    np.testing.assert_array_equal(low.sigma_min, P.sigma_min)  # its entries are exact in single precision


def test_adaptive_grid():
    A, box, levels = grcar(24), (-2.0, 4.0, -4.0, 4.0), [1e-1, 1e-2]
    full = la.pseudospectrum(A, grid=(41, 40), box=box)
    adaptive = la.pseudospectrum(A, grid=(41, 40), box=box, levels=levels)
    assert np.all(np.abs(adaptive.sigma_min - full.sigma_min) <= adaptive.error + full.error)
    computed = adaptive.error < 1e-5
    assert 0.2 < computed.mean() < 0.9
    for eps in levels:  # on which side of each contour a point lies is the same wherever the error bound decides it
        decided = np.abs(adaptive.sigma_min - eps) > adaptive.error
        np.testing.assert_array_equal((adaptive.sigma_min < eps)[decided], (full.sigma_min < eps)[decided])
        assert not np.any(~decided & ~computed & (np.abs(full.sigma_min - eps) < 1e-3))


def test_projections_lie_inside():
    n = 24
    A = jnp.asarray(grcar(n) / 3, jnp.float32)
    J = la.jacobian(lambda x: A @ x, jnp.zeros(n))
    box = (-1.0, 1.5, -1.2, 1.2)
    true = la.pseudospectrum(np.asarray(A), grid=9, box=box)
    previous = np.inf
    for steps in (8, n):
        P = la.pseudospectrum(J, grid=9, box=box, krylov=steps)
        assert P.inner and P.eigenvalues.shape == (steps,)
        assert np.all(P.sigma_min >= true.sigma_min - P.error - 1e-5)
        assert np.all(P.sigma_min <= previous + P.error)
        previous = P.sigma_min
    np.testing.assert_allclose(P.sigma_min, true.sigma_min, atol=1e-4)


def test_arnoldi_relation():
    A = stable(7, 12, complex_=True)
    h = la.arnoldi(A, 5)
    assert h.shape == (6, 5) and np.all(np.tril(h, -2) == 0)
    # H̃ comes from an orthonormal basis: its singular values interlace, and the full space gives the eigenvalues
    assert np.linalg.svd(h, compute_uv=False)[0] <= np.linalg.norm(A, 2) * (1 + 1e-12)
    full = la.arnoldi(A, 12)
    assert full.shape == (12, 12)
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(full)), np.sort_complex(np.linalg.eigvals(A)))
    assert la.arnoldi(np.diag([1.0, 1.0, 2.0]), 3).shape == (2, 2)  # two distinct eigenvalues: the space ends
    with pytest.raises(la.LinearAlgebraError, match="1 ≤ steps ≤ 3"):
        la.arnoldi(np.eye(3), 4)
    with pytest.raises(la.DimensionMismatch, match="2×3"):
        la.arnoldi(np.ones((2, 3)), 1)


@hypothesis.given(st.integers(0, 10**6), st.sampled_from([2, 4, 9]), st.floats(-4, 0), st.booleans())
@hypothesis.settings(max_examples=15, deadline=None)
def test_extremes_bracket_what_a_grid_finds(seed, n, exponent, complex_):
    A, eps = stable(seed, n, departure=1.0, complex_=complex_), 10**exponent
    for function, size in ((la.pseudospectral_radius, np.abs), (la.pseudospectral_abscissa, np.real)):
        r = function(A, eps)
        assert r.lower <= r.upper <= r.lower + 1.1e-6 * max(abs(r.upper), eps)
        assert sigma_min(A, np.array(r.z)) <= eps * (1 + 1e-6)
        assert size(r.z) == pytest.approx(r.lower, rel=1e-9)
        z = r.z + np.exp(1j * np.linspace(0, 2 * np.pi, 60)) * np.geomspace(1e-5, 1, 30)[:, None]
        assert size(z)[sigma_min(A, z) <= eps].max(initial=-np.inf) <= r.upper


def test_batches_and_bad_input():
    batch = np.stack([stable(s, 4) for s in range(2)])
    P = la.pseudospectrum(batch, grid=3, box=(-1, 1, -1, 1))
    np.testing.assert_array_equal(P.sigma_min[1], la.pseudospectrum(batch[1], grid=3, box=(-1, 1, -1, 1)).sigma_min)
    assert la.pseudospectral_radius(batch, 0.1).upper.shape == (2,)
    with pytest.raises(la.LinearAlgebraError, match="batch needs a box"):
        la.pseudospectrum(batch)
    with pytest.raises(la.LinearAlgebraError, match="at least 2 grid points"):
        la.pseudospectrum(np.eye(2), grid=1)
    with pytest.raises(la.LinearAlgebraError, match="x_min < x_max"):
        la.pseudospectrum(np.eye(2), box=(1, 0, 0, 1))
    with pytest.raises(la.LinearAlgebraError, match="levels are values of ε > 0"):
        la.pseudospectrum(np.eye(2), levels=[0.0])
    with pytest.raises(la.LinearAlgebraError, match="above the rounding level"):
        la.pseudospectral_radius(np.eye(2), 1e-18)
