"""Tables of layers: numbers against NumPy, verdicts on what was planted, files that are not what they say."""

import json
import pathlib

import flax.serialization
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx

import lax_linalg as la
from lax_linalg.random_matrix.null_spectrum import null_spectrum


def written(path: pathlib.Path, arrays: dict[str, np.ndarray], types: dict[str, str]) -> pathlib.Path:
    """A safetensors file as its format says, by other code than the reader's."""
    header, body = {"__metadata__": {"format": "np"}}, b""
    for name, array in arrays.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": types[name],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def spectrum(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.linalg.svd(np.random.default_rng(seed).standard_normal((rows, columns)), compute_uv=False)


def test_numbers_are_those_of_numpy_in_double_precision():
    A = np.random.default_rng(0).standard_normal((12, 12)).astype(np.float32)
    row = la.analyze({"a": A}).rows[0]
    s, eigenvalues = np.linalg.svd(A.astype(float), compute_uv=False), np.linalg.eigvals(A.astype(float))
    expected = {
        "sigma_max": s[0],
        "sigma_min": s[-1],
        "cond": s[0] / s[-1],
        "frobenius": np.linalg.norm(A.astype(float)),
        "nuclear": s.sum(),
        "stable_rank": np.sum(s**2) / s[0] ** 2,
        "log_volume": np.linalg.slogdet(A.astype(float))[1],
        "spectral_radius": np.abs(eigenvalues).max(),
        "henrici": np.sqrt(np.sum(s**2) - np.sum(np.abs(eigenvalues) ** 2)),
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    scaled = la.analyze({"a": A.astype(float) * 1e-170}).rows[0]  # whose squares would underflow
    assert scaled["henrici"] == pytest.approx(row["henrici"] * 1e-170, rel=1e-9, abs=0)
    assert (scaled["outside"], scaled["verdict"]) == (row["outside"], row["verdict"])


def test_weights_of_a_file_are_convolutions_not_reshaped_kernels():
    kernel = np.random.default_rng(0).standard_normal((3, 2, 3, 3)).astype(np.float32)  # OIHW
    operators, left_out = la.weight_operators({"conv": kernel, "bias": np.ones(3)}, layout="OIHW", image_size=5)
    row = la.analyze(operators).rows[0]
    symbol = np.fft.fft2(kernel.astype(float), (5, 5))  # [O, I, 5, 5]
    s = np.linalg.svd(np.moveaxis(symbol, (0, 1), (-2, -1)), compute_uv=False)
    assert (row["sigma_max"], row["sigma_min"]) == pytest.approx((s.max(), s.min()), rel=1e-5)
    assert (row["rows"], row["columns"], row["parameters"], row["method"]) == (75, 50, 54, "exact")
    assert left_out == {"bias": "is a vector"}


def test_a_model_has_a_row_for_every_weight_and_jacobian():
    model = nnx.Sequential(
        nnx.Conv(2, 3, (3, 3), padding="CIRCULAR", rngs=nnx.Rngs(0)),
        jnp.tanh,
        nnx.Linear(3, 4, rngs=nnx.Rngs(1)),
    )
    found = la.analyze(model, np.random.default_rng(0).standard_normal((2, 4, 4, 2)).astype(np.float32))
    rows = {(row["layer"], row["of"]): row for row in found.rows}
    kernel = np.asarray(model.layers[0].kernel[...], float)
    symbol = np.linalg.svd(np.fft.fft2(kernel, (4, 4), axes=(0, 1)), compute_uv=False)
    for of in ("weight", "jacobian"):
        row = rows["layers/0", of]
        assert (row["rows"], row["columns"], row["sigma_max"]) == (48, 32, pytest.approx(symbol.max(), rel=1e-5))
    W = np.linalg.svd(np.asarray(model.layers[2].kernel[...], float), compute_uv=False)
    assert (rows["layers/2", "weight"]["rows"], rows["layers/2", "weight"]["columns"]) == (4, 3)
    assert rows["layers/2", "weight"]["sigma_min"] == pytest.approx(W[-1], rel=1e-5)
    assert rows["layers/2", "jacobian"]["rows"] == 64 and rows["layers/2", "jacobian"]["inputs"] == 2
    J = la.layer_jacobians(model, jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 2)), jnp.float32))
    exact = np.linalg.svd(np.asarray(la.materialize(J["end_to_end"]), float), compute_uv=False)
    assert rows["end_to_end", "jacobian"]["sigma_max"] == pytest.approx(np.median(exact[:, 0]), rel=1e-5)
    assert ("end_to_end", "weight") not in rows


