"""What a person sees: a table redrawn in place in a terminal, plain lines elsewhere, and the same numbers in both."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import struct
import termios
import threading

import numpy as np
import pytest
from rich.console import Console

from tests.train.runs import small
from train.analysis import Result
from train.analysis_display import follow
from train.display import LiveDisplay, PlainDisplay, make_display, short, sparkline
from train.loop import train_and_evaluate
from train.spectrum_summary import summarize


class Screen:
    """As much of a terminal as the table needs: lines, a cursor, and the codes that move it, erase and colour."""

    CODE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")

    def __init__(self, columns: int):
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0
        self.longest = 0

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            code = self.CODE.match(text, at)
            if code:
                self.obey(code[2], code[1])
                at = code.end()
            else:
                self.put(text[at])
                at += 1

    def obey(self, letter: str, number: str) -> None:
        if letter == "A":
            self.row -= int(number or 1)
            assert self.row >= 0, "the cursor leaves the screen"
        elif letter == "K":
            self.lines[self.row] = ""
        else:
            assert letter in "mhl", f"code {letter!r}"

    def put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row, self.column = self.row + 1, 0
            self.lines += [""] * (self.row + 1 - len(self.lines))
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1
            self.longest = max(self.longest, self.column)

    def text(self) -> list[str]:
        return [line.rstrip() for line in self.lines if line.strip()]


@contextlib.contextmanager
def terminal(columns: int):
    """A pseudo-terminal as stdout; gives the list in which all that is written to it ends up."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    received: list[str] = []

    def read() -> None:
        content = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while chunk := os.read(leader, 65536):
                content += chunk
        received.append(content.decode())

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(follower, "w") as stdout, contextlib.redirect_stdout(stdout):
        yield received
    reader.join()
    os.close(leader)


