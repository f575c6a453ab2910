"""After a refused update: which layer was the first to be NaN or infinite, and what its spectra last were."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import lax_linalg as la
from train.display import short
from train.state import Arrays


def explain(model: Any, params: Arrays, inputs: jax.Array, gradient: Arrays, spectra: dict[str, Any] | None) -> str:
    """Say in one sentence where an update failed.

    Looked for in the order of computation: the output of each layer in the forward pass, then the gradient, which flows
    backwards, so that the failure began at the last layer whose gradient is not finite.

    Args:
        model: the module before the refused update, in evaluation mode.
        params: its parameters by name.
        inputs: the batch of that update, as the model takes it.
        gradient: of the objective, by parameter name.
        spectra: the last spectrum line of metrics.jsonl, if any.

    Returns:
        The sentence, with the layer's last spectrum where it was probed.

    Cost: one forward pass.
    """
    layers = {name.rpartition("/")[0] for name in params}
    try:
        in_order = list(la.layer_jacobians(model, inputs))
    except la.NonFiniteError as error:
        text = str(error)
        culprit = next((layer for layer in layers if repr(layer) in text), None)
    else:
        broken = {name.rpartition("/")[0] for name, array in gradient.items() if not jnp.all(jnp.isfinite(array))}
        culprit = next((layer for layer in reversed(in_order) if layer in broken), None)
        text = f"the gradient of layer {culprit!r} is not finite"
        if culprit is None:
            culprit = next((layer for layer in reversed(in_order) if layer in layers), None)
            text = f"every layer is finite and the loss of what the last, {culprit!r}, gives is not"
    numbers = spectra["layers"].get(culprit) if spectra else None
    if spectra and numbers:
        shown = ", ".join(
            f"{name} {short(numbers[name])}" for name in ("sigma_max", "sigma_min", "cond") if name in numbers
        )
        text += f"; its last spectrum, at step {spectra['step']}: {shown}"
    return text
