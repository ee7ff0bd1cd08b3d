"""The live connection: one WebSocket, binary messages of packed frames, heartbeats both ways."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from syncline import limits
from syncline.errors import ProtocolError, ServerError, SynclineError, UnreachableError
from syncline.protocol import frames
from syncline.replica.transport import CONNECT_SECONDS, BucketsNeededError, error_of, unpack, unreachable

BUCKETS_NEEDED = 4409
CATCH_UP = 4412
OVERLOADED = 1013
BROKEN = 1006
ENDED_WELL = frozenset({1000, 4401, 4408, 4410})
"""In good order: the token ran out, silence, a newer stream of the same device."""


class CatchUpNeededError(UnreachableError):
    """What is new comes by a download; the stream is for afterwards."""

    code = "catch_up"


class StreamBlockedError(UnreachableError):
    """The server answers, but WebSockets do not get through to it."""

    code = "live_blocked"


def error_of_close(code: int) -> SynclineError | None:
    """Why the server closed, where it is a reason that it gives with this code."""
    if code == OVERLOADED:
        return ServerError("The server has too much to do.", code="overloaded")
    if code == CATCH_UP:
        return CatchUpNeededError("More than a stream carries is new.")
    if code == BUCKETS_NEEDED:
        return BucketsNeededError("The server needs the list of buckets.")
    return None


def open_live(url: str, headers: dict[str, str], message: dict[str, Any]) -> WebSocketStream:
    """Opens the connection and says where the device stands."""
    address = "ws" + url.removeprefix("http") + "/v1/live"
    life = ExitStack()  # newer versions of websockets want their connections entered as contexts
    try:
        connection = life.enter_context(
            connect(
                address,
                additional_headers=headers,
                open_timeout=CONNECT_SECONDS,
                close_timeout=1.0,
                compression=None,
                max_size=limits.LIVE_MESSAGE_BYTES_MAX,
                ping_interval=None,
            )
        )
    except InvalidStatus as error:
        status = error.response.status_code
        if status == 401:
            told = {"t": "error", "code": "auth", "message": "The server refused the token."}
            raise error_of(status, told) from error
        retry_after = error.response.headers.get("retry-after")
        if status in (429, 503) and retry_after is not None:
            raise error_of(status, None, retry_after) from error
        # Our server tells of a bad token after the handshake: a 403 here is some proxy's way to say "no WebSockets".
        raise StreamBlockedError(f"WebSockets do not get through: status {status}.") from error
    except (OSError, WebSocketException) as error:
        raise StreamBlockedError(f"WebSockets do not get through: {error}.") from error
    stream = WebSocketStream(connection, life)
    stream.send({"t": "open", **message})
    return stream


class WebSocketStream:
    """`life` ends with the connection."""

    def __init__(self, connection: ClientConnection, life: ExitStack) -> None:
        self._connection = connection
        self._life = life

    @property
    def underlying(self) -> socket.socket:
        """What `Transport.abort` shuts."""
        return self._connection.socket

    def send(self, message: dict[str, Any]) -> None:
        """Where the other side has closed already, `frames` tells why."""
        try:
            self._connection.send(frames.pack(frames.dump(message), frames.PLAIN))
        except (ConnectionClosed, OSError):
            pass

    def frames(self) -> Iterator[dict[str, Any]]:
        heard = beaten = time.monotonic()
        while True:
            now = time.monotonic()
            if now - beaten >= limits.HEARTBEAT_SECONDS:
                self.send({"t": "heartbeat"})
                beaten = now
            if now - heard > limits.SILENCE_SECONDS_MAX:
                self.close()
                raise UnreachableError("The live connection fell silent.", code="silent")
            try:
                packed = self._connection.recv(timeout=max(beaten + limits.HEARTBEAT_SECONDS - now, 0.01))
            except TimeoutError:
                continue
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else BROKEN
                if code in ENDED_WELL:
                    return
                raise (error_of_close(code) or unreachable(closed)) from closed
            if not isinstance(packed, bytes):
                raise ProtocolError("A live message is text.", code="bad_frame")
            heard = time.monotonic()
            for each in frames.unbundle(packed):
                yield unpack(each)

    def close(self) -> None:
        self._life.close()
