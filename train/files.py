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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextlib.contextmanager
def lock(directory: pathlib.Path) -> Iterator[None]:
    """Hold `directory`, made when missing, for this process; a process that dies gives it back however it dies.

    Raises:
        ConfigError: when another process holds it.
        OSError: when the directory cannot be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{directory} is in use by another run that is still going on") from None
        yield