def test_large_operators_are_measured_partially_with_their_error():
    A = la.Convolution(np.random.default_rng(0).standard_normal((3, 1, 1)).astype(np.float32), 300)
    row = la.analyze({"a": A}, k=3, memory_budget=2**17).rows[0]
    s = np.linalg.svd(np.asarray(la.materialize(A), float), compute_uv=False)
    assert row["method"] == "partial" and row["cond"] is None
    assert abs(row["sigma_max"] - s[0]) <= row["error"] + 1e-4 * s[0]


def test_random_matrices_are_random_at_the_level_of_the_test():
    for rows, columns in ((20, 20), (30, 80)):
        tests = [null_spectrum(rows, columns).test(3e-7 * spectrum(rows, columns, seed)) for seed in range(100)]
        assert sum(t.verdict == "not random" for t in tests) <= 11  # of 5 expected: a chance of 0.4 %
        assert sum(t.outside > 0 for t in tests) <= 11


def test_planted_structure_is_found():
    draw = np.random.default_rng(0)
    W = draw.standard_normal((60, 90))
    u, v = np.ones(60) / np.sqrt(60), np.ones(90) / np.sqrt(90)
    spiked = la.analyze({"w": W + 40 * np.outer(u, v)}).rows[0]
    assert spiked["outside"] == 1 and spiked["alpha"] is None
    orthogonal = la.analyze({"w": np.linalg.qr(W[:, :60])[0]}).rows[0]
    assert orthogonal["verdict"] == "not random"


def test_tables_and_comparisons(tmp_path):
    first, second = la.analyze({"a": np.eye(3), "b": np.eye(2)}), la.analyze({"a": np.diag([1.0, 1.0, 0.0])})
    change = first.compare(second)
    assert change.rows[0]["moved"] == 1 and change.rows[0]["cond_after"] == np.inf
    assert list(change.left_out) == ["b (weight)"] and "left out: b" in str(change)
    stored = json.loads(second.to_json(tmp_path / "a.json"))
    assert stored["rows"][0]["cond"] == "inf" and stored == json.loads((tmp_path / "a.json").read_text())
    header, line = second.to_csv().splitlines()
    assert dict(zip(header.split(","), line.split(",")))["rows"] == "3"


def test_safetensors_are_read_bit_by_bit(tmp_path):
    arrays = {
        "double": np.array([[1.5, -2.0]]),
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "brain": np.arange(4).astype(jnp.bfloat16).reshape(2, 2),
        "bytes": np.array([[1, 2]], np.int8),
        "empty": np.zeros((0, 2), np.float32),
    }
    types = {"double": "F64", "half": "F16", "brain": "BF16", "bytes": "I8", "empty": "F32"}
    found = la.read_arrays(written(tmp_path / "a.safetensors", arrays, types))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    operators, left_out = la.weight_operators(found)
    assert list(operators) == ["double", "half", "brain"] and "quantised" in left_out["bytes"]


