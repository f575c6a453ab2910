"""`la.SpectrumProbe`: right spectra, one compilation, a bounded queue that skips aloud and loses nothing."""

from __future__ import annotations

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import lax_linalg as la
import models
from lax_linalg import probe as probe_module
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from tests.compilations import compilations
from tests.lax_linalg import drawn
from tests.train.emulated import on_eight_devices


@pytest.fixture
def x():
    return drawn.draw(0, 2, 4)


def mlp(seed=0):
    options = {"input_shape": (4,), "num_classes": 3, "widths": (5, 5), "dropout": 0.25}
    return drawn.module(lambda: models.create("mlp", rngs=nnx.Rngs(0), **options), seed)


def test_records_hold_the_layers_spectra(x):
    model = mlp()  # in training mode: the probe measures in evaluation mode
    probe = la.SpectrumProbe(model, x, quantities=("singular_values", "eigenvalues"))
    assert probe.submit(7, model)
    (record,) = probe.wait()
    assert (record.step, probe.skipped, probe.pending, record.nonfinite) == (7, [], 0, ())
    assert 0 < record.seconds < 60
    model.eval()
    J = la.layer_jacobians(model, x)
    assert probe.layers == tuple(record.spectra) == tuple(J) == ("layers/0", "layers/1", "head", "end_to_end")
    square = ("layers/1",)
    values, eigvals = jax.jit(
        lambda J: ({path: la.svdvals(J[path]) for path in J}, {path: la.eigvals(J[path]) for path in square})
    )(J)
    for path, measured in record.spectra.items():
        np.testing.assert_allclose(measured["singular_values"], values[path], atol=1e-5)
        assert isinstance(measured["singular_values"], np.ndarray)
        assert (np.diff(measured["singular_values"]) <= 0).all()
    assert [path for path, measured in record.spectra.items() if "eigenvalues" in measured] == ["layers/1"]
    eigenvalues = record.spectra["layers/1"]["eigenvalues"]
    assert eigenvalues.shape == (2, 5)
    np.testing.assert_allclose(eigenvalues, eigvals["layers/1"], atol=1e-5)


def test_states_are_taken_in_any_form(x):
    model = mlp()
    probe = la.SpectrumProbe(model, x, layers=["head"])
    state = nnx.state(model)
    without_streams = nnx.state(model, nnx.Param)
    for step, given in enumerate((model, state, nnx.as_pure(state), without_streams, nnx.as_pure(without_streams))):
        assert probe.submit(step, given)
        probe.wait()
    np.testing.assert_array_equal(probe.measure(state)["head"]["singular_values"].shape, (2, 3))


def test_one_compilation_for_all_states_of_one_architecture(x):
    first = la.SpectrumProbe(mlp(0), x, layers="layers/*")
    first.submit(0, mlp(0))
    first.wait()
    before = probe_module._measure._cache_size()
    first.submit(1, mlp(1))
    second = la.SpectrumProbe(mlp(2), x + 1, layers="layers/*")
    second.submit(0, mlp(2))
    records = first.wait() + second.wait()
    assert probe_module._measure._cache_size() == before
    spectra = [r.spectra["layers/0"]["singular_values"] for r in records]
    assert not np.allclose(*spectra)


def test_a_second_submission_compiles_nothing(x):
    model = mlp()
    probe = la.SpectrumProbe(model, x, quantities=("singular_values", "eigenvalues"))
    probe.submit(0, model)
    probe.wait()
    others = [mlp(step) for step in (1, 2)]  # initialising may compile
    with compilations() as compiled:
        for step, other in enumerate(others, start=1):
            probe.submit(step, other)
            assert len(probe.wait()) == 1
        assert compiled == []


def test_factorised_on_the_host_in_double_precision(x):
    model = mlp()
    quantities = ("singular_values", "eigenvalues")
    probes = [la.SpectrumProbe(model, x, quantities=quantities, factorise_on=place) for place in ("device", "host")]
    for probe in probes:
        probe.submit(0, model)
    (device,), (host,) = (probe.wait() for probe in probes)
    assert list(host.spectra) == list(device.spectra)
    for path, found in host.spectra.items():
        assert found.keys() == device.spectra[path].keys()
        for name, values in found.items():
            expected = device.spectra[path][name]
            assert values.dtype == expected.dtype
            np.testing.assert_allclose(np.sort(values), np.sort(expected), atol=1e-5)
    assert host.host_seconds > 0
    np.testing.assert_allclose(*(p.measure(model)["head"]["singular_values"] for p in probes))  # measure: on the device
    model.head.kernel[...] = jnp.full((5, 3), jnp.nan)
    probes[1].submit(1, model)
    assert probes[1].wait()[0].nonfinite == ("head", "end_to_end")


