"""Singular values from the basis of some steps ago: what it costs beside an SVD, and what its certificate promises.

With A ≈ A₀ and A₀ = U₀ Σ₀ V₀ᴴ, the columns of A V₀ are nearly orthogonal, and their norms are the singular values of A
up to second order in A − A₀. G = V₀ᴴ Aᴴ A V₀ certifies them: by Weyl, every |σ_i² − g_ii| ≤ ‖G − diag G‖₂ ≤ ‖·‖_F, with
no assumption about how A came about. Beside it stands what is known without any tracking: the old values, and Weyl's
|σ_i² − σ_i(A₀)²| ≤ ‖A − A₀‖₂ (‖A‖₂ + ‖A₀‖₂), which is 2 σ₁ ‖A − A₀‖₂ to first order. Weights and Jacobians of the
demonstration's network are compared 1 and 10 steps of its training apart, at two points of the training.
"""

from __future__ import annotations

import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lax_linalg as la
import models
from benchmarks.harness import Row, median_seconds
from train import loop
from train.config import TrainConfig
from train.state import split

STEPS, STARTS, LAGS = 600, (20, 300), (1, 10)
NAMES = {
    "blocks/0/conv1": "weights: a 512×512 convolution",
    "blocks/0": "one block's Jacobian, 512×512",
    "end_to_end": "end-to-end Jacobian, 10×64",
}


def snapshots() -> dict[int, Any]:
    """The demonstration's model at the steps that are compared."""
    wanted = {start + lag for start in STARTS for lag in (0, *LAGS)}
    found: dict[int, Any] = {}

    def keep(step: int, state: Any) -> None:
        if step in wanted:
            found[step] = jax.tree.map(np.asarray, state.params)

    with tempfile.TemporaryDirectory() as workdir:
        config = TrainConfig(
            steps=STEPS, augment=True, learning_rate=3e-3, schedule="cosine", spectrum_every=0, eval_every=0,
            checkpoint_every=0, display="none", workdir=workdir,
        )  # fmt: skip
        loop.train_and_evaluate(config, workdir, keep)
    return found


@jax.jit
def tracked(A: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Norms of the columns of A V, descending, and the certificate: all |σ_i² − g_ii| are below it."""
    B = A @ V
    G = B.T @ B
    g = jnp.diagonal(G)
    return jnp.sort(jnp.sqrt(g))[::-1], jnp.linalg.norm(G - jnp.diag(g))


def matrices(snapshot: dict[str, np.ndarray], x: jax.Array) -> dict[str, jax.Array]:
    """The operator of one convolution, the Jacobian of one block and that of the network, at one image."""
    model = models.create("resnet", input_shape=(8, 8, 1), num_classes=10, rngs=nnx.Rngs(0))
    definition, _, rest = split(model)
    model = definition.merge({name: jnp.asarray(a) for name, a in snapshot.items()}, rest)
    model.eval()
    J = la.layer_jacobians(model, x, list(NAMES))
    return {path: la.materialize(J[path])[0] for path in NAMES}


def rows() -> list[Row]:
    """For each matrix, start and lag how far the tracked σ² are from the true ones, and what the certificate says."""
    taken = snapshots()
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
    at = {step: matrices(snapshot, x) for step, snapshot in taken.items()}
    found = []
    for path, what in NAMES.items():
        for start in STARTS:
            A0 = at[start][path]
            V = jnp.asarray(np.linalg.svd(np.asarray(A0, np.float64))[2].T, jnp.float32)
            for lag in LAGS:
                A = at[start + lag][path]
                values, certificate = tracked(A, V)
                exact = np.linalg.svd(np.asarray(A, np.float64), compute_uv=False)
                top, k = exact[0] ** 2, exact.size
                error = float(np.max(np.abs(exact**2 - np.asarray(values)[:k] ** 2))) / top
                moved = float(np.linalg.norm(A - A0, 2) / np.linalg.norm(A0, 2))
                stale = np.linalg.svd(np.asarray(A0, np.float64), compute_uv=False)
                unchanged = float(np.max(np.abs(exact**2 - stale**2))) / top
                bound, weyl = float(certificate) / top, float(2 * moved * stale[0] / exact[0])
                detail = (
                    f"error {error:.1e} σ₁², certificate {bound:.1e}; the old values: error {unchanged:.1e}, "
                    f"Weyl's bound {weyl:.1e}, by ‖A − A₀‖₂ = {moved:.1e} ‖A₀‖₂"
                )
                holds = error <= bound + 1e-6
                found.append(
                    Row(
                        f"{what}, step {start} + {lag}", bound / max(error, 1e-12), "certificate / error of σ²",
                        "≥ 1", detail + ("" if holds else " DOES NOT HOLD"),
                    )
                )  # fmt: skip
    A = at[STARTS[0]]["blocks/0"]
    V = jnp.linalg.svd(A)[2].T
    values = jax.jit(lambda A: jnp.linalg.svd(A, compute_uv=False))
    vectors = jax.jit(lambda A: jnp.linalg.svd(A)[2])
    seconds = median_seconds(
        {"svd": lambda: values(A), "tracked": lambda: tracked(A, V), "basis": lambda: vectors(A)}, repeats=9
    )
    ms = {name: 1e3 * value for name, value in seconds.items()}
    detail = f"n = 512: {ms['tracked']:.1f} against {ms['svd']:.1f} ms; a new basis {ms['basis']:.1f} ms"
    found.append(Row("tracked values", ms["svd"] / ms["tracked"], "SVD time / ours", "> 1", detail))
    return found


if __name__ == "__main__":
    for row in rows():
        print(row)
