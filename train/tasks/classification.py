"""Image classification: cross-entropy on standardised images, random shifts or warps as the augmentation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from train.data import Data, cifar, digits, idx, mnist_subset
from train.tasks.base import Batch, Task, tasks


def standardise(batch: Batch, mean: tuple[float, ...], std: tuple[float, ...]) -> Batch:
    """(image − mean) / std per channel, in single precision, under "input"."""
    image = batch["image"].astype(jnp.float32)
    return {**batch, "input": (image - jnp.array(mean, jnp.float32)) / jnp.array(std, jnp.float32)}


def shift(key: jax.Array, batch: Batch, limit: int) -> Batch:
    """Move each image by up to `limit` pixels along both axes, filling with zeros."""
    image = batch["image"]
    count, height, width, channels = image.shape
    padded = jnp.pad(image, ((0, 0), (limit, limit), (limit, limit), (0, 0)))
    corner = jax.random.randint(key, (count, 2), 0, 2 * limit + 1)

    def window(padded_image: jax.Array, at: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(padded_image, (at[0], at[1], 0), (height, width, channels))

    return {**batch, "image": jax.vmap(window)(padded, corner)}


def warp(key: jax.Array, batch: Batch, limit: float, degrees: float, zoom: float) -> Batch:
    """Turn, scale and move each image a little, as different hands write: bilinear, filled with zeros.

    A pixel at r from the centre shows what was at (R r)/s + t: R the rotation by up to ±`degrees`, s within 1 ± `zoom`,
    t up to ±`limit` pixels along both axes, each uniform and drawn for every image alone.
    """
    image = batch["image"].astype(jnp.float32)
    count, height, width, _ = image.shape
    angle, scale, *move = jax.random.uniform(key, (4, count), minval=-1.0)
    angle, scale = jnp.deg2rad(degrees) * angle, 1 + zoom * scale
    centre = (jnp.array([height, width]) - 1) / 2
    rows, columns = jnp.meshgrid(jnp.arange(height) - centre[0], jnp.arange(width) - centre[1], indexing="ij")

    def one(image: jax.Array, angle: jax.Array, scale: jax.Array, down: jax.Array, right: jax.Array) -> jax.Array:
        cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
        at = [cos * rows - sin * columns + centre[0] + down, sin * rows + cos * columns + centre[1] + right]
        channel = functools.partial(jax.scipy.ndimage.map_coordinates, coordinates=at, order=1)
        return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)

    return {**batch, "image": jax.vmap(one)(image, angle, scale, *(limit * by for by in move))}


def cross_entropy(model: Any, batch: Batch) -> dict[str, jax.Array]:
    """Cross-entropy of softmax(model(input)) with the label, and whether the largest logit is the label's; each [B]."""
    logits = model(batch["input"])
    return {
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]),
        "accuracy": (jnp.argmax(logits, -1) == batch["label"]).astype(logits.dtype),
    }


def classification(
    load: Callable[[str, int], Data],
    input_shape: tuple[int, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augment: Callable[[jax.Array, Batch], Batch],
) -> Task:
    """A ten-class task on the images that `load` reads, whose channels have this mean and standard deviation."""
    return Task(
        input_shape=input_shape,
        num_classes=10,
        load=load,
        prepare=functools.partial(standardise, mean=mean, std=std),
        augment=augment,
        per_example=cross_entropy,
    )


def _by(limit: int) -> Callable[[jax.Array, Batch], Batch]:
    return functools.partial(shift, limit=limit)


_hands = functools.partial(warp, limit=1.0, degrees=10.0, zoom=0.1)
tasks.register("digits")(classification(digits.load, (8, 8, 1), (4.88,), (6.02,), _hands))
tasks.register("mnist")(classification(idx.load, (28, 28, 1), (33.3,), (78.6,), _by(2)))
tasks.register("mnist_5k")(classification(mnist_subset.load, (28, 28, 1), (33.3,), (78.6,), _by(2)))
tasks.register("fashion_mnist")(classification(idx.load, (28, 28, 1), (72.9,), (90.0,), _by(2)))
tasks.register("cifar10")(classification(cifar.load, (32, 32, 3), (125.3, 123.0, 113.9), (63.0, 62.1, 66.7), _by(4)))
