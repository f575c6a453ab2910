"""SIGTERM and Ctrl-C as a request that the loop reads between two steps."""

from __future__ import annotations

import signal
import threading


class Interrupt:
    """While entered, the first SIGTERM or SIGINT only sets `received`; a second one acts as it would without this.

    Orbax's own notice of preemption comes only after distributed initialisation, so one process needs its own handler.
    """

    received = False

    def __enter__(self) -> Interrupt:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there only
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number, frame) -> None:
        self.received = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __exit__(self, *exception) -> None:
        self._restore()
