"""Non-normality: how far a matrix is from having orthogonal eigenvectors, and what that does to its powers."""

from __future__ import annotations

from lax_linalg.nonnormal.eigenvalue_condition import (
    eigenvalue_condition_numbers as eigenvalue_condition_numbers,
    eigenvector_condition_number as eigenvector_condition_number,
)
from lax_linalg.nonnormal.henrici import henrici as henrici
from lax_linalg.nonnormal.kreiss import KreissConstant as KreissConstant, kreiss_constant as kreiss_constant
from lax_linalg.nonnormal.numerical_range import (
    NumericalRadius as NumericalRadius,
    NumericalRange as NumericalRange,
    numerical_radius as numerical_radius,
    numerical_range as numerical_range,
)