class Deep(nnx.Module):
    """Three layers run by scan, and declared."""

    def __init__(self):
        self.kernel = nnx.Param(drawn.draw(1, 3, 4, 4, scale=0.5))

    def scan_layers(self):
        return (lambda h, W: (jnp.tanh(h @ W), None)), self.kernel[...]

    def __call__(self, x):
        return jax.lax.scan(*self.scan_layers()[:1], x, self.kernel[...])[0]


def test_stacks_of_layers_have_the_probe_inputs_first(x):
    model = Deep()
    quantities = ("singular_values", "eigenvalues")
    expected = np.moveaxis(np.asarray(la.svdvals(la.layer_jacobians(model, x)["depth"])), 0, 1)
    mesh = jax.make_mesh((1,), ("data",))
    for options in ({}, {"factorise_on": "host"}, {"mesh": mesh}):
        probe = la.SpectrumProbe(model, x, layers="depth", quantities=quantities, **options)
        probe.submit(0, model)
        measured = probe.wait()[0].spectra["depth"]
        assert measured["eigenvalues"].shape == (2, 3, 4)
        np.testing.assert_allclose(measured["singular_values"], expected, atol=1e-5)


def test_probe_inputs_are_shared_by_devices():
    code = """
import lax_linalg as la
A = jax.random.normal(jax.random.key(0), (24, 24)) / 5
def tanh(A, x):  # its first product with the unit tangents is the same for all inputs, the others are not
    for _ in range(4):
        x = jnp.tanh(A @ x)
    return x
layers = lambda s: {"tanh": jax.tree_util.Partial(tanh, s * A)}
x = jax.random.normal(jax.random.key(1), (32, 24))
quantities = ("singular_values", "eigenvalues")
alone, shared = (la.SpectrumProbe(layers(1.0), x, quantities=quantities, mesh=m) for m in (None, mesh))
for probe in (alone, shared):
    assert probe.submit(0, layers(1.0)) and probe.submit(1, layers(2.0))
for one, other in zip(alone.wait(), shared.wait()):
    assert other.spectra["tanh"]["singular_values"].shape == (32, 24)
    for path in one.spectra:
        s, t = (r.spectra[path]["singular_values"] for r in (one, other))
        np.testing.assert_allclose(s, t, atol=1e-5)
        s, t = (np.sort_complex(r.spectra[path]["eigenvalues"]) for r in (one, other))
        np.testing.assert_allclose(s, t, atol=1e-3)
from lax_linalg import probe as module
def flops(probe):
    state = jax.device_put(probe._complete(layers(1.0)), probe._state_sharding)
    steps = tuple((path, row.how) for path, row in probe.plan.items())
    return module._measured.lower(probe._model, steps, state, probe.inputs).compile().cost_analysis()["flops"]
assert flops(alone) / flops(shared) > 7, (flops(alone), flops(shared))  # of one device
try:
    la.SpectrumProbe(layers(1.0), x[:12], mesh=mesh)
except la.DimensionMismatch as error:
    assert "12 probe inputs cannot be shared by the 8 devices" in str(error)
else:
    raise AssertionError
"""
    on_eight_devices(code)


def test_measure_is_pure_and_lives_inside_a_users_program(x):
    model = mlp()
    probe = la.SpectrumProbe(model, x, layers="end_to_end")
    measured = jax.jit(lambda state: probe.measure(state)["end_to_end"]["singular_values"][:, 0])(nnx.state(model))
    probe.submit(0, model)
    (record,) = probe.wait()
    np.testing.assert_allclose(measured, record.spectra["end_to_end"]["singular_values"][:, 0], atol=1e-5)


