"""One connection through the relay, and its two directions."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from enum import StrEnum

PIECE_BYTES = 65536
QUEUED_PIECES_MAX = 64
"""What a direction holds, while it is held up, before its sender is made to wait."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Direction(StrEnum):
    UP = "up"
    """To the server."""
    DOWN = "down"
    """To the device."""


class Tally:
    """What has passed and what was hit, of all connections together."""

    def __init__(self) -> None:
        self.opened = 0
        self.answered = 0
        self.hit_bytes = 0
        self._hit: set[Connection] = set()
        self.was_hit = threading.Event()

    @property
    def hit_connections(self) -> int:
        return len(self._hit)

    def hit(self, connection: Connection, size: int = 0) -> None:
        self._hit.add(connection)
        self.hit_bytes += size
        self.was_hit.set()


class Lane:
    """One direction. `b""` is its end. A dead lane swallows what comes, for ever, and says nothing of it."""

    def __init__(self, direction: Direction, source: socket.socket, target: socket.socket, tally: Tally) -> None:
        self.direction = direction
        self.is_dead = False
        self.tail = b""
        """The last bytes that were looked at for the marker of a fault that is to come."""
        self._source = source
        self._target = target
        self._tally = tally
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_PIECES_MAX)
        self.connection: Connection

    async def read(self) -> None:
        """Piece by piece, with the time at which it came: a delay does not slow down what comes after."""
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            try:
                data = await loop.sock_recv(self._source, PIECE_BYTES)
            except OSError:
                data = b""
            await self._queue.put((loop.time(), data))

    async def carry(self, passed: Callable[[Lane, bytes, float], Awaitable[None]]) -> None:
        data = b"-"
        while data:
            arrived, data = await self._queue.get()
            if not self.is_dead:
                await passed(self, data, arrived)
            elif data:
                self._tally.hit(self.connection, len(data))

    async def send(self, data: bytes) -> None:
        if not data:
            self.end()
            return
        try:
            await asyncio.get_running_loop().sock_sendall(self._target, data)
        except OSError:
            if not self.connection.is_half_dead:
                self.connection.end()
            self.is_dead = True  # a peer that is gone cannot say so over a road that swallows it
            return
        if self.direction is Direction.DOWN:
            self._tally.answered += len(data)

    def end(self) -> None:
        """The target is told that nothing more comes."""
        with contextlib.suppress(OSError):
            self._target.shutdown(socket.SHUT_WR)


class Connection:
    """`near` leads to the device, `far` to the server. Both are closed when both directions have ended."""

    def __init__(self, near: socket.socket, far: socket.socket, tally: Tally) -> None:
        self._ends = (near, far)
        self._work: asyncio.Future[list[None]] | None = None
        self._is_over = False
        self.up = Lane(Direction.UP, near, far, tally)
        self.down = Lane(Direction.DOWN, far, near, tally)
        self.lanes = (self.up, self.down)
        self.is_asking = False
        """A fault waits for the answer to what this connection has asked."""
        for lane in self.lanes:
            lane.connection = self

    @property
    def is_half_dead(self) -> bool:
        return any(lane.is_dead for lane in self.lanes)

    async def run(self, passed: Callable[[Lane, bytes, float], Awaitable[None]]) -> None:
        try:
            if not self._is_over:
                work = [step for lane in self.lanes for step in (lane.read(), lane.carry(passed))]
                self._work = asyncio.gather(*work)
                await self._work
        except asyncio.CancelledError:
            if not self._is_over:
                raise
        finally:
            for end in self._ends:
                end.close()

    def end(self) -> None:
        """In good order, wherever it is: both sides read what has come, and then the end."""
        for lane in self.lanes:
            lane.end()
        self._finish()

    def reset(self) -> None:
        """Both sides are told that the connection broke."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._finish()

    def _finish(self) -> None:
        self._is_over = True
        if self._work is not None:
            self._work.cancel()
