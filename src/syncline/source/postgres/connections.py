"""The connections to a PostgreSQL database.

Reads and uploads borrow a pooled connection for one transaction. Where `direct_url` says that a pooler stands between,
every transaction may meet another session, so nothing is relied upon but what its first message sets. Without one the
sessions are ours: they begin with our settings, and keep the statements that they have prepared. What needs a session
of its own (the sequencer, provisioning, LISTEN) goes to the database directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import asyncpg
from asyncpg.exceptions import InterfaceError, PostgresError

from syncline.errors import SourceBusyError
from syncline.source.postgres.trouble import is_connection_lost, is_trouble, source_error
from syncline.source.postgres.watchdog import Watchdog

POOL_MAX = 12
"""Pooled connections of one process."""
ACQUIRE_SECONDS = 10.0
CONNECT_SECONDS = 5.0
ROLLBACK_SECONDS = 5.0
IDLE_SECONDS = 60.0
"""A pooled connection that nobody wants for so long is closed."""

STATEMENTS_KEPT = 300
"""Prepared on one connection, where no pooler stands between."""

STATEMENT_SECONDS = 30.0
UPLOAD_STATEMENT_SECONDS = 5.0
"""One statement of an upload, whatever rules of the company's it sets off: hosts wait for the rows it has locked."""
DIRECT_STATEMENT_SECONDS = 600.0
"""One statement of `provision` or `migrate`; the longest indexes a queue of ours."""
LOCK_SECONDS = 0.8
"""Below PostgreSQL's deadlock_timeout of 1 s: of us and a host that wait for each other it is we who give way."""
STANDSTILL_SECONDS = 30.0
"""A transaction of ours in which nothing is asked for so long is ended: whoever held it is gone, or stopped."""

EXACT = {
    "row_security": "off",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "jit": "off",
}
"""Settings by which values have one exact text; no policy hides rows from us; and no statement of a few milliseconds is
compiled for a hundred."""

_BEGINNINGS = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
}
"""Of sessions of our own: what a BEGIN that says nothing means, whatever the database or the role has."""

_LIMITS = {
    "statement_timeout": f"{int(STATEMENT_SECONDS * 1000)}ms",
    "lock_timeout": f"{int(LOCK_SECONDS * 1000)}ms",
    "idle_in_transaction_session_timeout": f"{int(STANDSTILL_SECONDS * 1000)}ms",
}

_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
_SERVER_KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}
_SESSION = {**EXACT, **_BEGINNINGS, **_SERVER_KEEPALIVE, **_LIMITS}


_OURS = (
    "SELECT pg_catalog.set_config('syncline.home', pg_catalog.current_schema(), {local}), "
    "pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', {local})"
)
"""Statements of ours find nothing that somebody else has put in their way: whoever may create functions or operators in
a schema of the role's search_path would have them run with its rights. `syncline.home` tells which schema is the
company's own."""


async def keep_to_ours(session: asyncpg.Connection) -> None:
    """From now on nothing of the company's is found without its schema."""
    await session.execute(_OURS.format(local=False))


def milliseconds(seconds: float) -> str:
    return f"{int(seconds * 1000)}ms"


