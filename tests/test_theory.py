"""scripts.theory: the reference numbers hold, a wrong one makes the command fail, and an unknown claim is an error."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lax_linalg.errors import UnknownNameError
from scripts import claims, closed_forms, theory

QUICK = {
    "baselines": {},
    "gaussian_products": {"size": 120, "draws": 4},
    "kreiss_constants": {},
    "lyapunov": {"size": 8, "depth": 100},
    "moments": {},
    "rank_collapse": {"draws": 6},
    "saxe_modes": {},
    "tanh_critical_line": {},
}
WIDE = ("s_max²",)  # holds at the width 600 of the reference only


@pytest.mark.parametrize("name", QUICK)
def test_quick_claims_hold(name):
    rows = claims.claims[name](1, **QUICK[name])
    assert rows
    assert closed_forms.claims is claims.claims
    outside = [row for row in rows if not row.agrees and not row.what.startswith(WIDE)]
    assert not outside


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dropout", "gaussian_products", "relative_variance", "reshaped_kernel"])
def test_slow_claims_hold(name):
    assert all(row.agrees for row in claims.claims[name](1))


def test_rows_judge_with_their_error():
    assert claims.Row("x", 1.0, 1.38, error=0.1).agrees
    assert not claims.Row("x", 1.0, 1.4, error=0.1).agrees
    assert claims.Row("x", (1.5, 1.7), 1.6).agrees and not claims.Row("x", (1.5, 1.7), 1.8).agrees
    assert not claims.Row("x", 1.0, float("nan"), error=0.1).agrees


@pytest.mark.parametrize("draws", [3, 20])
def test_sampled_rows_fail_as_often_as_they_say(draws, monkeypatch):
    monkeypatch.setattr(claims, "CONFIDENCE", 0.9)
    values = np.random.default_rng(0).standard_normal((2000, draws + 1))
    outside = sum(not claims.sampled("x", row[0], row[1:], 0.0).agrees for row in values)
    assert abs(outside - 200) < 4 * np.sqrt(2000 * 0.1 * 0.9)  # four standard deviations of a binomial count


def run(monkeypatch, *names):
    monkeypatch.setattr(theory, "_CLAIM", type("Flag", (), {"value": list(names)}))
    monkeypatch.setattr(theory, "_SEED", type("Flag", (), {"value": 0}))
    theory.main()


def test_the_command_prints_both_numbers_and_fails_outside(monkeypatch, capsys):
    run(monkeypatch, "tanh_critical_line")
    assert "0.0158" in capsys.readouterr().out
    monkeypatch.setitem(claims.claims._entries, "wrong", lambda seed: [claims.Row("π", 3.0, 3.14)])
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "wrong")
    assert caught.value.code == 1 and "OUTSIDE" in capsys.readouterr().out
    with pytest.raises(UnknownNameError, match="did you mean 'lyapunov'"):
        run(monkeypatch, "liapunov")
    assert sys.modules["scripts.theory"] is theory
