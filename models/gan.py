"""`GAN`: a generator and a discriminator, spectrally normalised or not, for points and for small images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lax_linalg.core.registry import Registry
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from models.activations import Activation, activation
from models.catalog import registry
from models.checks import positive, sizes
from models.conv import Conv
from models.dense import Dense
from models.latent import Latent
from models.lipschitz import Part, slope
from models.orthogonal_layers import OrthogonalConv, OrthogonalDense
from models.spectral_norm import SpectralNorm

_activation = activation  # the constructor's argument of that name hides the function

NORMALISATIONS = ("spectral", "orthogonal", "none")

Losses = tuple[Callable[[jax.Array, jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]
gan_losses: Registry[Losses] = Registry("GAN loss")
"""Name -> (loss of the discriminator on its real and fake scores, loss of the generator on the fake scores)."""

gan_losses.register("hinge")(
    (lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake), lambda fake: -fake),
)
gan_losses.register("non_saturating")(
    (lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake), lambda fake: jax.nn.softplus(-fake)),
)


def _spread(layer: Any, distances: jax.Array) -> None:
    """Biases that put the hyperplane of each unit, w·x + b = 0, at its distance from the origin."""
    layer.bias[...] = distances * jnp.linalg.norm(layer.matrix(), axis=0)


class Generator(nnx.Module):
    """Latent vectors to points (a perceptron), or to images (dense, then twice the size by each convolution).

    Args:
        latent: size of z.
        output_shape: (n,) or (H, W, channels) with H and W even.
        widths: hidden sizes; for images, of the dense part, and `channels` of the small image.
        channels: of the half-size image.
        activation: name or function φ.
        spread: start with the kinks of the first layer at Gaussian distances of this deviation from the origin, as the
            latent vectors lie, and not all at the origin.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for images of odd size.

    Example:
        >>> Generator(2, (8, 8, 1), rngs=nnx.Rngs(0))(jnp.ones((3, 2))).shape
        (3, 8, 8, 1)
    """

    def __init__(
        self,
        latent: int,
        output_shape: Sequence[int],
        *,
        widths: Sequence[int] = (128, 128),
        channels: int = 16,
        activation: str | Activation = "relu",
        spread: float = 0.0,
        rngs: nnx.Rngs,
    ):
        self.output_shape = sizes("output_shape", output_shape)
        self.activation = _activation(activation)
        fan_in = (positive("latent", latent), *sizes("widths", widths))
        init = {"kernel_init": "he", "rngs": rngs}
        self.layers = nnx.List([Dense(m, n, **init) for m, n in itertools.pairwise(fan_in)])
        if spread and self.layers:
            first = self.layers[0]
            _spread(first, spread * jax.random.normal(rngs.params(), (first.out_features,)))
        if len(self.output_shape) == 3:
            height, width, colours = self.output_shape
            if height % 2 or width % 2:
                raise DimensionMismatch(
                    f"the generator doubles an image, so its sides must be even, got {height}×{width}"
                )
            self.small = (height // 2, width // 2, channels)
            self.spread = Dense(fan_in[-1], height * width * channels // 4, **init)
            self.conv = Conv(channels, channels, 3, **init)
            self.head: Any = Conv(channels, colours, 3, kernel_init="lecun", rngs=rngs)
        elif len(self.output_shape) == 1:
            self.head = Dense(fan_in[-1], self.output_shape[0], kernel_init="lecun", rngs=rngs)
        else:
            raise DimensionMismatch(f"a sample is a point (n,) or an image (H, W, channels), got {self.output_shape}")

    def __call__(self, z: jax.Array) -> jax.Array:
        for layer in self.layers:
            z = self.activation(layer(z))
        if len(self.output_shape) == 1:
            return self.head(z)
        image = self.activation(self.spread(z)).reshape(-1, *self.small)
        image = jnp.repeat(jnp.repeat(image, 2, axis=1), 2, axis=2)
        return self.head(self.activation(self.conv(image)))


class Discriminator(nnx.Module):
    """Points or images to a score: dense layers, or two strided convolutions and a dense layer.

    With spectral normalisation every layer has norm ≤ 1 (as far as σ̂₁ has converged), so that the score is
    `scale`-Lipschitz for 1-Lipschitz activations. Orthogonal layers have all singular values 1 by construction; with
    "maxmin" and layers that get no narrower the score's gradient has the norm `scale` everywhere.

    Args:
        input_shape: (n,) or (H, W, channels).
        widths: hidden sizes, or channels of the convolutions.
        activation: name or function φ; "maxmin" keeps the gradient's norm.
        normalisation: "spectral", "orthogonal" (`OrthogonalDense`, `OrthogonalConv` with circular borders) or "none".
        norm_of: "operator" or "kernel", see `SpectralNorm`.
        scale: factor on the score of a normalised discriminator, its Lipschitz bound; not used without.
        spread: for points: start with the kinks of the first layer at distances of up to this from the origin, the
            radius of the data say, and not all at the origin.
        rngs: source of the initial weights.

    Raises:
        UnknownNameError: for an unknown normalisation or activation.
        DimensionMismatch: for orthogonal convolutions of images whose sides are odd.

    Example:
        >>> Discriminator((8, 8, 1), widths=(4, 8), rngs=nnx.Rngs(0))(jnp.ones((3, 8, 8, 1))).shape
        (3, 1)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        widths: Sequence[int] = (128, 128),
        activation: str | Activation = "leaky_relu",
        normalisation: str = "spectral",
        norm_of: str = "operator",
        scale: float = 1.0,
        spread: float = 0.0,
        rngs: nnx.Rngs,
    ):
        if normalisation not in NORMALISATIONS:
            raise UnknownNameError.of("normalisation", normalisation, NORMALISATIONS)
        shape = sizes("input_shape", input_shape)
        self.activation = _activation(activation)
        self.scale = 1.0 if normalisation == "none" else float(scale)
        orthogonal = normalisation == "orthogonal"
        dense: Any = OrthogonalDense if orthogonal else Dense

        def normalised(layer: Any, shape: tuple[int, ...]) -> Any:
            if normalisation != "spectral":
                return layer
            return SpectralNorm(layer, input_shape=shape, on=norm_of, rngs=rngs)

        self.layers = nnx.List()
        for width in sizes("widths", widths):
            if len(shape) == 3 and orthogonal:
                kernel = [min(3, side // 2) for side in shape[:2]]
                layer: Any = OrthogonalConv(shape[-1], width, kernel, input_size=shape[:2], strides=2, rngs=rngs)
            elif len(shape) == 3:
                layer = Conv(shape[-1], width, 3, strides=2, rngs=rngs)
            else:
                layer = dense(shape[0], width, rngs=rngs)
                if spread and not self.layers:
                    _spread(layer, spread * jax.random.uniform(rngs.params(), (width,), minval=-1.0))
            self.layers.append(normalised(layer, shape))
            shape = (*layer.operator(shape).out_spatial, width) if len(shape) == 3 else (width,)
        features = math.prod(shape)
        self.head = normalised(dense(features, 1, rngs=rngs), (features,))

    def parts(self, input_shape: Sequence[int]) -> list[Part]:
        """The operators and slopes in order, for `lipschitz_bound`, which leaves `scale` to the last.

        Args:
            input_shape: of one example.

        Returns:
            Parts of the chain from the input to the score.

        Example:
            >>> len(Discriminator((2,), widths=(4,), rngs=nnx.Rngs(0)).parts((2,)))
            3
        """
        shape: tuple[int, ...] = tuple(input_shape)
        chain: list[Part] = []
        for layer in self.layers:
            A = layer.operator(shape)
            chain += [A, slope(self.activation)]
            shape = (*A.out_spatial, A.out_channels) if len(shape) == 3 else A.shape[:1]
        return [*chain, self.scale * self.head.operator((A.shape[0],))]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.scale * self.head(x.reshape(x.shape[0], -1))


@registry.register("gan")
class GAN(nnx.Module):
    """A generator against a discriminator.

    Called on samples it gives the discriminator's scores, so that probes show the discriminator's operators.

    Args:
        input_shape: of a sample, (n,) or (H, W, channels).
        num_classes: not used.
        latent, latent_components, latent_deviation: size of the generator's input, and whether it is one Gaussian or a
            mixture of narrow ones, see `Latent`.
        loss: "hinge" or "non_saturating".
        generator_widths, widths: hidden sizes of generator and discriminator.
        activation: of the discriminator.
        normalisation, norm_of, scale: see `Discriminator`.
        spread: radius of the data, as `Discriminator` takes it; the generator's kinks then start spread out too. With
            biases that start at 0 all kinks cross the origin, and far modes are told apart and reached late or never.
        rngs: source of the initial weights and the latent vectors.

    Raises:
        UnknownNameError: for unknown losses, normalisations or activations.
        DimensionMismatch: for sizes that do not fit.
        LinearAlgebraError: for a deviation outside (0, 1).

    Example:
        >>> gan = GAN(input_shape=(2,), rngs=nnx.Rngs(0))
        >>> gan(gan.generator(jnp.ones((5, 2)))).shape
        (5, 1)

    Source: Goodfellow et al., arXiv:1406.2661, section 3 (non-saturating loss); Miyato et al., arXiv:1802.05957, eqs.
    17 and 18 (hinge loss).
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int = 1,
        latent: int = 2,
        latent_components: int = 1,
        latent_deviation: float = 0.1,
        loss: str = "hinge",
        generator_widths: Sequence[int] = (128, 128),
        widths: Sequence[int] = (128, 128),
        activation: str | Activation = "leaky_relu",
        normalisation: str = "spectral",
        norm_of: str = "operator",
        scale: float = 1.0,
        spread: float = 0.0,
        rngs: nnx.Rngs,
    ):
        gan_losses[loss]  # raises for an unknown name
        self.loss = loss
        self.generator = Generator(latent, input_shape, widths=generator_widths, spread=float(spread > 0), rngs=rngs)
        self.discriminator = Discriminator(
            input_shape,
            widths=widths,
            activation=activation,
            normalisation=normalisation,
            norm_of=norm_of,
            scale=scale,
            spread=spread,
            rngs=rngs,
        )
        self.noise = nnx.Rngs(latent=rngs.params())
        self.latent = Latent(latent, components=latent_components, deviation=latent_deviation, rngs=rngs)
        self.deterministic = False  # in evaluation the caller gives the noise

    def parts(self, input_shape: Sequence[int]) -> list[Part]:
        """Those of the discriminator.

        Args:
            input_shape: of one sample.

        Returns:
            As `Discriminator.parts`.

        Example:
            >>> len(GAN(input_shape=(2,), rngs=nnx.Rngs(0)).parts((2,)))
            5
        """
        return self.discriminator.parts(input_shape)

    def losses(self, real: jax.Array, noise: jax.Array | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Both players' losses for each example, and the samples.

        The discriminator's loss holds the samples constant and the generator's the discriminator, so that the gradient
        of their sum is each player's own gradient: one update moves both at the same time.

        Args:
            real: data [B, …].
            noise: Gaussian numbers [B, ≥ latent.numbers] of the latent vectors; drawn anew when not given.

        Returns:
            (discriminator's losses [B], generator's losses [B], samples [B, …]).

        Example:
            >>> gan = GAN(input_shape=(2,), rngs=nnx.Rngs(0))
            >>> [loss.shape for loss in gan.losses(jnp.ones((5, 2)))]
            [(5,), (5,), (5, 2)]
        """
        if noise is None:
            noise = jax.random.normal(self.noise.latent(), (real.shape[0], self.latent.numbers), real.dtype)
        fake = self.generator(self.latent(noise))
        critic, judge = gan_losses[self.loss]
        scores = self.discriminator(jnp.concatenate([real, jax.lax.stop_gradient(fake)]))[:, 0]
        graphdef, params, rest = nnx.split(self.discriminator, nnx.Param, ...)
        frozen: Any = nnx.merge(graphdef, jax.lax.stop_gradient(nnx.as_pure(params)), nnx.as_pure(rest))
        frozen.eval()
        return critic(scores[: len(real)], scores[len(real) :]), judge(frozen(fake)[:, 0]), fake

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.discriminator(x)
