"""What the device's session makes of networks, batteries and streams that do not last."""

from __future__ import annotations

import pytest

from syncline.replica.session import Do, Effect, Event, Facts, Session, State, step
from syncline.replica.session_pace import POLL_SECONDS, SIGNALS_STABLE_SECONDS, STREAM_SHORT_MAX

HELLO = (Effect(Do.HELLO),)


def walk(session: Session, *events: Event, now: float = 0.0, **facts: bool) -> tuple[Session, tuple[Effect, ...]]:
    effects: tuple[Effect, ...] = ()
    for event in events:
        session, effects = step(session, event, Facts(now=now, jitter=0.5, **facts))
    return session, effects


def live(now: float = 0.0) -> Session:
    session, _ = walk(Session(), Event.START, Event.GREETED, Event.DOWNLOADED, Event.OPENED, Event.CUT, now=now)
    assert session.state is State.LIVE and session.heard
    return session


# ---------------------------------------------------------------- no network
def test_it_starts_without_a_network_and_sends_nothing() -> None:
    session, effects = walk(Session(offline=True), Event.START)
    assert session.state is State.OFFLINE and [effect.do for effect in effects] == [Do.TIMER]
    assert walk(session, Event.COMMIT) == (session, ())
    session, effects = walk(session, Event.ONLINE, now=5)
    assert effects == HELLO and not session.offline


def test_the_operating_system_may_be_wrong() -> None:
    """A server that answers is worth more than its word."""
    session, effects = walk(Session(offline=True), Event.START, Event.TIMER)
    assert effects == HELLO
    session, _ = walk(session, Event.GREETED)
    assert not session.offline
    session, _ = walk(Session(offline=True), Event.START, Event.TIMER, Event.UNREACHABLE)
    assert session.state is State.OFFLINE, "it was right"


def test_another_network_leaves_what_was_open_on_the_old_one() -> None:
    session, effects = walk(live(), Event.MOVED)
    assert [effect.do for effect in effects] == [Do.CLOSE, Do.HELLO]
    session, effects = walk(session, Event.MOVED, now=0.1)
    assert session.state is State.WAITING and [effect.do for effect in effects] == [Do.TIMER], "not again at once"


def test_the_pauses_between_signals_grow_and_are_forgotten() -> None:
    session, now, pauses = live(), 1000.0, []
    for _ in range(7):
        session, _ = walk(session, Event.OFFLINE, now=now)
        session, effects = walk(session, Event.ONLINE, now=now)
        pauses.append(0.0 if effects == HELLO else effects[-1].seconds)
        now += pauses[-1]
        if session.state is State.WAITING:
            session, effects = walk(session, Event.TIMER, now=now)
            assert effects == HELLO
    assert pauses == [0, 1, 2, 4, 8, 16, 32]
    now += SIGNALS_STABLE_SECONDS
    session, _ = walk(session, Event.OFFLINE, now=now)
    assert walk(session, Event.ONLINE, now=now)[1] == HELLO


def test_a_slot_that_was_missed_is_used_as_soon_as_there_is_a_network() -> None:
    session, _ = walk(Session(offline=True), Event.START, Event.ONLINE, Event.OFFLINE, Event.ONLINE, Event.OFFLINE)
    assert walk(session, Event.ONLINE, now=1.5)[1] == HELLO


def test_a_signal_does_not_put_off_what_is_due_sooner() -> None:
    session, _ = walk(Session(offline=True), Event.START, Event.ONLINE, Event.UNREACHABLE)
    assert walk(session, Event.ONLINE, now=0.1) == (session, ())


