"""Reduce runs to what the page draws: a JSON description that points into one block of 32-bit floats.

Spectra are drawn from far fewer numbers than they hold. A layer's singular values at one step become three curves over
the index (the lowest, the median and the highest over the probe inputs) and one histogram; eigenvalues stay as they
are, for as many probe inputs as the size budget allows. Whatever is left out is counted, and the page says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from train.analysis import QUANTITIES, summarize
from train.report import mean_field, nonnormality
from train.report.load import Run

BYTES = 4_000_000
"""Budget of the float block before compression; with plotly.js (2 MB compressed) the page stays below 8 MB."""

BINS = 64
FEWEST_BINS = 12
CURVE_POINTS = 2_000
LAW_POINTS = 200


@dataclass
class Block:
    """A growing block of float32 numbers; `add` returns the (offset, length) that the page reads it back by.

    Example:
        >>> block = Block()
        >>> block.add([1.0, 2.0]), block.add([3.0])
        ([0, 2], [2, 1])
    """

    parts: list[np.ndarray] = field(default_factory=list)
    length: int = 0

    def add(self, values: Any) -> list[int]:
        flat = np.asarray(values, dtype="<f4").ravel()
        self.parts.append(flat)
        self.length += flat.size
        return [self.length - flat.size, flat.size]

    def tobytes(self) -> bytes:
        return np.concatenate([*self.parts, np.zeros(0, "<f4")]).tobytes()


@dataclass(frozen=True)
class Detail:
    """How finely the spectra are kept: steps on the slider, points a curve, eigenvalues a layer and step."""

    steps: int
    points: int
    eigenvalues: int


@dataclass
class LayerSeries:
    """One layer of one run over the kept steps, still as full arrays."""

    steps: list[int] = field(default_factory=list)
    singular_values: list[np.ndarray] = field(default_factory=list)
    eigenvalues: dict[int, np.ndarray] = field(default_factory=dict)
    operator: dict[int, np.ndarray] = field(default_factory=dict)
    nonnormal: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    shape: list[int] | None = None
    structure: str | None = None
    mean_field: dict[int, tuple[str, np.ndarray]] = field(default_factory=dict)


def build_payload(runs: list[Run], budget: int = BYTES) -> tuple[dict[str, Any], bytes]:
    """Reduce the runs to the page's data.

    Args:
        runs: what `load_runs` returned.
        budget: bytes that the float block may take.

    Returns:
        (description, block): the JSON-able description, and the float32 block that its [offset, length] pairs point
        into.

    Cost: one pass over the spectrum files; memory is that of the kept steps of one run.

    Example:
        >>> description, block = build_payload([])
        >>> description["layers"], block
        ([], b'')
    """
    share = budget // 4 if any(run.analyses for run in runs) else 0  # for pseudospectra
    detail = fit_detail(runs, budget - share)
    block = Block()
    kept = thin_steps(sorted({step for run in runs for step in run.steps}), detail.steps)
    series = [collect(run, kept) for run in runs]
    layers = _ordered([list(layer_series) for layer_series in series])
    axes = {layer: _axis([s[layer] for s in series if layer in s]) for layer in layers}
    tested = sum(bool(layer.nonnormal) for one in series for layer in one.values())
    most = share // (4 * nonnormality.NUMBERS * max(tested, 1))
    places = [mean_field.places({name: layer.mean_field for name, layer in one.items()}) for one in series]
    description = {
        "steps": kept,
        "left_out": len({step for run in runs for step in run.steps}) - len(kept),
        "layers": layers,
        "quantities": QUANTITIES,
        "axes": axes,
        "phase": mean_field.diagram([place for place in places if place], block.add),
        "runs": [
            {
                "name": run.name,
                "held_out": run.held_out,
                "curves": _curves(run, block),
                "layers": {name: _layer(one[name], axes[name], detail, most, block) for name in layers if name in one},
                "analysed": sorted(set(run.analyses) & set(kept)),
                "mean_field": mean_field.described(place, block.add),
                "untested": any(s.eigenvalues for s in one.values()) and not any(s.nonnormal for s in one.values()),
            }
            for run, one, place in zip(runs, series, places, strict=True)
        ],
    }
    return description, block.tobytes()


def fit_detail(runs: list[Run], budget: int) -> Detail:
    """The finest detail whose block fits the budget.

    Probe inputs of the eigenvalue clouds go first, then curve points, then steps.

    Example:
        >>> fit_detail([], 1_000_000)
        Detail(steps=1, points=256, eigenvalues=4096)
    """
    steps = len({step for run in runs for step in run.steps}) or 1
    layers = sum(len(run.spectra(run.steps[-1])) for run in runs if run.steps)
    analysed = max((len(run.analyses) for run in runs), default=0) / steps

    def fits(detail: Detail) -> bool:
        numbers = 3 * detail.points + BINS + 2 * analysed * (detail.eigenvalues + detail.points)
        return 4 * detail.steps * layers * numbers <= budget

    choices = [Detail(steps, 256, eigenvalues) for eigenvalues in (4096, 2048, 1024, 512)]
    choices += [Detail(steps, points, 2 * points) for points in (128, 64)]
    coarsest = choices[-1]
    for detail in choices:
        if fits(detail):
            return detail
    while coarsest.steps > 2 and not fits(coarsest):
        coarsest = Detail(max(2, coarsest.steps * 3 // 4), coarsest.points, coarsest.eigenvalues)
    return coarsest


def thin_steps(steps: list[int], most: int) -> list[int]:
    """At most `most` of the steps, evenly spread, the first and the last among them.

    Example:
        >>> thin_steps([0, 10, 20, 30, 40], 3)
        [0, 20, 40]
    """
    if len(steps) <= most:
        return steps
    return [steps[i] for i in np.linspace(0, len(steps) - 1, most).round().astype(int)]


def collect(run: Run, steps: list[int]) -> dict[str, LayerSeries]:
    """Gather one run's arrays layer by layer over the given steps."""
    layers: dict[str, LayerSeries] = {}
    for step in steps:
        for name, arrays in run.spectra(step).items():
            if "singular_values" not in arrays:
                continue
            layer = layers.setdefault(name, LayerSeries())
            layer.steps.append(step)
            layer.singular_values.append(_rows(arrays["singular_values"]))
            if "eigenvalues" in arrays:
                layer.eigenvalues[step] = _rows(arrays["eigenvalues"])
            if "operator_singular_values" in arrays:
                layer.operator[step] = arrays["operator_singular_values"].ravel()
            if (found := nonnormality.taken(arrays)) is not None:
                layer.nonnormal[step] = found
            if "mean_field" in arrays:
                layer.mean_field[step] = str(arrays["activation"]), arrays["mean_field"]
            if "shape" in arrays:
                layer.shape = [int(n) for n in arrays["shape"]]
            if "structure" in arrays:
                layer.structure = str(arrays["structure"])
    return layers


