"""One write transaction of an upload on a PostgreSQL source.

A group that is judged together reads the rows of a wave in one statement per table, holds its writes back, and makes
them in one statement per table, operation and set of columns. A wave whose writes did not end as they would have one by
one (a rule of the company's wrote one of its rows again, or swallowed a change) is given up: PiecemealError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.clock import Clock
from syncline.model.merge import Stamp
from syncline.protocol.messages import Mutation
from syncline.source.port import Claims, DeviceRow, Prepared, RowRead, StoredOutcome
from syncline.source.postgres.blame import Blame
from syncline.source.postgres.claims import granted
from syncline.source.postgres.company import Company, WriteOptions
from syncline.source.postgres.layout import PlanSql
from syncline.source.postgres.records import Records
from syncline.source.postgres.registry import find_device
from syncline.source.postgres.row_reader import RowReader
from syncline.source.postgres.row_writer import RowWriter
from syncline.source.postgres.spelling import Spelling, same_in
from syncline.source.postgres.touches import Touch, Touches
from syncline.source.postgres.upload_group import UploadGroup, Write
from syncline.values import Key, Value, key_text, same


class PostgresWrite:
    """`WriteTransaction` of the port, on a connection that is inside a READ COMMITTED transaction."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        sql: PlanSql,
        clock: Clock,
        options: WriteOptions,
        *,
        is_last_try: bool = False,
        was_slow: bool = False,
    ) -> None:
        self._db = connection
        self._sql = sql
        self._clock = clock
        self._options = options
        self._begun = clock.monotonic_seconds()
        self._company = Company(connection, options.role)
        self._was_slow = was_slow
        self._blame = Blame(sql, has_role=bool(options.role), is_last_try=is_last_try, was_slow=was_slow)
        self._reader = RowReader(connection, sql, self._company, self._blame)
        self._writer = RowWriter(connection, sql, self._company, self._blame, options)
        self._records = Records(connection, clock)
        self._spelling = Spelling(connection, sql)
        self._touches = Touches(connection, sql)
        self._group = UploadGroup()
        self._refused_inserts: set[tuple[str, str]] | None = None
        self._is_deferred = False
        self._granted_at: list[int | None] | None = None
        self._has_written = False

    async def begin(self, claims: Claims | None) -> None:
        await self._company.tell(self._options.settings(claims))

    async def end(self) -> None:
        """Before COMMIT: nothing is held back any more."""
        await self._flush()
        await self._records.flush()

    def elapsed_seconds(self) -> float:
        return self._clock.monotonic_seconds() - self._begun

    # ------------------------------------------------------------ exactly once
    async def lock_device(self, device: str) -> DeviceRow | None:
        if self._records.storable(device) != device:
            return None
        return await find_device(self._db, device, lock=True)

    async def known_ids(self, ids: Iterable[bytes]) -> dict[bytes, str]:
        rows = await self._db.fetch(
            "SELECT o.id, o.device FROM unnest($1::bytea[]) AS w(id) JOIN syncline.outcome AS o ON o.id = w.id",
            list(ids),
        )
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
        self._group = UploadGroup()
        await self._db.execute("SAVEPOINT syncline_group")

    async def prepare(self, mutations: Sequence[Mutation], *, together: bool) -> Prepared:
        self._group.together = together and not self._goes_piecemeal({mutation.table for mutation in mutations})
        if self._group.together or self._is_deferred:
            await self._db.execute("SET CONSTRAINTS ALL DEFERRED")
        prepared = await self._spelling.prepare(mutations, together=together)
        for mutation in prepared.mutations:
            self._touches.know(mutation.table, mutation.key)
        return prepared

    def _goes_piecemeal(self, tables: set[str]) -> bool:
        counts = self._options.piecemeal
        found = [table for table in tables if counts.get(table, 0) > 0]
        for table in found:
            counts[table] -= 1
        return bool(found) or self._was_slow

    async def defer_constraints(self) -> None:
        self._is_deferred = True

    async def release(self) -> None:
        """Constraints that waited for the group's end are checked before its savepoint goes, so that COMMIT cannot fail
        for the data."""
        await self._flush()
        try:
            await self._company.enter()
            await self._db.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except PostgresError as error:
            raise self._blame.of_write(self._group.table, error, together=self._group.together) from error
        await self._company.leave()
        await self._writer.require_no_others(self._group)
        await self._db.execute("RELEASE SAVEPOINT syncline_group")
        self._group = UploadGroup()

    async def rollback_to_savepoint(self) -> None:
        self._group = UploadGroup()
        self._touches.forget()
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
            await self._reader.read_wave(group)

    def same(self, table: str, column: str, a: Value, b: Value) -> bool:
        return same_in(self._sql.tables[table].synced.table.column(column), a, b)

    # ------------------------------------------------------------ scope
    async def granted(self, claims: Claims) -> frozenset[str]:
        await self._flush()
        found = await granted(self._db, self._sql, claims)
        self._granted_at = await self._grants_at()
        self._has_written = False
        return found

    async def grants_moved(self) -> bool:
        """Asked of the database once after each statement that wrote: what is held back has set nothing off yet."""
        if not self._has_written or self._granted_at is None:
            return False
        self._has_written = False
        return await self._grants_at() != self._granted_at

    async def _grants_at(self) -> list[int | None]:
        query = self._sql.grants_at
        return list(await self._db.fetchval(query)) if query else []

    async def buckets_of(self, table: str, key: Key) -> frozenset[str]:
        await self._flush_writes()
        known = self._group.buckets
        if (table, key) not in known:
            await self._reader.find_buckets(self._group, table, [*self._group.written.get(table, {}), key])
        return known[table, key]

    # ------------------------------------------------------------ rows
    async def read_row(self, table: str, key: Key) -> RowRead:
        if (table, key) not in self._group.read:
            await self._flush()
            if (table, key) in self._group.wave:
                await self._reader.lock(self._group, table, [key])
            await self._reader.read(self._group, table, [key])
        return self._group.read[table, key]

    async def write_row(self, table: str, key: Key, operation: str, values: Mapping[str, Value], stamp: Stamp) -> bool:
        row = self._group.read.get((table, key))
        held = row.values if row else None
        changes = held is None or any(not same(held[column], value) for column, value in values.items())
        is_new = operation == "I" and row is not None and held is None
        write = Write(table, key, operation, dict(values), stamp, changes or operation != "U", is_new)
        names = self._sql.tables[table].synced.key
        self._group.table = table
        if operation != "D":
            self._group.written.setdefault(table, {})[write.key_after(names)] = None
        if self._group.together and write.key_after(names) == key:
            self._group.waiting.append(write)
            return True
        await self._flush()
        self._group.forget()
        self._has_written = True
        return await self._writer.write(write)

    async def made_since(self, table: str, stamp: Stamp) -> list[Key]:
        await self._flush_writes()
        rows = await self._db.fetch(self._sql.tables[table].upload.made, stamp.writer, stamp.time_us)
        return [tuple(row) for row in rows]

    async def _flush_writes(self) -> None:
        if self._group.waiting:
            self._group.forget()
            tables = {write.table for write in self._group.waiting}
            await self._writer.write_waiting(self._group)
            self._has_written = True
            # Each of them was judged by what was granted before all of them, which the judge sees to itself only where
            # it is a table of the grants' that was written.
            if not tables & self._sql.grant_scopes.keys() and await self.grants_moved():
                self._writer.go_piecemeal(tables)

    # ------------------------------------------------------------ touches
    async def touch(self, table: str, key: Key, columns: Iterable[str] = (), stamp: Stamp | None = None) -> None:
        known = self._spelling.known_key(table, key)
        if known is None or None in known:
            return
        masks = self._sql.tables[table].capture.mask_of(set(columns))
        self._touches.add(table, Touch(known, stamp or Stamp(0), masks))

    async def _flush(self) -> None:
        await self._flush_writes()
        if self._touches:
            self._group.forget()
            await self._touches.flush()

    # ------------------------------------------------------------ records
    async def record(self, device: DeviceRow, outcome: StoredOutcome) -> None:
        known = self._spelling.known_key(outcome.table, outcome.key)
        if known is not None and known != outcome.key:
            outcome = replace(outcome, key=known)
        if outcome.kind == "rejected" and outcome.operation == "I":
            refused = await self._refusals_of(device.device)
            refused.add((outcome.table, self._records.storable(key_text(outcome.key))))
        self._records.put(device, outcome)

    async def finish_device(self, device: DeviceRow, last: int, last_stamp_us: int, floor: int) -> None:
        await self._flush()
        await self._records.finish_device(device, last, last_stamp_us, floor)
