"""Checkpoints shared among processes: one claims a checkpoint by a lock that the system gives back if it dies.

The processes may belong to one analysis or to several that were started on their own, on one machine.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import multiprocessing
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from train import files
from train.errors import ConfigError

R = TypeVar("R")

CLAIMS = ".claims"
RESTARTS = 3  # times that processes may die one after the other without getting anything done


@contextlib.contextmanager
def claim(folder: pathlib.Path, name: str, wait: bool) -> Iterator[bool]:
    """Hold `name` for this process while the block runs; True if it is held.

    Args:
        folder: what the name is about; the lock is a file in its folder .claims.
        name: such as "step_00000100".
        wait: until another process has given it back; otherwise False comes at once.

    Raises:
        OSError: when the folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> with claim(folder, "step_1", wait=False) as mine, claim(folder, "step_1", wait=False) as again:
        ...     print(mine, again)
        True False
    """
    files.make_folder(folder / CLAIMS)
    with open(folder / CLAIMS / name, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def shared_out(work: Callable[[int, int], R], steps: list[int], processes: int) -> Iterator[R]:
    """The results of work(threads, step) as they come, from this process or from several that share the cores.

    A process that is killed takes nothing with it: what it had not done is done by others.

    Raises:
        ConfigError: when processes keep dying before they get anything done.
    """
    threads = max(1, (os.cpu_count() or 1) // max(1, processes))
    if processes <= 1:
        yield from (work(threads, step) for step in steps)
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share one accelerator
    left, deaths = list(steps), 0
    while left:
        before = len(left)
        for step, result in _one_pool(work, threads, left, min(processes, len(left))):
            left.remove(step)
            yield result
        deaths = deaths + 1 if left and len(left) == before else 0
        if deaths == RESTARTS:
            raise ConfigError(
                f"analysing processes died {RESTARTS} times at step {left[0]} or near it, for want of memory perhaps; "
                "what is done is kept; try fewer --processes or --inputs"
            )
        if left:
            warnings.warn(f"an analysing process died; {len(left)} checkpoints go to others", stacklevel=3)


def _one_pool(work: Any, threads: int, steps: list[int], processes: int) -> Iterator[tuple[int, Any]]:
    """Steps with their results, up to the death of a process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = {pool.submit(work, threads, step): step for step in steps}
        try:
            for future in concurrent.futures.as_completed(futures):
                try:
                    result = future.result()
                except BrokenProcessPool:
                    continue
                yield futures[future], result
        finally:
            for future in futures:
                future.cancel()
