"""Functions of matrices far from normal and on the branch cut, against closed forms in high precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from structure_cases import CASES, make

import lax_linalg as la

SCALARS = {
    "exp": (la.exp, mp.exp),
    "log": (la.log, mp.log),
    "sqrt": (la.sqrt, mp.sqrt),
    "power 0.3": (lambda A: la.power(A, 0.3), lambda x: mp.exp(mp.mpf(0.3) * mp.log(x))),
    "power -2.3": (lambda A: la.power(A, -2.3), lambda x: mp.exp(mp.mpf(-2.3) * mp.log(x))),
}


def of_triangular(f, a: np.ndarray) -> np.ndarray:
    """f of a triangular matrix by Parlett's recurrence, equal eigenvalues told apart far below double precision."""
    if np.any(np.tril(a, -1)):
        return of_triangular(f, a.T).T
    n = a.shape[0]
    with mp.workdps(200):
        T = mp.matrix([[mp.mpmathify(x.item()) for x in row] for row in a])
        for i in range(n):
            T[i, i] += T[i, i] * (i + 1) * mp.mpf(10) ** -50
        F = mp.diag([f(T[i, i]) for i in range(n)])
        for d in range(1, n):
            for i in range(n - d):
                j = i + d
                total = T[i, j] * (F[j, j] - F[i, i])
                total += sum(T[i, k] * F[k, j] - F[i, k] * T[k, j] for k in range(i + 1, j))
                F[i, j] = total / (T[j, j] - T[i, i])
        return np.array([[complex(F[i, j]) for j in range(n)] for i in range(n)])


def triangular_matrices() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    cases = {
        "corner 1e6": np.array([[1, 1e6, 0], [0, 2, 0], [0, 0, 5]]),
        "corner 1e18": np.array([[1, 1e18, 0], [0, 2, 0], [0, 0, 0.5]]),
        "equal eigenvalues": np.array([[3, 1e6, 2], [0, 3, 10], [0, 0, 3]]),
        "lower": np.array([[1, 0, 0], [1e6, 2.5, 0], [3, 0.1, 4]]),
        "dense lower": np.tril(1e3 * rng.standard_normal((3, 3)), -1) + np.diag([0.5, 3, 2.0]),
        "negative": np.array([[-1, 1e6, 0], [0, 2.5, 1], [0, 0, -0.3]]),
    }
    return cases


def normwise_error(X: np.ndarray, right: np.ndarray) -> float:
    return float(np.max(np.abs(np.asarray(X, complex) - right)) / np.max(np.abs(right)))


def check(X: np.ndarray, right: np.ndarray, eps: float, name: str) -> None:
    assert normwise_error(X, right) < 50 * eps, name
    i = np.arange(len(right))
    keep = (np.abs(i[:, None] - i) <= 1) & (np.abs(right) > 1e-40)  # these have digits of their own
    np.testing.assert_allclose(X[keep], right[keep], rtol=100 * eps, err_msg=name)


def test_triangular_arrays_far_from_normal_under_jit_and_vmap():
    cases = {name: a.astype(np.float32) for name, a in triangular_matrices().items()}
    results = jax.jit(jax.vmap(lambda a: {f: la.materialize(verb(a)) for f, (verb, _) in SCALARS.items()}))(
        np.stack(list(cases.values()))
    )
    for f, X in results.items():
        for x, (name, a) in zip(np.asarray(X), cases.items()):
            check(x, of_triangular(SCALARS[f][1], a.astype(float)), np.finfo(np.float32).eps, f"{f} {name}")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_triangular_structures_far_from_normal(dtype, x64):
    rng = np.random.default_rng(1)
    eps = np.finfo(dtype).eps
    structures = {
        "dense": la.Dense,
        "upper": la.UpperTriangular,
        "lower": lambda a: la.LowerTriangular(a.T),
        "bidiagonal": lambda a: la.Bidiagonal(jnp.diagonal(a), jnp.diagonal(a, 1)),
        "jordan": lambda a: la.JordanBlock(a[0, 0], 4),
        "toeplitz": lambda a: la.TriangularToeplitz(a[0], upper=True),
        "block": lambda a: la.BlockDiagonal([la.UpperTriangular(a), la.Diagonal(jnp.diagonal(a))]),
    }
    for corner in (1, 1e3, 1e6):
        a = np.triu(corner * rng.standard_normal((4, 4)), 1) + np.diag([1, 0.5, 4, 2])
        if "complex" in dtype:
            a = a + 0.5j * np.triu(rng.standard_normal((4, 4)))
        for name, build in structures.items():
            A = build(jnp.asarray(a, dtype))
            matrix = np.asarray(la.materialize(A)).astype(np.result_type(dtype, np.float64))
            for f, (verb, scalar) in SCALARS.items():
                right = of_triangular(scalar, matrix)
                if np.max(np.abs(right)) < np.finfo(dtype).max:
                    # rounding in A alone is amplified by the gaps between the other superdiagonals
                    assert normwise_error(la.materialize(verb(A)), right) < 500 * eps, f"{f} {name} {corner:g}"


