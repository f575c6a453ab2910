"""`Latent`: the distribution that a generator maps to data, one Gaussian or a mixture of narrow ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from lax_linalg.errors import DimensionMismatch, LinearAlgebraError
from models.checks import positive


class Latent(nnx.Module):
    """Standard Gaussian numbers to latent vectors: as they are, or moved into a mixture of narrow Gaussians.

    A continuous map sends one Gaussian to a connected set: between separate modes it leaves samples, at least as many
    as the boundaries between their preimages weigh over its Lipschitz constant. A mixture z = c_k + s n of `components`
    fixed centres c_k ~ N(0, (1 − s²) I), equally likely, needs no such bridges.

    Args:
        size: of z.
        components: K; 1 is the standard Gaussian.
        deviation: s in (0, 1), of each component.
        rngs: source of the centres, which are not trained.

    Raises:
        DimensionMismatch: for sizes < 1.
        LinearAlgebraError: for a deviation outside (0, 1).

    Example:
        >>> latent = Latent(3, components=10, rngs=nnx.Rngs(0))
        >>> latent.numbers, latent(jnp.zeros((5, latent.numbers))).shape
        (4, (5, 3))

    Source: Gurumurthy, Sarvadevabhatla and Babu, arXiv:1706.02071 (mixture; there the centres are trained); Tanielian,
    Issenhuth, Dohmatob and Mary, arXiv:2006.04596 (what one Gaussian cannot do).
    """

    def __init__(self, size: int, *, components: int = 1, deviation: float = 0.1, rngs: nnx.Rngs):
        self.size, self.components = positive("latent", size), positive("latent_components", components)
        if not 0 < deviation < 1:
            raise LinearAlgebraError(f"latent_deviation must lie in (0, 1), got {deviation!r}")
        self.deviation = float(deviation)
        if components > 1:
            width = (1 - self.deviation**2) ** 0.5
            self.centres = nnx.Variable(width * jax.random.normal(rngs.params(), (components, size)))

    @property
    def numbers(self) -> int:
        """How many Gaussian numbers make one latent vector: one more than its size when a component is to be drawn."""
        return self.size + (self.components > 1)

    def __call__(self, noise: jax.Array) -> jax.Array:
        if noise.shape[-1] < self.numbers:
            raise DimensionMismatch(
                f"latent vectors of size {self.size} take {self.numbers} Gaussian numbers, {noise.shape[-1]} are given"
            )
        z = noise[..., : self.size]
        if self.components == 1:
            return z
        share = jax.scipy.stats.norm.cdf(noise[..., self.size])  # uniform on [0, 1]
        index = jnp.minimum((self.components * share).astype(jnp.int32), self.components - 1)
        return self.centres[...][index] + self.deviation * z
