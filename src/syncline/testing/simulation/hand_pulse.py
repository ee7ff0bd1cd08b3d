"""Heartbeats that come when they are told to."""

from __future__ import annotations

from collections.abc import Callable

from syncline.server.pulse import Pulse


class HandPulse(Pulse):
    """Beats when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self._joined: dict[Callable[[], None], None] = {}

    def join(self, beat: Callable[[], None]) -> None:
        self._joined[beat] = None

    def leave(self, beat: Callable[[], None]) -> None:
        self._joined.pop(beat, None)

    def beat_all(self) -> None:
        for beat in list(self._joined):
            beat()
