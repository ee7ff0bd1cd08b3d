"""What follows from what happens to a device: effects of the session carried out on the file, what is asked of the
network, and what answers and errors mean.

It speaks to no network and waits for nothing: each method is a generator that yields what is to be asked, and is sent
the answer or thrown the error. The engine drives it in a thread, over a transport that blocks; the simulator on
virtual time.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from syncline.errors import AuthError, OtherUserError, ServerError, SynclineError, UnreachableError
from syncline.log import logger
from syncline.replica.apply import AppliedCut
from syncline.replica.connectivity.port import Conditions
from syncline.replica.file import ReplicaFile, WipedError
from syncline.replica.goal import Goal
from syncline.replica.live import CatchUpNeededError, StreamBlockedError
from syncline.replica.session import Do, Effect, Event, Facts, Session, State, step
from syncline.replica.storage import known_error
from syncline.replica.transport import BucketsNeededError
from syncline.replica.verify_goal import VerifyGoal

if TYPE_CHECKING:
    from syncline.replica.verifier import Verifier

_log = logger("replica.engine")

PURGE_SECONDS = 1.0
VERIFY_AGAIN_SECONDS = 1.0
"""After an error of a verification that somebody waits for, where the server does not say when to come again."""

Announce = Callable[[str, Any], None]
"""Called with "status", "changed", "rejected", "conflict", "receipt" or "wiped", and what it is about."""


class Ask(StrEnum):
    """What a course asks for, and what it wants to be sent."""

    HELLO = "hello"
    """The answer's message."""
    UPLOAD = "upload"
    """The answer's message."""
    DOWNLOAD = "download"
    """Nothing; the answer is fetched frame by frame."""
    FRAME = "frame"
    """The next frame of the download, None where it ends. Whatever else is asked for gives the rest of it up."""
    OPEN = "open"
    """Nothing: the stream is open, or the answer to a long poll is awaited. Its frames come by `take`."""
    CLOSE = "close"
    """Nothing. There may be no stream."""
    VERIFY = "verify"
    """The answer's frames."""
    VERIFIED = "verified"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class Request:
    """`message`: what is sent. `poll`: by a long poll, not by a WebSocket."""

    ask: Ask
    message: dict[str, Any] = field(default_factory=dict)
    poll: bool = False


Work: TypeAlias = Generator[Request, Any, None]
_Result: TypeAlias = "tuple[Event, dict[str, Any]]"
_Step: TypeAlias = Generator[Request, Any, "_Result | None"]