class Connections:
    """`url` may lead to a pooler in transaction mode; `direct_url` then names the database itself. Opened when first
    used, in the event loop that uses it. `watchdog` guards what reads the company's rows."""

    def __init__(self, url: str, direct_url: str | None = None, *, size: int = POOL_MAX) -> None:
        self._url = url
        self._direct_url = direct_url or url
        self._has_pooler = direct_url is not None and direct_url != url
        self._size = size
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self.watchdog = Watchdog(self.direct)

    @contextlib.asynccontextmanager
    async def snapshot(self, **settings: str) -> AsyncIterator[asyncpg.Connection]:
        """REPEATABLE READ, READ ONLY: the first statement takes the snapshot. SourceError and its kin for whatever the
        database says. `settings` hold for this transaction, as in `transaction`."""
        async with self._begun("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", settings) as db:
            yield db

    @contextlib.asynccontextmanager
    async def catalogue(self, **settings: str) -> AsyncIterator[asyncpg.Connection]:
        """As `snapshot`, for statements that name no table or function of the company's without its schema."""
        ours = _OURS.format(local=True)
        async with self._begun("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", settings, ours) as db:
            yield db

    @contextlib.asynccontextmanager
    async def transaction(self, **settings: str) -> AsyncIterator[asyncpg.Connection]:
        """READ COMMITTED: committed at the end, rolled back on error. What is the data's fault comes as asyncpg has
        it, also out of COMMIT; all else as SourceError. Savepoints are the caller's own statements."""
        async with self._begun("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", settings) as db:
            yield db

    async def direct(self, **settings: str) -> asyncpg.Connection:
        """A session of its own, which the caller closes. `settings` (`statement_timeout="5s"`) hold for the session."""
        wanted = {
            "application_name": "syncline",
            **EXACT,
            **_BEGINNINGS,
            **_SERVER_KEEPALIVE,
            "lock_timeout": milliseconds(LOCK_SECONDS),
            "statement_timeout": milliseconds(DIRECT_STATEMENT_SECONDS),
            "idle_in_transaction_session_timeout": milliseconds(STANDSTILL_SECONDS),
            **settings,
        }
        try:
            connection: asyncpg.Connection = await asyncpg.connect(
                self._direct_url, timeout=CONNECT_SECONDS, server_settings=wanted
            )
        except Exception as error:
            if is_trouble(error):
                raise source_error(error) from error
            raise
        _keep_alive(connection)
        return connection

    async def close(self) -> None:
        await self.watchdog.close()
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), ROLLBACK_SECONDS)
        except (TimeoutError, OSError, PostgresError, InterfaceError):
            pool.terminate()

    # ------------------------------------------------------------ pooled transactions
    @contextlib.asynccontextmanager
    async def _begun(
        self, begin: str, settings: Mapping[str, str], first: str = ""
    ) -> AsyncIterator[asyncpg.Connection]:
        pool = await self._opened()
        try:
            db = await pool.acquire(timeout=ACQUIRE_SECONDS)
        except Exception as error:
            if is_trouble(error):
                raise source_error(error) from error
            raise
        try:
            await db.execute(self._begin_sql(begin, settings) + first)
            yield db
            if await db.execute("COMMIT") != "COMMIT":
                raise SourceBusyError("A transaction had failed before its end.", hint="It is tried again.")
        except BaseException as error:
            await _to_its_end(_roll_back(db, error))
            if is_trouble(error):
                raise source_error(error) from error
            raise
        finally:
            await _give_back(pool, db)

    def _begin_sql(self, begin: str, settings: Mapping[str, str]) -> str:
        """One message. On a session of ours a function of the company's may have left other settings behind: RESET goes
        back to those that the session began with."""
        if self._has_pooler:
            return f"{begin};{_set_local({**EXACT, **_LIMITS, **settings})}"
        return f"RESET ALL;{begin};{_set_local(settings)}"

    async def _opened(self) -> asyncpg.Pool:
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self._url,
                        min_size=0,
                        max_size=self._size,
                        timeout=CONNECT_SECONDS,
                        statement_cache_size=0 if self._has_pooler else STATEMENTS_KEPT,
                        max_inactive_connection_lifetime=IDLE_SECONDS,
                        server_settings={"application_name": "syncline", **({} if self._has_pooler else _SESSION)},
                        init=_initialise_pooled if self._has_pooler else _initialise,
                        reset=_keep_as_it_is,
                    )
        return self._pool


def _set_local(settings: Mapping[str, str]) -> str:
    return "".join(f"SET LOCAL {name}='{value}';" for name, value in settings.items())


async def _initialise(connection: Any) -> None:
    _keep_alive(connection)


async def _initialise_pooled(connection: Any) -> None:
    """When asyncpg looks up a type that it does not know, it turns `jit` off for the session, which after COMMIT is
    somebody else's; where it believes that there is no such setting it leaves it alone."""
    _keep_alive(connection)
    connection._server_caps = connection._server_caps._replace(jit=False)


async def _keep_as_it_is(connection: Any) -> None:
    """Nothing outlives a transaction, so that nothing has to be reset."""


async def _roll_back(db: Any, error: BaseException) -> None:
    """Where that is not possible the connection is dropped, and with it the transaction."""
    with contextlib.suppress(InterfaceError):  # the pool has taken back what was closed
        if is_connection_lost(error):
            db.terminate()
            return
        try:
            await db.execute("ROLLBACK", timeout=ROLLBACK_SECONDS)
        except Exception:
            db.terminate()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Whoever is cancelled meanwhile, once more, hears of it afterwards."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _give_back(pool: asyncpg.Pool, db: Any) -> None:
    try:
        await pool.release(db)
    except (TimeoutError, OSError, PostgresError, InterfaceError):
        pass  # it has been dropped; what the transaction became is known already


def _keep_alive(connection: Any) -> None:
    """A host that has vanished without a word is noticed within seconds."""
    found = connection._transport.get_extra_info("socket")  # asyncpg has no public way to its socket
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
