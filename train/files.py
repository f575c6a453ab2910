"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from train.errors import ConfigError


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write `content` to `path` so that a kill at any instant leaves the old file or the new one."""
    make_folder(path.parent)
    if path.is_dir():
        raise ConfigError(f"{path} cannot be written: it is a folder")
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def make_folder(directory: pathlib.Path) -> None:
    """Make `directory` and those above it where they are missing.

    Raises:
        ConfigError: when a file lies in the way.
        OSError: when it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (directory, *directory.parents) if path.exists())
        raise ConfigError(f"{directory} cannot be made: {file} is a file, not a folder") from None


@contextlib.contextmanager
def lock(directory: pathlib.Path) -> Iterator[None]:
    """Hold `directory`, made when missing, for this process; a process that dies gives it back however it dies.

    Raises:
        ConfigError: when another process holds it, or a file lies in its way.
        OSError: when the directory cannot be made or written.
    """
    make_folder(directory)
    with open(directory / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{directory} is in use by another run that is still going on") from None
        yield
