"""A device's session on a virtual clock, with a network that comes and goes and a server that may refuse: no threads,
no sockets, and hours in a moment."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from syncline.replica.session import Do, Effect, Event, Facts, Session, State, step

LATENCY_SECONDS = 0.03
SILENCE_SECONDS = 50.0
TOLD = (Event.ONLINE, Event.OFFLINE, Event.MOVED, Event.POSTPONE, Event.RESUME)
_RESULTS = {
    Do.HELLO: Event.GREETED,
    Do.UPLOAD: Event.UPLOADED,
    Do.DOWNLOAD: Event.DOWNLOADED,
    Do.OPEN: Event.OPENED,
}

Answer = tuple[Event, dict[str, Any]]
Server = Callable[["Device", Do], Answer | None]
"""What the server makes of a request; None: it is as it should be."""


@dataclass
class World:
    """The clock, and what is to happen."""

    now: float = 0.0
    agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    numbers: Any = field(default_factory=itertools.count)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.agenda, (self.now + seconds, next(self.numbers), action))

    def run(self, until: float) -> None:
        while self.agenda and self.agenda[0][0] <= until:
            self.now, _, action = heapq.heappop(self.agenda)
            action()
        self.now = until


@dataclass
class Device:
    """What the engine does with a session, without an engine. `asked`: when each request was sent."""

    world: World
    rng: random.Random
    server: Server = lambda device, do: None
    session: Session = field(default_factory=Session)
    has_network: bool = True
    left: bool = False
    asked: list[float] = field(default_factory=list)
    _course: int = 0
    _timer: int = 0
    _stream: int = 0

    def feel(self, event: Event, **facts: Any) -> None:
        before = self.session
        given = Facts(left=self.left, pending=self.left, jitter=self.rng.random(), now=self.world.now, **facts)
        self.session, effects = step(self.session, event, given)
        if event in TOLD and effects:
            self._course += 1
        if self.session.state is not before.state and before.state in (State.WAITING, State.OFFLINE, State.SIGNED_OUT):
            self._timer += 1
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        if effect.do is Do.CLOSE:
            self._stream += 1
        elif effect.do is Do.TIMER:
            self._timer += 1
            self.world.later(effect.seconds, lambda number=self._timer: self._ring(number))  # type: ignore[misc]
        else:
            self.asked.append(self.world.now)
            event, facts = self._answer(effect.do)
            self.world.later(
                LATENCY_SECONDS,
                lambda course=self._course: self._arrive(course, event, facts),  # type: ignore[misc]
            )

    def _answer(self, do: Do) -> Answer:
        if not self.has_network:
            return Event.UNREACHABLE, {}
        refusal = self.server(self, do)
        if refusal is not None:
            return refusal
        if do is Do.UPLOAD:
            self.left = False
        return _RESULTS[do], {}

    def _ring(self, number: int) -> None:
        if number == self._timer:
            self.feel(Event.TIMER)

    def _arrive(self, course: int, event: Event, facts: dict[str, Any]) -> None:
        if course != self._course:
            return
        self.feel(event, **facts)
        if event is Event.OPENED:
            self._stream += 1
            self.world.later(LATENCY_SECONDS, lambda number=self._stream: self._hear(number))  # type: ignore[misc]

    def _hear(self, number: int) -> None:
        """The stream's frames, now and then; or its silence."""
        if number != self._stream or self.session.state not in (State.LIVE, State.UPLOADING):
            return
        if self.has_network:
            self.feel(Event.CUT)
            self.world.later(20.0, lambda: self._hear(number))
        else:
            self.world.later(SILENCE_SECONDS, lambda: self._fall_silent(number))

    def _fall_silent(self, number: int) -> None:
        if number == self._stream and self.session.state in (State.LIVE, State.UPLOADING):
            self.feel(Event.UNREACHABLE)

    def lose_stream(self) -> None:
        """The server went down, and the connection with it."""
        if self.session.state is State.LIVE:
            self._stream += 1
            self.feel(Event.UNREACHABLE)


def most_in(times: list[float], seconds: float) -> int:
    """The largest number of them within so many seconds."""
    ordered, first, most = sorted(times), 0, 0
    for last, time in enumerate(ordered):
        while ordered[first] <= time - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
