"""Generation: a GAN against points of a mixture or images of digits, with modes covered and the share of good samples.

The protocol for mixtures is PacGAN's (Lin et al., arXiv:1712.04086, section 4.1): 2,500 samples; one is of high quality
when it is within three standard deviations of the nearest mode, which then counts as covered.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError
from train.data import Arrays, Data, digits, mixtures
from train.tasks.base import Batch, Task, tasks


def adversarial(model: Any, batch: Batch) -> dict[str, jax.Array]:
    """The sum of both players' losses, whose gradient is each player's own, and the two apart; each [B].

    Raises:
        LinearAlgebraError: when the model has no two players.
    """
    if not hasattr(model, "losses"):
        raise LinearAlgebraError(
            f"this task trains two networks against each other: use --model=gan, not {type(model)}"
        )
    training = not getattr(model, "deterministic", True)
    critic, judge, _ = model.losses(batch["input"], None if training else batch["latent"])
    return {"loss": critic + judge, "discriminator_loss": critic, "generator_loss": judge}


def coverage(samples: jax.Array, centres: jax.Array, sigma: float) -> dict[str, jax.Array]:
    """Modes that have a sample within 3σ, and the share of such samples.

    Args:
        samples: [N, d].
        centres: [modes, d].
        sigma: standard deviation in each direction, or one for each mode [modes].

    Returns:
        "modes" (a count) and "high_quality" (in [0, 1]).

    Example:
        >>> found = coverage(jnp.array([[0.0, 0.0], [0.1, 0.0], [9.0, 0.0]]), jnp.array([[0.0, 0.0], [5.0, 0.0]]), 0.1)
        >>> float(found["modes"]), round(float(found["high_quality"]), 3)
        (1.0, 0.667)
    """
    distance = jnp.linalg.norm(samples[:, None] - centres, axis=-1)
    nearest = jnp.argmin(distance, axis=1)
    good = jnp.min(distance, axis=1) < 3 * jnp.asarray(sigma)
    covered = jnp.zeros(len(centres)).at[nearest].max(good.astype(jnp.float32))
    return {"modes": jnp.sum(covered), "high_quality": jnp.mean(good.astype(jnp.float32))}


def mixture_task(mixture: mixtures.Mixture) -> Task:
    """Learn to sample a mixture of Gaussians in the plane."""

    def whole(model: Any, batch: Batch) -> dict[str, jax.Array]:
        samples = model.generator(model.latent(batch["latent"]))
        return coverage(samples, jnp.asarray(mixture.centres, jnp.float32), mixture.sigma)

    return Task(
        input_shape=(2,),
        num_classes=1,
        load=mixture.load,
        prepare=lambda batch: {**batch, "input": batch["point"]},
        augment=lambda key, batch: batch,
        per_example=adversarial,
        whole=whole,
    )


def digit_data(data_dir: str = "", split_seed: int = 0) -> Data:
    """The digit images, each with a latent vector."""
    data = digits.load(data_dir, split_seed)

    def with_latent(arrays: Arrays, seed: int) -> Arrays:
        rng = np.random.default_rng([split_seed, seed])
        latent = rng.standard_normal((len(arrays["label"]), mixtures.LATENT))
        return {**arrays, "latent": latent.astype(np.float32)}

    return Data(with_latent(data.train, 0), with_latent(data.test, 1))


@functools.cache
def digit_neighbours() -> tuple[np.ndarray, np.ndarray, float]:
    """The training images as vectors in [−1, 1], their labels, and how near 95 % of the test images are to one."""
    data = digits.load()
    train, test = (_scaled(part["image"]).reshape(-1, 64) for part in (data.train, data.test))
    gaps = np.sqrt(((test[:, None] - train) ** 2).sum(-1)).min(1)
    return train, data.train["label"], float(np.quantile(gaps, 0.95))


def digit_quality(model: Any, batch: Batch) -> dict[str, jax.Array]:
    """How near samples are to real images: "high_quality" is the share of samples that lie no further from the nearest
    training image than 95 % of the test images do, "modes" the number of digits among those by that neighbour's label.
    """
    train, labels, limit = digit_neighbours()
    samples = model.generator(model.latent(batch["latent"])).reshape(-1, 64)
    real = jnp.asarray(train)
    squares = jnp.sum(samples**2, -1)[:, None] - 2 * samples @ real.T + jnp.sum(real**2, -1)
    nearest = jnp.argmin(squares, axis=1)
    good = jnp.min(squares, axis=1) < limit**2
    covered = jnp.zeros(10).at[jnp.asarray(labels)[nearest]].max(good.astype(jnp.float32))
    return {"modes": jnp.sum(covered), "high_quality": jnp.mean(good.astype(jnp.float32))}


def _scaled(image: Any) -> Any:
    return image.astype(np.float32) / 8 - 1


tasks.register("ring")(mixture_task(mixtures.ring()))
tasks.register("grid")(mixture_task(mixtures.grid()))
tasks.register("digit_images")(
    Task(
        input_shape=(8, 8, 1),
        num_classes=1,
        load=digit_data,
        prepare=lambda batch: {**batch, "input": _scaled(batch["image"])},
        augment=lambda key, batch: batch,
        per_example=adversarial,
        whole=digit_quality,
    )
)
