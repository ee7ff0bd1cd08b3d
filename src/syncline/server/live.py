"""The live endpoint: the server's session machine on a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from syncline import limits
from syncline.errors import SynclineError
from syncline.log import logger
from syncline.protocol import frames
from syncline.protocol.messages import Download
from syncline.server.auth import Identity
from syncline.server.downloads import BucketsNeededError, Position
from syncline.server.hub import Subscriber
from syncline.server.service import Service, error_body
from syncline.server.session import Effect, Event, LiveSession, State

_log = logger("live")

CLOSE_CODES = {
    Event.SILENT: 4408,
    Event.EXPIRED: 4401,
    Event.REPLACED: 4410,
    Event.FAILED: 4500,
    Event.OPENED: 4400,
}
BUCKETS_NEEDED = 4409


class LiveConnection:
    """Runs one session until it closes."""

    def __init__(self, service: Service, socket: WebSocket, identity: Identity, packing: int) -> None:
        self._service = service
        self._socket = socket
        self._identity = identity
        self._packing = packing
        self._session = LiveSession()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._position: Position | None = None
        self._subscriber: Subscriber | None = None
        self._heard = service.clock.monotonic_seconds()
        self._close_code = 1000
        self._head = 0

    async def run(self) -> None:
        helpers = [asyncio.create_task(self._listen()), asyncio.create_task(self._watch())]
        try:
            while self._session.state is not State.CLOSED:
                event = await self._events.get()
                for effect in self._session.handle(event):
                    await self._do(effect, event)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if self._subscriber:
                self._service.hub.leave(self._subscriber)

    # ------------------------------------------------------------ where events come from
    async def _listen(self) -> None:
        try:
            while True:
                packed = await self._socket.receive_bytes()
                self._heard = self._service.clock.monotonic_seconds()
                message = frames.load(frames.unpack(packed, limits.REQUEST_BYTES_MAX))
                if message.get("t") == "open":
                    await self._open(Download.load(message))
        except (WebSocketDisconnect, RuntimeError, KeyError):
            self._events.put_nowait(Event.GONE)
        except BucketsNeededError:
            await self._close(BUCKETS_NEEDED)
            self._events.put_nowait(Event.GONE)
        except Exception as error:
            await self._fail(error)

    async def _open(self, request: Download) -> None:
        if self._position is not None:
            self._events.put_nowait(Event.OPENED)
            return
        self._position = await self._service.open_download(self._identity, request)
        self._subscriber = Subscriber(
            request.device,
            wake=lambda: self._events.put_nowait(Event.NEWS),
            replace=lambda: self._events.put_nowait(Event.REPLACED),
            held=self._position.held,
        )
        self._service.hub.join(self._subscriber)
        self._events.put_nowait(Event.OPENED)

    async def _watch(self) -> None:
        """Heartbeats, silence, and the token's end."""
        while True:
            await asyncio.sleep(limits.HEARTBEAT_SECONDS)
            if self._service.clock.monotonic_seconds() - self._heard > limits.SILENCE_SECONDS_MAX:
                self._events.put_nowait(Event.SILENT)
            expires = self._identity.expires_at
            if expires is not None and self._service.clock.now_us() / 1e6 > expires:
                self._events.put_nowait(Event.EXPIRED)
            self._events.put_nowait(Event.BEAT_DUE)

    # ------------------------------------------------------------ effects
    async def _do(self, effect: Effect, event: Event) -> None:
        if effect is Effect.READ:
            await self._read()
        elif effect is Effect.BEAT:
            beat = {"t": "heartbeat", "head": self._head, "time": self._service.clock.now_us()}
            await self._send(frames.pack(frames.dump(beat), frames.PLAIN))
        else:
            await self._close(CLOSE_CODES.get(event, 1000))

    async def _read(self) -> None:
        assert self._position is not None and self._subscriber is not None
        self._subscriber.begin_cut()
        try:
            cut = await self._service.next_cut(self._identity, self._subscriber.device, self._position)
            self._head = cut.checkpoint
            if cut.is_empty:
                self._position = Position(
                    cut.position.cursor, self._position.held, self._position.included, self._position.apply_count
                )
                await self._send(frames.pack(self._service.heartbeat(cut, self._position), frames.PLAIN))
            else:
                for frame in cut.frames:
                    await self._send(frames.pack(frame, self._packing))
                self._position = cut.position
            self._subscriber.end_cut(self._position.held)
            self._events.put_nowait(Event.SENT_PART if cut.more else Event.SENT)
        except (WebSocketDisconnect, RuntimeError):
            self._events.put_nowait(Event.GONE)
        except Exception as error:
            await self._fail(error)

    async def _fail(self, error: Exception) -> None:
        if not isinstance(error, SynclineError):
            _log.error("a live session failed", exc_info=error)
        with contextlib.suppress(Exception):
            await self._send(frames.pack(error_body(error), frames.PLAIN))
        self._events.put_nowait(Event.FAILED)

    async def _send(self, packed: bytes) -> None:
        await asyncio.wait_for(self._socket.send_bytes(packed), limits.SILENCE_SECONDS_MAX)

    async def _close(self, code: int) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(Exception):
                await self._socket.close(code)
