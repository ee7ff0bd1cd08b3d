"""The live endpoint: the server's session machine on a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from syncline import limits
from syncline.errors import SynclineError
from syncline.log import logger
from syncline.protocol import frames
from syncline.protocol.cursor import cursor_text
from syncline.protocol.messages import Download
from syncline.server.auth import Identity
from syncline.server.downloads import BucketsNeededError, CatchUpNeededError, CutFrames, Position
from syncline.server.service import Service, error_body
from syncline.server.session import Effect, Event, LiveSession, State
from syncline.server.shared import bundled
from syncline.server.websocket import wire_of
from syncline.source.port import Claims

_log = logger("live")

CLOSE_CODES = {
    Event.SILENT: 4408,
    Event.EXPIRED: 4401,
    Event.REPLACED: 4410,
    Event.CATCH_UP: 4412,
    Event.FAILED: 4500,
    Event.OPENED: 4400,
}
BUCKETS_NEEDED = 4409
CLOSE_SECONDS = 5.0
"""How long a peer that takes nothing more may hold up the end of its connection."""


class LiveConnection:
    """Runs one session until it closes. It is a `Subscriber` of the hub and of the fan-out."""

    def __init__(self, service: Service, socket: WebSocket, identity: Identity, packing: int) -> None:
        self._service = service
        self._socket = socket
        self._wire = wire_of(socket.scope)
        self._identity = identity
        self._session = LiveSession()
        self._is_open = False
        self.charge: Callable[[int], None] = lambda items: None
        """Told how many items a message has before it is read; it may raise."""
        self._ended = asyncio.Event()
        self._doing: set[asyncio.Task[None]] = set()
        self._offered: Sequence[bytes] = ()
        self._heard = service.clock.monotonic_seconds()
        self._head = 0
        self.device = ""
        self.claims: Claims = identity.claims
        self.packing = packing
        self.position = Position(None, frozenset(), 0, 0)

    async def run(self) -> None:
        self._service.pulse.join(self._beat)
        self._start(self._listen())
        expiry = self._end_with_token()
        try:
            await self._ended.wait()
        finally:
            if expiry is not None:
                expiry.cancel()
            self._service.pulse.leave(self._beat)
            self._service.hub.leave(self)
            self._service.fan_out.leave(self)
            for task in self._doing:
                task.cancel()
            await asyncio.gather(*self._doing, return_exceptions=True)

    # ------------------------------------------------------------ where events come from
    async def _listen(self) -> None:
        try:
            while self._session.state is not State.CLOSED:
                request = self._asked(await self._socket.receive_bytes())
                if request is not None:
                    await self._open(request)
                    request = None  # a stream may be idle for hours: nothing of what was said is kept
        except (WebSocketDisconnect, RuntimeError, KeyError):
            self._handle(Event.GONE)
        except BucketsNeededError:
            await self._close(BUCKETS_NEEDED)
            self._handle(Event.GONE)
        except Exception as error:
            await self._fail(error)

    def _asked(self, packed: bytes) -> Download | None:
        """What it asks for, where that is what it says."""
        self._heard = self._service.clock.monotonic_seconds()
        body = frames.unpack(packed, limits.STREAM_MESSAGE_BYTES_MAX if self._is_open else limits.REQUEST_BYTES_MAX)
        items_max = limits.SHORT_MESSAGE_ITEMS_MAX
        self.charge(frames.count_items(body, items_max) + limits.ITEMS_PER_CHARGE)
        message = frames.load(body, items_max=items_max)
        return Download.load(message) if message.get("t") == "open" else None

    async def _open(self, request: Download) -> None:
        if not self._is_open:
            self.position = await self._service.open_download(self._identity, request)
            self.device = request.device
            self._is_open = True
            self._service.hub.join(self)
        self._handle(Event.OPENED)

    def _end_with_token(self) -> asyncio.TimerHandle | None:
        """At that moment, not at the next heartbeat: what comes after it is no longer this user's."""
        if self._identity.expires_at is None:
            return None
        left = self._identity.expires_at - self._service.clock.now_us() / 1e6
        return asyncio.get_running_loop().call_later(max(left, 0.0), self._handle, Event.EXPIRED)

    def _beat(self) -> None:
        """Heartbeats, silence, and the token's end."""
        if self._service.clock.monotonic_seconds() - self._heard > limits.SILENCE_SECONDS_MAX:
            self._handle(Event.SILENT)
        expires = self._identity.expires_at
        if expires is not None and self._service.clock.now_us() / 1e6 > expires:
            self._handle(Event.EXPIRED)
        self._handle(Event.BEAT_DUE)

    # ------------------------------------------------------------ as a subscriber
    def wake(self) -> None:
        self._handle(Event.NEWS)

    def replace(self) -> None:
        self._handle(Event.REPLACED)

    def take(self, messages: Sequence[bytes], position: Position) -> bool:
        if self._session.state is not State.TOLD:
            return False
        if self._wire is not None and not self._wire.send_now(messages):
            return False
        self._offered = messages if self._wire is None else ()
        self._head = _number(position)
        self.position = position
        self._handle(Event.SHARED)
        return True

    # ------------------------------------------------------------ effects
    def _handle(self, event: Event) -> None:
        for effect in self._session.handle(event):
            if effect is Effect.READ:
                self._service.fan_out.leave(self)
                self._start(self._read())
            elif effect is Effect.SEND:
                self._send_offered()
            elif effect is Effect.BEAT:
                self._send_beat()
            else:
                self._end(CLOSE_CODES.get(event, 1000))
        if event is Event.GONE:
            self._end(None)

    def _end(self, code: int | None) -> None:
        """What is being read or sent is given up."""
        self._service.fan_out.leave(self)
        for task in self._doing:
            if task is not asyncio.current_task():
                task.cancel()
        if code is None:
            self._ended.set()
        else:
            self._start(self._close(code))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    def _send_offered(self) -> None:
        """What the wire has sent already, or else through ASGI, which may have to wait for the peer."""
        if self._wire is not None:
            self._handle(Event.SENT)
        else:
            self._service.fan_out.leave(self)
            offered, self._offered = self._offered, ()  # not kept for the next hour, once per idle connection
            self._start(self._send_cut(offered, Event.SENT))

    def _send_beat(self) -> None:
        beat: dict[str, Any] = {"t": "heartbeat", "head": self._head, "time": self._service.clock.now_us()}
        position = self._moved_quietly(beat) if self._service.fan_out.is_standing(self) else self.position
        packed = frames.pack(frames.dump(beat), frames.PLAIN)
        if self._wire is None:
            self._start(self._send_cut([packed], None))
        elif not self._wire.send_now([packed]):
            return  # the next one tells it, or a cut
        self.position = position
        if self._service.fan_out.is_standing(self) and _number(position) != self._service.fan_out.at[1]:
            self.wake()  # a heartbeat moves no cursor into another term; a cut of its own does

    def _moved_quietly(self, beat: dict[str, Any]) -> Position:
        """Checkpoints that did not concern the device have passed: it learns now and then that it stands after them.
        Where it stands once it has heard this."""
        was, at = self.position, self._service.fan_out.at
        self._head = beat["head"] = at[1]
        if was.cursor is None or was.cursor[0] != at[0] or was.cursor == at:
            return was
        beat.update(cursor=cursor_text(*at), apply_count=was.apply_count)
        return Position(at, was.held, was.included, was.apply_count)

    async def _read(self) -> None:
        """A cut of its own, sent when the peer takes it."""
        if self._wire is not None:
            await self._wire.drained()
            if self._session.state is State.CLOSED:
                return
        try:
            async with self._service.fan_out.turn:
                cut = await self._service.next_cut(self._identity, self.device, self.position)
        except CatchUpNeededError:
            self._handle(Event.CATCH_UP)
            return
        except Exception as error:
            await self._fail(error)
            return
        self._head = cut.checkpoint
        messages = self._messages(cut)
        await self._send_cut(messages, Event.SENT_PART if cut.more else Event.SENT)

    def _messages(self, cut: CutFrames) -> Sequence[bytes]:
        """Takes the position that the device has when it has applied them."""
        was = self.position
        if cut.is_empty and _are_of_one_term(was, cut.position):
            self.position = Position(cut.position.cursor, was.held, was.included, was.apply_count)
            return [frames.pack(self._service.heartbeat(cut, self.position), frames.PLAIN)]
        self.position = cut.position
        return list(bundled(frames.with_length(frames.pack(frame, self.packing)) for frame in cut.frames))

    async def _send_cut(self, messages: Sequence[bytes], sent: Event | None) -> None:
        try:
            for message in messages:
                await self._send(message)
        except (WebSocketDisconnect, RuntimeError):
            self._handle(Event.GONE)
        except TimeoutError:
            self._handle(Event.SILENT)
        except Exception as error:
            await self._fail(error)
        else:
            if sent is not None:
                self._handle(sent)
                if self._session.state is State.TOLD:
                    self._service.fan_out.stand(self)

    async def _fail(self, error: Exception) -> None:
        if not isinstance(error, SynclineError):
            _log.error("a live session failed", exc_info=error)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send(frames.pack(error_body(error), frames.PLAIN))
        self._handle(Event.FAILED)

    async def _send(self, packed: bytes) -> None:
        await asyncio.wait_for(self._socket.send_bytes(packed), limits.SILENCE_SECONDS_MAX)

    async def _close(self, code: int) -> None:
        """A peer that takes nothing does not learn why."""
        try:
            if self._socket.application_state is WebSocketState.CONNECTED:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._socket.close(code)
        except TimeoutError:
            if self._wire is not None:
                self._wire.abort()
        except Exception as error:
            _log.debug("a live connection was gone before it was closed: %s", error)
        finally:
            self._ended.set()


def _number(position: Position) -> int:
    return position.cursor[1] if position.cursor else 0


def _are_of_one_term(one: Position, other: Position) -> bool:
    return one.cursor is not None and other.cursor is not None and one.cursor[0] == other.cursor[0]
