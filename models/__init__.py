"""Flax NNX models whose layers know their operators.

`create(name, input_shape=…, num_classes=…, rngs=…, **options)` builds one of `registry.names()`; a layer with a linear
part gives it as `layer.operator(input_shape)`.
"""

from models.activations import activations
from models.catalog import create, registry
from models.conv import Conv
from models.dense import Dense
from models.initializers import critical_point, initializer, initializers
from models.mlp import MLP
from models.residual import ResidualBlock
from models.resnet import ResNet

__all__ = [
    "MLP",
    "Conv",
    "Dense",
    "ResNet",
    "ResidualBlock",
    "activations",
    "create",
    "critical_point",
    "initializer",
    "initializers",
    "registry",
]
