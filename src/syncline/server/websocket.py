"""A way to a WebSocket below ASGI: to send one message to a thousand devices, what ASGI, Starlette and the protocol's
state cost per message is most of the work. A server without it is sent to through ASGI, message by message.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, Protocol

WIRE = "syncline.wire"
"""The name in the `extensions` of a connection's scope under which its server offers a Wire."""

_HEAD_SHORT, _HEAD_MEDIUM, _HEAD_LONG = b"\x82", b"\x82\x7e", b"\x82\x7f"


class Wire(Protocol):
    """Sends whole binary messages at once, or not at all."""

    def send_now(self, messages: Sequence[bytes]) -> bool:
        """False, and nothing was sent, unless the peer takes what it is sent."""
        ...

    async def drained(self) -> None:
        """Returns when the peer has taken most of what it was sent, or is gone."""

    def abort(self) -> None:
        """Ends the connection without waiting for the peer."""


def wire_of(scope: MutableMapping[str, Any]) -> Wire | None:
    found: Wire | None = (scope.get("extensions") or {}).get(WIRE)
    return found


def framed(message: bytes) -> bytes:
    """A message as one unmasked binary frame (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:
        return _HEAD_SHORT + bytes([size]) + message
    if size < 65_536:
        return _HEAD_MEDIUM + size.to_bytes(2, "big") + message
    return _HEAD_LONG + size.to_bytes(8, "big") + message
