"""Forgetting what is older than the retention, in short write transactions (DESIGN.md section 4).

Which checkpoint is how old is known from *moments*: now and then the head and its time are noted. The newest moment
that is old enough is the horizon, and it is recorded before anything up to it goes: a cursor behind it counts as
unknown, and its device downloads anew. Conflict and rejection records stay, they are the office's.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from syncline import limits
from syncline.source.sqlite.writing import write_transaction

SLICE_ROWS = 500
"""How many rows a walk looks at in its first step; afterwards as many as fit into the time."""
SLICE_ROWS_MAX = 20_000


def read_horizon(connection: sqlite3.Connection) -> int:
    """The newest checkpoint whose entries may be gone; 0 if none are."""
    row = connection.execute("SELECT value FROM syncline_meta WHERE name = 'horizon'").fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True)
class _Sweep:
    """What goes from one table, walked in key order. `old` is a condition on `:horizon` and `:before` (µs)."""

    table: str
    key: tuple[str, ...]
    old: str


_OLD_OUTCOME = (
    "at_us < :before AND EXISTS(SELECT 1 FROM syncline_device d JOIN syncline_included i ON i.device = d.device "
    "WHERE d.device = syncline_outcome.device AND (syncline_outcome.number <= d.floor "
    "OR (coalesce(d.seen_us, 0) < :before AND syncline_outcome.number <= i.number AND i.checkpoint <= :horizon)))"
)
"""A device that is still about may stand on the outcomes above its floor (PROTOCOL_MODEL rule 11); one that is not may
come back with a cursor that is still known, as long as the cut that brings them is not behind the horizon."""

SWEEPS = (
    _Sweep("syncline_entry", ("bucket", "table_name", "key"), "checkpoint <= :horizon"),
    _Sweep("syncline_row_state", ("table_name", "key"), "checkpoint <= :horizon"),
    _Sweep("syncline_truth", ("table_name", "key"), "checkpoint <= :horizon"),
    _Sweep("syncline_outcome", ("device", "number"), _OLD_OUTCOME),
)


class Retention:
    """One run after the other, each in many steps; where a run stands is kept here alone."""

    def __init__(self) -> None:
        self._sweep = 0
        self._after: tuple[object, ...] | None = None
        self._rows = SLICE_ROWS
        self._is_running = False

    def step(self, connection: sqlite3.Connection, term: str, before_us: int) -> bool:
        """One write transaction, or a look that finds none to be due. False at the end of a run, or where another
        sequencer is active."""
        if connection.execute("SELECT term FROM syncline_checkpoint").fetchone() != (term,):
            self._is_running = False
            return False
        if not self._is_running:
            self._begin(connection, before_us)
            return True
        if self._sweep == len(SWEEPS):
            self._is_running = False
            return False
        begun = time.monotonic()
        self._slice(connection, SWEEPS[self._sweep], before_us)
        took = time.monotonic() - begun
        scale = limits.PRUNE_STEP_SECONDS_MAX / 2 / max(took, 1e-6)
        self._rows = max(10, min(int(self._rows * min(scale, 2.0)), SLICE_ROWS_MAX))
        return True

    def _begin(self, connection: sqlite3.Connection, before_us: int) -> None:
        """Note the head's moment, and the horizon."""
        with write_transaction(connection):
            connection.execute("INSERT OR IGNORE INTO syncline_moment SELECT head, time_us FROM syncline_checkpoint")
            found = connection.execute(
                "SELECT max(checkpoint) FROM syncline_moment WHERE time_us <= ?1", (before_us,)
            ).fetchone()[0]
            if found is not None:
                connection.execute(
                    "INSERT INTO syncline_meta VALUES('horizon', ?1) "
                    "ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
                    (found,),
                )
                connection.execute("DELETE FROM syncline_moment WHERE checkpoint < ?1", (found,))
        self._is_running, self._sweep, self._after = True, 0, None

    def _slice(self, connection: sqlite3.Connection, sweep: _Sweep, before_us: int) -> None:
        """Look at the next rows in key order; take the write lock only where some of them are old."""
        keys = ", ".join(sweep.key)
        bounds: dict[str, object] = {"horizon": read_horizon(connection), "before": before_us}
        where = "1"
        if self._after:
            where = f"({keys}) > ({_bind(bounds, 'after', self._after)})"
        last = connection.execute(
            f"SELECT {keys} FROM {sweep.table} WHERE {where} ORDER BY {keys} LIMIT 1 OFFSET {self._rows - 1}", bounds
        ).fetchone()
        if last:
            where += f" AND ({keys}) <= ({_bind(bounds, 'upto', last)})"
        where += f" AND {sweep.old}"
        if connection.execute(f"SELECT 1 FROM {sweep.table} WHERE {where} LIMIT 1", bounds).fetchone():
            with write_transaction(connection):
                connection.execute(f"DELETE FROM {sweep.table} WHERE {where}", bounds)
        if last:
            self._after = tuple(last)
        else:
            self._sweep, self._after = self._sweep + 1, None


def _bind(bounds: dict[str, object], name: str, key: tuple[object, ...]) -> str:
    """The places of a key's values, which are put into `bounds`."""
    names = [f"{name}_{index}" for index in range(len(key))]
    bounds.update(zip(names, key, strict=True))
    return ", ".join(f":{each}" for each in names)
