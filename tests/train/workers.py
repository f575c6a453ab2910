"""Work for processes of their own that imports nothing heavy."""

from __future__ import annotations

import os
import pathlib
import signal


def dies_once(folder: str, threads: int, step: int) -> tuple[int, int]:
    """`step` and the process's number; the first process that gets step 2 is killed."""
    mark = pathlib.Path(folder) / "died"
    if step == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step, os.getpid()


def always_dies(threads: int, step: int) -> int:
    """Killed at step 1, whoever does it."""
    if step == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step
