"""Damaged checkpoints: each kind of damage to each file is either harmless or noticed, and the one before is used."""

from __future__ import annotations

import gc
import shutil
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.runs import saved_arrays, small
from train import checkpoints
from train.errors import CheckpointError, ConfigError
from train.loop import train_and_evaluate
from train.optimizers import make_optimizer
from train.state import TrainState, initial_state

# When a read fails, TensorStore leaves the other reads of the same checkpoint unawaited.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:coroutine.*never awaited:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def collect_what_a_failed_read_left():
    yield
    gc.collect()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 30 steps with checkpoints at 0, 10, 20, 30."""
    workdir = tmp_path_factory.mktemp("checkpoints") / "run"
    train_and_evaluate(small(workdir, steps=30), workdir)
    return workdir


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def template(workdir) -> TrainState:
    config = small(workdir, steps=30)
    return initial_state(config, make_optimizer(config, 30)[0])[1]


def newest(workdir) -> TrainState | None:
    with checkpoints.Checkpoints(workdir, 10, 30, 0) as saved:
        return saved.restore_newest(template(workdir))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def same_state(state: TrainState, workdir, step: int) -> bool:
    params = {name: array for name, array in saved_arrays(workdir, step).items() if "/item/params/" in name}
    return int(state.step) == step and all(
        np.array_equal(array, state.params[name.split("/params/")[1]]) for name, array in params.items()
    )


def largest_files(workdir, step: int):
    """The files with array values of both items."""
    folder = checkpoints.step_folder(workdir / checkpoints.FOLDER, step)
    for item in (checkpoints.MODEL, checkpoints.TRAINER):
        files = [path for path in (folder / item).rglob("*") if path.is_file()]
        yield max(files, key=lambda path: path.stat().st_size)
        yield folder / item / "manifest.ocdbt"
        yield folder / item / "_METADATA"


@pytest.mark.parametrize("damage", [truncate, flip])
@pytest.mark.parametrize("which", range(6))
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(run, copy, damage, which):
    damage(list(largest_files(copy, 30))[which])
    with pytest.warns(UserWarning, match="checkpoint 30 is not usable"):
        state = newest(copy)
    assert state is not None
    assert same_state(state, run, 20)
    assert checkpoints.steps(copy) == [0, 10, 20]
    assert (copy / "checkpoints_unusable" / "00000030").is_dir(), "moved aside, not deleted"


def test_every_file_of_a_checkpoint_harmless_or_noticed(run, copy):
    """No single flipped bit anywhere gives other numbers than those that were saved."""
    folder = checkpoints.step_folder(copy / checkpoints.FOLDER, 30)
    wrong = []
    for path in [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]:
        original = path.read_bytes()
        flip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = newest(copy)
        assert state is not None
        if not same_state(state, run, int(state.step)):
            wrong.append(path.name)
        aside = copy / "checkpoints_unusable" / "00000030"
        if aside.exists():
            aside.rename(folder)
        path.write_bytes(original)
    assert wrong == []


def test_a_write_that_was_cut_off_is_not_a_checkpoint(copy):
    folder = copy / checkpoints.FOLDER
    (folder / "00000030").rename(folder / "00000030.orbax-checkpoint-tmp")
    assert checkpoints.steps(copy) == [0, 10, 20]
    state = newest(copy)
    assert state is not None
    assert int(state.step) == 20


def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(run, copy):
    truncate(next(largest_files(copy, 30)))
    (copy / "summary.json").unlink()
    with pytest.warns(UserWarning, match="checkpoint 30 is not usable"):
        summary = train_and_evaluate(small(copy, steps=30), copy)
    assert summary["resumed_from"] == 20
    assert (run / "metrics.jsonl").read_bytes() == (copy / "metrics.jsonl").read_bytes()
    chex.assert_trees_all_equal(saved_arrays(run, 30), saved_arrays(copy, 30))


def test_none_usable_is_an_error_and_nothing_is_moved(copy):
    for step in (0, 10, 20, 30):
        truncate(next(largest_files(copy, step)))
    with pytest.raises(CheckpointError, match="none of the 4 checkpoints in .* is usable"):
        newest(copy)
    assert checkpoints.steps(copy) == [0, 10, 20, 30]


def test_a_new_run_has_none(tmp_path):
    assert newest(tmp_path) is None


def test_keep_preserves_the_newest_and_the_first(tmp_path):
    train_and_evaluate(small(tmp_path, steps=40, keep=2), tmp_path)
    assert checkpoints.steps(tmp_path) == [0, 30, 40]


def test_restore_gives_the_model_of_any_step(run):
    for step in (0, 20):
        model = checkpoints.restore(run, step)
        kernel = saved_arrays(run, step)["model//item/params/head/kernel"]
        np.testing.assert_array_equal(model.head.kernel[...], kernel)
        x = jnp.ones((3, 8, 8, 1))
        np.testing.assert_array_equal(model(x), model(x))  # evaluation mode: no dropout
    assert jax.tree.all(jax.tree.map(np.array_equal, checkpoints.restore(run)(x), checkpoints.restore(run, 30)(x)))


def test_restore_says_what_is_wrong(run, copy, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint of step 19 in .*; the nearest is 20, the last 30"):
        checkpoints.restore(run, 19)
    with pytest.raises(ConfigError, match="no run in"):
        checkpoints.restore(tmp_path / "nothing", 0)
    flip(next(largest_files(copy, 20)))
    with pytest.raises(CheckpointError, match="checkpoint 20 in .* is not usable"):
        checkpoints.restore(copy, 20)
    shutil.rmtree(copy / checkpoints.FOLDER)
    with pytest.raises(CheckpointError, match="no checkpoints in"):
        checkpoints.restore(copy, 20)
    assert checkpoints.steps(copy) == []


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8, jnp.uint32, jnp.bool_, jnp.complex64])
def test_one_flipped_bit_changes_the_checksum(dtype):
    array = np.asarray(jnp.arange(1, 14).astype(dtype))
    seen = {int(checkpoints._checksum(jnp.asarray(array)))}
    raw = array.view(np.uint8)
    for bit in range(8 if dtype != jnp.bool_ else 1):
        other = raw.copy()
        other[5] ^= 1 << bit
        seen.add(int(checkpoints._checksum(jnp.asarray(other.view(array.dtype)))))
    assert len(seen) == (9 if dtype != jnp.bool_ else 2)
