"""An I without a size: right wherever its size follows from the other argument or does not matter, else refused."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la
import lax_linalg.nonnormal  # its verbs too
from lax_linalg.core.dispatch import verbs

C = -2.0
REST = {
    "scale": (3.0,),
    "power": (3,),
    "power_norms": (3,),
    "submatrix": (range(2), range(2)),
}  # what a verb takes behind its operators
NUMBERS = {  # of −2I, whatever its size
    "opnorm": 2,
    "cond": 1,
    "spectral_radius": 2,
    "eigmax": -2,
    "eigmin": -2,
    "henrici": 0,
    "eigenvector_condition_number": 1,
    "power_norms": [1, 2, 4, 8],
    "issymmetric": True,
    "ishermitian": True,
    "isposdef": False,
    "isunitary": False,
    "isorthogonal": False,
    "isnormal": True,
    "isdiag": True,
    "istriu": True,
    "istril": True,
}
OPERATORS = {  # name -> the number that the result has in place of −2
    "transpose": -2,
    "conj": -2,
    "adjoint": -2,
    "scale": -6,
    "add": -4,
    "multiply": 4,
    "inv": -0.5,
    "pinv": -0.5,
    "exp": np.exp(-2),
    "log": np.log(2) + np.pi * 1j,
    "sqrt": 1j * np.sqrt(2),
    "power": -8,
}
OTHER = {"eltype", "opnorm_bound", "numerical_range", "submatrix"}


def test_every_verb_answers_for_all_sizes_or_names_the_remedy():
    A = C * la.I
    for name, verb in verbs.items():
        arguments = (A,) * verb.arity + REST.get(name, ())
        if name in NUMBERS:
            np.testing.assert_allclose(verb(*arguments), NUMBERS[name], rtol=1e-6, err_msg=name)
        elif name in OPERATORS:
            X = verb(*arguments)
            assert X.unsized, name
            np.testing.assert_allclose(X.value, OPERATORS[name], rtol=1e-6, err_msg=name)
        elif name not in OTHER:
            with pytest.raises(la.DimensionMismatch, match=r"write la\.I\(n\)"):
                verb(*arguments, *([np.ones(())] if name in ("solve", "lstsq") else []))


def test_norms_of_any_order():
    for p in (1, 2, np.inf):
        assert float(la.opnorm(C * la.I, p)) == 2
        assert float(la.cond(C * la.I, p)) == 1
    assert float(la.norm(C * la.I, np.inf)) == 2
    assert la.opnorm_bound(C * la.I).upper >= 2
    np.testing.assert_allclose(la.numerical_range(C * la.I).points, C, rtol=1e-6)


def test_the_size_follows_from_the_other_argument():
    a, w = np.array([[2.0, 1.0], [0.0, 4.0]]), np.array([[1.0, 2.0, 2.0]])
    inverse = np.array([[0.5, -0.125], [0.0, 0.25]])
    for solve in (la.solve, la.lstsq):
        np.testing.assert_allclose(solve(a, la.I), inverse, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(solve(C * la.I, a), -a / 2)
        np.testing.assert_allclose(solve(C * la.I, [1, 2]), [-0.5, -1])
    np.testing.assert_allclose(la.solve(la.Diagonal([2.0, 4.0]), 2 * la.I), [[1, 0], [0, 0.5]])
    np.testing.assert_allclose(la.lstsq(w, la.I), w.T / 9, rtol=1e-6)
    for total in (sum([la.Dense(a), la.I]), sum([la.I, la.Dense(a)])):
        np.testing.assert_array_equal(total, a + np.eye(2))


def test_powers():
    for p, value in [(2, 4), (0, 1), (-1, 0.5), (0.5, 2**0.5), (1j, 2**1j), (jnp.asarray(3.0), 8)]:
        X = (2 * la.I) ** p
        assert isinstance(X, la.UniformScaling) and X.unsized
        np.testing.assert_allclose(X.value, value, rtol=1e-6)


def test_sums_start_at_zero_and_at_no_other_number():
    np.testing.assert_array_equal(sum([la.Diagonal([1.0, 2.0])] * 3), np.diag([3.0, 6.0]))
    with pytest.raises(la.DimensionMismatch, match="cannot add the number 1"):
        sum([la.Diagonal([1.0, 2.0])], 1)