def _rows(values: np.ndarray) -> np.ndarray:
    """[inputs, k]; of a stack [inputs, layers or times, k] every member counts as one more input."""
    return values.reshape(-1, values.shape[-1])


def _ordered(orders: list[list[str]]) -> list[str]:
    names = list(dict.fromkeys(name for order in orders for name in order if name != "end_to_end"))
    return names + ["end_to_end"] * any("end_to_end" in order for order in orders)


def _axis(series: list[LayerSeries]) -> dict[str, Any]:
    """The layer's fixed axes over all runs and steps, so that what moves on the page is the spectrum and not the frame.

    Values up to k·ε·σ_max are rounding noise in single precision: the logarithmic axis ends at the least above it.
    """
    high = low = np.nan
    radius = 1.0
    for layer in series:
        for values in layer.singular_values:
            sound = values[np.isfinite(values) & (values > 0)]
            if sound.size:
                noise = sound.max() * values.shape[-1] * np.finfo(np.float32).eps
                high = np.fmax(high, sound.max())
                low = np.fmin(low, sound[sound > noise].min())
        for values in layer.eigenvalues.values():
            radius = max(radius, float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values))))
    if not np.isfinite(high):
        high, low = 1.0, 0.1
    margin = max(0.02, 0.04 * np.log10(high / low))
    return {"log": [float(np.log10(low) - margin), float(np.log10(high) + margin)], "radius": 1.08 * radius}


