"""Errors are typed after the mathematics, carry the index and name the remedy, whatever the structure."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la
from lax_linalg.core import dispatch

D = np.array([2.0, 1.0, 0.0, 3.0])
SINGULAR = {
    "dense": la.Dense(np.diag(D)),
    "diagonal": la.Diagonal(D),
    "bidiagonal": la.Bidiagonal(D, np.ones(3)),
    "upper triangular": la.UpperTriangular(np.diag(D)),
    "block diagonal": la.BlockDiagonal((np.diag(D[:2]), np.diag(D[2:]))),
    "tridiagonal": la.Tridiagonal(np.zeros(3), D, np.zeros(3)),
    "product": la.Product((np.diag(D), la.Permutation([1, 0, 2, 3]))),
    "multiple of a transpose": la.Scaled(2.0, la.Transpose(np.diag(D))),
    "diagonal plus low rank": la.Diagonal([0.0, 1.0, 0.0, 3.0]) + la.LowRank(np.eye(4, 1), np.eye(4, 1)),
    "convolution": la.Convolution(np.array([1.0, 1.0])[:, None, None], 4, padding="circular"),  # at frequency π
}


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_matrices_are_refused_with_the_pivot(name):
    for call in (lambda A: la.solve(A, jnp.ones(4)), la.inv):
        with pytest.raises(la.SingularError, match="la.lstsq") as caught:
            call(SINGULAR[name])
        assert caught.value.index == 2


@pytest.mark.parametrize("name", ["dense", "diagonal", "product"])
def test_singular_matrices_have_no_logarithm(name):
    with pytest.raises(la.SingularError, match="log: .* add a small multiple of I") as caught:
        la.log(SINGULAR[name])
    assert caught.value.index == 2


@pytest.mark.parametrize(
    "A",
    [
        la.Dense(np.diag([1.0, 1.0, -1.0, 1.0])),
        la.Diagonal([1.0, 1.0, -1.0, 1.0]),
        la.SymTridiagonal([1.0, 1.0, -1.0, 1.0], np.zeros(3)),
        la.Hermitian(np.diag([1.0, 1.0, -1.0, 1.0])),
        la.BlockDiagonal((np.eye(2), np.diag([-1.0, 1.0]))),
    ],
    ids=lambda A: type(A).__name__,
)
def test_indefinite_matrices_are_refused_with_the_minor(A):
    with pytest.raises(la.NotPositiveDefiniteError, match="la.eigen or la.lu") as caught:
        la.cholesky(A)
    assert caught.value.index == 2


def test_shapes_are_refused_by_every_verb_for_square_matrices():
    wide = jnp.ones((2, 3))
    for verb in dispatch.verbs.values():
        if verb.square:
            with pytest.raises(la.DimensionMismatch, match=f"{verb.name} needs a square matrix, got 2×3"):
                verb(wide)
    for call in (la.solve, la.lstsq):
        with pytest.raises(la.DimensionMismatch, match="takes a right-hand side"):
            call(wide, jnp.ones(3))


def test_numbers_that_are_not_finite_are_refused_by_every_verb_that_computes():
    bad = jnp.array([[jnp.nan, 1.0], [1.0, 1.0]])
    for verb in dispatch.verbs.values():
        if verb.finite and verb.arity == 1 and hasattr(la, verb.name):
            with pytest.raises(la.NonFiniteError, match=f"{verb.name} needs finite numbers, but 1 of 4"):
                verb(bad)
