"""What XLA compiles while a test runs, in every thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
import numpy as np


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """A list that gains an entry for each program compiled inside of the block; it is tried that it does."""
    compiled: list[str] = []

    def count(event: str, duration: float, **details) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        yield compiled
        before = len(compiled)
        jax.jit(lambda x: x * 3.125)(np.ones(3)).block_until_ready()
        assert len(compiled) > before, "the counter must see a compilation"
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