def test_the_training_loop_may_donate_what_it_submitted(x):
    model = mlp()
    model.eval()
    graphdef, state = nnx.split(model, nnx.Param, ...)[0], nnx.split(model, nnx.Param, ...)[1:]
    params, rest = nnx.as_pure(state[0]), state[1]
    probe = la.SpectrumProbe(model, x, layers="end_to_end", max_pending=10)
    optimizer = optax.sgd(0.1)

    @jax.jit
    def spectrum(params):
        return la.svdvals(la.layer_jacobians(nnx.merge(graphdef, params, rest), x, "end_to_end")["end_to_end"])

    def update(params, opt):
        gradients = jax.grad(lambda p: jnp.sum(nnx.merge(graphdef, p, rest)(x) ** 2))(params)
        updates, opt = optimizer.update(gradients, opt, params)
        return optax.apply_updates(params, updates), opt

    update = jax.jit(update, donate_argnums=(0, 1))
    opt, expected = optimizer.init(params), []
    for step in range(5):
        expected.append(np.asarray(spectrum(params)))
        assert probe.submit(step, params)
        params, opt = update(params, opt)
    records = probe.wait()
    assert [r.step for r in records] == list(range(5))
    for record, spectrum_then in zip(records, expected):
        np.testing.assert_allclose(record.spectra["end_to_end"]["singular_values"], spectrum_then, atol=1e-5)


def test_back_pressure_skips_aloud_and_loses_nothing(x):
    probe = la.SpectrumProbe([jnp.tanh], x, max_pending=2)
    gate = threading.Event()
    probe._worker.submit(gate.wait, 60)  # results stay under way until the gate opens
    accepted = [probe.submit(step, [jnp.tanh]) is not None for step in range(5)]
    assert accepted == [True, True, False, False, False]
    assert (probe.skipped, probe.pending, probe.ready()) == ([2, 3, 4], 2, [])
    gate.set()
    assert [r.step for r in probe.wait()] == [0, 1]
    assert probe.submit(5, [jnp.tanh])
    while probe.pending:
        time.sleep(0.01)
    assert [r.step for r in probe.ready()] == [5]
    assert (probe.ready(), probe.wait(), probe.skipped) == ([], [], [2, 3, 4])


def test_submitting_does_not_wait_for_the_result(x, monkeypatch):
    probe = la.SpectrumProbe([jnp.tanh], x, layers="0")
    waiting, block = [], jax.block_until_ready

    def watched(value):
        waiting.append(threading.current_thread())
        return block(value)

    monkeypatch.setattr(jax, "block_until_ready", watched)
    gate = threading.Event()
    probe._worker.submit(gate.wait, 60)  # nothing can be collected before the gate opens
    start = time.perf_counter()
    assert probe.submit(1, [jnp.tanh])
    assert probe.pending == 1
    assert probe.ready() == []
    gate.set()
    (record,) = probe.wait()
    assert record.seconds <= time.perf_counter() - start
    assert waiting
    assert threading.current_thread() not in waiting


def test_seconds_leave_out_the_time_in_the_queue(x):
    probe = la.SpectrumProbe([jnp.cos], x)
    probe.submit(0, [jnp.cos])
    probe.wait()
    gate = threading.Event()
    probe._worker.submit(gate.wait, 60)
    probe.submit(1, [jnp.cos])
    time.sleep(1.0)
    gate.set()
    (record,) = probe.wait()
    assert 0 < record.seconds < 0.9


class Broken:
    """A state that never arrives."""

    def block_until_ready(self):
        raise RuntimeError("device went away")


def test_errors_come_out_with_their_step_and_records_before_them_are_kept(x):
    probe = la.SpectrumProbe([jnp.sin], x)
    probe.submit(2, [jnp.sin])
    probe._futures.append(probe._worker.submit(probe._collect, 3, Broken(), None))
    probe.submit(4, [jnp.sin])
    assert [r.step for r in probe.wait()] == [2]
    with pytest.raises(RuntimeError, match="device went away") as raised:
        probe.wait()
    assert raised.value.__notes__ == ["in the spectrum probe of step 3"]
    assert [r.step for r in probe.wait()] == [4]


def test_non_finite_spectra_name_their_layers(x):
    model = mlp()
    probe = la.SpectrumProbe(model, x)
    model.layers[1].kernel[...] = jnp.full((5, 5), jnp.nan)
    probe.submit(0, model)
    (record,) = probe.wait()
    assert record.nonfinite == ("layers/1", "head", "end_to_end")  # the head's input is NaN


def test_linen_and_plain_functions(x):
    module = linen.Sequential([linen.Dense(3), jnp.tanh])
    variables = drawn.variables(module, x)
    probe = la.SpectrumProbe((module, variables), x)
    assert probe.layers == ("layers_0", "end_to_end")
    doubled = jax.tree.map(lambda a: 2 * a, variables)
    for step, given in enumerate((variables, doubled, (module, doubled), module.bind(doubled))):
        probe.submit(step, given)
        probe.wait()
    np.testing.assert_allclose(*(probe.measure(v)["layers_0"]["singular_values"] for v in ((module, doubled), doubled)))

    functions = lambda s: [jax.tree_util.Partial(jnp.multiply, s)]  # noqa: E731
    plain = la.SpectrumProbe(functions(jnp.ones(4)), x)
    plain.submit(0, functions(3 * jnp.ones(4)))
    np.testing.assert_allclose(plain.wait()[0].spectra["0"]["singular_values"], 3 * np.ones((2, 4)), rtol=1e-6)


