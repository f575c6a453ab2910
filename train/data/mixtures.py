"""Mixtures of Gaussians in the plane: a ring of 8 and a grid of 25, the benchmarks of mode collapse."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from train.data import Arrays, Data


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """Equally likely modes with the same deviation σ in every direction.

    Attributes:
        centres: [modes, 2].
        sigma: σ > 0.
    """

    centres: np.ndarray
    sigma: float

    def load(self, data_dir: str = "", split_seed: int = 0) -> Data:
        """100,000 training points and 2,500 for the evaluation, each with a latent vector.

        Example:
            >>> data = ring().load()
            >>> data.train["point"].shape, data.test["point"].shape
            ((100000, 2), (2500, 2))
        """
        return Data(self.sample(100_000, split_seed), self.sample(2_500, split_seed + 1))

    def sample(self, count: int, seed: int) -> Arrays:
        """`count` points, as a function of the seed."""
        rng = np.random.default_rng([seed, len(self.centres)])
        mode = rng.integers(len(self.centres), size=count)
        point = self.centres[mode] + self.sigma * rng.standard_normal((count, 2))
        latent = rng.standard_normal((count, LATENT))
        return {"point": point.astype(np.float32), "latent": latent.astype(np.float32)}


LATENT = 64  # the first ones are used, as many as the generator takes


@functools.cache
def ring() -> Mixture:
    """8 modes on the unit circle, σ = 0.01.

    Example:
        >>> ring().centres.shape
        (8, 2)
    """
    angle = 2 * np.pi * np.arange(8) / 8
    return Mixture(np.stack([np.cos(angle), np.sin(angle)], axis=-1), 0.01)


@functools.cache
def grid() -> Mixture:
    """25 modes at (−4 + 2i, −4 + 2j), σ = 0.05.

    Example:
        >>> grid().centres.shape
        (25, 2)
    """
    axis = np.arange(-4.0, 5.0, 2.0)
    return Mixture(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), 0.05)
