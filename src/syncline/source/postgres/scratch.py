"""The scratch tables that the sequencer's session has."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from syncline.source.postgres.batch_sql import Scratch
from syncline.source.postgres.layout import PlanSql


class ScratchTables:
    """Of one session and one plan: each is made in the first cut that needs it, and stays if that is committed."""

    def __init__(self) -> None:
        self._made: set[str] = set()
        self._new: set[str] = set()

    async def require(self, db: asyncpg.Connection, sql: PlanSql, dirty: Collection[str]) -> None:
        """Inside a cut of these tables."""
        needed = {name for name, table in sql.tables.items() if not table.path_tables.isdisjoint(dirty)}
        self._new = needed - self._made
        statements = [Scratch(sql.captures[name]).create_sql() for name in sorted(self._new)]
        if statements:
            await db.execute(";".join(statements))

    def committed(self) -> None:
        self._made |= self._new
