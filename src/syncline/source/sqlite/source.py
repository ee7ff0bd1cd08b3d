"""`SqliteSource`: the port of `syncline.source.port` on a SQLite file.

Three kinds of connections, each on its own thread: one writes (uploads, markers, registrations), one takes
checkpoints, a few read.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from syncline.clock import Clock
from syncline.errors import NotProvisionedError, SchemaChangedError, SourceBusyError, SourceError
from syncline.model.schema import Schema
from syncline.model.scopes import Plan, QueryReads
from syncline.source.port import (
    Checkpoint,
    Claims,
    Cursor,
    Cut,
    Delta,
    DeviceRow,
    Finding,
    Head,
    LapPage,
    Page,
    PageSize,
    ProvisionReport,
    RecordFilter,
    Registration,
    Removal,
    ScopeReport,
    Since,
    SourceRefusedError,
    Survey,
    TermLostError,
    TransactionLostError,
    UploadPace,
    Walk,
    WriteTransaction,
)
from syncline.source.sqlite import adopting, diagnosis, registry, suspending
from syncline.source.sqlite import counters as counting
from syncline.source.sqlite import introspect as introspection
from syncline.source.sqlite import provision as provisioning
from syncline.source.sqlite.adopting import Attachment
from syncline.source.sqlite.belongings import is_provisioned
from syncline.source.sqlite.connections import Connections
from syncline.source.sqlite.delta import DeltaReader
from syncline.source.sqlite.describe import describe_scope
from syncline.source.sqlite.feed import FeedReader, grant_parameters
from syncline.source.sqlite.laps import LapReader
from syncline.source.sqlite.layout import PlanSql
from syncline.source.sqlite.listings import Listings
from syncline.source.sqlite.pages import PageReader
from syncline.source.sqlite.retention import Retention
from syncline.source.sqlite.sequencer import SqliteSequencer
from syncline.source.sqlite.threads import Worker, drive
from syncline.source.sqlite.upload import SqliteWrite
from syncline.source.sqlite.writing import Rest, begin_write, write_transaction
from syncline.system.clock import SYSTEM_CLOCK
from syncline.system.database import Prepare
from syncline.system.lock import FileLock

T = TypeVar("T")
POLL_SECONDS = 0.002
"""`PRAGMA data_version` costs 4 µs: looking every 2 ms is 0.2 % of a core."""


class SqliteSource:
    """`prepare` is called with every connection (see `open_database`); `inline` runs everything in the caller's
    thread."""

    kind = "sqlite"
    stops_single_tables = False
    pace = UploadPace(hold_seconds=0.010, run_min=10, run_first=25, run_max=100)

    def __init__(
        self,
        path: str | Path,
        *,
        journal: str = "wal",
        clock: Clock = SYSTEM_CLOCK,
        draw: Callable[[], str] = lambda: secrets.token_hex(16),
        prepare: Prepare | None = None,
        inline: bool = False,
    ) -> None:
        self._path = Path(path)
        self._journal = journal
        self._clock = clock
        self._draw = draw
        self._closing = False
        self._attachment: Attachment | None = None
        self._lock = FileLock(f"{self._path}-syncline-lock")
        self._migrating = FileLock(f"{self._path}-syncline-migration")
        self._db = Connections(self._path, prepare, inline=inline, replaced=self._forget_schema)
        self._listings: dict[Worker, Listings] = {}
        self._retention = Retention()
        self._rest = Rest(sleep=_never) if inline else Rest()
        self._sequencer: SqliteSequencer | None = None
        self._data_version = -1

    # ------------------------------------------------------------ plumbing
    def _forget_schema(self) -> None:
        """The path names another file: its schema may be another one, too."""
        if self._attachment:
            self._attachment.standing.forget()

    def _attached(self) -> Attachment:
        if self._attachment is None:
            raise NotProvisionedError("The source was opened without a plan.", hint="Call attach(plan) first.")
        return self._attachment

    async def _feed(self, work: Callable[[FeedReader], T]) -> T:
        """Reads nothing but what is ours."""
        sql = self._attached().sql
        return await self._db.read(lambda connection: work(FeedReader(connection, sql)))

    async def _read_source(
        self, work: Callable[[sqlite3.Connection, PlanSql], T], *, rows: bool = False, worker: Worker | None = None
    ) -> T:
        """Asks grants; with `rows`, reads the company's rows too. SchemaMovingError while they may not be what the plan
        was made for."""
        attached = self._attached()

        def read(connection: sqlite3.Connection) -> T:
            try:
                found = work(connection, attached.sql)
            except sqlite3.OperationalError:  # a table that is gone for the moment
                attached.standing.require_for_reading(connection, rows=rows)
                raise
            attached.standing.require_for_reading(connection, rows=rows)
            return found

        return await (self._db.run(worker, read) if worker else self._db.read(read))

    async def close(self) -> None:
        self._closing = True
        await self._db.close()
        self._lock.release()
        self._migrating.release()

    # ------------------------------------------------------------ schema
    async def introspect(self) -> Schema:
        return await self._db.read(introspection.introspect)

    async def reads_of_query(self, query: str) -> QueryReads:
        parameters = dict.fromkeys(grant_parameters(query))
        return await self._db.read(lambda connection: introspection.reads_of(connection, query, parameters))

    async def reads_of_filter(self, table: str, where: str) -> QueryReads:
        return await self._db.read(lambda connection: introspection.reads_of_filter(connection, table, where))

    # ------------------------------------------------------------ provisioning
    async def provision(self, plan: Plan) -> ProvisionReport:
        return await self._db.run(self._db.writer, lambda db: provisioning.provision(db, plan, self._journal))

    async def provision_script(self, plan: Plan) -> tuple[str, ...]:
        return provisioning.script(plan)

    async def pending_provision(self, plan: Plan) -> list[str]:
        """What `provision` would change, in words."""
        return await self._db.read(lambda connection: provisioning.pending_changes(connection, plan))

    async def deprovision(self) -> Removal:
        await self._db.close_readers()  # open connections would keep the journal mode
        if not await self._db.run(self._db.writer, lambda _: self._lock.acquire()):
            raise SourceBusyError(
                f"A server is running on this database ({self._lock.owner()}).",
                hint="Stop it first.",
                code="server_running",
            )
        try:
            found = await self._db.run(self._db.writer, lambda db: provisioning.deprovision(db, self._journal))
            return Removal(found)
        finally:
            self._lock.remove()
            self._migrating.remove()

    async def attach(self, plan: Plan) -> None:
        self._attachment = await self._db.read(lambda connection: adopting.attach(connection, plan))

    async def adopt(self, plan: Plan) -> None:
        try:
            attachment = await self._db.read(lambda connection: adopting.attach(connection, plan))
        except SchemaChangedError:
            await self._db.run(self._db.sequencing, lambda connection: self._put_back(connection, plan))
            attachment = await self._db.read(lambda connection: adopting.attach(connection, plan))
        before = self._sequencer
        if before is not None:
            await self._db.run(
                self._db.sequencing, lambda connection: self._sequence(connection, attachment).follow(before)
            )
        self._attachment = attachment

    def _put_back(self, connection: sqlite3.Connection, plan: Plan) -> None:
        if not self._lock.acquire():
            raise SchemaChangedError(
                "Capture does not fit the schema.", hint="Another server puts it back.", code="schema_moving"
            )
        adopting.put_back(connection, plan, self._journal, self._attachment, self._migrating)

    async def require_schema(self) -> None:
        await self._db.read(self._attached().standing.require)

    def troubles(self) -> list[Finding]:
        return []

    def stopped(self) -> frozenset[str]:
        return frozenset()

    def layouts(self) -> Mapping[str, int]:
        return self._attachment.layouts if self._attachment else {}

    # ------------------------------------------------------------ migrations
    async def suspend(self, tables: Collection[str] | None = None) -> frozenset[str]:
        def take_off(connection: sqlite3.Connection) -> frozenset[str]:
            if not self._migrating.acquire():
                raise SourceBusyError(
                    f"Another migration is running ({self._migrating.owner()}).", code="migration_running"
                )
            with write_transaction(connection):
                before = suspending.captured_tables(connection)
                for statement in suspending.suspend_script(connection, tables, suspending.COMMAND):
                    connection.execute(statement)
            return before if tables is None else before & frozenset(tables)

        return await self._db.run(self._db.writer, _if_provisioned(take_off))

    async def diagnose(self, plan: Plan | None) -> list[Finding]:
        return await self._db.read(lambda connection: diagnosis.diagnose(connection, plan, self._lock, self._migrating))

    async def suspend_script(self, tables: Collection[str] | None = None) -> tuple[str, ...]:
        return await self._db.read(
            _if_provisioned(lambda connection: suspending.suspend_script(connection, tables, suspending.SCRIPT))
        )

    async def resume_script(self) -> tuple[str, ...]:
        return suspending.resume_script()

    # ------------------------------------------------------------ sequencer
    async def begin_term(self, term: str) -> Head | None:
        attached = self._attached()

        def begin(connection: sqlite3.Connection) -> Head | None:
            if not self._lock.acquire():
                return None
            attached.standing.require(connection)
            return self._sequence(connection, attached).begin_term(term)

        return await self._db.run(self._db.sequencing, begin)

    def _sequence(self, connection: sqlite3.Connection, attached: Attachment) -> SqliteSequencer:
        self._sequencer = SqliteSequencer(connection, attached.sql, self._clock, attached.standing)
        return self._sequencer

    async def take_checkpoint(self, term: str) -> Checkpoint | None:
        sequencer = self._sequencer
        if sequencer is None:
            raise SourceError("This process is not the sequencer.", code="not_sequencer")

        def take(connection: sqlite3.Connection) -> Checkpoint | None:
            try:
                if sequencer.connection is not connection:
                    raise TermLostError("The source's file was replaced.", hint="A new term begins; nothing is lost.")
                return sequencer.take_checkpoint(term)
            except TermLostError:
                self._attached().standing.forget()
                raise

        return await self._db.run(self._db.sequencing, take)

    async def end_term(self, term: str) -> None:
        self._sequencer = None
        await self._db.sequencing.run(self._lock.release)

    async def wait_for_change(self, seconds: float) -> bool:
        given_up: list[bool] = []

        def wait(connection: sqlite3.Connection) -> bool:
            ends = time.monotonic() + seconds
            while not self._closing and not given_up:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != self._data_version:
                    self._data_version = version
                    return True
                if time.monotonic() >= ends:
                    return False
                time.sleep(POLL_SECONDS)
            return False

        try:
            return await self._db.run(self._db.sequencing, wait)
        finally:
            given_up.append(True)  # whoever was cancelled needs the thread to end his term

    # ------------------------------------------------------------ downloads
    async def seal_key(self) -> bytes:
        key = await self._db.read(_if_provisioned(provisioning.seal_key))
        if key is not None:
            return key
        return await self._db.run(self._db.writer, _if_provisioned(_drawn_seal_key))

    async def read_head(self) -> Head:
        return await self._feed(lambda feed: feed.head())

    async def changed_since(self, checkpoint: int) -> Checkpoint:
        return await self._feed(lambda feed: feed.changed_since(checkpoint))

    async def granted(self, claims: Claims) -> frozenset[str]:
        return await self._read_source(lambda connection, sql: FeedReader(connection, sql).granted(claims))

    async def read_survey(self, claims: Claims, known: Sequence[Cursor]) -> Survey:
        return await self._read_source(lambda connection, sql: FeedReader(connection, sql).read_survey(claims, known))

    async def read_cut(
        self,
        device: str,
        claims: Claims,
        held: frozenset[str],
        cursor: Cursor | None,
        included: int,
        added: Since | None = None,
        size: PageSize | None = None,
    ) -> Cut:
        return await self._read_source(
            lambda connection, sql: FeedReader(connection, sql).read_cut(
                device, claims, held, cursor, included, added, size
            )
        )

    async def read_page(
        self, claims: Claims, walk: Walk, place: str | None, known: Sequence[Cursor], size: PageSize
    ) -> Page:
        return await self._page(walk, lambda pages: pages.read_page(claims, walk, place, known, size))

    async def count_rows(self, walk: Walk, seconds_max: float) -> int | None:
        return await self._page(walk, lambda pages: pages.count_rows(walk, seconds_max))

    async def _page(self, walk: Walk, work: Callable[[PageReader], T]) -> T:
        """On the connection that has seen the walk before, if any has."""
        worker = self._db.paging[hash((walk.buckets, walk.held)) % len(self._db.paging)]

        def page(connection: sqlite3.Connection, sql: PlanSql) -> T:
            kept = self._listings.get(worker)
            if kept is None or not kept.fits(connection, sql):
                kept = self._listings[worker] = Listings(connection, sql)
            return work(PageReader(connection, sql, kept))

        return await self._read_source(page, rows=True, worker=worker)

    async def read_lap(
        self,
        claims: Claims,
        feed: Sequence[Since],
        upto: int | None,
        place: str | None,
        known: Sequence[Cursor],
        size: PageSize,
    ) -> LapPage:
        return await self._read_source(
            lambda connection, sql: LapReader(connection, sql).read_lap(claims, feed, upto, place, known, size)
        )

    async def read_delta(
        self,
        cursor: tuple[str, int],
        wanted: Container[str],
        connected: Mapping[str, int],
        users: Sequence[Claims],
        rows_max: int,
    ) -> Delta:
        return await self._read_source(
            lambda connection, sql: DeltaReader(connection, sql).read(cursor, wanted, connected, users, rows_max)
        )

    async def put_marker(self) -> int:
        marker = int(self._draw()[:15], 16)

        def put(connection: sqlite3.Connection) -> None:
            with write_transaction(connection):
                connection.execute("INSERT INTO syncline_marker VALUES(?1)", (marker,))

        await self._db.run(self._db.writer, put)
        return marker

    async def marker_passed(self, marker: int) -> bool:
        def look(connection: sqlite3.Connection) -> bool:
            return connection.execute("SELECT 1 FROM syncline_marker WHERE id = ?1", (marker,)).fetchone() is None

        return await self._db.read(look)

    # ------------------------------------------------------------ retention
    async def prune(self, term: str, before_us: int) -> bool:
        return await self._db.run(self._db.writer, lambda connection: self._retention.step(connection, term, before_us))

    # ------------------------------------------------------------ uploads and devices
    async def write(self, work: Callable[[WriteTransaction], Awaitable[T]], claims: Claims | None = None) -> T:
        attached = self._attached()

        def in_turn(connection: sqlite3.Connection) -> T:
            self._rest.take()
            self._rest.begin(begin_write(connection))
            try:
                return transact(connection)
            finally:
                self._rest.end()

        def transact(connection: sqlite3.Connection) -> T:
            try:
                attached.standing.require_for_writing(connection)
                result = drive(work(SqliteWrite(connection, attached.sql, self._clock)))
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            try:
                connection.execute("COMMIT")
            except sqlite3.IntegrityError as error:  # a deferred foreign key
                connection.execute("ROLLBACK")
                refusal = SourceRefusedError(
                    "foreign_key", "A row that this one refers to does not exist, or others still refer to this one."
                )
                raise TransactionLostError(refusal) from error
            self._db.require_same_file()  # else it was committed to a file that nobody will read again
            return result

        return await self._db.run(self._db.writer, in_turn)

    async def register(
        self, device: str | None, nonce: str | None, user: str, included: int, details: Mapping[str, str]
    ) -> Registration:
        def run(connection: sqlite3.Connection) -> Registration:
            return registry.Registry(connection, self._clock, self._draw).register(
                device, nonce, user, included, details
            )

        return await self._db.run(self._db.writer, run)

    async def find_device(self, device: str) -> DeviceRow | None:
        return await self._feed(lambda feed: feed.find_device(device))

    # ------------------------------------------------------------ what is counted
    async def count_up(self, counts: Mapping[str, int]) -> None:
        await self._db.run(self._db.writer, lambda connection: counting.count_up(connection, counts))

    async def counters(self) -> dict[str, int]:
        return await self._db.read(_if_provisioned(counting.counters))

    # ------------------------------------------------------------ the office's view
    async def devices(self) -> list[dict[str, Any]]:
        return await self._db.read(_if_provisioned(registry.list_devices))

    async def conflicts(self, wanted: RecordFilter) -> list[dict[str, Any]]:
        return await self._db.read(_if_provisioned(lambda connection: registry.list_conflicts(connection, wanted)))

    async def rejections(self, wanted: RecordFilter) -> list[dict[str, Any]]:
        return await self._db.read(_if_provisioned(lambda connection: registry.list_rejections(connection, wanted)))

    async def describe_scopes(self, plan: Plan, claims: Claims | None = None) -> list[ScopeReport]:
        return await self._db.read(lambda db: [describe_scope(db, plan, scope, claims) for scope in plan.scopes])


def _if_provisioned(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    def run(connection: sqlite3.Connection) -> T:
        if not is_provisioned(connection):
            raise NotProvisionedError("Capture is not installed in this database.", hint="Run: syncline provision")
        return work(connection)

    return run


def _drawn_seal_key(connection: sqlite3.Connection) -> bytes:
    with write_transaction(connection):
        provisioning.draw_seal_key(connection)
    key = provisioning.seal_key(connection)
    assert key is not None
    return key


def _never(seconds: float) -> None:
    """Instead of sleeping, where nobody else is there to be waited for."""
