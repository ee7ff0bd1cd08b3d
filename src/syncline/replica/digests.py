"""One table of the file, as the last cut left it, in digests: what a verification compares with the source.

Read in one transaction on a connection of its own, a little at a time: the agent goes on with its work in between, and
what it applies meanwhile changes nothing here.
"""

from __future__ import annotations

import sqlite3

from syncline.model.digest import Digest, Tally, hash_of_values
from syncline.model.program import ProgramTable
from syncline.replica.guard import Guard
from syncline.replica.store import Store, read_state
from syncline.system.database import fetch_all, open_database, text_or_raw
from syncline.values import Key, Value

BATCH_ROWS = 500


class TableReading:
    """`cursor`: of the cut; `buckets`: all that the file holds; `skip`: the table's keys with changes that the cut does
    not include, whose rows are not as the server knows them, and are left out. When `read` has come to the end:
    `digests` by bucket, `unheld`: how many rows no bucket holds, and `rows`: how many were read and not left out."""

    def __init__(self, store: Store, table: ProgramTable) -> None:
        self._table = table
        self._tally: Tally[int | None] = Tally()
        self._cursor: sqlite3.Cursor | None = None
        self._last: list[Value] | None = None
        self._is_skipped = False
        self._hash = 0
        self.rows = 0
        self.unheld = 0
        self.digests: dict[str, Digest] = {}
        self._db = open_database(store.path, prepare=store.prepare)
        try:
            self._guard = Guard(self._db)
            self._guard.allow(set(store.tables))
            self._db.execute("BEGIN")
            state = read_state(self._db)
            self.cursor = state.cursor
            self._names: dict[int, str] = dict(self._db.execute("SELECT id, name FROM syncline_bucket").fetchall())
            with self._guard.strict():
                pending = fetch_all(self._db, table.statements["pending"], (state.included,))
            self.skip: frozenset[Key] = frozenset(tuple(key) for _, _, *key in pending)
        except BaseException:
            self._db.close()
            raise
        self._db.text_factory = text_or_raw

    @property
    def buckets(self) -> tuple[str, ...]:
        return tuple(sorted(self._names.values()))

    def read(self) -> bool:
        """The next rows; False at the end."""
        if self._cursor is None:
            with self._guard.strict():
                self._cursor = self._db.execute(self._table.statements["held_rows"])
        rows = self._cursor.fetchmany(BATCH_ROWS)
        places, skip, add = self._table.key_places, self.skip, self._tally.add
        for bucket, *row in rows:
            if row != self._last:  # one that several buckets hold comes once for each, one after the other
                self._last = row
                self._is_skipped = bool(skip) and tuple([row[place] for place in places]) in skip
                self._hash = 0 if self._is_skipped else hash_of_values(tuple(row))
                self.rows += not self._is_skipped
            if not self._is_skipped:
                add(bucket, self._hash)
        if not rows:
            self._finish()
        return bool(rows)

    def _finish(self) -> None:
        for number, digest in self._tally.take().items():
            name = None if number is None else self._names.get(number)
            if name is None:
                self.unheld += digest.rows
            else:
                self.digests[name] = digest

    def close(self) -> None:
        self._db.close()
