"""Arrays out of the files of others, by name: safetensors and .npz. Nothing in such a file is ever executed."""

from __future__ import annotations

import json
import math
import pathlib
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""The number types of safetensors that are read."""

FORMATS = ".safetensors, .npz"


class UnreadableFileError(LinearAlgebraError):
    """A file of arrays that is missing, truncated, damaged or of another format.

    Example:
        >>> issubclass(UnreadableFileError, LinearAlgebraError)
        True
    """


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name.

    Args:
        path: of a .safetensors or .npz file; the content, not the name, says which it is.

    Returns:
        name → array, in the file's order; half precision stays what it is.

    Raises:
        UnreadableFileError: for a file that is missing, truncated, damaged, of another format, or that holds pickled
            objects, which are programs.

    Cost: one pass over the file.

    Source: the safetensors format, https://github.com/huggingface/safetensors: eight bytes with the length of a JSON
    header, little-endian, the header, and the raw arrays at the offsets that it gives.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/weights.npz", kernel=np.ones((2, 3)))
        ...     read_arrays(f"{folder}/weights.npz")["kernel"].shape
        (2, 3)
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from None
    if data[:4] == b"PK\x03\x04":
        return _npz(path)
    if len(data) >= 9 and data[8:9] == b"{":
        return _safetensors(path, data)
    raise UnreadableFileError(f"{path} is none of {FORMATS}: its first bytes are {data[:8]!r}; save the arrays as one")


def _npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        if "pickle" in str(error).lower():
            raise UnreadableFileError(
                f"{path} holds pickled objects, which are programs and are not read; save plain arrays"
            ) from None
        raise UnreadableFileError(f"{path} is truncated or damaged: {error}") from None


def _safetensors(path: pathlib.Path, data: bytes) -> dict[str, np.ndarray]:
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise UnreadableFileError(f"{path} is truncated: its header is {length} bytes, the whole file {len(data)}")
    try:
        header = json.loads(data[8 : 8 + length])
        entries = {
            str(name): (str(e["dtype"]), [int(n) for n in e["shape"]], *map(int, e["data_offsets"]))
            for name, e in header.items()
            if name != "__metadata__"
        }
        found = {}
        body = memoryview(data)[8 + length :]
        for name, (dtype, shape, start, end) in entries.items():
            if dtype not in DTYPES:
                raise UnreadableFileError(
                    f"{path}: {name!r} is of type {dtype}; what is read is {', '.join(DTYPES)}, so convert it first"
                )
            if end > len(body):
                raise UnreadableFileError(
                    f"{path} is truncated: {name!r} ends at byte {end} of the arrays, of which there are {len(body)}"
                )
            size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
            if min(shape, default=0) < 0 or start < 0 or end - start != size:
                raise UnreadableFileError(f"{path}: {name!r} of shape {shape} needs {size} bytes, got {end - start}")
            little = np.dtype(DTYPES[dtype])
            found[name] = np.frombuffer(body[start:end], little).reshape(shape)
    except UnreadableFileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFileError(f"{path} is no safetensors file: its header is damaged ({error})") from None
    return found