class Course:
    """One device's. One generator is driven to its end before the next one is begun.

    `timer`: when (`now`) the session is to be told TIMER, by `look`; `told`: what the operating system says of network
    and power, heard between two requests of a round, too; `is_stopping` may be set from any thread.
    """

    def __init__(
        self,
        file: ReplicaFile,
        *,
        live: bool,
        announce: Announce,
        jitter: Callable[[], float],
        conditions: Conditions = Conditions(),  # noqa: B008 - immutable
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._announce = announce
        self._jitter = jitter
        self._now = now
        self._watched: int | None = None
        self._purge_at = 0.0
        self._verify_at = 0.0
        self.timer: float | None = None
        self.told: deque[Event] = deque()
        self.goals: list[Goal] = []
        self.is_stopping = False
        self.verifier: Verifier | None = None
        """Compares the file with the source now and then, if one is given."""
        self.trouble: SynclineError | None = None
        """What the last request met with; None once one succeeded."""
        self.session = Session(
            live=live, offline=conditions.online is False, postponed=conditions.postponed_by is not None
        )

    # ------------------------------------------------------------ what happens
    def handle(self, event: Event, **facts: Any) -> Work:
        """One event, and all that follows from it."""
        following: list[_Result] = [(event, facts)]
        while following:
            event, given = following.pop(0)
            before = self.session
            self.session, effects = step(self.session, event, self._facts(given))
            if event in _TOLD and effects:  # another course: the result of what was broken off means nothing
                following.clear()
            if event in _SUCCESSES:
                self.trouble = None
            if self.session.state is not before.state:
                self.timer = None if before.state in _TIMED else self.timer
                self._announce("status", None)
            for effect in effects:
                result = yield from self._execute(effect)
                if result is not None:
                    following.append(result)
            if self.told and following and following[0][0] not in _FINAL:
                following.insert(0, (self.told.popleft(), {}))
            self._check_goals()

    def hear(self) -> Work:
        """What was told."""
        while self.told:
            yield from self.handle(self.told.popleft())

    def look(self) -> Work:
        """Is the timer over, did the app commit, and is there something to purge?"""
        now = self._now()
        if self.timer is not None and now >= self.timer:
            self.timer = None
            yield from self.handle(Event.TIMER)
        (version,) = self._file.store.connection.execute("PRAGMA data_version").fetchone()
        if version != self._watched:
            self._watched = version
            if self._file.has_unoffered:
                yield from self.handle(Event.COMMIT)
        if now >= self._purge_at:
            self._purge_at = now + PURGE_SECONDS
            self._file.store.require_same_file()
            if self._file.state().purge_pending and self._file.purge():
                self._announce("status", None)
        yield from self._verify()

    def _verify(self) -> Work:
        """A piece of a verification, while there is nothing else to do."""
        if self.verifier is None or not self.session.caught_up or self.session.state not in _QUIET:
            return
        goal = next((goal for goal in self.goals if isinstance(goal, VerifyGoal)), None)
        if (goal is None and self.session.postponed) or self._now() < self._verify_at:
            return
        try:
            is_behind = yield from self.verifier.step(goal, self._receive)
        except Exception as error:
            after = error.retry_after_seconds if isinstance(error, ServerError) else None
            self._verify_at = self._now() + (VERIFY_AGAIN_SECONDS if after is None else after)
            raise
        if is_behind:
            yield from self.handle(Event.SYNC)
        if goal is not None:
            self._check_goals()

    def want(self, goal: Goal) -> Work:
        """Somebody begins to wait."""
        self.goals.append(goal)
        yield from self.handle(Event.SYNC)

    def take(self, frame: dict[str, Any]) -> Work:
        """A frame of the open stream."""
        try:
            applied = self._receive(frame)
        except Exception as error:
            yield from self.meet(error)
            return
        if frame.get("t") == "heartbeat" or applied is not None:
            yield from self.handle(Event.CUT)
        elif frame.get("t") == "commit":
            yield from self.handle(Event.STALE)

    def stream_ended(self, error: Exception | None) -> Work:
        """The open stream is over; in good order where there is no error."""
        if error is None:
            yield from self.handle(Event.CLOSED)
        else:
            self._file.abandon()
            yield from self.meet(error)

    def meet(self, error: Exception) -> Work:
        """An error outside of any request."""
        event, facts = self.meaning_of(error)
        yield from self.handle(event, **facts)

    def _facts(self, given: dict[str, Any]) -> Facts:
        state = self._file.state()
        return Facts(
            left=self._file.has_unoffered, pending=state.has_pending, jitter=self._jitter(), now=self._now(), **given
        )

    def meaning_of(self, error: Exception) -> _Result:
        """What an error means for the session; those that waiting does not heal end the goals."""
        error = known_error(error, self._file.path)
        self.trouble = error if isinstance(error, SynclineError) else None
        for goal in self.goals:
            goal.last_error = error
        for kind, event in _MEANINGS:
            if isinstance(error, kind):
                return (event, {})
        if isinstance(error, WipedError):
            self.fail_goals(error)
            self._announce("wiped", error.message)
            return (Event.WIPED, {})
        if isinstance(error, AuthError | OtherUserError):
            self.fail_goals(error)
            return (Event.REFUSED, {})
        if isinstance(error, ServerError):
            return (Event.FAILED, {"retry_after": error.retry_after_seconds})
        if isinstance(error, SynclineError):
            _log.warning("Sync failed: %s", error)
            if error.code not in _HEALED_BY_HELLO:
                self.fail_goals(error)
            return (Event.FAILED, {})
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return (Event.FAILED, {})
        _log.error("Sync failed unexpectedly.", exc_info=error)
        self.fail_goals(error)
        return (Event.FAILED, {})

    # ------------------------------------------------------------ effects
    def _execute(self, effect: Effect) -> _Step:
        if self.is_stopping and effect.do is not Do.CLOSE:
            return (Event.STOP, {})
        try:
            return (yield from self._do(effect))
        except Exception as error:
            self._file.abandon()
            self._file.offer_again()
            return self.meaning_of(error)

    def _do(self, effect: Effect) -> _Step:
        if effect.do is Do.TIMER:
            self.timer = self._now() + effect.seconds
            return None
        if effect.do is Do.CLOSE:
            yield Request(Ask.CLOSE)
            self._file.abandon()
            return None
        self._file.store.require_same_file()
        if effect.do is Do.HELLO:
            return (yield from self._hello())
        if effect.do is Do.UPLOAD:
            return (yield from self._upload())
        if effect.do is Do.DOWNLOAD:
            return (yield from self._download(effect))
        request = self._file.download_request(with_buckets=effect.buckets, wait=_POLL_SECONDS if effect.poll else 0)
        yield Request(Ask.OPEN, request, effect.poll)
        return (Event.OPENED, {})

    def _hello(self) -> _Step:
        sent = self._file.store.now_us()
        answer = yield Request(Ask.HELLO, self._file.hello_request())
        self._file.accept_hello(answer, sent, self._file.store.now_us())
        return (Event.GREETED, {})

    def _upload(self) -> _Step:
        request = self._file.upload_request()
        if request is None:
            return (Event.UPLOADED, {})
        answer = yield Request(Ask.UPLOAD, request)
        told = self._file.accept_upload(answer)
        if told.gap and told.last < self._file.state().included:
            raise ServerError("The server lost what this device knows as sent.", code="gap")
        return (Event.UPLOADED, {})

    def _download(self, effect: Effect) -> _Step:
        yield Request(Ask.DOWNLOAD, self._file.download_request(with_buckets=effect.buckets, wait=effect.seconds))
        more, empty, is_whole = False, True, False
        while (frame := (yield Request(Ask.FRAME))) is not None:
            if self.is_stopping:
                self._file.abandon()
                return (Event.STOP, {})
            if self.told and self.told[0] is Event.POSTPONE and not self.session.asked:
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
            for goal in self.goals:
                goal.counters.add(applied)
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

    # ------------------------------------------------------------ those who wait
    def _check_goals(self) -> None:
        if not self.session.caught_up or self._file.state().has_pending:
            return
        if self.goals or self._synced_is_old():
            self._file.note_synced()
        for goal in self.goals:
            if goal.is_fulfilled:
                goal.reached.set()
        self.goals = [goal for goal in self.goals if not goal.is_fulfilled]

    def _synced_is_old(self) -> bool:
        last = self._file.state().last_synced_us
        return last is None or self._file.store.now_us() - last > 1_000_000

    def fail_goals(self, error: BaseException) -> None:
        for goal in self.goals:
            goal.error = error
            goal.reached.set()
        self.goals.clear()


_MEANINGS: tuple[tuple[type[Exception], Event], ...] = (
    (BucketsNeededError, Event.BUCKETS_NEEDED),
    (CatchUpNeededError, Event.STALE),
    (StreamBlockedError, Event.BLOCKED),
    (UnreachableError, Event.UNREACHABLE),
)
"""Of errors that need nothing else done; the first that fits."""

_TOLD = frozenset({Event.ONLINE, Event.OFFLINE, Event.MOVED, Event.POSTPONE, Event.RESUME})
_SUCCESSES = frozenset({Event.DOWNLOADED, Event.CUT})
_FINAL = frozenset({Event.STOP, Event.REFUSED, Event.WIPED})
_QUIET = frozenset({State.LIVE, State.IDLE, State.POSTPONED})
_TIMED = frozenset({State.WAITING, State.OFFLINE, State.SIGNED_OUT, State.RESTING})
_HEALED_BY_HELLO = frozenset(
    {"layout", "device_unknown", "device_cloned", "bad_order", "bad_frame", "cut_short", "gap"}
)
_LAST = frozenset({"commit", "pause", "heartbeat"})
"""One of these ends the answer to a download."""

_POLL_SECONDS = 25.0
