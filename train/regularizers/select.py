"""Which layers a penalty acts on, and the sum over them as a function of all parameters."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import LinearAlgebraError, UnknownNameError
from train.regularizers.weight import Weight, regularizers

Arrays = dict[str, jax.Array]


def kernel_layers(params: Arrays) -> dict[str, str]:
    """Layer path -> name of its kernel, for every parameter called `kernel` with two or more axes."""
    return {name.rpartition("/")[0]: name for name in params if _is_kernel(name, params[name])}


def _is_kernel(name: str, array: jax.Array) -> bool:
    return name.rpartition("/")[2] == "kernel" and array.ndim >= 2


def chosen_layers(available: list[str] | tuple[str, ...], patterns: str) -> list[str]:
    """The layers that a comma-separated list of path patterns selects, in their own order.

    Raises:
        UnknownNameError: when a pattern selects no layer; the message lists the layers.

    Example:
        >>> chosen_layers(["stem", "blocks/0", "blocks/1", "head"], "stem,blocks/*")
        ['stem', 'blocks/0', 'blocks/1']
    """
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    for pattern in wanted:
        if not fnmatch.filter(available, pattern):
            raise UnknownNameError.of("layer", pattern, available)
    return [layer for layer in available if any(fnmatch.fnmatchcase(layer, pattern) for pattern in wanted)]


def make_penalty(
    name: str,
    patterns: str,
    params: Arrays,
    model: nnx.Module | None = None,
    inputs: jax.Array | None = None,
) -> Callable[[Arrays], jax.Array]:
    """The sum of the named penalty over the chosen layers, as a function of all parameters.

    Args:
        name: a registered penalty, or "none" for the constant zero.
        patterns: comma-separated path patterns of layers, as in "stem,blocks/*".
        params: the parameters (or their shapes) that say which layers exist.
        model: the module they belong to, which knows strides and groups; without it every kernel is a plain matrix.
        inputs: a batch of the model's inputs [B, …]; when given, the penalty acts on the layers' linear operators at
            their own input sizes instead of their kernels.

    Raises:
        UnknownNameError: when the penalty is not registered or a pattern selects no layer.
        LinearAlgebraError: when a chosen layer has no linear operator that the penalty could act on.

    Example:
        >>> params = {"dense/kernel": 2 * jnp.eye(3), "dense/bias": jnp.ones(3)}
        >>> float(make_penalty("so", "*", params)(params))
        27.0
    """
    if name == "none":
        return lambda params: jnp.zeros((), jnp.float32)
    if name not in regularizers:
        raise UnknownNameError.of(regularizers.kind, name, ["none", *regularizers.names()])
    penalty, kernels = regularizers[name], kernel_layers(params)
    modules = {"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)} if model else {}
    shapes = _input_shapes(model, inputs) if model is not None and inputs is not None else None
    views = {kernels[layer]: _view(layer, modules, shapes) for layer in chosen_layers(list(kernels), patterns)}
    return lambda params: sum((penalty(view(params[name])) for name, view in views.items()), start=jnp.zeros(()))


def _view(layer: str, modules: dict[str, Any], shapes: dict[str, tuple[int, ...]] | None) -> Callable[..., Weight]:
    """How the kernel of a layer becomes its `Weight`."""
    module = modules.get(layer)
    groups, copies = getattr(module, "groups", 1), getattr(module, "kernel_copies", 0)
    shared = getattr(module, "shared", True)  # a locally connected layer slides no kernel
    strides, dilation = (getattr(module, name, ()) if shared else () for name in ("strides", "kernel_dilation"))
    if shapes is None:
        return lambda kernel: Weight(kernel, strides, dilation, groups, copies)
    if layer not in shapes or not hasattr(module, "operator"):
        raise LinearAlgebraError(
            f"layer {layer!r} gives no linear operator; leave it out of regularizer_layers or use regularizer_on=kernel"
        )
    graphdef, variables, rest = nnx.split(module, nnx.Param, ...)

    def view(kernel: jax.Array) -> Weight:
        copy: Any = nnx.merge(graphdef, variables, rest)
        copy.kernel = nnx.Param(kernel)
        return Weight(kernel, strides, dilation, groups, copies, copy.operator(shapes[layer]))

    return view


def _input_shapes(model: nnx.Module, inputs: jax.Array) -> dict[str, tuple[int, ...]]:
    """The shape of one example at the input of each layer."""
    graphdef, state = nnx.split(model)
    evaluated: Any = nnx.merge(graphdef, state)
    evaluated.eval()
    graphdef, state = nnx.split(evaluated)
    found = jax.eval_shape(
        lambda state: {name: J.x for name, J in la.layer_jacobians(nnx.merge(graphdef, state), inputs).items()}, state
    )
    return {name: x.shape[1:] for name, x in found.items()}