def test_files_that_are_not_what_they_say(tmp_path):
    good = written(tmp_path / "a.safetensors", {"w": np.ones((4, 4), np.float32)}, {"w": "F32"}).read_bytes()
    other = written(tmp_path / "b.safetensors", {"w": np.ones((4, 4), np.int8)}, {"w": "F8_E4M3"}).read_bytes()
    archive = tmp_path / "c.npz"
    np.savez(archive, w=np.ones((4, 4)))
    np.savez(tmp_path / "d.npz", w=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    cases = {
        good[:-1]: "truncated",
        good[:40]: "truncated",
        good.replace(b'"shape"', b'"shade"'): "damaged",
        good.replace(b"[4, 4]", b"[4, 5]"): "needs 80 bytes",
        good.replace(b"[4, 4]", b"[-4,4]"): "needs",
        other: "F8_E4M3",
        archive.read_bytes()[:-30]: "truncated or damaged",
        (tmp_path / "d.npz").read_bytes(): "pickled",
        b"\x80\x04K\x01.": "none of",
        b"": "none of",
    }
    for number, (data, message) in enumerate(cases.items()):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(data)
        with pytest.raises(la.UnreadableFileError, match=message):
            la.read_arrays(path)
    with pytest.raises(la.UnreadableFileError, match="cannot be read"):
        la.read_arrays(tmp_path / "missing")


def test_bad_input():
    with pytest.raises(la.NonFiniteError, match=r"'w' holds 1 NaN"):
        la.weight_operators({"w": np.array([[1.0, np.nan]])})
    with pytest.raises(la.NonFiniteError, match="'w'"):
        la.analyze({"w": np.array([[1.0, np.nan]])})
    with pytest.raises(la.UnknownNameError, match="OIHW"):
        la.weight_operators({}, layout="OIHV")
    with pytest.raises(la.LinearAlgebraError, match="probe inputs"):
        la.analyze([jnp.tanh])
    with pytest.raises(la.DimensionMismatch, match="k is"):
        la.analyze({}, k=0)


def test_a_network_that_others_trained():
    silero = pytest.importorskip("importlib.util").find_spec("silero_vad")
    if silero is None:
        pytest.skip("silero-vad is not installed")
    path = pathlib.Path(silero.submodule_search_locations[0]) / "data" / "silero_vad_16k.safetensors"
    found = la.analyze(la.weight_operators(la.read_arrays(path), layout="OIHW")[0])
    rows = {row["layer"]: row for row in found.rows}
    recurrent = np.linalg.svd(la.read_arrays(path)["lstm_cell.weight_hh"].astype(float), compute_uv=False)
    assert rows["lstm_cell.weight_hh"]["sigma_max"] == pytest.approx(recurrent[0])
    assert all(row["verdict"] in ("not random", None) for row in rows.values())


def net(seed: int) -> nnx.Sequential:
    return nnx.Sequential(nnx.Linear(3, 5, rngs=nnx.Rngs(seed)), jnp.tanh, nnx.Linear(5, 2, rngs=nnx.Rngs(seed + 1)))


def test_checkpoints_of_all_formats_come_back_into_their_models(tmp_path):
    model, x = net(0), np.ones((1, 3), np.float32)
    tree = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    flat = {f"layers.{i}.{kind}": np.asarray(tree["layers"][i][kind]) for i in (0, 2) for kind in ("kernel", "bias")}
    plain = {"layers": {str(i): part for i, part in tree["layers"].items()}}
    np.savez(tmp_path / "a.npz", **flat)
    written(tmp_path / "a.safetensors", flat, dict.fromkeys(flat, "F32"))
    (tmp_path / "a.msgpack").write_bytes(flax.serialization.msgpack_serialize(flax.serialization.to_state_dict(plain)))
    ocp.PyTreeCheckpointer().save(tmp_path / "steps" / "7", {"params": plain})
    for path in ("a.npz", "a.safetensors", "a.msgpack", "steps/7", "steps"):
        found = la.with_arrays(net(5), la.read_arrays(tmp_path / path))
        assert np.array_equal(found(x), model(x)), path
    for name in ("a.msgpack",):
        data = (tmp_path / name).read_bytes()
        (tmp_path / "cut").write_bytes(data[: len(data) // 2])
        with pytest.raises(la.UnreadableFileError, match="truncated"):
            la.read_arrays(tmp_path / "cut")
    with pytest.raises(la.UnreadableFileError, match="no folder of Orbax"):
        la.read_arrays(tmp_path)
    module = linen.Dense(2)
    variables = {"params": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
    arrays = {"W": np.ones((3, 2)), "bias": np.ones(2)}
    _, filled = la.with_arrays((module, variables), arrays, {"kernel": "W"})
    assert float(module.apply(filled, jnp.ones(3))[0]) == 4


def test_what_does_not_fit_is_listed_with_the_nearest_names():
    arrays = {
        "layers.0.kernel": np.ones((3, 4)),
        "layers.0.bias": np.full(5, np.nan),
        "layers.2.kernal": np.ones((5, 2)),
    }
    with pytest.raises(la.UnreadableFileError) as error:
        la.with_arrays(net(0), arrays)
    for part in (
        "'layers/0/kernel' is [3, 4] in the file, [3, 5] in the model",
        "'layers.0.bias' holds NaN",
        "missing: 'layers/2/kernel' (nearest: 'layers/2/kernal')",
        "missing: 'layers/2/bias'",
        "unexpected: 'layers/2/kernal'",
    ):
        assert part in str(error.value)
