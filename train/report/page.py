"""Write the report: one HTML file with plotly.js, numbers and script inside, opened from disk without a network."""

from __future__ import annotations

import base64
import gzip
import html
import json
import shlex
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from train.files import write_atomically
from train.report.load import Run, load_runs
from train.report.payload import BYTES, build_payload

HEADLINE = (  # heading, and key of summary.json
    ("Test accuracy", "test_accuracy"),
    ("Test loss", "test_loss"),
    ("Validation accuracy", "eval_accuracy"),
    ("Validation loss", "eval_loss"),
    ("Steps", "step"),
    ("Time", "seconds"),
    ("Probe share", "probe_share"),
)
IDENTITY = ("workdir", "display", "tensorboard")  # settings in which runs differ without being different experiments
MOST_SETTINGS = 6
FIGURES = (  # name, title, level of its heading, whether it is tall
    ("training", "Training and conditioning", "h2", True),
    ("heat", "Layers × steps", "h2", True),
    ("sorted", "Singular values, sorted", "h3", False),
    ("density", "Density of singular values", "h3", False),
    ("eigen", "Eigenvalues", "h3", False),
    ("pseudo", "Pseudospectra", "h3", True),
    ("transient", "Transient growth of powers", "h3", True),
    ("phase", "Phases of mean field", "h2", True),
)
SCRIPTS = ("data.js", "figures.js", "nonnormal.js", "phase.js", "page.js")


def write_report(workdirs: list[str], out: str | Path | None = None, budget: int = BYTES) -> tuple[Path, list[Run]]:
    """Write one page about one run, or comparing several.

    Args:
        workdirs: directories that training wrote.
        out: the file to write; report.html in the first workdir by default.
        budget: bytes for the drawn numbers, before compression.

    Returns:
        The path of the page, and the runs with their warnings.

    Raises:
        LinearAlgebraError: a workdir is missing or holds no run.
        OSError: the page cannot be written; an older page at that path stays whole.

    Cost: one pass over the spectrum files; the page takes about 2 MB for plotly.js and at most 1.2 × budget for the
        numbers.

    Example:
        >>> write_report(["no/such/run"])
        Traceback (most recent call last):
        lax_linalg.errors.LinearAlgebraError: there is no run at no/such/run...
    """
    runs = load_runs(workdirs)
    path = Path(out) if out else runs[0].workdir / "report.html"
    write_atomically(path, render(runs, budget).encode())
    return path, runs


def render(runs: list[Run], budget: int = BYTES) -> str:
    """The page's text.

    Example:
        >>> page = render([Run(Path("runs/a"), "a")])
        >>> page.startswith("<!doctype html>"), "http://" in page.split("plotly-source")[0]
        (True, False)
    """
    from plotly.offline import get_plotlyjs

    description, block = build_payload(runs, budget)
    description["analyze"] = analyze_command([run for run in runs if not run.analyses] or runs)
    folder = resources.files("train.report")
    names = [run.name for run in runs]
    return Template((folder / "page.html").read_text()).substitute(
        title=html.escape(f"Jacobian spectra: {', '.join(names)}"),
        heading="Jacobian spectra during training",
        lead=html.escape(_lead(runs, description)),
        headline=_headline(runs),
        notes=_notes(runs, description),
        configurations=_configurations(runs),
        **{figure[0]: _figure(*figure) for figure in FIGURES},
        footer=_footer(),
        style=(folder / "style.css").read_text(),
        script="\n".join((folder / name).read_text() for name in SCRIPTS),
        plotly=_pack(get_plotlyjs().encode()),
        description=_pack(json.dumps(description, allow_nan=False, ensure_ascii=False).encode()),
        block=_pack(block),
    )


def analyze_command(runs: list[Run]) -> str:
    """The command that adds eigenvalues to these runs.

    Example:
        >>> analyze_command([Run(Path("runs/a"), "a"), Run(Path("runs/my b"), "b")])
        "python -m scripts.analyze --workdir=runs/a && python -m scripts.analyze --workdir='runs/my b'"
    """
    return " && ".join(f"python -m scripts.analyze --workdir={shlex.quote(str(run.workdir))}" for run in runs)


def differences(runs: list[Run]) -> list[str]:
    """The settings in which the runs differ, in the order of the configuration.

    Example:
        >>> runs = [Run(Path(n), n, config={"seed": 0, "regularizer": n, "workdir": n}) for n in ("none", "so")]
        >>> differences(runs)
        ['regularizer']
    """
    keys = dict.fromkeys(key for run in runs for key in run.config if key not in IDENTITY)
    return [key for key in keys if len({json.dumps(run.config.get(key)) for run in runs}) > 1]


def headline_numbers(run: Run) -> dict[str, float | None]:
    """The final numbers of a run: its summary, and what the metrics say where a running one has no summary.

    Without validation examples the evaluations are of the test set and count as such.

    Example:
        >>> run = Run(Path("a"), "a", metrics={"eval": [{"step": 5, "accuracy": 0.9, "loss": 0.3}]})
        >>> headline_numbers(run)["test_accuracy"], headline_numbers(run)["step"]
        (0.9, 5)
    """
    numbers: dict[str, Any] = {key: run.summary.get(key) for _, key in HEADLINE}
    for kind in ("eval", "test"):
        for key in ("accuracy", "loss"):
            if numbers[f"{kind}_{key}"] is None:
                numbers[f"{kind}_{key}"] = (run.metrics.get(kind) or [{}])[-1].get(key)
    if run.held_out == "test":
        for key in ("accuracy", "loss"):
            measured = numbers.pop(f"eval_{key}")
            numbers |= {f"test_{key}": numbers[f"test_{key}"] or measured, f"eval_{key}": None}
    if numbers["step"] is None:
        steps = [line["step"] for lines in run.metrics.values() for line in lines if "step" in line] + run.steps
        numbers["step"] = max(steps, default=None)
    return numbers


