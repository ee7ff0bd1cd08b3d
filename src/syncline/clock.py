"""Time as the core sees it: microseconds since 1970 in UTC, handed in from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from syncline import limits

SECOND = 1_000_000

NOW_US_SQL = "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000"
"""The raw wall clock in SQLite's SQL, µs since 1970; milliseconds are what it knows."""


class Clock(Protocol):
    """Where time comes from: the machine in production, a number in the simulator."""

    def now_us(self) -> int: ...

    def monotonic_seconds(self) -> float: ...


@dataclass(frozen=True, slots=True)
class CallableClock:
    """A clock made of two functions."""

    wall: Callable[[], int]
    steady: Callable[[], float]

    def now_us(self) -> int:
        return self.wall()

    def monotonic_seconds(self) -> float:
        return self.steady()


@dataclass(frozen=True, slots=True)
class ClockSample:
    """How far a device's clock is behind the server's (µs), and how long the measuring exchange took (µs)."""

    offset_us: int
    round_trip_us: int


def evaluate_sample(sent: int, received: int, answered: int, arrived: int) -> ClockSample:
    """The four time stamps of `hello`: device, server, server, device (NTP's formula, RFC 5905 section 8)."""
    return ClockSample(
        offset_us=((received - sent) + (answered - arrived)) // 2,
        round_trip_us=max((arrived - sent) - (answered - received), 0),
    )


def evaluate_offset(claimed_us: int | None, device_now_us: int, server_now_us: int) -> int:
    """The offset to add to a device's raw times, given what it measured and what it says its clock shows now.

    A request cannot arrive before it was sent, so the true offset is never more than the difference seen on
    arrival. A claim that would mean a journey of more than a minute is a clock that was set since it was measured.
    """
    on_arrival = server_now_us - device_now_us
    if claimed_us is None:
        return on_arrival
    travel = on_arrival - claimed_us
    return claimed_us if 0 <= travel <= limits.CLOCK_TRAVEL_SECONDS_MAX * SECOND else on_arrival


def evaluate_stamp(wall_us: int, offset_us: int, seen_us: int, previous_us: int, now_us: int) -> int:
    """True time of an edit (PROTOCOL_MODEL rule 10): not in the future, after all it had seen, after its predecessor.

    `now_us` is the source's stamp clock, which is at least every time that a device was ever told: so `seen_us` is
    beyond it only where a device made it up. Believed, one such edit would win for ever and drag the clock along.
    """
    return max(min(wall_us + offset_us, now_us), min(seen_us, now_us) + 1, previous_us + 1)
