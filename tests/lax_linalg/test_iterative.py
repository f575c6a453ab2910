"""Iterative solvers, concatenation and the operators of other libraries, against NumPy and SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

import lax_linalg as la


def system(method, kind):
    r = np.random.default_rng(0)

    def draw(*shape):
        return r.standard_normal(shape) + (1j * r.standard_normal(shape) if kind == "complex" else 0)

    A = draw(15, 6) if method == "lsmr" else draw(9, 9) + 6 * np.eye(9)
    A = A @ A.conj().T + np.eye(9) if method == "cg" else A
    b = draw(A.shape[0], 2)
    return A, b, np.linalg.lstsq(A, b)[0]


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("method", ["cg", "gmres", "lsmr"])
def test_iterative_solvers_report_the_residual_that_there_is(method, kind, x64):
    A, b, want = system(method, kind)
    solve = jax.jit(getattr(la, method), static_argnames=("rtol", "max_steps"))
    for c, d in ((1, 1), (1e-150, 1e150), (1e150, 1e-150)):
        F = solve(A * c, b * d, rtol=1e-10)
        x = np.asarray(F.x) * (c / d)
        np.testing.assert_allclose(x, want, atol=1e-8)
        residual = np.linalg.norm(b - A @ x, axis=0) / np.linalg.norm(b, axis=0)
        np.testing.assert_allclose(F.residual, residual, atol=1e-12)
    early = solve(A, b[:, 0], rtol=1e-10, max_steps=1)
    residual = np.linalg.norm(b[:, 0] - A @ np.asarray(early.x)) / np.linalg.norm(b[:, 0])
    np.testing.assert_allclose(early.residual, residual, rtol=1e-6, atol=1e-14)
    assert np.isnan(solve(A * np.nan, b[:, 0], rtol=1e-10, max_steps=1).x).all()
    np.testing.assert_array_equal(solve(A, 0 * b[:, 0], rtol=1e-10, max_steps=1).residual, 0)


def test_iterative_solvers_refuse_what_does_not_fit():
    with pytest.raises(la.DimensionMismatch, match="cg needs a square matrix, got 2×3"):
        la.cg(np.ones((2, 3)), np.ones(2))
    with pytest.raises(la.DimensionMismatch, match=r"takes a right-hand side \[2\]"):
        la.lsmr(np.ones((2, 3)), np.ones(3))


def test_blocks_side_by_side_and_on_top_of_each_other(x64):
    r = np.random.default_rng(0)
    A, B, C, D = la.Circulant(r.standard_normal(3)), r.standard_normal((3, 2)), la.Selection([1, -1], 3), la.I(2)
    M = la.block([[A, B], [C, D]])
    want = np.block([[np.asarray(A), B], [np.asarray(C), np.eye(2)]])
    np.testing.assert_allclose(np.asarray(M), want, atol=1e-15)
    np.testing.assert_allclose(M.T @ np.arange(5.0), want.T @ np.arange(5.0), atol=1e-14)
    np.testing.assert_allclose(la.det(M), np.linalg.det(want), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda c: la.det(la.hcat(la.Circulant(c), B)[:, 1:4]))(A.column).shape, (3,))
    with pytest.raises(la.DimensionMismatch, match="hcat puts blocks of one height side by side, got 3×3, 2×2"):
        la.hcat(A, D)
    with pytest.raises(la.DimensionMismatch, match="got none"):
        la.vcat()


def test_operators_of_scipy(x64):
    r = np.random.default_rng(0)
    a = r.standard_normal((4, 3)) + 1j * r.standard_normal((4, 3))
    A = la.HostOperator(scipy.sparse.csr_array(a))
    np.testing.assert_allclose(jax.jit(la.svdvals)(A), np.linalg.svd(a, compute_uv=False), atol=1e-12)
    np.testing.assert_allclose(np.asarray(A.H @ (2 * A)), 2 * a.conj().T @ a, atol=1e-12)
    np.testing.assert_allclose(la.svds(A, 1).S, np.linalg.svd(a, compute_uv=False)[:1], atol=1e-10)
    energy = jax.grad(lambda x: jnp.sum(jnp.abs(A @ x) ** 2))(np.ones(3))
    np.testing.assert_allclose(energy, 2 * (a.conj().T @ a).real @ np.ones(3), atol=1e-12)
    back = la.to_scipy(la.Toeplitz([1.0, 2.0, 3.0], [1.0, 5.0]))
    np.testing.assert_allclose(back @ np.eye(2), [[1, 5], [2, 1], [3, 2]])
    np.testing.assert_allclose(back.H @ np.eye(3), np.array([[1, 5], [2, 1], [3, 2]]).T)
    np.testing.assert_allclose(back.matvec(np.ones((2, 1))), np.array([[6], [3], [5]]))
    with pytest.raises(la.LinearAlgebraError, match="takes a linear operator of SciPy"):
        la.HostOperator("A")


def test_operators_of_lineax():
    A = lineax.TridiagonalLinearOperator(jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 5.0]), jnp.array([6.0, 7.0]))
    np.testing.assert_allclose(np.asarray(la.from_lineax(A)), A.as_matrix(), rtol=1e-6)
    np.testing.assert_allclose(la.to_lineax(la.from_lineax(A)).as_matrix(), A.as_matrix(), rtol=1e-6)


def test_isapprox_is_julias():
    A = np.diag([1.0, 2.0])
    assert la.isapprox(A, A * (1 + 1e-5))
    assert not la.isapprox(A, A * (1 + 1e-2))
    assert not la.isapprox(A, A * (1 + 1e-5), atol=1e-8)
    assert la.isapprox(A, A + 1e-3, atol=1e-2)
    assert la.isapprox(1e-30 * A, 1e-30 * A, atol=0) and not la.isapprox(1e-30 * A, 2e-30 * A)
    assert not jax.jit(la.isapprox)(A, A * np.nan)
