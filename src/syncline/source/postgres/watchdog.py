"""Giving way to the host: what reads rows of the company's holds ACCESS SHARE locks, and an ALTER TABLE that waits for
one makes everybody behind it wait.

While a guarded piece of work runs, a second session looks whether anybody waits for it at a table of the company's;
then it is cancelled, and whoever asked for it tries again with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import asyncpg

from syncline.errors import SourceBusyError, SourceError
from syncline.log import logger
from syncline.source.postgres.trouble import is_trouble

T = TypeVar("T")
LOOK_SECONDS = 0.15
END_SECONDS = 2.0
PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Between attempts; after the last one the caller hears of it."""

_BLOCKED = """
SELECT EXISTS(
  SELECT FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
  WHERE NOT l.granted AND l.locktype = 'relation'
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND c.relnamespace <> coalesce(to_regnamespace('syncline')::oid, 0)
    AND $1::int = ANY(pg_catalog.pg_blocking_pids(l.pid)))
"""
_log = logger("source")


class GaveWayError(SourceBusyError):
    """Somebody waited for this piece of work; it was rolled back, and may be tried again."""

    code = "source_busy"


class Watchdog:
    """One session for all guarded work of this process, opened when a piece of it first takes long."""

    def __init__(self, connect: Callable[..., Awaitable[asyncpg.Connection]]) -> None:
        """`connect` opens a session of its own, with the settings that it is given."""
        self._connect = connect
        self._session: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def guard(self, db: asyncpg.Connection, pid: int | None = None) -> AsyncIterator[None]:
        """Around the statements of one transaction on `db`. GaveWayError where it was cancelled for somebody's sake.
        `pid`: of the session, where it is known; it is asked for otherwise, for a pooler does not tell it."""
        if pid is None:
            pid = await db.fetchval("SELECT pg_backend_pid()")
        watch = _Watch()
        task = asyncio.create_task(self._watch(pid, watch))
        try:
            yield
        except (asyncpg.QueryCanceledError, SourceBusyError) as error:
            if watch.gave_way:
                raise GaveWayError("Another session waits for a table that was being read.") from error
            raise
        finally:
            watch.over.set()
            with contextlib.suppress(asyncio.TimeoutError):  # a look under way ends: it may have cancelled already
                await asyncio.wait_for(task, END_SECONDS)

    async def _watch(self, pid: int, watch: _Watch) -> None:
        while not await watch.ends_within(LOOK_SECONDS):
            try:
                await self._look(pid, watch)
            except SourceError as error:
                _log.warning("it cannot be seen who waits for the service's reads: %s", error)

    async def _look(self, pid: int, watch: _Watch) -> None:
        async with self._turn:
            try:
                if self._session is None or self._session.is_closed():
                    self._session = await self._connect(statement_timeout="5s")
                if await self._session.fetchval(_BLOCKED, pid) and not watch.over.is_set():
                    watch.gave_way = True
                    await self._session.execute("SELECT pg_cancel_backend($1)", pid)
            except Exception as error:
                if not is_trouble(error):
                    raise
                await self._drop()
                _log.debug("the watchdog's session was lost: %s", error)

    async def close(self) -> None:
        async with self._turn:
            await self._drop()

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(Exception):
                await session.close(timeout=1)


class _Watch:
    def __init__(self) -> None:
        self.gave_way = False
        self.over = asyncio.Event()

    async def ends_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self.over.wait(), seconds)
        except TimeoutError:
            return False
        return True


async def with_patience(attempt: Callable[[], Awaitable[T]]) -> T:
    """`attempt` until it neither meets a lock nor has to give way; SourceBusyError when that has failed too often."""
    for pause in PAUSES_SECONDS:
        try:
            return await attempt()
        except SourceBusyError as error:
            if error.error_code != SourceBusyError.code:
                raise  # the database is not there, or full: no matter of patience
        await asyncio.sleep(pause)
    return await attempt()
