"""Shared test setup: a persistent compilation cache and reproducible keys."""

from __future__ import annotations

import os
import pathlib

# xdist already fills the cores: LAPACK's own threads would only spin against the other workers (100× slower).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# So XLA gets one thread, too; with more, calls of LAPACK for stacks can wait for each other
# (lax_linalg/dense/platform.py).
os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import chex
import hypothesis
import jax
import pytest

from tests import selection

# The same examples in every run, so that what passed passes again; `make test-all` draws new ones.
hypothesis.settings.register_profile("reproducible", derandomize=True)
hypothesis.settings.register_profile("random")
hypothesis.settings.load_profile("reproducible")


@pytest.fixture
def key() -> jax.Array:
    """The PRNG key that a test derives all its randomness from."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Run one test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def _traces_are_counted_anew():
    """`chex.assert_max_traces` counts over all parameters of a test."""
    chex.clear_trace_counter()


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_go_with_their_file():
    """Free what a file of tests compiled: all of it together takes gigabytes."""
    yield
    jax.clear_caches()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in the list of tests that only `make test-all` runs."""
    names = selection.listed()
    for item in items:
        if selection.deep(item.nodeid, names):
            item.add_marker(pytest.mark.deep)
