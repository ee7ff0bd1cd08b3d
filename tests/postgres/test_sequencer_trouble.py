"""What hosts and servers may do to the sequencer, and it goes on. P2, P4."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.postgres.sequencing import Clinic, running

from syncline.source.postgres import scratch

ASLEEP = "SELECT asleep_until > clock_timestamp() FROM syncline.pulse"


def test_a_host_that_says_it_wrote_at_the_end_of_time_stops_nobody(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("INSERT INTO medications VALUES('a', '1')")
            assert await clinic.cut()
            await clinic.host.execute(
                "SET syncline.stamp = '9223372036854775807'; UPDATE medications SET dose = '2'; RESET syncline.stamp"
            )
            first = await clinic.cut()
            await clinic.host.execute("UPDATE medications SET dose = '3'")
            second = await clinic.cut()
            assert first
            assert second
            now_us = await clinic.host.fetchval("SELECT syncline.now_us()")
            assert first.head.time_us < second.head.time_us < now_us + 60_000_000

    running(story())


def test_a_stamp_from_the_future_moves_neither_the_head_nor_the_floor(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("INSERT INTO medications VALUES('a', '1')")
            await clinic.host.execute("UPDATE syncline.changelog_medications SET stamp = 9223372036854775807")
            found = await clinic.cut()
            assert found
            bound = await clinic.host.fetchval("SELECT syncline.now_us()") + 120_000_000
            assert found.head.time_us < bound
            assert await clinic.host.fetchval("SELECT floor_us FROM syncline.pulse") < bound
            await clinic.host.execute("UPDATE medications SET dose = '2'")
            assert await clinic.cut()

    running(story())


def test_nobody_rings_for_a_sequencer_that_has_ended(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            assert not await clinic.first.wait_for_change(2.5)
            assert await clinic.host.fetchval(ASLEEP)
            await clinic.first.end_term("first")
            assert not await clinic.host.fetchval(ASLEEP)

    running(story())


def test_the_sleep_of_one_that_has_died_comes_to_an_end(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            assert not await clinic.first.wait_for_change(2.5)
            left = "SELECT asleep_until < clock_timestamp() + interval '2 minutes' FROM syncline.pulse"
            assert await clinic.host.fetchval(left)

    running(story())


def test_a_cut_that_is_cancelled_leaves_no_transaction_behind(postgres: Any) -> None:
    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            other = await clinic.session()
            pid = await clinic.sequencer_pid()
            await other.execute("BEGIN; LOCK TABLE visits IN ACCESS EXCLUSIVE MODE")
            await clinic.host.execute("INSERT INTO medications VALUES('a', '1')")
            cut = asyncio.ensure_future(clinic.cut())
            blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0"
            while not await clinic.host.fetchval(blocked, pid):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            cut.cancel()
            await asyncio.wait([cut])
            state = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state LIKE 'idle in transaction%'"
            assert await clinic.host.fetchval(state, pid) == 0
            await other.execute("ROLLBACK")
            assert await clinic.settled()

    running(story())


def test_the_sequencers_own_tables_do_not_keep_the_database_from_being_frozen(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "XIDS_MAX", 1000)
    monkeypatch.setattr(scratch, "LOOK_SECONDS", 0.0)
    ages = "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND age(relfrozenxid) > 1000"

    async def story() -> None:
        async with Clinic(postgres.url) as clinic:
            await clinic.host.execute("INSERT INTO medications VALUES('a', '1'); UPDATE visits SET body = 'x'")
            assert await clinic.cut()
            await clinic.host.execute(
                "CREATE TABLE burnt(i int); DO $$ BEGIN FOR i IN 1..2000 LOOP BEGIN INSERT INTO burnt VALUES(i); "
                "EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$"
            )
            assert await clinic.host.fetchval(ages) > 0
            assert await clinic.cut() is None
            assert await clinic.host.fetchval(ages) == 0
            await clinic.host.execute("UPDATE medications SET dose = '2'; UPDATE visits SET body = 'y'")
            assert await clinic.cut()

    running(story())
