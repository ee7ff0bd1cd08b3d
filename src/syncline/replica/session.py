"""The device's side of a session: a pure state machine, no I/O, no clock, no randomness.

Event in, new session and effects out. `TABLE` has an answer for every state and event; docs/protocol.md prints it. The
engine carries the effects out, one after the other, and hands their results back as events. The words are in
`session_state`, the steps in `session_rounds` and `session_waiting`, how long is waited in `session_pace`.
"""

from __future__ import annotations

from syncline.replica.session_pace import WAIT_SECONDS, backoff_seconds
from syncline.replica.session_rounds import (
    after_blocked,
    after_cut,
    after_download,
    after_greeting,
    after_stream,
    after_upload,
    download_again,
    download_waiting,
    download_with_buckets,
    go_live,
    note_cut,
    open_with_buckets,
    sync_later,
    sync_now,
    upload,
    upload_again,
    upload_failed,
)
from syncline.replica.session_state import Do, Effect, Event, Facts, Handler, Session, State, Step
from syncline.replica.session_waiting import (
    begin,
    come_online,
    go_offline,
    greet,
    greet_asked,
    ignore,
    note_online,
    note_postponed,
    note_resumed,
    postpone,
    resume,
    sign_out,
    stay_postponed,
    stop,
    try_again,
    try_anyway,
    wait,
    wait_unreachable,
    wiped,
)

__all__ = [
    "TABLE",
    "WAIT_SECONDS",
    "Do",
    "Effect",
    "Event",
    "Facts",
    "Handler",
    "Session",
    "State",
    "Step",
    "backoff_seconds",
    "ignore",
    "step",
]

S, E = State, Event

_ALWAYS: dict[Event, Handler] = {
    E.START: ignore,
    E.STOP: stop,
    E.SYNC: sync_later,
    E.COMMIT: ignore,
    E.TIMER: ignore,
    E.ONLINE: note_online,
    E.OFFLINE: go_offline,
    E.MOVED: come_online,
    E.POSTPONE: postpone,
    E.RESUME: note_resumed,
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

_AT_REST: dict[Event, Handler] = {
    **_ALWAYS,
    E.SYNC: greet_asked,
    E.TIMER: try_again,
    E.ONLINE: come_online,
    E.POSTPONE: note_postponed,
    E.UNREACHABLE: ignore,
    E.FAILED: ignore,
    E.REFUSED: ignore,
}
"""No request is under way: results of earlier ones mean nothing, and a signal begins a round."""

_STREAM_ENDS: dict[Event, Handler] = {E.CLOSED: after_stream, E.STALE: download_again}

TABLE: dict[State, dict[Event, Handler]] = {
    S.STOPPED: {**dict.fromkeys(Event, ignore), E.START: begin, E.WIPED: wiped},
    S.OFFLINE: {**_AT_REST, E.TIMER: try_anyway, E.OFFLINE: ignore},
    S.POSTPONED: {
        **_AT_REST,
        E.START: stay_postponed,
        E.COMMIT: stay_postponed,
        E.TIMER: stay_postponed,
        E.POSTPONE: stay_postponed,
        E.RESUME: resume,
    },
    S.WAITING: {**_AT_REST, E.POSTPONE: postpone},
    S.SIGNED_OUT: _AT_REST,
    S.WIPED: {**dict.fromkeys(Event, ignore), E.STOP: stop},
    S.GREETING: {**_ALWAYS, E.GREETED: after_greeting},
    S.UPLOADING: {**_ALWAYS, **_STREAM_ENDS, E.UPLOADED: after_upload, E.CUT: note_cut, E.FAILED: upload_failed},
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
    S.IDLE: {**_AT_REST, E.START: greet, E.SYNC: sync_now, E.COMMIT: upload, E.TIMER: ignore},
}


def step(session: Session, event: Event, facts: Facts) -> Step:
    """The answer of the table."""
    return TABLE[session.state][event](session, facts)
