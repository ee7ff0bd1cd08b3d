"""A device on virtual time: the real file, the real session by way of the real course, and an app that is opened,
closed, and killed. What the engine does in threads, this does in tasks."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from syncline.errors import ProtocolError, SynclineError
from syncline.replica.connectivity.port import Conditions
from syncline.replica.course import Ask, Course, Request, Work
from syncline.replica.engine import WATCH_SECONDS
from syncline.replica.session import Event, State
from syncline.testing.simulation.calls import Calls
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.sockets import Socket
from syncline.testing.simulation.tasks import Tasks

PURGE_LOOK_SECONDS = 1.0
FORESEEN = frozenset({"layout", "device_unknown", "gap", "source_busy", "schema_moving", "schema_changed"})
"""Errors of the server's, and of what it sent, after which a device comes again by itself."""
DAMAGED = frozenset({"bad_frame", "bad_json", "cut_short"})
"""The same, where the network cuts answers short."""

Frames = AsyncIterator[dict[str, Any]]


class WatchedCourse(Course):
    """Says which errors the device meets. `met` may raise."""

    met: Callable[[Exception], None]

    def meaning_of(self, error: Exception) -> tuple[Event, dict[str, Any]]:
        self.met(error)
        return super().meaning_of(error)


class Agent:
    """One device. `looked` is called whenever something may have changed in its file, `failed` with what should not
    have happened."""

    def __init__(
        self,
        device: SimulatedDevice,
        calls: Calls,
        dice: random.Random,
        looked: Callable[[SimulatedDevice], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.device = device
        self.link = calls.link
        self._calls = calls
        self._dice = dice
        self._looked = looked
        self._failed = failed
        self._tasks = Tasks()
        self._is_running = False
        self._starts = 0
        self.knows_network = True
        """What the operating system says."""
        self.is_postponed = False

    # ------------------------------------------------------------ its life
    @property
    def is_running(self) -> bool:
        return self._is_running

    @property
    def session(self) -> str:
        return str(self._course.session.state) if self._is_running else "closed"

    def start(self) -> None:
        """The app is opened."""
        if self._is_running:
            return
        loop = asyncio.get_running_loop()
        self._is_running = True
        self._starts += 1
        self._items: deque[tuple[str, Any]] = deque()
        self._stirred = asyncio.Event()
        self._socket: Socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._number = 0
        self._answer: Frames | None = None
        self._course = WatchedCourse(
            self.device.file,
            live=True,
            announce=_nobody_listens,
            jitter=self._dice.random,
            conditions=Conditions(self.knows_network, low_battery=self.is_postponed),
            now=loop.time,
        )
        self._course.met = self._met
        self._task = self._tasks.begin(lambda: loop.create_task(self._run()))

    async def stop(self) -> None:
        """The app is closed in good order."""
        if self._is_running:
            self._course.is_stopping = True
            self._put("event", Event.STOP)
            self._calls.abort()
            await asyncio.wait([self._task])
            await self.kill()

    async def kill(self) -> None:
        """Between any two things that it does."""
        if self._is_running:
            self._is_running = False
            await self._tasks.kill()
            if self._socket is not None:
                self._socket.close()

    # ------------------------------------------------------------ what it is told
    def tell(self, events: Iterable[Event]) -> None:
        """By the operating system; an app that is opened later finds it so."""
        told = list(events)
        for event in told:
            if event in (Event.ONLINE, Event.OFFLINE):
                self.knows_network = event is Event.ONLINE
            elif event in (Event.POSTPONE, Event.RESUME):
                self.is_postponed = event is Event.POSTPONE
        if self._is_running:
            self._course.told.extend(told)
            self._put("told", None)

    def notice(self) -> None:
        """The app has committed something; the agent looks every now and then."""
        if self._is_running:
            loop = asyncio.get_running_loop()
            loop.call_later(self._dice.uniform(0, WATCH_SECONDS), self._put_of, self._starts, "look")

    def _put_of(self, start: int, kind: str) -> None:
        if self._is_running and start == self._starts:
            self._put(kind, None)

    def _put(self, kind: str, content: Any) -> None:
        self._items.append((kind, content))
        self._stirred.set()

    # ------------------------------------------------------------ the engine's thread
    async def _run(self) -> None:
        try:
            await self._drive(self._course.handle(Event.START))
            while self._course.session.state is not State.STOPPED:
                await self._wait()
        except Exception as error:
            self._failed(error)

    async def _wait(self) -> None:
        """One item, a timer, or a look at the file."""
        course = self._course
        if not self._items:
            self._stirred.clear()
            seconds = PURGE_LOOK_SECONDS if self.device.file.state().purge_pending else None
            if course.timer is not None:
                left = max(course.timer - asyncio.get_running_loop().time(), 0.0)
                seconds = left if seconds is None else min(seconds, left)
            try:
                async with asyncio.timeout(seconds):
                    await self._stirred.wait()
            except TimeoutError:
                pass
        item: tuple[str, Any] = self._items.popleft() if self._items else ("look", None)
        kind, content = item
        if kind == "event":
            await self._drive(course.handle(content))
        elif kind == "told":
            await self._drive(course.hear())
        elif kind == "look":
            await self._drive(course.look())
        else:
            number, frame, error = content
            if number == self._number:
                await self._drive(course.stream_ended(error) if frame is None else course.take(frame))

    async def _drive(self, work: Work) -> None:
        try:
            request = next(work)
            while True:
                self._looked(self.device)
                try:
                    answer = await self._perform(request)
                except Exception as error:
                    request = work.throw(error)
                else:
                    request = work.send(answer)
        except StopIteration:
            await self._drop_answer()
            self._looked(self.device)

    # ------------------------------------------------------------ what is asked of the network
    async def _perform(self, request: Request) -> Any:
        if request.ask is Ask.FRAME:
            assert self._answer is not None
            return await anext(self._answer, None)
        await self._drop_answer()
        if request.ask is Ask.HELLO:
            return await self._calls.hello(request.message)
        if request.ask is Ask.UPLOAD:
            return await self._calls.upload(request.message)
        if request.ask is Ask.DOWNLOAD:
            self._answer = self._calls.download(request.message)
        elif request.ask is Ask.OPEN:
            await self._open(request)
        else:
            self._close()
        return None

    async def _drop_answer(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            await answer.aclose()  # type: ignore[attr-defined]

    async def _open(self, request: Request) -> None:
        self._close()
        if request.poll:
            source: Frames = self._calls.download(request.message)
        else:
            calls = self._calls
            self._socket = await Socket.open(calls.gateway, calls.link, calls.user, calls.packing, request.message)
            source = self._socket.frames()
        self._reading = asyncio.get_running_loop().create_task(self._read(self._number, source))

    def _close(self) -> None:
        self._number += 1
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, number: int, source: Frames) -> None:
        """The listener's thread."""
        error: Exception | None = None
        try:
            async for frame in source:
                self._put("stream", (number, frame, None))
        except Exception as caught:
            error = caught
        finally:
            await source.aclose()  # type: ignore[attr-defined]
        self._put("stream", (number, None, error))

    # ------------------------------------------------------------ what it meets
    def _met(self, error: Exception) -> None:
        """Of what the network and the server may do some is foreseen."""
        code = getattr(error, "error_code", "")
        if isinstance(error, SynclineError) and type(error).retry and code != "internal":
            return
        if code in FORESEEN or (code in DAMAGED and isinstance(error, ProtocolError)):
            return
        self._failed(BrokenPromiseError("an error that nobody foresaw", self.device.name, repr(error)))


def _nobody_listens(what: str, about: Any) -> None:
    """In place of an app's callbacks."""
