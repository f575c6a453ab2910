"""Mean field: the reference table, depth scales as rates of convergence of the iteration itself, real networks."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la

HERMITE, WEIGHTS = np.polynomial.hermite_e.hermegauss(81)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def correlation_step(c, q, point):
    first = np.sqrt(q) * HERMITE[:, None]
    second = np.sqrt(q) * (c * HERMITE[:, None] + math.sqrt(1 - c * c) * HERMITE[None, :])
    return (point[0] * WEIGHTS @ (np.tanh(first) * np.tanh(second)) @ WEIGHTS + point[1]) / q


@pytest.mark.parametrize(
    ("weight", "bias"),
    [(1.01, "1.65e-7"), (1.02, "1.31e-6"), (1.05, "2.01e-5"), (1.1, "1.56e-4"), (1.5, "0.0158"), (2.0, "0.1038")],
)
def test_tanh_critical_line_reference_table(weight, bias):
    mantissa, _, exponent = bias.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    point = la.critical_point("tanh", weight)
    assert abs(point.bias_variance - float(bias)) <= unit / 2
    chi = weight * np.sum(WEIGHTS / np.cosh(np.sqrt(point.length) * HERMITE) ** 4)
    assert chi == pytest.approx(1, abs=1e-7)
    network = la.MeanField("tanh", weight, point.bias_variance, start=point.length)
    assert network.phase == "critical" and network.correlation_scale == math.inf


@pytest.mark.parametrize("point", [(1.2, 0.2), (2.5, 0.1)])
def test_depth_scales_are_the_rates_of_the_iteration(point):
    network = la.MeanField("tanh", *point)
    q, c = network.length, 0.6
    for _ in range(400):
        c = correlation_step(c, q, point)
    assert network.correlation == pytest.approx(min(c, 1.0), abs=1e-7)
    if network.phase == "chaotic":
        before, after = c + 1e-4, correlation_step(c + 1e-4, q, point)
        assert network.correlation_scale == pytest.approx(-1 / math.log((after - c) / (before - c)), rel=1e-3)
    else:
        assert network.correlation_scale == pytest.approx(-1 / math.log(network.chi))
    lengths = [q * (1 + 1e-5)]
    lengths.append(point[0] * np.sum(WEIGHTS * np.tanh(np.sqrt(lengths[0]) * HERMITE) ** 2) + point[1])
    rate = (lengths[1] - q) / (lengths[0] - q)
    assert network.length_scale == pytest.approx(-1 / math.log(abs(rate)), rel=1e-3)


def test_any_activation_and_the_networks_that_have_no_fixed_point():
    swish = la.MeanField(lambda x: x / (1 + jnp.exp(-x)), 1.5, 0.2)
    q = 1.0
    for _ in range(2000):
        h = np.sqrt(q) * HERMITE
        q = 1.5 * np.sum(WEIGHTS * (h / (1 + np.exp(-h))) ** 2) + 0.2
    assert swish.length == pytest.approx(q, rel=1e-7)
    assert la.MeanField("relu", 3.0).phase == "unbounded"
    assert la.MeanField("relu", 2.0).phase == "critical"
    assert la.MeanField("tanh", 0.9).length < 1e-6  # signals die out


def test_phase_diagram_changes_sign_on_the_critical_line():
    point = la.critical_point("tanh", 1.5)
    chi = np.asarray(la.phase_diagram("tanh", np.array([1.4, 1.6]), np.array([point.bias_variance])))
    assert chi[0, 0] < 1 < chi[1, 0]
