"""Complex exponents on every square structure, against the eigendecomposition and SciPy's exp(p log A)."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.linalg as sl

import lax_linalg as la
from tests.lax_linalg.structure_cases import CASES, make

SAMPLED = {"dense", "definite symtridiagonal", "jordan block", "circulant"}
EXPONENTS = [1j, 0.5 - 1.5j, np.complex64(2j)]


def references(a: np.ndarray, p: complex) -> list[np.ndarray]:
    """exp(p log A), eigenvalues that are real but for rounding on the upper side of the cut of log."""
    w, V = np.linalg.eig(a)
    w = np.where(np.abs(w.imag) < 1e-12 * np.abs(w), w.real, w).astype(complex)
    return [V @ np.diag(np.exp(p * np.log(w))) @ np.linalg.inv(V), sl.expm(p * sl.logm(a.astype(complex)))]


@pytest.mark.parametrize(
    "name", [name if name in SAMPLED else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_complex_powers(name, x64):
    dtypes = ("float64",) if name in SAMPLED else ("float64", "complex128")
    for dtype in dtypes:
        A, a = make(name, 4, dtype)
        if a.shape[0] != a.shape[1]:
            pytest.skip("not square")
        if np.linalg.cond(a) > 1e10:
            continue
        for p in EXPONENTS[:1] if name in SAMPLED else EXPONENTS:
            X = np.asarray(la.power(A, p))
            error = min(np.abs(X - want).max() / np.abs(want).max() for want in references(a, complex(p)))
            assert error < 1e-9, (dtype, p, error)
        for p, q in [(complex(2, 0), 2), (complex(0.5, 0), 0.5)]:  # an imaginary part of zero changes nothing
            np.testing.assert_array_equal(la.power(A, p), la.power(A, q))


def test_complex_powers_under_jit_and_of_both_spellings(x64):
    A = la.Diagonal([2.0, 3.0])
    want = np.diag([2.0**1j, 3.0**1j])
    np.testing.assert_allclose(np.asarray(A**1j), want, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(lambda A, p: la.materialize(la.power(A, p)))(A, 1j), want, rtol=1e-14)
