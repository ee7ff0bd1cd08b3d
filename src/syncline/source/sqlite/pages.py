"""The pages of a first sync, of newly granted buckets and of replaced tables.

A page is read in one short snapshot, with the grants and the memberships evaluated in it; a walk goes table by table
and in key order over all buckets at once, for a device that gets rows in key order writes them twice as fast. The
place where the next page goes on is a table and a key: nothing has to be kept here between two pages, though some of
it is, to save work (`listings`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from syncline.model.scopes import bucket_scope
from syncline.source.places import parse_page_place
from syncline.source.port import Claims, Cursor, Page, PageRows, PageSize, Survey, Walk
from syncline.source.room import Room
from syncline.source.sqlite.feed import FeedReader
from syncline.source.sqlite.layout import PlanSql, TableSql
from syncline.source.sqlite.listings import Listing, Listings, WantedBuckets
from syncline.source.sqlite.page_rows import RowsReader
from syncline.source.sqlite.walk_sql import WalkSql
from syncline.system.database import fetch_all
from syncline.values import Key, encode_row

WANTED_SHARE_MIN = 0.25
"""A table of whose rows fewer are wanted is no longer looked through: their keys are listed."""
BLOCKING_ROWS_MAX = 1_000
BLOCKING_BYTES_MAX = 256 * 1024
"""Of a page during which nobody can commit: it takes less than 20 ms."""
COUNT_STEPS = 2_000
"""How many instructions of SQLite's machine pass between two looks at the clock."""


class PageReader(FeedReader):
    def __init__(self, connection: sqlite3.Connection, sql: PlanSql, listings: Listings) -> None:
        super().__init__(connection, sql)
        self._listings = listings

    def read_page(self, claims: Claims, walk: Walk, place: str | None, known: Sequence[Cursor], size: PageSize) -> Page:
        with self._snapshot() as head:
            survey = self._survey(head, claims, known)
            at = parse_page_place(place, {name: table.synced.key for name, table in self._sql.tables.items()})
            if not survey.valid or at is None:
                return Page(Survey(head, valid=False), False, (), None)
            exact = not any(self._db.execute(self._sql.waiting).fetchone())
            start = walk.start or (head.term, head.checkpoint)
            walk = replace(walk, buckets=walk.buckets & survey.granted, held=walk.held & survey.granted, start=start)
            if self._listings.blocks_writers:
                size = PageSize(min(size.rows, BLOCKING_ROWS_MAX), min(size.bytes, BLOCKING_BYTES_MAX))
            room, rows = Room(size), list[PageRows]()
            first, after = at
            names = list(self._sql.tables)
            for name in names[names.index(first) :] if first else names:
                if room.is_taken:
                    return Page(survey, exact, tuple(rows), encode_row((name,)))
                reached = self._read_table(self._sql.tables[name], walk, start, after, room, rows)
                if reached is not None:
                    return Page(survey, exact, tuple(rows), encode_row((name, *reached)))
                after = None
            return Page(survey, exact, tuple(rows), None)

    def _wanted(self, walk: Walk, table: TableSql, start: Cursor) -> WantedBuckets | None:
        """The buckets whose rows of this table are wanted; None if no path leads to any of them."""
        buckets = walk.buckets | walk.held if table.synced.name in walk.replaced else walk.buckets
        scopes = {path.scope for path in table.synced.paths}
        if not any(bucket_scope(bucket) in scopes for bucket in buckets):
            return None
        return self._listings.wanted(buckets, start)

    def _read_table(
        self, table: TableSql, walk: Walk, start: Cursor, after: Key | None, room: Room, rows: list[PageRows]
    ) -> Key | None:
        """Appends rows after a key. The last key that was looked at, or None at the table's end."""
        wanted = self._wanted(walk, table, start)
        if wanted is None:
            return None
        listing = self._listing(table, wanted, room)
        sql = WalkSql(self._sql.plan, table.synced, wanted.tables, listing.name)
        bounds: tuple[object, ...] = (*(after or ()), room.rows - 1)
        found = fetch_all(self._db, sql.bound(is_first=after is None), bounds)
        last: Key | None = found[0] if found else None
        looked_at = room.rows
        reader = RowsReader(self._db, table, sql, wanted.places)
        stopped = reader.read(after, last, room, rows)
        room.rows -= looked_at if last else reader.count
        is_sparse = stopped is None and last and listing.name is None and reader.count < looked_at * WANTED_SHARE_MIN
        if is_sparse and not self._listings.blocks_writers:
            wanted.listings.pop(table.synced.name)
            self._listings.fill(wanted, table.synced)
        return stopped or last

    def _listing(self, table: TableSql, wanted: WantedBuckets, room: Room) -> Listing:
        name = table.synced.name
        if name not in wanted.listings:
            scopes = [self._sql.plan.scopes[path.scope] for path in table.synced.paths if path.scope in wanted.tables]
            if any(not scope.key for scope in scopes) or not self._listings.fill(wanted, table.synced, room.rows):
                wanted.listings[name] = Listing(None)
        return wanted.listings[name]

    # ------------------------------------------------------------ how many
    def count_rows(self, walk: Walk, seconds_max: float) -> int | None:
        """The count of a first page's walk; None if it takes longer."""
        if self._listings.blocks_writers:
            return None
        ends = monotonic() + seconds_max
        with self._snapshot() as head:
            start = walk.start or (head.term, head.checkpoint)
            self._db.set_progress_handler(lambda: monotonic() > ends, COUNT_STEPS)
            try:
                return sum(self._count(table, walk, start) for table in self._sql.tables.values())
            except sqlite3.OperationalError as error:
                if "interrupted" in str(error):
                    return None
                raise
            finally:
                self._db.set_progress_handler(None, 0)

    def _count(self, table: TableSql, walk: Walk, start: Cursor) -> int:
        wanted = self._wanted(walk, table, start)
        if wanted is None:
            return 0
        sql = WalkSql(self._sql.plan, table.synced, wanted.tables)
        return int(self._db.execute(f"SELECT count(*) FROM ({sql.distinct_keys()})").fetchone()[0])
