"""Transposes, systems, inverses and predicates of convolutions against dense algebra."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.linalg

import lax_linalg as la


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


TRANSPOSES = {
    "circular": lambda: la.Convolution(draw(0, 3, 2, 2, 3), (3, 4), padding="circular"),
    "even and dilated": lambda: la.Convolution(draw(0, 2, 2, 3), 5, padding="circular", dilation=3),
    "grouped": lambda: la.Convolution(draw(0, 4, 2, 6), 5, padding="circular", groups=2),
    "zero": lambda: la.Convolution(draw(0, 4, 3, 2, 3), (4, 5)),
    "explicit": lambda: la.Convolution(draw(0, 3, 1, 2), 4, padding=((2, 0),), dilation=2),
}


DEEP = ("circular", "explicit", "image")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in DEEP else ()) for n in TRANSPOSES])
def test_transposes_are_convolutions(name, x64):
    A = TRANSPOSES[name]()
    A = la.Convolution(A.kernel * (1 + 2j), A.spatial, 1, A.padding, A.dilation, A.groups)
    a, transposed, adjoint = jax.jit(lambda A: (la.materialize(A), A.T, la.materialize(A.H)))(A)
    assert isinstance(transposed, la.Convolution)
    np.testing.assert_allclose(jax.jit(la.materialize)(transposed), a.T, atol=1e-15)
    np.testing.assert_allclose(adjoint, a.conj().T, atol=1e-15)


def test_strided_transposes_stay_lazy(x64):
    A = la.Convolution(draw(0, 3, 2, 2), 6, stride=2)
    assert isinstance(A.T, la.Transpose)
    of_transpose, a = jax.jit(lambda A: (la.materialize(A.T), la.materialize(A)))(A)
    np.testing.assert_allclose(of_transpose, a.T)


@jax.jit
def everything(A, b):
    square = A.shape[0] == A.shape[1]
    return {
        "entries": la.materialize(A),
        "solve": la.solve(A, b) if square else None,
        "lstsq": la.lstsq(A, b),
        "pinv": la.materialize(la.pinv(A)),
        "inv": la.materialize(la.inv(A)) if square else None,
        "exp": la.materialize(la.exp(A)) if square else None,
        "polar": la.polar(A),
        "unitary": la.isunitary(A),
        "normal": la.isnormal(A),
    }


CASES = {
    "image": lambda: la.Convolution(draw(0, 3, 2, 2, 2), (3, 4), padding="circular"),
    "complex, grouped line": lambda: la.Convolution(
        draw(0, 3, 2, 4) + 1j * draw(1, 3, 2, 4), 5, padding="circular", groups=2
    ),
    "wide": lambda: la.Convolution(draw(0, 3, 3, 2), 4, padding="circular"),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in DEEP else ()) for n in CASES])
def test_functions_of_circular_convolutions(name, x64):
    A = CASES[name]()
    b = draw(2, A.shape[0], 2)
    f = jax.tree.map(np.asarray, everything(A, b))
    a = f["entries"]
    np.testing.assert_allclose(f["lstsq"], np.linalg.pinv(a) @ b, atol=1e-11)
    np.testing.assert_allclose(f["pinv"], np.linalg.pinv(a), atol=1e-11)
    U, P = f["polar"]
    np.testing.assert_allclose(U @ P, a, atol=1e-12)
    np.testing.assert_allclose(U @ U.conj().T, np.eye(len(a)), atol=1e-12)
    assert not f["unitary"]
    if a.shape[0] == a.shape[1]:
        np.testing.assert_allclose(a @ f["solve"], b, atol=1e-11)
        np.testing.assert_allclose(a @ f["inv"], np.eye(len(a)), atol=1e-11)
        np.testing.assert_allclose(
            f["exp"], scipy.linalg.expm(a), rtol=1e-10, atol=1e-10 * np.exp(np.linalg.norm(a, 2))
        )
        assert isinstance(jax.eval_shape(la.inv, A), la.Convolution)


def test_least_squares_of_a_strided_convolution(x64):
    for spatial, kernel, stride in ((6, (3, 2, 3), 2), ((4, 6), (3, 3, 1, 4), (2, 3))):
        A = la.Convolution(draw(0, *kernel), spatial, stride=stride, padding="circular")
        b, c = draw(1, A.shape[0]), np.cos(np.arange(A.shape[1]))
        with la.dense_limit(1):  # the transpose stays lazy, and needs no matrix either
            x, y = jax.jit(lambda A, b, c: (la.lstsq(A, b), la.lstsq(A.T, c)))(A, b, c)
        inverse = np.linalg.pinv(np.asarray(jax.jit(la.materialize)(A)))
        np.testing.assert_allclose(x, inverse @ b, atol=1e-11)
        np.testing.assert_allclose(y, inverse.T @ c, atol=1e-11)


def test_singular_and_orthogonal_convolutions(x64):
    difference = la.Convolution(np.array([0.0, 1.0, -1.0])[:, None, None], 6, padding="circular")
    for call in (lambda: la.inv(difference), lambda: la.solve(difference, np.ones(6))):
        with pytest.raises(la.SingularError, match="its symbol at frequency 0 is"):
            call()
    shift = la.Convolution(np.multiply.outer([1.0, 0.0, 0.0], np.eye(2)), 4, padding="circular")
    predicates = jax.jit(lambda A: (la.isunitary(A), la.isnormal(A), la.isorthogonal(A)))
    assert all(predicates(shift))
    unitary, normal, _ = predicates(difference)
    assert normal and not unitary
