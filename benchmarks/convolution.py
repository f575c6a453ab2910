"""Spectra of convolutional layers: against the method of Sedghi, Gupta & Long in NumPy, and against dense SVDs.

The peer is their published recipe, `numpy.fft.fft2` of the kernel padded to the image and one batched
`numpy.linalg.svd` without vectors, in the same float32. Ours takes the half spectrum of a real kernel and sums only the
taps that there are; symbols of up to 32 channels give their values through Gram matrices in double precision
(`gram_svdvals.py`); all come sorted. Called as it stands, as the peer is, it shares larger symbols among the
cores; within a jitted program, such as a training step's, one core works. NumPy's batched call knows one core only.
The rows on zero padding compare the exact routes with the SVD of the materialised matrix, and the circular norm with
the true one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import lax_linalg as la
from benchmarks.harness import Row, median_seconds


def sedghi_gupta_long(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """All singular values of a circular convolution with stride 1, [H, W, min(cin, cout)] (2019, section 3)."""
    return np.linalg.svd(np.fft.fft2(kernel, shape, axes=(0, 1)), compute_uv=False)


def circular(channels: int, n: int = 32, k: int = 3) -> list[Row]:
    """Ours against the peer's, both checked against each other."""
    kernel = np.random.default_rng(0).standard_normal((k, k, channels, channels)).astype(np.float32)
    A = la.Convolution(jnp.asarray(kernel), (n, n), padding="circular")
    jitted = jax.jit(la.svdvals)
    peer = np.sort(sedghi_gupta_long(kernel, (n, n)).ravel())[::-1]
    np.testing.assert_allclose(la.svdvals(A), peer, atol=1e-4 * peer[0])
    seconds = median_seconds(
        {
            "ours": lambda: la.svdvals(A),
            "jitted": lambda: jitted(A),
            "norm": lambda: la.opnorm(A),
            "peer": lambda: sedghi_gupta_long(kernel, (n, n)),
        },
        repeats=31 if channels < 64 else 7,
    )
    ms = {key: 1e3 * value for key, value in seconds.items()}
    names = {"ours": "svdvals", "norm": "opnorm", "jitted": "svdvals in a jitted program"}
    return [
        Row(
            f"{name}, {n}×{n}×{channels} circular, {k}×{k}",
            ms["peer"] / ms[key],
            "Sedghi–Gupta–Long time / ours",
            ("≥ 4" if channels == 16 else "≥ 3") if key == "ours" else "",
            f"{ms[key]:.1f} against {ms['peer']:.1f} ms",
        )
        for key, name in names.items()
    ]


def zero_padded(name: str, A: la.Convolution) -> Row:
    """The structured exact route against the SVD of the materialised matrix."""
    ours, dense = jax.jit(la.svdvals), jax.jit(lambda A: la.svdvals(la.materialize(A)))
    np.testing.assert_allclose(ours(A), dense(A), atol=1e-4 * float(dense(A)[0]))
    seconds = median_seconds({"ours": lambda: ours(A), "dense": lambda: dense(A)}, repeats=3, warmup=1)
    return Row(f"svdvals, zero-padded, {name}", seconds["dense"] / seconds["ours"], "dense SVD time / ours", "≥ 1",
               f"{A!r}, ours {1e3 * seconds['ours']:.0f} ms")  # fmt: skip


def top_value(n: int, channels: int) -> list[Row]:
    """σ₁ of a zero-padded layer by Golub–Kahan against the SVD, and the circular value that is not a substitute."""
    kernel = jax.random.normal(jax.random.key(0), (5, 5, channels, channels))
    A = la.Convolution(kernel, (n, n))
    top, dense = jax.jit(lambda A: la.svds(A, 1)), jax.jit(lambda A: la.svdvals(la.materialize(A)))
    found, exact = top(A), float(dense(A)[0])
    residual = float(found.residuals[0])
    assert abs(float(found.S[0]) - exact) <= residual + 1e-5 * exact
    seconds = median_seconds({"ours": lambda: top(A).S, "dense": lambda: dense(A)}, repeats=3, warmup=1)
    wrapped = float(la.opnorm(la.Convolution(kernel, (n, n), padding="circular")))
    bound = la.opnorm_bound(A)
    detail = f"{A!r}, residual {residual:.1e}"
    return [
        Row("σ₁ of a zero-padded layer, svds", seconds["dense"] / seconds["ours"], "dense SVD time / ours", "", detail),
        Row("σ₁ circular, the same kernel", wrapped / exact, "true σ₁, which it is not", "", f"true σ₁ {exact:.2f}"),
        Row(
            "opnorm_bound upper",
            float(bound.upper) / exact,
            "true σ₁",
            "≥ 1",
            f"lower {float(bound.lower) / exact:.4f}",
        ),
    ]


def large_layer() -> Row:
    """The layer of the specification, 64×64×5×5 at n = 12, too large for a dense SVD in a benchmark."""
    kernel = jax.random.normal(jax.random.key(0), (5, 5, 64, 64))
    A = la.Convolution(kernel, (12, 12))
    found = jax.jit(lambda A: la.svds(A, 1))(A)
    true, residual = float(found.S[0]), float(found.residuals[0])
    wrapped = float(la.opnorm(la.Convolution(kernel, (12, 12), padding="circular")))
    return Row("σ₁ circular, 64×64×5×5 at n = 12", wrapped / true, "true σ₁ (zero padding)", "",
               f"{wrapped:.2f} against {true:.2f} ± {residual:.1e}")  # fmt: skip


def rows() -> list[Row]:
    """Every row of this benchmark."""
    draw = np.random.default_rng(1).standard_normal
    depthwise = la.Convolution(jnp.asarray(draw((3, 3, 1, 16)), jnp.float32), (16, 16), groups=16)
    grouped = la.Convolution(jnp.asarray(draw((3, 3, 4, 16)), jnp.float32), (8, 8), groups=4)
    return [
        *circular(64),
        *circular(16),
        zero_padded("depthwise", depthwise),
        zero_padded("grouped", grouped),
        *top_value(8, 16),
        large_layer(),
    ]
