"""Forgetting on PostgreSQL: in short steps behind the sequencer's fence, and never in the way of a cut or of the host.

What devices see of it is in the contract suite (`contract_retention`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from tests.postgres.conftest import HostDatabase

from syncline.source.postgres.connections import Connections
from syncline.source.postgres.retention import SLICE_ROWS, Retention, read_horizon
from syncline.testing.world import VirtualClock

DAY_US = 86_400_000_000


class Feed:
    """Our tables with 2,000 entries of checkpoint 1, noted a day ago, and 500 of checkpoint 2, of now."""

    def __init__(self, database: HostDatabase) -> None:
        self.database = database
        self.retention = Retention(VirtualClock())
        database.execute(files("syncline.source.postgres").joinpath("tables.sql").read_text(encoding="utf-8"))
        database.execute(
            "INSERT INTO syncline.checkpoint VALUES(true, 'term', 2, 5, '0');"
            "INSERT INTO syncline.moment VALUES(1, 1);"
            "INSERT INTO syncline.entry SELECT 'b', 't', n::text, 'P', CASE WHEN n <= 2000 THEN 1 ELSE 2 END "
            "FROM generate_series(1, 2500) n;"
            "INSERT INTO syncline.row_state(table_name, key, checkpoint) VALUES('t', '1', 1), ('t', '2', 2);"
            "INSERT INTO syncline.truth VALUES('t', '1', '[]', 1), ('t', '2', '[]', 2);"
            "INSERT INTO syncline.device(device, owner, floor, seen_us) VALUES('about', 'ann', 1, 9), ('gone', 'ben', 0, 1);"
            "INSERT INTO syncline.outcome(device, number, at_us) VALUES('about', 1, 1), ('about', 2, 1), ('gone', 1, 1), "
            "('gone', 2, 7);"
            "INSERT INTO syncline.included VALUES('about', 2, 1), ('gone', 2, 1)"
        )

    def prune(self, term: str = "term", before_us: int = 3, steps_max: int = 1000) -> int:
        """How many steps it took."""

        async def run() -> int:
            connections = Connections(self.database.url)
            try:
                for number in range(steps_max):
                    async with connections.transaction() as db:
                        if not await self.retention.step(db, term, before_us):
                            return number
                return steps_max
            finally:
                await connections.close()

        return asyncio.run(run())

    def counts(self) -> list[Any]:
        tables = ("entry", "row_state", "truth", "outcome")
        return [self.database.execute(f"SELECT count(*) FROM syncline.{name}")[0][0] for name in tables]


@pytest.fixture
def feed(postgres: HostDatabase) -> Iterator[Feed]:
    yield Feed(postgres)


def horizon(feed: Feed) -> int:
    async def read() -> int:
        connections = Connections(feed.database.url)
        try:
            async with connections.snapshot() as db:
                return await read_horizon(db)
        finally:
            await connections.close()

    return asyncio.run(read())


def test_what_is_old_goes_in_several_steps_and_the_rest_stays(feed: Feed) -> None:
    assert feed.prune() > 2500 // (SLICE_ROWS * 8)
    assert feed.counts() == [500, 1, 1, 2]
    assert feed.database.execute("SELECT device, number FROM syncline.outcome ORDER BY 1, 2") == [
        ("about", 2),
        ("gone", 2),
    ]
    assert horizon(feed) == 1
    assert feed.database.execute("SELECT checkpoint FROM syncline.moment ORDER BY 1") == [(1,), (2,)]


def test_the_horizon_stands_before_anything_goes_and_never_falls_back(feed: Feed) -> None:
    feed.prune(steps_max=1)
    assert horizon(feed) == 1
    assert feed.counts() == [2500, 2, 2, 4]
    feed.database.execute("UPDATE syncline.meta SET value = '10' WHERE name = 'horizon'")
    feed.retention = Retention(VirtualClock())
    feed.prune(steps_max=1)
    assert horizon(feed) == 10


def test_another_sequencer_prunes_nothing(feed: Feed) -> None:
    assert feed.prune(term="another") == 0
    assert feed.counts() == [2500, 2, 2, 4]


def test_while_a_long_cut_is_taken_nothing_goes_and_nothing_fails(feed: Feed) -> None:
    """The fence is the cut's: a step comes back empty-handed, and the same rows are looked at again."""
    feed.prune(steps_max=1)
    cut = feed.database.connect()
    cut.execute("BEGIN; LOCK TABLE syncline.checkpoint IN EXCLUSIVE MODE")
    assert feed.prune(steps_max=2) == 2
    assert feed.counts() == [2500, 2, 2, 4]
    cut.execute("COMMIT")
    feed.prune()
    assert feed.counts() == [500, 1, 1, 2]


def test_a_cut_never_fails_for_a_row_that_is_forgotten_at_the_same_time(feed: Feed) -> None:
    """It takes its fence first and its snapshot afterwards, and so do we: who comes second sees what the first did."""
    feed.prune(steps_max=1)
    cut = feed.database.connect()
    cut.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE syncline.checkpoint IN EXCLUSIVE MODE")
    feed.prune(steps_max=1)
    cut.execute("UPDATE syncline.entry SET checkpoint = 3 WHERE key = '1'; COMMIT")
    feed.prune()
    assert feed.database.execute("SELECT checkpoint FROM syncline.entry WHERE key = '1'") == [(3,)]
    assert feed.counts()[0] == 501
