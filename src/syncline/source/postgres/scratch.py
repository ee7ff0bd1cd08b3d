"""The scratch tables that the sequencer's session has."""

from __future__ import annotations

import time
from collections.abc import Collection

import asyncpg

from syncline.source.postgres.batch_sql import Scratch
from syncline.source.postgres.layout import PlanSql
from syncline.source.postgres.troubles import blaming

XIDS_MAX = 10_000_000
LOOK_SECONDS = 60.0
_AGE = "SELECT max(age(relfrozenxid)) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('r', 't')"


class ScratchTables:
    """Of one session and one plan: each is made in the first cut that needs it, and stays if that is committed."""

    def __init__(self) -> None:
        self._looked_at = time.monotonic()
        self._made: set[str] = set()
        self._new: set[str] = set()

    async def drop_old(self, db: asyncpg.Connection) -> None:
        """Outside a transaction, looked at now and then: nobody but this session can freeze its tables, and until that
        is done the numbers of the whole database's transactions cannot be used again."""
        if not self._made or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        if (await db.fetchval(_AGE) or 0) <= XIDS_MAX:
            return
        await db.execute("DISCARD TEMP")
        self._made.clear()

    async def require(
        self, db: asyncpg.Connection, sql: PlanSql, dirty: Collection[str], stopped: Collection[str] = ()
    ) -> None:
        """Inside a cut of the `dirty` tables, which tells nothing of the `stopped` ones."""
        needed = {name for name, table in sql.tables.items() if not table.path_tables.isdisjoint(dirty)}
        self._new = needed - self._made - set(stopped)
        for name in sorted(self._new):
            with blaming(name):
                await db.execute(Scratch(sql.captures[name]).create_sql())

    def committed(self) -> None:
        self._made |= self._new
