"""Checkpoints by Orbax: written asynchronously, verified by checksum when read, and skipped when torn.

Orbax notices a truncated or missing file, but not a flipped bit in an array (OCDBT keeps no checksum of the values). So
each checkpoint carries one checksum per array, computed on the device by the program that copies the state.
"""

from __future__ import annotations

import logging
import pathlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from orbax.checkpoint import checkpoint_managers as policies

from train import config as configs
from train.errors import CheckpointError
from train.state import TrainState, build_model, split

FOLDER = "checkpoints"
MODEL, TRAINER = "model", "trainer"  # analysis reads the first item alone


class Checkpoints:
    """The checkpoints of one run that is being trained: save without waiting, restore the newest usable one."""

    def __init__(self, workdir: str | pathlib.Path, interval: int, last: int, keep: int):
        self.folder = pathlib.Path(workdir).absolute() / FOLDER
        first_and_last = policies.SpecificStepsPolicy((0, last))
        self._manager = _manager(
            self.folder,
            cleanup_tmp_directories=True,
            save_decision_policy=policies.AnySavePolicy(
                [first_and_last, policies.FixedIntervalPolicy(interval)] if interval else [first_and_last]
            ),
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep or None), policies.CustomSteps([0])]
            ),
        )

    def save(self, step: int, state: TrainState, force: bool = False) -> None:
        """Save `state` as of `step` if it is due, or anyway by `force`, unless it is saved already.

        Returns as soon as the arrays are copied.
        """
        if step in self._manager.all_steps() or not (force or self._manager.should_save(step)):
            return
        items = {name: ocp.args.StandardSave(_sealed(item)) for name, item in _items(state).items()}
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore_newest(self, template: TrainState) -> TrainState | None:
        """The newest usable state, in the shapes and shardings of `template`; None when nothing was saved yet.

        A checkpoint that is torn, truncated or fails its checksum is passed over with a warning and moved to
        `<folder>_unusable`, so that the run can write that step again.

        Raises:
            CheckpointError: when there are checkpoints and none is usable; they are left as they are.
        """
        saved = sorted(self._manager.all_steps(), reverse=True)
        failures: dict[int, str] = {}
        for step in saved:
            try:
                items = {
                    name: _restore_item(self._manager, step, name, item) for name, item in _items(template).items()
                }
            except Exception as error:  # Orbax raises many kinds for a damaged file
                failures[step] = _brief(error)
                continue
            self._set_aside(failures)
            return TrainState(**items[MODEL], **items[TRAINER])
        if failures:
            why = failures[saved[0]]
            raise CheckpointError(
                f"none of the {len(saved)} checkpoints in {self.folder} is usable ({why}); give a new --workdir"
            )
        return None

    def _set_aside(self, failures: dict[int, str]) -> None:
        for step, why in failures.items():
            source = step_folder(self.folder, step)
            target = self.folder.with_name(f"{FOLDER}_unusable") / f"{source.name}"
            target.parent.mkdir(exist_ok=True)
            number = 0
            while target.exists():
                number += 1
                target = target.with_name(f"{source.name}.{number}")
            source.rename(target)
            warnings.warn(f"checkpoint {step} is not usable ({why}); moved to {target}", stacklevel=3)
        if failures:
            self._manager.reload()

    def wait(self) -> None:
        """Return when everything saved so far is on disk."""
        self._manager.wait_until_finished()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()


def steps(workdir: str | pathlib.Path) -> list[int]:
    """The steps with a complete checkpoint in `workdir`, ascending; empty when there are none.

    Args:
        workdir: folder of a run, which may still be training.

    Returns:
        Step numbers (updates done); step 0 is the initial state.

    Cost: one directory listing.
    """
    folder = pathlib.Path(workdir).absolute() / FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(step) for step in ocp.utils.checkpoint_steps(folder))


def restore(workdir: str | pathlib.Path, step: int | None = None) -> nnx.Module:
    """The model of a run as it was at `step` (the newest by default), ready to call, in evaluation mode.

    Args:
        workdir: folder of a run; its config.json says which model to build.
        step: one of `steps(workdir)`.

    Returns:
        The NNX module with the parameters and other variables of that step.

    Raises:
        ConfigError: when `workdir` holds no run.
        CheckpointError: when there is no checkpoint of that step, or it is damaged.
    """
    model = build_model(configs.load(workdir))
    available = steps(workdir)
    if not available:
        raise CheckpointError(f"no checkpoints in {workdir}")
    step = available[-1] if step is None else step
    if step not in available:
        near = min(available, key=lambda other: abs(other - step))
        raise CheckpointError(
            f"no checkpoint of step {step} in {workdir}; the nearest is {near}, the last {available[-1]}"
        )
    definition, params, rest = split(model)
    manager = _manager(pathlib.Path(workdir).absolute() / FOLDER, read_only=True, save_interval_steps=0, create=False)
    try:
        item = _restore_item(manager, step, MODEL, {"params": params, "rest": rest})
    except Exception as error:
        raise CheckpointError(f"checkpoint {step} in {workdir} is not usable: {_brief(error)}") from error
    finally:
        manager.close()
    model = definition.merge(item["params"], item["rest"])
    model.eval()
    return model


def step_folder(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Where Orbax keeps one step."""
    return folder / f"{step:08d}"


def _manager(folder: pathlib.Path, **options: Any) -> ocp.CheckpointManager:
    # absl would print Orbax's progress and, for a damaged file, a traceback; what matters is raised and reported here.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(step_format_fixed_length=8, **options))


def _items(state: TrainState) -> dict[str, dict[str, Any]]:
    fields = state._asdict()
    return {
        MODEL: {name: fields.pop(name) for name in ("params", "rest")},
        TRAINER: fields,
    }


@jax.jit
def _sealed(item: Any) -> dict[str, Any]:
    """A copy of `item` (the original's buffers are donated to the next step) with the checksums of its arrays."""
    return {"item": jax.tree.map(jnp.copy, item), "checksums": _checksums(item)}


def _restore_item(manager: ocp.CheckpointManager, step: int, name: str, template: Any) -> Any:
    def abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)

    sealed = jax.tree.map(abstract, {"item": template, "checksums": _checksums(template)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = ocp.args.Composite(**{name: ocp.args.StandardRestore(sealed)})
        restored = manager.restore(step, args=args)[name]
    if not np.array_equal(restored["checksums"], jax.jit(_checksums)(restored["item"])):
        raise CheckpointError("an array differs from its checksum")
    return restored["item"]


def _checksums(item: Any) -> jax.Array:
    """One 32-bit sum per array, Σ wordᵢ·(2i + 1) mod 2³²: an odd weight makes any single changed word show."""
    return jnp.stack([_checksum(leaf) for leaf in jax.tree.leaves(item)])


def _checksum(array: jax.Array) -> jax.Array:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    if jnp.iscomplexobj(array):
        array = jnp.stack([array.real, array.imag])
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    width = jnp.dtype(array.dtype).itemsize
    words = jax.lax.bitcast_convert_type(array, {1: jnp.uint8, 2: jnp.uint16}.get(width, jnp.uint32))
    words = words.ravel().astype(jnp.uint32)
    return jnp.sum(words * (2 * jnp.arange(words.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)


def _brief(error: Exception) -> str:
    """The first sentence of an error, without the paths and stacks that follow it."""
    text = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."
