"""Statements that stay prepared on our own sessions, and companies that change their tables below them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from tests.postgres.conftest import HostDatabase

from syncline.errors import SourceBusyError
from syncline.source.postgres.connections import Connections

Work = Callable[[Connections], Awaitable[None]]


def on_one_session(database: HostDatabase, work: Work, *, pooler: bool = False) -> None:
    async def all_of_it() -> None:
        url = database.url
        connections = Connections(url, f"{url}&application_name=direct" if pooler else None, size=1)
        try:
            await work(connections)
        finally:
            await connections.close()

    asyncio.run(all_of_it())


async def prepared(connections: Connections) -> int:
    async with connections.snapshot() as db:
        return int(await db.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql"))


@pytest.mark.parametrize("alter", ["ALTER COLUMN name TYPE integer USING 7", "ADD COLUMN remark text"])
def test_a_statement_whose_table_was_altered_is_busy_once_and_then_prepared_anew(
    postgres: HostDatabase, alter: str
) -> None:
    """P15: whoever asked hears that it is tried again, never that somebody's data is at fault."""
    postgres.execute("CREATE TABLE patients(id integer, name text)")
    postgres.execute("INSERT INTO patients VALUES (1, 'Ada')")

    async def read(connections: Connections) -> asyncpg.Record:
        async with connections.snapshot() as db:
            return await db.fetchrow("SELECT * FROM patients")

    async def work(connections: Connections) -> None:
        assert (await read(connections))["name"] == "Ada"
        postgres.execute(f"ALTER TABLE patients {alter}")
        with pytest.raises(SourceBusyError) as caught:
            await read(connections)
        assert caught.value.error_code == SourceBusyError.code
        assert (await read(connections))[1] == (7 if "integer" in alter else "Ada")

    on_one_session(postgres, work)


def test_statements_are_prepared_once_where_no_pooler_stands_between(postgres: HostDatabase) -> None:
    async def work(connections: Connections) -> None:
        for _ in range(3):
            async with connections.snapshot() as db:
                assert await db.fetchval("SELECT $1::int + 1", 1) == 2
        assert await prepared(connections) == 2

    on_one_session(postgres, work)


def test_nothing_stays_prepared_where_a_pooler_stands_between(postgres: HostDatabase) -> None:
    async def work(connections: Connections) -> None:
        async with connections.snapshot() as db:
            assert await db.fetchval("SELECT $1::int + 1", 1) == 2
        assert await prepared(connections) <= 1  # the one that counts

    on_one_session(postgres, work, pooler=True)


@pytest.mark.parametrize("pooler", [False, True])
def test_settings_that_a_companys_function_leaves_behind_are_gone_in_the_next_transaction(
    postgres: HostDatabase, pooler: bool
) -> None:
    """P15: values keep their exact texts whatever a trigger or a grant's function sets for its session."""

    async def work(connections: Connections) -> None:
        async with connections.transaction() as db:
            await db.execute("SET timezone = 'Asia/Tokyo'; SET extra_float_digits = 0; SET row_security = on")
        async with connections.snapshot() as db:
            found = await db.fetchrow(
                "SELECT current_setting('timezone'), current_setting('extra_float_digits'), "
                "current_setting('row_security'), current_setting('lock_timeout'), current_setting('statement_timeout')"
            )
            assert tuple(found) == ("UTC", "1", "off", "800ms", "30s")

    on_one_session(postgres, work, pooler=pooler)
