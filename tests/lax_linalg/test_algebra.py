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
from lax_linalg.core.operator import operator
from lax_linalg.operators.tridiagonal import solve_by_rotations
from lax_linalg.verbs.solve import by_columns

DTYPES = ("float32", "float64", "bfloat16", "complex64")
SIZES = (0, 1, 2, 4)
SQUARE = tuple(
    c for c in CASES if c.split()[0] not in ("tall", "wide", "rectangular", "crossed", "product", "selection")
)
IMAGES = tuple(c for c in CASES if "conv" in c or "connected" in c or "strided" in c)
"""Which have at least one pixel."""
FEW = hypothesis.settings(max_examples=3, deadline=None)
MANY = hypothesis.settings(max_examples=30, deadline=None)


materialize = jax.jit(la.materialize)


def dense(A) -> np.ndarray:
    return np.asarray(materialize(A)).astype(complex)


def same(got: np.ndarray, want: np.ndarray, size: float, eps: float) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=100 * eps * (1 + size), rtol=0)


def size_of(*matrices: np.ndarray) -> float:
    return float(np.prod([max(np.linalg.norm(x), 1) for x in matrices]))


@st.composite
def operands(draw, count: int):
    """Names, dtypes and seeds of square operators of one size: any structures, precisions mixed, real and complex."""
    n = draw(st.sampled_from(SIZES))
    names = SQUARE if n else tuple(c for c in SQUARE if c not in IMAGES)
    one = st.tuples(st.sampled_from(names), st.sampled_from(DTYPES))
    return n, [(*draw(one), seed) for seed in range(count)]


@hypothesis.given(operands(3))
@FEW
def test_ring_and_adjoint_laws(drawn):
    laws(*drawn)


@pytest.mark.slow
@hypothesis.given(operands(3))
@MANY
def test_ring_and_adjoint_laws_of_many_structures(drawn):
    laws(*drawn)


@jax.jit
def both_sides(A, B, C, x):
    """What the laws equate, in one program."""
    matrices = (
        *((A + B) + C, A + (B + C), B + A),
        *((A @ B) @ C, A @ (B @ C), A @ (B + C), (A + B) @ C),
        *((A @ B).H, B.T @ A.T, (A + B).H, la.conj(A @ B), A.H.H, A - A),
        *(A + 2j * la.I, (2 - 1j) * (A @ B), (2.0 * A) @ (B * 3), la.I - A @ B, la.kron(A, B) @ la.kron(C, A)),
    )
    return *map(la.materialize, matrices), (A @ B + C) @ x


def laws(n, drawn):
    with jax.enable_x64(True):
        (A, a), (B, b), (C, c) = (make(name, n, dtype, seed) for name, dtype, seed in drawn)
        hypothesis.assume(A.shape == B.shape == C.shape == (n, n))
        a, b, c = (x.astype(complex) for x in (a, b, c))
        eps = max(float(jnp.finfo(dtype).eps) for _, dtype, _ in drawn)
        size, x, eye = size_of(a, b, c), np.arange(float(n)), np.eye(n)
        want = (
            *(a + b + c, a + b + c, a + b),
            *(a @ b @ c, a @ b @ c, a @ b + a @ c, a @ c + b @ c),
            *(b.conj().T @ a.conj().T, (a @ b).T, a.conj().T + b.conj().T, a.conj() @ b.conj(), a, 0 * a),
            *(a + 2j * eye, (2 - 1j) * a @ b, 6 * a @ b, eye - a @ b, np.kron(a @ c, b @ a)),
        )
        *got, product = map(np.asarray, both_sides(A, B, C, x))
        for left, right in zip(got, want, strict=True):
            same(left, right, size * size_of(a), eps)
        np.testing.assert_allclose(product, (a @ b + c) @ x, atol=300 * eps * size * (1 + np.linalg.norm(x)))


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
    "diagonal × convolution": (lambda A, B: A @ B, "diagonal", "convolution", la.LocallyConnected),
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


