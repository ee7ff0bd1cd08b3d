"""One cut: everything that one snapshot shows of the queues becomes a checkpoint.

All of it is SQL over scratch tables, so that a bulk statement of a million rows takes no more of this process than one
of ten. The caller has begun the transaction, taken its locks, and sees to its end.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import asyncpg

from syncline.log import logger
from syncline.source.port import Checkpoint, Head
from syncline.source.postgres import batch_sql, checkpoint_sql
from syncline.source.postgres.batch_sql import Scratch, size_of
from syncline.source.postgres.checkpoint_sql import Seen
from syncline.source.postgres.generations import raise_generations, raised_by, read_gaps
from syncline.source.postgres.layout import PlanSql, TableSql
from syncline.source.postgres.stamps_sql import fold_sql
from syncline.source.postgres.troubles import blaming

SKEW_US = 60_000_000
"""So far the clock of the database may be ahead of ours; a stamp beyond it moves neither head nor floor."""
_log = logger("sequencer")


@dataclass(frozen=True)
class Waiting:
    """What one snapshot shows: `tables` with changes and about how many, and which of our own queues hold something.
    `is_all`: nothing else waits, in tables that are left out."""

    head: Head
    snapshot: str
    tables: dict[str, int]
    markers: bool
    uploads: bool
    gaps: bool
    is_all: bool = True


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes taken of one table."""

    changes: int
    newest_us: int
    moved: bool
    old: bool
    touched: bool

    @property
    def size(self) -> int | None:
        return size_of(self.changes)


