"""Kreiss constants: closed forms inside the certificate, the Kreiss matrix theorem, marginal stability, bad input."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
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


def two_by_two(coupling: float, gap: float) -> float:
    """𝒦 of (λ b; 0 λ), λ real, at the distance gap = 1 − λ from the circle (−λ from the axis).

    On z = λ + s, s > gap, ‖(z − A)⁻¹‖ = (h + √(h² + s²))/s² with h = b/2, largest over |z| (over Re z) at real z. Where
    √(h² + s²) = h + gap·s/h the product with s − gap is stationary; with r = h/gap ≥ 1 it is (r + 1/r)/2 there. For
    r ≤ 1 the numerical range, a disc of radius h around λ, does not leave the stable region and 𝒦 = 1.
    """
    r = coupling / (2 * gap)
    return (r + 1 / r) / 2 if r > 1 else 1.0


@pytest.mark.parametrize(
    ("value", "b"), [(0.0, 0.5), (0.0, 1.9), (0.0, 4.0), (0.0, 8.0), (0.0, 1e6), (0.5, 3.0), (0.9, 2.0), (-0.3, 1.8)]
)
def test_equal_eigenvalues(value, b):
    A = np.array([[value, b], [0.0, value]])
    want = two_by_two(b, 1 - abs(value))
    if (value, b) == (0.0, 8.0):
        assert want == 17 / 8
    # at b = 10⁶ rounding keeps the proof on whole circles from 10⁻³, and the bracket says so
    assert_brackets(la.kreiss_constant(A), want, 1e-3 if b < 1e6 else 5e-3)
    d = np.geomspace(1e-4, 1e4, 400)  # the closed form is what the definition gives
    z = np.sign(value or 1) * (1 + d)
    assert (d / sigma_min(A, z)).max() <= want * (1 + 1e-6) and (d / sigma_min(A, z)).max() >= want * 0.999


@pytest.mark.parametrize(("value", "b"), [(-1.0, 20.0), (-0.25, 1.0), (-2.0, 3.9)])
def test_equal_eigenvalues_in_continuous_time(value, b):
    K = la.kreiss_constant([[value, b], [0.0, value]], continuous=True)
    assert_brackets(K, two_by_two(b, -value))


def test_square_zero_and_direct_sums():
    """‖(z − A)⁻¹‖ is invariant under unitary similarity, and of a direct sum the larger one."""
    rng = np.random.default_rng(0)
    x, y = np.linalg.qr(rng.normal(size=(7, 2)) + 1j * rng.normal(size=(7, 2)))[0].T
    assert_brackets(la.kreiss_constant(6 * np.outer(x, y.conj())), two_by_two(6.0, 1.0))  # A² = 0, ‖A‖ = 6
    blocks = [(0.5, 3.0), (0.0, 4.0), (0.9, 0.1), (-0.2, 1.0)]
    q = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    A = q @ scipy.linalg.block_diag(*[[[value, b], [0, value]] for value, b in blocks]) @ q.T
    assert_brackets(la.kreiss_constant(A), max(two_by_two(b, 1 - abs(value)) for value, b in blocks))


@pytest.mark.parametrize(("n", "value", "b"), [(6, 0.0, 1.5), pytest.param(12, 0.0, 1.2, marks=pytest.mark.slow)])
def test_jordan_blocks(n, value, b):
    # for λ = 0 the resolvent norm depends on |z| only; for λ > 0 the entries of (z − A)⁻¹ are largest at z > 0
    A = value * np.eye(n) + b * np.eye(n, k=1)
    want = maximum(lambda d: d / sigma_min(A, np.array(1 + d + 0j)), 1e-5, 1e3)
    assert_brackets(la.kreiss_constant(A), want)


@pytest.mark.parametrize("A", [[[-1.0, 5.0], [0.0, -2.0]], [[-0.01, 1.0], [0.0, -0.02]]])
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


@hypothesis.given(
    st.integers(0, 10**6), st.sampled_from([2, 4, 9]), st.floats(0.1, 0.999), st.floats(0.1, 4.0), st.booleans()
)
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
