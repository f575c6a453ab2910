"""`ProbeBudget` and the probe's use of it: the share holds for whatever probes cost, and time alone decides."""

from __future__ import annotations

import time

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import lax_linalg as la
from lax_linalg.errors import LinearAlgebraError


def simulate(
    share: float, costs: list[float], step_seconds: list[float], latency: int = 0
) -> tuple[float, float, list]:
    """A loop whose probes stop it for their cost and report it `latency` steps later; (spent, elapsed, starts)."""
    budget, now, spent, starts = la.ProbeBudget(share), 0.0, 0.0, []
    due: list[tuple[int, float]] = []
    k = 0
    for step, seconds in enumerate(step_seconds):
        while due and due[0][0] <= step:
            budget.spent(due.pop(0)[1])
        if budget.allows(now):
            cost = costs[k % len(costs)]
            k += 1
            budget.started(now)
            starts.append(step)
            due.append((step + latency, cost))
            now += cost
            spent += cost
        now += seconds
    return spent, now, starts


@given(
    share=st.floats(0.01, 0.5),
    costs=st.lists(st.floats(0.01, 2.0), min_size=1, max_size=5),
    step=st.floats(0.001, 0.5),
    latency=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_the_share_is_kept_for_any_costs(share, costs, step, latency):
    count = 2000
    spent, elapsed, starts = simulate(share, costs, [step] * count, latency)
    # beyond the share, at most the first probe and what those under way cost more than was expected of them
    assert spent <= share * elapsed + (2 + latency) * max(costs)
    if len(starts) > 3 and latency == 0:  # and no denser cadence would do: what is left over is less than two probes
        assert spent >= share * elapsed - 3 * max(costs) - 2 * share * step * len(starts)


def test_constant_costs_give_the_densest_cadence_that_the_share_allows():
    spent, elapsed, starts = simulate(0.05, [0.1], [0.02] * 20000)
    assert abs(spent / elapsed - 0.05) < 0.001
    gaps = np.diff(starts)
    assert gaps.max() - gaps.min() <= 2  # evenly spread


def test_a_pause_is_not_followed_by_a_burst():
    _, _, starts = simulate(0.1, [0.1], [0.01] * 100 + [100.0] + [0.01] * 400)
    after = [step for step in starts if step > 100]
    gaps = np.diff(after)
    assert 35 < gaps[0] < 50  # half an interval, 0.5 s of 0.01 s steps and of the probe itself, is made up for
    assert (gaps[1:] > 85).all()


@given(share=st.floats(0.02, 0.3), steps=st.lists(st.sampled_from([0.001, 0.01, 0.3, 5.0]), min_size=50, max_size=300))
@settings(max_examples=40, deadline=None)
def test_every_stretch_of_time_keeps_the_share_but_for_one_probe_and_a_half(share, steps):
    cost = 0.1
    budget, now, starts = la.ProbeBudget(share), 0.0, []
    for seconds in steps:
        if budget.allows(now):
            budget.started(now)
            budget.spent(cost)
            starts.append(now)
            now += cost
        now += seconds
    for a, first in enumerate(starts):
        for b in range(a, len(starts)):
            assert b - a + 1 <= share * (starts[b] - first) / cost + 1.5 + 1e-6


def test_decisions_are_a_function_of_the_times():
    runs = [simulate(0.07, [0.3, 0.1], [0.05] * 500, latency=2)[2] for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_is_between_0_and_1(share):
    with pytest.raises(LinearAlgebraError, match=r"between 0 and 1, as 0\.05, got"):
        la.ProbeBudget(share)


def test_the_probe_charges_what_its_records_cost(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    probe = la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 3)), budget=0.1)
    assert probe.due()
    probe.submit(0, [jnp.tanh])
    clock[0] = 1e6
    assert not probe.due()  # its cost is not known before the record is handed out
    (record,) = probe.wait()
    assert record.cost == record.seconds + record.host_seconds > 0
    assert probe.due(record.cost / 0.1 + 1e-6)
    assert not probe.due(record.cost / 0.1 - 1e-6)
    assert la.SpectrumProbe([jnp.tanh], jnp.zeros((1, 3))).due()
