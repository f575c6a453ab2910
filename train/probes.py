"""Spectra during training: `la.SpectrumProbe` every k steps, its records to spectra/ and to metrics.jsonl.

The probe's program is enqueued on the device right after the update of its step, before the next update that reuses the
same buffers; the spectra come back whenever they are done.
"""

from __future__ import annotations

import concurrent.futures
import io
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lax_linalg as la
from train import files
from train.config import TrainConfig
from train.errors import ConfigError
from train.metrics import number
from train.sharding import first_device
from train.spectrum_summary import summarize
from train.state import ModelDef, TrainState
from train.tasks import Task


class SpectrumSchedule:
    """Submits probes and hands back, in their own time, a future of each record."""

    def __init__(self, config: TrainConfig, model: Any, inputs: jax.Array):
        self.config = config
        patterns = [pattern.strip() for pattern in config.spectrum_layers.split(",")]
        self._probe = la.SpectrumProbe(
            model, inputs, layers=None if patterns == ["*"] else patterns, max_pending=config.spectrum_pending
        )
        self._futures: dict[int, concurrent.futures.Future] = {}
        self.compile_seconds = 0.0

    def submit(self, step: int, model: Any) -> concurrent.futures.Future | None:
        """Start measuring; None when too many are under way and the configuration says to skip then."""
        if not self._probe.submit(step, model):
            if self.config.spectrum_overflow == "skip":
                return None
            self.collect(wait=True)
            self._probe.submit(step, model)
        if not self.compile_seconds:
            self.compile_seconds = self._probe.submit_seconds  # the first submission compiles
        self._futures[step] = concurrent.futures.Future()
        return self._futures[step]

    def collect(self, wait: bool = False) -> None:
        """Resolve the futures of the records that have arrived; with `wait`, of all."""
        for record in self._probe.wait() if wait else self._probe.ready():
            self._futures.pop(record.step).set_result(record)


def summary(spectra: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, float | None]]:
    """Each layer's singular values in a few numbers (`train.spectrum_summary.summarize`); None where one is not finite.

    Example:
        >>> summary({"stem": {"singular_values": np.array([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0]])}})["stem"]["stable_rank"]
        1.5
    """
    return {
        layer: {name: number(np.float32(value)) for name, value in summarize(measured["singular_values"]).items()}
        for layer, measured in spectra.items()
    }


def write(workdir: pathlib.Path, record: Any) -> None:
    """Write a record to spectra/step_NNNNNNNN.npz under keys "layer::quantity"."""
    arrays = {
        f"{layer}::{quantity}": values
        for layer, measured in record.spectra.items()
        for quantity, values in measured.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files.write_atomically(workdir / "spectra" / f"step_{record.step:08d}.npz", buffer.getvalue())


def make_spectra(
    config: TrainConfig, definition: ModelDef, state: TrainState, task: Task, held_out: Any
) -> SpectrumSchedule:
    """The configured schedule, with the first held-out examples as probe inputs."""
    inputs = probe_inputs(task, held_out, config.spectrum_inputs, "--spectrum_inputs")
    return SpectrumSchedule(config, current_model(definition, state), inputs)


def probe_inputs(task: Task, held_out: dict[str, np.ndarray], count: int, flag: str) -> jax.Array:
    """The first `count` held-out examples as the model takes them.

    Raises:
        ConfigError: when there are not so many; names the flag that asked for them.
    """
    examples = len(next(iter(held_out.values())))
    if count > examples:
        raise ConfigError(f"{flag}={count} is more than the {examples} held-out examples")
    return task.prepare({name: jnp.asarray(array[:count]) for name, array in held_out.items()})["input"]


def current_model(definition: ModelDef, state: TrainState) -> Any:
    """The module with the present parameters, in evaluation mode, on one device."""
    model: Any = definition.merge(first_device(state.params), first_device(state.rest))
    model.eval()
    return model
