"""Shared test setup: a persistent compilation cache and reproducible keys."""

from __future__ import annotations

import os
import pathlib

# xdist already fills the cores: LAPACK's own threads would only spin against the other workers (100× slower when they do).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest


@pytest.fixture
def key() -> jax.Array:
    """The PRNG key that a test derives all its randomness from."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Run one test in double precision."""
    with jax.enable_x64(True):
        yield


# Known failures, listed so that they are seen in every run's summary; each leaves this list with its fix.
KNOWN_FAILURES = (
    "fuss_catalan.FussCatalan",
    "law.Law.moment",
    "law.Law.pdf",
    "marchenko_pastur.MarchenkoPastur",
    "mean_field.MeanField",
    "mean_field.critical_line",
    "s_transform.numerical_s_transform",
    "tracy_widom.TracyWidom.wishart",
    "tracy_widom.fredholm_determinant",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.split("::")[-1].endswith(KNOWN_FAILURES):
            item.add_marker(pytest.mark.xfail(reason="unfinished, see KNOWN_FAILURES in tests/conftest.py", run=False))
