"""Code run in a process of its own that emulates eight devices."""

from __future__ import annotations

import os
import subprocess
import sys

HEAD = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from train.sharding import data_mesh
mesh = data_mesh(True, 8)
assert mesh.size == 8
"""


def on_eight_devices(code: str) -> None:
    """Run `code` with jax, jnp, np, NamedSharding, PartitionSpec and `mesh` (8 devices); fail if it does."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", HEAD + code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
