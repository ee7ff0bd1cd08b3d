"""`SqliteSource`: the port of `syncline.source.port` on a SQLite file.

Three kinds of connections, each on its own thread: one writes (uploads, markers, registrations), one takes
checkpoints, a few read.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from syncline.clock import Clock
from syncline.errors import NotProvisionedError, SourceBusyError, SourceError
from syncline.model.schema import Schema
from syncline.model.scopes import Plan, QueryReads, bucket_name
from syncline.source.port import (
    Checkpoint,
    Claims,
    Cut,
    DeviceRow,
    Head,
    ProvisionReport,
    RecordFilter,
    Registration,
    ScopeReport,
    Snapshot,
    SourceRefusedError,
    TransactionLostError,
    WriteTransaction,
)
from syncline.source.sqlite import introspect as introspection
from syncline.source.sqlite import provision as provisioning
from syncline.source.sqlite import registry
from syncline.source.sqlite.feed import FeedReader, grant_parameters
from syncline.source.sqlite.layout import PlanSql, build_plan_sql
from syncline.source.sqlite.paths import snapshot_sql
from syncline.source.sqlite.sequencer import SqliteSequencer
from syncline.source.sqlite.threads import InlineWorker, ThreadWorker, Worker, drive
from syncline.source.sqlite.upload import SqliteWrite
from syncline.source.sqlite.writing import BUSY_SECONDS, begin_write, write_transaction
from syncline.system.clock import SYSTEM_CLOCK
from syncline.system.database import Prepare, open_database
from syncline.system.lock import FileLock

T = TypeVar("T")
POLL_SECONDS = 0.002
"""`PRAGMA data_version` costs 4 µs: looking every 2 ms is 0.2 % of a core."""
READERS = 4


class SqliteSource:
    """`prepare` is called with every connection (see `open_database`); `inline` runs everything in the caller's
    thread."""

    kind = "sqlite"

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
        self._prepare = prepare
        self._closing = False
        self._sql: PlanSql | None = None
        self._lock = FileLock(f"{self._path}-syncline-lock")
        if not self._path.is_file():
            raise SourceError(
                f'There is no database file "{self._path}".', hint="Check [source] url.", code="source_missing"
            )
        make: Callable[[str], Worker] = (lambda name: InlineWorker()) if inline else ThreadWorker
        self._writer, self._sequencing = make("writer"), make("sequencer")
        self._reading = [make(f"reader-{number}") for number in range(1 if inline else READERS)]
        self._connections: dict[Worker, sqlite3.Connection] = {}
        self._sequencer: SqliteSequencer | None = None
        self._data_version = -1

    # ------------------------------------------------------------ plumbing
    def _open(self, worker: Worker) -> sqlite3.Connection:
        if worker not in self._connections:
            try:
                connection = open_database(self._path, busy_seconds=BUSY_SECONDS, prepare=self._prepare)
                connection.execute("PRAGMA temp_store = MEMORY")
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except sqlite3.DatabaseError as error:
                raise SourceError(
                    f'"{self._path}" cannot be opened as a SQLite database: {error}.', code="source_unreadable"
                ) from error
            if worker is self._writer:
                connection.execute("PRAGMA foreign_keys = ON")
            self._connections[worker] = connection
        return self._connections[worker]

    async def _run(self, worker: Worker, work: Callable[[sqlite3.Connection], T]) -> T:
        def call() -> T:
            try:
                return work(self._open(worker))
            except sqlite3.OperationalError as error:
                raise _source_error(error) from error

        return await worker.run(call)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(min(self._reading, key=lambda worker: worker.waiting), work)

    def _attached(self) -> PlanSql:
        if self._sql is None:
            raise NotProvisionedError("The source was opened without a plan.", hint="Call attach(plan) first.")
        return self._sql

    async def _feed(self, work: Callable[[FeedReader], T]) -> T:
        sql = self._attached()
        return await self._read(lambda connection: work(FeedReader(connection, sql)))

    async def close(self) -> None:
        self._closing = True
        for worker in (self._writer, self._sequencing, *self._reading):
            if worker in self._connections:
                await worker.run(self._connections[worker].close)
            worker.close()
        self._lock.release()

    # ------------------------------------------------------------ schema
    async def introspect(self) -> Schema:
        return await self._read(introspection.introspect)

    async def reads_of_query(self, query: str) -> QueryReads:
        parameters = dict.fromkeys(grant_parameters(query))
        return await self._read(lambda connection: introspection.reads_of(connection, query, parameters))

    async def reads_of_filter(self, table: str, where: str) -> QueryReads:
        return await self._read(lambda connection: introspection.reads_of_filter(connection, table, where))

    # ------------------------------------------------------------ provisioning
    async def provision(self, plan: Plan) -> ProvisionReport:
        return await self._run(self._writer, lambda connection: provisioning.provision(connection, plan, self._journal))

    async def provision_script(self, plan: Plan) -> tuple[str, ...]:
        return provisioning.script(plan)

    async def pending_provision(self, plan: Plan) -> list[str]:
        """What `provision` would change, in words."""
        return await self._read(lambda connection: provisioning.pending_changes(connection, plan))

    async def deprovision(self) -> bool:
        for worker in (self._sequencing, *self._reading):  # their open connections would keep the journal mode
            if worker in self._connections:
                await worker.run(self._connections.pop(worker).close)
        if not self._lock.acquire():
            raise SourceBusyError(
                f"A server is running on this database ({self._lock.owner()}).",
                hint="Stop it first.",
                code="server_running",
            )
        try:
            return await self._run(self._writer, lambda connection: provisioning.deprovision(connection, self._journal))
        finally:
            self._lock.remove()

    async def attach(self, plan: Plan) -> None:
        def prepare(connection: sqlite3.Connection) -> PlanSql:
            provisioning.verify(connection, plan)
            return build_plan_sql(plan, provisioning.layouts(connection))

        self._sql = await self._read(prepare)

    # ------------------------------------------------------------ sequencer
    async def begin_term(self, term: str) -> Head | None:
        sql = self._attached()

        def begin(connection: sqlite3.Connection) -> Head | None:
            if not self._lock.acquire():
                return None
            self._sequencer = SqliteSequencer(
                connection, sql, self._clock, lambda db: provisioning.verify(db, sql.plan)
            )
            return self._sequencer.begin_term(term)

        return await self._run(self._sequencing, begin)

    async def take_checkpoint(self, term: str) -> Checkpoint | None:
        sequencer = self._sequencer
        if sequencer is None:
            raise SourceError("This process is not the sequencer.", code="not_sequencer")
        return await self._run(self._sequencing, lambda connection: sequencer.take_checkpoint(term))

    async def end_term(self, term: str) -> None:
        self._sequencer = None
        await self._sequencing.run(self._lock.release)

    async def wait_for_change(self, seconds: float) -> bool:
        def wait(connection: sqlite3.Connection) -> bool:
            ends = time.monotonic() + seconds
            while not self._closing:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != self._data_version:
                    self._data_version = version
                    return True
                if time.monotonic() >= ends:
                    return False
                time.sleep(POLL_SECONDS)
            return False

        return await self._run(self._sequencing, wait)

    # ------------------------------------------------------------ downloads
    async def read_head(self) -> Head:
        return await self._feed(lambda feed: feed.head())

    async def changed_since(self, checkpoint: int) -> Checkpoint:
        return await self._feed(lambda feed: feed.changed_since(checkpoint))

    async def granted(self, claims: Claims) -> frozenset[str]:
        return await self._feed(lambda feed: feed.granted(claims))

    async def read_cut(
        self,
        device: str,
        claims: Claims,
        held: frozenset[str],
        cursor: tuple[str, int] | None,
        included: int,
        snapshot: Snapshot | None,
    ) -> Cut:
        return await self._feed(lambda feed: feed.read_cut(device, claims, held, cursor, included, snapshot))

    async def read_snapshot(self, buckets: frozenset[str]) -> Snapshot:
        return await self._feed(lambda feed: feed.read_snapshot(buckets))

    async def put_marker(self) -> int:
        marker = int(self._draw()[:15], 16)

        def put(connection: sqlite3.Connection) -> None:
            with write_transaction(connection):
                connection.execute("INSERT INTO syncline_marker VALUES(?1)", (marker,))

        await self._run(self._writer, put)
        return marker

    async def marker_passed(self, marker: int) -> bool:
        def look(connection: sqlite3.Connection) -> bool:
            return connection.execute("SELECT 1 FROM syncline_marker WHERE id = ?1", (marker,)).fetchone() is None

        return await self._read(look)

    # ------------------------------------------------------------ uploads and devices
    async def write(self, work: Callable[[WriteTransaction], Awaitable[T]]) -> T:
        sql = self._attached()

        def transact(connection: sqlite3.Connection) -> T:
            begin_write(connection)
            try:
                result = drive(work(SqliteWrite(connection, sql, self._clock)))
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
            return result

        return await self._run(self._writer, transact)

    async def register(
        self, device: str | None, nonce: str | None, user: str, included: int, details: Mapping[str, str]
    ) -> Registration:
        def run(connection: sqlite3.Connection) -> Registration:
            return registry.Registry(connection, self._clock, self._draw).register(
                device, nonce, user, included, details
            )

        return await self._run(self._writer, run)

    async def find_device(self, device: str) -> DeviceRow | None:
        return await self._feed(lambda feed: feed.find_device(device))

    # ------------------------------------------------------------ the office's view
    async def devices(self) -> list[dict[str, Any]]:
        return await self._read(_if_provisioned(registry.list_devices))

    async def conflicts(self, wanted: RecordFilter) -> list[dict[str, Any]]:
        return await self._read(_if_provisioned(lambda connection: registry.list_conflicts(connection, wanted)))

    async def rejections(self, wanted: RecordFilter) -> list[dict[str, Any]]:
        return await self._read(_if_provisioned(lambda connection: registry.list_rejections(connection, wanted)))

    async def describe_scopes(self, plan: Plan) -> list[ScopeReport]:
        return await self._read(lambda connection: [_describe(connection, plan, scope) for scope in plan.scopes])


def _if_provisioned(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    def run(connection: sqlite3.Connection) -> T:
        if not provisioning.is_provisioned(connection):
            raise NotProvisionedError("Capture is not installed in this database.", hint="Run: syncline provision")
        return work(connection)

    return run


def _source_error(error: sqlite3.OperationalError) -> SourceError:
    text = str(error)
    if "locked" in text or "busy" in text:
        return SourceBusyError(f"The source database is held by another program ({text}).", hint="It is tried again.")
    if "disk is full" in text:
        return SourceBusyError("The disk of the source database is full.", hint="Make room.", code="source_disk_full")
    return SourceError(f"The source database refused a statement: {text}.")


def _describe(connection: sqlite3.Connection, plan: Plan, name: str) -> ScopeReport:
    """Rows per table, buckets and the largest one, counted on the source as it is."""
    scope = plan.scopes[name]
    connection.execute("DROP TABLE IF EXISTS temp.syncline_wanted")
    keys = [f"k_{index}" for index in range(1, len(scope.key) + 1)]
    connection.execute(f"CREATE TEMP TABLE syncline_wanted({', '.join(['scope', *keys, 'place'])})")
    if scope.root:
        columns = ", ".join('"' + column.replace('"', '""') + '"' for column in scope.key)
        root = '"' + scope.root.replace('"', '""') + '"'
        connection.execute(
            f"INSERT INTO temp.syncline_wanted SELECT ?1, {columns}, row_number() OVER () FROM "
            f"(SELECT DISTINCT {columns} FROM {root})",
            (name,),
        )
    else:
        connection.execute("INSERT INTO temp.syncline_wanted VALUES(?1, 1)", (name,))
    tables: dict[str, int] = {}
    per_bucket: dict[int, int] = {}
    for table in scope.tables:
        query = snapshot_sql(plan, plan.tables[table], frozenset({name}))
        assert query
        for place, rows in connection.execute(f"SELECT place, count(*) FROM ({query}) GROUP BY place"):
            tables[table] = tables.get(table, 0) + rows
            per_bucket[place] = per_bucket.get(place, 0) + rows
        tables.setdefault(table, 0)
    buckets = connection.execute("SELECT count(*) FROM temp.syncline_wanted").fetchone()[0]
    largest = max(per_bucket, key=lambda place: per_bucket[place], default=None)
    label, rows = None, 0
    if largest is not None:
        key = connection.execute(
            f"SELECT {', '.join(keys) or 'NULL'} FROM temp.syncline_wanted WHERE place = ?1", (largest,)
        ).fetchone()
        label, rows = bucket_name(name, tuple(key) if keys else ()), per_bucket[largest]
    return ScopeReport(name, tables, buckets, label, rows)
