"""Penalties on the layers' weights by name: the loss becomes loss + strength(step) · Σ R(layer) over the chosen layers.

With `regularizer_decoupled` the penalty stays out of the loss and its gradient step follows the optimiser's update.
"""

from __future__ import annotations

from train.regularizers.convolution import ocnn
from train.regularizers.gram import dso, mc, so, srip
from train.regularizers.select import chosen_layers, kernel_layers, make_penalty
from train.regularizers.spectral import cond, sigma_max, sigma_min
from train.regularizers.weight import Weight, as_matrix, regularizers

__all__ = [
    "Weight",
    "as_matrix",
    "chosen_layers",
    "cond",
    "dso",
    "kernel_layers",
    "make_penalty",
    "mc",
    "ocnn",
    "regularizers",
    "sigma_max",
    "sigma_min",
    "so",
    "srip",
]
