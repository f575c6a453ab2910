"""Convolutions of derivatives are brought into the order of axes that XLA runs fast inside of loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lax_linalg as la
from lax_linalg.canonical import canonical

GEOMETRIES = {
    "plain": ((8, 6, 3), (3, 3, 3, 5), {}),
    "strided": ((9, 7, 3), (3, 2, 3, 4), {"window_strides": (2, 3)}),
    "dilated": ((9, 9, 2), (3, 3, 2, 3), {"rhs_dilation": (2, 1)}),
    "grouped": ((6, 6, 4), (3, 3, 2, 6), {"feature_group_count": 2}),
    "one-dimensional": ((12, 3), (4, 3, 2), {"window_strides": (2,)}),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_transposed_convolutions_are_canonical_and_the_same(name):
    shape, kernel_shape, options = GEOMETRIES[name]
    draw = np.random.default_rng(0).standard_normal
    kernel = draw(kernel_shape).astype(np.float32)
    numbers = ("NWC", "WIO", "NWC") if len(shape) == 2 else ("NHWC", "HWIO", "NHWC")
    options = {"window_strides": (1,) * (len(shape) - 1), **options}

    @jax.jit  # a call inside of the program
    def conv(x):
        return jax.lax.conv_general_dilated(x[None], kernel, padding="SAME", dimension_numbers=numbers, **options)[0]

    y, pull = jax.vjp(conv, np.zeros(shape, np.float32))
    transposed = canonical(lambda w: pull(w)[0], y)
    w = draw(y.shape).astype(np.float32)
    np.testing.assert_allclose(jax.jit(transposed)(w), pull(w)[0], rtol=1e-5, atol=1e-5)
    d = len(shape) - 1
    last = (0, d + 1, *range(1, d + 1))
    convolutions = [e for e in jax.make_jaxpr(transposed)(w).jaxpr.eqns if e.primitive.name == "conv_general_dilated"]
    assert [e.params["dimension_numbers"] for e in convolutions] == [
        jax.lax.ConvDimensionNumbers(last, (d + 1, d, *range(d)), last)
    ]


def test_products_with_a_jacobian_and_its_transpose_are_canonical():
    kernel = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 2, 2)), jnp.float32)

    def layer(x):
        return jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    J = la.jacobian(layer, jnp.zeros((4, 4, 2)))
    program = jax.make_jaxpr(lambda w: J.T @ w)(jnp.zeros(32))
    assert "conv_general_dilated" in str(program)
    assert "rhs_spec=(2, 3" not in str(program)  # what JAX makes of the transpose
