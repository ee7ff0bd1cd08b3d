"""A clock and a source of randomness from one seed, for SQLite connections too."""

from __future__ import annotations

import random
import sqlite3

SECOND_US = 1_000_000
EPOCH_US = 1_795_000_000 * SECOND_US


class VirtualClock:
    """A clock that moves only when told to. `skew_us` is what a device's owner did to it."""

    def __init__(self, now_us: int = EPOCH_US, skew_us: int = 0) -> None:
        self._now_us = now_us
        self.skew_us = skew_us
        self._base: VirtualClock | None = None

    def skewed(self, skew_us: int) -> VirtualClock:
        """A clock that follows this one at a distance."""
        clock = VirtualClock(skew_us=skew_us)
        clock._base = self
        return clock

    def now_us(self) -> int:
        return (self._base.now_us() if self._base else self._now_us) + self.skew_us

    def monotonic_seconds(self) -> float:
        base = self._base or self
        return base._now_us / SECOND_US

    def advance(self, microseconds: int) -> None:
        self._now_us += microseconds


class Determinism:
    """Puts a virtual clock and seeded randomness into a connection, in place of SQLite's own functions."""

    def __init__(self, clock: VirtualClock, rng: random.Random) -> None:
        self.clock = clock
        self._rng = rng

    def __call__(self, connection: sqlite3.Connection) -> None:
        connection.create_function("julianday", 1, self._julianday)
        connection.create_function("randomblob", 1, self._rng.randbytes)

    def _julianday(self, modifier: str) -> float:
        return self.clock.now_us() / 86_400e6 + 2_440_587.5

    def draw(self) -> str:
        return self._rng.randbytes(16).hex()
