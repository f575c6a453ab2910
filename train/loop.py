"""The training loop: configuration in, a trained network and its history in the workdir out.

Resuming is not a mode of its own. Every run asks the workdir for its newest usable checkpoint, cuts the metrics back to
that step and continues; a new run is the case in which there is none.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from train import config as configs, files, plugins, probes
from train.checkpoints import Checkpoints
from train.config import TrainConfig, due
from train.display import make_display
from train.divergence import explain
from train.dropout_probe import make_dropout_probe
from train.errors import CheckpointError, ConfigError, DivergenceError
from train.interrupt import Interrupt
from train.metrics import read_lines
from train.recorder import NonFiniteUpdate, Recorder
from train.sharding import data_mesh, replicated
from train.state import TrainState, build_model
from train.step import make_order, make_step
from train.tasks import tasks

__all__ = ["build_model", "train_and_evaluate"]

Hook = Callable[[int, TrainState], None]


def train_and_evaluate(config: TrainConfig, workdir: str | pathlib.Path, hook: Hook | None = None) -> dict[str, Any]:
    """Train as `config` says in `workdir`, or go on with the run that is there.

    After a kill at any instant the same call gives the same parameters, optimiser state, random numbers, data order and
    bytes of metrics.jsonl as a run that was never interrupted (on the same machine and versions). SIGTERM and Ctrl-C
    save a checkpoint and return.

    Args:
        config: the run; see TrainConfig. With a `spectrum_budget` the steps of the probes, and with them the lines of
            kind "spectrum", depend on the clock; all else stays the same to the last bit.
        workdir: its folder, made when missing.
        hook: called with (step, state) once every update is enqueued; it must not keep the state.

    Returns:
        The content of summary.json: "status" (finished, interrupted), final numbers, and this session's wall-clock
        figures, with the probes' share.

    Raises:
        ConfigError: when the workdir holds a run of another configuration, or options contradict each other.
        UnknownNameError: when a name (task, model, regulariser, layer …) is not known.
        DataError: when a data file is missing or damaged.
        CheckpointError: when an earlier session's checkpoints are all unusable or gone.
        DivergenceError: when the loss or a gradient was not finite and on_nonfinite is "stop".
    """
    if not str(workdir):
        raise ConfigError("--workdir is required: the folder to write the run to")
    workdir = pathlib.Path(workdir)
    plugins.load(config.plugins)

    # All that can be wrong with the configuration shows here, before anything is written.
    task = tasks[config.task]
    mesh = data_mesh(config.data_parallel, config.batch_size)
    data = task.data(config)
    examples = len(next(iter(data.train.values())))
    order = make_order(config, examples, mesh)
    steps = config.epochs * (examples // config.batch_size) or config.steps
    definition, state, update, evaluate, gradient = make_step(config, steps, task, mesh)
    arrays = (state, data.train, data.held_out, data.test)
    state, train, held_out, test = jax.device_put(arrays, replicated(mesh))
    spectra = probes.make_spectra(config, definition, state, task, data.held_out, mesh)
    dropout = None
    if config.dropout_every:
        dropout = make_dropout_probe(task, definition, state.params, state.rest, data.held_out)

    with contextlib.ExitStack() as opened:
        interrupt = opened.enter_context(Interrupt())
        opened.enter_context(files.lock(workdir))
        configs.check_same_run(config, workdir)
        checkpoints = opened.enter_context(Checkpoints(workdir, config.checkpoint_every, steps, config.keep))
        restored = checkpoints.restore_newest(state)
        if restored is None:
            refuse_lost_history(workdir)
        configs.save(config, workdir)
        state = restored or state
        start = step = int(state.step)
        summary = read_summary(workdir)
        if start >= steps and summary.get("status") == "finished":
            return summary

        display = opened.enter_context(make_display(config.display, steps, config.held_out))
        recorder = opened.enter_context(Recorder(config, workdir, start, steps, display, spectra))
        metrics = {"nonfinite": state.nonfinite.copy()}
        try:
            for step in range(start, steps + 1):
                # `state` is the result of `step` updates: measure it, save it, then update it.
                if step > start or restored is None:
                    if step > 0 and due(step, config.log_every, steps):
                        recorder.train(step, metrics)
                    if due(step, config.eval_every, steps):
                        recorder.measures(
                            "eval", step, evaluate(state.params, state.rest, held_out), metrics["nonfinite"]
                        )
                    if step == steps:
                        recorder.measures("test", step, evaluate(state.params, state.rest, test), metrics["nonfinite"])
                    if spectra is not None and spectra.due(step, steps):
                        recorder.spectrum(step, spectra.model_of(state), metrics["nonfinite"])
                    if dropout is not None and due(step, config.dropout_every, steps):
                        recorder.measures("dropout", step, dropout(state.params, state.rest), metrics["nonfinite"])
                    if interrupt.received or due(step, config.checkpoint_every, steps):
                        recorder.settle(wait=True)  # a checkpoint stands for complete metrics up to its step
                        checkpoints.save(step, state, force=interrupt.received)
                    if step == 0:
                        checkpoints.wait()  # from here on, metrics without a checkpoint mean that it was lost
                if step == steps or interrupt.received:
                    break
                state, metrics = update(state, train, order(step))
                recorder.settle()
                if hook is not None:
                    hook(step + 1, state)
            status, error = ("finished" if step == steps else "interrupted"), None
        except NonFiniteUpdate:
            # The state has not moved since the refused update.
            step, state = int(state.step), state._replace(nonfinite=jnp.zeros_like(state.nonfinite))
            checkpoints.save(step, state, force=True)
            failed = gradient(state, train, order(step))
            model, last = probes.current_model(definition, state), recorder.log.last_line.get("spectrum")
            why = explain(model, state.params, failed.batch["input"], failed.params, last)
            status = "diverged"
            error = DivergenceError(f"update {step + 1} refused: {why}; the state before it is saved in {workdir}")
        checkpoints.wait()
        summary = recorder.finish(status, step, start)
        files.write_atomically(workdir / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
        if error is not None:
            raise error
        return summary


def refuse_lost_history(workdir: pathlib.Path) -> None:
    """Raise CheckpointError when the workdir has metrics of a trained network but no checkpoint to go on from."""
    steps = [json.loads(line)["step"] for line in read_lines(workdir / "metrics.jsonl", None)]
    if steps and max(steps) > 0:
        raise CheckpointError(
            f"{workdir} has metrics up to step {max(steps)} but no checkpoint to go on from; give a new --workdir"
        )


def read_summary(workdir: pathlib.Path) -> dict[str, Any]:
    """The content of summary.json, empty when there is none yet."""
    try:
        return json.loads((workdir / "summary.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
