"""What can be wrong with a network. A fault begins, lasts, and is over; `Relay.begin` says when.

Where a `direction` is None, both are meant.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from dataclasses import dataclass

from syncline.testing.relay.lanes import Connection, Direction, Lane, Tally

STEPS_PER_SECOND = 20
"""In how many steps a trickle comes."""


class Spell:
    """The time that a fault lasts. `connections` are the open ones; `carried`: bytes so far, per direction of each."""

    def __init__(self, fault: Fault, connections: Collection[Connection], tally: Tally) -> None:
        self.fault = fault
        self.connections = connections
        self.carried: dict[Lane, int] = {}
        self._tally = tally
        self._over = asyncio.Event()

    def end(self) -> None:
        self._over.set()

    def hit(self, connection: Connection, size: int = 0) -> None:
        self._tally.hit(connection, size)

    async def wait(self, seconds: float | None = None) -> bool:
        """Whether it was over before the time was."""
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except TimeoutError:
            return False
        return True


class Fault:
    """No fault; what all have in common."""

    answers = True
    """Whether the relay's address answers to somebody new."""

    def begin(self, connection: Connection, spell: Spell) -> None:
        """What it does to each connection that is open, and to each that is made while it lasts."""

    async def carry(self, lane: Lane, data: bytes, arrived: float, spell: Spell) -> bytes | None:
        """Passes on what came, or its end (`b""`). Answers what is left to do when the fault is over; None: nothing."""
        await lane.send(data)
        return None


@dataclass(frozen=True)
class Delay(Fault):
    """All arrives `seconds` later; how much arrives in a second is as before."""

    seconds: float
    direction: Direction | None = None

    def __post_init__(self) -> None:
        _require(0 <= self.seconds < math.inf, "seconds", self.seconds, "0 or more")

    async def carry(self, lane: Lane, data: bytes, arrived: float, spell: Spell) -> bytes | None:
        left = arrived + self.seconds - asyncio.get_running_loop().time()
        if _concerns(self.direction, lane) and left > 0:
            spell.hit(lane.connection, len(data))
            await spell.wait(left)
        await lane.send(data)
        return None


@dataclass(frozen=True)
class Trickle(Fault):
    """So many bytes a second, on each connection."""

    bytes_per_second: float
    direction: Direction | None = None

    def __post_init__(self) -> None:
        _require(0 < self.bytes_per_second < math.inf, "bytes_per_second", self.bytes_per_second, "more than 0")

    async def carry(self, lane: Lane, data: bytes, arrived: float, spell: Spell) -> bytes | None:
        if not data or not _concerns(self.direction, lane):
            await lane.send(data)
            return None
        size = max(1, int(self.bytes_per_second / STEPS_PER_SECOND))
        spell.hit(lane.connection, len(data))
        while data:
            if await spell.wait(size / self.bytes_per_second):
                return data
            await lane.send(data[:size])
            data = data[size:]
        return None


@dataclass(frozen=True)
class Freeze(Fault):
    """Connections stay open and carry nothing; afterwards they go on where they were, as TCP does after a tunnel."""

    direction: Direction | None = None

    async def carry(self, lane: Lane, data: bytes, arrived: float, spell: Spell) -> bytes | None:
        if not _concerns(self.direction, lane):
            await lane.send(data)
            return None
        spell.hit(lane.connection, len(data))
        await spell.wait()
        return data


@dataclass(frozen=True)
class Blackhole(Fault):
    """Connections stay open, new ones are accepted, and what is sent is swallowed. Those of that time never carry
    anything again, and nobody is told: a router has forgotten them."""

    direction: Direction | None = None

    def begin(self, connection: Connection, spell: Spell) -> None:
        for lane in connection.lanes:
            lane.is_dead |= _concerns(self.direction, lane)
        spell.hit(connection)


@dataclass(frozen=True)
class _Break(Fault):
    """Something happens to a connection when `after` more bytes have passed in that direction."""

    after: int = 0
    direction: Direction = Direction.DOWN

    def __post_init__(self) -> None:
        _require(self.after >= 0, "after", self.after, "0 or more")

    def strike(self, lane: Lane) -> None:
        raise NotImplementedError

    def begin(self, connection: Connection, spell: Spell) -> None:
        if self.after == 0:
            spell.hit(connection)
            self.strike(connection.up if self.direction is Direction.UP else connection.down)

    async def carry(self, lane: Lane, data: bytes, arrived: float, spell: Spell) -> bytes | None:
        if lane.direction is not self.direction or not data:
            await lane.send(data)
            return None
        left = self.after - spell.carried.get(lane, 0)
        await lane.send(data[:left])
        spell.carried[lane] = self.after - left + len(data)
        if len(data) >= left:
            spell.hit(lane.connection, len(data) - left)
            self.strike(lane)
        return None


@dataclass(frozen=True)
class Cut(_Break):
    """Both sides are told that the connection broke (a reset)."""

    def strike(self, lane: Lane) -> None:
        lane.connection.reset()


@dataclass(frozen=True)
class Truncate(_Break):
    """Connections end in good order, in the middle of whatever it is: so many bytes arrive, and then the end."""

    def strike(self, lane: Lane) -> None:
        lane.connection.end()


@dataclass(frozen=True)
class TruncateAll(Truncate):
    """The same, counted over all connections: then all of them end, and so does each that is made afterwards."""

    def begin(self, connection: Connection, spell: Spell) -> None:
        if sum(spell.carried.values()) >= self.after:
            spell.hit(connection)
            connection.end()

    async def carry(self, lane: Lane, data: bytes, arrived: float, spell: Spell) -> bytes | None:
        if lane.direction is not self.direction or not data:
            await lane.send(data)
            return None
        left = max(self.after - sum(spell.carried.values()), 0)
        spell.carried[lane] = spell.carried.get(lane, 0) + len(data)
        if left:
            await lane.send(data[:left])
        if len(data) >= left:
            spell.hit(lane.connection, len(data) - left)
            for connection in list(spell.connections):
                connection.end()
        return None


@dataclass(frozen=True)
class HalfClose(_Break):
    """That direction ends; the other one goes on."""

    def strike(self, lane: Lane) -> None:
        lane.is_dead = True
        lane.end()


@dataclass(frozen=True)
class Unanswered(Fault):
    """What is open is reset; new connections are neither accepted nor refused, as behind a firewall that drops them.
    Linux, and systems that do as it does: they drop what comes to a listener whose queue is full."""

    answers = False

    def begin(self, connection: Connection, spell: Spell) -> None:
        spell.hit(connection)
        connection.reset()


def _require(is_right: bool, name: str, told: float, wanted: str) -> None:
    if not is_right:
        raise ValueError(f"{name} is {told}; it has to be {wanted}.")


def _concerns(direction: Direction | None, lane: Lane) -> bool:
    return direction in (None, lane.direction)
