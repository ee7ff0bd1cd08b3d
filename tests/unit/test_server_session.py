"""The server's side of a live session: the table has no holes, and leads nowhere that it should not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from syncline.model.schema import Schema
from syncline.model.scopes import PlanConfig, resolve
from syncline.server.hub import Hub, Subscriber
from syncline.server.live import CLOSE_CODES
from syncline.server.session import TRANSITIONS, Effect, Event, LiveSession, State
from syncline.source.port import Checkpoint, Head

ENDINGS = (Event.SILENT, Event.EXPIRED, Event.REPLACED, Event.FAILED)
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
        if Effect.READ in effects:
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
    reads = Effect.READ in session.handle(Event.NEWS)
    for event in [*after, Event.SENT, Event.SENT]:
        reads = Effect.READ in session.handle(event) or reads
    assert reads or session.state is State.CLOSED


# ---------------------------------------------------------------- who is woken
PLAN = resolve(PlanConfig(scopes=()), Schema({}), {}, {})


@dataclass
class Listening:
    """A subscriber that counts."""

    held: frozenset[str] = frozenset()
    woken: list[str] = field(default_factory=list)

    def subscribe(self, device: str) -> Subscriber:
        return Subscriber(
            device, wake=lambda: self.woken.append("news"), replace=lambda: self.woken.append("newer"), held=self.held
        )


def checkpoint(*buckets: str, devices: tuple[str, ...] = ()) -> Checkpoint:
    return Checkpoint(Head("term", 1, 1), frozenset(buckets), frozenset(devices), frozenset())


def test_holders_and_the_included_are_woken_and_nobody_else() -> None:
    hub, holder, other = Hub(PLAN), Listening(frozenset({"a"})), Listening(frozenset({"b"}))
    hub.join(holder.subscribe("one"))
    hub.join(other.subscribe("two"))
    hub.publish(checkpoint("a"))
    assert (holder.woken, other.woken) == (["news"], [])
    hub.publish(checkpoint(devices=("two",)))
    assert (holder.woken, other.woken) == (["news"], ["news"])


def test_a_newer_session_of_a_device_ends_the_older_and_stays_when_that_one_leaves() -> None:
    hub, older, newer = Hub(PLAN), Listening(frozenset({"a"})), Listening(frozenset({"a"}))
    first, second = older.subscribe("one"), newer.subscribe("one")
    hub.join(first)
    hub.join(second)
    hub.leave(first)
    hub.publish(checkpoint("a"))
    assert (older.woken, newer.woken, len(hub)) == (["newer"], ["news"], 1)


def test_news_of_a_bucket_that_the_cut_under_way_brings_is_not_missed() -> None:
    """P2: found: a device that was being sent a new bucket was not woken by that bucket's next checkpoint."""
    hub, listening = Hub(PLAN), Listening(frozenset({"a"}))
    subscriber = listening.subscribe("one")
    hub.join(subscriber)
    subscriber.begin_cut()
    hub.publish(checkpoint("b"))
    hub.publish(checkpoint("c"))
    assert listening.woken == []
    subscriber.end_cut(frozenset({"a", "b"}))
    assert listening.woken == ["news"]
    hub.publish(checkpoint("c"))
    subscriber.begin_cut()
    subscriber.end_cut(frozenset({"a", "b", "c"}))
    assert listening.woken == ["news"]
