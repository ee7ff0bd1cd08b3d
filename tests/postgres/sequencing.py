"""A clinic with capture, sequencers on it, and what they leave in the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import asyncpg

from syncline.errors import SourceBusyError
from syncline.model.scope_config import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.model.scopes import Plan
from syncline.source.port import Checkpoint
from syncline.source.postgres.checkpoint_sql import LOCK_KEYS
from syncline.source.postgres.source import PostgresSource
from syncline.testing.plans import plan_for

T = TypeVar("T")
CLINIC = """
CREATE TABLE patients(id int PRIMARY KEY, name text, region text);
CREATE TABLE visits(id bigint PRIMARY KEY, patient_id int REFERENCES patients, status text, body text);
CREATE INDEX visits_of ON visits(patient_id);
CREATE TABLE medications(name text PRIMARY KEY, dose text);
INSERT INTO patients SELECT i, 'patient ' || i, 'north' FROM generate_series(1, 5) AS i;
INSERT INTO visits SELECT i, 1 + i % 5, 'open', 'words' FROM generate_series(1, 20) AS i;
"""
CASELOAD = PlanConfig(
    scopes=(
        ScopeConfig(
            name="caseload",
            root="patients",
            grant="SELECT id FROM patients",
            tables={"visits": TableConfig(links=(LinkConfig(parent="patients"),), where="status <> 'hidden'")},
        ),
        ScopeConfig(name="reference", tables={"medications": TableConfig()}, read_only=True),
    )
)
Line = tuple[str, str, str, str]
"""Bucket, table, key, op."""


def running(work: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        return await asyncio.wait_for(work, 120)

    return asyncio.run(limited())


class Clinic:
    """`host` is a session of the company's; `first` takes checkpoints in the term "first"."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._sources: list[PostgresSource] = []
        self._sessions: list[asyncpg.Connection] = []
        self.host: asyncpg.Connection
        self.first: PostgresSource
        self.plan: Plan

    async def __aenter__(self) -> Clinic:
        self.host = await self.session()
        await self.host.execute(CLINIC)
        self.first = PostgresSource(self.url)
        self._sources.append(self.first)
        self.plan = await plan_for(self.first, CASELOAD)
        await self.first.provision(self.plan)
        await self.first.attach(self.plan)
        assert await self.first.begin_term("first")
        while await self.cut():
            pass
        return self

    async def __aexit__(self, *failure: object) -> None:
        for source in self._sources:
            await source.close()
        for session in self._sessions:
            session.terminate() if session.is_in_transaction() else await session.close()

    async def session(self) -> asyncpg.Connection:
        self._sessions.append(await asyncpg.connect(self.url))
        return self._sessions[-1]

    async def another(self) -> PostgresSource:
        """One more process of the service."""
        source = PostgresSource(self.url)
        self._sources.append(source)
        await source.attach(self.plan)
        return source

    async def cut(self, source: PostgresSource | None = None, term: str = "first") -> Checkpoint | None:
        return await (source or self.first).take_checkpoint(term)

    async def settled(self, source: PostgresSource | None = None, term: str = "first") -> Checkpoint | None:
        """As the service's loop does: what is only busy is tried again."""
        while True:
            try:
                return await self.cut(source, term)
            except SourceBusyError:
                await asyncio.sleep(0.05)

    async def lines(self, checkpoint: int) -> set[Line]:
        rows = await self.host.fetch(
            "SELECT bucket, table_name, key, op::text FROM syncline.entry WHERE checkpoint = $1", checkpoint
        )
        return {tuple(row) for row in rows}

    async def head(self) -> int:
        return int(await self.host.fetchval("SELECT head FROM syncline.checkpoint"))

    async def waits(self, session: asyncpg.Connection, statement: str) -> Awaitable[Any]:
        """The statement, begun in that session, and waiting for a lock by now."""
        pid = session.get_server_pid()
        task = asyncio.ensure_future(session.execute(statement))
        while not await self.host.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
            assert not task.done(), "it did not have to wait"
            await asyncio.sleep(0.01)
        return task

    async def sequencer_pid(self) -> int:
        return int(
            await self.host.fetchval(
                "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1 AND l.objid = $2 "
                "AND d.datname = current_database()",
                *LOCK_KEYS,
            )
        )
