"""The server's side of a live session: the table has no holes, and leads nowhere that it should not."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State as WebSocketState
from websockets.uri import parse_uri

from syncline import limits
from syncline.model.resolving import resolve
from syncline.model.schema import Schema
from syncline.model.scopes import PlanConfig
from syncline.protocol import frames
from syncline.server.downloads import Position
from syncline.server.hub import Hub
from syncline.server.live import CLOSE_CODES
from syncline.server.pulse import Pulse
from syncline.server.session import TRANSITIONS, Effect, Event, LiveSession, State
from syncline.server.websocket import framed
from syncline.source.port import Checkpoint, Claims, Head

ENDINGS = (Event.SILENT, Event.EXPIRED, Event.REPLACED, Event.CATCH_UP, Event.FAILED)
"""After these the server closes the connection."""

EVENTS = st.lists(st.sampled_from([*Event]), max_size=30)


# ---------------------------------------------------------------- the table
def test_every_state_answers_every_event() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Event))


def test_what_ends_a_session_ends_it_in_every_state() -> None:
    """P19: silence, a token's end, a newer stream and a fault close; a peer that is gone needs no closing."""
    for state in State:
        if state is State.CLOSED:
            continue
        for event in ENDINGS:
            assert TRANSITIONS[state, event] == (State.CLOSED, (Effect.CLOSE,))
        assert TRANSITIONS[state, Event.GONE] == (State.CLOSED, ())


def test_closed_is_closed() -> None:
    for event in Event:
        assert TRANSITIONS[State.CLOSED, event] == (State.CLOSED, ())


def test_a_close_that_has_a_reason_has_a_code() -> None:
    closing = {event for (_, event), (_, effects) in TRANSITIONS.items() if Effect.CLOSE in effects}
    assert closing == set(CLOSE_CODES)
    assert len(set(CLOSE_CODES.values())) == len(CLOSE_CODES)


@given(EVENTS)
def test_reading_and_sending_never_overlap(events: list[Event]) -> None:
    """A read begins only when none is under way: what was sent is one cut after the other."""
    session, reading = LiveSession(), False
    for event in events:
        if event in (Event.SENT, Event.SENT_PART) and not reading:
            continue  # the connection reports what it was told to do, and nothing else
        if event in (Event.SENT, Event.SENT_PART):
            reading = False
        effects = session.handle(event)
        if Effect.READ in effects or Effect.SEND in effects:
            assert not reading
            reading = True
        assert Effect.BEAT not in effects or not reading


@given(EVENTS, EVENTS)
def test_no_news_is_lost(before: list[Event], after: list[Event]) -> None:
    """P2: whatever comes before and after, news is followed by a read that begins later, unless the session ends."""
    session = LiveSession()
    for event in before:
        session.handle(event)
    if session.state is State.OPENING:
        return  # what the device is told first is read later than this
    news = Event.NEWS if session.state is State.TOLD else Event.SHARED  # what comes while another is sent is news
    reads = Effect.READ in session.handle(news)
    for event in [*after, Event.SENT, Event.SENT]:
        reads = Effect.READ in session.handle(event) or reads
    assert reads or session.state is State.CLOSED


# ---------------------------------------------------------------- who is there
PLAN = resolve(PlanConfig(scopes=()), Schema({}), {}, {})


@dataclass(eq=False)
class Listening:
    """A subscriber that counts."""

    device: str
    held: frozenset[str] = frozenset()
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.claims: Claims = {}
        self.packing = frames.PLAIN
        self.position = Position(("term", 1), self.held, 0, 0)

    def wake(self) -> None:
        self.events.append("news")

    def replace(self) -> None:
        self.events.append("newer")

    def take(self, messages: Sequence[bytes], position: Position) -> bool:
        raise AssertionError("the hub tells nobody anything")


def test_a_newer_session_of_a_device_ends_the_older_and_stays_when_that_one_leaves() -> None:
    hub, older, newer = Hub(PLAN), Listening("one"), Listening("one")
    hub.join(older)
    hub.join(newer)
    hub.leave(older)
    assert (older.events, newer.events, len(hub)) == (["newer"], [], 1)
    hub.leave(newer)
    assert len(hub) == 0


def test_observers_are_told_of_every_checkpoint() -> None:
    hub = Hub(PLAN)
    seen: list[int] = []
    hub.observers.append(lambda checkpoint: seen.append(checkpoint.head.checkpoint))
    hub.publish(Checkpoint(Head("term", 7, 1), frozenset(), frozenset(), frozenset()))
    assert (seen, hub.published) == ([7], 1)


async def _next(hub: Hub, published: int) -> str:
    waiting = asyncio.create_task(hub.next_checkpoint(30, published))
    await asyncio.sleep(0)
    hub.publish(Checkpoint(Head("term", 1, 1), frozenset(), frozenset(), frozenset()))
    await waiting
    await hub.next_checkpoint(30, published)  # at once: it was published since
    return "told"


def test_a_long_poll_is_told_of_a_checkpoint_before_and_while_it_waits() -> None:
    """P2: what came between a look and the wait is not missed."""
    hub = Hub(PLAN)
    assert asyncio.run(_next(hub, hub.published)) == "told"


# ---------------------------------------------------------------- the pulse
async def _beats(count: int) -> list[int]:
    pulse = Pulse()
    beats = [0] * count
    enough = asyncio.Event()

    def beat(place: int) -> None:
        beats[place] += 1
        if min(beats) >= 2:
            enough.set()

    joined = [functools.partial(beat, place) for place in range(count)]
    for each in joined:
        pulse.join(each)
    await asyncio.wait_for(enough.wait(), 30)
    for each in joined:
        pulse.leave(each)
    await pulse.stop()
    return beats


def test_every_stream_has_its_beats_from_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """P19: a thousand streams cost one task."""
    monkeypatch.setattr(limits, "HEARTBEAT_SECONDS", 0.02)
    assert min(asyncio.run(_beats(50))) >= 2


# ---------------------------------------------------------------- the wire
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 300_000])
def test_a_message_is_framed_as_any_websocket_client_reads_it(size: int) -> None:
    message = bytes(size)
    client = ClientProtocol(parse_uri("ws://127.0.0.1/"), state=WebSocketState.OPEN, max_size=2**20)
    client.receive_data(framed(message))
    (frame,) = client.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, bytes(frame.data), frame.fin) == (Opcode.BINARY, message, True)
