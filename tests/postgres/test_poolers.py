"""A session behind a pooler in transaction mode is the next client's after every COMMIT: nothing of ours stays in it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from tests.postgres.conftest import HostDatabase

from syncline.errors import ConfigError
from syncline.model.scopes import Scope
from syncline.source.postgres.claims import read_grant
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.reads import reads_of_filter, reads_of_query

TABLES = """
CREATE TYPE region AS ENUM ('north', 'south');
CREATE DOMAIN code AS integer CHECK (value > 0);
CREATE TABLE patients(id code PRIMARY KEY, region region, tags region[])
"""
QUERY = "SELECT region FROM patients WHERE region = :region AND tags IS NOT NULL"
SCOPE = Scope("regions", "patients", ("region",), QUERY, {}, frozenset(), ("patients",))
STATEMENTS = "SELECT name FROM pg_prepared_statements"
SETTINGS = "SELECT name FROM pg_settings WHERE source = 'session'"


async def must_be_empty(db: asyncpg.Connection, query: str) -> None:
    """By a message of the simple protocol, before which asyncpg does not tidy up."""
    await db.execute(
        f"DO $$BEGIN IF EXISTS ({query}) THEN RAISE EXCEPTION '%', (SELECT string_agg(name, ' ') FROM ({query}) q); "
        "END IF; END$$"
    )


@pytest.mark.parametrize("query", [STATEMENTS, SETTINGS], ids=["statements", "settings"])
def test_nothing_stays_in_a_session_behind_a_pooler(postgres: HostDatabase, query: str) -> None:
    """P15."""
    postgres.execute(TABLES)

    async def work() -> None:
        connections = Connections(postgres.tcp_url, postgres.url, size=1)
        try:
            async with connections.transaction() as db:
                await reads_of_query(db, QUERY)
                await reads_of_filter(db, "patients", "region = 'north'")
                await read_grant(db, SCOPE)
                await db.fetch("SELECT id, region, tags FROM patients WHERE region = $1", "north")
                with pytest.raises(ConfigError, match="it would write"):
                    await reads_of_query(db, "DELETE FROM patients RETURNING region")
                await db.execute("COMMIT")
                await must_be_empty(db, query)
                await db.execute("BEGIN")
        finally:
            await connections.close()

    asyncio.run(work())
