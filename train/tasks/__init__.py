"""Tasks by name: each says what the data are, how a batch is prepared, and what is minimised."""

from __future__ import annotations

from train.tasks import classification as classification, generation as generation  # fill the registry
from train.tasks.base import Task, tasks

__all__ = ["Task", "tasks"]