def test_a_request_that_was_sent_into_the_gap_does_not_hold_up_what_the_signal_after_it_began() -> None:
    """P2: the phone hears of the network while a request still waits for an answer that will never come."""
    session, _ = walk(Session(attempts=9), Event.START)
    for _ in range(9):
        session, _ = walk(session, Event.UNREACHABLE, Event.TIMER, now=100.0)
    session, effects = walk(session, Event.ONLINE, now=200.0)
    assert (session.state, effects) == (State.GREETING, ()), "what is under way may still arrive"
    session, effects = walk(session, Event.UNREACHABLE, now=220.0)
    assert effects == HELLO
    session, effects = walk(session, Event.UNREACHABLE, now=220.0)
    assert session.state is State.WAITING and effects[-1].do is Do.TIMER, "once"


def test_a_signal_of_long_ago_hurries_nothing() -> None:
    session, _ = walk(live(), Event.ONLINE, now=5.0)
    session, effects = walk(session, Event.UNREACHABLE, now=1000.0)
    assert session.state is State.WAITING and [effect.do for effect in effects] == [Do.CLOSE, Do.TIMER]


# ---------------------------------------------------------------- not now
@pytest.mark.parametrize(
    "events",
    [
        (Event.START,),
        (Event.START, Event.GREETED),
        (Event.START, Event.GREETED, Event.DOWNLOADED),
        (Event.START, Event.UNREACHABLE),
    ],
)
def test_a_metered_network_or_a_low_battery_postpones(events: tuple[Event, ...]) -> None:
    session, _ = walk(Session(), *events)
    session, effects = walk(session, Event.POSTPONE)
    assert session.state is State.POSTPONED
    assert not {Do.HELLO, Do.UPLOAD, Do.DOWNLOAD, Do.OPEN, Do.TIMER} & {effect.do for effect in effects}
    late = (Event.COMMIT, Event.TIMER, Event.ONLINE, Event.GREETED, Event.DOWNLOADED, Event.OPENED, Event.UNREACHABLE)
    session, effects = walk(session, *late)
    assert (session.state, effects) == (State.POSTPONED, ())
    assert walk(session, Event.RESUME, now=1000)[1] == HELLO


def test_a_stream_is_closed_when_it_is_postponed() -> None:
    session, effects = walk(live(), Event.POSTPONE)
    assert (session.state, effects) == (State.POSTPONED, (Effect(Do.CLOSE),))


def test_it_starts_postponed() -> None:
    session, effects = walk(Session(postponed=True), Event.START)
    assert (session.state, effects) == (State.POSTPONED, ())


def test_somebody_who_asks_is_not_put_off() -> None:
    """One round, whole, until own changes are included; then it is postponed again."""
    session, effects = walk(live(), Event.POSTPONE, Event.SYNC)
    assert effects == HELLO
    session, effects = walk(session, Event.GREETED, left=True, pending=True)
    assert effects == (Effect(Do.UPLOAD),)
    session, effects = walk(session, Event.UPLOADED, Event.DOWNLOADED, pending=True)
    assert [effect.do for effect in effects] == [Do.DOWNLOAD], "held until they are included, and no stream"
    session, effects = walk(session, Event.POSTPONE, Event.FAILED, Event.TIMER, pending=True)
    assert effects == HELLO, "a failure does not end it"
    session, effects = walk(session, Event.GREETED, Event.DOWNLOADED)
    assert (session.state, effects, session.caught_up) == (State.POSTPONED, (), True)


def test_postponed_and_offline_end_in_either_order() -> None:
    both = (Event.POSTPONE, Event.OFFLINE)
    session, _ = walk(live(), *both)
    assert session.state is State.OFFLINE
    assert walk(session, Event.ONLINE, Event.RESUME, now=1000)[1] == HELLO
    assert walk(session, Event.RESUME, Event.ONLINE, now=1000)[1] == HELLO
    still, effects = walk(session, Event.TIMER)
    assert still.state is State.OFFLINE and [effect.do for effect in effects] == [Do.TIMER]


