"""What spectrum probes cost a training run, against the share of its time that they were allowed.

The demonstration's run with `--spectrum_budget=5%` and the same run without probes take turns in one process, compiled
alike. A run is timed from when its programs are compiled until all its updates and probes are done; on the CPU probe
and update share the cores. Beside the overhead stand the share that the run accounts for itself and the number of
probes, which tells whether the cadence was as dense as the budget allows: with probes of c seconds, s % of T seconds
allow sT/c of them, and a stretch of time that begins and ends with a probe holds one and a half more at most.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from unittest import mock

import jax

from benchmarks.harness import Row
from train import loop, probes
from train.config import TrainConfig

START = 40


def run(budget: str, steps: int) -> dict[str, float]:
    """One run of the demonstration: seconds from step START to the end, and what its probes took by its own account."""
    made: list[probes.SpectrumSchedule | None] = []
    marks: dict[str, float] = {}
    started: list[int] = []
    before: list[int] = []

    def make_spectra(*args):
        schedule = original(*args)
        made.append(schedule)
        if schedule is not None:
            submit = schedule.submit

            def counted(step, model):
                future = submit(step, model)
                if future is not None:
                    started.append(step)
                return future

            schedule.submit = counted
        return schedule

    def drained(step: int, state) -> None:
        if step in (START, steps):
            jax.block_until_ready(state)
            while made[0] is not None and made[0].pending:
                time.sleep(1e-3)
            before.append(len(started))
            marks[str(step)] = time.perf_counter()

    original = probes.make_spectra
    with tempfile.TemporaryDirectory() as workdir, mock.patch.object(probes, "make_spectra", make_spectra):
        config = TrainConfig(
            steps=steps, augment=True, learning_rate=3e-3, schedule="cosine", spectrum_budget=budget, spectrum_inputs=2,
            eval_every=0, checkpoint_every=0, display="none", workdir=workdir,
        )  # fmt: skip
        summary = loop.train_and_evaluate(config, workdir, drained)
    seconds = marks[str(steps)] - marks[str(START)]
    cost = summary["probe_seconds"] / max(summary["probes"], 1)
    inside = before[1] - before[0]  # those between the two marks
    return {"seconds": seconds, "probes": inside, "cost": cost, "accounted": inside * cost / seconds}


def measure(budget: float = 0.05, pairs: int = 3, steps: int = 2500) -> dict[str, float]:
    """Medians over pairs of runs: overhead, share by the run's own account, probes, and those the budget allows."""
    pairs_of_runs = [(run(f"{budget}", steps), run("", steps)) for _ in range(pairs)]
    overhead = [probed["seconds"] / bare["seconds"] - 1 for probed, bare in pairs_of_runs]
    probed = [one for one, _ in pairs_of_runs]
    return {
        "overhead": statistics.median(overhead),
        "accounted": statistics.median(one["accounted"] for one in probed),
        "probes": statistics.median(one["probes"] for one in probed),
        "allowed": statistics.median(budget * one["seconds"] / one["cost"] for one in probed),
        "cost": statistics.median(one["cost"] for one in probed),
        "seconds": statistics.median(one["seconds"] for one in probed),
    }


def rows() -> list[Row]:
    """The overhead with a budget of 5 %."""
    m = measure()
    detail = (
        f"{m['probes']:.0f} probes in {m['seconds']:.1f} s, "
        f"{m['allowed']:.1f} + 1.5 allowed, {1e3 * m['cost']:.0f} ms each; "
        f"{100 * m['accounted']:.1f} % of the time by the run's own account"
    )
    return [Row("probe overhead, budget 5 %", m["overhead"], "time added / time without", "≤ 0.06", detail)]
