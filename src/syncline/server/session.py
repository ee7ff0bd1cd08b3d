"""The server's side of a live session: a pure state machine, no I/O, no clock.

`TRANSITIONS` has an answer for every state and event; docs/protocol.md prints it.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    OPENING = "opening"
    """Connected; the device has not said where it stands."""
    READING = "reading"
    """A cut is being read or sent."""
    READING_STALE = "reading_stale"
    """The same, and something new has come meanwhile."""
    TOLD = "told"
    """The device has been told everything up to the head."""
    CLOSED = "closed"


class Event(StrEnum):
    OPENED = "opened"
    """The device's first message was understood."""
    NEWS = "news"
    """A checkpoint or a grant concerns the device."""
    SHARED = "shared"
    """The fan-out has the next cut, as all who stand where this device stands get it."""
    SENT = "sent"
    """The cut went out whole, or there was nothing to send."""
    SENT_PART = "sent_part"
    """The cut went out; more is known to wait."""
    BEAT_DUE = "beat_due"
    SILENT = "silent"
    """Nothing was heard from the device for too long."""
    EXPIRED = "expired"
    """The token's time is over."""
    REPLACED = "replaced"
    """The device has opened a newer session."""
    CATCH_UP = "catch_up"
    """What is new comes in pages, and those by download only."""
    FAILED = "failed"
    """Reading or sending failed, or a message was not understood."""
    GONE = "gone"
    """The device closed the connection."""


class Effect(StrEnum):
    READ = "read"
    """A cut of its own, and send it."""
    SEND = "send"
    """What the fan-out has."""
    BEAT = "beat"
    CLOSE = "close"


S, E, F = State, Event, Effect
_OPEN = (S.OPENING, S.READING, S.READING_STALE, S.TOLD)

TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (S.OPENING, E.OPENED): (S.READING, (F.READ,)),
    (S.READING, E.OPENED): (S.CLOSED, (F.CLOSE,)),
    (S.READING_STALE, E.OPENED): (S.CLOSED, (F.CLOSE,)),
    (S.TOLD, E.OPENED): (S.CLOSED, (F.CLOSE,)),
    (S.OPENING, E.NEWS): (S.OPENING, ()),
    (S.READING, E.NEWS): (S.READING_STALE, ()),
    (S.READING_STALE, E.NEWS): (S.READING_STALE, ()),
    (S.TOLD, E.NEWS): (S.READING, (F.READ,)),
    (S.OPENING, E.SHARED): (S.OPENING, ()),
    (S.READING, E.SHARED): (S.READING_STALE, ()),
    (S.READING_STALE, E.SHARED): (S.READING_STALE, ()),
    (S.TOLD, E.SHARED): (S.READING, (F.SEND,)),
    (S.OPENING, E.SENT): (S.OPENING, ()),
    (S.READING, E.SENT): (S.TOLD, ()),
    (S.READING_STALE, E.SENT): (S.READING, (F.READ,)),
    (S.TOLD, E.SENT): (S.TOLD, ()),
    (S.OPENING, E.SENT_PART): (S.OPENING, ()),
    (S.READING, E.SENT_PART): (S.READING, (F.READ,)),
    (S.READING_STALE, E.SENT_PART): (S.READING, (F.READ,)),
    (S.TOLD, E.SENT_PART): (S.READING, (F.READ,)),
    (S.OPENING, E.BEAT_DUE): (S.OPENING, (F.BEAT,)),
    (S.READING, E.BEAT_DUE): (S.READING, ()),
    (S.READING_STALE, E.BEAT_DUE): (S.READING_STALE, ()),
    (S.TOLD, E.BEAT_DUE): (S.TOLD, (F.BEAT,)),
    **{
        (state, event): (S.CLOSED, (F.CLOSE,))
        for state in _OPEN
        for event in (E.SILENT, E.EXPIRED, E.REPLACED, E.CATCH_UP, E.FAILED)
    },
    **{(state, E.GONE): (S.CLOSED, ()) for state in _OPEN},
    **{(S.CLOSED, event): (S.CLOSED, ()) for event in Event},
}


class LiveSession:
    """`handle` takes an event and says what to do."""

    def __init__(self) -> None:
        self.state = State.OPENING

    def handle(self, event: Event) -> tuple[Effect, ...]:
        self.state, effects = TRANSITIONS[self.state, event]
        return effects
