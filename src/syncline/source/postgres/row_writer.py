"""Writing rows for an upload: one, or all that a wave held back, in one statement per table, operation and columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NoReturn

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.errors import SourceBusyError
from syncline.model.merge import Stamp
from syncline.source.port import PiecemealError, SourceRefusedError
from syncline.source.postgres.blame import Blame
from syncline.source.postgres.company import PIECEMEAL_GROUPS, Company, WriteOptions
from syncline.source.postgres.layout import PlanSql
from syncline.source.postgres.refusals import POLICY_REFUSES, is_timeout
from syncline.source.postgres.upload_group import UploadGroup, Write
from syncline.source.postgres.upload_sql import arrays
from syncline.values import Key


class RowWriter:
    """Of one transaction."""

    def __init__(
        self, connection: asyncpg.Connection, sql: PlanSql, company: Company, blame: Blame, options: WriteOptions
    ) -> None:
        self._db = connection
        self._sql = sql
        self._company = company
        self._blame = blame
        self._options = options
        self._too_slow: dict[Stamp, SourceRefusedError] = {}

    async def write(self, write: Write) -> bool:
        """Whether the row is another one now, in so far as the write would have made it one."""
        await self._company.enter(write.stamp)
        count = await self._execute_in_time(write)
        await self._company.leave()
        if write.operation == "U" and count:
            return bool(await self._restamp([write], write.stamp)) or not write.changes_row
        place = self._sql.tables[write.table].upload.place
        if not count and write.operation != "I" and await self._company.hides_rows(place):
            raise SourceRefusedError("rls", POLICY_REFUSES)
        return count != 0

    async def write_waiting(self, group: UploadGroup) -> None:
        """All that was held back. PiecemealError unless every write did what it would have done alone: each of its rows
        was written exactly once, by nobody else."""
        writes, group.waiting = group.waiting, []
        statements: dict[tuple[str, str, tuple[str, ...]], list[Write]] = {}
        tables: dict[str, list[Write]] = {}
        for write in writes:
            statements.setdefault((write.table, write.operation, tuple(write.values)), []).append(write)
            tables.setdefault(write.table, []).append(write)
        noted = max(write.stamp for write in writes)
        await self._company.enter(noted)
        for alike in statements.values():
            if await self._execute(alike, together=True) != len(alike):
                raise PiecemealError
        await self._company.leave()
        for table, its in tables.items():
            if await self._restamp(its, noted) != Counter(write.key for write in its if write.changes_row):
                self.go_piecemeal([table])
        group.noted[noted] = sum(write.changes_row for write in writes if write.stamp == noted)
        group.held_back.update(tables)

    async def require_no_others(self, group: UploadGroup) -> None:
        """PiecemealError if rules of the company's changed other rows than those that were held back: each of them is
        to have the stamp of the mutation that it comes from."""
        if not group.noted:
            return
        counts = [
            f"SELECT count(*) AS n FROM {entry.capture.changelog} WHERE txid = pg_current_xact_id() "
            "AND stamp = ANY($1::bigint[]) AND writer = $2::bigint AND op <> 'T'"
            for entry in self._sql.tables.values()
            if entry.capture.writable
        ]
        (writer,) = {stamp.writer for stamp in group.noted}
        stamps = [stamp.time_us for stamp in group.noted]
        found = await self._db.fetchval(f"SELECT sum(n) FROM ({' UNION ALL '.join(counts)}) AS q", stamps, writer)
        if found != sum(group.noted.values()):
            self.go_piecemeal(group.held_back)

    def go_piecemeal(self, tables: Iterable[str]) -> NoReturn:
        self._options.piecemeal.update(dict.fromkeys(tables, PIECEMEAL_GROUPS))
        raise PiecemealError

    async def _execute_in_time(self, write: Write) -> int:
        """What took too long once is refused without being tried again in this transaction, in whatever group."""
        if write.stamp in self._too_slow:
            raise self._too_slow[write.stamp]
        try:
            return await self._execute([write], together=False)
        except SourceRefusedError as refusal:
            if is_timeout(refusal.__cause__):
                self._too_slow[write.stamp] = refusal
            raise

    async def _execute(self, writes: Sequence[Write], *, together: bool) -> int:
        """Writes of one table, operation and set of columns, in one statement. How many rows it changed."""
        table, operation, columns = writes[0].table, writes[0].operation, tuple(writes[0].values)
        upload = self._sql.tables[table].upload
        if operation == "D":
            sql = upload.delete
        else:
            sql = upload.insert(columns) if operation == "I" else upload.update(columns)
        try:
            values = arrays(upload.described(columns), [tuple(write.values.values()) for write in writes])
            rows = [*upload.key_arrays([write.key for write in writes]), *values]
        except ValueError as error:
            raise SourceRefusedError("type", f"A value cannot be stored: {error}.") from error
        try:
            status = await self._db.execute(sql, *rows)
        except PostgresError as error:
            if writes[0].is_new and self._blame.is_overtaken(table, error):
                raise SourceBusyError("A row was made under the same key at the same time.") from error
            raise self._blame.of_write(table, error, together=together) from error
        return int(status.rpartition(" ")[2])

    async def _restamp(self, writes: Sequence[Write], noted: Stamp) -> Counter[Key]:
        """Give each change of these rows that capture noted with one stamp that of its own mutation. How many there
        are of each key."""
        entry = self._sql.tables[writes[0].table]
        stamps: dict[Key, int] = {}
        for write in writes:
            stamps[write.key] = stamps[write.key_after(entry.synced.key)] = write.stamp.time_us
        keys = list(stamps)
        bound = entry.upload.key_arrays(keys)
        rows = await self._db.fetch(entry.upload.restamp, *bound, list(stamps.values()), noted.time_us, noted.writer)
        return Counter(keys[row[0] - 1] for row in rows)
