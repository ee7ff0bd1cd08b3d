"""A device's stream: the server's real live connection, a line in place of a socket, and what is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.websockets import WebSocketDisconnect, WebSocketState

from syncline.protocol import frames
from syncline.server.auth import Identity
from syncline.server.live import LiveConnection
from syncline.server.websocket import WIRE
from syncline.testing.simulation.server import SimulatedServer


class Line:
    """Both ways of one connection. It is the server's socket, and its wire where one is offered. `coming`: messages on
    their way to the device, in order."""

    def __init__(self, server: SimulatedServer, *, has_wire: bool) -> None:
        self._server = server
        self.scope: dict[str, Any] = {"extensions": {WIRE: self} if has_wire else {}}
        self.application_state = WebSocketState.CONNECTED
        self.coming: list[bytes] = []
        self.code: int | None = None
        self.is_slow = False
        self._going: asyncio.Queue[bytes | None] = asyncio.Queue()

    # ------------------------------------------------------------ the server's end
    async def receive_bytes(self) -> bytes:
        message = await self._going.get()
        if message is None:
            raise WebSocketDisconnect
        return message

    async def send_bytes(self, message: bytes) -> None:
        if not self._server.is_dead:
            self.coming.append(message)

    async def close(self, code: int) -> None:
        self.code = code
        self.application_state = WebSocketState.DISCONNECTED

    def send_now(self, messages: Sequence[bytes]) -> bool:
        if self.is_slow or self._server.is_dead:
            return False
        self.coming += messages
        return True

    async def drained(self) -> None:
        self.is_slow = False

    def abort(self) -> None:
        self.hang_up()

    # ------------------------------------------------------------ the device's end
    def say(self, message: dict[str, Any]) -> None:
        self._going.put_nowait(frames.pack(frames.dump(message), frames.PLAIN))

    def hang_up(self) -> None:
        """What is on its way is lost; the server learns of it when it listens."""
        self.coming.clear()
        self._going.put_nowait(None)


class SimulatedStream:
    """One connection, from `open` to its end."""

    def __init__(self, server: SimulatedServer, identity: Identity, request: dict[str, Any], *, has_wire: bool) -> None:
        self._server = server
        self.line = Line(server, has_wire=has_wire)
        self._connection = LiveConnection(server.service, self.line, identity, frames.PLAIN)  # type: ignore[arg-type]
        self._running = server.start(self._connection.run())
        server.do(lambda: self.line.say({"t": "open", **request}))

    @property
    def is_over(self) -> bool:
        """Nothing comes any more."""
        return not self.line.coming and (self.line.code is not None or self._running.done())

    def take(self) -> list[dict[str, Any]]:
        """The frames of the next message."""
        if not self.line.coming:
            return []
        return [frames.load(frames.unpack(packed)) for packed in frames.unbundle(self.line.coming.pop(0))]

    @property
    def running(self) -> asyncio.Task[None]:
        return self._running

    def end(self) -> None:
        """The line is cut."""
        self._server.do(self.line.hang_up)
        if not self._running.done():
            self._server.call(self._running)
