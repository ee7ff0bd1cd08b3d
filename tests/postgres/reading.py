"""A company's tables and our own, without capture: the feed is what a test writes into it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from typing import Any, TypeVar

import asyncpg
from tests.postgres.conftest import HostDatabase

from syncline.model.resolving import resolve
from syncline.model.scopes import Plan, PlanConfig
from syncline.source.port import Page, PageSize, Walk
from syncline.source.postgres import reads
from syncline.source.postgres.capture import changelog_sql
from syncline.source.postgres.claims import granted_in
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.delta import DeltaReader
from syncline.source.postgres.feed import FeedReader
from syncline.source.postgres.introspect import introspect
from syncline.source.postgres.laps import LapReader
from syncline.source.postgres.layout import PlanSql, build_plan_sql
from syncline.source.postgres.pages import PageReader
from syncline.values import decode_row

T = TypeVar("T")
TERM = "term-1"


class Reading:
    """`statements` make the company's tables. `run` gives a work one snapshot, as the source does."""

    def __init__(self, database: HostDatabase, statements: Iterable[str], config: PlanConfig) -> None:
        self.database = database
        self._runner = asyncio.Runner()
        self._connections = Connections(database.url)
        try:
            self._make(statements, config)
        except BaseException:
            self.close()
            raise

    def _make(self, statements: Iterable[str], config: PlanConfig) -> None:
        database = self.database
        for statement in statements:
            database.execute(statement)
        database.execute(files("syncline.source.postgres").joinpath("tables.sql").read_text(encoding="utf-8"))
        self.plan: Plan = self.run(lambda db: self._plan(db, config), in_snapshot=False)
        self.sql = self.attach()
        for capture in self.sql.captures.values():
            database.execute(changelog_sql(capture))
        database.execute("INSERT INTO syncline.term VALUES('lost', 0, 0), (%s, 0, NULL)", (TERM,))
        database.execute("INSERT INTO syncline.checkpoint VALUES(true, %s, 0, 0, '3')", (TERM,))

    @staticmethod
    async def _plan(db: asyncpg.Connection, config: PlanConfig) -> Plan:
        grants = {scope.name: await reads.reads_of_query(db, scope.grant) for scope in config.scopes if scope.grant}
        filters = {
            (table, member.where): await reads.reads_of_filter(db, table, member.where)
            for scope in config.scopes
            for table, member in scope.tables.items()
            if member.where
        }
        return resolve(config, await introspect(db), grants, filters)

    def attach(self) -> PlanSql:
        """As another process would."""
        self.sql = build_plan_sql(self.plan, dict.fromkeys(self.plan.tables, 1))
        return self.sql

    def run(self, work: Callable[[asyncpg.Connection], Awaitable[T]], *, in_snapshot: bool = True) -> T:
        async def in_transaction() -> T:
            opened = self._connections.snapshot() if in_snapshot else self._connections.transaction()
            async with opened as db:
                return await work(db)

        return self._runner.run(in_transaction())

    def close(self) -> None:
        self._runner.run(self._connections.close())
        self._runner.close()

    # ------------------------------------------------------------ what a sequencer would do
    def checkpoint(self, *entries: tuple[str, str, str, str, str | None]) -> int:
        """Bucket, table, operation, key, image. The new head."""
        head: int = self.database.execute("UPDATE syncline.checkpoint SET head = head + 1 RETURNING head")[0][0]
        for bucket, table, op, key, image in entries:
            self.database.execute(
                "INSERT INTO syncline.entry VALUES(%s, %s, %s, %s, %s) "
                "ON CONFLICT(bucket, table_name, key) DO UPDATE SET op = excluded.op, checkpoint = excluded.checkpoint",
                (bucket, table, key, op, head),
            )
            if image is not None:
                self.database.execute(
                    "INSERT INTO syncline.row_state VALUES(%s, %s, 1, %s, '', %s) "
                    "ON CONFLICT(table_name, key) DO UPDATE SET image = excluded.image",
                    (table, key, image, head),
                )
        return head

    # ------------------------------------------------------------ reading
    def granted(self, **claims: Any) -> frozenset[str]:
        return self.run(lambda db: FeedReader(db, self.sql).granted(claims))

    def granted_in(self, scope: str, **claims: Any) -> frozenset[str]:
        return self.run(lambda db: granted_in(db, self.sql, self.plan.scopes[scope], claims))

    def feed(self, work: Callable[[FeedReader], Awaitable[T]]) -> T:
        return self.run(lambda db: work(FeedReader(db, self.sql)))

    def lap(self, work: Callable[[LapReader], Awaitable[T]]) -> T:
        return self.run(lambda db: work(LapReader(db, self.sql)))

    def delta(self, work: Callable[[DeltaReader], Awaitable[T]]) -> T:
        return self.run(lambda db: work(DeltaReader(db, self.sql)))

    def page(self, claims: dict[str, Any], walk: Walk, place: str | None, size: PageSize) -> Page:
        return self.run(lambda db: PageReader(db, self.sql).read_page(claims, walk, place, (), size))

    def count(self, walk: Walk, seconds: float = 10.0) -> int | None:
        return self.run(lambda db: PageReader(db, self.sql).count_rows(walk, seconds))

    def walk(
        self, claims: dict[str, Any], buckets: Iterable[str], size: PageSize, *, anew: bool = False
    ) -> list[tuple[str, tuple[Any, ...], frozenset[str]]]:
        """Every row of a whole walk in the order in which they come: table, values, buckets. `anew`: each page is read
        by another process."""
        walk, place, found = Walk(frozenset(buckets)), None, []
        while True:
            if anew:
                self.attach()
            page = self.page(claims, walk, place, size)
            assert page.survey.valid
            for rows in page.rows:
                found += rows_of(rows)
            walk = Walk(frozenset(buckets), start=(page.survey.head.term, page.survey.head.checkpoint))
            assert page.next is None or page.next != place, "the walk stands still"
            place = page.next
            if place is None:
                return found


def rows_of(rows: Any) -> list[tuple[str, tuple[Any, ...], frozenset[str]]]:
    found = []
    for number, image in enumerate(json.loads(rows.images)):
        places = rows.of[number] if rows.of is not None else 0
        places = places if isinstance(places, tuple) else (places,)
        found.append((rows.table, decode_row(image), frozenset(rows.buckets[place] for place in places)))
    assert len(found) == rows.count
    return found
