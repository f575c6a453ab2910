"""`spectrum`: one call for all singular values, for a few, or for their density, and ranks that need only norms."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lax_linalg.core.batch import Batch
from lax_linalg.core.dispatch import verb
from lax_linalg.core.operator import LinearOperator, MatrixLike, as_operator
from lax_linalg.dense.scaling import unit_of
from lax_linalg.errors import DenseLimitError, DimensionMismatch, LinearAlgebraError, UnknownNameError
from lax_linalg.spectra.density import SpectralDensity, spectral_density
from lax_linalg.spectra.summary import summary
from lax_linalg.spectra.svds import PartialSVD, svds
from lax_linalg.verbs.basic import factored_side
from lax_linalg.verbs.norms import norm, opnorm
from lax_linalg.verbs.svd import svdvals

METHODS = ("exact", "partial", "density", "auto")
EXACT_SIDE = 2048
"""Smaller side up to which method="auto" takes all singular values; benchmarks/spectrum_crossover.py measures why."""


class Spectrum(NamedTuple):
    """Singular values, a few with their residuals, or an estimate of their density; `method` says which.

    Attributes:
        method: "exact", "partial" or "density".
        singular_values: all of them, [k] descending, for "exact"; those that were found for "partial"; None otherwise.
        density: the estimate with its error bars for "density"; None otherwise.
        partial: the triplets with their residual bounds for "partial"; None otherwise.

    Example:
        >>> import lax_linalg as la
        >>> la.spectrum(la.I(2)).method
        'exact'
    """

    method: str
    singular_values: jax.Array | None
    density: SpectralDensity | None
    partial: PartialSVD | None = None


def spectrum(A: MatrixLike | Batch, method: str = "exact", *, key: jax.Array | None = None, **options: Any) -> Spectrum:
    """The singular spectrum of A: exact unless something else is asked for.

    Args:
        A: operator or array [m, n], or a `Batch` of operators.
        method: "exact" gives all singular values (`la.svdvals`); "partial" the k largest or smallest (`la.svds`) with
            residuals that bound their errors; "density" a `la.spectral_density`, an estimate; "auto" the exact values
            where they take no factorisation of a matrix with min(m, n) > 2048 and the matrices, all of a batch, fit
            `la.dense_limit`, otherwise the density.
        key: of the random vectors of the density, and of the start vector of "partial", which needs none.
        **options: of `la.spectral_density`, or of `la.svds`: k=, which=, …

    Returns:
        `Spectrum`, whose `method` says what it holds.

    Raises:
        UnknownNameError: for another method.
        LinearAlgebraError: when a density is to be estimated without a key, a partial spectrum asked for without k or
            of a batch, or options given for exact values.
        DenseLimitError, NonFiniteError: as `svdvals`.

    Cost: O(mn min(m, n)), less for structures; or that of `spectral_density`. docs/spectra.md has the measured times.

    Example:
        >>> import jax, lax_linalg as la
        >>> print(la.spectrum(la.Diagonal([1.0, 2.0])).singular_values)
        [2. 1.]
        >>> la.spectrum(la.Diagonal([1.0, 2.0]), "density", key=jax.random.key(0)).density.nodes.shape
        (16, 2)
        >>> print(la.spectrum(la.Diagonal([1.0, 2.0, 4.0]), "partial", k=1).singular_values.round(4))
        [4.]
    """
    if method not in METHODS:
        raise UnknownNameError.of("spectrum method", method, METHODS)
    A = A if isinstance(A, Batch) else as_operator(A)
    if method == "auto":
        method = "exact" if _exact_pays(A) else "density"
        options = {} if method == "exact" else options
    if method == "exact":
        if options:
            raise LinearAlgebraError(f"{', '.join(options)}: options of method='density', the exact method has none")
        return Spectrum("exact", svdvals(A), None)
    if method == "partial":
        if isinstance(A, Batch):
            raise LinearAlgebraError("a partial spectrum is of one operator: take batch[b], or jax.vmap over la.svds")
        if "k" not in options:
            raise LinearAlgebraError("how many singular values? la.spectrum(A, 'partial', k=…), and which='smallest'")
        found = svds(A, key=key, **options)
        return Spectrum("partial", found.S, None, found)
    if key is None:
        raise LinearAlgebraError(
            "a density is estimated with random vectors: give key=jax.random.key(0), or ask for method='exact'"
        )
    return Spectrum("density", None, spectral_density(A, key=key, **options))


def _exact_pays(A: LinearOperator | Batch) -> bool:
    """Whether all values take no factorisation of a matrix above `EXACT_SIDE` or the dense limit, seen by tracing."""
    try:
        with factored_side(EXACT_SIDE):
            jax.eval_shape(svdvals, A)
    except DenseLimitError:
        return False
    return True


@verb(algorithm="Norms, each by its own rule.", cost="cost of norm and opnorm")
def stable_rank(A: LinearOperator) -> jax.Array:
    """Stable rank ‖A‖_F²/‖A‖₂², between 1 and the rank; 0 for the zero matrix.

    Args:
        A: operator or array [m, n].

    Returns:
        A real scalar, exact to rounding.

    Example:
        >>> import lax_linalg as la
        >>> round(float(la.stable_rank(la.Diagonal([2.0, 1.0, 1.0]))), 4)
        1.5

    Source: Rudelson & Vershynin, J. ACM 54 (2007), doi:10.1145/1255443.1255449.
    """
    top = opnorm(A)
    unit = unit_of(top)  # against under- and overflow of squares, of which the derivatives have others
    return (norm(A) / unit / jnp.where(top == 0, 1, top / unit)) ** 2


@verb(algorithm="Entropy of the singular values.", cost="cost of svdvals")
def effective_rank(A: LinearOperator) -> jax.Array:
    """Effective rank exp H(σ/Σσ), H the Shannon entropy; between 1 and the rank; 0 for the zero matrix.

    Args:
        A: operator or array [m, n].

    Returns:
        A real scalar, exact to rounding.

    Raises:
        DenseLimitError, NonFiniteError: as `svdvals`.

    Example:
        >>> import lax_linalg as la
        >>> round(float(la.effective_rank(la.I(5))), 4)
        5.0

    Source: Roy & Vetterli, The effective rank (EUSIPCO 2007), definition 1.
    """
    m, n = A.shape
    if min(m, n) == 0:
        raise DimensionMismatch(f"effective_rank: a {m}×{n} matrix has no singular values")
    return summary(svdvals(A)).effective_rank
