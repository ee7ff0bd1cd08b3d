"""The device's side of a session: a pure state machine, no I/O, no clock, no randomness.

Event in, new session and effects out. `TABLE` has an answer for every state and event; docs/protocol.md prints it. The
engine carries the effects out, one after the other, and hands their results back as events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from syncline import limits

WAIT_SECONDS = 20.0
"""How long a download is held while the server has nothing and own mutations still wait to be included."""

REST_SECONDS = 0.05
REST_SECONDS_MAX = 2.0
"""Between two downloads that brought nothing although they were to be held."""

SIGNED_OUT_SECONDS = 60.0
STREAM_FAILURES_MAX = 2
"""After so many WebSockets in a row that did not get through, long polls stand in."""


class State(StrEnum):
    STOPPED = "stopped"
    OFFLINE = "offline"
    """The operating system says that there is no network."""
    WAITING = "waiting"
    """Something failed; the timer is set."""
    SIGNED_OUT = "signed_out"
    WIPED = "wiped"
    GREETING = "greeting"
    UPLOADING = "uploading"
    DOWNLOADING = "downloading"
    RESTING = "resting"
    """Own mutations are with the server, and no checkpoint includes them yet."""
    OPENING = "opening"
    LIVE = "live"
    IDLE = "idle"
    """Both sides are quiet, and no stream was asked for."""


class Event(StrEnum):
    START = "start"
    STOP = "stop"
    SYNC = "sync"
    """Somebody wants to be told when both sides are quiet."""
    COMMIT = "commit"
    """The app committed something."""
    TIMER = "timer"
    ONLINE = "online"
    OFFLINE = "offline"
    GREETED = "greeted"
    UPLOADED = "uploaded"
    DOWNLOADED = "downloaded"
    OPENED = "opened"
    CUT = "cut"
    """The stream brought a cut or a heartbeat, and it is applied."""
    CLOSED = "closed"
    """The stream ended in good order."""
    STALE = "stale"
    """The stream sent a cut for another state of the file."""
    BUCKETS_NEEDED = "buckets_needed"
    BLOCKED = "blocked"
    """A WebSocket did not get through, though the server answers."""
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    """The server or the file has a fault; trying again later may help."""
    REFUSED = "refused"
    """401, or the file is somebody else's."""
    WIPED = "wiped"


@dataclass(frozen=True, slots=True)
class Facts:
    """What comes with an event. `left`: local work not offered yet; `pending`: not included yet; `more`: the server has
    more at once; `empty`: a download brought nothing; `retry_after`: seconds; `jitter`: from 0 to 1, drawn outside."""

    left: bool = False
    pending: bool = False
    more: bool = False
    empty: bool = False
    retry_after: float | None = None
    jitter: float = 0.5


class Do(StrEnum):
    HELLO = "hello"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    OPEN = "open"
    CLOSE = "close"
    TIMER = "timer"


@dataclass(frozen=True, slots=True)
class Effect:
    """`seconds`: of a timer, or how long a download may be held. `buckets`: name them. `poll`: not a WebSocket."""

    do: Do
    seconds: float = 0.0
    buckets: bool = False
    poll: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """`live`: a stream is wanted once both sides are quiet. `caught_up`: since it was asked for, everything that the
    server had was downloaded. `upload_pause`: the last upload failed; seconds until the next one, 0 if none failed.
    """

    state: State = State.STOPPED
    live: bool = True
    stream: bool = False
    poll: bool = False
    stream_failures: int = 0
    attempts: int = 0
    rests: int = 0
    unreachable: bool = False
    caught_up: bool = False
    upload_pause: float = 0.0


Step: TypeAlias = tuple[Session, tuple[Effect, ...]]
Handler: TypeAlias = Callable[[Session, Facts], Step]


