"""Kreiss constants: closed forms inside the certificate, the Kreiss matrix theorem, marginal stability, bad input."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from nonnormal_matrices import normal, sigma_min, stable

import lax_linalg as la


def maximum(function, low: float, high: float) -> float:
    """The largest value of a function of one number: a fine grid, then Brent's method around its best point."""
    grid = np.geomspace(low, high, 2000)
    i = int(np.argmax([function(x) for x in grid]))
    bounds = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    found = scipy.optimize.minimize_scalar(
        lambda x: -function(x), bounds=bounds, method="bounded", options={"xatol": 1e-13}
    )
    return -found.fun


def assert_brackets(K: la.KreissConstant, want: float, rtol: float = 1e-3) -> None:
    assert K.lower <= want * (1 + 1e-9)
    assert K.upper >= want * (1 - 1e-9)
    assert K.upper <= K.lower * (1 + rtol) * (1 + 1e-12)


@pytest.mark.parametrize("b", [0.5, 1.9, 4.0, 8.0, 100.0, 1e6])
def test_nilpotent(b):
    # ‖(z − A)⁻¹‖ = (c + √(1 + c²))/|z| with c = b/2|z|; with u = 1/|z| the constant is max (1 − u)(cu + √(1 + c²u²))
    half = b / 2
    want = maximum(lambda d: d / (1 + d) * (half / (1 + d) + np.hypot(1, half / (1 + d))), 1e-6, 1e6)
    if b == 8.0:
        assert want == pytest.approx(17 / 8, rel=1e-10)  # at u = 15/32
    # at b = 10⁶ rounding keeps the proof on whole circles from 10⁻³, and the bracket says so
    assert_brackets(la.kreiss_constant([[0.0, b], [0.0, 0.0]]), max(want, 1.0), 1e-3 if b < 1e6 else 5e-3)
    if b <= 2:  # the numerical range is the disc of radius b/2
        assert la.kreiss_constant([[0.0, b], [0.0, 0.0]])[:2] == (1.0, 1.0)


@pytest.mark.parametrize(("n", "value", "b"), [(2, 0.5, 3.0), (6, 0.0, 1.5), (12, 0.0, 1.2)])
def test_jordan_blocks(n, value, b):
    # for λ = 0 the resolvent norm depends on |z| only; for λ > 0 the entries of (z − A)⁻¹ are largest at z > 0
    A = value * np.eye(n) + b * np.eye(n, k=1)
    want = maximum(lambda d: d / sigma_min(A, np.array(1 + d + 0j)), 1e-5, 1e3)
    assert_brackets(la.kreiss_constant(A), want)


@pytest.mark.parametrize("A", [[[-1.0, 5.0], [0.0, -2.0]], [[-1.0, 20.0], [0.0, -1.0]], [[-0.01, 1.0], [0.0, -0.02]]])
def test_continuous_two_by_two(A):
    # triangular with real eigenvalues: every entry of the resolvent falls with |Im z|, so the real axis decides
    want = maximum(lambda x: x / sigma_min(np.array(A), np.array(x + 0j)), 1e-6, 1e4)
    assert_brackets(la.kreiss_constant(A, continuous=True), max(want, 1.0))


def test_advection_diffusion():
    # 0.05 u'' + u' by central differences on 24 points: strongly non-normal
    n, nu = 24, 0.05
    h = 1 / (n + 1)
    A = nu / h**2 * (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1)) + (np.eye(n, k=1) - np.eye(n, k=-1)) / (2 * h)
    A += 5.0 * np.eye(n)  # a reaction that does not quite destabilise it
    assert -1 < np.linalg.eigvals(A).real.max() < 0
    K = la.kreiss_constant(A, continuous=True)
    x = np.geomspace(1e-2, 300, 200)
    z = x[:, None] + 1j * np.linspace(0, 60, 61)
    grid = (x[:, None] / sigma_min(A, z)).max()
    assert grid <= K.upper <= K.lower * 1.001
    assert K.lower <= grid * 1.02
    np.testing.assert_allclose(K.z.real / sigma_min(A, np.array(K.z)), K.lower, rtol=1e-9)


@pytest.mark.parametrize("A", [normal(3, 6) / 4, np.eye(3), np.roll(np.eye(5), 1, 0), np.zeros((2, 2)), [[-1.0]]])
def test_normal_matrices_have_one(A):
    assert la.kreiss_constant(A)[:2] == (1.0, 1.0)
    assert la.kreiss_constant(np.asarray(A) - 1.01 * np.eye(len(A)), continuous=True)[:2] == (1.0, 1.0)


