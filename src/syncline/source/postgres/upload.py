"""One write transaction of an upload on a PostgreSQL source.

A group that is judged together reads the rows of a wave in one statement per table, holds its writes back, and makes
them in one statement per table, operation and set of columns. A wave whose writes did not end as they would have one by
one (a rule of the company's wrote one of its rows again, or swallowed a change) is given up: PiecemealError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import asyncpg

from syncline.clock import Clock
from syncline.log import logger
from syncline.model.merge import Stamp
from syncline.protocol.messages import Mutation
from syncline.source.port import (
    Claims,
    DeviceRow,
    PiecemealError,
    Prepared,
    RowRead,
    SourceRefusedError,
    StoredOutcome,
)
from syncline.source.postgres.claims import granted
from syncline.source.postgres.company import PIECEMEAL_GROUPS, Company, WriteOptions
from syncline.source.postgres.layout import PlanSql, TableSql
from syncline.source.postgres.records import Records
from syncline.source.postgres.refusals import POLICY_REFUSES, Treatment, refusal_of, treatment
from syncline.source.postgres.spelling import Spelling, same_in
from syncline.source.postgres.types import value_of
from syncline.source.postgres.upload_sql import UploadSql, arrays
from syncline.source.stamps import RowStamps
from syncline.values import Key, Value, key_text, same

_log = logger("upload")
Place = tuple[str, Key]
"""A table's name, and a key in it."""


class _Write(NamedTuple):
    table: str
    key: Key
    operation: str
    values: dict[str, Value]
    stamp: Stamp
    changes_row: bool


class _Touch(NamedTuple):
    key: Key
    stamp: Stamp
    masks: list[int]


@dataclass
class _Group:
    """`wave`: what is judged now, and by which operations. `read`, `buckets`: of rows as they are before `waiting` is
    written; `written`: what has been, or waits to be. `table`: the last one written."""

    together: bool = False
    wave: dict[Place, set[str]] = field(default_factory=dict)
    read: dict[Place, RowRead] = field(default_factory=dict)
    buckets: dict[Place, frozenset[str]] = field(default_factory=dict)
    written: dict[str, dict[Key, None]] = field(default_factory=dict)
    waiting: list[_Write] = field(default_factory=list)
    table: str = ""

    def forget(self) -> None:
        """What was read may be otherwise now."""
        self.read.clear()
        self.buckets.clear()


