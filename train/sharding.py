"""Where arrays live: one mesh axis, `data`, over which a batch is split while the state is the same on every device."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.errors import ConfigError


def data_mesh(data_parallel: bool, batch_size: int) -> Mesh:
    """A mesh of all devices, or of the first one alone.

    Raises:
        ConfigError: when the batch cannot be split evenly.
    """
    devices = jax.devices() if data_parallel else jax.devices()[:1]
    if batch_size % len(devices):
        raise ConfigError(
            f"--batch_size={batch_size} must be a multiple of the {len(devices)} devices of --data_parallel"
        )
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """The first axis in equal parts over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def first_device(tree):
    """A replicated tree's copy on the first device, without a transfer: for programs that run there alone."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)
