"""The device's session: a table without holes, and the paths through it that matter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncline import limits
from syncline.replica.session import (
    TABLE,
    WAIT_SECONDS,
    Do,
    Effect,
    Event,
    Facts,
    Session,
    State,
    backoff_seconds,
    step,
)


def walk(session: Session, *events: Event | tuple[Event, Facts]) -> tuple[Session, tuple[Effect, ...]]:
    effects: tuple[Effect, ...] = ()
    for event in events:
        name, facts = event if isinstance(event, tuple) else (event, Facts())
        session, effects = step(session, name, facts)
    return session, effects


def live() -> Session:
    session, _ = walk(Session(), Event.START, Event.GREETED, Event.DOWNLOADED, Event.OPENED)
    assert session.state is State.LIVE and session.stream
    return session


def test_every_state_answers_every_event() -> None:
    assert set(TABLE) == set(State)
    for state, row in TABLE.items():
        assert set(row) == set(Event), state
        for handler in row.values():
            assert handler.__doc__, "docs/protocol.md prints it"


@given(st.lists(st.tuples(st.sampled_from(Event), st.builds(Facts, st.booleans(), st.booleans(), st.booleans()))))
def test_no_sequence_of_events_leaves_it_without_a_way_on(events: list[tuple[Event, Facts]]) -> None:
    """P2: in every state something is under way, or a timer is set, or it waits for somebody on purpose."""
    session, timer, busy = Session(), False, False
    for event, facts in events:
        before = session
        timer = timer and event is not Event.TIMER
        session, effects = step(session, event, facts)
        kinds = {effect.do for effect in effects}
        busy = bool(kinds & {Do.HELLO, Do.UPLOAD, Do.DOWNLOAD, Do.OPEN}) or (busy and session.state is before.state)
        timer = Do.TIMER in kinds or (timer and session.state is before.state)
        if session.state in (State.WAITING, State.OFFLINE, State.SIGNED_OUT, State.RESTING):
            assert timer or event is Event.TIMER
        elif session.state is State.POSTPONED:
            assert session.postponed and not session.asked, "the app will say when"
        elif session.state not in (State.STOPPED, State.WIPED, State.IDLE, State.LIVE):
            assert busy
        assert not session.stream or session.state in (State.LIVE, State.UPLOADING)


def test_the_usual_way() -> None:
    session, effects = walk(Session(), Event.START)
    assert effects == (Effect(Do.HELLO),)
    session, effects = walk(session, (Event.GREETED, Facts(left=True)))
    assert effects == (Effect(Do.UPLOAD),)
    session, effects = walk(session, (Event.UPLOADED, Facts(left=True)), Event.UPLOADED)
    assert effects == (Effect(Do.DOWNLOAD),)
    session, effects = walk(session, (Event.DOWNLOADED, Facts(more=True)), Event.DOWNLOADED)
    assert effects == (Effect(Do.OPEN),) and session.caught_up
    session, effects = walk(session, Event.OPENED, Event.COMMIT)
    assert effects == (Effect(Do.UPLOAD),) and session.stream
    session, _ = walk(session, Event.UPLOADED)
    assert session.state is State.LIVE


def test_without_a_stream_it_waits_until_own_mutations_are_included() -> None:
    session, _ = walk(Session(live=False), Event.START, Event.GREETED)
    session, effects = walk(session, (Event.DOWNLOADED, Facts(pending=True)))
    assert effects == (Effect(Do.DOWNLOAD, WAIT_SECONDS),)
    empty = Facts(pending=True, empty=True)
    session, effects = walk(session, (Event.DOWNLOADED, empty), (Event.DOWNLOADED, empty))
    assert session.state is State.RESTING and effects[0].do is Do.TIMER and effects[0].seconds < 0.1
    session, effects = walk(session, Event.TIMER, Event.DOWNLOADED)
    assert session.state is State.IDLE and effects == ()


def test_backoff_doubles_is_spread_and_bounded() -> None:
    assert backoff_seconds(1, 0) == limits.BACKOFF_SECONDS_MIN / 2
    assert backoff_seconds(3, 1) == limits.BACKOFF_SECONDS_MIN * 4
    assert backoff_seconds(50, 1) == limits.BACKOFF_SECONDS_MAX


def test_retry_after_is_honoured() -> None:
    _, effects = walk(Session(), Event.START, (Event.FAILED, Facts(retry_after=30, jitter=0)))
    assert effects == (Effect(Do.TIMER, 30),)


def test_a_signal_ends_the_backoff_and_a_commit_does_not() -> None:
    waiting, _ = walk(Session(), Event.START, Event.UNREACHABLE)
    assert waiting.state is State.WAITING and waiting.unreachable
    assert walk(waiting, Event.COMMIT) == (waiting, ())
    online, effects = walk(waiting, Event.ONLINE)
    assert effects == (Effect(Do.HELLO),) and online.attempts == 0


def test_a_signed_out_device_looks_again_and_loses_nothing() -> None:
    session, effects = walk(live(), Event.REFUSED)
    assert session.state is State.SIGNED_OUT and [effect.do for effect in effects] == [Do.CLOSE, Do.TIMER]
    assert walk(session, Event.TIMER)[1] == (Effect(Do.HELLO),)


def test_long_polls_stand_in_where_websockets_do_not_get_through() -> None:
    session, _ = walk(Session(), Event.START, Event.GREETED, Event.DOWNLOADED)
    session, effects = walk(session, Event.BLOCKED)
    assert effects == (Effect(Do.OPEN),)
    session, effects = walk(session, Event.BLOCKED)
    assert effects == (Effect(Do.OPEN, poll=True),)
    session, effects = walk(session, Event.OPENED, Event.CUT, Event.CLOSED)
    assert effects == (Effect(Do.CLOSE), Effect(Do.OPEN, poll=True))


def test_a_stale_stream_is_left_for_a_download() -> None:
    session, effects = walk(live(), Event.STALE)
    assert effects == (Effect(Do.CLOSE), Effect(Do.DOWNLOAD)) and not session.caught_up


def test_sync_goes_once_around_and_back_to_the_stream() -> None:
    session, effects = walk(live(), Event.SYNC)
    assert effects == (Effect(Do.CLOSE), Effect(Do.DOWNLOAD)) and not session.caught_up
    session, effects = walk(session, Event.DOWNLOADED)
    assert effects == (Effect(Do.OPEN),) and session.caught_up


def test_buckets_are_named_when_asked_for() -> None:
    _, effects = walk(Session(), Event.START, Event.GREETED, Event.BUCKETS_NEEDED)
    assert effects == (Effect(Do.DOWNLOAD, buckets=True),)
    _, effects = walk(live(), Event.BUCKETS_NEEDED)
    assert effects == (Effect(Do.CLOSE), Effect(Do.OPEN, buckets=True))
