"""The locks that keep provisions, migrations and servers apart, and patience with those of the host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from syncline.errors import SourceBusyError
from syncline.source.postgres.checkpoint_sql import LOCK_KEYS as SEQUENCER_LOCK
from syncline.source.postgres.connections import Connections, keep_to_ours
from syncline.source.postgres.trouble import is_trouble, source_error

__all__ = ["MIGRATION_LOCK", "PROVISION_LOCK", "SEQUENCER_LOCK", "alone", "patiently", "take_lock"]

Tell = Callable[[str], None]
PROVISION_LOCK = (SEQUENCER_LOCK[0], 2)
MIGRATION_LOCK = (SEQUENCER_LOCK[0], 3)
PATIENCE_SECONDS = 60.0
"""How long in all one table is waited for."""
PAUSE_FIRST_SECONDS, PAUSE_MAX_SECONDS = 0.1, 2.0
_WAITS = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


async def take_lock(db: asyncpg.Connection, keys: tuple[int, int], *, only_look: bool = False) -> bool:
    """For the session, or, with `only_look`, for the transaction."""
    function = "pg_try_advisory_xact_lock" if only_look else "pg_try_advisory_lock"
    return await db.fetchval(f"SELECT {function}($1::int4, $2::int4)", *keys) is True


@asynccontextmanager
async def alone(connections: Connections) -> AsyncIterator[asyncpg.Connection]:
    """A session in which capture may be changed, while no other changes it. Trouble comes as SourceError."""
    db = await connections.direct()
    try:
        await keep_to_ours(db)
        if not await take_lock(db, PROVISION_LOCK):
            raise SourceBusyError("Capture is being put in or taken out by another process.", hint="Try again.")
        yield db
    except Exception as error:
        if is_trouble(error):
            raise source_error(error) from error
        raise
    finally:
        await db.close()


async def patiently(
    db: asyncpg.Connection, what: str, work: Callable[[], Awaitable[None]], tell: Tell = lambda text: None
) -> None:
    """`work` in a transaction of its own, again and again while the host holds a lock that it needs. Each attempt waits
    no longer than the session's lock_timeout, for whoever comes after us waits behind us."""
    pause, waited = PAUSE_FIRST_SECONDS, 0.0
    while True:
        try:
            async with db.transaction(isolation="read_committed"):  # each statement sees what was waited for
                await work()
            return
        except _WAITS as error:
            if waited >= PATIENCE_SECONDS:
                raise SourceBusyError(
                    f"{what} is locked by another session.",
                    hint="Try again when that has ended; it goes on where it stopped.",
                ) from error
        if waited == 0:
            tell(f"{what} is locked by another session; waiting for it")
        await asyncio.sleep(pause)
        waited += pause
        pause = min(pause * 2, PAUSE_MAX_SECONDS)
