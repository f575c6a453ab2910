"""The nearest defective matrix: closed forms, published examples, components that merge on a grid, proofs that hold."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.linalg
from nonnormal_matrices import grcar, normal, sigma_min, stable

import lax_linalg as la


def assert_multiple(A: np.ndarray, d: la.NearestDefective) -> None:
    """A + E has the multiple eigenvalue z: two eigenvalues that rounding splits by its square root, and no more."""
    np.testing.assert_allclose(np.linalg.norm(d.perturbation, 2), d.upper, rtol=1e-6, atol=1e-13 * np.linalg.norm(A, 2))
    two = np.sort(np.abs(np.linalg.eigvals(A + d.perturbation) - d.z))[:2]
    assert two.max() <= 1e-5 * np.linalg.norm(A, 2)


@pytest.mark.parametrize("b", [0.0, 0.5, 3.0, 100.0])
def test_two_by_two(b):
    # by symmetry the eigenvalues ±1 meet at 0, at the smallest singular value of A itself
    A = np.array([[1.0, b], [0.0, -1.0]])
    d = la.nearest_defective(A)
    want = np.linalg.svd(A, compute_uv=False)[-1]
    assert d.lower <= want * (1 + 1e-12) <= d.upper * (1 + 1e-9)
    np.testing.assert_allclose([d.lower, d.upper], want, rtol=1e-9)  # for n = 2 the lower bound is sharp
    assert d.proved
    np.testing.assert_allclose(d.pair, [-1, 1])
    assert_multiple(A, d)


@pytest.mark.parametrize("seed", range(3))
def test_normal_matrices_half_the_gap(seed):
    A = normal(seed, 7)
    values = np.linalg.eigvals(A)
    gaps = np.abs(values[:, None] - values[None]) + 9 * np.eye(7)
    d = la.nearest_defective(A)
    np.testing.assert_allclose([d.lower, d.upper], gaps.min() / 2, rtol=1e-9)
    assert abs(d.pair[0] - d.pair[1]) == pytest.approx(gaps.min())
    assert_multiple(A, d)


def kahan(n: int) -> np.ndarray:
    s = 0.1 ** (1 / (n - 1))
    return s ** np.arange(n)[:, None] * (np.eye(n) - np.sqrt(1 - s * s) * np.triu(np.ones((n, n)), 1))


@pytest.mark.parametrize(("A", "want"), [(kahan(6), 4.7049e-4), (grcar(6), 0.2151857), (grcar(20), 4.9141e-4)])
def test_published_examples(A, want):
    # R. O. Akinola, M. A. Freitag, A. Spence, "The calculation of the distance to a nearby defective matrix"
    d = la.nearest_defective(A)
    assert d.upper == pytest.approx(want, rel=1e-4)
    assert d.lower <= want and not d.proved  # the search met the published distance; the lower bound is below it
    assert_multiple(A, d)


@pytest.mark.parametrize(("A", "z"), [(np.eye(3), 1.0), (np.eye(4, k=1), 0.0), (np.diag([1.0, 2.0, 1.0]), 1.0)])
def test_defective_and_derogatory_matrices_are_at_distance_zero(A, z):
    d = la.nearest_defective(A)
    assert d.lower <= d.upper <= 1e-13 and abs(d.z - z) < 1e-12


def merging_level(A: np.ndarray, points: int) -> tuple[float, float]:
    """Level at which two sublevel components of σ_min with an eigenvalue each merge on a grid, and the grid's step."""
    values = np.linalg.eigvals(A)
    radius = np.linalg.norm(A, 2) * 1.1
    x = np.linspace(-radius, radius, points)
    sigma = sigma_min(A, x[None] + 1j * x[:, None])
    parent, eigenvalue_of = {}, {}

    def root(p):
        while parent[p] != p:
            parent[p] = parent[parent[p]]
            p = parent[p]
        return p

    nearest = [tuple(int(np.abs(x - part).argmin()) for part in (w.imag, w.real)) for w in values]
    for k in np.argsort(sigma, axis=None):
        p = divmod(int(k), points)
        parent[p] = p
        eigenvalue_of[p] = p in nearest
        for dk in (-1, 0, 1):
            for dj in (-1, 0, 1):
                q = p[0] + dk, p[1] + dj
                if q in parent and root(q) != root(p):
                    a, b = root(p), root(q)
                    if eigenvalue_of[a] and eigenvalue_of[b]:
                        return float(sigma[p]), x[1] - x[0]
                    parent[a] = b
                    eigenvalue_of[b] |= eigenvalue_of[a]
    return np.inf, x[1] - x[0]


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_components_merge_at_the_distance(seed):
    # σ_min changes by no more than the distance, and a path through the plane is within a cell's diagonal of the grid
    A = stable(seed, 4, departure=0.3, complex_=True)
    level, step = merging_level(A, 160)
    assert np.abs(np.subtract.outer(*[np.linalg.eigvals(A)] * 2) + np.eye(4)).min() > 3 * step
    d = la.nearest_defective(A)
    assert abs(d.upper - level) <= step


@hypothesis.given(st.integers(0, 10**6), st.sampled_from([2, 5, 9]), st.floats(0, 2), st.booleans())
@hypothesis.settings(max_examples=25, deadline=None)
def test_bounds(seed, n, departure, complex_):
    A = stable(seed, n, departure=departure, complex_=complex_)
    d = la.nearest_defective(A)
    assert 0 <= d.lower <= d.upper
    assert_multiple(A, d)
    # Wilkinson: ‖A‖/√(κ² − 1) for the condition number of any eigenvalue, and half of any gap, are upper bounds as well
    _, left, right = scipy.linalg.eig(A, left=True)
    kappa = 1 / np.abs(np.sum(left.conj() * right, 0)).min()
    assert d.upper <= np.linalg.norm(A, 2) / np.sqrt(max(kappa**2 - 1, 1e-30)) * (1 + 1e-6) + 1e-12
    # below the lower bound no perturbation makes two eigenvalues meet
    rng = np.random.default_rng(seed)
    E = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    before = np.linalg.eigvals(A)
    for t in np.linspace(0, 1, 6):
        after = np.linalg.eigvals(A + 0.99 * t * d.lower * E / np.linalg.norm(E, 2))
        gaps = np.abs(after[:, None] - after[None]) + np.eye(n)
        assert gaps.min() > 0 or d.lower == 0
    assert d.lower <= (np.abs(before[:, None] - before[None]) + 1e9 * np.eye(n)).min() / 2 + 1e-12


def test_unitary_similarity_scaling_and_batches():
    A = stable(3, 6, departure=0.5)
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    d = la.nearest_defective(np.stack([A, 10 * q @ A @ q.T, A - 3 * np.eye(6)]))
    np.testing.assert_allclose(d.upper[1:], d.upper[0] * np.array([10, 1]), rtol=1e-6)
    np.testing.assert_allclose(d.lower[1:], d.lower[0] * np.array([10, 1]), rtol=1e-6)
    assert d.perturbation.shape == (3, 6, 6) and d.proved.shape == (3,)
    assert la.nearest_defective([[2.0]]).upper == np.inf
    with pytest.raises(la.DimensionMismatch, match="2×3"):
        la.nearest_defective(np.ones((2, 3)))
    with pytest.raises(la.NonFiniteError, match="nearest_defective"):
        la.nearest_defective(np.full((2, 2), np.inf))
