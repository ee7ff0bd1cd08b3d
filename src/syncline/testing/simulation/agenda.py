"""Virtual time: an event loop in which waiting takes no time. Whatever the real code awaits (a pause, a timeout, the
next heartbeat) is an entry in its agenda; when nothing is left to do now, the clock is set to the next entry."""

from __future__ import annotations

import asyncio
import math
import selectors
from typing import Any

from syncline.testing.world import SECOND_US, VirtualClock


class VirtualLoop(asyncio.SelectorEventLoop):
    """Single-threaded and without sockets, so that what happens in it is the same each time. Seconds begin at 0."""

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual_clock = clock
        self._began_us = clock.now_us()
        super().__init__(_VirtualSelector(clock))

    def time(self) -> float:
        return (self._virtual_clock.now_us() - self._began_us) / SECOND_US


class _VirtualSelector(selectors.SelectSelector):
    """There is nothing to select from: instead of waiting it sets the clock."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("Nothing is left that could ever happen.")
        if timeout > 0:
            self._clock.advance(math.ceil(timeout * SECOND_US))
        return []
