"""How the sequencer finds work: it looks often while things move, seldom when they do not, and has itself woken.

Asleep, it says so in `pulse`, and until when, and then looks once more: a host's statement that saw it awake has
committed by then, or is still running and reads `pulse` after. Capture triggers that find it asleep ring. It says so
again while it sleeps on; of one that has died nobody rings for long. Where prepared transactions are enabled nobody
sleeps or rings, for a NOTIFY makes PREPARE TRANSACTION fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg

PAUSE_SECONDS_MIN = 0.005
PAUSE_SECONDS_MAX = 1.0
PAUSE_GROWTH = 1.5
ASLEEP_SECONDS = 2.0
"""Without work for so long it says that it sleeps."""
ASLEEP_AT_MOST_SECONDS, RENEWED_SECONDS = 90.0, 60.0
"""So long it is believed to sleep, and so often it says so again."""
PAUSE_SECONDS_AWAKE_MAX = 0.05
PAUSE_SECONDS_SLEEPLESS_MAX = 0.25
"""Where it may not say that it sleeps."""


class Doorbell:
    """`woken` is set by whoever has work."""

    def __init__(self, woken: asyncio.Event) -> None:
        self._woken = woken
        self._pause = PAUSE_SECONDS_MIN
        self._moved_at: float | None = None
        self._is_asleep = False
        self._told_at = 0.0
        self._may_sleep: bool | None = None

    def is_in_another_session(self) -> None:
        """Of what the one before has said or read nothing is believed."""
        self._is_asleep, self._may_sleep, self._moved_at = False, None, None

    async def slept(self, seconds: float) -> bool:
        """Whether somebody woke us before the time was over."""
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except TimeoutError:
            return False
        self._woken.clear()
        self.has_rung()
        return True

    def has_rung(self) -> None:
        self._pause, self._moved_at = PAUSE_SECONDS_MIN, _now()

    def pauses(self) -> Iterator[float]:
        """Before the next look, and the one after it …; from one call to the next where it stood."""
        while True:
            longest = PAUSE_SECONDS_MAX if self._is_asleep else PAUSE_SECONDS_AWAKE_MAX
            if self._may_sleep is False:
                longest = PAUSE_SECONDS_SLEEPLESS_MAX
            self._pause = min(self._pause, longest)
            yield self._pause
            self._pause *= PAUSE_GROWTH

    async def fell_asleep(self, db: asyncpg.Connection) -> bool:
        """After a look that found nothing: whether it now says that it sleeps. Then one more look has to follow."""
        if self._moved_at is None:
            self._moved_at = _now()
        since, patience = (self._told_at, RENEWED_SECONDS) if self._is_asleep else (self._moved_at, ASLEEP_SECONDS)
        if _now() - since < patience:
            return False
        if self._may_sleep is None:
            self._may_sleep = await db.fetchval("SELECT current_setting('max_prepared_transactions')") == "0"
        if self._may_sleep:
            await db.execute(_SLEEP, ASLEEP_AT_MOST_SECONDS)
            self._is_asleep, self._told_at = True, _now()
        return self._is_asleep

    async def clear(self, db: asyncpg.Connection) -> None:
        """The first thing done on waking, and in a new term, whoever slept before."""
        if self._is_asleep or self._moved_at is None:
            await db.execute(_WAKE)
        self._is_asleep = False
        self._moved_at = _now()

    async def leave(self, db: asyncpg.Connection) -> None:
        """Nobody is to ring for this process any more."""
        if self._is_asleep:
            await db.execute(_WAKE)
        self.is_in_another_session()


_SLEEP = "UPDATE syncline.pulse SET asleep_until = clock_timestamp() + make_interval(secs => $1)"
_WAKE = "UPDATE syncline.pulse SET asleep_until = '-infinity' WHERE asleep_until > '-infinity'"


def _now() -> float:
    return asyncio.get_running_loop().time()
