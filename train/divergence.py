"""After a refused update: which layer was the first to be NaN or infinite, and what its spectra last were."""

from __future__ import annotations


def explain(config, task, definition, state, train, order, line):
    return "non-finite"
