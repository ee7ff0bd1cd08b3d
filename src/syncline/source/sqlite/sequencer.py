"""Taking a checkpoint: everything that waits in the changelogs, as one consistent cut.

SQLite has one writer, so the order of commits is the order of changelog ids. The work is computed in a read
transaction, which makes nobody
wait, from exactly the changes that its snapshot shows; the write transaction only stores the result and deletes the
ids that were read. What was
committed meanwhile has higher ids and is simply in the next batch: no source transaction is ever split.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from syncline.clock import Clock
from syncline.errors import SchemaChangedError
from syncline.model.merge import Stamp
from syncline.model.scopes import bucket_name
from syncline.source.generations import Gaps, raised_by
from syncline.source.port import Checkpoint, Head, TermLostError
from syncline.source.sqlite import laid_out
from syncline.source.sqlite.generations import mark_gaps, raise_generations, read_gaps
from syncline.source.sqlite.layout import GRANT_PREFIX, PlanSql, TableSql
from syncline.source.sqlite.paths import affected_table, moved_sql, moved_table, temp_tables_sql
from syncline.source.sqlite.signatures import store_signatures
from syncline.source.sqlite.standing import Standing
from syncline.source.sqlite.turns import Turns
from syncline.source.sqlite.writing import write_transaction
from syncline.source.stamps import Changes, fold_changes
from syncline.system.database import fetch_all
from syncline.values import encode_row

Memberships = dict[str, set[str]]
"""Key text -> buckets."""

_COMPUTED_ANEW = "It is computed anew."


@dataclass
class Batch:
    """What one checkpoint will write."""

    taken: dict[str, int] = field(default_factory=dict)
    markers: list[int] = field(default_factory=list)
    included: list[tuple[str, int]] = field(default_factory=list)
    entries: list[tuple[str, str, str, str]] = field(default_factory=list)
    images: list[tuple[str, str, int, str | None, str | None]] = field(default_factory=list)
    truths: list[tuple[str, str, str]] = field(default_factory=list)
    changes: int = 0
    gaps: Gaps = field(default_factory=dict)
    raised: frozenset[str] = frozenset()
    schema_version: int = 0


@dataclass(frozen=True, slots=True)
class _AffectedRow:
    key: str
    old: set[str]
    new: set[str]
    changes: Changes
    is_through: bool


class SqliteSequencer:
    """Owns one connection. `standing` tells whether the schema still is what `sql` was built for; `head` is the
    checkpoint last taken by this object or by the one that it follows."""

    def __init__(self, connection: sqlite3.Connection, sql: PlanSql, clock: Clock, standing: Standing) -> None:
        self._db = connection
        self._sql = sql
        self._clock = clock
        self._standing = standing
        self._turns = Turns(connection)
        self.head: Head | None = None
        laid_out.create_tables(connection)
        for table in sql.tables.values():
            for statement in temp_tables_sql(table.capture):
                self._db.execute(statement)

    @property
    def connection(self) -> sqlite3.Connection:
        return self._db

    # ------------------------------------------------------------ terms
    def begin_term(self, term: str) -> Head:
        """Add a term to the history; the one before ends at the head found now. Tables of which devices are to hold
        something else than was served before get a gap: the next checkpoint raises their generation. All older
        cursors stay valid."""
        self._take_plan()
        with write_transaction(self._db):
            row = self._db.execute("SELECT head, time_us FROM syncline_checkpoint").fetchone()
            head, time_us = row if row else (0, 0)
            self._db.execute("UPDATE syncline_term SET last = ?1 WHERE last IS NULL", (head,))
            self._db.execute("INSERT INTO syncline_term VALUES(?1, ?2, NULL)", (term, head))
            time_us = max(self._clock.now_us(), time_us)
            self._db.execute(
                "INSERT INTO syncline_checkpoint VALUES(1, ?1, ?2, ?3) "
                "ON CONFLICT(one) DO UPDATE SET term = ?1, head = ?2, time_us = ?3",
                (term, head, time_us),
            )
        self.head = Head(term, head, time_us)
        return self.head

    def follow(self, before: SqliteSequencer) -> None:
        """Go on in the same term with another plan."""
        self.head = before.head
        self._take_plan()

    def _take_plan(self) -> None:
        with write_transaction(self._db):
            mark_gaps(self._db, store_signatures(self._db, self._sql.plan))

    # ------------------------------------------------------------ checkpoint
    def take_checkpoint(self, term: str) -> Checkpoint | None:
        """None if nothing was due: no change, no device with news, no marker, no gap. SchemaChangedError, before
        anything is computed, where a captured table or its capture is not what it was, due or not."""
        self._db.execute("BEGIN")
        try:
            head = self._read_head(term)
            self._standing.require(self._db)
            batch = Batch(gaps=read_gaps(self._db))
            batch.schema_version = self._schema_version()
            batch.raised = raised_by(self._sql.plan, batch.gaps)
            dirty = self._dirty_tables()
            batch.markers = [row[0] for row in self._db.execute("SELECT id FROM syncline_marker")]
            batch.included = self._turns.read()
            if not dirty and not batch.markers and not batch.included and not batch.gaps:
                self._turns.done()
                return None
            self._compute(batch, dirty)
            for table, rows in (("entry", batch.entries), ("row_state", batch.images), ("truth", batch.truths)):
                laid_out.lay_out(self._db, table, rows)
        finally:
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        checkpoint = self._write(batch, head, dirty)
        self._turns.done()
        self.head = checkpoint.head
        return checkpoint

    def _read_head(self, term: str) -> Head:
        """TermLostError where it is not what this sequencer left: another one took over, or the file was restored."""
        row = self._db.execute("SELECT term, head, time_us FROM syncline_checkpoint").fetchone()
        if row is None or row[0] != term or (self.head is not None and Head(*row) != self.head):
            raise TermLostError(
                "Another sequencer has taken over this source, or it was restored from a backup.",
                hint="A new term begins; nothing is lost.",
            )
        return Head(*row)

    def _schema_version(self) -> int:
        return int(self._db.execute("PRAGMA schema_version").fetchone()[0])

    def _dirty_tables(self) -> list[str]:
        flags = self._db.execute(self._sql.waiting).fetchone()
        return [name for name, waits in zip(self._sql.captures, flags, strict=False) if waits]

    def _compute(self, batch: Batch, dirty: list[str]) -> None:
        for name in dirty:
            capture = self._sql.captures[name]
            newest, count = self._db.execute(f"SELECT max(id), count(*) FROM {capture.changelog}").fetchone()
            batch.taken[name] = newest
            batch.changes += count
            if name in batch.raised:
                self._fold_raised(batch, self._sql.tables[name])
            elif name in self._sql.tables:
                self._db.execute(f"DELETE FROM {moved_table(name)}")
                self._db.execute(moved_sql(capture))
        for name, table in self._sql.tables.items():
            if table.path_tables & set(dirty) and name not in batch.raised:
                self._compute_table(batch, name, table, set(dirty))

    def _fold_raised(self, batch: Batch, table: TableSql) -> None:
        """Of the changes of a table that is sent anew only the stamps count."""
        name, affected = table.synced.name, affected_table(table.synced.name)
        keys = ", ".join(table.capture.key_columns)
        self._db.execute(f"DELETE FROM {affected}")
        self._db.execute(f"INSERT OR IGNORE INTO {affected} SELECT DISTINCT {keys} FROM {table.capture.changelog}")
        changes, present = self._read_changes(table), self._read_images(table)
        stored = self._read_stamps(name, changes)
        for key, waiting in changes.items():
            stamps = fold_changes(stored.get(key), waiting, exists=key in present)
            batch.images.append((name, key, table.layout, None, stamps))

    def _compute_table(self, batch: Batch, name: str, table: TableSql, dirty: set[str]) -> None:
        affected = affected_table(name)
        keys = ", ".join(table.capture.key_columns)
        insert = f"INSERT OR IGNORE INTO {affected}"
        self._db.execute(f"DELETE FROM {affected}")
        for path in table.paths:
            for alias, after, before in path.through:
                if alias in dirty:
                    self._db.execute(f"{insert} {after}")
                    self._db.execute(f"{insert} {before}")
        through = {encode_row(row) for row in fetch_all(self._db, f"SELECT {keys} FROM {affected}")}
        if name in dirty:
            self._db.execute(f"{insert} SELECT DISTINCT {keys} FROM {table.capture.changelog}")
        old, new = self._memberships(table, before=True), self._memberships(table, before=False)
        images = self._read_images(table)
        changes = self._read_changes(table) if name in dirty else {}
        stored = self._read_stamps(name, changes)
        for key in dict.fromkeys([*old, *new, *changes]):
            row = _AffectedRow(key, old.get(key, set()), new.get(key, set()), changes.get(key, []), key in through)
            self._account(batch, table, row, images.get(key), stored.get(key))

    def _account(self, batch: Batch, table: TableSql, row: _AffectedRow, image: str | None, stored: str | None) -> None:
        """One affected row: its removes and puts, its image, its stamps, and its truth if an upload touched it."""
        name = table.synced.name
        ops = {op for op, _, _ in row.changes}
        # A mere touch is news for the toucher alone; a row that stood in the way of a REPLACE and still stands is none.
        stays = ops <= {"T", "R"} and (image is not None or "R" not in ops)
        if row.is_through or not stays:
            batch.entries += [(bucket, name, row.key, "R") for bucket in sorted(row.old - row.new)]
            batch.entries += [(bucket, name, row.key, "P") for bucket in sorted(row.new)]
        stamps = fold_changes(stored, row.changes, exists=image is not None) if row.changes else None
        batch.images.append((name, row.key, table.layout, image if row.new else None, stamps))
        if "T" in ops:
            batch.truths.append((name, row.key, json.dumps(sorted(row.new), ensure_ascii=False)))

    def _memberships(self, table: TableSql, *, before: bool) -> Memberships:
        width = len(table.capture.key)
        found: Memberships = {}
        for path in table.paths:
            for row in fetch_all(self._db, path.before if before else path.after):
                if None not in row[width:]:
                    found.setdefault(encode_row(row[:width]), set()).add(bucket_name(path.path.scope, row[width:]))
        return found

    def _read_images(self, table: TableSql) -> dict[str, str]:
        width = len(table.capture.key)
        return {encode_row(row[:width]): encode_row(row[width:]) for row in fetch_all(self._db, table.images)}

    def _read_changes(self, table: TableSql) -> dict[str, Changes]:
        """Key text -> its changes."""
        capture = table.capture
        width = len(capture.key)
        columns = ", ".join([*capture.key_columns, "op", "stamp", "writer", *capture.mask_columns])
        found: dict[str, Changes] = {}
        for row in fetch_all(self._db, f"SELECT {columns} FROM {capture.changelog} ORDER BY id"):
            op, stamp, writer, *masks = row[width:]
            changed = capture.changed_columns(tuple(mask or 0 for mask in masks)) if op in ("U", "T") else []
            found.setdefault(encode_row(row[:width]), []).append((op, Stamp(stamp or 0, writer or 0), changed))
        return found

    def _read_stamps(self, table: str, keys: Iterable[str]) -> dict[str, str]:
        wanted = json.dumps(list(keys), ensure_ascii=False)
        return dict(
            self._db.execute(
                "SELECT r.key, r.stamps FROM json_each(?2) w CROSS JOIN syncline_row_state r "
                "ON r.table_name = ?1 AND r.key = w.value",
                (table, wanted),
            ).fetchall()
        )

    # ------------------------------------------------------------ writing it down
    def _write(self, batch: Batch, head: Head, dirty: list[str]) -> Checkpoint:
        number, time_us = head.checkpoint + 1, max(self._clock.now_us(), head.time_us + 1)
        db = self._db
        with write_transaction(db):
            self._read_head(head.term)
            if self._schema_version() != batch.schema_version:
                raise SchemaChangedError("The schema was changed while a checkpoint was computed.", hint=_COMPUTED_ANEW)
            raise_generations(db, self._sql.plan, batch.gaps, number)
            laid_out.write_down(db, number)
            db.executemany(
                f"INSERT INTO syncline_included VALUES(?, ?, {number}) "
                "ON CONFLICT DO UPDATE SET number = excluded.number, checkpoint = excluded.checkpoint",
                batch.included,
            )
            for name, newest in batch.taken.items():
                db.execute(f"DELETE FROM {self._sql.captures[name].changelog} WHERE id <= ?1", (newest,))
            db.executemany(  # for the other processes, which do not see the changelog
                f"INSERT INTO syncline_meta VALUES(?, {number}) ON CONFLICT DO UPDATE SET value = excluded.value",
                [(f"{GRANT_PREFIX}{name}",) for name in dirty if name in self._sql.grant_scopes],
            )
            db.executemany("DELETE FROM syncline_marker WHERE id = ?", [(marker,) for marker in batch.markers])
            db.execute("UPDATE syncline_checkpoint SET head = ?1, time_us = ?2", (number, time_us))
        return Checkpoint(
            head=Head(head.term, number, time_us),
            buckets=frozenset(entry[0] for entry in batch.entries),
            devices=frozenset(device for device, _ in batch.included),
            tables=frozenset(dirty) | batch.gaps.keys(),
            changes=batch.changes,
            raised=batch.raised,
        )
