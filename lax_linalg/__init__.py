"""lax-linalg: Julia-style structured linear algebra for deep-learning research, on JAX.

    import lax_linalg as la

gives a flat namespace: operators (`la.Convolution`, `la.Diagonal` …), verbs on them and on plain arrays (`la.svdvals`,
`la.opnorm` …), Jacobians of functions and of whole networks, and what to compare their spectra with.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import jax

__version__ = "0.1.0"

from lax_linalg import gallery as gallery
from lax_linalg.budget import ProbeBudget as ProbeBudget
from lax_linalg.core.batch import Batch as Batch, Stack as Stack
from lax_linalg.core.dense import Dense as Dense
from lax_linalg.core.operator import (
    LinearOperator as LinearOperator,
    MatrixLike as MatrixLike,
    as_operator as as_operator,
)
from lax_linalg.dense import platform as platform
from lax_linalg.errors import (
    ConvergenceError as ConvergenceError,
    DenseLimitError as DenseLimitError,
    DimensionMismatch as DimensionMismatch,
    LinearAlgebraError as LinearAlgebraError,
    NonFiniteError as NonFiniteError,
    NotDifferentiableError as NotDifferentiableError,
    NotPositiveDefiniteError as NotPositiveDefiniteError,
    SingularError as SingularError,
    UnknownNameError as UnknownNameError,
)
from lax_linalg.integrations.lineax import from_lineax as from_lineax, to_lineax as to_lineax
from lax_linalg.iterative import IterativeSolution as IterativeSolution, cg as cg, gmres as gmres, lsmr as lsmr
from lax_linalg.jacobian.layers import LayerJacobians as LayerJacobians, layer_jacobians as layer_jacobians
from lax_linalg.jacobian.operator import Jacobian as Jacobian, jacobian as jacobian
from lax_linalg.jacobian.routes import Route as Route
from lax_linalg.jacobian.scan import recurrent_jacobians as recurrent_jacobians, scan_jacobians as scan_jacobians
from lax_linalg.operators import (  # noqa: F401  # registers rules that stand in files of their own
    algebra as _algebra,
    factored as _factored,
    lazy_functions as _lazy_functions,
    low_rank_functions as _low_rank_functions,
    submatrices as _submatrices,
    transpose_functions as _transpose_functions,
)
from lax_linalg.operators.bidiagonal import Bidiagonal as Bidiagonal
from lax_linalg.operators.block_diagonal import BlockDiagonal as BlockDiagonal
from lax_linalg.operators.circulant import Circulant as Circulant
from lax_linalg.operators.concatenation import block as block, hcat as hcat, vcat as vcat
from lax_linalg.operators.convolution import (  # noqa: F401
    compositions as _compositions,
    functions as _convolution_functions,
    spectra as _convolution_spectra,
    window_entries as _window_entries,
)
from lax_linalg.operators.convolution.convolution import Convolution as Convolution
from lax_linalg.operators.convolution.locally_connected import LocallyConnected as LocallyConnected
from lax_linalg.operators.diagonal import Diagonal as Diagonal
from lax_linalg.operators.diagonal_plus_low_rank import DiagonalPlusLowRank as DiagonalPlusLowRank
from lax_linalg.operators.hankel import Hankel as Hankel
from lax_linalg.operators.hermitian import Hermitian as Hermitian, Symmetric as Symmetric
from lax_linalg.operators.host import HostOperator as HostOperator, to_scipy as to_scipy
from lax_linalg.operators.householder import Householder as Householder, HouseholderProduct as HouseholderProduct
from lax_linalg.operators.jordan import JordanBlock as JordanBlock
from lax_linalg.operators.kronecker import Kronecker as Kronecker
from lax_linalg.operators.lazy import Product as Product, Scaled as Scaled, Sum as Sum, Transpose as Transpose
from lax_linalg.operators.low_rank import LowRank as LowRank
from lax_linalg.operators.permutation import Permutation as Permutation
from lax_linalg.operators.selection import Selection as Selection
from lax_linalg.operators.symtridiagonal import SymTridiagonal as SymTridiagonal
from lax_linalg.operators.toeplitz import Toeplitz as Toeplitz, levinson as levinson
from lax_linalg.operators.toeplitz_solvers import Levinson as Levinson
from lax_linalg.operators.triangular import (
    LowerTriangular as LowerTriangular,
    Triangular as Triangular,
    UpperTriangular as UpperTriangular,
)
from lax_linalg.operators.triangular_toeplitz import TriangularToeplitz as TriangularToeplitz
from lax_linalg.operators.tridiagonal import Tridiagonal as Tridiagonal
from lax_linalg.operators.tridiagonal_toeplitz import TridiagonalToeplitz as TridiagonalToeplitz
from lax_linalg.operators.uniform_scaling import UniformScaling as UniformScaling
from lax_linalg.probe import SpectrumProbe as SpectrumProbe, SpectrumRecord as SpectrumRecord
from lax_linalg.projection import Projection as Projection, project as project
from lax_linalg.spectra.density import (
    Estimate as Estimate,
    SpectralDensity as SpectralDensity,
    spectral_density as spectral_density,
)
from lax_linalg.spectra.estimates import (
    frobenius_estimate as frobenius_estimate,
    log_volume_estimate as log_volume_estimate,
    logdet_estimate as logdet_estimate,
    spectral_sum_estimate as spectral_sum_estimate,
    trace_estimate as trace_estimate,
)
from lax_linalg.spectra.lyapunov import (
    FiniteTimeLyapunov as FiniteTimeLyapunov,
    Lyapunov as Lyapunov,
    finite_time_lyapunov as finite_time_lyapunov,
    lyapunov_exponents as lyapunov_exponents,
)
from lax_linalg.spectra.opnorm_bound import NormBound as NormBound, opnorm_bound as opnorm_bound
from lax_linalg.spectra.spectrum import (
    Spectrum as Spectrum,
    effective_rank as effective_rank,
    spectrum as spectrum,
    stable_rank as stable_rank,
)
from lax_linalg.spectra.summary import SpectrumSummary as SpectrumSummary, summary as summary
from lax_linalg.spectra.svds import PartialSVD as PartialSVD, svds as svds
from lax_linalg.verbs.arithmetic import (
    add as add,
    adjoint as adjoint,
    conj as conj,
    kron as kron,
    multiply as multiply,
    scale as scale,
    transpose as transpose,
)
from lax_linalg.verbs.basic import (
    dense_limit as dense_limit,
    diag as diag,
    eltype as eltype,
    materialize as materialize,
    size as size,
    tr as tr,
)
from lax_linalg.verbs.cholesky import Cholesky as Cholesky, cholesky as cholesky
from lax_linalg.verbs.det import LogAbsDet as LogAbsDet, det as det, logabsdet as logabsdet, logdet as logdet
from lax_linalg.verbs.eigen import (
    Eigen as Eigen,
    eigen as eigen,
    eigmax as eigmax,
    eigmin as eigmin,
    eigvals as eigvals,
    spectral_radius as spectral_radius,
)
from lax_linalg.verbs.entries import submatrix as submatrix, tril as tril, triu as triu
from lax_linalg.verbs.functions import exp as exp, log as log, power as power, sqrt as sqrt
from lax_linalg.verbs.lu import LU as LU, lu as lu
from lax_linalg.verbs.norms import cond as cond, isapprox as isapprox, norm as norm, opnorm as opnorm
from lax_linalg.verbs.polar import Polar as Polar, polar as polar
from lax_linalg.verbs.predicates import (
    isdiag as isdiag,
    ishermitian as ishermitian,
    isnormal as isnormal,
    isorthogonal as isorthogonal,
    isposdef as isposdef,
    issymmetric as issymmetric,
    istril as istril,
    istriu as istriu,
    isunitary as isunitary,
)
from lax_linalg.verbs.qr import QR as QR, PivotedQR as PivotedQR, pivoted_qr as pivoted_qr, qr as qr
from lax_linalg.verbs.schur import Schur as Schur, schur as schur
from lax_linalg.verbs.solve import inv as inv, lstsq as lstsq, pinv as pinv, solve as solve
from lax_linalg.verbs.svd import SVD as SVD, nullspace as nullspace, rank as rank, svd as svd, svdvals as svdvals
from lax_linalg.verbs.sylvester import lyap as lyap, lyapd as lyapd, sylvester as sylvester

if TYPE_CHECKING:
    from lax_linalg import plot as plot
    from lax_linalg.analysis import Analysis as Analysis, analyze as analyze, weight_operators as weight_operators
    from lax_linalg.checkpoints import (
        UnreadableFileError as UnreadableFileError,
        read_arrays as read_arrays,
        with_arrays as with_arrays,
    )
    from lax_linalg.moments import *  # noqa: F403
    from lax_linalg.nonnormal import *  # noqa: F403
    from lax_linalg.random_matrix import *  # noqa: F403

    I: UniformScaling

# Rooms that are opened on first use, so that `import lax_linalg` stays fast: name -> module.
_ROOMS = {
    "lax_linalg.analysis": "Analysis analyze weight_operators",
    "lax_linalg.checkpoints": "UnreadableFileError read_arrays with_arrays",
    "lax_linalg.moments": "Affine Dropout MomentCheck Moments check_pushforward dropout_covariance pushforward",
    "lax_linalg.nonnormal": """
        KreissConstant NearestDefective NumericalRadius NumericalRange PseudospectralExtreme Pseudospectrum
        TransientGrowth arnoldi eigenvalue_condition_numbers eigenvector_condition_number henrici jordan_curve
        jordan_function jordan_power kreiss_constant nearest_defective numerical_radius numerical_range power_norms
        pseudospectral_abscissa pseudospectral_radius pseudospectrum transient_growth""",
    "lax_linalg.random_matrix": """
        Activation Arcsine CircularLaw Comparison CriticalPoint FreeProduct FussCatalan GinibreLyapunov Haar
        JacobianLaw Law LyapunovTriangle MarchenkoPastur MeanField PowerLawFit QuarterCircle ResidualJacobian Semicircle
        SlopeLaw TracyWidom Wachter compare correlation_map critical_line critical_point fit_power_law fixed_length
        haar_orthogonal length_map phase_diagram s_transform""",
}
_LAZY = {name: module for module, names in _ROOMS.items() for name in names.split()}


# What users of NumPy, SciPy, Julia or PyTorch type: name here -> names there.
_ELSEWHERE = {
    "A @ B": "dot matmul mm bmm vdot mul",
    "Batch": "vmap stack",
    "BlockDiagonal": "block_diag",
    "Circulant": "circulant",
    "Dense": "Matrix array asarray",
    "Diagonal": "diagm diagflat spdiagm diag_embed",
    "Hankel": "hankel",
    "Hermitian": "hermitian symmetric",
    "I(n)": "eye identity",
    "LowRank": "outer",
    "Toeplitz": "toeplitz",
    "adjoint": "ctranspose dagger hermitian_transpose",
    "HostOperator": "aslinearoperator",
    "cholesky": "cho_factor",
    "cond": "condition_number condskeel",
    "diag": "diagonal",
    "eigen": "eig eigs",
    "eigen(Hermitian(A))": "eigh eigsh",
    "eigvals(Hermitian(A))": "eigvalsh",
    "exp": "expm matrix_exp",
    "hcat": "hstack",
    "inv": "inverse",
    "ishermitian": "is_hermitian",
    "isapprox": "allclose isclose",
    "issymmetric": "is_symmetric",
    "kron": "kronecker kronecker_product",
    "log": "logm",
    "logabsdet": "slogdet logabsdet_grad",
    "lu": "lu_factor",
    "norm": "vector_norm frobenius_norm",
    "norm or opnorm": "matrix_norm",
    "nullspace": "null_space kernel",
    "opnorm": "spectral_norm opNorm norm2",
    "opnorm_bound": "normest",
    "pinv": "pinvh pseudoinverse",
    "power": "matrix_power fractional_matrix_power mpow",
    "rank": "matrix_rank",
    "solve": "lu_solve cho_solve ldiv",
    "solve(Circulant(column), b)": "solve_circulant",
    "solve(Toeplitz(column, row), b)": "solve_toeplitz",
    "solve(UpperTriangular(A), b)": "solve_triangular trsm",
    "sqrt": "sqrtm",
    "svd(A).U": "orth",
    "svds": "svd_lowrank randomized_svd",
    "svdvals": "singular_values singvals",
    "tr": "trace",
    "vcat": "vstack",
}
_SPELLED_HERE = {there: here for here, names in _ELSEWHERE.items() for there in names.split()}


if not TYPE_CHECKING:  # a type checker shall see that other names do not exist

    def __getattr__(name: str) -> Any:
        if name == "I":  # a JAX array made at import would start the backend
            with jax.ensure_compile_time_eval():  # its first use may be inside of a traced function, which it outlives
                value = UniformScaling(1.0)
        elif name == "plot":
            value = importlib.import_module("lax_linalg.plot")
        elif name in _LAZY:
            value = getattr(importlib.import_module(_LAZY[name]), name)
        else:
            raise AttributeError(UnknownNameError.of("lax_linalg name", name, __dir__(), _SPELLED_HERE))
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    public = {
        n for n, v in globals().items() if not n.startswith("_") and getattr(v, "__module__", "").startswith(__name__)
    }
    return sorted(public | {"I", "plot"} | set(_LAZY))
