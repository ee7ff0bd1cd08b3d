"""The words of a device's session: its states, what happens to it, what it does, and what it remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

NEVER = float("-inf")


class State(StrEnum):
    STOPPED = "stopped"
    OFFLINE = "offline"
    """The operating system says that there is no network."""
    POSTPONED = "postponed"
    """The app says that the network is metered or the battery low: nothing is sent until it says otherwise."""
    WAITING = "waiting"
    """Something failed, or the network is unsteady; the timer is set."""
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
    MOVED = "moved"
    """The device is on another network: connections that were made before are dead."""
    POSTPONE = "postpone"
    """The network is metered or the battery low."""
    RESUME = "resume"
    """Neither any longer."""
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
    more at once; `empty`: a download brought nothing; `retry_after`: seconds; `jitter`: from 0 to 1, drawn outside;
    `now`: seconds of a clock that never goes back."""

    left: bool = False
    pending: bool = False
    more: bool = False
    empty: bool = False
    retry_after: float | None = None
    jitter: float = 0.5
    now: float = 0.0


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
    """What a session remembers between two events. Times are `Facts.now`."""

    state: State = State.STOPPED
    live: bool = True
    """A stream is wanted once both sides are quiet."""
    offline: bool = False
    """The operating system said that there is no network, and nothing has shown otherwise since."""
    postponed: bool = False
    asked: bool = False
    """Somebody waits until both sides are quiet: that is not postponed."""
    caught_up: bool = False
    """Since it was asked for, everything that the server had was downloaded."""
    unreachable: bool = False
    attempts: int = 0
    rests: int = 0
    uploads: int = 0
    """How many were begun in a row, with nothing fetched between them."""
    upload_pause: float = 0.0
    """The last upload failed; seconds until the next one, 0 if none failed."""
    due: float = NEVER
    """When the timer of `waiting` ends."""
    not_before: float = NEVER
    """The server asked to be left alone until then."""
    signals: int = 0
    """How many rounds were begun of late because the network came back."""
    signalled: float = NEVER
    """When the last of them was begun."""
    is_signalled: bool = False
    """The timer of `waiting` begins the next one."""
    noted: float = NEVER
    """When such a signal came last while something was under way that may have been doomed before it."""
    stream: bool = False
    poll: bool = False
    """Long polls stand in for a WebSocket."""
    poll_until: float = NEVER
    """When a WebSocket is tried again."""
    stream_failures: int = 0
    opened: float = NEVER
    heard: bool = False
    """Something came since the stream was opened."""

    @property
    def is_held(self) -> bool:
        """Nothing is to be sent now."""
        return self.postponed and not self.asked


Step: TypeAlias = tuple[Session, tuple[Effect, ...]]
Handler: TypeAlias = Callable[[Session, Facts], Step]
