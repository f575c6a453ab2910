"""Augmentation and loss of the image tasks, against SciPy and NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, special

from train.tasks.classification import cross_entropy, shift, standardise, warp

IMAGES = np.random.default_rng(0).integers(0, 17, (40, 8, 6, 2)).astype(np.uint8)


def test_warp_is_scipys_affine_transform_of_each_image(key):
    limit, degrees, zoom = 1.0, 25.0, 0.2
    warped = np.asarray(warp(key, {"image": IMAGES, "label": np.arange(40)}, limit, degrees, zoom)["image"])
    angle, scale, down, right = np.asarray(jax.random.uniform(key, (4, 40), minval=-1.0), np.float64)
    centre = np.array([3.5, 2.5])
    for i, image in enumerate(IMAGES):
        a = np.deg2rad(degrees) * angle[i]
        matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) / (1 + zoom * scale[i])
        offset = centre - matrix @ centre + limit * np.array([down[i], right[i]])
        for channel in range(2):
            # outside the image SciPy's grid-constant is zero too, and blends into it at the edge
            expected = ndimage.affine_transform(
                image[..., channel].astype(float), matrix, offset, order=1, mode="grid-constant"
            )
            inside = ndimage.affine_transform(np.ones((8, 6)), matrix, offset, order=1, mode="constant") == 1
            np.testing.assert_allclose(warped[i, ..., channel][inside], expected[inside], atol=2e-4)
    assert np.abs(warped - IMAGES).max() > 1


def test_warp_by_nothing_changes_nothing(key):
    batch = warp(key, {"image": IMAGES, "label": np.arange(40)}, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(batch["image"], IMAGES, atol=1e-5)
    np.testing.assert_array_equal(batch["label"], np.arange(40))


def test_shift_moves_each_image_by_whole_pixels_in_every_direction(key):
    moved = np.asarray(shift(key, {"image": jnp.asarray(IMAGES)}, 1)["image"])
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)))
    seen = set()
    for i in range(len(IMAGES)):
        found = [
            (a, b) for a in range(3) for b in range(3) if np.array_equal(moved[i], padded[i, a : a + 8, b : b + 6])
        ]
        assert len(found) == 1
        seen |= set(found)
    assert len(seen) == 9


def test_the_draws_are_a_function_of_the_key(key):
    batch = {"image": jnp.asarray(IMAGES)}
    for augment in (lambda key: shift(key, batch, 1), lambda key: warp(key, batch, 1.0, 10.0, 0.1)):
        once, again, other = augment(key), augment(key), augment(jax.random.fold_in(key, 1))
        assert np.array_equal(once["image"], again["image"])
        assert not np.array_equal(once["image"], other["image"])


def test_cross_entropy_is_scipys():
    rng = np.random.default_rng(1)
    logits, label = rng.normal(size=(30, 10)).astype(np.float32) * 5, rng.integers(0, 10, 30)
    measured = cross_entropy(lambda x: x, {"input": jnp.asarray(logits), "label": jnp.asarray(label)})
    exact = -special.log_softmax(logits.astype(np.float64), axis=1)[np.arange(30), label]
    np.testing.assert_allclose(measured["loss"], exact, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(measured["accuracy"], logits.argmax(1) == label)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_standardised_images(dtype):
    batch = standardise({"image": jnp.asarray(IMAGES.astype(dtype))}, (3.0, 5.0), (2.0, 4.0))
    np.testing.assert_allclose(batch["input"], (IMAGES - np.array([3.0, 5.0])) / np.array([2.0, 4.0]), rtol=1e-6)
