"""A few singular triplets: residuals that hold, breakdown, all ends and kinds of operators, and derivatives."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la
from tests.lax_linalg.gradients import check_gradient, weighted


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def check(A, k: int, which: str = "largest", *, converged: float = 1e-10, **options) -> la.PartialSVD:
    """The triplets against NumPy's; the residuals against their definition; orthonormal vectors."""
    a = A if isinstance(A, np.ndarray) else np.asarray(jax.jit(la.materialize)(A))
    F = la.svds(A, k, which, **options)
    U, S, Vt, residuals = map(np.asarray, F)
    s = np.linalg.svd(a, compute_uv=False)
    eps = np.finfo(S.dtype).eps
    noise = 100 * max(a.shape) * eps * max(s[0], 1e-30)
    right, left = a @ Vt.conj().T - U * S, a.conj().T @ U - Vt.conj().T * S
    want = np.sqrt((np.linalg.norm(right, axis=0) ** 2 + np.linalg.norm(left, axis=0) ** 2) / 2)
    np.testing.assert_allclose(residuals, want, atol=noise)
    np.testing.assert_allclose(U.conj().T @ U, np.eye(k), atol=1e3 * eps)
    np.testing.assert_allclose(Vt @ Vt.conj().T, np.eye(k), atol=1e3 * eps)
    assert np.all(np.diff(S) <= noise)
    allowed = s if a.shape[0] == a.shape[1] else np.r_[s, 0]
    assert np.all(np.abs(S[:, None] - allowed).min(1) <= residuals + noise)  # the bound
    ends = s[:k] if which == "largest" else s[-k:]
    assert np.all(np.abs(S - ends) <= converged * s[0] + noise)
    return F


def test_largest_of_operators(x64):
    check(la.Convolution(draw(0, 3, 3, 3, 3), (6, 6)), 4)
    check(la.Dense(draw(1, 45, 60) + 1j * draw(2, 45, 60)), 3, steps=12)  # wide, a basis that has to be restarted
    check(la.jacobian(lambda x: jnp.tanh(draw(4, 50, 30) @ x), jnp.asarray(draw(5, 30))), 2, steps=20)


def test_smallest(x64):
    check(la.Dense(draw(0, 40, 30)), 3, "smallest")
    check(la.Dense(draw(1, 30, 40)), 3, "smallest")
    # a short basis does not find them; its residuals say so, and they hold
    a = np.diag(np.r_[np.linspace(1, 2, 60), 1e-3])
    F = check(la.Dense(a), 1, "smallest", steps=8, restarts=2, converged=np.inf)
    assert F.S[0] > 1e-3 + 1e-10 and F.residuals[0] > 1e-6


def test_breakdown_is_normal():
    """Low rank, repeated values, zero and identity, in single precision: no NaN and values to rounding."""
    for a in (
        np.zeros((12, 9)),
        np.eye(12, 9),
        np.eye(12, 9) * np.r_[np.ones(5), np.zeros(4)],
        draw(0, 12, 2) @ draw(1, 2, 9),
    ):
        check(a.astype(np.float32), 3, converged=1e-5, steps=5)
        check(a.astype(np.float32), 3, "smallest", converged=1e-5)
    assert float(la.svds(np.full((1, 1), -3.0, np.float32), 1).S[0]) == 3.0


@pytest.mark.parametrize(
    ("which", "shape"), [("largest", (5, 6)), pytest.param("smallest", (6, 5), marks=pytest.mark.slow)]
)
def test_gradients(which, shape, x64):
    def invariants(x):
        U, S, Vt, _ = la.svds(x, 2, which)
        return S, jnp.abs(U[:3]) ** 2 @ S, U * S @ Vt

    a = draw(0, *shape)
    value, _ = check_gradient(invariants, a, rtol=1e-4, atol=1e-6)(a)
    U, S, Vt = np.linalg.svd(a, full_matrices=False)
    ends = slice(0, 2) if which == "largest" else slice(-2, None)
    U, S, Vt = U[:, ends], S[ends], Vt[ends]
    same = weighted(lambda _: (S, np.abs(U[:3]) ** 2 @ S, U * S @ Vt))
    np.testing.assert_allclose(value, jax.jit(same)(a), rtol=1e-10)


def test_gradients_where_values_repeat():
    """A valid subgradient, never NaN."""
    gradient = jax.jit(jax.grad(lambda w: la.svds(la.Convolution(w, 5), 2).S.sum()))
    for delta in (0.0, 1.0):
        assert np.isfinite(gradient(np.array([0, delta, 0], np.float32).reshape(3, 1, 1))).all()


def test_transformations_and_recompilation():
    stack = draw(0, 3, 8, 6).astype(np.float32)
    f = jax.jit(chex.assert_max_traces(lambda x: la.svds(x, 2), n=1))
    each = [f(x) for x in stack]
    together = jax.vmap(lambda x: la.svds(x, 2).S)(stack)
    np.testing.assert_allclose(together, [F.S for F in each], rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: la.svds(np.eye(3), 4), "svds of a 3×3 matrix gives 1 to 3 values, k = 4"),
        (lambda: la.svds(np.eye(3), 1, "biggest"), "unknown end of the spectrum 'biggest'"),
        (lambda: la.svds(np.eye(3), 2, steps=1), "needs at least k = 2 steps, got 1"),
        (lambda: la.svds(np.full((2, 2), np.inf), 1), "svds needs finite numbers"),
    ],
)
def test_errors(call, message):
    with pytest.raises(la.LinearAlgebraError) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize("shape", [(70, 50), (50, 70)])
def test_a_nearby_operators_triplets_are_where_the_next_begins(shape, x64):
    spectrum = np.r_[np.linspace(3, 2.5, 4), np.linspace(1, 0, 46)]
    U, V = (np.linalg.qr(draw(s, n, 50))[0] for s, n in enumerate(shape))
    a = (U * spectrum) @ V.T
    before = la.svds(a, 4)
    after = a + 1e-3 * draw(2, *shape)
    F = check(la.Dense(after), 4, start=before, rtol=1e-4, converged=1e-6)
    assert (F.residuals <= 1e-4 * F.S[0]).all()
    # one block of the old vectors is enough for values, and its residuals say how good they are
    once = check(la.Dense(after), 4, start=before, steps=8, restarts=0, converged=1e-3)
    assert (once.residuals < 0.05).all()
    with pytest.raises(la.DimensionMismatch, match=r"starts with triplets of its shape, got those of"):
        la.svds(after[:-1], 4, start=before)


def test_a_tolerance_for_each_value(x64):
    a = draw(0, 300, 200)
    F = check(la.Dense(a), 3, rtol=np.array([1e-3, 1e-2, 1e-1]), steps=60, converged=0.2)
    assert (F.residuals <= 1.01 * np.array([1e-3, 1e-2, 1e-1]) * F.S[0]).all()
    assert F.residuals[2] > 1e-6  # no more was done than was asked for
    with pytest.raises(la.DimensionMismatch, match="rtol is a number or k = 3 of them"):
        la.svds(a, 3, rtol=np.ones(2))
