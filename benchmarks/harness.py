"""Fair timings: every contender in one process, interleaved, warmed up, blocked on, and compared by medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Row:
    """One line of benchmarks/RESULTS.md: a ratio that was measured in one run, and what it should reach."""

    name: str
    ratio: float
    unit: str
    """What the ratio divides, e.g. "NumPy time / ours"."""
    target: str = ""
    detail: str = ""

    def __str__(self) -> str:
        target = f" (target {self.target})" if self.target else ""
        detail = f" [{self.detail}]" if self.detail else ""
        return f"{self.name}: {self.ratio:.3g}× {self.unit}{target}{detail}"


def median_seconds(
    contenders: Mapping[str, Callable[[], Any]], *, repeats: int = 7, warmup: int = 2
) -> dict[str, float]:
    """Median wall-clock seconds of each contender, run in turns so that a slow moment of the machine hits them all.

    Args:
        contenders: name -> a call without arguments; what it returns is blocked on.
        repeats: timed rounds.
        warmup: rounds before, which also compile.

    Returns:
        name -> seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(warmup + repeats):
        for name, call in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if round_ >= warmup:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}