def test_in_a_terminal_a_run_is_one_table_redrawn_in_place(tmp_path, monkeypatch):
    for name, value in {"COLUMNS": "100", "LINES": "50", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    config = small(tmp_path, steps=30, spectrum_every=10, validation=100, regularizer="so", display="auto")
    with terminal(100) as received:
        train_and_evaluate(config, tmp_path)
    (written,) = received
    screen = Screen(100)
    screen.feed(written)
    assert screen.longest <= 100, "nothing wraps"
    assert written.count("\x1b[2K") > 10, "it is redrawn in place"
    assert written.startswith("\x1b[?25l")
    assert written.endswith("\x1b[?25h"), "the cursor is there again"

    head, train, held_out, test, titles, *rows = screen.text()
    assert re.fullmatch(r"step 30/30  [\d.]+ steps/s  ETA 0:00  ━{30}", head)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = {line["kind"]: line for line in lines}
    for shown, name, kind in ((train, "train", "train"), (held_out, "validation", "eval"), (test, "test", "test")):
        numbers = f"loss {short(last[kind]['loss'])} accuracy {short(last[kind]['accuracy'])}"
        assert shown.startswith(f"{name:<10}  {numbers}")
    assert train.endswith(f"penalty {short(last['train']['penalty'])}")
    expected = "layer (step 30) σ_max σ_median σ_min cond singular values, largest first"
    assert titles.split() == expected.split()
    assert [row.split()[0] for row in rows] == ["layers/0", "head", "end_to_end"]
    with np.load(tmp_path / "spectra" / "step_00000030.npz") as spectra:
        for row in rows:
            layer, *numbers, spark = row.split()
            values = spectra[f"{layer}::singular_values"]
            expected = summarize(values)
            assert numbers == [short(expected[name]) for name in ("sigma_max", "sigma_median", "sigma_min", "cond")]
            assert spark == sparkline(values.mean(0, dtype=np.float64))


def test_in_a_terminal_the_analysis_is_one_table_with_its_progress(monkeypatch):
    for name, value in {"COLUMNS": "100", "LINES": "50", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)

    def row(step: int) -> dict[str, object]:
        spectrum = summarize(np.array([3.0, 2.0, 1.0 / (1 + step)]))
        return {
            "step": step,
            "layer": "stem",
            "rows": 3,
            "columns": 3,
            **spectrum,
            "spectral_radius": 1.5,
            "henrici": 0.1,
        }

    results = [Result(step, "done", [row(step)], left=2 - i) for i, step in enumerate((0, 10, 20))]
    results.insert(1, Result(5, "unusable", [], "checkpoint 5 is not usable; left out", left=2))
    with terminal(100) as received:
        follow(iter(results), "runs/a")
    screen = Screen(100)
    screen.feed(received[0])
    assert screen.longest <= 100
    warning, head, titles, stem, closing = screen.text()
    assert re.fullmatch(r"runs/a +━{30} +3/3 +ETA 0:00", head)
    assert titles.split()[:8] == ["layer", "(step", "20)", "size", "σ_max", "σ_median", "σ_min", "cond"]
    assert stem.split()[:6] == ["stem", "3×3", "3", "2", "0.0476", "63"]
    assert re.fullmatch(r"3 checkpoints analysed; [\d.]+ s; runs/a/analysis/table\.csv", closing)
    assert warning == "warning: checkpoint 5 is not usable; left out"  # above the table, which goes on below


def test_elsewhere_a_run_is_plain_lines(tmp_path, capsys):
    train_and_evaluate(small(tmp_path, steps=30, spectrum_every=10, display="auto"), tmp_path)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "━" not in out
    patterns = (
        r"step  0/30  test loss \S+ accuracy \S+",
        r"step  0/30  spectra: largest σ_max \S+ in \S+, largest cond \S+ in \S+",
        r"step  5/30  loss \S+ accuracy \S+  \S+ steps/s  ETA \S+",
        r"step 30/30  test loss \S+ accuracy \S+",
    )
    lines = out.splitlines()
    for pattern in patterns:
        assert sum(bool(re.fullmatch(pattern, line)) for line in lines) == 1, pattern


def test_display_none_is_silent(tmp_path, capsys):
    train_and_evaluate(small(tmp_path, steps=5), tmp_path)
    assert capsys.readouterr() == ("", "")


def test_which_display(monkeypatch):
    assert type(make_display("plain", 10)) is PlainDisplay
    assert type(make_display("live", 10)) is LiveDisplay
    assert type(make_display("auto", 10)) is PlainDisplay  # pytest's stdout is no terminal
    monkeypatch.setattr("sys.stdout", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    assert type(make_display("auto", 10)) is LiveDisplay


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_the_table_keeps_its_width_for_hard_numbers(columns):
    """Long layer names, infinite condition numbers and very large and small values stay within the terminal."""
    display = LiveDisplay(123_456, "validation")
    layers = {
        "blocks/11/attention/query": np.array([[3e8, 1.0, 0.0]]),
        "end_to_end": np.full((1, 300), np.nan),
        "head": np.array([[1.0]]),
    }
    spectra = {name: {"singular_values": values} for name, values in layers.items()}
    numbers = {name: summarize(values) for name, values in layers.items()}
    finite = {
        name: {key: value if np.isfinite(value) else None for key, value in one.items()}
        for name, one in numbers.items()
    }
    display.latest["eval"] = {"kind": "eval", "step": 120_000, "loss": None, "accuracy": 0.5}
    display.spectra = {name: one["singular_values"].mean(0) for name, one in spectra.items()}
    display.latest["spectrum"] = {"kind": "spectrum", "step": 120_000, "layers": finite}
    out = io.StringIO()
    Console(file=out, width=columns).print(display.picture())
    lines = out.getvalue().splitlines()
    assert len(lines) == (6 if columns >= 100 else len(lines))
    assert max(map(len, lines)) <= columns
    assert "validation  loss ∞ accuracy 0.5" in out.getvalue()
    if columns >= 100:
        row = next(line for line in lines if line.startswith("blocks/11/attention/query")).split()
        assert row[1:5] == ["3e+08", "1", "0", "∞"]
