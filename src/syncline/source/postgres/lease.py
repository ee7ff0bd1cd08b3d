"""The sequencer's own session, and the lock that makes it the active one.

The lock lives as long as the session. So that a stopped process or a vanished host loses it within seconds, the server
ends the session when nothing is asked of it for a while; a task of this process asks as long as the process runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import asyncpg
from asyncpg.exceptions import InterfaceError, PostgresError

from syncline.errors import SourceBusyError
from syncline.log import logger
from syncline.source.postgres.checkpoint_sql import LOCK_KEYS
from syncline.source.postgres.connections import Connections, milliseconds
from syncline.source.postgres.trouble import is_connection_lost, source_error

SILENCE_SECONDS = 3.0
"""The server ends the active sequencer's session after so long without a statement, also inside a transaction."""
BEAT_SECONDS = 0.8
CLOSE_SECONDS = 2.0
STATEMENTS_KEPT = 2_000
IDLE_SESSION_TIMEOUT_SINCE = 14
_log = logger("sequencer")
DOORBELL, HEAD_MOVED = "syncline", "syncline_head"
"""Channels: a host's commit while the sequencer sleeps; a new checkpoint."""


class Lease:
    """`heard` is called with the channel of every notification. `silence_seconds`: of sessions that are opened from now
    on; longer where a process, as in tests, stands still for good reason."""

    silence_seconds = SILENCE_SECONDS

    def __init__(self, connections: Connections, heard: Callable[[str], None]) -> None:
        self._connections = connections
        self._heard = heard
        self._session: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._beats: asyncio.Task[None] | None = None
        self.is_held = False

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        """The session, for one user at a time. SourceBusyError where it is gone: with it went the lock."""
        async with self._turn:
            db = self._session
            if db is None or db.is_closed():
                await self._drop()
                raise _lost("it has ended")
            try:
                yield db
            except (asyncio.CancelledError, GeneratorExit):
                await self._leave_nothing_begun(db)
                raise
            except Exception as error:
                if is_connection_lost(error) or db.is_closed():
                    await self._drop()
                    raise _lost(str(error)) from error
                raise

    async def _leave_nothing_begun(self, db: asyncpg.Connection) -> None:
        """Whoever was cancelled may stand in the midst of a transaction, also where the driver has not heard of its
        BEGIN yet."""
        if db.is_closed():
            return
        try:
            await db.execute("ROLLBACK", timeout=CLOSE_SECONDS)
        except BaseException as error:
            db.terminate()  # a transaction ends with its session
            if not isinstance(error, Exception):
                raise

    @property
    def is_open(self) -> bool:
        return self._session is not None and not self._session.is_closed()

    async def take(self) -> bool:
        """Open the session if there is none, and try to become the active sequencer; SourceError where none can be
        had. Without the lock the session stays open, to hear of new checkpoints."""
        async with self._turn:
            try:
                db = await self._opened()
                self.is_held = bool(await db.fetchval("SELECT pg_try_advisory_lock($1, $2)", *LOCK_KEYS))
                if self.is_held:
                    await db.execute(_limits(db, self.silence_seconds))
            except (TimeoutError, PostgresError, InterfaceError, OSError) as error:
                await self._drop()
                raise source_error(error) from error
        if self.is_held and self._beats is None:
            self._beats = asyncio.create_task(self._beat(), name="syncline-lease")
        return self.is_held

    async def _opened(self) -> asyncpg.Connection:
        if self._session is None or self._session.is_closed():
            db = await self._connections.direct(statement_timeout="0", application_name="syncline sequencer")
            self._session = db
            for channel in (DOORBELL, HEAD_MOVED):
                await db.add_listener(channel, self._notified)
        return self._session

    def _notified(self, connection: object, pid: int, channel: str, payload: object) -> None:
        self._heard(channel)

    async def _beat(self) -> None:
        """Nothing is asked of a session that is in use: its statements are its beats."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if self._turn.locked() or self._session is None:
                continue
            try:
                async with self.session() as db:
                    await db.execute("SELECT 1")
            except Exception as error:  # whoever uses it next is told; the beats go on whatever it was
                _log.debug("the sequencer's session did not answer: %s", error)

    async def release(self) -> None:
        """Let another one become active; the session ends."""
        beats, self._beats = self._beats, None
        if beats is not None:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)
        async with self._turn:
            if self._session is not None and self.is_held:
                with contextlib.suppress(Exception):  # it ends with the session in any case
                    await self._session.execute(f"SELECT pg_advisory_unlock({LOCK_KEYS[0]}, {LOCK_KEYS[1]})", timeout=1)
            await self._drop()

    async def _drop(self) -> None:
        db, self._session, self.is_held = self._session, None, False
        if db is not None:
            try:
                await db.close(timeout=CLOSE_SECONDS)
            except (TimeoutError, PostgresError, InterfaceError, OSError):
                db.terminate()


def _limits(db: asyncpg.Connection, silence_seconds: float) -> str:
    silence = milliseconds(silence_seconds)
    limits = [f"SET idle_in_transaction_session_timeout = '{silence}'", "SET enable_seqscan = off"]
    if db.get_server_version().major >= IDLE_SESSION_TIMEOUT_SINCE:
        limits.append(f"SET idle_session_timeout = '{silence}'")
    return ";".join(limits)


def _lost(why: str) -> SourceBusyError:
    return SourceBusyError(
        f"The sequencer's session was lost: {why}.", hint="Another one is opened.", code="source_unreachable"
    )
