"""Arrays and parameters drawn by NumPy: nothing is compiled for them, as it is for every shape by `jax.random`."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx


def draw(seed: int, *shape: int, scale: float = 1.0, dtype: Any = np.float32) -> jax.Array:
    """Normal numbers."""
    return jnp.asarray((scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype))


def parameters(shapes: Any, seed: int = 0) -> Any:
    """Numbers for a tree of shapes: kernels over the root of their fan-in, small vectors, positive variances."""

    def fill(path: Any, leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(np.zeros((*leaf.shape, 2), np.uint32)))
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(np.zeros(leaf.shape, leaf.dtype))
        name = jax.tree_util.keystr(path)
        x = np.random.default_rng((seed, zlib.crc32(name.encode()))).standard_normal(leaf.shape)
        x = np.exp(x / 4) if "var" in name else x / math.prod(leaf.shape[:-1]) ** 0.5 if len(leaf.shape) > 1 else x / 4
        return jnp.asarray(x.astype(leaf.dtype))

    return jax.tree_util.tree_map_with_path(fill, shapes)


def module(make: Callable[[], Any], seed: int = 0) -> Any:
    """The NNX module that `make` makes, with parameters from NumPy."""
    graphdef, state = nnx.split(nnx.eval_shape(make))
    return nnx.merge(graphdef, parameters(state, seed))


def variables(module: linen.Module, x: jax.Array) -> Any:
    """Those of a Linen module, from NumPy."""
    return parameters(jax.eval_shape(module.init, jax.random.key(0), x))
