"""Tasks by name: each says what the data are, how a batch is prepared, and what is minimised."""

from __future__ import annotations

from train.tasks import (  # fill the registry
    classification as classification,
    generation as generation,
    language as language,
    sequence as sequence,
)
from train.tasks.base import Task, tasks

__all__ = ["Task", "tasks"]
