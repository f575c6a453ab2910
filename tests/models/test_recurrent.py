"""Parametrisations and recurrent cells: orthogonal after any updates, nnx.RNN's protocol, W outside the scan."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy.linalg import expm

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from models.parametrizations import angles, parametrizations, rotations, skew


def matrix(name, n=6, **options):
    return models.OrthogonalMatrix(n, parametrization=name, rngs=nnx.Rngs(0), **options)


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def orthogonality_error(Q) -> float:
    Q = np.asarray(Q, np.float64)
    return float(np.max(np.abs(Q.T @ Q - np.eye(len(Q)))))


@pytest.mark.parametrize("n", [1, 5, 6])
def test_all_start_from_the_same_rotations(n):
    names = [name for name in parametrizations.names() if (n, name) != (1, "householder")]

    @jax.jit
    def first():
        theta = angles["henaff"](nnx.Rngs(0).params(), n // 2)
        return rotations(theta, n), {name: matrix(name, n, negative=0)() for name in names}

    expected, found = first()
    for name, Q in found.items():
        np.testing.assert_allclose(Q, expected, atol=2e-5, err_msg=name)
        assert np.linalg.det(np.asarray(Q, np.float64)) == pytest.approx(1, abs=1e-4), name
    if n == 1:
        with pytest.raises(DimensionMismatch, match="even number"):
            matrix("householder", n, reflections=1)


CASES = [(name, "static") for name in parametrizations.names()] + [("expm", "dynamic"), ("cayley", "dynamic")]


@pytest.mark.parametrize(("name", "trivialization"), CASES)
def test_orthogonal_after_any_number_of_updates_and_able_to_learn(name, trivialization):
    target = rotations(jnp.array([0.3, -1.0, 0.7]), 6)[jnp.array([2, 0, 1, 4, 5, 3])]  # even permutation: a rotation
    options = {"trivialization": trivialization, "rebase_every": 7} if trivialization == "dynamic" else {}
    module = matrix(name, init="identity", negative=0, **options)
    graphdef, *states = nnx.split(module, nnx.Param, ...)
    params, rest = (nnx.as_pure(state) for state in states)
    optimizer = optax.adam(0.05)
    state = optimizer.init(params)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(params, rest, state):
        def loss(params):
            module = nnx.merge(graphdef, params, rest)
            value = jnp.sum((module() - target) ** 2)
            return value, nnx.as_pure(nnx.split(module, nnx.Param, ...)[2])

        (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), rest, state, value

    current = jax.jit(lambda params, rest: nnx.merge(graphdef, params, rest)())
    for step in range(300):
        params, rest, state, value = update(params, rest, state)
        if step % 20 == 0 or step == 299:
            assert orthogonality_error(current(params, rest)) < 1e-5
    start = float(jnp.sum((rotations(jnp.zeros(3), 6) - target) ** 2))
    assert float(value) < 0.1 * start


def test_large_parameters_stay_orthogonal():
    # what hundreds of large updates could lead to; Björck's steps have a stated range of condition numbers
    U, _, Vt = np.linalg.svd(np.random.default_rng(0).standard_normal((32, 32)))
    far = jnp.asarray(U * np.geomspace(1, 0.01, 32) @ Vt, jnp.float32)

    @jax.jit
    def maps(far):
        found = {}
        for name in ("expm", "cayley", "householder", "polar", "bjorck"):
            module = matrix(name, 32)
            large = 3 * jax.random.normal(jax.random.key(1), module.raw.shape)
            module.raw.set_value(far if name == "bjorck" else large)
            found[name] = module()
        return found

    found = maps(far)
    for name, Q in found.items():
        assert orthogonality_error(Q) < 1e-5, name
    np.testing.assert_allclose(found["bjorck"], U @ Vt, atol=1e-3)


def test_maps_against_scipy_and_gradients_against_differences(x64):
    rng = np.random.default_rng(0)
    raw, weights, direction = rng.standard_normal((3, 5, 5))
    names = parametrizations.names()
    starts, directions = ({name: x[:, :4] if name == "householder" else x for name in names} for x in (raw, direction))

    def losses(starts):
        matrices = {name: parametrizations[name].matrix(start) for name, start in starts.items()}
        values = {name: jnp.sum(weights * matrix) for name, matrix in matrices.items()}
        return sum(values.values()), (values, matrices, skew(starts["expm"]))

    program = jax.jit(jax.value_and_grad(losses, has_aux=True))
    (_, (_, matrices, S)), gradient = jax.tree.map(np.asarray, program(starts))
    eye = np.eye(5)
    np.testing.assert_allclose(matrices["expm"], expm(S), atol=1e-12)
    np.testing.assert_allclose(matrices["cayley"], np.linalg.solve(eye - S, eye + S), atol=1e-12)
    U, _, Vt = np.linalg.svd(raw)
    np.testing.assert_allclose(matrices["polar"], U @ Vt, atol=1e-10)
    forward, backward = (
        program({name: starts[name] + step * directions[name] for name in starts})[0][1][0] for step in (1e-6, -1e-6)
    )
    for name in starts:
        slope = float(forward[name] - backward[name]) / 2e-6
        assert float(np.sum(gradient[name] * directions[name])) == pytest.approx(slope, rel=1e-5), name


def test_in_half_precision_every_matrix_is_that_of_the_raised_parameters_rounded():
    def matrices(theta, dtype):
        raws = {name: parametrizations[name].start(theta, 4).astype(jnp.bfloat16) for name in parametrizations}
        return {name: parametrizations[name].matrix(raw.astype(dtype)) for name, raw in raws.items()}

    half, single = (
        jax.jit(matrices, static_argnums=1)(np.array([0.3, -1.0], "f4"), d) for d in ("bfloat16", "float32")
    )
    for name, Q in half.items():
        np.testing.assert_array_equal(Q, single[name].astype(jnp.bfloat16), err_msg=name)


def test_a_move_of_the_base_leaves_the_matrix_where_it_is():
    module = matrix("expm", trivialization="dynamic", rebase_every=2, init="henaff")
    first = module()
    module.raw[...] = 0.3 * jax.random.normal(jax.random.key(3), (6, 6))
    before = module()
    np.testing.assert_allclose(module(), before, atol=1e-6)  # the third call moves the base
    np.testing.assert_allclose(module.base[...], before, atol=1e-6)
    np.testing.assert_array_equal(module.anchor[...], module.raw[...])
    module.eval()
    calls = int(module.calls[...])
    module()
    assert int(module.calls[...]) == calls and orthogonality_error(first) < 1e-5


CELLS = ["orthogonal", "near_identity", "irnn", "free"]


@pytest.mark.parametrize("kind", CELLS)
def test_cells_follow_the_protocol_of_nnx(kind):

    @jax.jit
    def run(x):
        cell = models.make_cell(kind, 3, 4, rngs=nnx.Rngs(1))
        assert cell.num_feature_axes == 1
        rnn = nnx.RNN(cell, return_carry=True)
        carry, outputs = rnn(x)
        of_lengths, _ = rnn(x, seq_lengths=jnp.array([3, 7]))
        further, _ = rnn(x, initial_carry=of_lengths)
        W, states = cell.hidden(), [jnp.zeros((2, 4))]
        for t in range(7):
            states.append(cell.activation(states[-1] @ W.T + cell.input(x[:, t])))
        expected_further, _ = rnn(x, initial_carry=jnp.stack([states[3][0], states[7][1]]))
        return carry[0], outputs, states[1:], cell(states[0], x[:, 0]), of_lengths[0], further[0], expected_further

    last, outputs, expected, (bare, y), of_lengths, further, expected_further = run(draw(2, 7, 3))
    np.testing.assert_allclose(outputs, np.stack(expected, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, expected[-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_lengths, [expected[2][0], expected[6][1]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(further, expected_further, rtol=1e-5, atol=1e-6)
    # a bare state works too, and gives the same
    np.testing.assert_allclose(bare, y)
    np.testing.assert_allclose(y, expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CELLS)
def test_cells_compute_in_one_dtype_and_keep_parameters_in_another(kind):
    def run(x, **dtypes):
        cell = models.make_cell(kind, 3, 4, rngs=nnx.Rngs(1), **dtypes)
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(cell, nnx.Param))} == {
            jnp.dtype(dtypes["param_dtype"])
        }
        return *nnx.RNN(cell, return_carry=True)(x), cell.state_jacobian(jnp.zeros(4), x[0, 0]).dtype

    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        for param_dtype in (jnp.bfloat16, jnp.float32):
            found = jax.eval_shape(lambda x, d=dtype, p=param_dtype: run(x, dtype=d, param_dtype=p)[:2], draw(2, 5, 3))
            assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
    if kind == "orthogonal":
        rounded, single = (
            jax.jit(lambda x, d=dtype: run(x, dtype=d, param_dtype=jnp.float32)[1])(draw(2, 5, 3))
            for dtype in ("bfloat16", "float32")
        )
        np.testing.assert_allclose(rounded.astype(jnp.float32), single, atol=0.05)


def primitives_inside_loops(jaxpr, inside=False):
    """Names of the primitives in the bodies of scans and whiles."""
    found = set()
    for equation in jaxpr.eqns:
        loop = inside or equation.primitive.name in ("scan", "while")
        if inside:
            found.add(equation.primitive.name)
        for sub in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            sub = getattr(sub, "jaxpr", sub)
            if hasattr(sub, "eqns"):
                found |= primitives_inside_loops(sub, loop)
    return found


@pytest.mark.parametrize("through", ["net", "nnx.RNN"])
def test_the_hidden_map_is_computed_once_outside_the_scan(through):
    net = models.RecurrentNet(
        input_shape=(9, 3), num_classes=2, hidden=4, parametrization="polar", activation="tanh", rngs=nnx.Rngs(0)
    )
    graphdef, state = nnx.split(net)

    def run(state, x):
        net = nnx.merge(graphdef, state)
        return jnp.sum(net(x) if through == "net" else nnx.RNN(net.cell)(x))

    jaxpr = jax.make_jaxpr(jax.grad(run))(state, jnp.ones((2, 9, 3)))
    assert "svd" in str(jaxpr)
    assert "svd" not in primitives_inside_loops(jaxpr.jaxpr)


def test_the_network_is_its_cell_and_its_head():
    x = draw(4, 7, 3)

    @jax.jit
    def three_ways(x):
        options = {"parametrization": "cayley", "rngs": nnx.Rngs(2)}
        net = models.RecurrentNet(input_shape=(7, 3), num_classes=5, hidden=6, outputs="every", **options)
        every, expected = net(x), net.head(nnx.RNN(net.cell)(x))
        net.outputs = "last"
        return every, net(x), expected

    every, last, expected = three_ways(x)
    np.testing.assert_allclose(every, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, expected[:, -1], rtol=1e-5, atol=1e-6)
    images = models.RecurrentNet(input_shape=(4, 4, 1), num_classes=3, hidden=6, rngs=nnx.Rngs(2))
    assert jax.eval_shape(images, jnp.ones((2, 4, 4, 1))).shape == (2, 3)


def test_state_jacobians_and_their_exponents():

    def build(activation):
        options = {"activation": activation, "parametrization": "cayley"}
        return models.RecurrentNet(input_shape=(9, 3), num_classes=2, hidden=5, rngs=nnx.Rngs(3), **options)

    @jax.jit
    def states_and_jacobians(x):
        net, isometry = build("tanh"), build("identity")

        def one_step(h, u):
            def after(h):
                return net.cell(h, u)[0]

            return after(h), (jax.jacfwd(after)(h), la.materialize(net.cell.state_jacobian(h, u)))

        expected, single = jax.lax.scan(one_step, jnp.zeros(5), x)[1]
        exponents = la.lyapunov_exponents(isometry.state_jacobians(x)).exponents
        return la.materialize(net.state_jacobians(x)), expected, single, exponents

    J, expected, single, exponents = states_and_jacobians(draw(9, 3))
    np.testing.assert_allclose(J, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(exponents, np.zeros(5), atol=1e-6)


@pytest.mark.parametrize("trivialization", [pytest.param("static", marks=pytest.mark.slow), "dynamic"])
def test_probes_see_the_state_jacobians_at_spread_out_times(trivialization):

    @nnx.jit
    def build():
        options = {"activation": "tanh", "trivialization": trivialization, "parametrization": "cayley"}
        return models.RecurrentNet(input_shape=(21, 3), num_classes=2, hidden=5, rngs=nnx.Rngs(3), **options)

    net, x = build(), draw(2, 21, 3)
    net.eval()
    probe = la.SpectrumProbe(net, x, layers="time", quantities=("singular_values", "eigenvalues"))
    probe.submit(0, net)
    measured = probe.wait()[0].spectra["time"]
    assert measured["singular_values"].shape == measured["eigenvalues"].shape == (2, 8, 5)
    jacobians = jax.jit(lambda net, x: la.materialize(net.state_jacobians(x)))
    for b in range(2):
        J = np.asarray(jacobians(net, x[b]), np.float64)[[0, 3, 6, 9, 11, 14, 17, 20]]
        np.testing.assert_allclose(measured["singular_values"][b], np.linalg.svd(J, compute_uv=False), atol=1e-5)
        np.testing.assert_allclose(np.prod(measured["eigenvalues"][b], axis=-1), np.linalg.det(J), rtol=1e-3, atol=1e-6)

    @jax.jit
    def of_few_times(x):
        short = models.RecurrentNet(input_shape=(3, 3), num_classes=2, hidden=5, rngs=nnx.Rngs(3))
        return la.materialize(la.layer_jacobians(short, x)["time"])

    assert jax.eval_shape(of_few_times, x[:, :3]).shape == (3, 2, 5, 5)


def test_near_identity_eigenvalues():
    hidden = models.NearIdentity(30, epsilon=0.01, antisymmetric=True, rngs=nnx.Rngs(0))
    values = np.linalg.eigvals(np.asarray(hidden(), np.float64))
    np.testing.assert_allclose(values.real, 1, atol=1e-6)  # 1 + ελ with imaginary λ
    assert np.max(np.abs(values.imag)) > 0.01


def test_modrelu_keeps_signs_and_has_a_dead_zone():
    phi = models.ModReLU(3, rngs=nnx.Rngs(0))
    phi.bias[...] = jnp.array([0.5, -0.5, 0.0])
    np.testing.assert_allclose(phi(jnp.array([-1.0, -1.0, 2.0])), [-1.5, -0.5, 2.0])
    np.testing.assert_allclose(phi(jnp.array([0.2, 0.2, 0.0])), [0.7, 0.0, 0.0], rtol=1e-6)
    # the range of the first biases; from 0 the cell starts as a linear map
    wide = models.ModReLU(500, bias=0.3, rngs=nnx.Rngs(0)).bias[...]
    assert 0.28 < float(jnp.max(jnp.abs(wide))) <= 0.3

    @jax.jit
    def states(x):
        options = {"modrelu_bias": 0.0, "head_init": "zeros", "parametrization": "cayley"}
        net = models.RecurrentNet(input_shape=(9, 3), num_classes=2, hidden=4, rngs=nnx.Rngs(0), **options)
        return net.states(2 * x), 2 * net.states(x), net(x)

    twice, double, y = states(draw(2, 9, 3))
    np.testing.assert_allclose(twice, double, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(y, np.zeros((2, 2)))
    with pytest.raises(LinearAlgebraError, match="modReLU's initial biases must be ≥ 0, got -1"):
        models.ModReLU(3, bias=-1, rngs=nnx.Rngs(0))


def test_wrong_options():
    with pytest.raises(UnknownNameError, match="did you mean 'cayley'"):
        matrix("caley")
    with pytest.raises(DimensionMismatch, match=r"even number between 2 and 6.*got 3"):
        matrix("householder", reflections=3)
    with pytest.raises(DimensionMismatch, match="got 8"):
        matrix("householder", reflections=8)
    with pytest.raises(LinearAlgebraError, match="no dynamic trivialisation"):
        matrix("polar", trivialization="dynamic")
    with pytest.raises(UnknownNameError, match="trivialisation"):
        matrix("expm", trivialization="sometimes")
    with pytest.raises(UnknownNameError, match="initial angles"):
        matrix("expm", init="henaf")
    with pytest.raises(DimensionMismatch, match="negative"):
        matrix("cayley", negative=7)
    with pytest.raises(LinearAlgebraError, match="epsilon"):
        models.NearIdentity(3, epsilon=0.0, rngs=nnx.Rngs(0))
    with pytest.raises(UnknownNameError, match="did you mean 'irnn'"):
        models.make_cell("irn", 2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(UnknownNameError, match="option of the cell 'free'"):
        models.make_cell("free", 2, 3, epsilon=0.1, rngs=nnx.Rngs(0))
    net = models.RecurrentNet(input_shape=(7, 3), num_classes=2, hidden=4, rngs=nnx.Rngs(0))
    with pytest.raises(DimensionMismatch, match="sequences"):
        net(jnp.ones((2, 7, 2)))