def test_states_of_another_architecture_are_refused(x):
    probe = la.SpectrumProbe(mlp(), x)
    options = {"input_shape": (4,), "num_classes": 3, "widths": (5, 6)}
    other = drawn.module(lambda: models.create("mlp", rngs=nnx.Rngs(0), **options))
    with pytest.raises(LinearAlgebraError, match=r"another architecture: .*head.*kernel.* is \[6, 3\].* for \[5, 3\]"):
        probe.submit(0, other)
    state = nnx.state(mlp(), nnx.Param)
    del state["head"]
    with pytest.raises(LinearAlgebraError, match="the state lacks head/bias, head/kernel"):
        probe.submit(0, state)
    plain = la.SpectrumProbe([jnp.sin], x)
    with pytest.raises(LinearAlgebraError, match="not those that the probe was made with"):
        plain.submit(0, [jnp.cos])
    assert (probe.pending, plain.pending) == (0, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quantities": ["singularvalues"]}, UnknownNameError, "did you mean 'singular_values'"),
        ({"layers": ["stem"]}, UnknownNameError, "unknown layer 'stem'.*Available: 0, end_to_end"),
        ({"quantities": ["mean"]}, UnknownNameError, "unknown probe quantity 'mean'"),
        ({"factorise_on": "gpu"}, UnknownNameError, "unknown place to factorise 'gpu'.*Available: device, host"),
        ({"budget": 5}, LinearAlgebraError, "between 0 and 1"),
        ({"max_pending": 0}, DimensionMismatch, "max_pending must be ≥ 1, got 0"),
        ({"inputs": jnp.ones(())}, DimensionMismatch, "a batch"),
        ({"inputs": jnp.ones((2, 3), int)}, LinearAlgebraError, "has an input of int32"),
    ],
)
def test_bad_options_are_refused_when_the_probe_is_made(options, error, message):
    with pytest.raises(error, match=message):
        la.SpectrumProbe([jnp.sin], **{"inputs": jnp.ones((2, 3)), **options})


def test_summary_of_known_spectra():
    values = np.array([[4, 2, 1], [0, 0, 0], [3, 3, 3]], np.float32)
    summary = jax.jit(la.summary)
    s = summary(values)
    np.testing.assert_allclose(s.sigma_max, [4, 0, 3])
    np.testing.assert_allclose(s.sigma_median, [2, 0, 3])
    np.testing.assert_allclose(s.sigma_min, [1, 0, 3])
    np.testing.assert_allclose(s.cond, [4, np.inf, 1])
    np.testing.assert_allclose(s.stable_rank, [21 / 16, 0, 3], rtol=1e-6)
    p = np.array([4, 2, 1]) / 7
    np.testing.assert_allclose(s.effective_rank, [np.exp(-(p * np.log(p)).sum()), 0, 3], rtol=1e-6)
    np.testing.assert_allclose(s.log_volume, [np.log(8), -np.inf, 3 * np.log(3)], rtol=1e-6)
    huge = summary(np.full((3, 3), 1e30, np.float32))
    np.testing.assert_allclose(huge.stable_rank, 3, rtol=1e-6)  # the squares would overflow


def test_layers_that_see_integers_are_left_out_and_named(x):
    pixels = np.asarray(255 * jax.nn.sigmoid(x), np.uint8)
    layers = {"scale": lambda image: image / np.float32(255), "tanh": jnp.tanh}
    probe = la.SpectrumProbe(layers, pixels)
    assert probe.layers == ("tanh",)
    assert set(probe.left_out) == {"scale", "end_to_end"}
    assert all("integer" in reason or "uint8" in reason for reason in probe.left_out.values())
    assert probe.submit(0, layers)
    (record,) = probe.wait()
    slope = np.sort(1 - np.tanh(pixels / 255.0) ** 2, axis=1)[:, ::-1]
    np.testing.assert_allclose(record.spectra["tanh"]["singular_values"], slope, rtol=1e-5)
    assert la.SpectrumProbe(layers, pixels.astype(np.float32)).left_out == {}
