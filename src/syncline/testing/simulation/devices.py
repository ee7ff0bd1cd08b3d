"""A device: the real replica file, and the nurse's app that writes into it with plain SQL."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

from syncline.replica.file import ReplicaFile
from syncline.testing.simulation.company import KEYS, Values, insertion
from syncline.testing.simulation.oracle import Done
from syncline.testing.simulation.streams import SimulatedStream
from syncline.testing.world import Determinism, VirtualClock

OFFICES = "updated_at"
"""The column whose merge policy is `server`: an insert says nothing of it."""


class SimulatedDevice:
    """`journal` is what its app committed, as the oracle remembers it; `look` an ordinary reader of the file."""

    def __init__(self, name: str, user: str, path: Path, clock: VirtualClock, rng: random.Random) -> None:
        self.name = name
        self.user = user
        self.path = path
        self.clock = clock
        self._rng = rng
        self.journal: list[Done] = []
        self.identity = ""
        self.last_cursor = (0, 0)
        self.seen_version = -1
        self.stream: SimulatedStream | None = None
        self.look = sqlite3.connect(path, isolation_level=None)
        self.open()

    def open(self) -> None:
        prepare = Determinism(self.clock, random.Random(self._rng.random()))
        self.file = ReplicaFile(self.path, clock=self.clock, prepare=prepare)
        self._app = sqlite3.connect(self.path, isolation_level=None)
        prepare(self._app)

    def close(self) -> None:
        self.file.close()
        self._app.close()

    def crash(self) -> None:
        """The process ends; what it has in memory is lost."""
        self.close()
        self.open()

    def end(self) -> None:
        self.close()
        self.look.close()

    # ------------------------------------------------------------ the app
    def write(self, values: Values) -> int:
        """One transaction, marked as a group or not, sometimes rolled back. How many mutations it committed."""
        rng, db = self._rng, self._app
        number = db.execute("SELECT seq FROM syncline_state").fetchone()[0]
        is_marked = rng.random() < 0.4
        db.execute("BEGIN IMMEDIATE")
        if is_marked:
            db.execute("UPDATE syncline_state SET grp = seq + 1")
        done: list[Done] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            done += self._write_row(values, number + len(done) + 1, number + 1 if is_marked else 0)
        if is_marked:
            db.execute("UPDATE syncline_state SET grp = 0")
        if rng.random() < 0.05:
            db.execute("ROLLBACK")
            return 0
        db.execute("COMMIT")
        self.journal += done
        return len(done)

    def _write_row(self, values: Values, number: int, marked: int) -> list[Done]:
        rng, db = self._rng, self._app
        table = rng.choice(("visits", "visits", "lines"))
        key = rng.choice(KEYS[table])
        found = db.execute(f"SELECT * FROM {table} WHERE id = ?", (key,))
        columns = [column[0] for column in found.description]
        row = found.fetchone()
        drawn = values.draw(table, [column for column in columns if column.startswith("x")])
        if row is None:
            made = {"id": key, **drawn}
            db.execute(insertion(table, made), tuple(made.values()))
            whole = dict(
                zip(columns, db.execute(f"SELECT * FROM {table} WHERE id = ?", (key,)).fetchone(), strict=True)
            )
            written = {column: value for column, value in whole.items() if column not in ("id", OFFICES)}
            return [Done(number, "I", table, key, written, {}, marked)]
        old = dict(zip(columns, row, strict=True))
        if rng.random() < 0.2:
            db.execute(f"DELETE FROM {table} WHERE id = ?", (key,))
            return [Done(number, "D", table, key, {}, old, marked)]
        changes = self._changes(drawn, old)
        if not changes:
            return []
        named = ", ".join(f"{column} = ?" for column in changes)
        db.execute(f"UPDATE {table} SET {named} WHERE id = ?", (*changes.values(), key))
        return [Done(number, "U", table, key, changes, old, marked)]

    def _changes(self, drawn: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        picked = self._rng.sample(list(drawn), k=self._rng.choice((1, 1, 2)))
        changes = {column: (old["n"] or 0) + 1 if column == "n" else drawn[column] for column in picked}
        return {column: value for column, value in changes.items() if value != old[column]}
