"""Downloads never wait for uploads."""

from __future__ import annotations

from syncline.replica.session import Do, Effect, Event, Facts, Session, State, step
from syncline.replica.session_pace import UPLOADS_MAX

WAITING = Facts(left=True, pending=True)


def run(session: Session, event: Event) -> tuple[Session, list[Effect], list[float]]:
    """Play against a server whose uploads fail and whose downloads and streams work, until it waits for a timer."""
    results = {Do.HELLO: Event.GREETED, Do.UPLOAD: Event.FAILED, Do.DOWNLOAD: Event.DOWNLOADED, Do.OPEN: Event.OPENED}
    done: list[Effect] = []
    events = [event]
    while events:
        session, effects = step(session, events.pop(0), WAITING)
        done += effects
        events += [results[effect.do] for effect in effects if effect.do in results]
    return session, done, [effect.seconds for effect in done if effect.do is Do.TIMER]


def test_an_upload_that_always_fails_stops_neither_downloads_nor_the_stream() -> None:
    """P2, P18."""
    session, done, pauses = run(Session(live=True), Event.START)
    assert session.state is State.LIVE and session.stream
    assert [effect.do for effect in done if effect.do is not Do.TIMER] == [Do.HELLO, Do.UPLOAD, Do.DOWNLOAD, Do.OPEN]
    for _ in range(4):
        session, done, pause = run(session, Event.TIMER)
        assert session.state is State.LIVE and [effect.do for effect in done] == [Do.UPLOAD, Do.TIMER]
        pauses += pause
    assert pauses == sorted(pauses) and pauses[-1] > 4 * pauses[0], "and it does not hammer"
    session, done, _ = run(session, Event.CUT)
    assert session.state is State.LIVE and not done, "a cut is no reason to try before its time"


def test_without_a_stream_it_downloads_each_time_it_tries() -> None:
    session, done, pauses = run(Session(live=False), Event.START)
    assert session.state is State.WAITING and len(pauses) == 1
    assert [effect.do for effect in done][:3] == [Do.HELLO, Do.UPLOAD, Do.DOWNLOAD]
    session, done, later = run(session, Event.TIMER)
    assert Do.DOWNLOAD in [effect.do for effect in done] and later[0] > pauses[0]


def test_a_large_outbox_gets_smaller_while_it_is_sent() -> None:
    """P2: a download follows a few uploads, and what it includes is pending no longer."""
    session, effects = step(Session(live=False), Event.START, WAITING)
    done = [*effects]
    session, effects = step(session, Event.GREETED, WAITING)
    for _ in range(3 * UPLOADS_MAX):
        done += effects
        event = Event.UPLOADED if effects[0].do is Do.UPLOAD else Event.DOWNLOADED
        session, effects = step(session, event, WAITING)
    row = [Do.UPLOAD] * UPLOADS_MAX + [Do.DOWNLOAD]
    assert [effect.do for effect in done][: 2 * len(row) + 1] == [Do.HELLO, *row, *row]


def test_with_a_stream_what_it_brought_is_looked_at_between_uploads() -> None:
    session, effects = step(Session(state=State.LIVE, live=True, stream=True), Event.COMMIT, WAITING)
    for _ in range(UPLOADS_MAX):
        assert effects == (Effect(Do.UPLOAD),)
        session, effects = step(session, Event.UPLOADED, WAITING)
    assert session.state is State.LIVE and effects == (Effect(Do.TIMER, 0.0),)
    session, effects = step(session, Event.CUT, WAITING)
    assert session.state is State.UPLOADING and effects == (Effect(Do.UPLOAD),)


def test_what_the_server_asks_for_is_waited() -> None:
    session = Session(state=State.UPLOADING, live=True, stream=True)
    session, effects = step(session, Event.FAILED, Facts(left=True, retry_after=30.0, jitter=0.0))
    assert effects == (Effect(Do.TIMER, 30.0),)
