"""The algebra keeps structure, and obeys the laws of matrices whatever structures meet."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from structure_cases import CASES, make
from verb_oracle import Reference, check_verbs

import lax_linalg as la
from lax_linalg.operators.base import operator
from lax_linalg.operators.tridiagonal import solve_by_rotations
from lax_linalg.verbs.solve import by_columns

SQUARE = tuple(n for n in CASES if make(n, 4, "float32")[0].shape == (4, 4))
DTYPES = ("float32", "complex64")
SETTINGS = hypothesis.settings(max_examples=5, deadline=None, derandomize=True)
DEEP = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)


def dense(A) -> np.ndarray:
    return np.asarray(la.materialize(A)).astype(complex)


def same(A, want: np.ndarray, size: float) -> None:
    assert A.shape == want.shape
    np.testing.assert_allclose(dense(A), want, atol=1e-5 * (1 + size), rtol=0)


@st.composite
def operands(draw, count: int):
    """Square operators of one size, with their matrices: any structures, real and complex mixed."""
    pairs = [make(draw(st.sampled_from(SQUARE)), 4, draw(st.sampled_from(DTYPES)), seed=k) for k in range(count)]
    return [A for A, _ in pairs], [a.astype(complex) for _, a in pairs]


@hypothesis.given(operands(3))
@SETTINGS
def test_ring_and_adjoint_laws(drawn):
    laws(*drawn)


@pytest.mark.slow
@hypothesis.given(operands(3))
@DEEP
def test_ring_and_adjoint_laws_of_many_structures(drawn):
    laws(*drawn)


def laws(operators, matrices):
    (A, B, C), (a, b, c) = operators, matrices
    size = np.prod([max(np.linalg.norm(x), 1) for x in (a, b, c)])
    same((A + B) + C, a + b + c, size)
    same(A + (B + C), a + b + c, size)
    same(A + B, dense(B + A), size)
    same((A @ B) @ C, a @ b @ c, size)
    same(A @ (B @ C), a @ b @ c, size)
    same(A @ (B + C), a @ b + a @ c, size)
    same((A + B) @ C, a @ c + b @ c, size)
    same((A @ B).H, b.conj().T @ a.conj().T, size)
    same((A @ B).T, dense(B.T @ A.T), size)
    same((A + B).H, a.conj().T + b.conj().T, size)
    same(la.conj(A @ B), a.conj() @ b.conj(), size)
    same(A - A, 0 * a, size)
    same(A + 2j * la.I, a + 2j * np.eye(4), size)
    same((2 - 1j) * (A @ B), (2 - 1j) * a @ b, size)
    same(la.I - A @ B, np.eye(4) - a @ b, size)
    same(la.kron(A, B) @ la.kron(C, A), np.kron(a @ c, b @ a), size * np.linalg.norm(a))
    x = np.arange(4.0)
    np.testing.assert_allclose((A @ B + C) @ x, (a @ b + c) @ x, atol=1e-4 * size)


KEPT = {
    # what is computed -> the structures it is built from and the structure it must have
    "toeplitz + toeplitz": (lambda A, B: A + B, "toeplitz", "toeplitz", la.Toeplitz),
    "wide toeplitz + wide toeplitz": (lambda A, B: A - B, "wide toeplitz", "wide toeplitz", la.Toeplitz),
    "toeplitz + circulant": (lambda A, B: A + B, "toeplitz", "circulant", la.Toeplitz),
    "circulant + circulant": (lambda A, B: A + B, "circulant", "circulant", la.Circulant),
    "circulant × circulant": (lambda A, B: A @ B, "circulant", "circulant", la.Circulant),
    "circulant adjoint": (lambda A, B: A.H, "circulant", "circulant", la.Circulant),
    "circulant inverse": (lambda A, B: la.inv(A), "circulant", "circulant", la.Circulant),
    "circulant power": (lambda A, B: A**5, "circulant", "circulant", la.Circulant),
    "hankel + hankel": (lambda A, B: A + B, "hankel", "hankel", la.Hankel),
    "triangular toeplitz product": (lambda A, B: A @ B, *("triangular toeplitz",) * 2, la.TriangularToeplitz),
    "triangular toeplitz inverse": (lambda A, B: la.inv(A), *("triangular toeplitz",) * 2, la.TriangularToeplitz),
    "tridiagonal + bidiagonal": (lambda A, B: A + B, "tridiagonal", "bidiagonal", la.Tridiagonal),
    "symtridiagonal + diagonal": (lambda A, B: A + B, "symtridiagonal", "diagonal", la.SymTridiagonal),
    "diagonal × tridiagonal": (lambda A, B: A @ B, "diagonal", "tridiagonal", la.Tridiagonal),
    "diagonal × convolution": (lambda A, B: A @ B, "diagonal", "convolution", la.Product),
    "convolution + locally connected": (
        lambda A, B: A + B,
        "convolution",
        "locally connected",
        la.LocallyConnected,
    ),
    "circular convolutions": (lambda A, B: A @ A.H @ B, *("circular convolution",) * 2, la.Convolution),
    "kronecker × kronecker": (lambda A, B: A @ B, "kronecker", "kronecker", la.Kronecker),
    "kronecker inverse": (lambda A, B: la.inv(A), "kronecker", "kronecker", la.Kronecker),
    "kronecker adjoint": (lambda A, B: A.H, "kronecker", "kronecker", la.Kronecker),
    "blocks × blocks": (lambda A, B: A @ B, "block diagonal", "block diagonal", la.BlockDiagonal),
    "blocks + diagonal": (lambda A, B: A + B, "block diagonal", "diagonal", la.BlockDiagonal),
    "low rank + low rank": (lambda A, B: A + B, "low rank", "low rank", la.LowRank),
    "anything × low rank": (lambda A, B: A @ B, "circulant", "low rank", la.LowRank),
    "diagonal + low rank": (lambda A, B: A + B, "diagonal", "low rank", la.DiagonalPlusLowRank),
    "I + low rank": (lambda A, B: la.I + B, "diagonal", "low rank", la.DiagonalPlusLowRank),
    "its inverse": (lambda A, B: la.inv(A + B), "diagonal", "tiny low rank", la.DiagonalPlusLowRank),
    "permutation × permutation": (lambda A, B: A @ B, "permutation", "permutation", la.Permutation),
    "permutation inverse": (lambda A, B: la.inv(A), "permutation", "permutation", la.Permutation),
    "reflections": (lambda A, B: A @ B, "householder", "householder", la.HouseholderProduct),
    "symmetric + symmetric": (lambda A, B: A + B, "symmetric", "symmetric", la.Symmetric),
    "upper × upper": (lambda A, B: A @ B, "upper triangular", "upper triangular", la.UpperTriangular),
    "inverse of upper": (lambda A, B: la.inv(A), "upper triangular", "upper triangular", la.UpperTriangular),
    "I + jordan": (lambda A, B: la.I + A, "jordan block", "jordan block", la.JordanBlock),
}


@pytest.mark.parametrize("name", KEPT)
def test_structure_is_kept(name, x64):
    combine, left, right, kind = KEPT[name]
    A, B = make(left)[0], make("low rank" if right == "tiny low rank" else right, seed=1)[0]
    if right == "tiny low rank":
        B = la.LowRank(B.U[:, :1], B.V[:, :1])
    result = combine(A, B)
    assert isinstance(result, kind), f"{result!r}"
    want = combine(la.Dense(la.materialize(A)), la.Dense(la.materialize(B)))
    np.testing.assert_allclose(la.materialize(result), la.materialize(want), rtol=1e-9, atol=1e-9)
    # and under jit, where no value is known
    jitted = jax.jit(combine)(A, B)
    assert isinstance(jitted, kind)


@pytest.mark.parametrize(
    "name", ["definite hermitian", *(pytest.param(n, marks=pytest.mark.slow) for n in ("tridiagonal", "wide toeplitz"))]
)
def test_a_transpose_put_around_a_structure_uses_it(name, x64):
    A, a = make(name, 5, "complex128")
    check_verbs(la.Transpose(A), (), Reference(a.T))


@operator(data=("factor",))
class Shear(la.LinearOperator):
    """[[1, a], [0, 1]], known by its products and its systems alone."""

    factor: jax.Array

    @property
    def shape(self):
        return 2, 2

    def _matmat(self, X):
        return jnp.stack([X[0] + self.factor * X[1], X[1]])


@la.solve.rule(Shear, cost="O(k)")
@by_columns
def _(A, b):
    """The opposite shear."""
    return Shear(-A.factor)._matmat(b)


def test_systems_of_a_lazy_transpose_are_those_of_the_operator_inside(x64):
    A = Shear(jnp.asarray(3.0))
    with la.dense_limit(1):
        np.testing.assert_array_equal(la.solve(A.T, jnp.array([1.0, 2.0])), [1, -1])


def test_tridiagonal_systems_by_rotations_are_backward_stable(x64):
    generator = np.random.default_rng(0)
    for n in (1, 2, 40):
        for complex_ in (False, True):
            l, d, u, b = (generator.standard_normal(s) + (1j * complex_) for s in (n, n, n, (n, 2)))
            d[1::3] = 0  # pivots that elimination without exchanges would divide by
            a = np.diag(d) + (np.diag(l[1:], -1) + np.diag(u[:-1], 1) if n > 1 else 0)
            x = np.asarray(solve_by_rotations(*map(jnp.asarray, (l, d, u, b))))
            assert np.linalg.norm(a @ x - b) < 30 * n * 2e-16 * np.linalg.norm(a) * np.linalg.norm(x)


def test_tridiagonal_systems_need_no_dense_matrix():
    n = 2**10
    A = la.Tridiagonal(jnp.ones(n - 1), jnp.full(n, 4.0), jnp.ones(n - 1))
    with la.dense_limit(100):
        x = jax.jit(la.solve)(A, jnp.ones(n))
    np.testing.assert_allclose(A @ x, 1, atol=1e-5)