def kept(name: str, n: int, dtypes: tuple[str, str]) -> None:
    """The combination has the structure, and the numbers and the dtype that matrices have."""
    combine, left, right, kind = KEPT[name]
    with jax.enable_x64(True):
        A, a = make(left, n, dtypes[0])
        B, b = make("low rank" if right == "tiny low rank" else right, n, dtypes[1], seed=1)
        if right == "tiny low rank":
            B = la.LowRank(B.U[:, :1], B.V[:, :1])
            b = dense(B)
        result = combine(A, B)
        assert isinstance(result, kind), f"{result!r}"
        assert isinstance(jax.eval_shape(combine, A, B), kind)  # where no value is known
        inexact = [x.dtype for x in (A, B) if jnp.issubdtype(x.dtype, jnp.inexact)]
        eps = max((float(jnp.finfo(dtype).eps) for dtype in inexact), default=0.0)
        if "inverse" not in name:
            exact = jax.jit(lambda *matrices: la.materialize(combine(*map(la.Dense, matrices))))
            want = np.asarray(exact(a.astype(complex), b.astype(complex)))
            same(dense(result), want, size_of(a, b) * size_of(a) ** 4, eps)
            plain = jax.eval_shape(lambda *given: combine(*(la.Dense(la.materialize(x)) for x in given)), A, B)
            assert result.dtype == plain.dtype or "power" in name
        else:  # A⁻¹ (A + B or A) is the identity, as well as A is conditioned
            inverted = dense(A + B if name == "its inverse" else A)
            kappa = np.linalg.cond(inverted) if inverted.size else 1.0
            np.testing.assert_allclose(dense(result) @ inverted, np.eye(len(inverted)), atol=1e3 * eps * kappa)


@pytest.mark.parametrize("name", KEPT)
def test_structure_is_kept(name):
    kept(name, 5, ("float64", "float64"))


@st.composite
def combinations(draw):
    """Arguments of `kept`: any combination, size and pair of precisions."""
    name = draw(st.sampled_from(tuple(KEPT)))
    sizes = (3, 4) if name == "its inverse" else (1, 2) if set(KEPT[name][1:3]) & set(IMAGES) else (0, 1, 2)
    dtypes = DTYPES[:3] if name == "symtridiagonal + diagonal" else DTYPES  # real by type
    return name, draw(st.sampled_from(sizes)), draw(st.tuples(*[st.sampled_from(dtypes)] * 2))


@hypothesis.given(combinations())
@hypothesis.settings(max_examples=8, deadline=None)
def test_structure_is_kept_at_any_size_and_precision(drawn):
    kept(*drawn)


@pytest.mark.slow
@hypothesis.given(combinations())
@hypothesis.settings(max_examples=100, deadline=None)
def test_structure_is_kept_at_many_sizes_and_precisions(drawn):
    kept(*drawn)


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
    generator, solve = np.random.default_rng(0), jax.jit(solve_by_rotations)
    for n in (1, 2, 40):
        for complex_ in (False, True):
            l, d, u, b = (generator.standard_normal(s) + (1j * complex_) for s in (n, n, n, (n, 2)))
            d[1::3] = 0  # pivots that elimination without exchanges would divide by
            a = np.diag(d) + (np.diag(l[1:], -1) + np.diag(u[:-1], 1) if n > 1 else 0)
            x = np.asarray(solve(l, d, u, b))
            assert np.linalg.norm(a @ x - b) < 30 * n * 2e-16 * np.linalg.norm(a) * np.linalg.norm(x)


def test_tridiagonal_systems_need_no_dense_matrix():
    n = 2**10
    A = la.Tridiagonal(np.ones(n - 1, "f4"), np.full(n, 4.0, "f4"), np.ones(n - 1, "f4"))
    with la.dense_limit(100):
        product = jax.jit(lambda A, b: A @ la.solve(A, b))(A, np.ones(n, "f4"))
    np.testing.assert_allclose(product, 1, atol=1e-5)