@hypothesis.given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0.1, 0.999), st.floats(0.1, 4.0), st.booleans())
@hypothesis.settings(max_examples=25, deadline=None)
def test_kreiss_matrix_theorem(seed, n, radius, departure, complex_):
    A = stable(seed, n, radius, departure, complex_)
    K = la.kreiss_constant(A, rtol=0.05)
    power, largest = np.eye(n), 1.0
    for _ in range(min(4000, int(60 / -np.log(radius)) + 20)):
        power = power @ A
        largest = max(largest, np.linalg.norm(power, 2))
    assert 1 <= K.lower <= K.upper
    assert K.lower <= largest * (1 + 1e-9)
    assert largest <= np.e * n * K.upper * (1 + 1e-9)
    # what ‖(zI − A)⁻¹‖ has at many points outside the disc stays below the certificate
    z = (1 + np.geomspace(1e-3, 10, 12))[:, None] * np.exp(1j * np.linspace(-np.pi, np.pi, 40))
    assert ((np.abs(z) - 1) / sigma_min(A, z)).max() <= K.upper * (1 + 1e-9)
    if np.isfinite(K.z):
        np.testing.assert_allclose((abs(K.z) - 1) / sigma_min(A, np.array(K.z)), K.lower, rtol=1e-7)


def test_eigenvalues_on_the_circle():
    # a simple eigenvalue 1 coupled to 0.5: the limit towards it is the norm of its spectral projector
    A = np.array([[1.0, 3.0], [0.0, 0.5]])
    want = maximum(lambda d: d / sigma_min(A, np.array(1 + d + 0j)), 1e-9, 1e3)
    K = la.kreiss_constant(A)
    assert want <= K.upper * (1 + 1e-9)
    assert K.upper <= K.lower * 1.002
    assert np.hypot(1, 6) == pytest.approx(want, rel=1e-6)


def test_infinite_constants_say_so():
    with pytest.raises(la.LinearAlgebraError, match=r"infinite: the spectral radius is 1\.1 > 1.*scale A by 1/ρ"):
        la.kreiss_constant(np.diag([1.1, 0.2]))
    with pytest.raises(la.LinearAlgebraError, match=r"infinite: the spectral abscissa max Re λ is 0\.2 > 0"):
        la.kreiss_constant(np.diag([-1.0, 0.2]), continuous=True)
    with pytest.raises(la.LinearAlgebraError, match="of modulus 1 is defective"):
        la.kreiss_constant([[1.0, 1.0], [0.0, 1.0]])
    with pytest.raises(la.LinearAlgebraError, match="on the imaginary axis is defective"):
        la.kreiss_constant([[0.0, 1.0], [0.0, 0.0]], continuous=True)


@pytest.mark.parametrize(
    "function",
    [
        la.kreiss_constant,
        la.transient_growth,
        la.pseudospectrum,
        la.numerical_radius,
        lambda A: la.pseudospectral_radius(A, 0.1),
        lambda A: la.pseudospectral_abscissa(A, 0.1),
    ],
)
def test_bad_matrices(function):
    with pytest.raises(la.DimensionMismatch, match="square matrix, got 2×3"):
        function(np.ones((2, 3)))
    with pytest.raises(la.DimensionMismatch, match="0×0"):
        function(np.ones((0, 0)))
    with pytest.raises(la.NonFiniteError, match="1 of 4 entries"):
        function(np.array([[0.1, np.nan], [0.0, 0.1]]))
    with pytest.raises(la.LinearAlgebraError, match="matrix of numbers"):
        function(np.array([["a"]]))
    with pytest.raises(la.LinearAlgebraError, match="inside jit"):
        jax.jit(function)(jnp.eye(2))
    with pytest.raises(la.LinearAlgebraError, match="rtol > 0"):
        la.kreiss_constant(np.eye(2), rtol=0.0)


def test_batches_and_operators():
    batch = np.stack([stable(s, 5) for s in range(4)]).reshape(2, 2, 5, 5)
    K = la.kreiss_constant(batch)
    assert K.upper.shape == (2, 2)
    assert la.kreiss_constant(batch[1, 0])[:2] == (K.lower[1, 0], K.upper[1, 0])
    W = jnp.asarray(batch[0, 0], jnp.float32)
    operators = la.Batch(lambda x, w: la.Dense(x * w), jnp.array([1.0, 0.5]), (W,))
    np.testing.assert_allclose(la.kreiss_constant(operators).lower[1], la.kreiss_constant(W / 2).lower, rtol=1e-6)
    J = la.jacobian(lambda x: jnp.tanh(W @ x), jnp.zeros(5))
    np.testing.assert_allclose(la.kreiss_constant(J).lower, la.kreiss_constant(W).lower, rtol=1e-6)
