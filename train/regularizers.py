"""Penalties on kernels as matrices, by name: the loss becomes loss + strength(step) · Σ R(W) over the chosen layers.

A convolution kernel of shape (kH, kW, c_in, c_out) is the matrix W of shape kH·kW·c_in × c_out, whose columns are the
filters; a dense kernel is the matrix as it is. Orthogonal means that the smaller Gram matrix is the identity.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lax_linalg.errors import UnknownNameError
from lax_linalg.registry import Registry

regularizers: Registry[Callable[[jax.Array], jax.Array]] = Registry("regularizer")


@regularizers.register("so")
def so(W: jax.Array) -> jax.Array:
    """Soft orthogonality of one matrix: R(W) = ‖WᵀW − I‖_F², with WWᵀ in place of WᵀW when W is wide.

    Its gradient is 4W(WᵀW − I) = 4(WWᵀ − I)W: the diagonal of WᵀW − I brings each column to length one, the rest
    subtracts from each column its projections on the others, so a small step is one soft Gram–Schmidt step. The two
    sides differ by a constant, ‖WᵀW − I_n‖² − ‖WWᵀ − I_m‖² = n − m, so the smaller Gram matrix gives the same gradient
    at less cost and a penalty that reaches zero.

    Args:
        W: [m, n].

    Returns:
        A scalar of W's dtype, zero exactly when the shorter side of W is orthonormal.

    Cost: O(mn min(m, n)).

    Example:
        >>> float(so(jnp.eye(5, 3))), float(so(2 * jnp.eye(5, 3)))
        (0.0, 27.0)

    Source: Bansal, Chen and Wang, "Can we gain more from orthogonality regularizations", NeurIPS 2018, eq. 4.
    """
    m, n = W.shape
    return jnp.sum(jnp.square(_gram(W) - jnp.eye(min(m, n), dtype=W.dtype)))


@regularizers.register("dso")
def dso(W: jax.Array) -> jax.Array:
    """Double soft orthogonality of one matrix: R(W) = ‖WᵀW − I‖_F² + ‖WWᵀ − I‖_F².

    Both terms have the gradient of SO, so R = 2·SO + |m − n|, which is how it is computed: the larger Gram matrix is
    never formed. The least value, |m − n|, is reached exactly when the shorter side of W is orthonormal.

    Args:
        W: [m, n].

    Returns:
        A scalar of W's dtype, at least |m − n|.

    Cost: O(mn min(m, n)).

    Example:
        >>> float(dso(jnp.eye(3))), float(dso(jnp.eye(5, 3)))
        (0.0, 2.0)

    Source: Bansal, Chen and Wang, "Can we gain more from orthogonality regularizations", NeurIPS 2018, eq. 5.
    """
    m, n = W.shape
    return 2 * so(W) + abs(m - n)


def _gram(W: jax.Array) -> jax.Array:
    """WᵀW or WWᵀ, the smaller of the two."""
    m, n = W.shape
    return W.T @ W if n <= m else W @ W.T


def as_matrix(kernel: jax.Array) -> jax.Array:
    """A kernel as its matrix: all axes but the last flattened, [kH, kW, c_in, c_out] -> [kH·kW·c_in, c_out].

    Example:
        >>> as_matrix(jnp.ones((3, 3, 8, 16))).shape
        (72, 16)
    """
    return kernel.reshape(-1, kernel.shape[-1])


def kernel_layers(params: dict[str, jax.Array]) -> dict[str, str]:
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


def make_penalty(name: str, patterns: str, params: dict[str, jax.Array]) -> Callable[[dict[str, jax.Array]], jax.Array]:
    """The sum of the named penalty over the kernels of the chosen layers, as a function of all parameters.

    Args:
        name: a registered penalty, or "none" for the constant zero.
        patterns: comma-separated path patterns of layers, as in "stem,blocks/*".
        params: the parameters (or their shapes) that say which layers exist.

    Raises:
        UnknownNameError: when the penalty is not registered or a pattern selects no layer.

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
    names = [kernels[layer] for layer in chosen_layers(list(kernels), patterns)]
    return lambda params: sum((penalty(as_matrix(params[name])) for name in names), start=jnp.zeros(()))
