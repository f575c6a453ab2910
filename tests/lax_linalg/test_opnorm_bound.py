"""Certified bounds hold: lower ≤ true ≤ upper in every geometry and precision, without exception for rounding."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la
from tests.lax_linalg.gradients import check_gradient


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@jax.jit
def entries_and_bound(A):
    return la.materialize(A), la.opnorm_bound(A)


CASES = {
    "circular": lambda w: la.Convolution(w(3, 3, 2, 3), (4, 5), padding="circular"),
    "strided": lambda w: la.Convolution(w(3, 3, 2, 3), (4, 6), stride=2, padding="circular"),
    "stride that does not divide": lambda w: la.Convolution(w(3, 2, 3), 5, stride=2, padding="circular"),
    "wraps onto itself": lambda w: la.Convolution(w(8, 1, 2), 3, padding="circular"),
    "zero padding": lambda w: la.Convolution(w(3, 3, 2, 2), (4, 5)),
    "valid, strided, dilated": lambda w: la.Convolution(w(2, 2, 2), 9, stride=3, padding="valid", dilation=2),
    "explicit padding": lambda w: la.Convolution(w(3, 2, 2), 6, padding=((0, 2),)),
    "grouped": lambda w: la.Convolution(w(3, 3, 2, 4), (3, 3), groups=2, padding="circular"),
    "dense": lambda w: la.Dense(w(6, 9)),
    "locally connected": lambda w: la.LocallyConnected(w(4, 3, 1, 2), 4),
}


DEEP = ("strided", "wraps onto itself", "explicit padding", "locally connected")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in DEEP else ()) for n in CASES])
def test_lower_true_upper(name):
    def found(scale=1.0):
        a, bounds = entries_and_bound(
            CASES[name](lambda *shape: draw(0, *shape).astype(np.float32) * np.float32(scale))
        )
        return a, *map(float, bounds)

    a, lower, upper = found()
    true = np.linalg.svd(np.asarray(a, np.float64), compute_uv=False)[0]
    assert lower <= true <= upper
    assert lower > 0.9 * true
    assert upper < (1.03 if "padding" not in name and "valid" not in name and "not divide" not in name else 2.5) * true
    for scale in (1e-30, 1e30):  # no square over- or underflows
        _, low, high = found(scale)
        assert low <= true * float(np.float32(scale)) * (1 + 1e-7)
        assert high >= true * float(np.float32(scale)) * (1 - 1e-7)
        np.testing.assert_allclose([low / scale, high / scale], [lower, upper], rtol=1e-3)


def test_extreme_spectra_and_precisions(x64):
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    for s in (np.ones(12), np.logspace(0, -15, 12), np.r_[1.0, np.zeros(11)], np.zeros(12)):
        a = Q * s @ Q.T
        for dtype in (np.float32, np.float64, np.complex64):
            x = (a * (1j if dtype == np.complex64 else 1)).astype(dtype)
            true = np.linalg.norm(x.astype(np.complex128), 2)
            lower, upper = map(float, entries_and_bound(x)[1])
            assert lower <= true <= upper
            assert upper <= 1.02 * true
            assert lower >= 0.999 * true


def test_more_iterations_are_tighter(x64):
    A = la.Convolution(draw(0, 3, 3, 4, 4), (6, 6), padding="circular")

    @jax.jit
    def bounds(A):  # of which every one goes on where the one before ends
        return la.opnorm(A), [la.opnorm_bound(A, iterations=k).upper for k in (1, 3, 6, 10)]

    true, uppers = map(np.asarray, bounds(A))
    for looser, tighter in itertools.pairwise(uppers):
        assert tighter <= looser * (1 + 1e-12)
    assert true <= uppers[-1] < 1.000001 * true
    with pytest.raises(la.DimensionMismatch, match="at least one iteration"):
        la.opnorm_bound(A, iterations=0)


def test_gradient_and_half_precision(x64):
    w = draw(0, 3, 2, 2)
    value_and_gradient = check_gradient(lambda w: la.opnorm_bound(la.Convolution(w, 4, padding="circular")).upper, w)
    assert np.isfinite(value_and_gradient(np.zeros_like(w))[1]).all()
    a, (lower, upper) = entries_and_bound(la.Convolution(w.astype(jnp.bfloat16), 4))
    true = np.linalg.norm(np.asarray(a, np.float64), 2)
    assert float(lower) <= true <= float(upper)
