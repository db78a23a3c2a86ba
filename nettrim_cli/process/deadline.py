"""The time at which the supervisor ends a run, and whether there is time for another step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

LAST_SHARE = 0.25  # of the time so far: what writing and measuring take in the end, at most
LAST_SECONDS = 1.0

_started = time.monotonic()
_limit = [math.inf]


def limit_process(seconds: float) -> None:
    """Remember that this process is ended so many seconds after its start."""
    _limit[0] = seconds


class Deadline:
    """What a run may still do: a step that it does without is left out where time is short.

    Parameters
    ----------
    seconds
        After so many the run is ended; by default those of this process.
    started
        When it began, by the clock.
    clock
        Gives the time in seconds.

    Attributes
    ----------
    left_out
        The steps that were left out, in words, each once.
    """

    def __init__(
        self,
        seconds: float | None = None,
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = _limit[0] if seconds is None else seconds
        self.started, self.clock = _started if started is None else started, clock
        self.left_out: list[str] = []

    @property
    def seconds_left(self) -> float:
        """Seconds that further steps may take, with time to write and measure the result."""
        passed = self.clock() - self.started
        return self.seconds - passed - max(LAST_SECONDS, LAST_SHARE * passed)

    def allows(self, step: str, seconds: float) -> bool:
        """Whether there is time for a step that takes about so long; it is noted where not."""
        if seconds <= self.seconds_left:
            return True
        if step not in self.left_out:
            self.left_out.append(step)
        return False
