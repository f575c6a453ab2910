"""Self-attention by softmax or distances, a network of it with switches for skips and MLPs, and rank collapse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, UnknownNameError
from models.activations import Activation, activation
from models.catalog import registry
from models.checks import positive
from models.dense import Dense
from models.initializers import Initializer

_activation = activation  # the constructor's argument of that name hides the function

KINDS = ("softmax", "l2")


class Attention(nnx.Module):
    """Multi-head self-attention on tokens [B, n, d]: each head gives A V with A = softmax(scores), then an output map.

    softmax: scores q_i·k_j / √d_h, which is not Lipschitz. l2: −‖q_i − k_j‖² / √d_h with the same map for queries and
    keys, which is, on bounded inputs with a bound that does not grow with them.

    Args:
        features: d.
        heads: number of heads h, which must divide d; d_h = d / h.
        kind: "softmax" or "l2".
        output: whether the heads are mixed by a last dense map.
        kernel_init: initializer or its name.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for heads that do not divide the features, or inputs that are not tokens.
        UnknownNameError: for an unknown kind.

    Cost: 8 n d² + 4 n² d FLOPs an example.

    Example:
        >>> layer = Attention(4, heads=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((1, 3, 4))).shape, layer.weights(jnp.ones((1, 3, 4))).shape
        ((1, 3, 4), (1, 2, 3, 3))

    Source: Vaswani et al., arXiv:1706.03762, eq. 1; L2: Kim, Papamakarios and Mnih, arXiv:2006.04710, section 4.
    """

    def __init__(
        self,
        features: int,
        *,
        heads: int = 1,
        kind: str = "softmax",
        output: bool = True,
        kernel_init: str | Initializer = "gaussian",
        rngs: nnx.Rngs,
    ):
        if kind not in KINDS:
            raise UnknownNameError.of("kind of attention", kind, KINDS)
        self.features, self.heads, self.kind = positive("features", features), positive("heads", heads), kind
        if features % heads:
            raise DimensionMismatch(f"{heads} heads must divide the features, got {features}")
        dense: Any = {"use_bias": False, "kernel_init": kernel_init, "rngs": rngs}
        self.query = Dense(features, features, **dense)
        self.key = Dense(features, features, **dense) if kind == "softmax" else nnx.data(None)
        self.value = Dense(features, features, **dense)
        self.output = Dense(features, features, **dense) if output else nnx.data(None)

    def _split(self, x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(*x.shape[:-1], self.heads, -1), -2, -3)

    def weights(self, x: jax.Array) -> jax.Array:
        """The attention matrices, whose rows are probabilities.

        Args:
            x: tokens [B, n, d].

        Returns:
            [B, h, n, n].

        Example:
            >>> A = Attention(2, rngs=nnx.Rngs(0)).weights(jnp.ones((1, 3, 2)))
            >>> bool(jnp.allclose(A, 1 / 3))
            True
        """
        if x.ndim != 3 or x.shape[-1] != self.features:
            raise DimensionMismatch(f"attention takes tokens [B, n, {self.features}], got shape {x.shape}")
        q = self._split(self.query(x))
        k = q if self.key is None else self._split(self.key(x))
        scores = jnp.einsum("bhid,bhjd->bhij", q, k)
        if self.kind == "l2":
            squares = jnp.sum(q**2, axis=-1)
            scores = 2 * scores - squares[..., :, None] - squares[..., None, :]
        return jax.nn.softmax(scores / q.shape[-1] ** 0.5, axis=-1)

    def __call__(self, x: jax.Array) -> jax.Array:
        mixed = self.weights(x) @ self._split(self.value(x))
        y = jnp.moveaxis(mixed, -3, -2).reshape(x.shape)
        return y if self.output is None else self.output(y)


class AttentionBlock(nnx.Module):
    """x ← [x +] attention(x), x ← [x +] mlp(x): each part with or without its skip, and no normalisation.

    Args:
        features: d.
        heads, kind, output: see `Attention`.
        skip: add the input to each part.
        mlp: have the MLP, of width 4 d.
        activation: of the MLP.
        rngs: source of the initial weights.

    Example:
        >>> AttentionBlock(4, skip=False, mlp=False, rngs=nnx.Rngs(0))(jnp.ones((1, 3, 4))).shape
        (1, 3, 4)
    """

    def __init__(
        self,
        features: int,
        *,
        heads: int = 1,
        kind: str = "softmax",
        output: bool = True,
        skip: bool = True,
        mlp: bool = True,
        activation: str | Activation = "gelu",
        rngs: nnx.Rngs,
    ):
        self.skip, self.activation = bool(skip), _activation(activation)
        self.attention = Attention(features, heads=heads, kind=kind, output=output, rngs=rngs)
        self.up = Dense(features, 4 * features, kernel_init="gaussian", rngs=rngs) if mlp else nnx.data(None)
        self.down = Dense(4 * features, features, kernel_init="gaussian", rngs=rngs) if mlp else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.attention(x) + (x if self.skip else 0)
        if self.up is None or self.down is None:
            return x
        return self.down(self.activation(self.up(x))) + (x if self.skip else 0)


class Collapse(NamedTuple):
    """What happens to the tokens layer by layer; entry 0 of `residual` is the input's.

    Attributes:
        residual: ‖X − 1x̄ᵀ‖_F / ‖X‖_F of the tokens, [L + 1], the mean over the examples.
        sigma: σ₁ and σ₂ of the attention matrices, [L, 2], means over examples and heads: a row-stochastic matrix has
            σ₁ ≥ 1, and the gap to σ₂ says how fast all tokens become their mean.
    """

    residual: jax.Array
    sigma: jax.Array


@registry.register("attention")
class AttentionNet(nnx.Module):
    """A classifier on the rows of an image (or the items of a sequence) as tokens: blocks, mean over the tokens, head.

    Args:
        input_shape: (H, W, channels): H tokens of W · channels numbers; or (n, d).
        num_classes: number of logits.
        depth: number of blocks.
        width: features of a token.
        heads, kind, skip, mlp: see `AttentionBlock`.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1 or that do not fit.
        UnknownNameError: for an unknown kind.

    Cost: that of the blocks.

    Example:
        >>> model = AttentionNet(input_shape=(8, 8, 1), num_classes=10, depth=1, width=8, rngs=nnx.Rngs(0))
        >>> model(jnp.ones((5, 8, 8, 1))).shape
        (5, 10)
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        depth: int = 2,
        width: int = 32,
        heads: int = 2,
        kind: str = "softmax",
        skip: bool = True,
        mlp: bool = True,
        rngs: nnx.Rngs,
    ):
        if len(input_shape) not in (2, 3):
            raise DimensionMismatch(f"attention takes (H, W, channels) or (n, d), got input_shape {tuple(input_shape)}")
        tokens, size = input_shape[0], 1
        for n in input_shape[1:]:
            size *= n
        self.embed = Dense(size, width, kernel_init="lecun", rngs=rngs)
        self.position = nnx.Param(jax.random.normal(rngs.params(), (tokens, width)) * 0.5)
        self.blocks = nnx.List(
            AttentionBlock(width, heads=heads, kind=kind, skip=skip, mlp=mlp, rngs=rngs)
            for _ in range(positive("depth", depth))
        )
        self.head = Dense(width, num_classes, rngs=rngs)

    def tokens(self, x: jax.Array) -> jax.Array:
        """The embedded tokens in front of the first block.

        Args:
            x: [B, *input_shape].

        Returns:
            [B, n, width].

        Example:
            >>> model = AttentionNet(input_shape=(3, 2), num_classes=2, width=4, rngs=nnx.Rngs(0))
            >>> model.tokens(jnp.ones((1, 3, 2))).shape
            (1, 3, 4)
        """
        return self.embed(x.reshape(*x.shape[:2], -1)) + self.position[...]

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=1))


