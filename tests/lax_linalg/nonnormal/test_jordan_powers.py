"""Jordan blocks: exact powers, powers beyond the range of products, functions by Taylor coefficients."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from lax_linalg.errors import LinearAlgebraError
from lax_linalg.nonnormal import jordan_curve, jordan_function, jordan_power

BLOCK = 0.7 * np.eye(5) + np.eye(5, k=1)


@pytest.mark.parametrize("eigenvalue", [2.0, -3.0, 0.0, 1.0])
def test_powers_of_integers_are_exact(eigenvalue):
    block = eigenvalue * np.eye(4) + np.eye(4, k=1)
    for k in range(8):
        np.testing.assert_array_equal(jordan_power(eigenvalue, 4, k), np.linalg.matrix_power(block, k))


@hypothesis.given(
    st.complex_numbers(max_magnitude=1.5, allow_nan=False),
    st.sampled_from([1, 2, 5]),
    st.integers(0, 12),
    st.integers(0, 12),
)
@hypothesis.settings(max_examples=20, deadline=None)
def test_powers_multiply(eigenvalue, size, j, k):
    with jax.enable_x64(True):
        a, b, c = jordan_power(eigenvalue, size, np.array([j, k, j + k]))
        np.testing.assert_allclose(a @ b, c, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize(("eigenvalue", "k"), [(0.999999, 3_000_000), (1 - 1e-9, 10**10), (0.5, 900), (1.0, 10**12)])
def test_huge_powers_neither_overflow_nor_cancel(eigenvalue, k, x64):
    getcontext().prec = 60
    want = [float(Decimal(math.comb(k, j)) * Decimal(eigenvalue) ** (k - j)) for j in range(4)]
    np.testing.assert_allclose(jordan_curve(eigenvalue, k, 4), want, rtol=1e-6 if k >= 10**10 else 1e-9)


def test_in_between_overflow(x64):
    # C(400, 200) ≈ 1e119 in single precision, where it is out of range, times 0.25²⁰⁰ ≈ 4e-121
    want = math.comb(400, 200) * 0.25**200
    got = jordan_curve(np.float32(0.25), 400, 201)[-1]
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_curve_is_the_response_to_the_last_unit_vector():
    k = np.arange(30)
    curve = np.asarray(jordan_curve(0.9, k))
    np.testing.assert_allclose(curve[:, 0], 0.9**k, rtol=1e-5)
    np.testing.assert_allclose(curve[1:, 1], k[1:] * 0.9 ** (k[1:] - 1.0), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jordan_curve, static_argnums=2)(0.9, jnp.asarray(k), 2), curve, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (jnp.exp, scipy.linalg.expm),
        (jnp.sqrt, scipy.linalg.sqrtm),
        (jnp.log, scipy.linalg.logm),
        (jnp.sin, scipy.linalg.sinm),
        (jnp.tanh, scipy.linalg.tanhm),
        (lambda x: 1 / (2 - x), lambda a: np.linalg.inv(2 * np.eye(len(a)) - a)),
        (lambda x: jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x), (0, 1.0 + 0 * x))[1],
         lambda a: a @ a @ a),
    ],
)  # fmt: skip
def test_functions(function, reference, x64):
    got = np.asarray(jordan_function(function, 0.7, 5))
    np.testing.assert_allclose(got, reference(BLOCK), rtol=1e-9, atol=1e-10)


def test_complex_functions(x64):
    block = (0.3 + 0.8j) * np.eye(4) + np.eye(4, k=1)
    np.testing.assert_allclose(jordan_function(jnp.exp, 0.3 + 0.8j, 4), scipy.linalg.expm(block), rtol=1e-10)


def test_bad_input():
    with pytest.raises(LinearAlgebraError, match="integers k ≥ 0"):
        jordan_power(0.5, 3, -1)
    with pytest.raises(LinearAlgebraError, match="integers k ≥ 0"):
        jordan_power(0.5, 3, 1.5)
    with pytest.raises(LinearAlgebraError, match="size of at least 1"):
        jordan_function(jnp.exp, 0.5, 0)
    with pytest.raises(LinearAlgebraError, match="scalar"):
        jordan_curve([0.5, 0.6], 2)
