"""Measured spectra with the random-matrix law that they would follow if nothing had been learnt.

python -m docs.gallery.spectra_and_laws     writes docs/gallery/spectra_and_laws.png

Left, squared singular values of one Gaussian layer with twice as many inputs as outputs, and the Marchenko–Pastur law.
Right, singular values of the end-to-end map of three Gaussian layers, and the Fuss–Catalan law, whose edge is √(4⁴/3³).
"""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

import lax_linalg as la
from lax_linalg.random_matrix import FussCatalan, MarchenkoPastur

PICTURE = pathlib.Path(__file__).with_suffix(".png")


def main(width: int = 600, out: pathlib.Path = PICTURE) -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    layers = [jax.random.normal(key, (width, width)) / jnp.sqrt(width) for key in keys[:3]]
    wide = jax.random.normal(keys[3], (width, 2 * width)) / jnp.sqrt(2 * width)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    la.plot.spectrum(
        la.svdvals(wide) ** 2,
        MarchenkoPastur(ratio=0.5),
        label=f"Gaussian layer, {width}×{2 * width}",
        title="one layer",
        ax=left,
    )
    la.plot.spectrum(
        la.svdvals(layers[0] @ layers[1] @ layers[2]),
        FussCatalan(3).singular_values(),
        label=f"product of three, {width}×{width}",
        title="three layers",
        ax=right,
    )
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
