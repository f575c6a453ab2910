"""Factorisations that solve again, pencils and matrix equations, against NumPy and SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

import lax_linalg as la


def draw(shape, kind, seed=0):
    r = np.random.default_rng(seed)
    return r.standard_normal(shape) + (1j * r.standard_normal(shape) if kind == "complex" else 0)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_factorisations_solve_again(kind, x64):
    A, b, T, t = draw((4, 4), kind), draw((4, 2), kind, 1), draw((5, 3), kind, 2), draw(5, kind, 3)
    P = A @ A.conj().T + np.eye(4)
    for F, matrix in ((la.lu(A), A), (la.cholesky(P), P), (la.qr(A), A), (la.pivoted_qr(A), A), (la.svd(A), A)):
        want = np.linalg.solve(matrix, b)
        np.testing.assert_allclose(la.as_operator(F) @ np.eye(4), matrix, atol=1e-12)
        np.testing.assert_allclose(F.solve(b), want, rtol=1e-9)
        np.testing.assert_allclose(la.solve(F, b), want, rtol=1e-9)
        np.testing.assert_allclose(np.asarray(la.inv(F)), np.linalg.inv(matrix), rtol=1e-9)
        np.testing.assert_allclose(la.det(F), np.linalg.det(matrix), rtol=1e-9)
    want = np.linalg.lstsq(T, t)[0]
    for F in (la.qr(T), la.pivoted_qr(T), la.svd(T), la.svd(T, full=True)):
        np.testing.assert_allclose(F.solve(t), want, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(lambda A: la.lu(A).solve(b))(A), np.linalg.solve(A, b), rtol=1e-9)


def test_svd_solves_by_the_pseudo_inverse_where_the_rank_is_not_full(x64):
    T = draw((5, 2), "real") @ draw((2, 4), "real", 1)
    np.testing.assert_allclose(la.svd(T).solve(np.ones(5)), np.linalg.pinv(T) @ np.ones(5), atol=1e-12)
    with pytest.raises(la.DimensionMismatch, match=r"la\.lstsq gives the least"):
        la.qr(np.ones((2, 3))).solve(np.ones(2))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (0, 2)])
def test_full_and_pivoted_qr(shape, x64):
    A = draw(shape, "complex")
    Q, R = la.qr(A, full=True)
    assert (Q.shape, R.shape) == ((shape[0], shape[0]), shape)
    np.testing.assert_allclose(Q @ R, A, atol=1e-13)
    np.testing.assert_allclose(Q.conj().T @ Q, np.eye(shape[0]), atol=1e-13)
    Q, R, p = la.pivoted_qr(A)
    np.testing.assert_allclose(Q @ R, A[:, p], atol=1e-13)
    pivots = np.abs(np.diag(R))
    assert np.all(np.diff(pivots) <= 1e-12)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_pencils(kind, x64):
    A, P = draw((4, 4), kind), draw((4, 4), kind, 1)
    B, H = P @ P.conj().T + np.eye(4), A + A.conj().T
    w, V = la.eigen(A, B)
    np.testing.assert_allclose(A @ V, B @ V * w, atol=1e-12)
    np.testing.assert_allclose(la.eigvals(A, B), w, atol=1e-12)
    w, V = la.eigen(la.Hermitian(H), la.Hermitian(B))
    np.testing.assert_allclose(w, scipy.linalg.eigh(H, B, eigvals_only=True), atol=1e-12)
    np.testing.assert_allclose(la.eigvals(la.Hermitian(H), la.Hermitian(B)), w, atol=1e-12)
    np.testing.assert_allclose(H @ V, B @ V * w, atol=1e-12)
    np.testing.assert_allclose(V.conj().T @ B @ V, np.eye(4), atol=1e-12)
    assert [float(la.eigmin(la.Hermitian(H))), float(la.eigmax(la.Hermitian(H)))] == pytest.approx(
        list(np.linalg.eigvalsh(H)[[0, -1]])
    )


def test_extreme_eigenvalues_are_those_of_matrices_with_real_ones():
    with pytest.raises(la.LinearAlgebraError, match="needs real eigenvalues"):
        la.eigmax([[0.0, 1.0], [-1.0, 0.0]])
    assert np.isnan(jax.jit(la.eigmin)(jnp.array([[0.0, 1.0], [-1.0, 0.0]])))
    with pytest.raises(la.DimensionMismatch, match="0×0"):
        la.eigmax(np.zeros((0, 0)))


@pytest.mark.slow
def test_second_derivatives_of_matrix_equations(x64):
    A, B, C, Q = (draw(shape, "complex", seed) for seed, shape in enumerate([(4, 4), (3, 3), (4, 3), (4, 4)]))
    check_grads(jax.jit(la.sylvester), (A, B, C), 2, atol=1e-4, rtol=1e-4)
    check_grads(jax.jit(la.lyapd), (A, Q), 2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_matrix_equations(kind, x64):
    A, B, C, Q = draw((4, 4), kind), draw((3, 3), kind, 1), draw((4, 3), kind, 2), draw((4, 4), kind, 3)
    X = la.sylvester(A, B, C)
    np.testing.assert_allclose(X, scipy.linalg.solve_sylvester(A, B, -C), atol=1e-11)
    np.testing.assert_allclose(la.lyap(A, Q), scipy.linalg.solve_continuous_lyapunov(A, -Q), atol=1e-11)
    np.testing.assert_allclose(la.lyapd(A, Q), scipy.linalg.solve_discrete_lyapunov(A, Q), atol=1e-11)
    for c in (1e-150, 1e150):
        np.testing.assert_allclose(la.lyap(A * c, Q) * c, la.lyap(A, Q), rtol=1e-9)
    check_grads(jax.jit(la.sylvester), (A, B, C), 1, atol=1e-4, rtol=1e-4)


def test_matrix_equations_without_a_unique_solution(x64):
    I2 = jnp.eye(2)
    for equation, arguments in ((la.sylvester, (I2, -I2, I2)), (la.lyap, (0 * I2, I2)), (la.lyapd, (I2, I2))):
        with pytest.raises(la.SingularError, match="is not unique"):
            equation(*arguments)
        assert np.isnan(jax.jit(equation)(*arguments)).all()
        bad = (jnp.full((2, 2), jnp.nan), *arguments[1:])
        assert np.isnan(jax.jit(equation)(*bad)).all()
    with pytest.raises(la.DimensionMismatch, match=r"\[3, 3\] takes square matrices of sizes 3 and 3"):
        la.lyap(I2, jnp.eye(3))