def backoff_seconds(attempts: int, jitter: float) -> float:
    """Doubles with each attempt, and is spread over half of itself so that a fleet does not come back as one."""
    full = min(limits.BACKOFF_SECONDS_MIN * 2.0 ** (attempts - 1), limits.BACKOFF_SECONDS_MAX)
    return full * (0.5 + jitter / 2)


# ---------------------------------------------------------------- handlers
def ignore(session: Session, facts: Facts) -> Step:
    """Nothing to do now."""
    return session, ()


def greet(session: Session, facts: Facts) -> Step:
    """Begin anew with `hello`. WebSockets get another chance: what blocked them may have been a server going down."""
    closing = (Effect(Do.CLOSE),) if session.stream else ()
    fresh = replace(
        session, state=State.GREETING, stream=False, caught_up=False, poll=False, stream_failures=0, rests=0
    )
    return fresh, (*closing, Effect(Do.HELLO))


def greet_fresh(session: Session, facts: Facts) -> Step:
    """Begin anew, with the failures so far forgotten."""
    return greet(replace(session, attempts=0), facts)


def stop(session: Session, facts: Facts) -> Step:
    """End everything."""
    closing = (Effect(Do.CLOSE),) if session.stream else ()
    return Session(state=State.STOPPED, live=session.live), closing


def go_offline(session: Session, facts: Facts) -> Step:
    """No network; look again now and then, since the operating system may be wrong."""
    closing = (Effect(Do.CLOSE),) if session.stream else ()
    timer = Effect(Do.TIMER, limits.BACKOFF_SECONDS_MAX * (0.5 + facts.jitter / 2))
    return replace(session, state=State.OFFLINE, stream=False, caught_up=False), (*closing, timer)


def upload(session: Session, facts: Facts) -> Step:
    """Offer what waits."""
    return replace(session, state=State.UPLOADING, upload_pause=0.0), (Effect(Do.UPLOAD),)


def upload_failed(session: Session, facts: Facts) -> Step:
    """An upload that fails holds no download up: go on, and try it again by the timer."""
    attempts = session.attempts + 1
    pause = max(backoff_seconds(attempts, facts.jitter), (facts.retry_after or 0.0) * (1 + facts.jitter / 4))
    session = replace(session, attempts=attempts, upload_pause=pause)
    if session.stream:
        return replace(session, state=State.LIVE), (Effect(Do.TIMER, pause),)
    return download(session, facts)


def upload_again(session: Session, facts: Facts) -> Step:
    """The pause after a failed upload is over."""
    return upload(session, facts) if facts.left else (session, ())


def after_greeting(session: Session, facts: Facts) -> Step:
    """Upload first what waits, then download."""
    return upload(session, facts) if facts.left else download(session, facts)


def download(session: Session, facts: Facts) -> Step:
    """Fetch what is new."""
    return replace(session, state=State.DOWNLOADING), (Effect(Do.DOWNLOAD),)


def download_with_buckets(session: Session, facts: Facts) -> Step:
    """The same, with the names of the held buckets."""
    return session, (Effect(Do.DOWNLOAD, buckets=True),)


def open_with_buckets(session: Session, facts: Facts) -> Step:
    """Open the stream again, with the names of the held buckets."""
    return replace(session, state=State.OPENING, stream=False), (
        Effect(Do.CLOSE),
        Effect(Do.OPEN, buckets=True, poll=session.poll),
    )


def after_upload(session: Session, facts: Facts) -> Step:
    """More to offer; else back to the stream, or download."""
    if facts.left:
        return session, (Effect(Do.UPLOAD),)
    if session.stream:
        return replace(session, state=State.LIVE, attempts=0), ()
    return download(session, facts)


