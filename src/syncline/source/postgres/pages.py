"""The pages of a first sync, of newly granted buckets and of replaced tables.

A page is read in one short snapshot, with the grants and the memberships evaluated in it; a walk goes table by table
and in key order over all buckets at once, for a device that gets rows in key order writes them twice as fast. The
place where the next page goes on is a table and a key: nothing has to be kept here between two pages, though some of
it is, to save work (`listings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

import asyncpg

from syncline.errors import SourceBusyError
from syncline.source.places import parse_page_place
from syncline.source.port import Claims, Cursor, Page, PageRows, PageSize, Survey, Walk
from syncline.source.postgres.attempts import attempted, castable, is_checked
from syncline.source.postgres.feed import FeedReader
from syncline.source.postgres.layout import PlanSql, TableSql
from syncline.source.postgres.listings import KEYS_LISTED_MAX, Job, Listing
from syncline.source.postgres.page_rows import RowsReader
from syncline.source.postgres.types import bind, value_of
from syncline.source.postgres.walk_sql import Statement, WalkSql, key_columns, waiting_sql
from syncline.source.room import Room
from syncline.values import Key, encode_row, key_of_text

WANTED_SHARE_MIN = 0.25
"""A table of whose rows fewer are wanted is no longer looked through: their keys are listed."""
_WHOLE = "SET LOCAL cursor_tuple_fraction = 1"
"""A page's cursor is read to its end: a plan that is quick to begin compared every row with every wanted bucket."""
_LOOKUPS = f"{_WHOLE}; SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off"
"""Where an index leads each step of the way, statistics that are not true cannot make a scan of it."""
_FREE = f"{_WHOLE}; SET LOCAL enable_seqscan = on; SET LOCAL enable_mergejoin = on"


class PageReader(FeedReader):
    """`stopped`: tables that cannot be followed at the moment. New buckets come without them, for they come whole when
    their capture is put back; nobody's rows are replaced by nothing."""

    def __init__(self, db: asyncpg.Connection, sql: PlanSql, stopped: frozenset[str] = frozenset()) -> None:
        super().__init__(db, sql)
        self._stopped = stopped
        self._reader = RowsReader(db)
        self._planned = ""

    async def read_page(
        self, claims: Claims, walk: Walk, place: str | None, known: Sequence[Cursor], size: PageSize
    ) -> Page:
        standing = await self._standing(known)
        at = parse_page_place(place, {name: table.synced.key for name, table in self._sql.tables.items()})
        if not standing.knows or at is None or not await self._is_key(*at):
            return Page(Survey(standing.head, valid=False), False, (), None)
        survey = await self._survey(standing, claims)
        exact = not await self._db.fetchval(waiting_sql([each.changelog for each in self._sql.captures.values()]))
        head = standing.head
        start = walk.start or (head.term, head.checkpoint)
        walk = replace(walk, buckets=walk.buckets & survey.granted, held=walk.held & survey.granted, start=start)
        room, rows = Room(size), list[PageRows]()
        first, after = at
        names = list(self._sql.tables)
        for name in names[names.index(first) :] if first else names:
            if room.is_taken:
                return Page(survey, exact, tuple(rows), encode_row((name,)))
            reading = self._reading(self._sql.tables[name], walk, room, rows)
            reached = await reading.read(after, size.rows) if reading else None
            if reached is not None:
                return Page(survey, exact, tuple(rows), encode_row((name, *reached)))
            after = None
        return Page(survey, exact, tuple(rows), None)

    async def _is_key(self, name: str | None, key: Key | None) -> bool:
        """Whether a place's key is one of its table's."""
        if name is None or key is None:
            return True
        columns = key_columns(self._sql.tables[name].synced.table)
        try:
            bound = [(bind(column, value), column) for column, value in zip(columns, key, strict=True)]
        except ValueError:
            return False
        unsure = [
            (text, column.base) for text, column in bound if isinstance(text, str) and not is_checked(column.kind)
        ]
        return await castable(self._db, [text for text, _ in unsure], [base for _, base in unsure])

    def _reading(self, table: TableSql, walk: Walk, room: Room, rows: list[PageRows]) -> _TableReading | None:
        """None if no path leads to any bucket of which this table's rows are wanted."""
        name = table.synced.name
        if name in self._stopped:
            if name in walk.replaced:
                raise SourceBusyError(
                    f'"{name}", or what it hangs on, cannot be followed.',
                    hint="Run: syncline doctor",
                    code="schema_moving",
                )
            return None
        buckets = walk.buckets | walk.held if name in walk.replaced else walk.buckets
        job = self._sql.jobs.job(self._sql.plan, buckets, walk.start or ("", 0))
        sql = WalkSql(self._sql.plan, table.synced, job.wanted)
        return _TableReading(self, table, sql, job, room, rows) if sql.paths else None

    async def plan_for(self, sql: WalkSql) -> None:
        """Lookups, where they are possible."""
        wanted = _LOOKUPS if sql.is_indexed else _FREE
        if wanted != self._planned:
            await self._db.execute(wanted)
            self._planned = wanted

    # ------------------------------------------------------------ how many
    async def count_rows(self, walk: Walk, seconds_max: float) -> int | None:
        """The count of a first page's walk; None if it takes longer."""
        ends = monotonic() + seconds_max
        total = 0
        for table in self._sql.tables.values():
            reading = self._reading(table, walk, Room(PageSize(0, 0)), [])
            counted = await self._count(reading.sql, ends - monotonic()) if reading else 0
            if counted is None:
                return None
            total += counted
        return total

    async def _count(self, sql: WalkSql, seconds: float) -> int | None:
        if seconds <= 0:
            return None
        statement = Statement()
        query = sql.count(statement, None)

        async def count() -> int:
            await self._db.execute(f"SET LOCAL statement_timeout = {max(int(seconds * 1000), 1)}")
            return int(await self._db.fetchval(query, *statement.given))

        return await attempted(self._db, count, lambda error: isinstance(error, asyncpg.QueryCanceledError))


