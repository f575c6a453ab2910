"""Flax NNX models whose layers know their operators.

`create(name, input_shape=…, num_classes=…, rngs=…, **options)` builds one of `registry.names()`; a layer with a linear
part gives it as `layer.operator(input_shape)`.
"""

from models import square_initializers as square_initializers
from models.activations import activations
from models.attention import Attention, AttentionBlock, AttentionNet, collapse, rank_residual
from models.catalog import create, registry
from models.conv import Conv
from models.deep_conv import ConvStack, DeepConvNet
from models.deep_linear import DeepLinear, saxe_mode
from models.dense import Dense
from models.embedding import SkipGram, WordVectors, load_vectors, ppmi, ppmi_svd
from models.gan import GAN, Discriminator, Generator, gan_losses
from models.initializers import critical_point, initializer, initializers
from models.latent import Latent
from models.lipschitz import LipschitzBounds, lipschitz_bound
from models.local import LocallyConnected, LocalNet
from models.mean_field import HiddenLayers, hidden_layers
from models.mlp import MLP
from models.orthogonal_layers import OrthogonalConv, OrthogonalDense, semi_orthogonal
from models.parametrizations import OrthogonalMatrix, parametrizations
from models.recurrent import (
    FreeMatrix,
    ModReLU,
    NearIdentity,
    OrthogonalRNNCell,
    RecurrentCell,
    RecurrentNet,
    make_cell,
)
from models.residual import ResidualBlock
from models.resnet import ResNet
from models.spectral_norm import SpectralNorm

__all__ = [
    "GAN",
    "MLP",
    "Attention",
    "AttentionBlock",
    "AttentionNet",
    "Conv",
    "ConvStack",
    "DeepConvNet",
    "DeepLinear",
    "Dense",
    "Discriminator",
    "FreeMatrix",
    "Generator",
    "HiddenLayers",
    "Latent",
    "LipschitzBounds",
    "LocalNet",
    "LocallyConnected",
    "ModReLU",
    "NearIdentity",
    "OrthogonalConv",
    "OrthogonalDense",
    "OrthogonalMatrix",
    "OrthogonalRNNCell",
    "RecurrentCell",
    "RecurrentNet",
    "ResNet",
    "ResidualBlock",
    "SkipGram",
    "SpectralNorm",
    "WordVectors",
    "activations",
    "collapse",
    "create",
    "critical_point",
    "gan_losses",
    "hidden_layers",
    "initializer",
    "initializers",
    "lipschitz_bound",
    "load_vectors",
    "make_cell",
    "parametrizations",
    "ppmi",
    "ppmi_svd",
    "rank_residual",
    "registry",
    "saxe_mode",
    "semi_orthogonal",
]