def after_download(session: Session, facts: Facts) -> Step:
    """More of either side; then the stream; or, without one, wait until own mutations are included."""
    pause = (Effect(Do.TIMER, session.upload_pause),) if session.upload_pause else ()
    session = replace(session, unreachable=False, rests=session.rests + 1 if facts.empty else 0)
    session = session if pause else replace(session, attempts=0)
    if facts.more:
        return session, (Effect(Do.DOWNLOAD),)
    if facts.left and not pause:
        return upload(session, facts)
    session = replace(session, caught_up=True)
    if session.live:
        return replace(session, state=State.OPENING), (Effect(Do.OPEN, poll=session.poll), *pause)
    if pause:
        return replace(session, state=State.WAITING), pause
    if not facts.pending:
        return replace(session, state=State.IDLE), ()
    if session.rests > 1:
        seconds = min(REST_SECONDS * 2.0 ** (session.rests - 2), REST_SECONDS_MAX)
        return replace(session, state=State.RESTING), (Effect(Do.TIMER, seconds),)
    return session, (Effect(Do.DOWNLOAD, WAIT_SECONDS),)


def download_waiting(session: Session, facts: Facts) -> Step:
    """Ask once more, and let the server hold the answer."""
    return replace(session, state=State.DOWNLOADING), (Effect(Do.DOWNLOAD, WAIT_SECONDS),)


def go_live(session: Session, facts: Facts) -> Step:
    """The stream is open."""
    session = replace(session, state=State.LIVE, stream=True, unreachable=False)
    if session.upload_pause:
        return session, ()
    session = replace(session, attempts=0)
    return upload(session, facts) if facts.left else (session, ())


def after_cut(session: Session, facts: Facts) -> Step:
    """The stream works; offer what waits."""
    session = replace(session, stream_failures=0, caught_up=True)
    return upload(session, facts) if facts.left and not session.upload_pause else (session, ())


def download_again(session: Session, facts: Facts) -> Step:
    """Leave the stream, and catch up by a download."""
    closing = (Effect(Do.CLOSE),) if session.stream else ()
    session = replace(session, state=State.DOWNLOADING, stream=False, caught_up=False)
    return session, (*closing, Effect(Do.DOWNLOAD))


def sync_now(session: Session, facts: Facts) -> Step:
    """Leave the stream, if any, and go once around."""
    closing = (Effect(Do.CLOSE),) if session.stream else ()
    session = replace(session, stream=False, caught_up=False)
    session, effects = after_greeting(session, facts)
    return session, (*closing, *effects)


def sync_later(session: Session, facts: Facts) -> Step:
    """The round that runs is to be followed by another one."""
    return replace(session, caught_up=False), ()


def after_stream(session: Session, facts: Facts) -> Step:
    """A long poll is over: the next one. A WebSocket ended: begin anew, not at once."""
    if session.poll:
        opening = replace(session, state=State.OPENING, stream=False)
        return opening, (Effect(Do.CLOSE), Effect(Do.OPEN, poll=True))
    return wait(session, facts)


def after_blocked(session: Session, facts: Facts) -> Step:
    """Try once more; then long polls."""
    failures = session.stream_failures + 1
    poll = failures >= STREAM_FAILURES_MAX
    session = replace(session, state=State.OPENING, stream=False, stream_failures=failures, poll=poll)
    return session, (Effect(Do.OPEN, poll=poll),)


def wait(session: Session, facts: Facts) -> Step:
    """Set the timer: what the server asked for, or the next backoff."""
    attempts = session.attempts + 1
    seconds = backoff_seconds(attempts, facts.jitter)
    if facts.retry_after is not None:
        seconds = max(facts.retry_after * (1 + facts.jitter / 4), seconds)
    closing = (Effect(Do.CLOSE),) if session.stream else ()
    session = replace(session, state=State.WAITING, stream=False, attempts=attempts, unreachable=False, caught_up=False)
    return session, (*closing, Effect(Do.TIMER, seconds))


def wait_unreachable(session: Session, facts: Facts) -> Step:
    """The same, and nobody answered."""
    session, effects = wait(session, facts)
    return replace(session, unreachable=True), effects