class _TableReading:
    """One table's part of a page."""

    def __init__(
        self, page: PageReader, table: TableSql, sql: WalkSql, job: Job, room: Room, rows: list[PageRows]
    ) -> None:
        self._page = page
        self._db = page._db
        self._table = table
        self._name = table.synced.name
        self.sql = sql
        self._job = job
        self._room = room
        self._rows = rows

    async def read(self, after: Key | None, page_rows: int) -> Key | None:
        """Appends rows after a key. The last key that was looked at, or None at the table's end. `()`: none yet."""
        await self._page.plan_for(self.sql)
        if self._name not in self._job.listings:
            if not self.sql.has_whole_scope and await self._are_few(after):
                return await self._read_all(after)
            self._job.listings[self._name] = None
        listing = self._job.listings[self._name]
        if listing is None:
            return await self._read_range(after, page_rows)
        return await self._read_listed(listing, after, page_rows)

    async def _are_few(self, after: Key | None) -> bool:
        """Whether all that is wanted has room in this page."""
        statement = Statement()
        query = self.sql.count(statement, after, self._room.rows + 1)
        return bool(await self._db.fetchval(query, *statement.given) <= self._room.rows)

    async def _read_all(self, after: Key | None) -> Key | None:
        statement = Statement()
        stopped, count = await self._take(self.sql.all_rows(statement, after), statement)
        self._room.rows -= count
        return stopped

    async def _take(self, query: str, statement: Statement) -> tuple[Key | None, int]:
        """The last key before the room was taken, if it was; and how many rows came."""
        framing = await self._page._reader.read(self._table, self._job.wanted, query, statement, self._room, self._rows)
        return framing.reached if framing.is_stopped else None, framing.count

    # ------------------------------------------------------------ a range of the table
    async def _read_range(self, after: Key | None, page_rows: int) -> Key | None:
        statement, looked_at = Statement(), self._room.rows
        found = await self._db.fetchrow(self.sql.bound(statement, after, looked_at), *statement.given)
        last = self._key(found) if found else None
        statement = Statement()
        stopped, count = await self._take(self.sql.in_range(statement, after, last, looked_at), statement)
        self._room.rows -= looked_at if last else count
        if stopped is None and last and not self.sql.has_whole_scope and count < looked_at * WANTED_SHARE_MIN:
            await self._list(last, page_rows)
        return stopped or last

    def _key(self, row: Sequence[object]) -> Key:
        menders = [value_of(column) for column in key_columns(self._table.synced.table)]
        return tuple([mend(value) if mend else value for mend, value in zip(menders, row, strict=True)])  # type: ignore[misc]

    # ------------------------------------------------------------ listed keys
    async def _list(self, after: Key | None, page_rows: int) -> Listing:
        statement = Statement()
        query = self.sql.listing(statement, after, page_rows, KEYS_LISTED_MAX)
        listing = Listing(self._name, after, await self._db.fetch(query, *statement.given))
        self._page._sql.jobs.keep(self._job, self._name, listing)
        return listing

    async def _read_listed(self, listing: Listing, after: Key | None, page_rows: int) -> Key | None:
        number = listing.find(after)
        if number is None:  # another process gave that place out, or this one before it listed anew
            listing, number = await self._list(after, page_rows), 0
        while number < len(listing.lists):
            keys = listing.lists[number]
            if keys.size > self._room.rows and self._room.rows < page_rows:
                return after or ()
            statement, framed = Statement(), len(self._rows)
            stopped, _ = await self._take(self.sql.of_keys(statement, keys.keys, after), statement)
            for rows in self._rows[framed:]:
                listing.note(_key_of(rows), number)
            self._room.rows -= keys.size
            if stopped:
                listing.note(stopped, number)
                return stopped
            number, after = number + 1, keys.last
            listing.note(after, number)
            if self._room.is_taken and (number < len(listing.lists) or not listing.is_whole):
                return after
        return None if listing.is_whole else after


def _key_of(rows: PageRows) -> Key:
    """The last key of a frame."""
    return key_of_text(rows.place)[1:]
