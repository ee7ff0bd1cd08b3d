"""Which devices have sent mutations that no checkpoint includes yet, without looking at all devices.

Every upload takes the next *turn* for its device: one line per device in `syncline_turn`, which only uploads write. The
sequencer remembers the newest turn that a checkpoint of its has seen; since SQLite has one writer, turns are committed
in their order, and none is passed over. Its first look, of a process or a plan, is at all devices.
"""

from __future__ import annotations

import sqlite3

_NEWEST = "SELECT coalesce(max(turn), 0) FROM syncline_turn"
_BEYOND = "LEFT JOIN syncline_included i ON i.device = d.device WHERE d.last > coalesce(i.number, 0)"
_AMONG_ALL = f"SELECT d.device, d.last FROM syncline_device d {_BEYOND}"
_AMONG_LATER = (
    f"SELECT d.device, d.last FROM syncline_turn t CROSS JOIN syncline_device d ON d.device = t.device "
    f"{_BEYOND} AND t.turn > ?1"
)


def take_turn(connection: sqlite3.Connection, device: str) -> None:
    """Inside the transaction that raises the device's last number."""
    connection.execute(f"INSERT OR REPLACE INTO syncline_turn VALUES(({_NEWEST}) + 1, ?1)", (device,))


class Turns:
    """The sequencer's. `read`, and once a checkpoint has been taken with what was read, or none was due, `done`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._seen: int | None = None
        self._read: int | None = None

    def read(self) -> list[tuple[str, int]]:
        """(device, its last number) where that is beyond what is included; in the caller's snapshot."""
        (self._read,) = self._db.execute(_NEWEST).fetchone()
        if self._seen is None:
            return self._db.execute(_AMONG_ALL).fetchall()
        return self._db.execute(_AMONG_LATER, (self._seen,)).fetchall()

    def done(self) -> None:
        self._seen = self._read
