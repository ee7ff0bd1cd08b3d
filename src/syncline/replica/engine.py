"""The sync agent: one thread that carries out what the session decides.

It wakes on local commits (`PRAGMA data_version`, and at once from `replica.transaction()`), on frames of the stream, on
timers and on what the operating system says of the network. A helper thread reads the stream and does nothing else.
"""

from __future__ import annotations

import queue
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from syncline.errors import AuthError, OtherUserError, ServerError, SynclineError, UnreachableError
from syncline.log import logger
from syncline.replica.apply import AppliedCut
from syncline.replica.connectivity.port import Conditions
from syncline.replica.file import ReplicaFile, WipedError
from syncline.replica.listener import Listener
from syncline.replica.live import CatchUpNeededError, StreamBlockedError
from syncline.replica.session import Do, Effect, Event, Facts, Session, State, step
from syncline.replica.storage import known_error
from syncline.replica.transport import BucketsNeededError, Transport

_log = logger("replica.engine")

WATCH_SECONDS = 0.05
"""How often the file is asked whether somebody else committed."""

PURGE_SECONDS = 1.0


@dataclass
class Counters:
    """What happened since somebody began to count."""

    downloaded_rows: int = 0
    removed_rows: int = 0
    uploaded_mutations: int = 0
    rejected: int = 0
    conflicts: int = 0
    first_sync: bool = False


@dataclass
class Goal:
    """Somebody waits until both sides are quiet. `error`: what cannot be healed by waiting."""

    reached: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    last_error: BaseException | None = None
    counters: Counters = field(default_factory=Counters)


Announce = Callable[[str, Any], None]
"""Called with "status", "changed", "rejected", "conflict", "receipt" or "wiped", and what it is about."""


