"""Numerical range and radius: ellipses, convex hulls, Toeplitz symbols, the two polygons, certificates."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from nonnormal_matrices import grcar, normal, stable, tridiagonal_toeplitz

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError
from lax_linalg.nonnormal import numerical_radius, numerical_range
from lax_linalg.nonnormal.trigonometric import proves_positive


@pytest.mark.parametrize("a", [np.array([[1.0, 2.0], [0.0, -1.0]]), np.array([[1j, 3.0], [0.0, 2.0 - 1j]])])
def test_two_by_two_is_an_ellipse(a, x64):
    # foci at the eigenvalues, minor axis the modulus of the off-diagonal Schur entry (Murnaghan)
    w = numerical_range(a, 64)
    foci, minor = np.diagonal(a), abs(a[0, 1])
    major = np.hypot(minor, abs(foci[0] - foci[1]))
    reach = np.abs(w.points - foci[0]) + np.abs(w.points - foci[1])
    np.testing.assert_allclose(reach, major, rtol=1e-12)


def test_normal_is_the_convex_hull(x64):
    a = normal(1, 7)
    w = numerical_range(a, 50)
    turned = np.real(np.exp(-1j * np.asarray(w.angles))[:, None] * np.linalg.eigvals(a))
    np.testing.assert_allclose(w.support, turned.max(1), atol=1e-12)


@pytest.mark.parametrize(("below", "diagonal", "above"), [(1.0, 0.0, 0.25), (0.3j, 1 - 1j, 2.0)])
def test_tridiagonal_toeplitz(below, diagonal, above, x64):
    # the rotated Hermitian part is tridiagonal Toeplitz again: its top eigenvalue is known, and it tends to the symbol
    n = 12
    w = numerical_range(tridiagonal_toeplitz(n, below, diagonal, above), 40)
    turn = np.exp(-1j * np.asarray(w.angles))
    symbol = np.abs(turn * above + np.conj(turn * below))
    want = np.real(turn * diagonal) + symbol * np.cos(np.pi / (n + 1))
    np.testing.assert_allclose(w.support, want, rtol=1e-12)


@pytest.mark.parametrize("a", [grcar(10), stable(0, 6, complex_=True)])
def test_inside_the_outer_and_outside_the_inner_polygon(a, x64):
    coarse, fine = numerical_range(a, 9), numerical_range(a, 90)
    for outer in (coarse, fine):
        directions = np.exp(-1j * np.asarray(outer.angles))[:, None]
        assert np.all(np.real(directions * np.asarray(fine.points)) <= np.asarray(outer.support)[:, None] + 1e-12)
        corners = np.real(directions * np.asarray(outer.corners))
        assert np.all(corners.max(1) >= np.asarray(outer.support) - 1e-12)
    eigenvalues = np.linalg.eigvals(a)
    assert np.all(np.real(directions * eigenvalues) <= np.asarray(fine.support)[:, None] + 1e-12)


def test_jit_and_vmap():
    batch = np.stack([stable(s, 4).astype(np.float32) for s in range(3)])
    got = jax.jit(jax.vmap(lambda a: numerical_range(a, 8)))(batch)
    assert got.points.shape == (3, 8)
    assert got.corners.shape == (3, 8)
    np.testing.assert_allclose(got.support[1], numerical_range(batch[1], 8).support, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [2, 5, 16, 33])
def test_radius_of_a_jordan_block(n):
    r = numerical_radius(np.eye(n, k=1))
    want = np.cos(np.pi / (n + 1))
    assert r.lower <= want * (1 + 1e-14)
    assert r.upper >= want
    assert r.upper <= r.lower * (1 + 2e-6)


@hypothesis.given(st.integers(0, 1000), st.sampled_from([1, 3, 8]), st.booleans())
@hypothesis.settings(max_examples=20, deadline=None)
def test_radius_brackets(seed, n, complex_):
    a = stable(seed, n, complex_=complex_, departure=3.0)
    r = numerical_radius(a)
    theta = np.linspace(0, 2 * np.pi, 400)[:, None, None]
    turned = np.exp(-1j * theta) * a
    sampled = np.linalg.eigvalsh((turned + turned.conj().swapaxes(1, 2)) / 2)[:, -1].max()
    norm = np.linalg.norm(a, 2)
    assert sampled <= r.upper * (1 + 1e-13)
    assert norm / 2 * (1 - 1e-12) <= r.upper <= r.lower * (1 + 2e-6) + 1e-14
    assert r.lower <= norm * (1 + 1e-12)
    assert abs(r.z) >= r.lower


def test_radius_of_batches_and_bad_input():
    batch = np.stack([np.eye(3), 2 * np.eye(3)])
    np.testing.assert_allclose(numerical_radius(batch).lower, [1, 2], rtol=1e-6)
    with pytest.raises(DimensionMismatch, match="2×3"):
        numerical_radius(np.ones((2, 3)))
    with pytest.raises(LinearAlgebraError, match="at least 3 angles"):
        numerical_range(np.eye(2), 2)


@pytest.mark.parametrize("seed", range(6))
def test_certificate_proves_what_holds_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    n = 3 + seed
    b = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    q = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    q = q + q.conj().T
    theta = np.linspace(-np.pi, np.pi, 4001)[:, None, None]
    turned = np.exp(-1j * theta) * b
    least = np.linalg.eigvalsh(q - turned - turned.conj().swapaxes(1, 2))[:, 0].min()
    eye, scale = np.eye(n), np.linalg.norm(q, 2)
    assert proves_positive(q - (least - 1e-3 * scale) * eye, b, 5e-4 * scale)
    for margin in (1e-3, 1e-6, 1e-9):
        assert not proves_positive(q - (least + 1e-5 * scale) * eye, b, margin * scale)
