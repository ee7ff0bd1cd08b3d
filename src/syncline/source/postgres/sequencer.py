"""Taking checkpoints: everything that waits in the queues, as one consistent cut.

The statements of a cut, in this order: BEGIN at REPEATABLE READ; LOCK of our own `checkpoint`, the fence against
another sequencer; LOCK of the captured tables, so that no ALTER comes between; then the first statement that takes a
snapshot, which reads the term, and the fingerprint of the schema. All that is computed, written and deleted after that
is of this one snapshot. A transaction that commits later is in the next cut; none is ever split.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import asyncpg
from asyncpg.exceptions import InterfaceError, PostgresError

from syncline.clock import Clock
from syncline.errors import SourceError
from syncline.log import logger
from syncline.source.port import Checkpoint, Head, TermLostError
from syncline.source.postgres.adopting import Attachment
from syncline.source.postgres.aside import Aside
from syncline.source.postgres.capture import Capture
from syncline.source.postgres.checkpoint_sql import HAS_NEWS, Seen, poll_sql, waiting_sql
from syncline.source.postgres.connections import Connections, milliseconds
from syncline.source.postgres.cut import Cut, Waiting
from syncline.source.postgres.doorbell import Doorbell
from syncline.source.postgres.generations import mark_gaps
from syncline.source.postgres.installed import note_restored
from syncline.source.postgres.lease import HEAD_MOVED, Lease
from syncline.source.postgres.scratch import ScratchTables
from syncline.source.postgres.signatures import store_signatures
from syncline.source.postgres.trouble import is_connection_lost, source_error
from syncline.source.postgres.troubles import TableFailsError
from syncline.source.postgres.watchdog import with_patience

T = TypeVar("T")
_log = logger("sequencer")
LOCK_SECONDS = 0.1
"""Whoever holds a table against us is the host: a cut waits no longer than this, and comes again."""
_FENCE = "LOCK TABLE syncline.checkpoint IN EXCLUSIVE MODE"


class PostgresSequencer:
    """One per process: the active one while it holds the lease, a standby otherwise. `head` is the checkpoint that it
    left last."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._clock = clock
        self._watchdog = connections.watchdog
        self._woken = asyncio.Event()
        self._bell = Doorbell(self._woken)
        self._lease = Lease(connections, self._heard)
        self._attached: Attachment | None = None
        self._scratch = ScratchTables()
        self._aside = Aside()
        self._seen = Seen()
        self._bounded: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()
        """What `_seen` holds for: the tables that were followed then, and those whose gaps were left."""
        self._all_devices = False
        self.head: Head | None = None

    @property
    def is_active(self) -> bool:
        return self._lease.is_held

    def bear_silence(self, seconds: float) -> None:
        """For so long this process may stand still without losing its lease; from the next session on."""
        self._lease.silence_seconds = seconds

    def wake(self) -> None:
        """There is work: this process has committed an upload or a marker."""
        self._woken.set()

    def _heard(self, channel: str) -> None:
        if channel != HEAD_MOVED or not self._lease.is_held:  # the active one has moved the head itself
            self._woken.set()

    # ------------------------------------------------------------ terms
    async def begin_term(self, attached: Attachment, term: str) -> Head | None:
        """Add a term to the history; the one before ends at the head found now. None while another sequencer is
        active. All older cursors stay valid."""
        if not await self._lease.take():
            return None
        self._scratch = ScratchTables()
        self._bell.is_in_another_session()
        async with self._lease.session() as db:
            head = await self._told(self._begin(db, attached, term))
            self._attached, self._seen, self.head = attached, Seen(), head
        return head

    async def _begin(self, db: asyncpg.Connection, attached: Attachment, term: str) -> Head:
        async with db.transaction():
            await db.execute(_FENCE)
            await attached.standing.require(db)
            await note_restored(db, attached.plan)
            await self._store(db, attached)
            row = await db.fetchrow("SELECT head, time_us FROM syncline.checkpoint")
            number, time_us = (row["head"], row["time_us"]) if row else (0, 0)
            time_us = max(self._clock.now_us(), time_us)
            await db.execute("UPDATE syncline.term SET last = $1::bigint WHERE last IS NULL", number)
            await db.execute("INSERT INTO syncline.term(term, first) VALUES($1, $2)", term, number)
            # Transaction numbers begin anew where a dump was loaded into another server: the bound must not outlive it.
            await db.execute(
                "INSERT INTO syncline.checkpoint(one, term, head, time_us, cut_xmin) VALUES(true, $1, $2, $3, '0') "
                "ON CONFLICT (one) DO UPDATE SET term = excluded.term, time_us = excluded.time_us, cut_xmin = '0'",
                term,
                number,
                time_us,
            )
            self._all_devices = await db.fetchval(HAS_NEWS)
            await self._bell.clear(db)
        return Head(term, number, time_us)

    async def follow(self, attached: Attachment) -> None:
        """Go on in the same term with another plan."""
        if not self._lease.is_held or self._attached is None:
            return
        async with self._lease.session() as db:
            await self._told(self._take_plan(db, attached))
            self._attached, self._scratch, self._seen = attached, ScratchTables(), Seen()

    async def _take_plan(self, db: asyncpg.Connection, attached: Attachment) -> None:
        async with db.transaction():
            await db.execute(_FENCE)
            await self._store(db, attached)

    @staticmethod
    async def _store(db: asyncpg.Connection, attached: Attachment) -> None:
        """Tables of which devices are to hold something else than was served before get a gap: the next checkpoint
        raises their generation."""
        await mark_gaps(db, await store_signatures(db, attached.plan), "plan")

    async def end_term(self, term: str) -> None:
        """Another process may go on."""
        self._attached, self.head = None, None
        await self._leave()

    async def close(self) -> None:
        await self._leave()

    async def _leave(self) -> None:
        """Who died before could not: its sleep ends by itself."""
        try:
            if self._lease.is_held and self._lease.is_open:
                async with self._lease.session() as db:
                    await self._told(self._bell.leave(db))
        except (SourceError, TimeoutError, PostgresError, InterfaceError, OSError) as error:
            _log.debug("it could not be said that nobody sleeps any more: %s", error)
        finally:
            await self._lease.release()

    # ------------------------------------------------------------ checkpoint
    async def take_checkpoint(self, term: str) -> Checkpoint | None:
        """None if nothing was due. SchemaChangedError, before anything is computed, where a captured table or its
        capture is not what it was, due or not."""
        attached = self._attached
        if attached is None:
            raise SourceError("This process is not the sequencer.", code="not_sequencer")
        await self._regain()
        async with self._lease.session() as db:
            self._woken.clear()
            await self._told(self._scratch.drop_old(db))
            await self._told(self._aside.try_again(db, attached))
            if not await self._told(self._found(db, attached, term)):
                await self._told(attached.standing.require(db))
                return None
            await self._told(self._bell.clear(db))
            while True:
                try:
                    return await with_patience(lambda: self._told(self._cut(db, attached, term)))
                except TableFailsError as failure:
                    await self._told(self._aside.put(db, attached, failure))

    async def _regain(self) -> None:
        """A session that was lost is opened again, and with it the lock taken. If nobody has begun a term meanwhile,
        ours goes on; of what transactions were seen nothing is believed, for the server may be another one."""
        if self._lease.is_open and self._lease.is_held:
            return
        if not await self._lease.take():
            raise _superseded()
        self._bell.is_in_another_session()
        self._scratch, self._seen, self._all_devices = ScratchTables(), Seen(), True

    async def _found(self, db: asyncpg.Connection, attached: Attachment, term: str) -> bool:
        try:
            return await self._poll(db, attached, term)
        except asyncpg.UndefinedTableError:
            await attached.standing.require(db)  # what is ours is gone: that says so in its own words
            raise

    async def _poll(self, db: asyncpg.Connection, attached: Attachment, term: str) -> bool:
        """Whether anything waits; about 0.1 ms where nothing does."""
        looked_at = self._look_at(attached)
        row = await db.fetchrow(poll_sql(looked_at.values()), *self._seen.arguments, list(attached.standing.broken))
        self._require_ours(row, term)
        if not row["waits"]:
            self._seen = Seen.parse(row["snapshot"])
        return bool(row["waits"]) or self._all_devices

    def _look_at(self, attached: Attachment) -> dict[str, Capture]:
        """The tables that are followed now. Where there is one among them of which nothing was taken for a while,
        older changes of it wait than the others have: all are looked at from the beginning once."""
        followed, broken = _followed(attached), attached.standing.broken
        if not (followed.keys() <= self._bounded[0] and self._bounded[1] <= broken):
            self._seen = Seen()
        self._bounded = frozenset(followed), broken
        return followed

    def _require_ours(self, row: Any, term: str) -> Head:
        """TermLostError where it is not what this sequencer left: another one took over, or a backup was restored."""
        found = Head(row["term"], row["head"], row["time_us"]) if row else None
        if found is None or found.term != term or found != self.head:
            raise _superseded()
        return found

    async def _cut(self, db: asyncpg.Connection, attached: Attachment, term: str) -> Checkpoint | None:
        begin = (
            f"BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = '{milliseconds(LOCK_SECONDS)}'; "
            f"{_FENCE}; {attached.standing.locks()}"
        )
        try:
            async with self._watchdog.guard(db, db.get_server_pid()):
                await db.execute(begin)
                return await self._compute(db, attached, term)
        except PostgresError as error:
            if not is_connection_lost(error) and not isinstance(error, asyncpg.QueryCanceledError):
                await _roll_back(db)
                await attached.standing.require(db)  # a table that is gone says so in its own words
            raise
        finally:
            await _roll_back(db)

    async def _compute(self, db: asyncpg.Connection, attached: Attachment, term: str) -> Checkpoint | None:
        captures, standing = self._look_at(attached), attached.standing
        row = await db.fetchrow(waiting_sql(captures.values()), *self._seen.arguments, list(standing.broken))
        head = self._require_ours(row, term)
        await standing.require(db)
        dirty = {name: count for name, count in zip(captures, row["counts"], strict=True) if count}
        is_all = len(captures) == len(attached.sql.captures)
        waiting = Waiting(head, row["snapshot"], dirty, row["markers"], row["uploads"], row["gaps"], is_all)
        await self._scratch.require(db, attached.sql, dirty, standing.stopped)
        cut = Cut(db, attached.sql, self._seen, waiting, all_devices=self._all_devices)
        checkpoint = await cut.take(self._clock.now_us(), broken=standing.broken, stopped=standing.stopped)
        await db.execute(f"NOTIFY {HEAD_MOVED}; COMMIT" if checkpoint else "COMMIT")
        self._scratch.committed()
        self._all_devices = False
        self._seen = Seen.parse(waiting.snapshot)
        if checkpoint:
            self.head = checkpoint.head
        return checkpoint

    # ------------------------------------------------------------ waiting
    async def wait_for_change(self, seconds: float) -> bool:
        """Until somebody has committed or woken us, or for so long. A standby waits for a new checkpoint."""
        attached, head = self._attached, self.head
        if attached is None or head is None:
            return await self._bell.slept(seconds)
        await self._regain()
        ends = self._now() + seconds
        for pause in self._bell.pauses():
            remaining = ends - self._now()
            if remaining <= 0:
                return False
            if await self._bell.slept(min(pause, remaining)):
                return True
            async with self._lease.session() as db:
                if await self._told(self._looked(db, attached, head.term)):
                    self._bell.has_rung()
                    return True
        return False

    async def _looked(self, db: asyncpg.Connection, attached: Attachment, term: str) -> bool:
        if await self._poll(db, attached, term):
            return True
        return await self._bell.fell_asleep(db) and await self._poll(db, attached, term)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    async def _told(work: Awaitable[T]) -> T:
        """What PostgreSQL says, as the package's errors; the loss of the session passes, for the lease to tell."""
        try:
            return await work
        except (TimeoutError, PostgresError, InterfaceError, OSError) as error:
            if is_connection_lost(error):
                raise
            raise source_error(error) from error


def _followed(attached: Attachment) -> dict[str, Capture]:
    """All captured tables, but for those of which nothing can be told while capture is lost."""
    stopped = attached.standing.stopped | attached.standing.broken
    return {name: capture for name, capture in attached.sql.captures.items() if name not in stopped}


def _superseded() -> TermLostError:
    return TermLostError(
        "Another sequencer has taken over this source, or it was restored from a backup.",
        hint="A new term begins; nothing is lost.",
    )


async def _roll_back(db: asyncpg.Connection) -> None:
    if not db.is_closed() and db.is_in_transaction():
        await db.execute("ROLLBACK")