class Engine:
    """`run` is the thread's body. Everything public may be called from any thread."""

    def __init__(
        self,
        file: ReplicaFile,
        transport: Transport,
        *,
        live: bool,
        announce: Announce,
        jitter: Callable[[], float] = random.random,
        conditions: Conditions = Conditions(),  # noqa: B008 - immutable
    ) -> None:
        self._file = file
        self._transport = transport
        self._announce = announce
        self._jitter = jitter
        self._items: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._listener = Listener(transport, lambda item: self._items.put(("stream", item)))
        self._timer: float | None = None
        self._watched: int | None = None
        self._purge_at = 0.0
        self._goals: list[Goal] = []
        self._stopping = threading.Event()
        self._told: deque[Event] = deque()
        self.trouble: SynclineError | None = None
        """What the last request met with; None once one succeeded."""
        self.session = Session(
            live=live, offline=conditions.online is False, postponed=conditions.postponed_by is not None
        )

    # ------------------------------------------------------------ from any thread
    def post(self, event: Event) -> None:
        if event is Event.STOP:
            self._stopping.set()
        self._items.put(("event", event))

    def tell(self, events: Iterable[Event]) -> None:
        """Of network and power: heard between two requests of a round, too."""
        self._told.extend(events)
        self._items.put(("told", None))

    def add(self, goal: Goal) -> None:
        """Before the thread runs: its first round is for this goal."""
        self._goals.append(goal)

    def want(self, goal: Goal) -> None:
        self._items.put(("goal", goal))

    def abort(self) -> None:
        """Breaks off the request that is under way."""
        self._transport.abort()

    def give_up(self, goal: Goal) -> None:
        self._items.put(("give_up", goal))

    # ------------------------------------------------------------ the thread
    def run(self) -> None:
        try:
            self._handle(Event.START)
            while self.session.state is not State.STOPPED:
                try:
                    self._wait()
                except Exception as error:
                    event, facts = self._event_of(error)
                    self._handle(event, **facts)
        except Exception as error:
            known = known_error(error, self._file.path)
            _log.error("The sync agent ended: %s", known, exc_info=not isinstance(known, SynclineError))
            self._fail_goals(known)
        finally:
            self._listener.close()
            self._fail_goals(UnreachableError("The sync agent was stopped.", code="stopped"))

    def _wait(self) -> None:
        """One item, a timer, or a look at the file."""
        timeout = WATCH_SECONDS
        if self._timer is not None:
            timeout = min(timeout, max(self._timer - time.monotonic(), 0))
        try:
            kind, content = self._items.get(timeout=timeout)
        except queue.Empty:
            self._look()
            return
        if kind == "event":
            self._handle(content)
        elif kind == "told":
            while self._told:
                self._handle(self._told.popleft())
        elif kind == "goal":
            self._begin_goal(content)
        elif kind == "give_up":
            self._goals = [goal for goal in self._goals if goal is not content]
        else:
            self._from_stream(*content)

    def _look(self) -> None:
        now = time.monotonic()
        if self._timer is not None and now >= self._timer:
            self._timer = None
            self._handle(Event.TIMER)
        (version,) = self._file.store.connection.execute("PRAGMA data_version").fetchone()
        if version != self._watched:
            self._watched = version
            if self._file.has_unoffered:
                self._handle(Event.COMMIT)
        if now >= self._purge_at:
            self._purge_at = now + PURGE_SECONDS
            self._file.store.require_same_file()
            if self._file.state().purge_pending and self._file.purge():
                self._announce("status", None)

    def _begin_goal(self, goal: Goal) -> None:
        self._goals.append(goal)
        self._handle(Event.SYNC)

    # ------------------------------------------------------------ the session
    def _handle(self, event: Event, **facts: Any) -> None:
        """One event, and all that follows from it."""
        following: list[tuple[Event, dict[str, Any]]] = [(event, facts)]
        while following:
            event, given = following.pop(0)
            before = self.session
            self.session, effects = step(self.session, event, self._facts(given))
            if event in _TOLD and effects:  # another course: the result of what was broken off means nothing
                following.clear()
            if event in _SUCCESSES:
                self.trouble = None
            if self.session.state is not before.state:
                self._timer = None if before.state in _TIMED else self._timer
                self._announce("status", None)
            for effect in effects:
                result = self._execute(effect)
                if result is not None:
                    following.append(result)
            if self._told and following and following[0][0] not in _FINAL:
                following.insert(0, (self._told.popleft(), {}))
            self._check_goals()

    def _facts(self, given: dict[str, Any]) -> Facts:
        state = self._file.state()
        return Facts(
            left=self._file.has_unoffered,
            pending=state.has_pending,
            jitter=self._jitter(),
            now=time.monotonic(),
            **given,
        )

    def _execute(self, effect: Effect) -> tuple[Event, dict[str, Any]] | None:
        if self._stopping.is_set() and effect.do is not Do.CLOSE:
            return (Event.STOP, {})
        try:
            return self._do(effect)
        except Exception as error:
            self._file.abandon()
            self._file.offer_again()
            return self._event_of(error)

    def _do(self, effect: Effect) -> tuple[Event, dict[str, Any]] | None:
        if effect.do is Do.TIMER:
            self._timer = time.monotonic() + effect.seconds
            return None
        if effect.do is Do.CLOSE:
            self._listener.close()
            self._file.abandon()
            return None
        self._file.store.require_same_file()
        if effect.do is Do.HELLO:
            return self._hello()
        if effect.do is Do.UPLOAD:
            return self._upload()
        if effect.do is Do.DOWNLOAD:
            return self._download(effect)
        request = self._file.download_request(with_buckets=effect.buckets, wait=_POLL_SECONDS if effect.poll else 0)
        self._listener.open(request, poll=effect.poll)
        return (Event.OPENED, {})

    def _event_of(self, error: Exception) -> tuple[Event, dict[str, Any]]:
        """What an error means for the session; those that waiting does not heal end the goals."""
        error = known_error(error, self._file.path)
        self.trouble = error if isinstance(error, SynclineError) else None
        for goal in self._goals:
            goal.last_error = error
        if isinstance(error, BucketsNeededError):
            return (Event.BUCKETS_NEEDED, {})
        if isinstance(error, CatchUpNeededError):
            return (Event.STALE, {})
        if isinstance(error, StreamBlockedError):
            return (Event.BLOCKED, {})
        if isinstance(error, WipedError):
            self._fail_goals(error)
            self._announce("wiped", error.message)
            return (Event.WIPED, {})
        if isinstance(error, AuthError | OtherUserError):
            self._fail_goals(error)
            return (Event.REFUSED, {})
        if isinstance(error, UnreachableError):
            return (Event.UNREACHABLE, {})
        if isinstance(error, ServerError):
            return (Event.FAILED, {"retry_after": error.retry_after_seconds})
        if isinstance(error, SynclineError):
            _log.warning("Sync failed: %s", error)
            if error.code not in _HEALED_BY_HELLO:
                self._fail_goals(error)
            return (Event.FAILED, {})
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return (Event.FAILED, {})
        _log.error("Sync failed unexpectedly.", exc_info=error)
        self._fail_goals(error)
        return (Event.FAILED, {})

    # ------------------------------------------------------------ effects
    def _hello(self) -> tuple[Event, dict[str, Any]]:
        sent = self._file.store.now_us()
        answer = self._transport.hello(self._file.hello_request())
        self._file.accept_hello(answer, sent, self._file.store.now_us())
        return (Event.GREETED, {})

    def _upload(self) -> tuple[Event, dict[str, Any]]:
        request = self._file.upload_request()
        if request is None:
            return (Event.UPLOADED, {})
        told = self._file.accept_upload(self._transport.upload(request))
        if told.gap and told.last < self._file.state().included:
            raise ServerError("The server lost what this device knows as sent.", code="gap")
        return (Event.UPLOADED, {})

    def _download(self, effect: Effect) -> tuple[Event, dict[str, Any]]:
        request = self._file.download_request(with_buckets=effect.buckets, wait=effect.seconds)
        more, empty, is_whole = False, True, False
        for frame in self._transport.download(request):
            if self._stopping.is_set():
                self._file.abandon()
                return (Event.STOP, {})
            if self._told and self._told[0] is Event.POSTPONE and not self.session.asked:
                self._file.abandon()
                return (Event.DOWNLOADED, {"more": True})
            applied = self._receive(frame)
            is_whole = frame.get("t") in _LAST
            if applied is not None:
                more, empty = applied.more, False
            elif frame.get("t") == "pause":
                more, empty = True, False
        self._file.abandon()
        if not is_whole:
            raise UnreachableError("The download broke off.", code="cut_short")
        return (Event.DOWNLOADED, {"more": more, "empty": empty})

    def _receive(self, frame: dict[str, Any]) -> AppliedCut | None:
        if frame.get("t") == "commit":
            self._file.store.require_same_file()
        applied = self._file.receive(frame)
        if applied is not None:
            for goal in self._goals:
                goal.counters.uploaded_mutations += applied.newly_included
                goal.counters.downloaded_rows += applied.rows_put
                goal.counters.removed_rows += applied.rows_removed
                goal.counters.rejected += applied.rejected
                goal.counters.conflicts += applied.conflicts
                goal.counters.first_sync |= applied.is_first
            self._tell(applied)
        elif frame.get("t") in ("rows", "progress"):
            self._announce("status", None)
        return applied

    def _tell(self, applied: AppliedCut) -> None:
        if applied.tables:
            self._announce("changed", sorted(applied.tables))
        if applied.rejected:
            self._announce("rejected", applied.rejected)
        if applied.conflicts:
            self._announce("conflict", applied.conflicts)
        if applied.receipt is not None:
            self._announce("receipt", applied.receipt)
        self._announce("status", None)

    # ------------------------------------------------------------ the stream
    def _from_stream(self, number: int, frame: dict[str, Any] | None, error: Exception | None) -> None:
        """A frame of the open stream, or how it ended; those of an earlier one are left aside."""
        self._listener.taken()
        if number != self._listener.number:
            return
        if error is not None:
            self._file.abandon()
            event, facts = self._event_of(error)
            self._handle(event, **facts)
        elif frame is None:
            self._handle(Event.CLOSED)
        else:
            self._stream_frame(frame)

    def _stream_frame(self, frame: dict[str, Any]) -> None:
        try:
            applied = self._receive(frame)
        except Exception as error:
            event, facts = self._event_of(error)
            self._handle(event, **facts)
            return
        if frame.get("t") == "heartbeat" or applied is not None:
            self._handle(Event.CUT)
        elif frame.get("t") == "commit":
            self._handle(Event.STALE)

    # ------------------------------------------------------------ those who wait
    def _check_goals(self) -> None:
        if not self.session.caught_up or self._file.state().has_pending:
            return
        if self._goals or self._synced_is_old():
            self._file.note_synced()
        for goal in self._goals:
            goal.reached.set()
        self._goals.clear()

    def _synced_is_old(self) -> bool:
        last = self._file.state().last_synced_us
        return last is None or self._file.store.now_us() - last > 1_000_000

    def _fail_goals(self, error: BaseException) -> None:
        for goal in self._goals:
            goal.error = error
            goal.reached.set()
        self._goals.clear()


_TOLD = frozenset({Event.ONLINE, Event.OFFLINE, Event.MOVED, Event.POSTPONE, Event.RESUME})
_SUCCESSES = frozenset({Event.DOWNLOADED, Event.CUT})
_FINAL = frozenset({Event.STOP, Event.REFUSED, Event.WIPED})
_TIMED = frozenset({State.WAITING, State.OFFLINE, State.SIGNED_OUT, State.RESTING})
_HEALED_BY_HELLO = frozenset(
    {"layout", "device_unknown", "device_cloned", "bad_order", "bad_frame", "cut_short", "gap"}
)
_LAST = frozenset({"commit", "pause", "heartbeat"})
"""One of these ends the answer to a download."""

_POLL_SECONDS = 25.0
