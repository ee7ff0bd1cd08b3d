"""One clock for all streams: each is looked at once per heartbeat, a few of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from syncline import limits

SLOTS = 20
"""A heartbeat's time is cut into so many parts; every stream has its beat in one of them."""


class Pulse:
    """Calls each of those who joined once in HEARTBEAT_SECONDS. A task runs while there is anybody."""

    def __init__(self) -> None:
        self._slots: list[dict[Callable[[], None], None]] = [{} for _ in range(SLOTS)]
        self._place: dict[Callable[[], None], int] = {}
        self._now = 0
        self._task: asyncio.Task[None] | None = None

    def join(self, beat: Callable[[], None]) -> None:
        """Its first beat comes after one heartbeat's time."""
        self._place[beat] = self._now
        self._slots[self._now][beat] = None
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="syncline-pulse")

    def leave(self, beat: Callable[[], None]) -> None:
        place = self._place.pop(beat, None)
        if place is not None:
            del self._slots[place][beat]

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while self._place:
            await asyncio.sleep(limits.HEARTBEAT_SECONDS / SLOTS)
            self._now = (self._now + 1) % SLOTS
            for beat in list(self._slots[self._now]):
                beat()
        self._task = None
