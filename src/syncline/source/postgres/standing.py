"""Whether the captured tables still are what a plan was made for.

A migration of the company's may take several transactions, and between them a table may be missing, empty, or without
our triggers: what is computed or read then would reach devices as removed rows. So whoever reads rows takes ACCESS
SHARE locks before the snapshot: no table is rewritten between the look and the reading.

The sequencer compares everything, in its own snapshot. The others look at the versions of the catalogue's lines, which
costs a fraction, and compare everything only where one has moved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

from syncline.errors import SchemaChangedError, SourceBusyError
from syncline.model.scopes import Plan
from syncline.source.generations import grant_tables
from syncline.source.postgres.belongings import TableState, base_tables, read_states, view_oids
from syncline.source.postgres.capture import Capture, captures
from syncline.source.postgres.catalogue import queries
from syncline.source.postgres.connections import STATEMENT_SECONDS, Connections, milliseconds
from syncline.source.postgres.generations import read_gaps_apart
from syncline.source.postgres.names import table_sql
from syncline.source.postgres.troubles import Trouble, stopped_by
from syncline.source.postgres.watchdog import with_patience

T = TypeVar("T")
VIEWS = ""
"""Under this name stand all views that grants read through."""
LOCK_WAIT, LOCKS_WAIT = "100ms", "300ms"
"""How long a reader waits for one table, and for all of them: whoever wants to alter one that it has got already waits
behind it, and with them everybody else."""
_GONE = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)


class SchemaMovingError(SourceBusyError):
    """The company's schema is being changed; devices try again."""

    code = "schema_moving"


@dataclass(frozen=True)
class _Seen:
    """`base`: the tables that every capture leans on; `views`: the rules of views."""

    tables: Mapping[str, TableState]
    base: tuple[int, ...]
    views: str

    @property
    def members(self) -> list[int]:
        return sorted({oid for state in self.tables.values() for oid in state.members.values()})

    @property
    def relations(self) -> list[int]:
        changelogs = {state.ours[0] for state in self.tables.values() if state.ours[0]}
        return sorted({*self.members, *self.base, *changelogs})

    @property
    def composites(self) -> list[int]:
        return sorted({int(oid) for state in self.tables.values() for oid in state.contents.composites})

    @property
    def enums(self) -> list[int]:
        return sorted({int(key.split(":")[0]) for state in self.tables.values() for key in state.contents.labels})

    @property
    def functions(self) -> list[int]:
        return sorted({state.ours[1] for state in self.tables.values() if state.ours[1]})

    @property
    def triggers(self) -> list[int]:
        return sorted({trigger.oid for state in self.tables.values() for trigger in state.triggers})