def _figure(name: str, title: str, level: str, tall: bool) -> str:
    return (
        f'<figure>\n<figcaption><{level} id="{name}-title">{title}</{level}>'
        f'<button type="button" data-export="{name}">Save SVG</button></figcaption>\n'
        f'<div id="{name}" class="plot{" tall" if tall else ""}" role="img" aria-labelledby="{name}-title" '
        f'aria-describedby="{name}-text"></div>\n<p id="{name}-text" class="caption"></p>\n</figure>'
    )


def _headline(runs: list[Run]) -> str:
    settings = differences(runs)[:MOST_SETTINGS]
    rows = [headline_numbers(run) for run in runs]
    shown = [(title, key) for title, key in HEADLINE if any(row[key] is not None for row in rows)]
    head = "".join(f'<th scope="col">{title}</th>' for title, _ in shown)
    head += "".join(f'<th scope="col" class="setting"><code>{html.escape(key)}</code></th>' for key in settings)
    body = ""
    for r, (run, row) in enumerate(zip(runs, rows, strict=True)):
        cells = "".join(
            f'<td data-number="{key}"{" class=main" if key == "test_accuracy" else ""}>{_number(key, row[key])}</td>'
            for _, key in shown
        )
        cells += "".join(f'<td class="setting">{html.escape(str(run.config.get(key, "–")))}</td>' for key in settings)
        name = f'<th scope="row"><span class="chip"></span>{html.escape(run.name)}</th>'
        body += f'<tr class="run-{r % 6}">{name}{cells}</tr>'
    return (
        f'<div class="scroll"><table class="headline"><thead><tr><th scope="col">Run</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _number(key: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return "–"
    if key.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    if key == "probe_share":
        return f"{100 * value:.1f} %"
    if key == "seconds":
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds:02d} s" if minutes else f"{value:.1f} s"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _lead(runs: list[Run], description: dict[str, Any]) -> str:
    def every(key: str) -> str:
        return " and ".join(dict.fromkeys(str(run.config[key]) for run in runs if key in run.config))

    parts = [f"{every('model')} on {every('task')}" if every("model") and every("task") else ""]
    parts.append(f"{len(runs)} runs compared" if len(runs) > 1 else "")
    steps = len(description["steps"])
    layers = len([name for name in description["layers"] if name != "end_to_end"])
    parts.append(
        f"{layers} layer{'s' * (layers != 1)} seen at {steps} step{'s' * (steps != 1)}" if steps else "no spectra"
    )
    return " · ".join(filter(None, parts))


def _notes(runs: list[Run], description: dict[str, Any]) -> str:
    """What is missing, and the command that adds it."""
    notes = []
    for run, drawn in zip(runs, description["runs"], strict=True):
        name = html.escape(run.name)
        if not run.steps:
            notes.append(
                f"{name} has no spectra: train it with <code>--spectrum_every=50</code>, "
                f"or take them from its checkpoints: <code>{html.escape(analyze_command([run]))}</code>"
            )
        elif not run.analyses:
            notes.append(
                f"{name} has no checkpoint analysis, so eigenvalues and weight spectra are missing: "
                f"<code>{html.escape(analyze_command([run]))}</code>"
            )
        elif drawn["untested"]:
            notes.append(
                f"{name} was analysed without non-normality; the same command completes its files: "
                f"<code>{html.escape(analyze_command([run]))}</code>"
            )
        status = run.summary.get("status", "unfinished")
        if status == "diverged":
            notes.append(
                f"{name} diverged after step {run.summary.get('step')}: the loss or a gradient was not finite."
            )
        elif status != "finished":
            notes.append(f"{name} is {status}: it may be running still; the same training command resumes it.")
        notes += [html.escape(warning) for warning in run.warnings]
    if description["left_out"]:
        notes.append(f"{description['left_out']} steps are left out, evenly, to keep the page small.")
    if not notes:
        return ""
    return f'<div class="note" role="note"><ul>{"".join(f"<li>{note}</li>" for note in notes)}</ul></div>'


def _configurations(runs: list[Run]) -> str:
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    if not keys:
        return ""
    differing = set(differences(runs))
    rows = "".join(
        f'<tr{" class=differs" if key in differing else ""}><th scope="row"><code>{html.escape(key)}</code></th>'
        + "".join(f"<td>{html.escape(str(run.config.get(key, '–')))}</td>" for run in runs)
        + "</tr>"
        for key in sorted(keys, key=lambda key: key not in differing)
    )
    head = "".join(f'<th scope="col">{html.escape(run.name)}</th>' for run in runs)
    return (
        f'<details><summary>Configuration</summary><div class="scroll"><table class="settings">'
        f'<thead><tr><th scope="col">Setting</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def _footer() -> str:
    return (
        "Each layer’s Jacobian is taken at the layer’s own input, "
        '<span class="math">end_to_end</span> at the network’s. '
        "The numbers for σ and κ are medians over the probe inputs; κ = σ<sub>max</sub> / σ<sub>min</sub>. "
        "Figures save as SVG. This page is complete in itself: it opens without a network."
    )


def _pack(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
