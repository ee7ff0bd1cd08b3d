"""Connections on which no whole request comes: uvicorn would wait for ever, and each takes a file descriptor."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from syncline import limits

_Base: type[asyncio.Protocol] = AutoHTTPProtocol


class PunctualProtocol(_Base):  # type: ignore[misc, valid-type]
    """Closes a connection whose next request's head is not there in time; a WebSocket's opening is such a head, too."""

    _late: asyncio.TimerHandle | None = None
    _is_upgraded = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()
        elif self._late is None and not self._is_upgraded:
            self._wait_for_head()

    def handle_websocket_upgrade(self, *arguments: Any) -> None:
        self._stop_waiting()
        self._is_upgraded = True
        super().handle_websocket_upgrade(*arguments)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        cycle = getattr(self, "cycle", None)
        return cycle is not None and not cycle.response_complete

    def _wait_for_head(self) -> None:
        self._late = asyncio.get_running_loop().call_later(limits.HEAD_SECONDS_MAX, self._give_up)

    def _stop_waiting(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def _give_up(self) -> None:
        self._late = None
        transport = getattr(self, "transport", None)
        if transport is not None and not self._is_answering():
            transport.close()