class Standing:
    """Made when a plan is attached, with the schema as it is then. `lasting`: troubles of captured tables that end
    with another attachment; `aside`: of those that cuts have failed at since. Nothing is taken of these `broken`
    tables, and nothing read of what they lead to (`stopped`)."""

    def __init__(self, plan: Plan, seen: _Seen, views: list[int], lasting: Mapping[str, Trouble]) -> None:
        self._plan = plan
        self._captures: dict[str, Capture] = captures(plan)
        self._granting = frozenset({VIEWS, *grant_tables(plan)}) if any(plan.grant_reads.values()) else frozenset()
        self._seen = seen
        self._views = views
        self._versions: tuple[str, ...] = ()
        self._details: tuple[str, ...] = ()
        self._lasting = lasting
        self._aside: dict[str, Trouble] = {}
        self.elsewhere: dict[str, Trouble] = {}
        """What the active sequencer, perhaps another process, was last seen not to follow."""
        self._settle()

    def _settle(self) -> None:
        self.broken = frozenset({*self._lasting, *self._aside})
        self.stopped = stopped_by(self._plan, self.broken)

    @property
    def unread(self) -> frozenset[str]:
        """Tables of which nothing can be read for devices at the moment."""
        return self.stopped | stopped_by(self._plan, self.elsewhere) if self.elsewhere else self.stopped

    @property
    def aside(self) -> Iterable[str]:
        return tuple(self._aside)

    def troubles(self, *, elsewhere: bool) -> dict[str, Trouble]:
        """By table; with those that another process has met."""
        return {**(self.elsewhere if elsewhere else {}), **self._aside, **self._lasting}

    def set_aside(self, table: str, trouble: Trouble) -> None:
        self._aside[table] = trouble
        self._settle()

    def take_back(self, table: str) -> None:
        del self._aside[table]
        self._settle()

    @classmethod
    async def read(cls, db: asyncpg.Connection, plan: Plan, lasting: Mapping[str, Trouble] | None = None) -> Standing:
        views = await view_oids(db, plan)
        standing = cls(plan, await _look(db, captures(plan), views), views, lasting or {})
        standing._versions, standing._details = await standing._read_versions(db), await standing._read_details(db)
        return standing

    # ------------------------------------------------------------ locks
    def locks(self) -> str:
        """The statement that keeps every captured table and its partitions from being altered, and hinders nobody's
        reading or writing; empty where there is none. What this role may not read it may not lock either."""
        return self._lock_sql(self._captures)

    def _locks_for(self, *, rows: bool) -> str:
        if rows:
            return self.locks()
        return self._lock_sql(sorted(self._granting - {VIEWS}))

    def _lock_sql(self, tables: Iterable[str]) -> str:
        seen = self._seen.tables
        names = [
            table_sql(self._captures[name].table) for name in tables if seen[name].members and seen[name].is_readable
        ]
        return f"LOCK TABLE {', '.join(names)} IN ACCESS SHARE MODE" if names else ""

    # ------------------------------------------------------------ looking
    async def changed(self, db: asyncpg.Connection) -> frozenset[str]:
        """The captured tables (and VIEWS) that are other than they were: gone, altered, or their capture is."""
        return await self._moved(db, closely=True)

    async def _moved(self, db: asyncpg.Connection, *, closely: bool = False) -> frozenset[str]:
        """What else than columns, partitions and functions: those are looked at only `closely`."""
        versions = await self._read_versions(db)
        details = await self._read_details(db) if closely else self._details
        if (versions, details) == (self._versions, self._details):
            return frozenset()
        changed = await self._compare(db)
        if not changed:
            self._versions, self._details = versions, details
        return changed

    async def _compare(self, db: asyncpg.Connection) -> frozenset[str]:
        now, before = await _look(db, self._captures, self._views), self._seen
        if now.base != before.base:
            return frozenset(self._captures)
        changed = {name for name in self._captures if _is_other(now.tables.get(name), before.tables.get(name))}
        if now.views != before.views:
            changed.add(VIEWS)
        return frozenset(changed)

    async def _read_versions(self, db: asyncpg.Connection) -> tuple[str, ...]:
        seen = self._seen
        row = await db.fetchrow(
            queries("belongings.sql")["versions"], seen.relations, seen.triggers, self._views, seen.functions
        )
        return tuple(row or ())

    async def _read_details(self, db: asyncpg.Connection) -> tuple[str, ...]:
        seen = self._seen
        relations = [*seen.relations, *seen.composites]
        row = await db.fetchrow(queries("belongings.sql")["details"], relations, seen.functions, seen.enums)
        return tuple(row or ())

    async def require(self, db: asyncpg.Connection) -> None:
        """SchemaChangedError unless everything stands: what the sequencer looks at before it computes."""
        changed = await self.changed(db)
        if changed:
            what = f'"{max(changed)}"' if any(changed) else "A view"
            raise SchemaChangedError(
                f"{what} is other than when capture was installed.",
                hint="Checkpoints wait until capture fits the schema again.",
            )

    async def require_for_writing(self, db: asyncpg.Connection) -> None:
        """SchemaMovingError while an upload's writes might not be captured, or its SQL not fit."""
        if await self._moved(db):
            raise SchemaMovingError("The schema of the source is being changed.", hint="It is tried again.")

    async def require_for_reading(self, db: asyncpg.Connection, *, rows: bool) -> None:
        """SchemaMovingError while grants cannot be asked; with `rows`, while rows of the company's cannot be read.
        Looked at before the reading, under `locks`."""
        changed = await self._moved(db)
        if changed and (rows or changed & self._granting):
            raise SchemaMovingError("The schema of the source is being changed.", hint="It is tried again.")
        if await self.look_elsewhere(db):
            raise SchemaMovingError("The next checkpoint has to be taken first.", hint="It is tried again.")

    async def look_elsewhere(self, db: asyncpg.Connection) -> frozenset[str]:
        """See what the active sequencer does not follow. The answer: tables with a gap that it is about to take."""
        waiting, self.elsewhere = await read_gaps_apart(db, self.broken)
        return waiting

    async def reading(
        self, connections: Connections, work: Callable[[asyncpg.Connection], Awaitable[T]], *, rows: bool
    ) -> T:
        """What `work` reads in a snapshot in which everything that it needs stands."""

        async def attempt() -> T:
            locks = self._locks_for(rows=rows)
            limits = {"lock_timeout": LOCK_WAIT, "statement_timeout": LOCKS_WAIT} if locks else {}
            async with connections.snapshot(**limits) as db:
                try:
                    if locks:
                        await db.execute(f"{locks}; SET LOCAL statement_timeout = '{milliseconds(STATEMENT_SECONDS)}'")
                    async with connections.watchdog.guard(db) if locks or rows else contextlib.nullcontext():
                        await self.require_for_reading(db, rows=rows)
                        return await work(db)
                except _GONE as error:
                    raise SchemaMovingError(
                        "The schema of the source is being changed.", hint="It is tried again."
                    ) from error

        return await with_patience(attempt)


async def _look(db: asyncpg.Connection, wanted: Mapping[str, Capture], views: list[int]) -> _Seen:
    shared = await db.fetchrow(queries("belongings.sql")["shared"], views, list(base_tables()))
    assert shared is not None
    return _Seen(await read_states(db, wanted), tuple(shared["base"] or ()), shared["views"] or "")


def _is_other(now: TableState | None, before: TableState | None) -> bool:
    if now is None or before is None or now != before:
        return now is not before
    return now.contents.may_differ(before.contents) or not now.contents.is_within(before.contents)