# ---------------------------------------------------------------- streams
def test_streams_that_do_not_last_give_way_to_long_polls_and_are_tried_again_later() -> None:
    session, now = live(), 0.0
    for _ in range(STREAM_SHORT_MAX):
        session, _ = walk(session, Event.UNREACHABLE, now=now)
        now += 1
        session, effects = walk(session, Event.TIMER, Event.GREETED, Event.DOWNLOADED, now=now)
        opened = effects
        session, _ = walk(session, Event.OPENED, Event.CUT, now=now)
    assert opened == (Effect(Do.OPEN, poll=True),)
    session, effects = walk(session, Event.CLOSED, now=now + 25)
    assert effects == (Effect(Do.CLOSE), Effect(Do.OPEN, poll=True))
    session, _ = walk(session, Event.OPENED, Event.CUT, now=now + POLL_SECONDS)
    session, effects = walk(session, Event.CLOSED, now=now + POLL_SECONDS)
    assert effects == (Effect(Do.CLOSE), Effect(Do.OPEN))
    assert walk(session, Event.BLOCKED, now=now + POLL_SECONDS)[1] == (Effect(Do.OPEN, poll=True),), "one more chance"


def test_a_stream_on_which_nothing_comes_does_not_get_through() -> None:
    """A proxy that holds back what it should pass on."""
    session = live()
    for number in range(STREAM_SHORT_MAX):
        session, _ = walk(session, Event.UNREACHABLE, Event.TIMER, Event.GREETED, Event.DOWNLOADED, now=60.0 * number)
        session, _ = walk(session, Event.OPENED, now=60.0 * number)
    assert session.poll


def test_streams_that_last_are_left_alone() -> None:
    session, now = live(), 0.0
    for _ in range(10):
        now += 60
        session, _ = walk(session, Event.CUT, Event.UNREACHABLE, Event.TIMER, Event.GREETED, now=now)
        session, effects = walk(session, Event.DOWNLOADED, now=now)
        assert effects == (Effect(Do.OPEN),)
        session, _ = walk(session, Event.OPENED, Event.CUT, now=now)


def test_a_server_that_was_only_away_is_not_taken_for_a_proxy() -> None:
    session, _ = walk(live(), Event.UNREACHABLE, Event.TIMER, Event.GREETED, Event.DOWNLOADED)
    session, effects = walk(session, Event.BLOCKED, Event.BLOCKED)
    assert effects == (Effect(Do.OPEN, poll=True),)
    session, _ = walk(session, Event.OPENED, Event.UNREACHABLE, Event.TIMER, Event.GREETED)
    assert walk(session, Event.DOWNLOADED)[1] == (Effect(Do.OPEN),)


def test_answers_that_come_empty_at_once_are_not_asked_for_again_at_once() -> None:
    session, _ = walk(Session(), Event.START, Event.GREETED, Event.DOWNLOADED, Event.BLOCKED, Event.BLOCKED)
    pauses = []
    for _ in range(4):
        session, effects = walk(session, Event.OPENED, Event.CLOSED)
        pauses.append(effects[-1].seconds)
        assert session.state is State.WAITING
        session, _ = walk(session, Event.TIMER, Event.GREETED, Event.DOWNLOADED)
    assert pauses == sorted(set(pauses))


def test_streams_that_only_send_the_device_back_are_not_opened_without_a_pause() -> None:
    session, _ = walk(Session(), Event.START, Event.GREETED, Event.DOWNLOADED)
    asked = []
    for _ in range(5):
        session, effects = walk(session, Event.OPENED, Event.STALE)
        asked.append(effects[-1].do)
        session, _ = walk(session, *([Event.TIMER, Event.GREETED] if session.state is State.WAITING else []))
        session, _ = walk(session, Event.DOWNLOADED)
    assert asked == [Do.DOWNLOAD] * 3 + [Do.TIMER] * 2


def test_an_upload_whose_answer_was_lost_leaves_no_pause_behind() -> None:
    session, _ = walk(Session(live=False), Event.START)
    session, _ = walk(session, Event.GREETED, Event.FAILED, left=True, pending=True)
    session, effects = walk(session, Event.DOWNLOADED)
    assert (session.state, effects) == (State.IDLE, ())