def test_exponential_of_an_array_far_from_normal_and_its_derivatives():
    def corner(t, b):
        return la.materialize(la.exp(jnp.array([[1, 0], [0, -1]]) * t + jnp.array([[0, 1], [0, 0]]) * b))[0, 1]

    for b in (1e6, 1e18):
        np.testing.assert_allclose(corner(1.0, b), b * np.sinh(1), rtol=1e-6)  # b sinh(t)/t
        slopes = jax.grad(corner, (0, 1))(1.0, b)
        np.testing.assert_allclose(slopes, (b * (np.cosh(1) - np.sinh(1)), np.sinh(1)), rtol=1e-5)
    second = jax.hessian(corner)(1.0, 1e6)
    np.testing.assert_allclose(second, 1e6 * (3 * np.sinh(1) - 2 * np.cosh(1)), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_arguments_lie_above_minus_pi(dtype, x64):
    minus = dtype(complex(-4.0, -0.0))
    eps = np.finfo(dtype).eps
    for A in (
        la.Dense(np.array([[minus, 0], [0, 2]], dtype)),
        la.UpperTriangular(np.array([[minus, 1], [0, 2]], dtype)),
        la.LowerTriangular(np.array([[minus, 0], [1, 2]], dtype)),
        la.Diagonal(np.array([minus, 2], dtype)),
        la.UniformScaling(minus, 2),
        la.JordanBlock(minus, 2),
        la.TriangularToeplitz(np.array([minus, 1], dtype)),
        la.Circulant(np.array([minus, 0], dtype)),
        la.BlockDiagonal([la.Diagonal(np.array([minus], dtype)), la.Diagonal(np.array([2], dtype))]),
        la.Kronecker(la.Diagonal(np.array([minus], dtype)), la.Dense(np.eye(2, dtype=dtype))),
        minus * la.I(2),
    ):
        X = la.log(A)
        assert np.min(la.eigvals(X).imag) > -3, A
        np.testing.assert_allclose(la.materialize(la.exp(X)), la.materialize(A), atol=30 * eps, err_msg=str(A))
        np.testing.assert_allclose(np.max(la.eigvals(la.sqrt(A)).imag), 2, rtol=30 * eps, err_msg=str(A))
        third = np.max(np.angle(la.eigvals(la.power(A, 1 / 3))))
        np.testing.assert_allclose(third, np.pi / 3, rtol=30 * eps, err_msg=str(A))
    for A in (la.Diagonal(np.array([minus], dtype)), la.Dense(np.array([[minus]], dtype))):
        np.testing.assert_allclose(la.logdet(A), np.log(4) + np.pi * 1j, rtol=eps)


def test_real_matrices_with_negative_eigenvalues_take_the_upper_side():
    # of a symmetric column: eigenvalues are real, and repeat
    column = np.array([-3.0, 0.5, 0.25, 0.25, 0.5], np.float32)
    X = la.materialize(la.log(la.Circulant(column)))
    w = np.linalg.eigvalsh(np.asarray(la.materialize(la.Circulant(column)), float))
    assert np.all(w < 0)
    np.testing.assert_allclose(np.linalg.eigvals(np.asarray(X)).imag, np.pi, rtol=1e-5)


@pytest.mark.slow
def test_logarithms_and_roots_of_every_structure_with_negative_zeros(x64):
    checked = 0
    for name in CASES:
        A, _ = make(name, 4, "complex128")
        if A.shape[0] != A.shape[1]:
            continue
        negative = jax.tree.map(
            lambda x: jax.lax.complex(-jnp.abs(x.real), jnp.full(x.shape, -0.0)) if jnp.iscomplexobj(x) else x, A
        )
        a = np.asarray(la.materialize(negative))
        if np.linalg.cond(a) > 1e6:
            continue
        try:
            X, R = la.log(negative), la.sqrt(negative)
        except la.NotPositiveDefiniteError:
            continue
        checked += 1
        np.testing.assert_allclose(la.materialize(la.exp(X)), a, atol=1e-8, err_msg=name)
        np.testing.assert_allclose(la.materialize(R @ R), a, atol=1e-8, err_msg=name)
        angles = np.linalg.eigvals(np.asarray(la.materialize(X))).imag
        assert np.all((angles > -np.pi + 1e-6) & (angles < np.pi + 1e-6)), name
    assert checked > 20


def test_logarithms_of_triangular_matrices_at_any_scale():
    """log(c (I + N)) = log c · I + N − N²/2 + N³/3 for N³⁺¹ = 0; a square root takes only one bit of c away."""
    N = np.tril(np.random.default_rng(0).standard_normal((4, 4)), -1)
    series = N - N @ N / 2 + N @ N @ N / 3
    log = jax.jit(lambda a: la.materialize(la.log(la.LowerTriangular(a, unit=False))))
    for exponent in (-100, -34, 0, 34, 100):
        X = np.asarray(log((2.0**exponent * (np.eye(4) + N)).astype(np.float32)))
        np.testing.assert_allclose(X, series + exponent * np.log(2) * np.eye(4), rtol=0, atol=1e-5)


def test_the_exponential_of_a_large_negative_diagonal_is_zero():
    for a in ([[-1e10, 1.0], [2.0, -3e9]], [[-1e30, 0.0], [0.0, -1e30]], [[-1e12, 3e11], [4e11, -1e12]]):
        a = np.asarray(a, np.float32)
        np.testing.assert_array_equal(la.materialize(la.exp(a)), 0)
        np.testing.assert_array_equal(jax.grad(lambda a: la.materialize(la.exp(a)).sum())(a), 0)
    rotation = np.asarray([[0, 1e10], [-1e10, 0]], np.float32)  # no digit of the angle is known
    assert np.isnan(la.materialize(la.exp(rotation))).all()


def test_a_logarithm_that_overflows_is_not_called_singular():
    a = np.asarray([[1, 1e30, 1e30], [0, -1, 1e30], [0, 0, 0.5]], np.float32)
    with pytest.raises(la.NonFiniteError, match="log: the result overflows complex64"):
        la.log(a)