@dataclass
class Cut:
    """`seen` bounds what waits; `all_devices`: look at every device, not only at those that say they have uploaded."""

    db: asyncpg.Connection
    sql: PlanSql
    seen: Seen
    waiting: Waiting
    all_devices: bool = False
    batches: dict[str, Batch] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=set)

    async def take(
        self, now_us: int, *, broken: Collection[str] = (), stopped: Collection[str] = ()
    ) -> Checkpoint | None:
        """None where nothing of it was news; what was taken is gone from the queues all the same. Gaps of the `broken`
        tables stay, and of the `stopped` ones nothing is told."""
        head, number = self.waiting.head, self.waiting.head.checkpoint + 1
        gaps = await read_gaps(self.db, broken) if self.waiting.gaps else {}
        raised = raised_by(self.sql.plan, gaps)
        dirty = list(self.waiting.tables)
        devices = await checkpoint_sql.include(self.db, self.seen, number, all_devices=self.all_devices)
        if gaps:
            await raise_generations(self.db, self.sql.plan, gaps, number)
        if sum(self.waiting.tables.values()) > batch_sql.LARGE:
            await self.db.execute(
                "SET LOCAL enable_seqscan = on; SET LOCAL work_mem = '32MB'; SET LOCAL default_statistics_target = 10"
            )
        await self._compute(dirty, raised, stopped, number)
        changes = await self._empty_queues(dirty)
        if not (dirty or gaps or devices or self.waiting.markers):
            return None
        await checkpoint_sql.touch_grants(self.db, self.sql.grant_scopes.keys() & set(dirty), number)
        newest = max((batch.newest_us for batch in self.batches.values()), default=0)
        newest = min(newest, max(now_us + SKEW_US, head.time_us + 1))
        time_us = max(now_us, head.time_us + 1, newest)
        await checkpoint_sql.raise_floor(self.db, newest)
        await self.db.execute(
            "UPDATE syncline.checkpoint SET head = $1::bigint, time_us = $2::bigint, "
            "cut_xmin = CASE WHEN $3::boolean THEN pg_snapshot_xmin(pg_current_snapshot()) ELSE cut_xmin END",
            number,
            time_us,
            self.waiting.is_all,
        )
        return Checkpoint(
            head=Head(head.term, number, time_us),
            buckets=frozenset(self.buckets),
            devices=devices,
            tables=frozenset(dirty) | gaps.keys(),
            changes=changes,
            raised=raised,
        )

    # ------------------------------------------------------------ rows
    async def _compute(
        self, dirty: Collection[str], raised: Collection[str], stopped: Collection[str], number: int
    ) -> None:
        for name in dirty:
            if name in self.sql.tables:
                with blaming(name):
                    self.batches[name] = await self._take_batch(name)
        moved, old = {}, {}
        for name, batch in self.batches.items():
            if batch.moved:
                moved[name] = batch_sql.moved_keys(self.sql.captures[name], batch.size)
            if batch.old:
                old[name] = batch_sql.old_images(self.sql.captures[name], batch.size)
        for name, table in self.sql.tables.items():
            if name in stopped:
                continue
            with blaming(name):
                if name in raised:
                    await self._fold_raised(table, number)
                elif name in self.batches or (table.path_tables - {name}) & moved.keys():
                    await self._compute_table(table, moved, old, number)

    async def _take_batch(self, name: str) -> Batch:
        capture = self.sql.captures[name]
        row = await self.db.fetchrow(
            batch_sql.batch_sql(capture, size_of(self.waiting.tables[name])), *self.seen.arguments
        )
        batch = Batch(row["changes"], row["stamp"] or 0, row["moved"], row["old"], row["touched"])
        await self._analyse(Scratch(capture).batch, batch.changes)
        return batch

    async def _compute_table(self, table: TableSql, moved: dict[str, str], old: dict[str, str], number: int) -> None:
        name = table.synced.name
        batch, scratch = self.batches.get(name), Scratch(table.capture)
        count = await self._insert(batch_sql.affected_sql(table, batch.size if batch else 0, moved, old))
        if not count:
            return
        await self._analyse(scratch.affected, count)
        size = size_of(count)
        members = await self._insert(batch_sql.member_sql(table, size, old))
        await self._analyse(scratch.member, members)
        if await self.db.fetchval(batch_sql.has_long_sql(table.capture)):
            await self._leave_out_long(table)
        rows = await self.db.fetch(batch_sql.entries_sql(table, size), number, name)
        self.buckets.update(row[0] for row in rows)
        await self.db.execute(batch_sql.images_sql(table, size, self._stamps(table)), number, name)
        if batch and batch.touched:
            await self.db.execute(batch_sql.truths_sql(table, size), number, name)

    def _stamps(self, table: TableSql) -> str | None:
        batch = self.batches.get(table.synced.name)
        return fold_sql(table.capture, batch.size) if batch and table.capture.mask_columns else None

    async def _fold_raised(self, table: TableSql, number: int) -> None:
        """Of the changes of a table that is sent anew only the stamps count."""
        name = table.synced.name
        batch, stamps = self.batches.get(name), self._stamps(table)
        if batch and stamps:
            count = await self._insert(batch_sql.affected_sql(table, batch.size, {}, {}))
            await self._analyse(Scratch(table.capture).affected, count)
            if await self.db.fetchval(batch_sql.has_long_sql(table.capture)):
                await self._leave_out_long(table)
            await self.db.execute(batch_sql.images_sql(table, size_of(count), stamps), number, name)

    async def _leave_out_long(self, table: TableSql) -> None:
        for row in await self.db.fetch(batch_sql.too_long_sql(table.capture)):
            _log.warning(
                'the row %s… of "%s" is left out on all devices: its key, or its bucket\'s, is longer than the feed '
                "can hold.",
                row["key"],
                table.synced.name,
            )

    async def _empty_queues(self, dirty: Collection[str]) -> int:
        """Delete exactly what the snapshot showed; the answer: how many changes."""
        changes = 0
        for name in dirty:
            changes += await checkpoint_sql.take_out(self.db, self.sql.captures[name].changelog, self.seen)
        if self.waiting.markers:
            await checkpoint_sql.take_out(self.db, "syncline.marker", self.seen)
        if self.waiting.uploads:
            await checkpoint_sql.take_out(self.db, "syncline.upload", self.seen)
        return changes

    async def _insert(self, statement: str) -> int:
        return int((await self.db.execute(statement)).rpartition(" ")[2])

    async def _analyse(self, scratch: str, rows: int) -> None:
        if size_of(rows) is None:
            await self.db.execute(f"ANALYZE {scratch}")