def sign_out(session: Session, facts: Facts) -> Step:
    """Nothing works until there is another token; look now and then whether there is."""
    closing = (Effect(Do.CLOSE),) if session.stream else ()
    session = replace(session, state=State.SIGNED_OUT, stream=False, caught_up=False)
    return session, (*closing, Effect(Do.TIMER, SIGNED_OUT_SECONDS))


def wiped(session: Session, facts: Facts) -> Step:
    """The replica is deleted."""
    closing = (Effect(Do.CLOSE),) if session.stream else ()
    return replace(session, state=State.WIPED, stream=False, caught_up=False), closing


# ---------------------------------------------------------------- the table
S, E = State, Event

_ALWAYS: dict[Event, Handler] = {
    E.START: ignore,
    E.STOP: stop,
    E.SYNC: sync_later,
    E.COMMIT: ignore,
    E.TIMER: ignore,
    E.ONLINE: ignore,
    E.OFFLINE: go_offline,
    E.GREETED: ignore,
    E.UPLOADED: ignore,
    E.DOWNLOADED: ignore,
    E.OPENED: ignore,
    E.CUT: ignore,
    E.CLOSED: ignore,
    E.STALE: ignore,
    E.BUCKETS_NEEDED: ignore,
    E.BLOCKED: ignore,
    E.UNREACHABLE: wait_unreachable,
    E.FAILED: wait,
    E.REFUSED: sign_out,
    E.WIPED: wiped,
}
"""What most states do; each row below names where it differs."""

_RESULTS_IGNORED: dict[Event, Handler] = {E.UNREACHABLE: ignore, E.FAILED: ignore, E.REFUSED: ignore}
_STREAM_ENDS: dict[Event, Handler] = {E.CLOSED: after_stream, E.STALE: download_again}

TABLE: dict[State, dict[Event, Handler]] = {
    S.STOPPED: {
        **dict.fromkeys(Event, ignore),
        E.START: greet_fresh,
        E.WIPED: wiped,
    },
    S.OFFLINE: {
        **_ALWAYS,
        **_RESULTS_IGNORED,
        E.SYNC: greet,
        E.TIMER: greet,
        E.ONLINE: greet_fresh,
        E.OFFLINE: ignore,
    },
    S.WAITING: {**_ALWAYS, **_RESULTS_IGNORED, E.SYNC: greet, E.TIMER: greet, E.ONLINE: greet_fresh},
    S.SIGNED_OUT: {**_ALWAYS, **_RESULTS_IGNORED, E.SYNC: greet, E.TIMER: greet, E.ONLINE: greet_fresh},
    S.WIPED: {**dict.fromkeys(Event, ignore), E.STOP: stop},
    S.GREETING: {**_ALWAYS, E.GREETED: after_greeting},
    S.UPLOADING: {**_ALWAYS, **_STREAM_ENDS, E.UPLOADED: after_upload, E.CUT: ignore, E.FAILED: upload_failed},
    S.DOWNLOADING: {**_ALWAYS, E.DOWNLOADED: after_download, E.BUCKETS_NEEDED: download_with_buckets},
    S.RESTING: {**_ALWAYS, E.TIMER: download_waiting, E.COMMIT: upload, E.SYNC: sync_now},
    S.OPENING: {
        **_ALWAYS,
        E.OPENED: go_live,
        E.BLOCKED: after_blocked,
        E.BUCKETS_NEEDED: open_with_buckets,
        E.SYNC: sync_now,
    },
    S.LIVE: {
        **_ALWAYS,
        **_STREAM_ENDS,
        E.COMMIT: upload,
        E.TIMER: upload_again,
        E.CUT: after_cut,
        E.SYNC: sync_now,
        E.BUCKETS_NEEDED: open_with_buckets,
        E.BLOCKED: wait_unreachable,
    },
    S.IDLE: {**_ALWAYS, E.START: greet, E.SYNC: sync_now, E.COMMIT: upload, E.ONLINE: greet},
}


def step(session: Session, event: Event, facts: Facts) -> Step:
    return TABLE[session.state][event](session, facts)
