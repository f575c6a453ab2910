"""Arrays out of the files of others, by name: safetensors, .npz, Flax's msgpack and Orbax folders; and into a model.

Nothing in such a file is ever executed.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
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

FORMATS = ".safetensors, .npz, Flax msgpack, or a folder of Orbax"


class UnreadableFileError(LinearAlgebraError):
    """A file of arrays that is missing, truncated, damaged or of another format.

    Example:
        >>> issubclass(UnreadableFileError, LinearAlgebraError)
        True
    """


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name.

    Args:
        path: of a file as safetensors, NumPy's .npz or `flax.serialization` write it, whose content and not its name
            says which it is; or a folder of Orbax, of one step, or of several, of which the last one is taken.

    Returns:
        name → array, in the file's order; half precision stays what it is. The names of nested dicts are joined by "/".

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
    if path.is_dir():
        return _orbax(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from None
    if data[:4] == b"PK\x03\x04":
        return _npz(path)
    if len(data) >= 9 and data[8:9] == b"{":
        return _safetensors(path, data)
    if data and (0x81 <= data[0] <= 0x8F or data[0] in (0xDE, 0xDF)):  # a map with entries
        return _msgpack(path, data)
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


def _msgpack(path: pathlib.Path, data: bytes) -> dict[str, np.ndarray]:
    """What `flax.serialization` writes: nested maps, with arrays as (shape, dtype, bytes) of extension type 1."""
    import msgpack

    def extension(code: int, body: bytes) -> Any:
        if code not in (1, 3):  # arrays and NumPy's numbers
            raise ValueError(f"extension type {code} is no array")
        shape, dtype, raw = msgpack.unpackb(body)
        name = dtype if isinstance(dtype, str) else dtype.decode()
        return np.frombuffer(raw, jnp.bfloat16 if name == "bfloat16" else np.dtype(name)).reshape(shape)

    try:
        return dict(_flat(msgpack.unpackb(data, ext_hook=extension, strict_map_key=False)))
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        why = " ".join(str(error).split())
        raise UnreadableFileError(f"{path} is no msgpack file of Flax, or is truncated or damaged: {why}") from None


def _flat(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of the leaves of nested dicts and lists."""
    if isinstance(tree, Mapping) and tree.get("__msgpack_chunked_array__"):
        shape = tuple(tree["shape"].values())
        yield "/".join(path), np.concatenate(list(tree["chunks"].values())).reshape(shape)
    elif isinstance(tree, (Mapping, list, tuple)):
        for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from _flat(value, (*path, str(key)))
    elif isinstance(tree, (np.ndarray, jax.Array, int, float, complex)):
        yield "/".join(path), np.asarray(tree)


def _orbax(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of one step; of a folder of steps the last one, of several items all, by the items' names."""
    import orbax.checkpoint as ocp  # type: ignore[import-not-found]

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what matters is raised
    folder = path.absolute()
    steps = [child for child in folder.iterdir() if child.is_dir() and child.name.rpartition("_")[2].isdecimal()]
    if steps and not _is_item(folder):
        folder = max(steps, key=lambda step: int(step.name.rpartition("_")[2]))
    items = [folder] if _is_item(folder) else sorted(c for c in folder.iterdir() if c.is_dir() and _is_item(c))
    if not items:
        raise UnreadableFileError(f"{path} is no folder of Orbax: neither it nor a step in it has a _METADATA file")
    found: dict[str, np.ndarray] = {}
    for item in items:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ocp.PyTreeCheckpointer().restore(item)
        except Exception as error:  # Orbax raises many kinds for a damaged file
            why = " ".join(str(error).split())[:120] or type(error).__name__
            raise UnreadableFileError(f"{item} is truncated or damaged: {why}") from None
        found |= dict(_flat(tree, () if len(items) == 1 else (item.name,)))
    return found


def _is_item(folder: pathlib.Path) -> bool:
    return (folder / "_METADATA").exists()


# --- into a model ---


def with_arrays(model: Any, arrays: Mapping[str, Any], mapping: Mapping[str, str] | None = None) -> Any:
    """A model with the arrays of a file in place of its own, matched by name.

    Args:
        model: a pytree with arrays: an NNX module, an equinox module, functions with parameters, or a pair (Linen
            module, variables).
        arrays: as from `read_arrays`. A name is a path of attributes, keys and numbers, separated by "/" or "."; a
            "params" in front and a "value" behind do not count.
        mapping: names in the model → names in the file, for those that differ.

    Returns:
        The model, a copy; arrays keep the model's dtypes.

    Raises:
        UnreadableFileError: if arrays of the model are missing, have other shapes or hold NaN or infinity, or if arrays
            of the file are left over; it lists them, with the nearest names. Counters, random streams and the file's
            optimiser state need no partner.

    Cost: a copy.

    Example:
        >>> model = {"head": {"kernel": jnp.zeros((2, 3))}}
        >>> float(with_arrays(model, {"head.kernel": np.ones((2, 3))})["head"]["kernel"].sum())
        6.0
    """
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[1], Mapping):  # (Linen module, variables)
        return model[0], with_arrays(model[1], arrays, mapping)
    renamed = {_plain(there): _plain(here) for here, there in (mapping or {}).items()}
    given = {renamed.get(_plain(name), _plain(name)): (name, np.asarray(array)) for name, array in arrays.items()}
    leaves, tree = jax.tree.flatten_with_path(model)
    missing, shapes, broken, placed, used = [], [], [], [], set()
    for path, leaf in leaves:
        name = _plain("/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path))
        if name in given:
            used.add(name)
            array = given[name][1]
            if array.shape != jnp.shape(leaf):
                shapes.append(f"{name!r} is {list(array.shape)} in the file, {list(jnp.shape(leaf))} in the model")
            elif jnp.issubdtype(array.dtype, jnp.inexact) and not np.isfinite(array.astype(np.float64)).all():
                broken.append(f"{given[name][0]!r} holds NaN or infinity")
            placed.append(jnp.asarray(array, jnp.result_type(leaf)) if array.shape == jnp.shape(leaf) else leaf)
        else:
            placed.append(leaf)
            if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact):
                missing.append(name)
    state = ("opt_state", "optimizer", "step", "rng", "rngs", "count")
    unexpected = [name for name in given if name not in used and not set(name.split("/")) & set(state)]
    problems = [*shapes, *broken]
    for kind, names, others in (("missing", missing, unexpected), ("unexpected", unexpected, missing)):
        for name in names:
            near = difflib.get_close_matches(name, others, 1, 0.5)
            problems.append(f"{kind}: {name!r}" + (f" (nearest: {near[0]!r})" if near else ""))
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise UnreadableFileError(
            "the file does not fit the model: " + "; ".join(problems[:8]) + more + "; rename them by a mapping"
        )
    return jax.tree.unflatten(tree, placed)


def _plain(name: str) -> str:
    parts = [part for part in name.replace(".", "/").split("/") if part]
    parts = parts[1:] if parts[:1] == ["params"] else parts
    return "/".join(parts[:-1] if parts[-1:] == ["value"] else parts)
