"""Writing rows for an upload: one, or all that a wave held back, in one statement per table, operation and columns."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.errors import SourceBusyError
from syncline.model.merge import Stamp
from syncline.source.port import PiecemealError, SourceRefusedError
from syncline.source.postgres.blame import Blame
from syncline.source.postgres.company import PIECEMEAL_GROUPS, Company, WriteOptions
from syncline.source.postgres.layout import PlanSql
from syncline.source.postgres.refusals import POLICY_REFUSES
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

    async def write(self, write: Write) -> bool:
        """Whether the row is another one now, in so far as the write would have made it one."""
        await self._company.enter(write.stamp)
        count = await self._execute([write], together=False)
        await self._company.leave()
        if write.operation == "U" and count:
            return await self._restamp([write], write.stamp) > 0 or not write.changes_row
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
            if await self._restamp(its, noted) != sum(write.changes_row for write in its):
                self._options.piecemeal[table] = PIECEMEAL_GROUPS
                raise PiecemealError

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
            raise self._blame.of(table, error, together=together) from error
        return int(status.rpartition(" ")[2])

    async def _restamp(self, writes: Sequence[Write], noted: Stamp) -> int:
        """Give each change of these rows that capture noted with one stamp that of its own mutation. How many there
        are."""
        entry = self._sql.tables[writes[0].table]
        stamps: dict[Key, int] = {}
        for write in writes:
            stamps[write.key] = stamps[write.key_after(entry.synced.key)] = write.stamp.time_us
        keys = entry.upload.key_arrays(list(stamps))
        status = await self._db.execute(entry.upload.restamp, *keys, list(stamps.values()), noted.time_us, noted.writer)
        return int(status.rpartition(" ")[2])