def rank_residual(x: jax.Array) -> jax.Array:
    """How far tokens are from being all the same, ‖X − 1x̄ᵀ‖_F / ‖X‖_F with x̄ their mean: 0 is rank collapse.

    Args:
        x: tokens [..., n, d].

    Returns:
        [...], in [0, 1].

    Example:
        >>> float(rank_residual(jnp.array([[1.0, 2.0], [1.0, 2.0]])))
        0.0
    """
    off = x - jnp.mean(x, axis=-2, keepdims=True)
    return jnp.linalg.norm(off, axis=(-2, -1)) / jnp.linalg.norm(x, axis=(-2, -1))


def collapse(blocks: Sequence[AttentionBlock], x: jax.Array) -> Collapse:
    """Measure the tokens' residual and the attention matrices' leading singular values along a stack of blocks.

    Args:
        blocks: in order.
        x: tokens [B, n, d] in front of the first.

    Returns:
        `Collapse`.

    Cost: one pass and B h singular value decompositions [n, n] a block.

    Example:
        >>> blocks = [AttentionBlock(4, skip=False, mlp=False, rngs=nnx.Rngs(i)) for i in range(3)]
        >>> measured = collapse(blocks, jax.random.normal(jax.random.key(0), (1, 8, 4)))
        >>> measured.residual.shape, measured.sigma.shape
        ((4,), (3, 2))

    Source: residual: Dong, Cordonnier and Loukas, arXiv:2103.03404; gap: Saada, Naderi and Tanner, arXiv:2410.07799.
    """
    residual, sigma = [jnp.mean(rank_residual(x))], []
    for block in blocks:
        A = block.attention.weights(x)
        s = jax.vmap(lambda a: la.svdvals(la.Dense(a)))(A.reshape(-1, *A.shape[-2:]))
        sigma.append(jnp.mean(s[:, :2], axis=0))
        x = block(x)
        residual.append(jnp.mean(rank_residual(x)))
    return Collapse(jnp.stack(residual), jnp.stack(sigma))
