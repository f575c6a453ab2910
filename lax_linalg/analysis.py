"""`analyze`: the layers of a trained network in one table, weights as the operators that they are, and Jacobians.

Every number says how it was found. Factorisations run in double precision on the host.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lax_linalg.core.batch import Batch, Stack
from lax_linalg.core.dense import Dense
from lax_linalg.core.operator import LinearOperator, as_operator
from lax_linalg.errors import DenseLimitError, DimensionMismatch, LinearAlgebraError, NonFiniteError, UnknownNameError
from lax_linalg.jacobian.layers import layer_jacobians
from lax_linalg.jacobian.operator import structure_at
from lax_linalg.jacobian.plan import How, probe_plan
from lax_linalg.operators.convolution.convolution import Convolution
from lax_linalg.operators.kronecker import Kronecker
from lax_linalg.operators.uniform_scaling import UniformScaling
from lax_linalg.probe import _measure as measure
from lax_linalg.random_matrix.null_spectrum import NullSpectrum, null_spectrum
from lax_linalg.random_matrix.power_law import PowerLawFit, fit_power_law
from lax_linalg.spectra.spectrum import EXACT_SIDE
from lax_linalg.spectra.summary import summary
from lax_linalg.verbs.basic import dense_limit, factored_side, materialize
from lax_linalg.verbs.svd import svdvals

EIGENVALUE_SIDE = 1024
"""Up to this order square matrices have their eigenvalues taken."""

LAYOUTS = ("HWIO", "OIHW")

SUMMARY = ("sigma_max", "sigma_median", "sigma_min", "cond", "stable_rank", "effective_rank", "log_volume")
COLUMNS = (
    *("layer", "of", "structure", "inputs", "rows", "columns", "parameters", "method", "error"),
    *SUMMARY,
    *("frobenius", "frobenius_error", "nuclear", "spectral_radius", "henrici"),
    *("edge", "outside", "distance", "p_value", "verdict"),
    *("alpha", "alpha_error", "tail", "tail_p_value", "tail_verdict"),
)
SHOWN = ("layer", "of", "structure", "method", "sigma_max", "sigma_min", "stable_rank", "outside", "verdict", "alpha")

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Analysis:
    """A table of layers; it prints as one, with the columns that fit, and `rows` has all of them.

    Attributes:
        rows: dicts with the keys of `columns`; a layer has one row for its weight ("of" is "weight") and one for its
            Jacobian. What was not computed is None. Numbers of Jacobians are medians over the probe inputs.
        spectra: (layer, of) → the singular values that were found, [k], of Jacobians [B, k].
        left_out: name → the reason why it has no row.
        columns: the names of the columns.

    Columns: "method" is "exact" (all singular values; "error" is None) or "partial" (the largest; "error" bounds that
    of sigma_max). "frobenius" is an estimate where "frobenius_error" is given. "edge" is the largest singular value
    that chance explains, "outside" the number of values beyond it, "distance" the Kolmogorov–Smirnov distance
    from the null hypothesis of `null_spectrum`, and "verdict" what follows. "alpha" is the tail's exponent of
    `la.fit_power_law`, None where the tail is no power law, for the reason in "tail_verdict".

    Example:
        >>> found = analyze({"head": np.diag([3.0, 2.0])})
        >>> round(found.rows[0]["sigma_max"], 6), round(found.rows[0]["cond"], 6)
        (3.0, 1.5)
    """

    rows: tuple[Row, ...]
    spectra: dict[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = COLUMNS

    def __str__(self) -> str:
        shown = SHOWN if self.columns is COLUMNS else self.columns
        table = [shown, *([_short(row.get(name)) for name in shown] for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(shown))]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
        return "\n".join([*lines, *(f"left out: {name}: {why}" for name, why in self.left_out.items())])

    def to_csv(self, path: str | pathlib.Path | None = None) -> str:
        """The table as CSV, which is also written to `path` if one is given.

        Example:
            >>> analyze({"head": np.eye(2)}).to_csv().splitlines()[1][:30]
            'head,weight,Dense,,2,2,4,exact'
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        return _written(text.getvalue(), path)

    def to_json(self, path: str | pathlib.Path | None = None) -> str:
        """The table as JSON, {"rows": […], "left_out": {…}}; NaN is null and infinities are "inf" and "-inf".

        Example:
            >>> json.loads(analyze({"head": np.eye(2)}).to_json())["rows"][0]["sigma_max"]
            1.0
        """
        rows = [{name: _plain(row.get(name)) for name in self.columns} for row in self.rows]
        return _written(json.dumps({"rows": rows, "left_out": self.left_out}, indent=1, allow_nan=False) + "\n", path)

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`; pandas is imported here.

        Raises:
            ImportError: without pandas.
        """
        import pandas  # type: ignore[import-not-found]

        return pandas.DataFrame(list(self.rows), columns=list(self.columns))

    def compare(self, other: Analysis) -> Analysis:
        """What changed from this analysis to another one of the same network, such as a later checkpoint's.

        Args:
            other: the later one.

        Returns:
            An `Analysis` with a row for each layer of both: "moved" is max |σᵢ − σᵢ'| / σ₁, of which Weyl's inequality
            says that ‖A − A'‖₂ is no less than moved · σ₁, then numbers before and after. Layers of one of them only
            are in `left_out`.

        Example:
            >>> before, after = analyze({"head": np.eye(2)}), analyze({"head": np.diag([2.0, 1.0])})
            >>> before.compare(after).rows[0]["moved"]
            1.0
        """
        names = ("sigma_max", "cond", "stable_rank", "outside", "alpha", "verdict")
        columns = ("layer", "of", "moved", *(f"{name}_{when}" for name in names for when in ("before", "after")))
        mine, theirs = ({(row["layer"], row["of"]): row for row in a.rows} for a in (self, other))
        rows = []
        for key in mine:
            if key not in theirs:
                continue
            s, t = self.spectra.get(key), other.spectra.get(key)
            moved = None
            if s is not None and t is not None and s.shape == t.shape:
                top = float(np.max(s))
                moved = float(np.max(np.abs(s - t))) / top if top > 0 else None
            row: Row = {"layer": key[0], "of": key[1], "moved": moved}
            for name in names:
                row |= {f"{name}_before": mine[key].get(name), f"{name}_after": theirs[key].get(name)}
            rows.append(row)
        only = {f"{k[0]} ({k[1]})": "is in one of the two analyses only" for k in mine.keys() ^ theirs.keys()}
        return Analysis(tuple(rows), {}, only, columns)


def analyze(
    model: Any,
    x: Any = None,
    *,
    layers: Iterable[str] | str | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
    k: int = 8,
    memory_budget: int = 256 * 2**20,
) -> Analysis:
    """Analyse a network's weights and Jacobians, or weights alone, in one table.

    Args:
        model: as for `la.layer_jacobians`; without x a dict from names to operators or matrices.
        x: probe inputs [B, …].
        layers, call_kwargs: as for `la.layer_jacobians`.
        k: how many singular values are taken where not all of them can be.
        memory_budget: bytes that one layer may work on.

    Returns:
        `Analysis`. A layer whose Jacobian is one linear map, the same at every input (dense layers, convolutions at
        their input size with their own padding), has a row for this operator as its weight; the Jacobian has the same
        numbers then. A layer that acts on every token alone has the weight of one token.

    Raises:
        DimensionMismatch: for k below 1, and what `la.layer_jacobians` raises.
        NonFiniteError: for weights or activations with NaN or infinity, by name.

    Cost: O(mn min(m, n)) for each operator where min(m, n) ≤ 2048 and the matrix fits the budget, less where a
    structure has its own algorithm, and some hundred products with it otherwise.

    Source: null hypotheses after Marchenko & Pastur (1967) and Johnstone (2001); tails after Clauset, Shalizi & Newman
    (2009); as a report on weights after Martin & Mahoney, JMLR 22 (2021).

    Example:
        >>> layers = {"linear": jax.tree_util.Partial(jnp.matmul, jnp.diag(jnp.array([2.0, 1.0]))), "tanh": jnp.tanh}
        >>> found = analyze(layers, jnp.zeros((1, 2)))
        >>> [(row["layer"], row["of"], round(row["sigma_max"], 6)) for row in found.rows[:3]]
        [('linear', 'weight', 2.0), ('linear', 'jacobian', 2.0), ('tanh', 'jacobian', 1.0)]
    """
    if not isinstance(k, int) or k < 1:
        raise DimensionMismatch(f"k is a positive number of singular values, got {k!r}")
    if x is None:
        if not isinstance(model, Mapping):
            raise LinearAlgebraError(
                "analyze takes a model with probe inputs x, or a dict from names to matrices and operators alone"
            )
        return _joined([_of_weight(name, A, k, memory_budget) for name, A in model.items()], {})
    jacobians = layer_jacobians(model, x, layers, call_kwargs=call_kwargs, memory_budget=memory_budget)
    plan, left_out = probe_plan(
        jacobians, method="auto", k=k, quantities=("singular_values",), memory_budget=memory_budget
    )
    found: list[tuple[Row, np.ndarray]] = []
    for path, row in plan.items():
        J = jacobians[path]
        weight = _one_map(J)
        if weight is not None:
            of_weight, values = _of_weight(path, weight, k, memory_budget)
            found.append((of_weight, values))
            if weight.shape == J.shape[1:]:  # not the weight of one token of many
                shared = dict(of_weight) | {"of": "jacobian", "inputs": len(J), "parameters": None}
                found.append((shared, np.broadcast_to(values, (len(J), *values.shape))))
                continue
        found.append(_of_jacobian(path, J, row.how, row.products == 0, memory_budget))
    return _joined(found, jacobians.skipped | left_out)


def weight_operators(
    arrays: Mapping[str, ArrayLike], *, layout: str = "HWIO", image_size: Sequence[int] | int = 0
) -> tuple[dict[str, LinearOperator], dict[str, str]]:
    """The operators that the matrices and kernels of a file of weights are.

    Args:
        arrays: by name; matrices [in, out] and kernels [k, cin, cout], [kh, kw, cin, cout] for "HWIO", [out, in],
            [cout, cin, k] and [cout, cin, kh, kw] for "OIHW", as PyTorch keeps them.
        layout: "HWIO" or "OIHW".
        image_size: of a convolution's input, which a file of weights does not say; 8 or the kernel's own size, the
            larger of the two, unless given. The convolution is taken as circular with stride 1 and one group: its
            singular values are then known exactly, and its norm is a bound of that with zero padding at the same size.

    Returns:
        (name → operator, name → the reason why an array is none).

    Raises:
        UnknownNameError: for another layout.
        NonFiniteError: for NaN or infinity in an array, by name.

    Cost: none but copies.

    Example:
        >>> operators, left_out = weight_operators({"conv": np.ones((3, 3, 1, 2)), "bias": np.ones(2)}, image_size=8)
        >>> operators["conv"], left_out
        (128×64 Convolution{float32} 3×3, 1→2, stride 1, circular, {'bias': 'is a vector'})
    """
    if layout not in LAYOUTS:
        raise UnknownNameError.of("layout", layout, LAYOUTS)
    operators: dict[str, LinearOperator] = {}
    left_out: dict[str, str] = {}
    for name, given in arrays.items():
        array = np.asarray(given)
        if array.ndim < 2:
            left_out[name] = "is a number" if array.ndim == 0 else "is a vector"
        elif array.size == 0:
            left_out[name] = f"is empty, of shape {list(array.shape)}"
        elif not jnp.issubdtype(array.dtype, jnp.inexact):
            left_out[name] = f"holds {array.dtype.name}; quantised weights need their scales, so give the products"
        elif array.ndim > 4:
            left_out[name] = f"has {array.ndim} axes, of which a convolution in one or two dimensions has 3 or 4"
        else:
            if jnp.finfo(array.dtype).bits < 32:
                array = array.astype(np.float32)
            if bad := int(np.sum(~np.isfinite(array))):
                raise NonFiniteError(f"{name!r} holds {bad} NaN or infinite values of {array.size}")
            operators[name] = _operator(array, layout, image_size)
    return operators, left_out


def _operator(array: np.ndarray, layout: str, image_size: Sequence[int] | int) -> LinearOperator:
    if array.ndim == 2:
        return Dense(array.T if layout == "HWIO" else array)  # type: ignore[arg-type]
    kernel = array if layout == "HWIO" else np.moveaxis(array, (0, 1), (-1, -2))
    taps = kernel.shape[:-2]
    sizes = (image_size,) * len(taps) if isinstance(image_size, int) else tuple(image_size)[: len(taps)]
    sizes = tuple(max(size or 8, tap) for size, tap in zip(sizes, taps, strict=True))
    if set(taps) == {1}:  # every position alone
        return Dense(kernel.reshape(kernel.shape[-2:]).T)  # type: ignore[arg-type]
    return Convolution(jnp.asarray(kernel), sizes, padding="circular")


def _one_map(J: Batch) -> LinearOperator | None:
    """The operator of a layer whose Jacobian is one dense matrix or convolution that no input changes."""
    if isinstance(J, Stack):
        return None
    A: Any = J[0]
    if getattr(A, "f", None) is None or _depends_on_input(A):
        return None
    structure = structure_at(A.f, A.x, A.args)
    if isinstance(structure, Kronecker):
        a, b = structure.left, structure.right
        structure = b if isinstance(a, UniformScaling) else a if isinstance(b, UniformScaling) else structure
    return structure if isinstance(structure, (Dense, Convolution)) else None


def _depends_on_input(J: Any) -> bool:
    """Whether the derivative's program reads the input."""
    from jax.interpreters import partial_eval

    x = jax.ShapeDtypeStruct(J.x.shape, J.x.dtype)
    closed = jax.make_jaxpr(lambda x, t, *args: jax.jvp(lambda x: J.f(x, *args), (x,), (t,))[1])(x, x, *J.args)
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True])
    return bool(used[0])


# --- one operator ---


def _of_weight(name: str, given: Any, k: int, memory_budget: int) -> tuple[Row, np.ndarray]:
    A = as_operator(given)
    m, n = A.shape
    if min(m, n) == 0:
        raise DimensionMismatch(f"the weight of {name!r} is empty, {m}×{n}, and has no singular values; leave it out")
    parameters = sum(leaf.size for leaf in jax.tree.leaves(A))
    row: Row = {"layer": name, "of": "weight", "structure": type(A).__name__, "rows": m, "columns": n}
    row["parameters"] = parameters
    own = isinstance(A, Convolution) and A.circular
    small = min(m, n) <= EXACT_SIDE and 2 * m * n * 8 <= memory_budget
    values: np.ndarray | None = None
    if small and not own:
        # an array of NumPy's keeps its precision
        more, values = _factorised(given if isinstance(given, np.ndarray) else np.asarray(materialize(A)))
        row |= more
    else:
        try:
            with factored_side(EXACT_SIDE), dense_limit(memory_budget):
                values = np.asarray(jax.jit(svdvals)(A), np.float64)
        except DenseLimitError:
            pass
    if values is None:
        batch = Batch(_itself, jax.tree.map(lambda a: jnp.asarray(a)[None], A))
        numbers, values = _partial_numbers(measure(How("partial", min(k, m, n)), batch))
        return row | numbers | {"method": "partial"}, values[0]
    _require_finite(name, values)
    row |= {"method": "exact"} | _numbers(values[None])
    null = _null_of(A)
    if null is not None:
        row |= _against_null(values, null)
    return row | _tail(values), values


def _itself(A: LinearOperator) -> LinearOperator:
    return A


def _of_jacobian(path: str, J: Batch, how: How, own: bool, memory_budget: int) -> tuple[Row, np.ndarray]:
    *batch, m, n = J.shape
    row: Row = {"layer": path, "of": "jacobian", "inputs": batch[-1], "rows": m, "columns": n, "method": how.method}
    if how.method == "exact" and not own and not isinstance(J, Stack):
        form = jax.jit(materialize)
        found = [_factorised(np.asarray(form(J[b]))) for b in range(len(J))]
        values = np.stack([s for _, s in found])
        row |= {name: float(np.median([more[name] for more, _ in found])) for name in found[0][0]}
        row |= _numbers(values)
        if len(J.shape) == 3 and min(m, n) > 1 and np.isfinite(values).all():
            row |= _against_null(values[0], null_spectrum(m, n)) if _worth(m, n) else {}
        return row, values
    measured = jax.tree.map(np.asarray, measure(how, J))
    if how.method == "exact":
        values = np.asarray(measured["singular_values"], np.float64)
        return row | _numbers(values), values
    numbers, values = _partial_numbers(measured)
    return row | numbers, values


class DenseSpectrum(NamedTuple):
    """What `dense_spectrum` gives.

    Attributes:
        singular_values: [min(m, n)], descending.
        eigenvalues: [n] complex; None for matrices that are not square, or above the limit.
        henrici: Henrici's departure √(‖A‖_F² − Σ|λ|²); None with the eigenvalues.

    Example:
        >>> DenseSpectrum(np.ones(2), None, None).henrici is None
        True
    """

    singular_values: np.ndarray
    eigenvalues: np.ndarray | None
    henrici: float | None


def dense_spectrum(matrix: np.ndarray, side: int | None = None) -> DenseSpectrum:
    """Singular values, eigenvalues and departure from normality of a matrix, in double precision on the host.

    In single precision the departure's difference of sums would leave √ε ‖A‖ of a nearly normal matrix's.

    Args:
        matrix: [m, n] of NumPy's; NaN throughout if it is not finite.
        side: up to which order eigenvalues are taken; no limit unless given.

    Returns:
        `DenseSpectrum`.

    Cost: O(mn min(m, n)), and about 10 n³ FLOPs for eigenvalues.

    Example:
        >>> found = dense_spectrum(np.array([[1.0, 3.0], [0.0, 2.0]]))
        >>> round(found.henrici, 6)
        3.0
    """
    A = np.asarray(matrix, np.complex128 if np.iscomplexobj(matrix) else np.float64)
    m, n = A.shape
    square = m == n and (side is None or n <= side)
    if not np.isfinite(A).all():
        nothing = np.full(min(m, n), np.nan)
        return DenseSpectrum(nothing, nothing + 0j if square else None, math.nan if square else None)
    s = np.linalg.svd(A, compute_uv=False)
    if not square:
        return DenseSpectrum(s, None, None)
    eigenvalues = np.linalg.eigvals(A).astype(np.complex128)
    unit = float(s.max(initial=0.0)) or 1.0  # against under- and overflow of the squares
    rest = float(np.sum((s / unit) ** 2) - np.sum(np.abs(eigenvalues / unit) ** 2))
    return DenseSpectrum(s, eigenvalues, unit * math.sqrt(max(0.0, rest)))


def _factorised(matrix: np.ndarray) -> tuple[Row, np.ndarray]:
    """Spectral radius and Henrici's departure of a square matrix, if affordable, and the singular values."""
    found = dense_spectrum(matrix, EIGENVALUE_SIDE)
    if found.eigenvalues is None:
        return {}, found.singular_values
    radius = float(np.abs(found.eigenvalues).max())
    return {"spectral_radius": radius, "henrici": found.henrici}, found.singular_values


def _numbers(s: np.ndarray) -> Row:
    """The summary of spectra [..., k], each number the median."""
    each = summary(s)
    found = {name: float(np.median(getattr(each, name))) for name in SUMMARY}
    top = s.max(-1, keepdims=True)
    unit = np.where(top > 0, top, 1)
    frobenius = unit[..., 0] * np.sqrt(np.sum((s / unit) ** 2, -1))
    return found | {"frobenius": float(np.median(frobenius)), "nuclear": float(np.median(s.sum(-1)))}


def _partial_numbers(measured: Mapping[str, Any]) -> tuple[Row, np.ndarray]:
    """What is known of an operator of which a few singular values were found."""
    s = np.asarray(measured["largest_singular_values"], np.float64)
    residuals, norm, error = (
        np.asarray(measured[name], np.float64) for name in ("residuals", "frobenius", "frobenius_error")
    )
    top = np.where(s[..., 0] == 0, 1, s[..., 0])
    each = {"sigma_max": s[..., 0], "error": residuals[..., 0], "frobenius": norm, "frobenius_error": error}
    each["stable_rank"] = (norm / top) ** 2
    return {name: float(np.median(value)) for name, value in each.items()}, s


def _require_finite(name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise NonFiniteError(f"the weight of {name!r} holds NaN or infinity; look at its parameters")


def _worth(m: int, n: int) -> bool:
    return min(m, n) >= 8


def _null_of(A: LinearOperator) -> NullSpectrum | None:
    """Random matrices, or kernels, of a weight's sizes; None where it is too small or of another structure."""
    if isinstance(A, Convolution) and A.circular and A.groups == 1 and set(A.stride) == {1}:  # type: ignore[arg-type]
        m, n = A.out_channels, A.in_channels
        blocks, frequencies = math.prod(A.kernel_size), math.prod(A.spatial)  # type: ignore[arg-type]
        return null_spectrum(m, n, blocks=blocks, beta=2, maxima=frequencies) if _worth(m, n) else None
    return null_spectrum(*A.shape) if isinstance(A, Dense) and _worth(*A.shape) else None


def _against_null(s: np.ndarray, null: NullSpectrum) -> Row:
    found = null.test(s)
    return {
        "edge": found.edge,
        "outside": found.outside,
        "distance": found.distance,
        "p_value": found.p_value,
        "verdict": found.verdict,
    }


def _tail(s: np.ndarray) -> Row:
    top = float(s.max(initial=0.0))
    fit: PowerLawFit = fit_power_law((s / top if top > 0 else s) ** 2, samples=100)
    known = fit.accepted
    return {
        "alpha": fit.alpha if known else None,
        "alpha_error": fit.alpha_error if known else None,
        "tail": fit.count if known else None,
        "tail_p_value": None if math.isnan(fit.p_value) else fit.p_value,
        "tail_verdict": str(fit),
    }


# --- the table ---


def _joined(found: Sequence[tuple[Row, np.ndarray]], left_out: dict[str, str]) -> Analysis:
    rows = tuple({name: row.get(name) for name in COLUMNS} for row, _ in found)
    return Analysis(rows, {(row["layer"], row["of"]): values for row, values in found}, left_out)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _short(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _written(text: str, path: str | pathlib.Path | None) -> str:
    if path is not None:
        pathlib.Path(path).write_text(text, encoding="utf-8")
    return text
