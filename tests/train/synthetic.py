"""Workdirs with the files that training and analysis write, made of small random matrices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from train.nonnormality import nonnormality_of

SIZES = {
    "stem": (24, 12),
    "blocks/0": (24, 24),
    "blocks/0/conv1": (24, 24),
    "blocks/1": (16, 16),
    "head": (5, 16),
    "end_to_end": (5, 12),
}


HIDDEN = ("blocks/0", "blocks/1")


def variances(step: int, seed: int, name: str) -> np.ndarray:
    """(σ_w², σ_b²) of a layer that moves away from where it started."""
    i = HIDDEN.index(name)
    return np.array([[1.0 + 0.5 * seed + 0.004 * step * (1 + i), 0.0005 * step + 0.01 * i]], np.float32)


def matrices(
    step: int, inputs: int, seed: int, sizes: dict[str, tuple[int, int]], decay: float
) -> dict[str, np.ndarray]:
    """Layer Jacobians whose small singular values decay as training goes on."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, (m, n) in sizes.items():
        base = rng.standard_normal((inputs, m, n)) / np.sqrt(n)
        U, s, Vt = np.linalg.svd(base, full_matrices=False)
        fade = np.exp(-decay * step * np.linspace(0, 1, s.shape[-1]))
        layers[name] = ((U * (s * fade * (1 + 2 * decay * step))[:, None, :]) @ Vt).astype(np.float32)
    return layers


def write_run(
    workdir: Path,
    *,
    steps: range = range(0, 101, 20),
    inputs: int = 3,
    seed: int = 0,
    decay: float = 0.01,
    sizes: dict[str, tuple[int, int]] | None = None,
    probes: bool = True,
    analysed: tuple[int, ...] | range = (),
    nonnormal: tuple[str, ...] = (),
    activation: str = "",
    **config: object,
) -> Path:
    """Write config, metrics, summary, spectra and analyses of a made-up run."""
    sizes = SIZES if sizes is None else sizes
    workdir.mkdir(parents=True)
    settings = {
        "task": "digits",
        "model": "resnet",
        "seed": seed,
        "regularizer": "none",
        "workdir": str(workdir),
        **config,
    }
    (workdir / "config.json").write_text(json.dumps(settings))
    last = max(steps, default=0)
    lines = []
    for step in range(1, last + 1):
        loss = float(2.3 * np.exp(-step / max(1, last) * 4) + 0.02 * np.sin(step))
        lines.append({"kind": "train", "step": step, "loss": loss, "penalty": 0.0, "accuracy": 1 - loss / 2.4})
        if step % max(1, last // 5) == 0:
            lines.append({"kind": "eval", "step": step, "loss": loss * 1.1, "accuracy": 1 - loss / 2.2})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "status": "finished",
        "step": last,
        "test_accuracy": 0.9731,
        "test_loss": 0.1021,
        "seconds": 42.5,
        "probe_share": 0.031,
    }
    (workdir / "summary.json").write_text(json.dumps(summary))
    for directory, wanted in (("spectra", steps if probes else ()), ("analysis", analysed)):
        (workdir / directory).mkdir()
        for step in wanted:
            arrays: dict[str, np.ndarray] = {}
            for name, J in matrices(step, inputs, seed, sizes, decay).items():
                arrays[f"{name}::singular_values"] = np.linalg.svd(J, compute_uv=False)
                if directory == "analysis":
                    arrays[f"{name}::shape"] = np.array(J.shape[1:])
                    if J.shape[1] == J.shape[2]:
                        arrays[f"{name}::eigenvalues"] = np.linalg.eigvals(J).astype(np.complex64)
                    if name in nonnormal:
                        for quantity, values in nonnormality_of(J[0]).items():
                            arrays[f"{name}::nonnormal_{quantity}"] = values
                    if activation and name in HIDDEN:
                        arrays[f"{name}::mean_field"] = variances(step, seed, name)
                        arrays[f"{name}::activation"] = np.array(activation)
                    if "/" in name:
                        arrays[f"{name}::structure"] = np.array("Convolution")
                        arrays[f"{name}::operator_singular_values"] = np.linalg.svd(J[0], compute_uv=False) * 1.3
            np.savez(workdir / directory / f"step_{step:08d}.npz", **arrays)
    return workdir
