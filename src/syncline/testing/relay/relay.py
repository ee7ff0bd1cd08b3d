"""The relay: an address, where it leads, and what is wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from syncline.testing.relay.faults import Fault, Freeze, Spell, TruncateAll
from syncline.testing.relay.lanes import Connection, Lane, Tally

T = TypeVar("T")

QUEUE = 128
FILLERS_MAX = 8
FILL_SECONDS = 0.02
"""More than a connection on this machine takes that is not dropped."""
CONNECT_SECONDS = 10.0
OWN_SECONDS = 30.0
"""How long a call into the relay's thread may take: it is never busy for long."""
_NO_FAULT = Fault()


@dataclass(frozen=True)
class _Ambush:
    """A fault that begins when these bytes go to the server, or at the first byte of the answer to them."""

    fault: Fault
    at: bytes
    in_answer: bool


class Relay:
    """An address of this machine, `url`, that leads to a server, and on the way to it whatever `begin` says.

    with Relay("127.0.0.1:8787") as relay:
        replica = Replica("nurse.db", relay.url, token)
        relay.begin(Trickle(200))
        …
        relay.heal()

    `to` is "HOST:PORT"; without it connections are closed at once until `lead_to_port`. Everything may be called from
    any thread; a call returns when what it asks for has been done. `close` it at the end, or use it as a context.
    """

    def __init__(self, to: str = "", *, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=QUEUE)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._target: tuple[str, int] | None = _address(to) if to else None
        self._tally = Tally()
        self._loop = asyncio.new_event_loop()
        self._connections: set[Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._connecting: set[asyncio.Task[socket.socket | None]] = set()
        self._spell = Spell(_NO_FAULT, self._connections, self._tally)
        self._ambush: _Ambush | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._fillers: dict[object, socket.socket] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._ask(self._answer_again())

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nobody holds a connection afterwards. May be called twice."""
        if not self._loop.is_closed():
            self._ask(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._listener.close()

    # ------------------------------------------------------------ what a test does to the network
    def begin(self, fault: Fault, *, at: bytes = b"", in_answer: bool = False) -> None:
        """From now on, in place of what was wrong before, until `heal` or the next `begin`. With `at`, when these bytes
        go to the server on any connection (b"POST /v1/upload"), and before they do; with `in_answer`, when the answer
        to them comes."""
        self._ask(self._begin(fault, at, in_answer))

    def heal(self) -> None:
        """What is open goes on, if it can; what is opened is as on any other day."""
        self._ask(self._begin(_NO_FAULT, b"", False))

    def cut(self) -> None:
        """What is open ends, in the middle of whatever it was. New connections get through."""
        self._ask(self._end_all())

    def lead_to_port(self, port: int | None) -> None:
        """What is open is cut; from now on connections lead there, on this machine, or with None are closed at once."""
        self._target = ("127.0.0.1", port) if port is not None else None
        self.cut()
        if isinstance(self.fault, TruncateAll):
            self.heal()

    def break_after(self, bytes_left: int) -> None:
        """When so many more bytes have gone to devices, by all connections together, all of them are cut, and nobody is
        let through until `lead_to_port` or `heal`."""
        self.begin(TruncateAll(bytes_left))

    @property
    def is_frozen(self) -> bool:
        """Connections stay open and carry nothing, as behind a dead radio mast; afterwards they go on."""
        return isinstance(self.fault, Freeze)

    @is_frozen.setter
    def is_frozen(self, frozen: bool) -> None:
        if frozen:
            self.begin(Freeze())
        elif self.is_frozen:
            self.heal()

    # ------------------------------------------------------------ what came of it
    @property
    def fault(self) -> Fault:
        """What is wrong now."""
        return self._spell.fault

    @property
    def opened(self) -> int:
        """Connections so far."""
        return self._tally.opened

    @property
    def answered(self) -> int:
        """Bytes that went to devices."""
        return self._tally.answered

    @property
    def hit_connections(self) -> int:
        """How many connections a fault has touched so far."""
        return self._tally.hit_connections

    @property
    def hit_bytes(self) -> int:
        """How many bytes came late, slowly, or not at all."""
        return self._tally.hit_bytes

    def wait_until_hit(self, seconds: float) -> bool:
        """Whether a connection was hit since the last `begin`, or is within so many seconds."""
        return self._tally.was_hit.wait(seconds)

    wait_until_broken = wait_until_hit

    # ------------------------------------------------------------ on the relay's thread
    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(OWN_SECONDS)

    async def _begin(self, fault: Fault, at: bytes, in_answer: bool) -> None:
        await self._settle()
        self._tally.was_hit.clear()
        self._ambush = _Ambush(fault, at, in_answer) if at else None
        for connection in self._connections:
            connection.is_asking = False
        await self._change(_NO_FAULT if at else fault)

    async def _change(self, fault: Fault) -> None:
        if not fault.answers:
            await self._stop_answering()
        before, self._spell = self._spell, Spell(fault, self._connections, self._tally)
        before.end()
        for connection in list(self._connections):
            fault.begin(connection, self._spell)
        if fault.answers:
            await self._answer_again()

    async def _pass(self, lane: Lane, data: bytes, arrived: float) -> None:
        if self._ambush is not None:
            data = await self._spring(self._ambush, lane, data)
        rest: bytes | None = data
        while rest is not None:
            if lane.is_dead:
                self._tally.hit(lane.connection, len(rest))
                return
            spell = self._spell
            rest = await spell.fault.carry(lane, rest, arrived, spell)

    async def _spring(self, ambush: _Ambush, lane: Lane, data: bytes) -> bytes:
        """Begins the fault if this is where; what came before it is passed on, and the rest answered."""
        if lane is lane.connection.down:
            if lane.connection.is_asking:
                self._ambush = None
                await self._change(ambush.fault)
            return data
        looked = lane.tail + data
        found = looked.find(ambush.at)
        lane.tail = looked[-len(ambush.at) + 1 :] if len(ambush.at) > 1 else b""
        if found < 0:
            return data
        if ambush.in_answer:
            lane.connection.is_asking = True
            return data
        before = max(found - (len(looked) - len(data)), 0)
        if before:
            await lane.send(data[:before])
        self._ambush = None
        await self._change(ambush.fault)
        return data[before:]

    # ------------------------------------------------------------ connections
    async def _accept(self) -> None:
        while True:
            near, address = await self._loop.sock_accept(self._listener)
            if self._fillers.pop(address, None) is not None:
                near.close()
                continue
            self._tally.opened += 1
            task = self._loop.create_task(self._serve(near))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, near: socket.socket) -> None:
        connecting = self._loop.create_task(self._connect())
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)
        far = None
        try:
            far = await connecting
        finally:
            if far is None:
                near.close()
        if far is None:
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(near, far, self._tally)
        self._connections.add(connection)
        try:
            self._spell.fault.begin(connection, self._spell)
            await connection.run(self._pass)
        finally:
            self._connections.discard(connection)

    async def _connect(self) -> socket.socket | None:
        if self._target is None:
            return None
        far = socket.socket(socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET)
        far.setblocking(False)
        try:
            await asyncio.wait_for(self._loop.sock_connect(far, self._target), CONNECT_SECONDS)
        except OSError:
            far.close()
            return None
        except BaseException:
            far.close()
            raise
        return far

    async def _settle(self) -> None:
        """Whoever has connected before the call is known after it."""
        for _ in range(3):  # the listener is looked at, and what waits there accepted
            await asyncio.sleep(0)
        while self._connecting:
            await asyncio.wait(self._connecting)

    async def _end_all(self) -> None:
        await self._settle()
        for connection in list(self._connections):
            connection.end()

    # ------------------------------------------------------------ whether anybody answers
    async def _stop_answering(self) -> None:
        """Fills the listener's queue: what comes to a full one is dropped."""
        if self._accepting is None:
            return
        await _end_task(self._accepting)
        self._accepting = None
        self._listener.listen(0)
        for _ in range(FILLERS_MAX):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers[filler.getsockname()] = filler
            await asyncio.sleep(FILL_SECONDS)
            if not _is_connected(filler):
                return

    async def _answer_again(self) -> None:
        if self._accepting is not None:
            return
        for address, filler in list(self._fillers.items()):
            if not _is_connected(filler):  # nor will it ever be; the others are still to be accepted
                del self._fillers[address]
            filler.close()
        self._listener.listen(QUEUE)
        self._accepting = self._loop.create_task(self._accept())

    async def _close(self) -> None:
        await self._settle()
        await self._change(_NO_FAULT)
        if self._accepting is not None:
            await _end_task(self._accepting)
        await self._end_all()
        for task in list(self._serving):
            await _end_task(task)


def _is_connected(end: socket.socket) -> bool:
    try:
        end.getpeername()
    except OSError:
        return False
    return True


async def _end_task(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _address(place: str) -> tuple[str, int]:
    """Of "HOST:PORT"; ValueError where it is none, OSError where nobody knows the name."""
    host, _, port = place.removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise ValueError(f'"{place}" is not HOST:PORT.')
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][4]
    return str(found[0]), int(found[1])
