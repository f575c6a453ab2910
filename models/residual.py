"""`ResidualBlock`: x + α f(x), whose Jacobian is I + α J with eigenvalues 1 + α λ(J)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lax_linalg.errors import UnknownNameError
from models.activations import Activation, activation
from models.checks import positive
from models.conv import Conv, Padding
from models.initializers import Initializer

SCALES = ("plain", "depth", "rezero", "fixup")


class ResidualBlock(nnx.Module):
    """Residual block y = x + α f(x), f = conv₂ ∘ φ ∘ conv₁ ∘ φ (pre-activation) or φ ∘ conv₂ ∘ φ ∘ conv₁.

    The Jacobian is I + α J_f. The factor α keeps a stack of L blocks well-conditioned: with 1/√L the forward variance
    grows at most by (1 + 1/L)^L < e; with ReZero and Fixup every block starts as the identity.

    Args:
        features: channels of input and output.
        kernel_size: (kh, kw) or one number.
        activation: name or function φ.
        scale: "plain" (α = 1), "depth" (α = 1/√depth), "rezero" (α learned, 0 at the start) or "fixup" (α learned, 1 at
            the start, conv₂ starts at 0 and conv₁ 1/√depth times as large).
        preactivation: φ before each convolution, otherwise after it.
        depth: number of residual blocks L in the network; used by "depth" and "fixup".
        padding: as in `Conv`; must keep the size.
        kernel_init: initializer or its name.
        rngs: source of the initial weights.

    Raises:
        UnknownNameError: for an unknown scale, activation, padding or initializer.
        DimensionMismatch: for sizes < 1.

    Cost: two convolutions.

    Example:
        >>> block = ResidualBlock(4, scale="rezero", rngs=nnx.Rngs(0))
        >>> x = jnp.ones((1, 8, 8, 4))
        >>> bool((block(x) == x).all())
        True

    Source: He et al., arXiv:1603.05027, fig. 1b; ReZero: Bachlechner et al., arXiv:2003.04887, eq. 1;
    Fixup: Zhang, Dauphin and Ma, arXiv:1901.09321, section 4.
    """

    def __init__(
        self,
        features: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        activation: str | Activation = "tanh",
        scale: str = "plain",
        depth: int = 1,
        preactivation: bool = True,
        padding: Padding = "zero",
        kernel_init: str | Initializer = "delta_orthogonal",
        rngs: nnx.Rngs,
    ):
        if scale not in SCALES:
            raise UnknownNameError.of("residual scale", scale, SCALES)
        self.depth = positive("depth", depth)
        self.activation, self.preactivation = _activation(activation), bool(preactivation)
        conv: dict[str, Any] = {"padding": padding, "kernel_init": kernel_init, "rngs": rngs}
        fixup = scale == "fixup"
        self.conv1 = Conv(features, features, kernel_size, **conv)
        if fixup:
            self.conv1.kernel[...] *= self.depth**-0.5  # depth^(−1/(2m − 2)) with m = 2 layers in a branch
            conv["kernel_init"] = "zeros"
        self.conv2 = Conv(features, features, kernel_size, **conv)
        self.scale = scale
        start = {"rezero": 0.0, "fixup": 1.0}.get(scale)
        self.gain = nnx.data(None) if start is None else nnx.Param(jnp.full((), start))

    @property
    def alpha(self) -> jax.Array | float:
        """The factor α of the branch."""
        if self.gain is not None:
            return self.gain[...]
        return self.depth**-0.5 if self.scale == "depth" else 1.0

    def branch(self, x: jax.Array) -> jax.Array:
        """The branch f alone, without α.

        Args:
            x: images [..., H, W, features].

        Returns:
            An array of the same shape.

        Example:
            >>> ResidualBlock(4, rngs=nnx.Rngs(0)).branch(jnp.zeros((1, 8, 8, 4))).shape
            (1, 8, 8, 4)
        """
        phi = self.activation
        if self.preactivation:
            return self.conv2(phi(self.conv1(phi(x))))
        return phi(self.conv2(phi(self.conv1(x))))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.alpha * self.branch(x)


_activation = activation  # the constructor's argument of that name hides the function
