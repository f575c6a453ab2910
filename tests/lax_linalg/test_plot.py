"""Pictures: what they draw is what they were given, at the right places; no window, no global state, clear errors."""

from __future__ import annotations

import subprocess
import sys

import jax
import numpy as np
import pytest

import lax_linalg as la
from lax_linalg.random_matrix import FussCatalan, MarchenkoPastur, MeanField

A = np.array([[0.5, 4.0], [0.0, 0.4]])


def lines(ax) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): (np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in ax.get_lines()}


def contours_of(ax) -> list[np.ndarray]:
    """The vertices of every line contour, each as complex numbers."""
    from matplotlib.contour import QuadContourSet

    drawn = next(c for c in ax.collections if isinstance(c, QuadContourSet) and not c.filled)
    return [path.vertices[:, 0] + 1j * path.vertices[:, 1] for path in drawn.get_paths()]


def test_pseudospectra_are_the_discs_of_a_jordan_block(tmp_path):
    block = np.array([[0.3, 1.0], [0.0, 0.3]])
    P = la.pseudospectrum(block, grid=101, box=(-1.2, 1.8, -1.5, 1.5))
    W = la.numerical_range(block, 32)
    ax = la.plot.pseudospectrum(P, levels=[0.3, 0.1], numerical_range=W, unit_circle=True)
    for eps, contour in zip((0.1, 0.3), contours_of(ax), strict=True):
        np.testing.assert_allclose(np.abs(contour - 0.3), np.sqrt(eps * (1 + eps)), rtol=0.01)
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["eigenvalues"][0], 0.3)
    np.testing.assert_allclose(np.hypot(drawn["numerical range"][0] - 0.3, drawn["numerical range"][1]), 0.5, rtol=1e-5)
    np.testing.assert_allclose(np.hypot(*drawn["|z| = 1"]), 1)
    assert ax.get_aspect() == 1.0 and ax.get_xlim() == (-1.2, 1.8)
    for name in ("a.png", "a.svg"):
        ax.figure.savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
@pytest.mark.parametrize("matrix", [np.zeros((2, 2)), np.diag([1.0, -1.0]), np.eye(20, k=1), np.eye(1)])
def test_default_levels_are_few_and_within_the_picture(matrix, scale):
    P = la.pseudospectrum(scale * matrix, grid=24)
    contours = contours_of(la.plot.pseudospectrum(P))
    assert 1 <= len(contours) <= 9
    for contour in contours:
        assert np.all((contour.real >= P.x[0]) & (contour.real <= P.x[-1]))


def test_projections_are_labelled():
    P = la.pseudospectrum(np.diag(np.arange(6.0)), grid=8, krylov=3)
    ax = la.plot.pseudospectrum(P)
    assert "Ritz values" in lines(ax)
    assert any("from inside" in other.get_ylabel() for other in ax.figure.axes)


def test_transient_growth_lies_between_its_bounds():
    growth, K = la.transient_growth(A, steps=30), la.kreiss_constant(A)
    ax = la.plot.transient_growth(growth, kreiss=K, order=2, decay=0.5)
    drawn = lines(ax)
    np.testing.assert_array_equal(drawn[r"$\|A^k\|$"][1], growth.norms)
    np.testing.assert_allclose(drawn[r"$\rho^k$, spectral radius"][1], 0.5 ** np.arange(31))
    levels = sorted(y[0] for label, (x, y) in drawn.items() if label.startswith("_") and len(y) == 2)
    assert levels[0] == K.lower and levels[1] == pytest.approx(np.e * 2 * K.upper)
    assert ax.get_yscale() == "log"
    ax.figure.canvas.draw()
    ax = la.plot.transient_growth(la.transient_growth(A - np.eye(2), continuous=True), continuous=True)
    assert ax.get_xlabel() == "time t"


def test_nilpotent_powers_leave_the_curve():
    growth = la.transient_growth(np.eye(3, k=1), steps=6)
    curve = lines(la.plot.transient_growth(growth))[r"$\|A^k\|$"]
    np.testing.assert_array_equal(curve[0], [0, 1, 2])  # zeros have no place on a logarithmic axis


def test_histogram_and_law():
    values = FussCatalan(2).sample(jax.random.key(0), 4000)
    ax = la.plot.spectrum(values, FussCatalan(2), bins=40)
    heights = np.array([p.get_height() for p in ax.patches])
    widths = np.array([p.get_width() for p in ax.patches])
    assert np.sum(heights * widths) == pytest.approx(1, rel=1e-6)
    x, density = lines(ax)["Fuss–Catalan law"]
    np.testing.assert_allclose(density, FussCatalan(2).pdf(x), rtol=1e-5)
    assert x.min() >= 0 and x.max() <= FussCatalan(2).edge
    assert ax.get_xlabel() == "squared singular values"
    assert np.isfinite(ax.get_ylim()[1]) and ax.get_ylim()[1] >= heights.max()
    ax = la.plot.spectrum(np.zeros(5), MarchenkoPastur(2.0))  # its point mass is drawn; equal values make one bar
    assert any("mass 0.5" in t.get_text() for t in ax.texts)


def test_phase_diagram_puts_networks_on_their_side():
    point = MeanField.critical("tanh", 1.75)
    networks = {"critical": (1.75, point.bias_variance), "dying": (0.8, 0.1)}
    ax = la.plot.phase_diagram("tanh", networks, points=12, bias_variance=(0.0, 0.2))
    assert [t.get_text() for t in ax.texts] == ["ordered", "chaotic", "critical", "dying"]
    line = np.concatenate(contours_of(ax))
    nearest = np.abs(line - (1.75 + 1j * point.bias_variance)).min()
    assert nearest < 0.05  # the grid's step is 0.23 along σ_w²
    assert all(MeanField("tanh", z.real, max(z.imag, 1e-6)).chi == pytest.approx(1, abs=0.03) for z in line[::4])


def test_bad_input():
    batch = la.pseudospectrum(np.stack([A, A]), grid=3, box=(-1, 1, -1, 1))
    with pytest.raises(la.DimensionMismatch, match=r"a batch \[2\]: draw jax.tree.map"):
        la.plot.pseudospectrum(batch)
    la.plot.pseudospectrum(jax.tree.map(lambda x: x[1], batch))
    with pytest.raises(la.DimensionMismatch, match="one matrix"):
        la.plot.transient_growth(la.transient_growth(np.stack([A, A]), steps=3))
    with pytest.raises(la.LinearAlgebraError, match="levels are values of ε > 0"):
        la.plot.pseudospectrum(la.pseudospectrum(A, grid=3), levels=[-1.0])
    with pytest.raises(la.LinearAlgebraError, match="real numbers"):
        la.plot.spectrum([1j])
    with pytest.raises(la.LinearAlgebraError, match="got 2, 1 finite"):
        la.plot.spectrum([1.0, np.nan])
    with pytest.raises(la.LinearAlgebraError, match="bias_variance is a range"):
        la.plot.phase_diagram("tanh", bias_variance=(1.0, 0.0))


def test_pictures_need_no_pyplot_and_say_what_is_missing():
    code = """
import sys, lax_linalg as la
assert "matplotlib" not in sys.modules
la.plot.axes()
assert "matplotlib.pyplot" not in sys.modules
sys.modules["matplotlib.figure"] = None
try:
    la.plot.axes()
except la.LinearAlgebraError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert "pip install 'lax-linalg[full]'" in out.stdout
