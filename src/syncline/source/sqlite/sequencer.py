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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from syncline.clock import Clock
from syncline.errors import SourceError
from syncline.model.merge import Stamp
from syncline.model.scopes import bucket_name
from syncline.source.port import Checkpoint, Head
from syncline.source.sqlite.layout import GRANT_PREFIX, PlanSql, TableSql
from syncline.source.sqlite.paths import affected_table, moved_sql, moved_table, temp_tables_sql
from syncline.source.sqlite.provision import plan_fingerprint
from syncline.source.sqlite.stamps import RowStamps
from syncline.source.sqlite.writing import write_transaction
from syncline.system.database import fetch_all
from syncline.values import encode_row

Memberships = dict[str, set[str]]
"""Key text -> buckets."""


class TermLostError(SourceError):
    """Another sequencer took over; this one must stop."""

    code = "term_lost"


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


Changes = list[tuple[str, Stamp, list[str]]]
"""A row's changes in order: operation, stamp, changed columns."""


@dataclass(frozen=True, slots=True)
class _AffectedRow:
    key: str
    old: set[str]
    new: set[str]
    changes: Changes
    is_through: bool


class SqliteSequencer:
    """Owns one connection. `verify` raises SchemaChangedError if the captured schema is not what was provisioned."""

    def __init__(
        self, connection: sqlite3.Connection, sql: PlanSql, clock: Clock, verify: Callable[[sqlite3.Connection], None]
    ) -> None:
        self._db = connection
        self._sql = sql
        self._clock = clock
        self._verify = verify
        self._verified_version = -1
        self._fingerprint = plan_fingerprint(sql.plan)
        for table in sql.tables.values():
            for statement in temp_tables_sql(table.capture):
                self._db.execute(statement)

    # ------------------------------------------------------------ terms
    def begin_term(self, term: str) -> Head:
        """Add a term to the history; the one before ends at the head found now. Where another plan was served before,
        or changes may have been missed, the history is forgotten: no older cursor is valid, devices download anew."""
        with write_transaction(self._db):
            served = self._db.execute("SELECT value FROM syncline_meta WHERE name = 'plan'").fetchone()
            if served != (self._fingerprint,):
                self._db.execute("DELETE FROM syncline_term")
                self._db.execute(
                    "INSERT INTO syncline_meta VALUES('plan', ?1) ON CONFLICT DO UPDATE SET value = ?1",
                    (self._fingerprint,),
                )
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
        return Head(term, head, time_us)

    # ------------------------------------------------------------ checkpoint
    def take_checkpoint(self, term: str) -> Checkpoint | None:
        """None if nothing was due: no change, no device with news, no marker."""
        self._db.execute("BEGIN")
        try:
            head = self._read_head(term)
            dirty = self._dirty_tables()
            batch = Batch()
            batch.markers = [row[0] for row in self._db.execute("SELECT id FROM syncline_marker")]
            batch.included = self._db.execute(
                "SELECT d.device, d.last FROM syncline_device d LEFT JOIN syncline_included i ON i.device = d.device "
                "WHERE d.last > coalesce(i.number, 0)"
            ).fetchall()
            if not dirty and not batch.markers and not batch.included:
                return None
            self._check_schema()
            self._compute(batch, dirty)
        finally:
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        return self._write(batch, head, dirty)

    def _read_head(self, term: str) -> Head:
        row = self._db.execute("SELECT term, head, time_us FROM syncline_checkpoint").fetchone()
        if row is None or row[0] != term:
            raise TermLostError(
                "Another sequencer has taken over this source.", hint="This one stops; nothing is lost."
            )
        return Head(*row)

    def _dirty_tables(self) -> list[str]:
        flags = self._db.execute(self._sql.waiting).fetchone()
        return [name for name, waits in zip(self._sql.captures, flags, strict=False) if waits]

    def _check_schema(self) -> None:
        """The captured tables must be what provisioning saw, or a rebuilt table would read as false removes."""
        version = self._db.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._verified_version:
            self._verify(self._db)
            self._verified_version = version

    def _compute(self, batch: Batch, dirty: list[str]) -> None:
        for name in dirty:
            capture = self._sql.captures[name]
            newest, count = self._db.execute(f"SELECT max(id), count(*) FROM {capture.changelog}").fetchone()
            batch.taken[name] = newest
            batch.changes += count
            if name in self._sql.tables:
                self._db.execute(f"DELETE FROM {moved_table(name)}")
                self._db.execute(moved_sql(capture))
        for name, table in self._sql.tables.items():
            if table.path_tables & set(dirty):
                self._compute_table(batch, name, table, set(dirty))

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
        if row.is_through or ops != {"T"}:  # a mere touch is news for the toucher alone
            batch.entries += [(bucket, name, row.key, "R") for bucket in sorted(row.old - row.new)]
            batch.entries += [(bucket, name, row.key, "P") for bucket in sorted(row.new)]
        stamps = _fold(stored, row.changes, exists=image is not None) if row.changes else None
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
            if db.execute("SELECT term, head FROM syncline_checkpoint").fetchone() != (head.term, head.checkpoint):
                raise TermLostError(
                    "Another sequencer has taken over this source.", hint="This one stops; nothing is lost."
                )
            db.executemany(
                f"INSERT INTO syncline_entry VALUES(?, ?, ?, ?, {number}) "
                "ON CONFLICT DO UPDATE SET op = excluded.op, checkpoint = excluded.checkpoint",
                batch.entries,
            )
            db.executemany(
                f"INSERT INTO syncline_row_state VALUES(?1, ?2, ?3, ?4, ?5, {number}) ON CONFLICT DO UPDATE SET "
                "layout = excluded.layout, image = excluded.image, checkpoint = excluded.checkpoint, "
                "stamps = coalesce(excluded.stamps, stamps)",
                batch.images,
            )
            db.executemany(
                f"INSERT INTO syncline_truth VALUES(?, ?, ?, {number}) "
                "ON CONFLICT DO UPDATE SET buckets = excluded.buckets, checkpoint = excluded.checkpoint",
                batch.truths,
            )
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
            tables=frozenset(dirty),
            changes=batch.changes,
        )


def _fold(stored: str | None, changes: Changes, *, exists: bool) -> str:
    stamps = RowStamps.parse(stored)
    for op, stamp, columns in changes:
        if op != "R":
            stamps.fold(op, stamp, columns)
    last_op, last_stamp, _ = changes[-1]
    if not exists and last_op == "R":  # another row's INSERT OR REPLACE removed it
        stamps.fold("D", last_stamp, ())
    return stamps.text()
