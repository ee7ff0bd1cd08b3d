"""uvicorn's WebSocket protocol with a Wire: what `syncline serve` runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from syncline.server.websocket import WIRE, framed


class WiredProtocol(WebSocketsSansIOProtocol):
    """Between two messages of ASGI's a whole frame may be written: uvicorn never leaves one half written, and never
    fragments."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][WIRE] = self

    def send_now(self, messages: Sequence[bytes]) -> bool:
        if not self.writable.is_set() or not self.handshake_complete:
            return False
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return False
        self.transport.write(framed(messages[0]) if len(messages) == 1 else b"".join(map(framed, messages)))
        return True

    async def drained(self) -> None:
        await self.writable.wait()

    def abort(self) -> None:
        self.transport.abort()
