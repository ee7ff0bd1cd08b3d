"""One write transaction of an upload on a SQLite source.

Every method is a coroutine that never waits: the whole upload runs in the writer's thread, so that the one write lock
is held for the work
alone and not for journeys between threads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from syncline.clock import Clock
from syncline.log import logger
from syncline.model.merge import Stamp
from syncline.model.scopes import bucket_name
from syncline.protocol.messages import Mutation
from syncline.source.port import (
    Claims,
    DeviceRow,
    Prepared,
    RowRead,
    SourceRefusedError,
    StoredOutcome,
    TransactionLostError,
)
from syncline.source.recording import conflict_lines, outcome_line, rejection_line
from syncline.source.sqlite.capture import Capture
from syncline.source.sqlite.feed import FeedReader
from syncline.source.sqlite.layout import PlanSql, TableSql
from syncline.source.sqlite.turns import take_turn
from syncline.source.sqlite.upload_sql import places
from syncline.source.stamps import RowStamps
from syncline.system.database import execute, fetch_all
from syncline.values import Key, Value, key_text, same

_log = logger("upload")
IDS_PER_STATEMENT = 500


class SqliteWrite:
    """`WriteTransaction` of the port. The connection is inside BEGIN IMMEDIATE already."""

    def __init__(self, connection: sqlite3.Connection, sql: PlanSql, clock: Clock) -> None:
        self._db = connection
        self._sql = sql
        self._clock = clock
        self._reader = FeedReader(connection, sql)
        self._begun = clock.monotonic_seconds()
        self._outcomes: list[tuple[Any, ...]] = []
        self._refused_inserts: set[tuple[str, str]] | None = None
        self._sought: set[tuple[str, Key]] = set()
        self._granted_at: Sequence[Any] = ()

    def elapsed_seconds(self) -> float:
        return self._clock.monotonic_seconds() - self._begun

    # ------------------------------------------------------------ exactly once
    async def lock_device(self, device: str) -> DeviceRow | None:
        return self._reader.find_device(device)

    async def known_ids(self, ids: Iterable[bytes]) -> dict[bytes, str]:
        found: dict[bytes, str] = {}
        for piece in batched(ids, IDS_PER_STATEMENT):
            rows = self._db.execute(
                f"SELECT id, device FROM syncline_outcome WHERE id IN ({places(len(piece))})", piece
            ).fetchall()
            found.update(rows)
        return found

    async def rejected_insert(self, device: str, table: str, key: Key, above: int) -> int | None:
        if (table, key_text(key)) not in self._refusals_of(device):
            return None
        row = self._db.execute(
            "SELECT number, kind FROM syncline_outcome WHERE device = ?1 AND number > ?2 AND op = 'I' "
            "AND table_name = ?3 "
            "AND key = ?4 ORDER BY number DESC LIMIT 1",
            (device, above, table, key_text(key)),
        ).fetchone()
        return int(row[0]) if row and row[1] == "rejected" else None

    def _refusals_of(self, device: str) -> set[tuple[str, str]]:
        """Tables and keys of all refused inserts that are remembered: nearly always none."""
        if self._refused_inserts is None:
            rows = self._db.execute(
                "SELECT table_name, key FROM syncline_outcome WHERE device = ?1 AND kind = 'rejected' AND op = 'I'",
                (device,),
            )
            self._refused_inserts = set(rows.fetchall())
        return self._refused_inserts

    async def id_of_number(self, device: str, number: int) -> bytes | None:
        self._flush()
        row = self._db.execute(
            "SELECT id FROM syncline_outcome WHERE device = ?1 AND number = ?2", (device, number)
        ).fetchone()
        return bytes(row[0]) if row and row[0] is not None else None  # an outcome `duplicate` has none

    # ------------------------------------------------------------ scope
    async def granted(self, claims: Claims) -> frozenset[str]:
        self._granted_at = self._grants_at()
        return self._reader.granted(claims)

    async def grants_moved(self) -> bool:
        return self._grants_at() != self._granted_at

    def _grants_at(self) -> Sequence[Any]:
        """The newest line in the changelog of each table that grants read: nobody empties them meanwhile."""
        query = self._sql.grants_at
        return self._db.execute(query).fetchone() if query else ()

    async def buckets_of(self, table: str, key: Key) -> frozenset[str]:
        entry = self._sql.tables[table]
        width = len(entry.capture.key)
        found = set()
        for path in entry.paths:
            for row in fetch_all(self._db, path.after_one, key):
                if None not in row[width:]:
                    found.add(bucket_name(path.path.scope, row[width:]))
        return frozenset(found)

    async def made_since(self, table: str, stamp: Stamp) -> list[Key]:
        capture = self._sql.tables[table].capture
        made = f"SELECT {', '.join(capture.key_columns)} FROM {capture.changelog} WHERE op = 'I'"
        return fetch_all(self._db, f"{made} AND writer = ?1 AND stamp >= ?2", (stamp.writer, stamp.time_us))

    # ------------------------------------------------------------ rows
    async def prepare(self, mutations: Sequence[Mutation], *, together: bool) -> Prepared:
        return Prepared(tuple(mutations), (tuple(range(len(mutations))),))

    async def begin_wave(self, mutations: Sequence[Mutation]) -> None:
        """The one write lock is held, and rows are read as they are asked for."""
        self._sought = {(mutation.table, mutation.key) for mutation in mutations if mutation.operation != "I"}

    def same(self, table: str, column: str, a: Value, b: Value) -> bool:
        return same(a, b)

    async def read_row(self, table: str, key: Key) -> RowRead:
        entry = self._sql.tables[table]
        rows = fetch_all(self._db, entry.upload.row, key)
        stamps = self._stamps(entry, key)
        values = dict(zip(entry.upload.columns, rows[0], strict=True)) if rows else None
        known = {column: stamp for column in entry.upload.values if (stamp := stamps.of(column))}
        # Also of a row that is not there: it takes as many statements as one outside the scope.
        buckets = await self.buckets_of(table, key) if rows or (table, key) in self._sought else frozenset[str]()
        return RowRead(values, known, stamps.born, stamps.died, buckets)

    def _stamps(self, entry: TableSql, key: Key) -> RowStamps:
        """What is sequenced, and what still waits in the changelog folded over it (rule 12)."""
        capture = entry.capture
        row = self._db.execute(
            "SELECT stamps FROM syncline_row_state WHERE table_name = ?1 AND key = ?2",
            (entry.synced.name, key_text(key)),
        ).fetchone()
        stamps = RowStamps.parse(row[0] if row else None)
        for op, stamp, writer, *masks in fetch_all(self._db, entry.upload.waiting, key):
            if op != "R":
                changed = capture.changed_columns(tuple(mask or 0 for mask in masks)) if op in ("U", "T") else []
                stamps.fold(op, Stamp(stamp or 0, writer or 0), changed)
        return stamps

    async def write_row(self, table: str, key: Key, operation: str, values: Mapping[str, Value], stamp: Stamp) -> bool:
        """False if the database took the statement and changed nothing (a trigger's RAISE(IGNORE))."""
        self._db.execute("UPDATE syncline_context SET stamp = ?1, writer = ?2", (stamp.time_us, stamp.writer))
        entry = self._sql.tables[table]
        if operation == "I":
            sql = entry.upload.insert(tuple(values))
            parameters: tuple[Value, ...] = (*key, *values.values())
        elif operation == "U":
            sql = entry.upload.update(tuple(values))
            parameters = (*values.values(), *key)
        else:
            sql, parameters = entry.upload.delete, key
        try:
            return execute(self._db, sql, parameters).rowcount != 0
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            raise self._refused(entry, error) from error
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
                raise  # busy, full, unreadable: not the data's fault, and tried again
            # A CHECK, an index or a trigger of the company's failed on this value. It must not hold up all others.
            _log.warning("a write to %s was refused by the database: %s", entry.synced.name, error)
            raise self._refused(entry, error) from error

    def _refused(self, entry: TableSql, error: sqlite3.Error) -> Exception:
        if not self._db.in_transaction:  # a trigger's RAISE(ROLLBACK)
            return TransactionLostError(refusal_of(str(error), hidden_names(entry)))
        return refusal_of(str(error), hidden_names(entry))

    async def touch(self, table: str, key: Key, columns: Iterable[str] = (), stamp: Stamp | None = None) -> None:
        if table not in self._sql.tables:
            return
        capture: Capture = self._sql.tables[table].capture
        if len(key) != len(capture.key):
            return
        values = [
            *key,
            *capture.mask_of(set(columns)),
            "T",
            stamp.time_us if stamp else 0,
            stamp.writer if stamp else 0,
        ]
        execute(self._db, self._sql.tables[table].upload.touch, values)

    async def defer_constraints(self) -> None:
        self._db.execute("PRAGMA defer_foreign_keys = ON")

    # ------------------------------------------------------------ savepoints
    async def savepoint(self) -> None:
        self._flush()  # else a rollback to it could take outcomes of earlier groups along
        self._db.execute("SAVEPOINT syncline_group")

    async def release(self) -> None:
        self._db.execute("RELEASE syncline_group")

    async def rollback_to_savepoint(self) -> None:
        self._db.execute("ROLLBACK TO syncline_group")
        self._db.execute("RELEASE syncline_group")

    # ------------------------------------------------------------ records
    async def record(self, device: DeviceRow, outcome: StoredOutcome) -> None:
        now = self._clock.now_us()
        self._outcomes.append(outcome_line(device, outcome, now))
        if outcome.kind == "rejected" and outcome.operation == "I":
            self._refusals_of(device.device).add((outcome.table, key_text(outcome.key)))
        self._db.executemany(
            "INSERT INTO syncline_conflict(device, number, user, table_name, key, column_name, kind, rule, base, "
            f"server, device_value, row_values, at_us) VALUES({places(13)})",
            conflict_lines(device, outcome, now),
        )
        if outcome.kind == "rejected":
            line = rejection_line(device, outcome, now)
            self._db.execute(f"INSERT INTO syncline_rejection VALUES({places(10)})", line)

    def _flush(self) -> None:
        """Outcomes are written together: the effects they belong to are committed with them in any case."""
        if self._outcomes:
            self._db.executemany(f"INSERT INTO syncline_outcome VALUES({places(11)})", self._outcomes)
            self._outcomes.clear()

    async def finish_device(self, device: DeviceRow, last: int, last_stamp_us: int, floor: int) -> None:
        self._flush()
        self._db.execute(
            "UPDATE syncline_device SET last = ?2, last_stamp = ?3, floor = max(floor, ?4), seen_us = ?5 "
            "WHERE device = ?1",
            (device.device, last, last_stamp_us, floor, self._clock.now_us()),
        )
        take_turn(self._db, device.device)
        self._db.execute(
            "UPDATE syncline_context SET stamp = NULL, writer = NULL, floor = max(floor, ?1)", (last_stamp_us,)
        )


def refusal_of(message: str, hidden: Callable[[str], bool]) -> SourceRefusedError:
    """A constraint's failure as a rejection. The text names tables, columns and constraints, never values; where it
    names what the device may not know, it says less."""
    code, said = "refused", message
    if message.startswith("no such "):
        said = "A rule of the database fails: tell the office."
    if message.startswith("UNIQUE constraint failed"):
        code, said = "unique", f"Another row already has this value ({message.partition(': ')[2]})."
    elif message.startswith("NOT NULL constraint failed"):
        code, said = "not_null", f"A value is missing ({message.partition(': ')[2]})."
    elif message.startswith("CHECK constraint failed"):
        code, said = "check", f"A rule of the database refuses this value ({message.partition(': ')[2]})."
    elif message.startswith("FOREIGN KEY constraint failed"):
        code, said = "foreign_key", "A row that this one refers to does not exist, or others still refer to this one."
    elif "datatype mismatch" in message or "cannot store" in message:
        code, said = "type", "A value is not of the column's type."
    if hidden(said):
        said = "A rule of the database refuses this change."
    return SourceRefusedError(code, said, may_pass_later=code == "foreign_key")


def hidden_names(entry: TableSql) -> Callable[[str], bool]:
    hidden = [name.lower() for name in entry.synced.table.column_names if name not in entry.synced.columns]
    return lambda text: any(name in text.lower() for name in hidden)


def batched(ids: Iterable[bytes], size: int) -> Iterator[tuple[bytes, ...]]:
    remaining = iter(ids)
    while piece := tuple(islice(remaining, size)):
        yield piece
