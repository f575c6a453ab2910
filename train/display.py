"""What a person sees while training: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
COLUMNS = ("sigma_max", "sigma_median", "sigma_min", "cond")


def make_display(kind: str, steps: int, held_out: str = "validation") -> PlainDisplay:
    """The display that `--display` names; "auto" is live when stdout is a terminal and plain when it is not."""
    if kind == "auto":
        kind = "live" if sys.stdout.isatty() else "plain"
    display = {"live": LiveDisplay, "plain": PlainDisplay, "none": PlainDisplay}[kind]
    return display(steps, held_out, silent=kind == "none")


class PlainDisplay:
    """A line for every evaluation; for training and for probes at most one a second each."""

    period = 1.0

    def __init__(self, steps: int, held_out: str = "validation", silent: bool = False):
        self.steps, self.silent = steps, silent
        self.names = {"train": "train", "eval": held_out, "test": "test"}
        self.latest: dict[str, dict[str, Any]] = {}
        self.spectra: dict[str, np.ndarray] = {}
        self.pace = 0.0
        self._shown: dict[str, float] = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def note(self, text: str) -> None:
        """A remark on its own line."""
        if not self.silent:
            print(text, flush=True)

    def line(self, line: dict[str, Any], pace: float, spectra: dict[str, dict[str, np.ndarray]] | None = None) -> None:
        """Take in one line of metrics.jsonl, the pace in steps a second, and for a probe its spectra."""
        self.latest[line["kind"]], self.pace = line, pace
        if spectra is not None:
            self.spectra = {
                layer: (values := measured["singular_values"]).reshape(-1, values.shape[-1]).mean(0, dtype=np.float64)
                for layer, measured in spectra.items()
                if "singular_values" in measured  # all of them
            }
        kind, now = line["kind"], time.monotonic()
        if kind in ("eval", "test") or now - self._shown.get(kind, -math.inf) >= self.period:
            self._shown[kind] = now
            self.show(line)

    def show(self, line: dict[str, Any]) -> None:
        step = f"step {line['step']:>{len(str(self.steps))}}/{self.steps}"
        if line["kind"] == "train":
            self.note(f"{step}  {measures(line)}  {self.pace:.1f} steps/s  ETA {clock(self.remaining(line['step']))}")
        elif line["kind"] == "eval":
            self.note(f"{step}  {self.names['eval']} {measures(line)}")
        elif line["kind"] == "dropout":
            errors = {name.rpartition("/")[0]: value for name, value in line.items() if name.endswith("/error")}
            worst = max(errors, key=lambda name: errors[name] or 0.0)
            expected = line[f"{worst}/standard_error"]
            self.note(
                f"{step}  dropout: covariance off by {short(errors[worst])} in {worst}, drawn to {short(expected)}"
            )
        elif line["kind"] == "test":
            if self.names["eval"] != "test":  # else the evaluation has just said it
                self.note(f"{step}  test {measures(line)}")
        else:
            found = []
            for name, title in (("sigma_max", "σ_max"), ("cond", "cond")):
                known = {layer: numbers for layer, numbers in line["layers"].items() if name in numbers}
                if known:
                    layer = max(known, key=lambda layer: math.inf if known[layer][name] is None else known[layer][name])
                    found.append(f"largest {title} {cell(known[layer], name)} in {layer}")
            self.note(f"{step}  spectra: {', '.join(found)}")

    def remaining(self, step: int) -> float:
        """Seconds to the last step at the present pace."""
        return (self.steps - step) / self.pace if self.pace > 0 else float("nan")


class LiveDisplay(PlainDisplay):
    """A table that is redrawn in place: progress on top, then a row for each probed layer."""

    period = 0.5

    def __enter__(self):
        # Drawn on our own schedule: rich's refresh thread would take time from the computation many times a second.
        self._live = Live(self.picture(), console=Console(), auto_refresh=False)
        self._live.__enter__()
        self._live.refresh()
        return self

    def __exit__(self, *exception):
        self._live.update(self.picture(), refresh=True)
        self._live.__exit__(*exception)

    def note(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)

    def show(self, line: dict[str, Any]) -> None:
        self._live.update(self.picture(), refresh=True)

    def picture(self) -> Group:
        """The present table as a rich renderable."""
        step = max((line["step"] for line in self.latest.values()), default=0)
        done = step / self.steps if self.steps else 1.0
        bar = "━" * round(30 * done)
        head = Text(f"step {step}/{self.steps}  {self.pace:.1f} steps/s  ETA {clock(self.remaining(step))}  ")
        head.append(bar, style="green").append("━" * (30 - len(bar)), style="dim")
        shown = {name: self.latest[kind] for kind, name in self.names.items() if kind in self.latest}
        width = max(map(len, self.names.values()))
        body = "\n".join(f"{name:<{width}}  {measures(line)}" for name, line in shown.items()) or "compiling …"
        return Group(head, Text(body), *([self.table()] if "spectrum" in self.latest else []))

    def table(self) -> Table:
        """A row for each probed layer: σ_max, σ_median, σ_min, cond and its spectrum drawn small."""
        line = self.latest["spectrum"]
        table = Table(box=None, pad_edge=False)
        table.add_column(f"layer (step {line['step']})")
        for title in ("σ_max", "σ_median", "σ_min", "cond"):
            table.add_column(title, justify="right")
        table.add_column("singular values, largest first")
        for layer, numbers in line["layers"].items():
            cells = [cell(numbers, column) for column in COLUMNS]
            table.add_row(layer, *cells, sparkline(self.spectra[layer]) if layer in self.spectra else "")
        return table


def closing(summary: dict[str, Any], workdir: str) -> str:
    """The last line of a run.

    Example:
        >>> summary = {"status": "finished", "step": 9, "seconds": 31.2, "probe_share": 0.02}
        >>> summary |= {"probe_compile_seconds": 0.0, "held_out": "validation", "eval_accuracy": 0.983}
        >>> closing(summary | {"test_accuracy": 0.9861}, "runs/a")
        'finished at step 9: validation accuracy 0.9830, test accuracy 0.9861; 31.2 s, of which probes 2.0 %; runs/a'
    """
    known = []
    for kind, name in (("eval", summary["held_out"]), ("test", "test")):
        found = {
            quantity: summary.get(f"{kind}_{quantity}") for quantity in ("accuracy", "modes", "high_quality", "loss")
        }
        if found["accuracy"] is not None:
            known.append(f"{name} accuracy {found['accuracy']:.4f}")
        elif (good := found["high_quality"]) is not None:
            known.append(f"{name} modes {short(found['modes'])}, high quality {100 * good:.1f} %")
        elif found["loss"] is not None:
            known.append(f"{name} loss {short(found['loss'])}")
    if summary["held_out"] == "test":
        known = known[:1]  # the second says the same
    held_out = ", ".join(known) or "not evaluated"
    compiling = summary["probe_compile_seconds"]
    time_spent = f"{summary['seconds']:.1f} s, of which probes {100 * summary['probe_share']:.1f} %"
    time_spent += f" and compiling them {compiling:.1f} s" if compiling else ""
    return f"{summary['status']} at step {summary['step']}: {held_out}; {time_spent}; {workdir}"


def sparkline(values: np.ndarray, width: int = 24) -> str:
    """A descending spectrum as blocks, linear from zero to its largest value.

    Example:
        >>> sparkline(np.array([8.0, 4.0, 1.0]), width=3)
        '█▄▁'
    """
    at = np.linspace(0, len(values) - 1, min(width, len(values))).round().astype(int)
    top = values[0] if values[0] > 0 else 1.0
    level = np.nan_to_num(np.ceil(values[at] / top * len(BLOCKS)) - 1)
    return "".join(BLOCKS[int(index)] for index in np.clip(level, 0, len(BLOCKS) - 1))


def measures(line: dict[str, Any]) -> str:
    """The numbers of a line in words: "loss 0.312 accuracy 0.906", for a GAN with its modes."""
    names = ("loss", "accuracy", "modes", "high_quality", "penalty")
    shown = [name for name in names if name in line and (name != "penalty" or line[name])]
    return " ".join(f"{name} {short(line[name])}" for name in shown)


def short(value: float | None) -> str:
    """A number in about five characters; None, which stands for a value that is not finite, as ∞.

    Example:
        >>> short(0.12345), short(1234567.0), short(None)
        ('0.123', '1.23e+06', '∞')
    """
    return "∞" if value is None else f"{value:.3g}"


def cell(numbers: dict[str, float | None], name: str) -> str:
    """A number of a layer, with the bound within which it is known unless it is exact; "–" where there is none.

    Example:
        >>> cell({"cond": 3.0}, "cond"), cell({"sigma_max": 2.0, "sigma_max_within": 0.01}, "sigma_max")
        ('3', '2 ± 0.01')
        >>> cell({}, "cond")
        '–'
    """
    if name not in numbers:
        return "–"
    within = f" ± {short(numbers[f'{name}_within'])}" if f"{name}_within" in numbers else ""
    return short(numbers[name]) + within


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours and minutes.

    Example:
        >>> clock(75), clock(7260), clock(float("nan"))
        ('1:15', '2h01m', '?')
    """
    if not np.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
