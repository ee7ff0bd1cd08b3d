"""What a paging connection keeps between the pages of a job, to save work: lists of wanted buckets, and of keys.

All of it may be lost at any time: the next page makes it anew, on this connection or on another one. A list of keys
says only which rows to look at; whether they are wanted is asked again in every page's own snapshot.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from syncline.model.identifiers import quote
from syncline.model.schema import Column
from syncline.model.scopes import SyncedTable, bucket_key, bucket_scope
from syncline.source.port import Cursor
from syncline.source.sqlite.layout import PlanSql
from syncline.source.sqlite.walk_sql import WalkSql, listing_sql
from syncline.system.database import execute

JOBS_KEPT_MAX = 8
"""Per connection. Temporary tables lie in a file, and SQLite's cache of them is small."""


@dataclass
class WantedBuckets:
    """`places[i]` is the bucket whose place is i; `tables` maps a scope to the temporary table of its buckets."""

    places: list[str]
    tables: dict[str, str]
    listings: dict[str, Listing] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """How the rows of one table are found. `name`: the list of their keys; None: the table itself is looked through."""

    name: str | None


class Listings:
    """One per connection and plan."""

    def __init__(self, connection: sqlite3.Connection, sql: PlanSql) -> None:
        self._db = connection
        self._sql = sql
        self._plan = sql.plan
        self._kept: OrderedDict[tuple[frozenset[str], Cursor], WantedBuckets] = OrderedDict()
        self._made = 0
        self.blocks_writers = connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal"
        """A rollback journal: while a page is read nobody commits. So pages are short, and keys are not listed."""
        stale = connection.execute("SELECT name FROM sqlite_temp_schema WHERE type = 'table'").fetchall()
        for (name,) in stale:
            connection.execute(f"DROP TABLE temp.{name}")

    def fits(self, connection: sqlite3.Connection, sql: PlanSql) -> bool:
        return connection is self._db and sql is self._sql

    def wanted(self, buckets: frozenset[str], start: Cursor) -> WantedBuckets:
        """A list of keys may serve any walk over the same buckets that saw the same head first, and no other: rows that
        came before a later head are in no entry that a later walk would look at."""
        known = self._kept.get((buckets, start))
        if known:
            self._kept.move_to_end((buckets, start))
            return known
        while len(self._kept) >= JOBS_KEPT_MAX:
            self._drop(self._kept.popitem(last=False)[1])
        made = self._kept[buckets, start] = self._make(buckets)
        return made

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"temp.syncline_{kind}_{self._made}"

    def _make(self, buckets: Iterable[str]) -> WantedBuckets:
        wanted = WantedBuckets(sorted(buckets), {})
        for place, bucket in enumerate(wanted.places):
            scope = self._plan.scopes.get(bucket_scope(bucket))
            key = bucket_key(bucket)
            if scope is None or len(key) != len(scope.key):
                continue
            if scope.name not in wanted.tables:
                name = wanted.tables[scope.name] = self._name("wanted")
                columns = [f"k_{index}" for index in range(1, len(scope.key) + 1)]
                kinds = [_type(self._plan.schema.table(scope.root or "").column(column)) for column in scope.key]
                typed = [f"{column} {kind}" for column, kind in zip(columns, kinds, strict=True)]
                self._db.execute(f"CREATE TEMP TABLE {_bare(name)}({', '.join([*typed, 'place INTEGER'])})")
                if columns:
                    self._db.execute(f"CREATE INDEX {name}_keys ON {_bare(name)}({', '.join(columns)}, place)")
            places = ", ".join(f"?{index}" for index in range(1, len(key) + 2))
            execute(self._db, f"INSERT INTO {wanted.tables[scope.name]} VALUES({places})", (*key, place))
        return wanted

    def fill(self, wanted: WantedBuckets, table: SyncedTable, rows_max: int | None = None) -> bool:
        """List the keys of a table; False if there are more than `rows_max`: then nothing is listed."""
        sql = WalkSql(self._plan, table, wanted.tables)
        if rows_max is not None:
            count = f"SELECT count(*) FROM (SELECT 1 FROM ({sql.keys()}) LIMIT ?1)"
            if self._db.execute(count, (rows_max + 1,)).fetchone()[0] > rows_max:
                return False
        name = self._name("keys")
        self._db.execute(listing_sql(name, [_type(table.table.column(column)) for column in table.key]))
        keys = ", ".join(str(index) for index in range(1, len(table.key) + 1))
        self._db.execute(f"INSERT OR IGNORE INTO {name} {sql.distinct_keys()} ORDER BY {keys}")
        wanted.listings[table.name] = Listing(name)
        return True

    def _drop(self, wanted: WantedBuckets) -> None:
        lists = [listing.name for listing in wanted.listings.values() if listing.name]
        for name in (*wanted.tables.values(), *lists):
            self._db.execute(f"DROP TABLE {name}")


def _bare(name: str) -> str:
    return name.removeprefix("temp.")


def _type(column: Column) -> str:
    collation = f" COLLATE {quote(column.collation)}" if column.collation else ""
    return (quote(column.type) if column.type else "") + collation