def _layer(layer: LayerSeries, axis: dict[str, Any], detail: Detail, most: int, block: Block) -> dict[str, Any]:
    count = max(values.shape[-1] for values in layer.singular_values)
    index = np.unique(np.linspace(0, count - 1, min(count, detail.points)).round().astype(int))
    drawn = min(values.size for values in layer.singular_values)
    low, high = axis["log"]
    edges = np.linspace(low, high, int(np.clip(2 * np.sqrt(drawn), FEWEST_BINS, BINS)) + 1)
    curves, histograms, below = [], [], []
    for values in layer.singular_values:
        part = values[:, index] if values.shape[-1] == count else np.full((1, index.size), np.nan)
        curves.append([part.min(0), np.median(part, axis=0), part.max(0)])
        logs = np.log10(np.maximum(values[np.isfinite(values)], np.finfo(np.float32).tiny))
        total = max(1, logs.size)
        histograms.append(np.histogram(logs, edges)[0] / (total * (edges[1] - edges[0])))
        below.append(np.count_nonzero(logs < edges[0]) / total)
    numbers = [summarize(values) for values in layer.singular_values]
    inputs = {step: max(1, detail.eigenvalues // values.shape[-1]) for step, values in layer.eigenvalues.items()}
    return {
        "steps": layer.steps,
        "count": count,
        "inputs": layer.singular_values[0].shape[0],
        "shape": layer.shape,
        "structure": layer.structure,
        "index": block.add(index + 1),
        "curves": block.add(curves),
        "histogram": block.add(histograms),
        "below": block.add(below),
        "numbers": {quantity: block.add([number[quantity] for number in numbers]) for quantity in QUANTITIES},
        "eigenvalues": {step: block.add(_pairs(values[: inputs[step]])) for step, values in layer.eigenvalues.items()},
        "eigenvalue_inputs": min(
            [*inputs.values(), *(len(values) for values in layer.eigenvalues.values())], default=0
        ),
        "operator": {
            step: block.add([index_of(values, detail.points) + 1, values[index_of(values, detail.points)]])
            for step, values in layer.operator.items()
        },
        "nonnormal": nonnormality.described(layer.nonnormal, count, most, block.add),
        "law": _law(layer, block),
    }


def _law(layer: LayerSeries, block: Block) -> dict[str, Any] | None:
    """What a dense layer's spectrum would be if its entries were independent and Gaussian, at the same Frobenius norm.

    The density per decade of σ at unit variance, and for each step by how many decades the norm shifts it. With entries
    of variance v/n the squares of the k = min(m, n) singular values have mean v m/k.
    """
    if layer.structure != "Dense" or layer.shape is None:
        return None
    from lax_linalg.random_matrix import MarchenkoPastur

    m, n = layer.shape
    law = MarchenkoPastur(ratio=m / n).singular_values()
    low, high = law.support
    sigma = np.geomspace(max(low, 1e-3 * high), high, LAW_POINTS)
    density = np.asarray(law.pdf(sigma)) * sigma * np.log(10)
    with np.errstate(divide="ignore"):
        shift = [0.5 * np.log10(np.mean(values**2) * min(m, n) / m) for values in layer.singular_values]
    return {
        "label": "Marchenko–Pastur law of a Gaussian matrix of the same size and norm",
        "density": block.add([np.log10(sigma), density]),
        "shift": block.add(shift),
    }


def index_of(values: np.ndarray, points: int) -> np.ndarray:
    """Evenly spread indices of a sorted spectrum, both ends among them.

    Example:
        >>> index_of(np.zeros(5), 3)
        array([0, 2, 4])
    """
    return np.unique(np.linspace(0, values.size - 1, min(values.size, points)).round().astype(int))


def _pairs(values: np.ndarray) -> np.ndarray:
    return np.stack([np.real(values).ravel(), np.imag(values).ravel()])


def _curves(run: Run, block: Block) -> dict[str, Any]:
    return {
        f"{kind}_{quantity}": [block.add(x), block.add(y)]
        for kind in ("train", "eval")
        for quantity in ("loss", "accuracy")
        for x, y in [thin_curve(run.metrics.get(kind, []), quantity)]
        if len(x)
    }


def thin_curve(lines: list[dict[str, Any]], quantity: str, points: int = CURVE_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """A metric over steps with at most about `points` points; of each stretch left out the extremes stay, so spikes do.

    Example:
        >>> thin_curve([{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3}], "loss")
        (array([1., 2.]), array([ 2., nan]))
    """
    pairs = [(line["step"], line[quantity]) for line in lines if "step" in line and quantity in line]
    x = np.array([step for step, _ in pairs], float)
    y = np.array([np.nan if value is None else value for _, value in pairs], float)
    if x.size <= points:
        return x, y
    keep = {0, x.size - 1}
    for part in np.array_split(np.arange(x.size), points // 2):
        filled = np.where(np.isnan(y[part]), -np.inf, y[part])
        keep |= {int(part[filled.argmax()]), int(part[np.where(np.isinf(filled), np.inf, filled).argmin()])}
    chosen = np.array(sorted(keep))
    return x[chosen], y[chosen]
