"""Metrics: results leave the device late and in order, as lines of metrics.jsonl and as TensorBoard events.

metrics.jsonl holds only what the configuration determines, so that an interrupted and resumed run writes the same
bytes; wall-clock figures go to timings.jsonl. The TensorBoard events are a function of metrics.jsonl: on resume they
are written anew from the lines that were kept, so no step appears twice.
"""

from __future__ import annotations

import collections
import concurrent.futures
import json
import math
import pathlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from train import files


class Result(NamedTuple):
    """Something that was asked of the device at `step`: arrays, or a future for what takes its own way."""

    kind: str
    step: int
    values: Any
    guard: jax.Array  # updates refused up to then (TrainState.nonfinite)

    def ready(self) -> bool:
        if isinstance(self.values, concurrent.futures.Future):
            return self.values.done()
        return all(array.is_ready() for array in jax.tree.leaves(self.values))


class Pending:
    """Results on their way, given back in the order in which they were asked for."""

    def __init__(self):
        self._queue: collections.deque[Result] = collections.deque()

    def put(self, kind: str, step: int, values: Any, guard: jax.Array) -> None:
        if not isinstance(values, concurrent.futures.Future):
            jax.tree.map(lambda array: array.copy_to_host_async(), values)
        self._queue.append(Result(kind, step, values, guard))

    def take(self, wait: bool) -> Iterator[Result]:
        """The results that are ready, up to the first that is not; with `wait`, all."""
        while self._queue and (wait or self._queue[0].ready()):
            yield self._queue.popleft()


class MetricsLog:
    """The files of one run's metrics: continued after `step`, with whatever came later cut away.

    Of a run that is made longer, the test measures of its earlier end go too: they belong to the shorter one.
    """

    def __init__(self, workdir: pathlib.Path, step: int, steps: int, tensorboard: bool):
        self._files = {}
        kept: list[dict[str, Any]] = []
        for name, last in (("metrics", step), ("timings", None)):
            path = workdir / f"{name}.jsonl"
            lines = read_lines(path, last)
            if damaged(path):
                copy = path.with_name(f"{path.name}.damaged")
                files.write_atomically(copy, path.read_bytes())
                warnings.warn(f"{path} has damaged lines, which are left out; it is kept as {copy}", stacklevel=4)
            if name == "metrics" and step < steps:
                lines = [line for line in lines if json.loads(line)["kind"] != "test"]
            files.write_atomically(path, b"".join(lines))
            self._files[name] = open(path, "ab")  # noqa: SIM115 - closed by close()
            if name == "metrics":
                kept = [json.loads(line) for line in lines]
        self.last_line = {line["kind"]: line for line in kept}
        self._events = TensorBoard(workdir / "tensorboard", kept) if tensorboard else None

    def write(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl and its numbers to TensorBoard."""
        self._append("metrics", line)
        self.last_line[line["kind"]] = line
        if self._events is not None:
            self._events.write(line)

    def write_timing(self, line: dict[str, Any]) -> None:
        """Append one line to timings.jsonl."""
        self._append("timings", line)

    def _append(self, name: str, line: dict[str, Any]) -> None:
        self._files[name].write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._files[name].flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        if self._events is not None:
            self._events.close()


class TensorBoard:
    """Event files with the numbers of metrics.jsonl, one tag for each name in a line."""

    def __init__(self, folder: pathlib.Path, lines: list[dict[str, Any]]):
        from tensorboardX import SummaryWriter

        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder), max_queue=1000, flush_secs=20)
        for line in lines:
            self.write(line)

    def write(self, line: dict[str, Any]) -> None:
        for tag, value in scalars(line):
            self._writer.add_scalar(tag, value, line["step"])

    def close(self) -> None:
        self._writer.close()


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a line of metrics.jsonl with their TensorBoard tags.

    Example:
        >>> list(scalars({"kind": "eval", "step": 5, "loss": 0.25}))
        [('eval/loss', 0.25)]
        >>> list(scalars({"kind": "spectrum", "step": 5, "layers": {"stem": {"cond": 3.0}}}))
        [('spectrum/stem/cond', 3.0)]
    """
    for name, value in line.items():
        if name == "layers":
            for layer, numbers in value.items():
                yield from (
                    (f"spectrum/{layer}/{key}", number) for key, number in numbers.items() if number is not None
                )
        elif name not in ("kind", "step") and value is not None:
            yield f"{line['kind']}/{name}", value


def read_lines(path: pathlib.Path, last_step: int | None) -> list[bytes]:
    """The whole lines of a JSONL file, up to `last_step` where it is given; torn and damaged ones are left out."""
    steps = [(line, step_of(line)) for line in split_lines(path)]
    return [line for line, step in steps if step is not None and (last_step is None or step <= last_step)]


def damaged(path: pathlib.Path) -> bool:
    """Whether a line before the last is broken. No kill leaves that: it tears the last one, which the next run cuts."""
    return any(step_of(line) is None for line in split_lines(path)[:-1])


def split_lines(path: pathlib.Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def step_of(line: bytes) -> int | None:
    """The step of a line of a JSONL file; None when the line is cut or is not of that form.

    Example:
        >>> step_of(b'{"kind": "eval", "step": 5}\\n'), step_of(b'{"kind": "eval", "st')
        (5, None)
    """
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if line.endswith(b"\n") and isinstance(step, int) else None


def number(value: Any) -> float | None:
    """A scalar as JSON can hold it: the shortest decimal that reads back as the same number; None for NaN or infinity.

    Example:
        >>> number(np.float32(0.1)), number(np.float32("inf"))
        (0.1, None)
    """
    scalar = np.asarray(value)[()]
    return float(str(scalar)) if math.isfinite(scalar) else None
