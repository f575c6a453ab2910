"""How often to probe, so that probes take a given share of the wall-clock time."""

from __future__ import annotations

import collections
import math
import numbers

from lax_linalg.errors import LinearAlgebraError


class ProbeBudget:
    """A leaky bucket: a probe that took c seconds is paid off by c/share seconds of wall-clock time.

    Its decisions are a function of the times it is told alone, so that equal times give equal decisions; it reads no
    clock. The first probe is always allowed, since its cost is not known before; until it is measured no other is. A
    probe under way counts with the cost of the last one measured. A probe that came late brings the next one forward by
    half its interval at most, so that a coarse cadence loses nothing and a pause (a compilation, an evaluation) is not
    followed by a burst: in any T seconds start at most share · T / c + 3/2 probes of cost c.

    Args:
        share: of the wall-clock time, between 0 and 1.

    Raises:
        LinearAlgebraError: for a share that is not strictly between 0 and 1.

    Example:
        >>> budget = ProbeBudget(0.05)
        >>> budget.allows(now=0.0)
        True
        >>> budget.started(now=0.0)
        >>> budget.spent(2.0)
        >>> budget.allows(now=39.0), budget.allows(now=40.0)
        (False, True)
    """

    def __init__(self, share: float):
        if not (isinstance(share, numbers.Real) and 0 < share < 1):
            raise LinearAlgebraError(f"a probe budget is a share of the time between 0 and 1, as 0.05, got {share!r}")
        self.share = share
        self._free_at = -math.inf
        self._first_start = 0.0
        self._expected: float | None = None
        self._under_way: collections.deque[float | None] = collections.deque()

    def allows(self, now: float) -> bool:
        """Whether a probe may start at `now` (seconds of a monotonic clock).

        Example:
            >>> ProbeBudget(0.5).allows(0.0)
            True
        """
        return now >= self._free_at

    def started(self, now: float) -> None:
        """A probe started at `now`.

        Example:
            >>> budget = ProbeBudget(0.5)
            >>> budget.started(0.0)
            >>> budget.allows(1e9)  # its cost is not known yet
            False
        """
        self._under_way.append(self._expected)
        if self._expected is None:
            self._first_start, self._free_at = now, math.inf
        else:
            interval = self._expected / self.share
            self._free_at = max(self._free_at, now - interval / 2) + interval

    def spent(self, seconds: float) -> None:
        """The oldest probe under way took so many seconds.

        Example:
            >>> budget = ProbeBudget(0.5)
            >>> budget.started(0.0)
            >>> budget.spent(1.0)
            >>> budget.allows(2.0)
            True
        """
        promised = self._under_way.popleft()
        if promised is None:
            self._free_at = self._first_start + seconds / self.share
        else:
            self._free_at += (seconds - promised) / self.share
        self._expected = seconds
