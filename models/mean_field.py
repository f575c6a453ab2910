"""The place of a network in mean field: its activation, and σ_w², σ_b² of its hidden layers by their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lax_linalg.errors import LinearAlgebraError
from models.activations import activation

KINKED = {"hard_tanh": (-1.0, 1.0)}  # where, other than at zero, a slope jumps


class HiddenLayers(NamedTuple):
    """The layers from pre-activation to pre-activation of a network with one activation.

    Attributes:
        activation: its registered name.
        variances: by the layer's path, (σ_w², σ_b²) [L, 2] of the L layers that lie there.

    Example:
        >>> HiddenLayers("tanh", {"layers/1": np.array([[1.5, 0.05]])}).point
        (1.5, 0.05)
    """

    activation: str
    variances: Mapping[str, np.ndarray]

    @property
    def point(self) -> tuple[float, float]:
        """(σ_w², σ_b²), the mean over the layers."""
        weight, bias = np.concatenate(list(self.variances.values())).mean(0)
        return float(weight), float(bias)


def variances(kernel: jax.Array, bias: jax.Array | None = None, copies: int = 0) -> np.ndarray:
    """σ_w² = Σw²/fan_out and σ_b² = Σb²/fan_out: what a layer makes of the mean square of its input, and adds to it.

    For weights drawn from N(0, σ_w²/fan_in) and biases from N(0, σ_b²) that estimates the two; of g times a square
    orthogonal or delta-orthogonal kernel it is g² exactly. Training makes weights dependent; the two numbers then no
    longer determine what a wide network does, but still say how long its signals grow.

    Args:
        kernel: [..., fan in per tap, fan_out], as the layers hold it.
        bias: [fan_out], or None for none.
        copies: leading axes of both that count layers.

    Returns:
        [L, 2], a row a layer.

    Example:
        >>> variances(2 * jnp.eye(3), jnp.array([1.0, 0.0, -1.0])).round(4).tolist()
        [[4.0, 0.6667]]
    """
    weights = np.asarray(kernel, np.float64)
    lead = weights.shape[:copies]
    squares = (weights.reshape(*lead, -1) ** 2).sum(-1) / weights.shape[-1]
    shifts = np.zeros(lead) if bias is None else (np.asarray(bias, np.float64) ** 2).mean(-1)
    return np.stack([squares.reshape(-1), shifts.reshape(-1)], axis=-1)


def hidden_layers(model: Any) -> HiddenLayers | None:
    """The hidden layers of a model that says which they are by a method `mean_field`.

    Args:
        model: any module.

    Returns:
        `HiddenLayers`; None for models that mean field does not describe: with skips, attention or recurrence, with an
        activation that is not pointwise, or without a layer from hidden units to hidden units.

    Example:
        >>> from flax import nnx
        >>> import models
        >>> mlp = models.MLP(input_shape=(4,), num_classes=2, widths=(8, 8), activation="relu", rngs=nnx.Rngs(0))
        >>> found = hidden_layers(mlp)
        >>> found.activation, [round(v, 4) for v in found.point]
        ('relu', [1.0, 0.0])
        >>> hidden_layers(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))
    """
    found = model.mean_field() if hasattr(model, "mean_field") else None
    if found is None or not found.variances or as_activation(found.activation) is None:
        return None
    return found


def as_activation(name: str) -> Any:
    """The activation of that name for `lax_linalg.random_matrix`; None unless it is registered and pointwise.

    Example:
        >>> as_activation("hard_tanh").kinks, as_activation("maxmin")
        ((-1.0, 1.0), None)
    """
    from lax_linalg.random_matrix import Activation

    x = jnp.array([1.0, -2.0, 3.0, 0.5, -0.7, 0.2, 4.0, -3.0])
    try:
        function = activation(name)
        slopes = np.asarray(jax.jacfwd(function)(x))
    except LinearAlgebraError:
        return None
    pointwise = np.array_equal(slopes, np.diag(np.diagonal(slopes)))
    return Activation(name, function, KINKED.get(name, ())) if pointwise else None
