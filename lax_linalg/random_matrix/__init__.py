"""Random-matrix laws, free probability and mean field: the null hypotheses drawn behind measured spectra."""

from __future__ import annotations

from lax_linalg.random_matrix.activations import (
    Activation as Activation,
    activations as activations,
    as_activation as as_activation,
)
from lax_linalg.random_matrix.circular import CircularLaw as CircularLaw
from lax_linalg.random_matrix.comparison import Comparison as Comparison, compare as compare
from lax_linalg.random_matrix.free_product import FreeProduct as FreeProduct
from lax_linalg.random_matrix.fuss_catalan import FussCatalan as FussCatalan
from lax_linalg.random_matrix.ginibre_lyapunov import (
    GinibreLyapunov as GinibreLyapunov,
    LyapunovTriangle as LyapunovTriangle,
)
from lax_linalg.random_matrix.haar import Haar as Haar, haar_orthogonal as haar_orthogonal
from lax_linalg.random_matrix.jacobian_law import JacobianLaw as JacobianLaw
from lax_linalg.random_matrix.law import Law as Law
from lax_linalg.random_matrix.marchenko_pastur import MarchenkoPastur as MarchenkoPastur
from lax_linalg.random_matrix.mean_field import (
    CriticalPoint as CriticalPoint,
    MeanField as MeanField,
    correlation_map as correlation_map,
    critical_line as critical_line,
    critical_point as critical_point,
    fixed_length as fixed_length,
    length_map as length_map,
    phase_diagram as phase_diagram,
)
from lax_linalg.random_matrix.power_law import PowerLawFit as PowerLawFit, fit_power_law as fit_power_law
from lax_linalg.random_matrix.residual import ResidualJacobian as ResidualJacobian
from lax_linalg.random_matrix.s_transform import s_transform as s_transform
from lax_linalg.random_matrix.semicircle import QuarterCircle as QuarterCircle, Semicircle as Semicircle
from lax_linalg.random_matrix.slope import SlopeLaw as SlopeLaw
from lax_linalg.random_matrix.tracy_widom import TracyWidom as TracyWidom
from lax_linalg.random_matrix.wachter import Arcsine as Arcsine, Wachter as Wachter
