"""A WebSocket of one device over the virtual network: what `replica.live` does, and what ASGI shows the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncline import limits
from syncline.errors import UnreachableError
from syncline.protocol import frames
from syncline.replica.live import BROKEN, ENDED_WELL, StreamBlockedError, error_of_close
from syncline.replica.transport import CONNECT_SECONDS, PACKING_HEADER, unpack
from syncline.server.websocket import WIRE
from syncline.testing.simulation.gateway import Gateway
from syncline.testing.simulation.network import Channel, Link, Way


@dataclass(frozen=True)
class Accepted:
    """The handshake is done."""


@dataclass(frozen=True)
class Closed:
    code: int


class Line:
    """One connection, both ends. For the server it is a wire, too, where `has_wire`."""

    def __init__(self, gateway: Gateway, link: Link, user: str, packing: str, *, has_wire: bool) -> None:
        self._gateway = gateway
        self._link = link
        self._scope = gateway.scope("websocket", "/v1/live", user, {PACKING_HEADER: packing})
        if has_wire:
            self._scope["extensions"] = {WIRE: self}
        self.coming: asyncio.Queue[Accepted | Closed | bytes] = asyncio.Queue()
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out = Channel(link, Way.OUT, self._arrive)
        self._back = Channel(link, Way.BACK, self.coming.put_nowait)
        self._is_over = False

    # ------------------------------------------------------------ the device's end
    def connect(self) -> None:
        self._out.send({"type": "websocket.connect"})

    def say(self, message: dict[str, Any]) -> None:
        packed = frames.pack(frames.dump(message), frames.PLAIN)
        self._out.send({"type": "websocket.receive", "bytes": packed})

    def hang_up(self) -> None:
        self._out.send({"type": "websocket.disconnect", "code": 1000})
        self._back.is_dead = True

    # ------------------------------------------------------------ the server's end
    def _arrive(self, message: dict[str, Any]) -> None:
        is_first = message["type"] == "websocket.connect"
        if is_first and not self._gateway.serve(self._scope, self._heard.get, self._send, self._lose):
            self._back.send(Closed(BROKEN))
        else:
            self._heard.put_nowait(message)

    def _lose(self) -> None:
        self._back.send(Closed(BROKEN))

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            self._back.send(Accepted())
        elif message["type"] == "websocket.send":
            self._break_now_and_then()
            self._back.send(message["bytes"])
        else:
            self._is_over = True
            self._back.send(Closed(message.get("code") or 1000))

    def _break_now_and_then(self) -> None:
        """Between two messages; the device is told of it, or not."""
        if self._link.strikes("reset"):
            if self._link.rng.random() < 0.5:
                self._back.send(Closed(BROKEN))
            self._back.is_dead = True
            self._heard.put_nowait({"type": "websocket.disconnect", "code": BROKEN})

    # ------------------------------------------------------------ as a wire
    def send_now(self, messages: Sequence[bytes]) -> bool:
        if self._is_over or self._link.strikes("slow"):
            return False
        for message in messages:
            self._back.send(message)
        return True

    async def drained(self) -> None:
        await asyncio.sleep(self._link.seconds())

    def abort(self) -> None:
        self._lose()


class Socket:
    """An open stream."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._is_closed = False

    @classmethod
    async def open(cls, gateway: Gateway, link: Link, user: str, packing: str, message: dict[str, Any]) -> Socket:
        """Raises what `open_live` raises."""
        if not link.sky.is_up:
            await asyncio.sleep(0.01)
            raise StreamBlockedError("There is no network.")
        if link.sky.has_portal or link.sky.is_plain:
            await asyncio.sleep(link.seconds())
            raise StreamBlockedError("WebSockets do not get through: status 403.")
        line = Line(gateway, link, user, packing, has_wire=link.rng.random() < 0.7)
        line.connect()
        try:
            first = await asyncio.wait_for(line.coming.get(), CONNECT_SECONDS)
        except TimeoutError:
            line.hang_up()
            raise StreamBlockedError("WebSockets do not get through: timed out.") from None
        if not isinstance(first, Accepted):
            raise StreamBlockedError("WebSockets do not get through: refused.")
        line.say({"t": "open", **message})
        return cls(line)

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        heard = beaten = loop.time()
        while True:
            now = loop.time()
            if now - beaten >= limits.HEARTBEAT_SECONDS:
                self._line.say({"t": "heartbeat"})
                beaten = now
            if now - heard > limits.SILENCE_SECONDS_MAX:
                self.close()
                raise UnreachableError("The live connection fell silent.", code="silent")
            try:
                wait = max(beaten + limits.HEARTBEAT_SECONDS - now, 0.01)
                packed = await asyncio.wait_for(self._line.coming.get(), wait)
            except TimeoutError:
                continue
            if isinstance(packed, Closed):
                if packed.code in ENDED_WELL:
                    return
                raise error_of_close(packed.code) or UnreachableError("The connection broke.", code="unreachable")
            assert isinstance(packed, bytes)
            heard = loop.time()
            for each in frames.unbundle(packed):
                yield unpack(each)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._line.hang_up()
