"""From results on the device to files and display, in order and without making the loop wait."""

from __future__ import annotations

import collections
import concurrent.futures
import pathlib
import time
from typing import Any

import jax

from train import probes
from train.config import TrainConfig
from train.display import PlainDisplay
from train.metrics import MetricsLog, Pending, Result, number

GENERATED = ("modes", "high_quality")  # what a GAN has in place of an accuracy


class NonFiniteUpdate(Exception):
    """An update was refused because the loss or a gradient was not finite, and the run is to stop then."""


class Recorder:
    """Takes what the loop asked of the device and, once it has arrived, writes and shows it.

    Lines appear in metrics.jsonl in the order of the requests, whatever the order of arrival, so the file's bytes do
    not depend on timing.
    """

    def __init__(
        self,
        config: TrainConfig,
        workdir: pathlib.Path,
        start: int,
        steps: int,
        display: PlainDisplay,
        spectra: probes.SpectrumSchedule | None,
    ):
        self.config, self.workdir, self.display, self.spectra = config, workdir, display, spectra
        self.log = MetricsLog(workdir, start, steps, config.tensorboard)
        self.pending = Pending()
        self.began = time.monotonic()
        self.probe_seconds = 0.0
        self.probes_done = self.probes_skipped = 0
        self.marks: collections.deque[tuple[float, int]] = collections.deque(maxlen=20)
        self._behind: Any = None
        self._writer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="spectra")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exception) -> None:
        self._writer.shutdown()
        self.log.close()

    def train(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Ask for the training metrics of `step`; keeps the host at most one such request ahead of the device."""
        if self._behind is not None:
            jax.block_until_ready(self._behind)
        self._behind = metrics
        self.pending.put("train", step, metrics, metrics["nonfinite"])

    def measures(self, kind: str, step: int, measures: dict[str, jax.Array], guard: jax.Array) -> None:
        """Ask for what was measured at `step`: "eval" on the held-out examples, "test" on the test ones."""
        self.pending.put(kind, step, measures, guard)

    def spectrum(self, step: int, model: Any, guard: jax.Array) -> None:
        """Start a probe of `model`, whose record will be that of `step`."""
        assert self.spectra is not None
        future = self.spectra.submit(step, model)
        if future is None:
            self.probes_skipped += 1
            self.log.write_timing({"step": step, "probe": "skipped: too many under way"})
        else:
            self.pending.put("spectrum", step, future, guard)

    def settle(self, wait: bool = False) -> None:
        """Write and show what has arrived; with `wait`, everything asked for so far.

        Raises:
            NonFiniteUpdate: when an update was refused before the next result and the run is to stop then.
        """
        if self.spectra is not None:
            self.spectra.charge()
        for result in self.pending.take(wait):
            if self.config.on_nonfinite == "stop" and int(result.guard) > 0:
                raise NonFiniteUpdate
            write = {"train": self._write_train, "spectrum": self._write_spectrum, "written": self._written}
            write.get(result.kind, self._write_measures)(result)

    def _write_train(self, result: Result) -> None:
        values = {name: number(value) for name, value in result.values.items()}
        refused = int(values.pop("nonfinite") or 0)
        line = {"kind": "train", "step": result.step, **values} | ({"refused_updates": refused} if refused else {})
        self.marks.append((time.monotonic(), result.step))
        self.log.write(line)
        self.log.write_timing({"step": result.step, **self.timing()})
        self.display.line(line, self.pace())

    def _write_measures(self, result: Result) -> None:
        values = {name: number(value) for name, value in result.values.items()}
        line = {"kind": result.kind, "step": result.step, **values}
        self.log.write(line)
        self.display.line(line, self.pace())

    def _write_spectrum(self, result: Result) -> None:
        record = result.values.result()
        self.pending.put("written", result.step, self._writer.submit(probes.write, self.workdir, record), result.guard)
        self.probe_seconds += record.cost
        self.probes_done += 1
        line = {"kind": "spectrum", "step": result.step, "layers": probes.summary(record.spectra)}
        self.log.write(line)
        self.log.write_timing({"step": result.step, "probe": "done", "probe_seconds": round(record.cost, 6)})
        self.display.line(line, self.pace(), record.spectra)

    @staticmethod
    def _written(result: Result) -> None:
        result.values.result()  # raises what the writing raised

    def pace(self) -> float:
        """Steps a second over the last lines; 0 when there are too few to tell."""
        (then, first), (now, last) = (self.marks[0], self.marks[-1]) if self.marks else ((0.0, 0), (0.0, 0))
        return (last - first) / (now - then) if now > then else 0.0

    def timing(self) -> dict[str, float | int]:
        """Wall-clock figures of this session so far."""
        seconds = time.monotonic() - self.began
        return {
            "seconds": round(seconds, 4),
            "steps_per_second": round(self.pace(), 4),
            "probe_seconds": round(self.probe_seconds, 4),
            "probe_share": round(self.probe_seconds / seconds, 6) if seconds else 0.0,
            "probe_compile_seconds": round(self.spectra.compile_seconds, 4) if self.spectra is not None else 0.0,
            "probes": self.probes_done,
            "probes_skipped": self.probes_skipped,
        }

    def finish(self, status: str, step: int, start: int) -> dict[str, Any]:
        """What summary.json holds: how the run ended, the last numbers of each kind, and this session's figures."""
        train, held_out, test = (self.log.last_line.get(kind, {}) for kind in ("train", "eval", "test"))
        return {
            "status": status,
            "step": step,
            "loss": train.get("loss"),
            "accuracy": train.get("accuracy"),
            "held_out": self.config.held_out,
            "eval_loss": held_out.get("loss"),
            "eval_accuracy": held_out.get("accuracy"),
            "test_loss": test.get("loss"),
            "test_accuracy": test.get("accuracy"),
            **{f"eval_{name}": held_out[name] for name in GENERATED if name in held_out},
            **{f"test_{name}": test[name] for name in GENERATED if name in test},
            "resumed_from": start,
            **self.timing(),
        }
