"""Programs whose convolutions XLA runs fast inside of loops, too.

XLA on a CPU brings convolutions into the order of axes that its fast routine takes, but only outside of loops; inside,
the transposes that JAX makes of convolutions run up to 20 times slower. Here they are brought into that order before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr"}


def canonical(f: Callable[[jax.Array], jax.Array], aval: Any) -> Callable[[jax.Array], jax.Array]:
    """f with all convolutions on channels-last images and kernels with the output channels last; f without any.

    Args:
        f: function of one array that gives one array; what it closes over may be traced.
        aval: shape and dtype of the argument.

    Example:
        >>> kernel = jnp.arange(3.0).reshape(3, 1, 1)
        >>> def conv(x):
        ...     return jnp.convolve(x, kernel[:, 0, 0], mode="same")
        >>> print(canonical(conv, jax.ShapeDtypeStruct((3,), jnp.float32))(jnp.ones(3)))
        [1. 3. 3.]
    """
    closed = jax.make_jaxpr(f)(jax.ShapeDtypeStruct(aval.shape, aval.dtype))
    if not _convolves(closed.jaxpr):
        return f

    def run(x: jax.Array) -> jax.Array:
        (y,) = _evaluated(closed.jaxpr, closed.consts, [x])
        return y

    return run


def _convolves(jaxpr: Any) -> bool:
    """Whether there is a convolution in the program or in a call of it."""
    if any(eqn.primitive.name == "conv_general_dilated" for eqn in jaxpr.eqns):
        return True
    calls = (eqn for eqn in jaxpr.eqns if eqn.primitive.name in _CALLS)
    return any(_convolves(eqn.params[_CALLS[eqn.primitive.name]].jaxpr) for eqn in calls)


def _evaluated(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    known = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, arguments))

    def value(v: Any) -> Any:
        return v.val if hasattr(v, "val") else known[v]

    for eqn in jaxpr.eqns:
        values, name = [value(v) for v in eqn.invars], eqn.primitive.name
        with eqn.ctx.manager:
            if name == "conv_general_dilated":
                results = [_convolution(*values, **eqn.params)]
            elif name in _CALLS:
                body = eqn.params[_CALLS[name]]
                results = _evaluated(body.jaxpr, body.consts, values)
            else:
                result = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
                results = result if eqn.primitive.multiple_results else [result]
        known.update(zip(eqn.outvars, results))
    return [value(v) for v in jaxpr.outvars]


def _convolution(image: jax.Array, kernel: jax.Array, **params: Any) -> jax.Array:
    numbers, d = params.pop("dimension_numbers"), image.ndim - 2
    last = (0, d + 1, *range(1, d + 1))  # batch, feature, spatial
    batch, feature, *spatial = numbers.lhs_spec
    output, given, *taps = numbers.rhs_spec
    out_batch, out_feature, *out_spatial = numbers.out_spec
    result = jax.lax.conv_general_dilated_p.bind(
        jnp.transpose(image, (batch, *spatial, feature)),
        jnp.transpose(kernel, (*taps, given, output)),
        dimension_numbers=jax.lax.ConvDimensionNumbers(last, (d + 1, d, *range(d)), last),
        **params,
    )
    return jnp.transpose(result, np.argsort((out_batch, *out_spatial, out_feature)).tolist())
