"""Errors that a person can fix: one line each, which the scripts print without a traceback (exit code 2)."""

from __future__ import annotations


class TrainError(ValueError):
    """Base class of the errors that training raises on purpose."""


class ConfigError(TrainError):
    """An option has a value that is not allowed, or contradicts the run already in the workdir."""


class DataError(TrainError):
    """A data file is missing, truncated or not of the stated format."""


class CheckpointError(TrainError):
    """No usable checkpoint where one is needed."""


class DivergenceError(TrainError):
    """The loss or a gradient became NaN or infinite; the state before that update is saved (exit code 1)."""
