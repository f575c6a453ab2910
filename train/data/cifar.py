"""CIFAR-10 from its binary files: records of one label byte and 3,072 image bytes, channel by channel."""

from __future__ import annotations

import pathlib

import numpy as np

from train.data import Arrays, Data
from train.errors import DataError

TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = ("test_batch.bin",)
RECORD = 1 + 3 * 32 * 32


def load(data_dir: str, split_seed: int = 0) -> Data:
    """Read data_batch_1…5.bin and test_batch.bin from `data_dir`: images [N, 32, 32, 3] in 0…255.

    Raises:
        DataError: when no folder is given, or a file is missing, truncated or holds labels above 9.
    """
    if not data_dir:
        raise DataError(f"this task reads {', '.join(TRAIN + TEST)}; name their folder by --data_dir")
    return Data(*(_part(pathlib.Path(data_dir), names) for names in (TRAIN, TEST)))


def _part(folder: pathlib.Path, names: tuple[str, ...]) -> Arrays:
    records = np.concatenate([_read(folder / name) for name in names])
    image = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return {"image": np.ascontiguousarray(image), "label": records[:, 0].astype(np.int32)}


def _read(path: pathlib.Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"--data_dir={path.parent} has no {path.name}")
    content = np.fromfile(path, np.uint8)
    if content.size == 0 or content.size % RECORD:
        raise DataError(f"{path} is truncated: {content.size} bytes is not a positive multiple of {RECORD}")
    records = content.reshape(-1, RECORD)
    if records[:, 0].max() > 9:
        raise DataError(f"{path} is not a CIFAR-10 file: it has a label of {records[:, 0].max()}")
    return records
