"""Spectra during training: `la.SpectrumProbe` every k steps or within a budget, to spectra/ and to metrics.jsonl.

The probe's program is enqueued on the device right after the update of its step, before the next update that reuses the
same buffers; the spectra come back whenever they are done.
"""

from __future__ import annotations

import concurrent.futures
import io
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import lax_linalg as la
from train import files
from train.config import TrainConfig, due
from train.errors import ConfigError
from train.metrics import number
from train.sharding import first_device
from train.spectrum_summary import summarize, summarize_partial
from train.state import ModelDef, TrainState
from train.tasks import Task


class SpectrumSchedule:
    """Says when to probe, and submits."""

    def __init__(self, config: TrainConfig, definition: ModelDef, state: TrainState, inputs: jax.Array, mesh: Mesh):
        self.budget = share(config.spectrum_budget)
        self.every = config.spectrum_every or 1
        self.wait = config.spectrum_overflow == "wait" and self.budget is None
        self.definition = definition
        self.sharded = mesh.size > 1 and len(inputs) % mesh.size == 0
        patterns = [pattern.strip() for pattern in config.spectrum_layers.split(",")]
        self._probe = la.SpectrumProbe(
            self.model_of(state),
            inputs,
            layers=None if patterns == ["*"] else patterns,
            max_pending=config.spectrum_pending,
            budget=self.budget,
            mesh=mesh if self.sharded else None,
        )

    @property
    def compile_seconds(self) -> float:
        """Seconds that compiling the probe took; they are not part of the probes' share."""
        return self._probe.compile_seconds

    @property
    def pending(self) -> int:
        """How many probes are under way."""
        return self._probe.pending

    def due(self, step: int, last: int) -> bool:
        """Whether to probe at `step`: the first, the last, every so many; of these, those that the budget allows."""
        if self.budget is None:
            return due(step, self.every, last)
        return due(step, self.every, last) and self._probe.due()

    def model_of(self, state: TrainState) -> Any:
        """The module with the present parameters, on the probe's devices."""
        return current_model(self.definition, state, self.sharded)

    def submit(self, step: int, model: Any) -> concurrent.futures.Future | None:
        """Start measuring; None when too many are under way and the configuration says to skip then."""
        future = self._probe.submit(step, model)
        if future is None and self.wait:
            self._probe.wait()
            future = self._probe.submit(step, model)
        return future

    def charge(self) -> None:
        """Charge the budget with the probes that are done."""
        self._probe.ready()


def share(text: str) -> float | None:
    """A share of the time written as "5%" or "0.05"; None for an empty text.

    Raises:
        ConfigError: for anything else, and for a share that is not between 0 and 1.

    Example:
        >>> share("5%"), share("0.05"), share("")
        (0.05, 0.05, None)
    """
    if not text.strip():
        return None
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest or not 0 < value < 1:
        raise ConfigError(f"--spectrum_budget={text!r} must be a share of the time between 0 and 1, as in 5% or 0.05")
    return value


def summary(spectra: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, float | None]]:
    """Each layer in a few numbers, of all singular values (`train.spectrum_summary.summarize`) or of those that were
    found (`summarize_partial`), where every number comes with its bound or error; None where one is not finite.

    Example:
        >>> summary({"stem": {"singular_values": np.array([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0]])}})["stem"]["stable_rank"]
        1.5
    """

    def numbers(measured: dict[str, np.ndarray]) -> dict[str, float]:
        return summarize(measured["singular_values"]) if "singular_values" in measured else summarize_partial(measured)

    return {
        layer: {name: number(np.float32(value)) for name, value in numbers(measured).items()}
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
    config: TrainConfig, definition: ModelDef, state: TrainState, task: Task, held_out: Any, mesh: Mesh
) -> SpectrumSchedule | None:
    """The configured schedule, with the first held-out examples as probe inputs; None when no probes are wanted.

    Where the run has several devices and their number divides that of the probe inputs, they share them.

    Raises:
        ConfigError: when the budget is no share of the time, or there are not so many inputs.
        UnknownNameError, LinearAlgebraError: for layers that the model does not have, or that have no Jacobian.
    """
    if not config.spectrum_every and share(config.spectrum_budget) is None:
        return None
    inputs = probe_inputs(task, held_out, config.spectrum_inputs, "--spectrum_inputs")
    return SpectrumSchedule(config, definition, state, inputs, mesh)


def probe_inputs(task: Task, held_out: dict[str, np.ndarray], count: int, flag: str) -> jax.Array:
    """The first `count` held-out examples as the model takes them.

    Raises:
        ConfigError: when there are not so many; names the flag that asked for them.
    """
    examples = len(next(iter(held_out.values())))
    if count > examples:
        raise ConfigError(f"{flag}={count} is more than the {examples} held-out examples")
    return task.prepare({name: jnp.asarray(array[:count]) for name, array in held_out.items()})["input"]


def current_model(definition: ModelDef, state: TrainState, sharded: bool = False) -> Any:
    """The module with the present parameters, in evaluation mode, on the first device or on all of the mesh."""
    params, rest = (state.params, state.rest) if sharded else first_device((state.params, state.rest))
    model: Any = definition.merge(params, rest)
    model.eval()
    return model
