"""The source's write transactions: they wait for the company's programs as `system.writing` says, and leave room."""

from __future__ import annotations

import time
from collections.abc import Callable

from syncline.system.database import immediate as write_transaction
from syncline.system.writing import begin_write

__all__ = ["BUSY_SECONDS", "Rest", "begin_write", "write_transaction"]

BUSY_SECONDS = 30.0
"""How long a connection of ours waits for the lock, before the source is reported busy."""
REST_SECONDS_MIN = 0.002
REST_SECONDS_MAX = 0.020
COMPANY_SECONDS = 1.0
"""So long after the lock was last waited for, somebody else is taken to want it."""


class Rest:
    """The time between two uploads in a row, in which the lock is free.

    A program that finds it taken looks again after 1, 2, 5, 10 … ms: were there no gaps it would meet one upload after
    the other. So after each the lock is left alone for a moment, and while somebody else writes for as long as it was
    held.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._now = now
        self._sleep = sleep
        self._ends = 0.0
        self._begun = 0.0
        self._company_until = 0.0

    def take(self) -> None:
        """What is left of the time after the upload before."""
        left = self._ends - self._now()
        if left > 0:
            self._sleep(left)

    def begin(self, waited: float) -> None:
        """An upload has the lock, for which it waited so many seconds."""
        self._begun = self._now()
        if waited > 0:
            self._company_until = self._begun + COMPANY_SECONDS

    def end(self) -> None:
        """The upload has let go of the lock."""
        ended = self._now()
        rest = min(ended - self._begun, REST_SECONDS_MAX) if ended < self._company_until else 0.0
        self._ends = ended + max(rest, REST_SECONDS_MIN)
