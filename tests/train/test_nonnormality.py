"""Non-normality in the analysis of checkpoints: what the files hold is what the library finds for the same matrix."""

from __future__ import annotations

import numpy as np
import pytest

import lax_linalg as la
from tests.train.synthetic import SIZES, matrices, write_run
from train import analysis
from train.nonnormality import QUANTITIES, nonnormality_of, numbers_of
from train.report import nonnormality
from train.report.load import load_run
from train.report.payload import build_payload


def test_exact_for_small_orders():
    A = (np.random.default_rng(0).normal(size=(12, 12)) / 2).astype(np.float32).astype(float)
    found = nonnormality_of(A.astype(np.float32))
    scale = np.abs(np.linalg.eigvals(A)).max() * (1 + 1e-6)
    assert found["scale"] == pytest.approx(scale, rel=1e-6) and scale > 1
    B = A / scale
    norms = [np.linalg.norm(np.linalg.matrix_power(B, k), 2) for k in range(len(found["transient"]))]
    np.testing.assert_allclose(found["transient"], norms, rtol=1e-4)
    K = la.kreiss_constant(B)
    assert found["kreiss"][0] <= K.upper * (1 + 1e-5) and found["kreiss"][1] >= K.lower * (1 - 1e-5)
    power, largest = np.eye(12), 1.0
    for _ in range(3000):  # the curve that is kept shows the beginning only
        power = power @ B
        largest = max(largest, np.linalg.norm(power, 2))
    assert found["kreiss"][0] <= largest * (1 + 1e-5) and largest <= np.e * 12 * found["kreiss"][1]
    w = la.numerical_radius(B)
    assert found["numerical_radius"][0] <= w.upper * (1 + 1e-5) and w.lower <= found["numerical_radius"][1] * (1 + 1e-5)
    assert found["eigenvector_condition"] == pytest.approx(np.linalg.cond(np.linalg.eig(A)[1]), rel=1e-3)
    x_min, x_max, y_min, y_max = found["box"]
    z = np.linspace(x_min, x_max, 40)[None] + 1j * np.linspace(y_min, y_max, 40)[:, None]
    sigma = np.linalg.svd(z[5::9, 3::9, None, None] * np.eye(12) - B, compute_uv=False)[..., -1]
    np.testing.assert_allclose(found["pseudospectrum"][5::9, 3::9], np.log10(sigma), atol=1e-3)
    assert not found["projected"]
    assert set(numbers_of(found)) == set(QUANTITIES)


def test_large_orders_are_seen_from_inside():
    A = np.random.default_rng(1).normal(size=(90, 90)) / np.sqrt(90)
    found = nonnormality_of(A, order=64, eigenvalues=np.linalg.eigvals(A).astype(np.complex64))
    B = A / float(found["scale"])
    assert found["projected"] and np.isnan(found["eigenvector_condition"]) and np.isinf(found["kreiss"][1])
    norms = np.array([np.linalg.norm(np.linalg.matrix_power(B, k), 2) for k in range(len(found["transient"]))])
    assert np.all(found["transient"] <= norms * (1 + 1e-4)) and 1 <= found["kreiss"][0] <= norms.max() * 1.01
    w = la.numerical_radius(B, rtol=1e-3)
    assert found["numerical_radius"][0] <= w.upper and w.lower <= found["numerical_radius"][1]


@pytest.mark.parametrize(
    ("A", "kreiss"), [(np.eye(3), 1.0), (np.zeros((2, 2)), 1.0), (np.array([[1.0, 1.0], [0.0, 1.0]]), np.inf)]
)
def test_special_matrices(A, kreiss):
    found = nonnormality_of(A)
    if np.isfinite(kreiss):
        np.testing.assert_allclose(found["kreiss"], kreiss)
    else:  # a Jordan block on the unit circle: unbounded, or 10⁶ times as large as any curve shown
        assert found["kreiss"][1] > 1e5


def test_matrices_that_are_not_finite_are_nan():
    found = nonnormality_of(np.full((3, 3), np.nan))
    assert all(np.isnan(values).all() for name, values in found.items() if name != "projected")
    assert set(found) == set(nonnormality_of(np.eye(3)))
    assert analysis.spectrum_of(np.full((3, 3), np.nan), 64)["nonnormal_kreiss"].shape == (2,)


def test_rows_of_the_table_hold_the_numbers():
    found = analysis.spectrum_of(np.array([[0.5, 4.0], [0.0, 0.5]]), 64)
    arrays = {f"layer::{key}": values if "nonnormal" in key else values[None] for key, values in found.items()}
    (row,) = analysis.rows_of(7, arrays | {"layer::shape": np.array([2, 2])})
    assert row["kreiss_lower"] <= 4.07 and row["transient_max"] == pytest.approx(4.0623, rel=1e-3)
    assert set(row) <= set(analysis.COLUMNS)
    assert "nonnormal_kreiss" not in analysis.spectrum_of(np.ones((2, 3)), 64)


def test_the_report_draws_what_the_analysis_found(tmp_path):
    workdir = write_run(tmp_path / "run", steps=range(0, 41, 20), inputs=1, analysed=(0, 40), nonnormal=("blocks/1",))
    run = load_run(workdir)
    description, block = build_payload([run])
    numbers = np.frombuffer(block, "<f4")
    assert [name for name, layer in description["runs"][0]["layers"].items() if layer["nonnormal"]] == ["blocks/1"]
    drawn = description["runs"][0]["layers"]["blocks/1"]["nonnormal"]
    assert sorted(drawn) == [0, 40]
    found = nonnormality.taken(run.spectra(40)["blocks/1"])
    assert found is not None

    def view(place):
        return numbers[place[0] : place[0] + place[1]]

    scale = float(found["scale"])
    # σ_min(zI − J) at a corner of the grid, of the Jacobian itself
    J = matrices(40, 1, 0, SIZES, 0.01)["blocks/1"][0].astype(float)
    x_min, _, y_min, _ = drawn[40]["box"]
    sigma = np.linalg.svd((x_min + 1j * y_min) * np.eye(16) - J, compute_uv=False)[-1]
    assert view(drawn[40]["sigma"])[0] == pytest.approx(np.log10(sigma), abs=1e-4)
    np.testing.assert_array_equal(view(drawn[40]["transient"]), found["transient"])
    boundary = view(drawn[40]["range"]).reshape(2, -1)
    assert boundary.shape == (2, 65) and np.all(boundary[:, 0] == boundary[:, -1])
    support = np.linalg.eigvalsh((J + J.T) / 2)[-1]
    assert boundary[0].max() == pytest.approx(support, rel=1e-4)
    assert drawn[40]["lower"] <= drawn[40]["upper"] / np.e / 16 * (1 + 1e-6) and drawn[40]["scale"] == scale
    few, small = build_payload([run], 40_000)
    assert len(few["runs"][0]["layers"]["blocks/1"]["nonnormal"]) == 1 and len(small) < 60_000
