"""What a person sees of an analysis: progress and the newest checkpoint's table in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from train.analysis import FOLDER, Result, Row
from train.display import clock, short

TITLES = {
    "sigma_max": "σ_max",
    "sigma_median": "σ_median",
    "sigma_min": "σ_min",
    "cond": "cond",
    "stable_rank": "stable rank",
    "spectral_radius": "max |λ|",
    "henrici": "Henrici",
    "kreiss_lower": "Kreiss ≥",
    "transient_max": "max ‖Jᵏ‖",
    "operator_sigma_max": "weights σ_max",
}


def follow(results: Iterable[Result], workdir: str, live: bool | None = None) -> None:
    """Show the results as they come, and warn of what was left out.

    Args:
        results: from `train.analysis.analyze`.
        workdir: how the run is called.
        live: redraw a table in place; by default when stdout is a terminal.
    """
    began = time.monotonic()
    done = kept = 0
    with (
        Live(console=Console(), auto_refresh=False)
        if live or (live is None and sys.stdout.isatty())
        else _Plain() as out
    ):
        for result in results:
            if result.status == "kept":
                kept += 1
                continue
            done += result.status == "done"
            seconds = time.monotonic() - began
            analysed = done + kept
            total = analysed + result.left
            eta = clock(seconds / max(done, 1) * result.left)
            if result.message:
                print(f"warning: {result.message}", file=sys.stderr, flush=True)
            if result.rows and isinstance(out, Live):
                bar = ProgressBar(total=max(total, 1), completed=analysed, width=30)
                head = Table.grid(padding=(0, 2))
                head.add_row(f"{workdir}", bar, f"{analysed}/{total}  ETA {eta}")
                out.update(Group(head, table(result)), refresh=True)
            elif result.rows:
                print(f"step {result.step:>7}  {analysed}/{total}  {worst(result.rows)}  ETA {eta}", flush=True)
    again = f", {kept} of them earlier" if kept else ""
    seconds = time.monotonic() - began
    print(f"{done + kept} checkpoints analysed{again}; {seconds:.1f} s; {workdir}/{FOLDER}/table.csv")


class _Plain:
    """Stands for the live display where there is none."""

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *exception) -> None:
        return None


def worst(rows: list[Row]) -> str:
    """The largest condition number and spectral radius of a checkpoint, with their layers.

    Example:
        >>> worst([{"layer": "stem", "cond": 3.0}, {"layer": "head", "cond": 2.0, "spectral_radius": 1.5}])
        '2 layers, largest cond 3 in stem, largest |λ| 1.5 in head'
    """
    text = f"{len(rows)} layers"
    for key, title in (("cond", "cond"), ("spectral_radius", "|λ|")):
        having = [row for row in rows if key in row]
        if having:
            row = max(having, key=lambda row: row[key])
            text += f", largest {title} {short(row[key])} in {row['layer']}"
    return text


def table(result: Result) -> Table:
    """A row for each layer of one checkpoint."""
    shown = [key for key in TITLES if any(key in row for row in result.rows)]
    grid = Table(box=None, pad_edge=False)
    grid.add_column(Text(f"layer (step {result.step})"))
    grid.add_column("size", justify="right")
    for key in shown:
        grid.add_column(TITLES[key], justify="right")
    for row in result.rows:
        size = f"{row['rows']}×{row['columns']}"
        grid.add_row(row["layer"], size, *[short(row[key]) if key in row else "" for key in shown])
    return grid
