"""Reading rows for an upload: locked first, then each with its stamps and buckets."""

from __future__ import annotations

import json
from collections.abc import Sequence

import asyncpg
from asyncpg.exceptions import PostgresError

from syncline.model.merge import Stamp
from syncline.source.port import RowRead
from syncline.source.postgres.blame import Blame
from syncline.source.postgres.company import Company
from syncline.source.postgres.layout import PlanSql, TableSql
from syncline.source.postgres.types import value_of
from syncline.source.postgres.upload_group import UploadGroup
from syncline.source.stamps import RowStamps
from syncline.values import Key, Value, key_text


class RowReader:
    """Of one transaction. What it finds goes into the group."""

    def __init__(self, connection: asyncpg.Connection, sql: PlanSql, company: Company, blame: Blame) -> None:
        self._db = connection
        self._sql = sql
        self._company = company
        self._blame = blame

    async def read_wave(self, group: UploadGroup) -> None:
        """All its rows: locked table by table in one order, so that two uploads rarely wait for each other."""
        tables = group.keys_by_table()
        for table in sorted(tables):
            await self.lock(group, table, tables[table])
        for table, keys in tables.items():
            await self.read(group, table, keys)

    async def lock(self, group: UploadGroup, table: str, keys: Sequence[Key]) -> None:
        """A row that is to be inserted is not there; one that is there all the same stays as it is."""
        entry = self._sql.tables[table]
        wanted = [key for key in keys if group.wave[table, key] != {"I"} or entry.synced.keys == "natural"]
        if not wanted:
            return
        goes = any("D" in group.wave[table, key] for key in wanted)
        try:
            await self._company.enter()
            statement = entry.upload.lock("UPDATE" if goes else "NO KEY UPDATE")
            await self._db.execute(statement, *entry.upload.key_arrays(wanted))
        except PostgresError as error:
            raise self._blame.of(table, error, together=group.together) from error
        await self._company.leave()

    async def read(self, group: UploadGroup, table: str, keys: Sequence[Key]) -> None:
        """Each row and its stamps in one statement, since the sequencer moves stamps from the queue to `row_state`."""
        entry = self._sql.tables[table]
        upload = entry.upload
        rows = await self._fetch(group, table, upload.read, keys, [key_text(key) for key in keys])
        group.buckets.update(dict.fromkeys(((table, key) for key in keys), frozenset()))
        there = {keys[row[0] - 1] for row in rows if row[1]}
        # Also of rows that are not there: they take as many statements as those outside the scope.
        sought = [key for key in keys if key in there or group.wave.get((table, key), {"I"}) != {"I"}]
        if sought:
            await self.find_buckets(group, table, sought)
        mends = [value_of(column) for column in upload.described(upload.columns)]
        for row in rows:
            key = keys[row[0] - 1]
            values: dict[str, Value] | None = None
            if row[1]:
                held = zip(upload.columns, mends, row[4:], strict=True)
                values = {column: mend(value) if mend else value for column, mend, value in held}
            stamps = _folded(entry, row[2], row[3])
            known = {column: stamp for column in entry.synced.values if (stamp := stamps.of(column))}
            group.read[table, key] = RowRead(values, known, stamps.born, stamps.died, group.buckets[table, key])

    async def _fetch(
        self, group: UploadGroup, table: str, statement: str, keys: Sequence[Key], *more: list[str]
    ) -> list[asyncpg.Record]:
        """What the database says of a key, or a rule of the company's on the way to its buckets, is the data's
        fault."""
        try:
            return list(await self._db.fetch(statement, *self._sql.tables[table].upload.key_arrays(keys), *more))
        except PostgresError as error:
            raise self._blame.of(table, error, together=group.together) from error

    async def find_buckets(self, group: UploadGroup, table: str, keys: Sequence[Key]) -> None:
        keys = list(dict.fromkeys(keys))
        upload = self._sql.tables[table].upload
        found: list[set[str]] = [set() for _ in keys]
        for statement in upload.buckets:
            for place, bucket in await self._fetch(group, table, statement, keys):
                found[place - 1].add(bucket)
        for key, buckets in zip(keys, found, strict=True):
            group.buckets[table, key] = frozenset(buckets)


def _folded(entry: TableSql, stored: str | None, waiting: str | None) -> RowStamps:
    """What is sequenced, and what still waits in the changelog folded over it (rule 12)."""
    stamps = RowStamps.parse(stored)
    for op, stamp, writer, *masks in json.loads(waiting) if waiting else ():
        words = tuple(mask or 0 for mask in masks)
        changed = entry.capture.changed_columns(words) if op in ("U", "T") else []
        stamps.fold(op, Stamp(stamp or 0, writer or 0), changed)
    return stamps
