"""What `Hermitian`, `Symmetric` and the triangular wrappers do not look at, and what they keep."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la
from lax_linalg.core.dispatch import verbs

N = 4


def wrappers(unused: float) -> dict[str, la.LinearOperator]:
    """Every wrapper of a well-conditioned matrix with this number in all entries that it does not look at."""
    a = np.random.default_rng(0).standard_normal((N, N)).astype(np.float32) + 4 * np.eye(N, dtype=np.float32)
    rows, columns = np.indices((N, N))

    def array(used: np.ndarray) -> np.ndarray:
        return np.where(used, a, np.float32(unused))

    imaginary = np.where(rows >= columns, unused, 0.5).astype(np.float32)
    return {
        "Hermitian": la.Hermitian(jax.lax.complex(array(rows <= columns), imaginary)),
        "Symmetric": la.Symmetric(jnp.asarray(array(rows <= columns))),
        "Symmetric lower": la.Symmetric(jnp.asarray(array(rows >= columns)), "L"),
        "UpperTriangular": la.UpperTriangular(jnp.asarray(array(rows <= columns))),
        "UpperTriangular unit": la.UpperTriangular(jnp.asarray(array(rows < columns)), unit=True),
        "LowerTriangular": la.LowerTriangular(jnp.asarray(array(rows >= columns))),
        "LowerTriangular unit": la.LowerTriangular(jnp.asarray(array(rows > columns)), unit=True),
    }


def outcome(name: str, A: la.LinearOperator) -> list[np.ndarray] | str:
    """What the verb gives, as arrays; the name of the error if it gives none."""
    verb = verbs[name]
    b = jnp.ones((N, 2), jnp.float32)
    arguments = {"solve": (A, b), "lstsq": (A, b), "power": (A, 3), "scale": (A, 2.0)}.get(name, (A,) * verb.arity)
    try:
        result = verb(*arguments)
    except (la.LinearAlgebraError, TypeError) as error:
        return type(error).__name__
    leaves = jax.tree.leaves(result, is_leaf=lambda x: isinstance(x, la.LinearOperator))
    return [np.asarray(x) for x in leaves if isinstance(x, la.LinearOperator) or hasattr(x, "dtype")]


def same(found: list[np.ndarray] | str, expected: list[np.ndarray] | str, name: str) -> None:
    if isinstance(expected, str):
        assert found == expected, name
        return
    assert not isinstance(found, str), f"{name}: {found}"
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5, err_msg=name)


QUICK = ["materialize", "diag", "add", "multiply", "det", "norm", "solve", "inv", "eigvals", "power", "issymmetric"]


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param([], marks=pytest.mark.slow, id="all")], ids=lambda n: "sample" if n else "all"
)
def test_no_verb_looks_at_unused_entries(names):
    with_nan, with_zero = wrappers(np.nan), wrappers(0.0)
    for name in names or verbs:
        for kind, A in with_nan.items():
            same(outcome(name, A), outcome(name, with_zero[kind]), f"{name} of {kind}")


def _loss(A, b):
    x = la.solve(A, b)
    return jnp.sum(jnp.abs(x) ** 2) + jnp.abs(la.logabsdet(A).logabs) + jnp.abs(la.norm(A @ A)) + la.tr(la.inv(A)).real


@pytest.mark.parametrize(
    "kinds", [["UpperTriangular", "Symmetric"], pytest.param([], marks=pytest.mark.slow)], ids=["sample", "all"]
)
def test_derivatives_by_unused_entries_are_zero_under_jit(kinds):
    b = jnp.ones(N, jnp.float32)
    with_zero = wrappers(0.0)
    for kind, A in wrappers(np.nan).items():
        if kinds and kind not in kinds:
            continue
        array = lambda A: np.asarray(A.array)  # noqa: E731
        gradient = jax.jit(jax.grad(_loss))
        found, expected = array(gradient(A, b)), array(gradient(with_zero[kind], b))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=kind)
        assert not np.any(found[np.isnan(np.asarray(A.array).real)].real), kind


def test_used_entries_are_looked_at():
    for A in (la.Symmetric([[1.0, np.nan], [2.0, 3.0]]), la.LowerTriangular([[np.nan, 0.0], [2.0, 3.0]])):
        with pytest.raises(la.NonFiniteError):
            la.inv(A)
        assert np.isnan(jax.jit(la.norm)(A))


@pytest.mark.parametrize("verb", [la.inv, la.pinv], ids=["inv", "pinv"])
def test_inverse_of_a_hermitian_matrix_is_as_accurate_as_of_a_dense_one(verb, x64):
    n, condition = 20, 1e8
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    w = np.logspace(0, -np.log10(condition), n) * np.where(np.arange(n) % 2, -1, 1)
    a = (Q * w) @ Q.T
    a = (a + a.T) / 2
    for A in (la.Hermitian(jnp.asarray(a)), la.Symmetric(jnp.asarray(a), "L")):
        X = np.asarray(la.materialize(verb(A)))
        bound = 10 * n * condition * np.finfo(float).eps
        assert np.linalg.norm(X @ a - np.eye(n), 2) < bound
        assert np.linalg.norm(a @ X - np.eye(n), 2) < bound


def test_powers_of_an_indefinite_hermitian_matrix():
    a = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
    w, V = np.linalg.eigh(a.astype(float))
    for p in (2.5, 0.3, -0.7):
        X = la.Symmetric(a) ** p
        np.testing.assert_allclose(la.materialize(X), (V * w.astype(complex) ** p) @ V.T, rtol=1e-5, atol=1e-5)
    program = jax.jit(lambda A: la.materialize(A**2.5))
    assert np.isnan(program(la.Symmetric(a))).all()
    want = (V * w.astype(complex) ** 2.5) @ V.T
    np.testing.assert_allclose(program(la.Hermitian(a.astype(complex))), want, rtol=1e-5, atol=1e-5)
    definite = a + 3 * np.eye(2)
    want = (V * (w + 3) ** 2.5) @ V.T
    np.testing.assert_allclose(program(la.Hermitian(definite.astype(complex))), want, rtol=1e-5, atol=1e-5)
    for p in (2, 3, -1, -2):
        X = la.Symmetric(a, "L") ** p
        assert isinstance(X, la.Symmetric)
        np.testing.assert_allclose(la.materialize(X), np.linalg.matrix_power(a.astype(float), p), rtol=1e-5)


@pytest.mark.parametrize("p", [0, 1, 2, 3, -1])
def test_integer_powers_keep_structure_and_dtype(p):
    for A in (
        la.Dense(np.array([[2, 1], [1, 1]])),
        la.Diagonal(np.array([2, 3])),
        la.UniformScaling(np.array(2), 2),
        la.Symmetric(np.array([[2, 1], [1, 1]])),
        la.UpperTriangular(np.array([[2, 1], [1, 1]])),
        la.LowerTriangular(np.array([[2, 1], [1, 1]])),
        la.Circulant(np.array([2, 1, 0])),
        la.TriangularToeplitz(np.array([2, 1])),
        la.Permutation(np.array([1, 2, 0])),
        la.JordanBlock(np.array(2), 3),
    ):
        for dtype in (A.dtype,) if isinstance(A, la.Permutation) else (np.int32, np.float32, np.complex64):
            if isinstance(A, la.Symmetric) and dtype == np.complex64:
                continue
            B = jax.tree.map(lambda x, dtype=dtype: jnp.asarray(x, dtype), A)
            X = la.power(B, p)
            b = np.asarray(la.materialize(B)).astype(np.result_type(B.dtype, np.float64))
            np.testing.assert_allclose(la.materialize(X), np.linalg.matrix_power(b, p), rtol=1e-5, atol=1e-5)
            closed = la.TriangularToeplitz if isinstance(A, la.JordanBlock) and p != 1 else type(A)
            assert isinstance(X, la.UniformScaling if p == 0 else closed), X
            if p >= 0:
                assert X.dtype == B.dtype, X
