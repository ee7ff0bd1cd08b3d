"""Filters and grants that the database took when the service began, and does not take now."""

from __future__ import annotations

import asyncio

from syncline.errors import ConfigError, SchemaChangedError
from syncline.model.scopes import Plan
from syncline.source.postgres.claims import grant_parameters
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.reads import reads_of_filter, reads_of_query

LOOK_SECONDS = 5.0


class Unfit:
    """What `plan` was made without. Not every remedy shows in the schema, so they are tried now and then."""

    def __init__(self, connections: Connections, plan: Plan | None = None) -> None:
        self._connections = connections
        self._filters = {name: _filters(plan, name) for name in plan.unfit} if plan else {}
        self._grants = [plan.scopes[name].grant or "" for name in plan.unfit_grants] if plan else []
        self._due: float | None = None

    async def look(self) -> None:
        """SchemaChangedError where one works again: it is time for another plan."""
        now = asyncio.get_running_loop().time()
        if not (self._filters or self._grants) or (self._due is not None and now < self._due):
            return
        is_new, self._due = self._due is None, now + LOOK_SECONDS
        if is_new:
            return
        for table, filters in self._filters.items():
            if all([await self._works(table, where) for where in filters]):
                raise SchemaChangedError(f'The filter of "{table}" works again.', hint="It is served anew.")
        for grant in self._grants:
            if await self._works(None, grant):
                raise SchemaChangedError("A grant works again.", hint="It is served anew.")

    async def _works(self, table: str | None, query: str) -> bool:
        try:
            async with self._connections.transaction() as db:
                if table is None:
                    await reads_of_query(db, query, grant_parameters(query))
                else:
                    await reads_of_filter(db, table, query)
        except ConfigError:
            return False
        return True


def _filters(plan: Plan, table: str) -> list[str]:
    return [scope.filters[table] for scope in plan.scopes.values() if table in scope.filters]
