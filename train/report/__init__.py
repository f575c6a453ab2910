"""The report of one or several runs as a single HTML page."""

from train.report.load import Run, load_run, load_runs
from train.report.page import render, write_report
from train.report.picture import write_picture

__all__ = ["Run", "load_run", "load_runs", "render", "write_picture", "write_report"]
