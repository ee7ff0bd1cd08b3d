"""The sync agent: one thread that carries out what the session decides.

It wakes on local commits (`PRAGMA data_version`, and at once from `replica.transaction()`), on frames of the stream, on
timers and on what the operating system says of the network. A helper thread reads the stream and does nothing else.
What each of these leads to is in `course`.
"""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from syncline.errors import SynclineError, UnreachableError
from syncline.log import logger
from syncline.replica.connectivity.port import Conditions
from syncline.replica.course import Announce, Ask, Course, Request, Work
from syncline.replica.file import ReplicaFile
from syncline.replica.goal import Goal
from syncline.replica.listener import Listener
from syncline.replica.session import Event, Session, State
from syncline.replica.storage import known_error
from syncline.replica.transport import Transport
from syncline.replica.verifier import Verifier
from syncline.replica.verify_transport import verify_over

_log = logger("replica.engine")

WATCH_SECONDS = 0.05
"""How often the file is asked whether somebody else committed."""


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
        verify_seconds: float | None = None,
    ) -> None:
        self._file = file
        self._transport = transport
        self._course = Course(file, live=live, announce=announce, jitter=jitter, conditions=conditions)
        self._verifier = Verifier(file, every_seconds=verify_seconds, jitter=jitter)
        self._course.verifier = self._verifier
        self._items: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._listener = Listener(transport, lambda item: self._items.put(("stream", item)))
        self._answer: Iterator[dict[str, Any]] = iter(())

    @property
    def session(self) -> Session:
        return self._course.session

    @property
    def trouble(self) -> SynclineError | None:
        """What the last request met with; None once one succeeded."""
        return self._course.trouble

    # ------------------------------------------------------------ from any thread
    def post(self, event: Event) -> None:
        if event is Event.STOP:
            self._course.is_stopping = True
        self._items.put(("event", event))

    def tell(self, events: Iterable[Event]) -> None:
        """Of network and power: heard between two requests of a round, too."""
        self._course.told.extend(events)
        self._items.put(("told", None))

    def add(self, goal: Goal) -> None:
        """Before the thread runs: its first round is for this goal."""
        self._course.goals.append(goal)

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
            self._drive(self._course.handle(Event.START))
            while self.session.state is not State.STOPPED:
                try:
                    self._wait()
                except Exception as error:
                    self._drive(self._course.meet(error))
        except Exception as error:
            known = known_error(error, self._file.path)
            _log.error("The sync agent ended: %s", known, exc_info=not isinstance(known, SynclineError))
            self._course.fail_goals(known)
        finally:
            self._listener.close()
            self._verifier.close()
            self._course.fail_goals(UnreachableError("The sync agent was stopped.", code="stopped"))

    def _wait(self) -> None:
        """One item, a timer, or a look at the file."""
        course, timeout = self._course, WATCH_SECONDS
        if course.timer is not None:
            timeout = min(timeout, max(course.timer - time.monotonic(), 0))
        try:
            kind, content = self._items.get(timeout=timeout)
        except queue.Empty:
            self._drive(course.look())
            return
        if kind == "event":
            self._drive(course.handle(content))
        elif kind == "told":
            self._drive(course.hear())
        elif kind == "goal":
            self._drive(course.want(content))
        elif kind == "give_up":
            course.goals = [goal for goal in course.goals if goal is not content]
        else:
            self._from_stream(*content)

    def _from_stream(self, number: int, frame: dict[str, Any] | None, error: Exception | None) -> None:
        """A frame of the open stream, or how it ended; those of an earlier one are left aside."""
        self._listener.taken()
        if number == self._listener.number:
            self._drive(self._course.stream_ended(error) if frame is None else self._course.take(frame))

    # ------------------------------------------------------------ what is asked of the network
    def _drive(self, work: Work) -> None:
        """To its end."""
        try:
            request = next(work)
            while True:
                try:
                    answer = self._perform(request)
                except Exception as error:
                    request = work.throw(error)
                else:
                    request = work.send(answer)
        except StopIteration:
            return
        finally:
            self._answer = iter(())

    def _perform(self, request: Request) -> Any:
        if request.ask is Ask.FRAME:
            return next(self._answer, None)
        self._answer = iter(())  # what is left of a download that was broken off
        if request.ask is Ask.HELLO:
            return self._transport.hello(request.message)
        if request.ask is Ask.UPLOAD:
            return self._transport.upload(request.message)
        if request.ask is Ask.DOWNLOAD:
            self._answer = self._transport.download(request.message)
        elif request.ask is Ask.OPEN:
            self._listener.open(request.message, poll=request.poll)
        elif request.ask is Ask.CLOSE:
            self._listener.close()
        else:
            return verify_over(self._transport, request)
        return None
