"""Non-normality: how far a matrix is from having orthogonal eigenvectors, and what that does to its powers.

`henrici`, condition numbers, `power_norms` and `numerical_range` are verbs: they run under `jit`, `vmap` and in A's
precision. The instruments with certificates (`kreiss_constant`, `pseudospectrum` …) choose their work from the values,
so they run on concrete matrices, in double precision, and take leading batch axes.
"""

from __future__ import annotations

from lax_linalg.nonnormal.arnoldi import arnoldi as arnoldi
from lax_linalg.nonnormal.defective import (
    NearestDefective as NearestDefective,
    nearest_defective as nearest_defective,
)
from lax_linalg.nonnormal.eigenvalue_condition import (
    eigenvalue_condition_numbers as eigenvalue_condition_numbers,
    eigenvector_condition_number as eigenvector_condition_number,
)
from lax_linalg.nonnormal.henrici import henrici as henrici
from lax_linalg.nonnormal.jordan_powers import (
    jordan_curve as jordan_curve,
    jordan_function as jordan_function,
    jordan_power as jordan_power,
)
from lax_linalg.nonnormal.kreiss import KreissConstant as KreissConstant, kreiss_constant as kreiss_constant
from lax_linalg.nonnormal.numerical_range import (
    NumericalRadius as NumericalRadius,
    NumericalRange as NumericalRange,
    numerical_radius as numerical_radius,
    numerical_range as numerical_range,
)
from lax_linalg.nonnormal.pseudospectra import Pseudospectrum as Pseudospectrum, pseudospectrum as pseudospectrum
from lax_linalg.nonnormal.pseudospectral_radius import (
    PseudospectralExtreme as PseudospectralExtreme,
    pseudospectral_abscissa as pseudospectral_abscissa,
    pseudospectral_radius as pseudospectral_radius,
)
from lax_linalg.nonnormal.transient_growth import (
    TransientGrowth as TransientGrowth,
    power_norms as power_norms,
    transient_growth as transient_growth,
)
