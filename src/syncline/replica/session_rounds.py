"""Steps of a session inside a round: upload, download, and the stream that follows."""

from __future__ import annotations

from dataclasses import replace

from syncline.replica import session_pace as pace
from syncline.replica.session_state import Do, Effect, Facts, Session, State, Step
from syncline.replica.session_waiting import begin_polls, closing, note_stream_end, postpone, wait


# ---------------------------------------------------------------- upload
def after_greeting(session: Session, facts: Facts) -> Step:
    """The server answers. Upload first what waits, then download."""
    session = replace(session, offline=False)
    return upload(session, facts) if facts.left else download(session, facts)


def upload(session: Session, facts: Facts) -> Step:
    """Offer what waits."""
    return replace(session, state=State.UPLOADING, upload_pause=0.0, uploads=1), (Effect(Do.UPLOAD),)


def upload_failed(session: Session, facts: Facts) -> Step:
    """An upload that fails holds no download up: go on, and try it again by the timer."""
    attempts = session.attempts + 1
    pause = pace.backoff_seconds(attempts, facts.jitter)
    if facts.retry_after is not None:
        pause = max(pause, pace.retry_seconds(facts.retry_after, facts.jitter))
    session = replace(session, attempts=attempts, upload_pause=pause)
    if session.stream:
        return replace(session, state=State.LIVE), (Effect(Do.TIMER, pause),)
    return download(session, facts)


def upload_again(session: Session, facts: Facts) -> Step:
    """The pause after a failed upload, or between many of them, is over."""
    return upload(session, facts) if facts.left else (replace(session, upload_pause=0.0), ())


def after_upload(session: Session, facts: Facts) -> Step:
    """More to offer; after some requests in a row, and when all is offered, back to the stream, or download."""
    if facts.left and session.uploads < pace.UPLOADS_MAX:
        return replace(session, uploads=session.uploads + 1), (Effect(Do.UPLOAD),)
    if session.stream:  # what it brought meanwhile comes first, then the timer
        return replace(session, state=State.LIVE, attempts=0), (Effect(Do.TIMER),) if facts.left else ()
    return download(session, facts)


# ---------------------------------------------------------------- download
def download(session: Session, facts: Facts) -> Step:
    """Fetch what is new."""
    return replace(session, state=State.DOWNLOADING), (Effect(Do.DOWNLOAD),)


def download_with_buckets(session: Session, facts: Facts) -> Step:
    """The same, with the names of the held buckets."""
    return session, (Effect(Do.DOWNLOAD, buckets=True),)


def after_download(session: Session, facts: Facts) -> Step:
    """More of either side; then the stream; or, without one, wait until own mutations are included."""
    if not facts.left:  # what failed has arrived all the same
        session = replace(session, upload_pause=0.0)
    pause = (Effect(Do.TIMER, session.upload_pause),) if session.upload_pause else ()
    session = replace(session, unreachable=False, rests=session.rests + 1 if facts.empty else 0)
    if not pause and (facts.more or not session.live):  # where a stream follows, it has to prove itself first
        session = replace(session, attempts=0)
    if facts.left and not pause:
        return upload(session, facts)
    if facts.more:
        return session, (Effect(Do.DOWNLOAD),)
    session = replace(session, caught_up=True)
    if session.live and not session.postponed:
        return replace(session, state=State.OPENING), (Effect(Do.OPEN, poll=session.poll), *pause)
    if pause:
        return replace(session, state=State.WAITING, due=facts.now + session.upload_pause), pause
    if not facts.pending:
        return replace(session, state=State.POSTPONED if session.live else State.IDLE, asked=False), ()
    if session.rests > 1:
        return replace(session, state=State.RESTING), (Effect(Do.TIMER, pace.rest_seconds(session.rests)),)
    return session, (Effect(Do.DOWNLOAD, pace.WAIT_SECONDS),)


def download_waiting(session: Session, facts: Facts) -> Step:
    """Ask once more, and let the server hold the answer."""
    return replace(session, state=State.DOWNLOADING), (Effect(Do.DOWNLOAD, pace.WAIT_SECONDS),)


# ---------------------------------------------------------------- asked for
def sync_now(session: Session, facts: Facts) -> Step:
    """Leave the stream, if any, and go once around."""
    effects = closing(session)
    session, following = after_greeting(replace(session, asked=True, stream=False, caught_up=False), facts)
    return session, (*effects, *following)


def sync_later(session: Session, facts: Facts) -> Step:
    """The round that runs is to be followed by another one."""
    return replace(session, asked=True, caught_up=False), ()


# ---------------------------------------------------------------- the stream
def go_live(session: Session, facts: Facts) -> Step:
    """The stream is open; whether it works, its first frame will tell."""
    session = replace(session, state=State.LIVE, stream=True, opened=facts.now, heard=False, rests=0, unreachable=False)
    return upload(session, facts) if facts.left and not session.upload_pause else (session, ())


def after_cut(session: Session, facts: Facts) -> Step:
    """The stream works; offer what waits."""
    session = replace(session, caught_up=True, heard=True, asked=session.asked and facts.pending)
    if facts.now - session.opened >= pace.STREAM_SECONDS_MIN:
        session = replace(session, stream_failures=0)
    if session.upload_pause:
        return session, ()
    session = replace(session, attempts=0)
    if session.is_held and not facts.left:
        session, effects = postpone(session, facts)
        return replace(session, caught_up=True), effects
    return upload(session, facts) if facts.left else (session, ())


def note_cut(session: Session, facts: Facts) -> Step:
    """The stream works."""
    return replace(session, heard=True), ()


def open_with_buckets(session: Session, facts: Facts) -> Step:
    """Open the stream again, with the names of the held buckets."""
    return replace(session, state=State.OPENING, stream=False), (
        Effect(Do.CLOSE),
        Effect(Do.OPEN, buckets=True, poll=session.poll),
    )


def download_again(session: Session, facts: Facts) -> Step:
    """Leave the stream, and catch up by a download; not at once where streams bring nothing else, again and again."""
    if not session.heard:
        if session.attempts >= pace.STALE_MAX:
            return wait(session, facts)
        session = replace(session, attempts=session.attempts + 1)
    effects = (*closing(session), Effect(Do.DOWNLOAD))
    return replace(session, state=State.DOWNLOADING, stream=False, caught_up=False), effects


def after_stream(session: Session, facts: Facts) -> Step:
    """A long poll is over: the next one, or a WebSocket again after a while. A WebSocket ended: begin anew, not at
    once."""
    if not session.poll:
        return wait(note_stream_end(session, facts), facts)
    if not session.heard:
        return wait(session, facts)
    if session.poll_until <= facts.now:
        session = replace(session, poll=False, stream_failures=pace.STREAM_BLOCKED_MAX - 1)
    opening = replace(session, state=State.OPENING, stream=False)
    return opening, (Effect(Do.CLOSE), Effect(Do.OPEN, poll=session.poll))


def after_blocked(session: Session, facts: Facts) -> Step:
    """Try once more; then long polls."""
    session = replace(session, state=State.OPENING, stream=False, stream_failures=session.stream_failures + 1)
    if session.stream_failures >= pace.STREAM_BLOCKED_MAX:
        session = begin_polls(session, facts)
    return session, (Effect(Do.OPEN, poll=session.poll),)
