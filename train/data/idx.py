"""MNIST and Fashion-MNIST from their idx files, plain or gzipped."""

from __future__ import annotations

import gzip
import pathlib
import zlib

import numpy as np

from train.data import Arrays, Data
from train.errors import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def load(data_dir: str, split_seed: int = 0) -> Data:
    """Read the four idx files of MNIST or of Fashion-MNIST from `data_dir`: images [N, 28, 28, 1] in 0…255.

    Raises:
        DataError: when no folder is given, a file is missing, truncated or not idx, or the counts differ.
    """
    if not data_dir:
        raise DataError(
            f"this task reads {FILES['train'][0]}[.gz] and its three companions; name their folder by --data_dir"
        )
    return Data(*(_part(pathlib.Path(data_dir), *FILES[part]) for part in ("train", "test")))


def _part(folder: pathlib.Path, image_name: str, label_name: str) -> Arrays:
    image, label = read(_find(folder, image_name)), read(_find(folder, label_name))
    if image.ndim != 3 or label.ndim != 1 or len(image) != len(label):
        raise DataError(
            f"{folder}: {image_name} has shape {image.shape}, {label_name} {label.shape}; they don't belong together"
        )
    return {"image": image[..., None], "label": label.astype(np.int32)}


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
    # Both spellings are in circulation: train-images-idx3-ubyte and train-images.idx3-ubyte.
    for candidate in (name, name.replace("-idx", ".idx")):
        for path in (folder / candidate, folder / f"{candidate}.gz"):
            if path.is_file():
                return path
    raise DataError(f"--data_dir={folder} has no {name} or {name}.gz")


def read(path: pathlib.Path) -> np.ndarray:
    """Read one idx file of unsigned bytes (header: 0, 0, 8, number of axes, each size as a big-endian uint32).

    Raises:
        DataError: when the file is truncated, has bytes left over, or is not an idx file of bytes.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is truncated or not a gzip file: {error}") from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an idx file of bytes: it begins with {content[:4].hex() or 'nothing'}")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{path} is truncated in its header: {len(content)} bytes")
    shape = tuple(np.frombuffer(content[4:start], ">u4").astype(int))
    expected = start + int(np.prod(shape))
    if len(content) != expected:
        kind = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{path} is {kind}: {len(content)} bytes where its header says {expected}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