class PostgresWrite:
    """`WriteTransaction` of the port, on a connection that is inside a READ COMMITTED transaction. Locks come first,
    then each row and its stamps in one statement, since the sequencer moves stamps from the queue to `row_state`."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        sql: PlanSql,
        clock: Clock,
        options: WriteOptions,
        *,
        is_last_try: bool = False,
    ) -> None:
        self._db = connection
        self._sql = sql
        self._clock = clock
        self._options = options
        self._is_last_try = is_last_try
        self._begun = clock.monotonic_seconds()
        self._company = Company(connection, options.role)
        self._records = Records(connection, clock)
        self._spelling = Spelling(connection, sql)
        self._group = _Group()
        self._touches: dict[str, list[_Touch]] = {}
        self._known_keys: set[tuple[str, str]] = set()
        self._refused_inserts: set[tuple[str, str]] | None = None
        self._uploads: dict[str, UploadSql] = {}
        self._is_deferred = False

    async def begin(self, claims: Claims | None) -> None:
        await self._company.tell(self._options.settings(claims))

    def elapsed_seconds(self) -> float:
        return self._clock.monotonic_seconds() - self._begun

    def _upload(self, table: str) -> UploadSql:
        if table not in self._uploads:
            self._uploads[table] = self._sql.tables[table].upload
        return self._uploads[table]

    # ------------------------------------------------------------ exactly once
    async def lock_device(self, device: str) -> DeviceRow | None:
        if self._records.storable(device) != device:
            return None
        row = await self._db.fetchrow(
            "SELECT d.device, d.number, d.owner, d.last, d.last_stamp, greatest("
            "(SELECT floor_us FROM syncline.pulse), (SELECT time_us FROM syncline.checkpoint), 0) "
            "FROM syncline.device AS d WHERE d.device = $1 FOR UPDATE OF d",
            device,
        )
        return DeviceRow(*row) if row else None

    async def known_ids(self, ids: Iterable[bytes]) -> dict[bytes, str]:
        rows = await self._db.fetch("SELECT id, device FROM syncline.outcome WHERE id = ANY($1::bytea[])", list(ids))
        return {bytes(row[0]): row[1] for row in rows}

    async def rejected_insert(self, device: str, table: str, key: Key, above: int) -> int | None:
        text = self._records.storable(key_text(self._spelling.known_key(table, key) or key))
        if (table, text) not in await self._refusals_of(device):
            return None
        await self._records.flush()
        row = await self._db.fetchrow(
            "SELECT number, kind FROM syncline.outcome WHERE device = $1 AND number > $2 AND op = 'I' "
            "AND table_name = $3 AND key = $4 ORDER BY number DESC LIMIT 1",
            *(device, above, table, text),
        )
        return int(row[0]) if row and row[1] == "rejected" else None

    async def _refusals_of(self, device: str) -> set[tuple[str, str]]:
        """Tables and keys of all refused inserts that are remembered: nearly always none."""
        if self._refused_inserts is None:
            rows = await self._db.fetch(
                "SELECT table_name, key FROM syncline.outcome WHERE device = $1 AND kind = 'rejected' AND op = 'I'",
                device,
            )
            self._refused_inserts = {(row[0], row[1]) for row in rows}
        return self._refused_inserts

    async def id_of_number(self, device: str, number: int) -> bytes | None:
        await self._records.flush()
        found = await self._db.fetchval(
            "SELECT id FROM syncline.outcome WHERE device = $1 AND number = $2", device, number
        )
        return None if found is None else bytes(found)

    # ------------------------------------------------------------ groups
    async def savepoint(self) -> None:
        await self._flush()
        await self._records.flush()  # else a rollback to it could take outcomes of earlier groups along
        self._group = _Group()
        await self._db.execute("SAVEPOINT syncline_group")

    async def prepare(self, mutations: Sequence[Mutation], *, together: bool) -> Prepared:
        self._group.together = together and not self._goes_piecemeal({mutation.table for mutation in mutations})
        if together or self._is_deferred:
            await self._db.execute("SET CONSTRAINTS ALL DEFERRED")
        prepared = await self._spelling.prepare(mutations, together=together)
        self._known_keys.update((mutation.table, key_text(mutation.key)) for mutation in prepared.mutations)
        return prepared

    def _goes_piecemeal(self, tables: set[str]) -> bool:
        counts = self._options.piecemeal
        found = [table for table in tables if counts.get(table, 0) > 0]
        for table in found:
            counts[table] -= 1
        return bool(found)

    async def defer_constraints(self) -> None:
        self._is_deferred = True

    async def release(self) -> None:
        """Constraints that waited for the group's end are checked before its savepoint goes, so that COMMIT cannot fail
        for the data."""
        await self._flush()
        try:
            await self._company.enter()
            await self._db.execute("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT syncline_group")
        except asyncpg.PostgresError as error:
            raise self._refused(self._group.table, error) from error
        await self._company.leave()
        self._group = _Group()

    async def rollback_to_savepoint(self) -> None:
        self._group = _Group()
        self._touches.clear()
        await self._db.execute("ROLLBACK TO SAVEPOINT syncline_group; RELEASE SAVEPOINT syncline_group")
        self._company.was_rolled_back()

    async def begin_wave(self, mutations: Sequence[Mutation]) -> None:
        await self._flush()
        group = self._group
        group.wave = {}
        for mutation in mutations:
            entry = self._sql.tables.get(mutation.table)
            if entry is not None and mutation.key_columns == entry.synced.key and None not in mutation.key:
                group.wave.setdefault((mutation.table, mutation.key), set()).add(mutation.operation)
        group.forget()
        if group.together:
            tables: dict[str, list[Key]] = {}
            for table, key in group.wave:
                tables.setdefault(table, []).append(key)
            for table in sorted(tables):
                await self._lock(table, tables[table])
            for table, keys in tables.items():
                await self._read(table, keys)

    def same(self, table: str, column: str, a: Value, b: Value) -> bool:
        return same_in(self._sql.tables[table].synced.table.column(column), a, b)

    # ------------------------------------------------------------ scope
    async def granted(self, claims: Claims) -> frozenset[str]:
        await self._flush()
        return await granted(self._db, self._sql, claims)

    async def buckets_of(self, table: str, key: Key) -> frozenset[str]:
        await self._flush_writes()
        known = self._group.buckets
        if (table, key) not in known:
            await self._find_buckets(table, [*self._group.written.get(table, {}), key])
        return known[table, key]

    async def _find_buckets(self, table: str, keys: Sequence[Key]) -> None:
        keys = list(dict.fromkeys(keys))
        upload = self._upload(table)
        found: list[set[str]] = [set() for _ in keys]
        for statement in upload.buckets:
            for place, bucket in await self._db.fetch(statement, *upload.key_arrays(keys)):
                found[place - 1].add(bucket)
        for key, buckets in zip(keys, found, strict=True):
            self._group.buckets[table, key] = frozenset(buckets)

    # ------------------------------------------------------------ rows
    async def read_row(self, table: str, key: Key) -> RowRead:
        if (table, key) not in self._group.read:
            await self._flush()
            if (table, key) in self._group.wave:
                await self._lock(table, [key])
            await self._read(table, [key])
        return self._group.read[table, key]

    async def _lock(self, table: str, keys: Sequence[Key]) -> None:
        """Rows that are to be made are not there, and if they are, stay as they are."""
        entry = self._sql.tables[table]
        wave = self._group.wave
        wanted = [key for key in keys if wave[table, key] != {"I"} or entry.synced.keys == "natural"]
        if not wanted:
            return
        goes = any("D" in wave[table, key] for key in wanted)
        upload = self._upload(table)
        try:
            await self._company.enter()
            await self._db.execute(upload.lock("UPDATE" if goes else "NO KEY UPDATE"), *upload.key_arrays(wanted))
        except asyncpg.PostgresError as error:
            raise self._refused(table, error) from error
        await self._company.leave()

    async def _read(self, table: str, keys: Sequence[Key]) -> None:
        upload, entry = self._upload(table), self._sql.tables[table]
        texts = [key_text(key) for key in keys]
        rows = await self._db.fetch(upload.read, *upload.key_arrays(keys), texts)
        await self._find_buckets(table, [keys[row[0] - 1] for row in rows if row[1]])
        mends = [value_of(column) for column in upload.described(upload.columns)]
        for row in rows:
            key = keys[row[0] - 1]
            values = None
            if row[1]:
                values = {
                    column: mend(value) if mend else value
                    for column, mend, value in zip(upload.columns, mends, row[4:], strict=True)
                }
            stamps = _folded(entry, row[2], row[3])
            known = {column: stamp for column in entry.synced.values if (stamp := stamps.of(column))}
            buckets = self._group.buckets.get((table, key), frozenset()) if row[1] else frozenset()
            self._group.read[table, key] = RowRead(values, known, stamps.born, stamps.died, buckets)

    async def write_row(self, table: str, key: Key, operation: str, values: Mapping[str, Value], stamp: Stamp) -> bool:
        row = self._group.read.get((table, key))
        held = row.values if row else None
        changes = held is None or any(not same(held[column], value) for column, value in values.items())
        write = _Write(table, key, operation, dict(values), stamp, changes or operation != "U")
        self._group.table = table
        if operation != "D":
            self._group.written.setdefault(table, {})[self._key_after(write)] = None
        if self._group.together and not any(column in self._sql.tables[table].synced.key for column in values):
            self._group.waiting.append(write)
            return True
        await self._flush()
        return await self._write_one(write)

    def _key_after(self, write: _Write) -> Key:
        names = self._sql.tables[write.table].synced.key
        return tuple(write.values.get(name, value) for name, value in zip(names, write.key, strict=True))

    async def _write_one(self, write: _Write) -> bool:
        self._group.forget()
        await self._company.enter(write.stamp)
        count = await self._execute([write])
        await self._company.leave()
        if write.operation == "U" and count:
            noted = await self._restamp(write.table, [write], write.stamp)
            return noted > 0 or not write.changes_row
        if not count and write.operation != "I" and await self._company.hides_rows(self._upload(write.table).place):
            raise SourceRefusedError("rls", POLICY_REFUSES)
        return count != 0

    async def _flush_writes(self) -> None:
        """All that was held back. PiecemealError unless every write did what it would have done alone."""
        writes, self._group.waiting = self._group.waiting, []
        if not writes:
            return
        self._group.forget()
        statements: dict[tuple[str, str, tuple[str, ...]], list[_Write]] = {}
        tables: dict[str, list[_Write]] = {}
        for write in writes:
            statements.setdefault((write.table, write.operation, tuple(write.values)), []).append(write)
            tables.setdefault(write.table, []).append(write)
        noted = max(write.stamp for write in writes)
        await self._company.enter(noted)
        for alike in statements.values():
            if await self._execute(alike) != len(alike):
                raise PiecemealError
        await self._company.leave()
        for table, its in tables.items():
            if await self._restamp(table, its, noted) != sum(write.changes_row for write in its):
                self._options.piecemeal[table] = PIECEMEAL_GROUPS
                raise PiecemealError

    async def _execute(self, writes: Sequence[_Write]) -> int:
        """Writes of one table, operation and set of columns, in one statement. How many rows it changed."""
        table, _, operation, values, _, _ = writes[0]
        upload, columns = self._upload(table), tuple(values)
        names = [*upload.key, *upload.described(columns)]
        if operation == "D":
            sql = upload.delete
        else:
            sql = upload.insert(columns) if operation == "I" else upload.update(columns)
        try:
            rows = arrays(names, [(*write.key, *write.values.values()) for write in writes])
        except ValueError as error:
            raise SourceRefusedError("type", f"A value cannot be stored: {error}.") from error
        try:
            status = await self._db.execute(sql, *rows)
        except asyncpg.PostgresError as error:
            raise self._refused(table, error) from error
        return int(status.rpartition(" ")[2])

    async def _restamp(self, table: str, writes: Sequence[_Write], noted: Stamp) -> int:
        """Give each change of these rows that capture noted with one stamp that of its own mutation. How many there
        are."""
        rows: dict[Key, int] = {}
        for write in writes:
            rows[write.key] = rows[self._key_after(write)] = write.stamp.time_us
        upload = self._upload(table)
        status = await self._db.execute(
            upload.restamp, *upload.key_arrays(list(rows)), list(rows.values()), noted.time_us, noted.writer
        )
        return int(status.rpartition(" ")[2])

    def _refused(self, table: str, error: asyncpg.PostgresError) -> Exception:
        """What to raise. The error itself where it is not the data's fault."""
        if treatment(error, is_last_try=self._is_last_try) is not Treatment.REJECT and not self._is_forbidden(error):
            return error
        if self._group.together:
            return PiecemealError(str(error.sqlstate))
        refusal = refusal_of(error, lambda text: self._names_hidden(table, error, text))
        if refusal.code == "refused":
            _log.warning("a write to %s was refused by the database (SQLSTATE %s)", table, error.sqlstate)
        return refusal

    def _is_forbidden(self, error: asyncpg.PostgresError) -> bool:
        return bool(self._options.role) and error.sqlstate == "42501"

    def _names_hidden(self, table: str, error: asyncpg.PostgresError, text: str) -> bool:
        """Whether it names a column that devices do not hold, or a table that does not sync."""
        where = (getattr(error, "schema_name", None), getattr(error, "table_name", None))
        tables = [entry for name, entry in self._sql.tables.items() if name == table]
        if where[1]:
            there = [entry for entry in self._sql.tables.values() if entry.synced.table.place in (where, ())]
            if not there:
                return True
            tables += there
        hidden = {name.lower() for entry in tables for name in hidden_columns(entry)}
        return any(name in text.lower() for name in hidden)

    # ------------------------------------------------------------ touches
    async def touch(self, table: str, key: Key, columns: Iterable[str] = (), stamp: Stamp | None = None) -> None:
        known = self._spelling.known_key(table, key)
        if known is None:
            return
        masks = self._sql.tables[table].capture.mask_of(set(columns))
        self._touches.setdefault(table, []).append(_Touch(known, stamp or Stamp(0), masks))

    async def _flush(self) -> None:
        await self._flush_writes()
        if not self._touches:
            return
        touches, self._touches = self._touches, {}
        self._group.forget()
        for table, its in touches.items():
            doubted = [each for each in its if (table, key_text(each.key)) not in self._known_keys]
            sure = [each for each in its if (table, key_text(each.key)) in self._known_keys]
            if sure:
                await self._note_touches(table, sure)
            for each in doubted:
                await self._note_if_key(table, each)

    async def _note_touches(self, table: str, touches: Sequence[_Touch]) -> None:
        upload = self._upload(table)
        masks: list[list[Any]] = [list(word) for word in zip(*(each.masks for each in touches), strict=True)]
        stamps = [each.stamp.time_us for each in touches]
        writers = [each.stamp.writer for each in touches]
        keys = upload.key_arrays([each.key for each in touches])
        await self._db.execute(upload.touch, *keys, stamps, writers, *masks)

    async def _note_if_key(self, table: str, touch: _Touch) -> None:
        """A key that is none of the column's type is no row's: nothing has to be told of it."""
        await self._db.execute("SAVEPOINT syncline_touch")
        try:
            await self._note_touches(table, [touch])
        except asyncpg.PostgresError as error:
            if treatment(error) is not Treatment.REJECT:
                raise
            await self._db.execute("ROLLBACK TO SAVEPOINT syncline_touch")
        await self._db.execute("RELEASE SAVEPOINT syncline_touch")

    # ------------------------------------------------------------ records
    async def record(self, device: DeviceRow, outcome: StoredOutcome) -> None:
        known = self._spelling.known_key(outcome.table, outcome.key)
        outcome = replace(outcome, key=known or outcome.key)
        if outcome.kind == "rejected" and outcome.operation == "I":
            refused = await self._refusals_of(device.device)
            refused.add((outcome.table, self._records.storable(key_text(outcome.key))))
        self._records.put(device, outcome)

    async def finish_device(self, device: DeviceRow, last: int, last_stamp_us: int, floor: int) -> None:
        await self._flush()
        await self._records.finish_device(device, last, last_stamp_us, floor)


def _folded(entry: TableSql, stored: str | None, waiting: str | None) -> RowStamps:
    """What is sequenced, and what still waits in the changelog folded over it (rule 12)."""
    stamps = RowStamps.parse(stored)
    for op, stamp, writer, *masks in json.loads(waiting) if waiting else ():
        words = tuple(mask or 0 for mask in masks)
        changed = entry.capture.changed_columns(words) if op in ("U", "T") else []
        stamps.fold(op, Stamp(stamp or 0, writer or 0), changed)
    return stamps


def hidden_columns(entry: TableSql) -> list[str]:
    return [name for name in entry.synced.table.column_names if name not in entry.synced.columns]
