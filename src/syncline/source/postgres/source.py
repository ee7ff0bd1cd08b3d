"""`PostgresSource`: the port of `syncline.source.port` on a PostgreSQL database.

Reads and uploads take a pooled connection for one transaction each, so that a pooler may stand between; the sequencer
and provisioning have sessions of their own.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from syncline.clock import Clock
from syncline.errors import NotProvisionedError
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
    Survey,
    UploadPace,
    Walk,
    WriteTransaction,
)
from syncline.source.postgres import adopting, diagnosis, reads, registry, suspending, troubles, unfit, writing
from syncline.source.postgres import counters as counting
from syncline.source.postgres import introspect as introspection
from syncline.source.postgres import provision as provisioning
from syncline.source.postgres.adopting import Attachment
from syncline.source.postgres.claims import grant_parameters
from syncline.source.postgres.connections import Connections
from syncline.source.postgres.delta import DeltaReader
from syncline.source.postgres.describe import describe_scopes
from syncline.source.postgres.feed import FeedReader
from syncline.source.postgres.laps import LapReader
from syncline.source.postgres.names import CAPTURE_ROLE_DEFAULT
from syncline.source.postgres.pages import PageReader
from syncline.source.postgres.retention import Retention
from syncline.source.postgres.sequencer import PostgresSequencer
from syncline.system.clock import SYSTEM_CLOCK

T = TypeVar("T")


class PostgresSource:
    """`url` may lead to a pooler in transaction mode; then `direct_url` names the database itself, for what needs a
    session. `write_role` and `session` are as in `[source]`; `service_role` is whom `provision` gives the rights that
    serving needs, where it is run by another role; `capture_role` is as in `[source]`."""

    kind = "postgres"
    stops_single_tables = True
    pace = UploadPace(hold_seconds=0.25, run_min=10, run_first=100, run_max=500, together=True)

    def __init__(
        self,
        url: str,
        *,
        direct_url: str | None = None,
        write_role: str = "",
        session: Mapping[str, str] | None = None,
        service_role: str = "",
        capture_role: str = CAPTURE_ROLE_DEFAULT,
        clock: Clock = SYSTEM_CLOCK,
        draw: Callable[[], str] = lambda: secrets.token_hex(16),
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`tell` hears of what takes long while capture is put in or taken out."""
        self._clock = clock
        self._draw = draw
        self._tell = tell
        self._writing = writing.WriteOptions(write_role, dict(session or {}))
        self._service_role = service_role
        self._capture_role = capture_role
        self._db = Connections(url, direct_url)
        self._sequencer = PostgresSequencer(self._db, clock)
        self._retention = Retention(clock)
        self._migration = suspending.Migration(self._db)
        self._attachment: Attachment | None = None
        self._unfit = unfit.Unfit(self._db)

    # ------------------------------------------------------------ plumbing
    def _attached(self) -> Attachment:
        if self._attachment is None:
            raise NotProvisionedError("The source was opened without a plan.", hint="Call attach(plan) first.")
        return self._attachment

    async def _read(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """What is ours, and what the catalogue says."""
        async with self._db.catalogue() as db:
            return await work(db)

    async def _read_source(
        self, work: Callable[[asyncpg.Connection, Attachment], Awaitable[T]], *, rows: bool = False
    ) -> T:
        """Asks grants; with `rows`, reads the company's rows too, and gives way to whom it holds up. SchemaMovingError
        while they may not be what the plan was made for."""
        attached = self._attached()
        return await attached.standing.reading(self._db, lambda db: work(db, attached), rows=rows)

    async def close(self) -> None:
        await self._migration.end()
        await self._sequencer.close()
        await self._db.close()

    # ------------------------------------------------------------ schema
    async def introspect(self) -> Schema:
        return await self._read(introspection.introspect)

    async def reads_of_query(self, query: str) -> QueryReads:
        parameters = grant_parameters(query)
        async with self._db.transaction() as db:
            return await reads.reads_of_query(db, query, parameters)

    async def reads_of_filter(self, table: str, where: str) -> QueryReads:
        async with self._db.transaction() as db:
            return await reads.reads_of_filter(db, table, where)

    # ------------------------------------------------------------ provisioning
    async def provision(self, plan: Plan) -> ProvisionReport:
        report = await provisioning.provision(
            self._db, plan, self._service_role, self._tell, capture_role=self._capture_role
        )
        await self._migration.end()
        return report

    async def provision_script(self, plan: Plan) -> tuple[str, ...]:
        return provisioning.script(plan, self._service_role, self._capture_role)

    async def pending_provision(self, plan: Plan) -> list[str]:
        """What `provision` would change, in words."""
        return await self._read(lambda db: provisioning.pending_changes(db, plan))

    async def deprovision(self) -> Removal:
        return await provisioning.deprovision(self._db, self._tell)

    async def attach(self, plan: Plan) -> None:
        self._attachment = await self._read(lambda db: adopting.attach(db, plan))
        self._unfit = unfit.Unfit(self._db, plan)

    async def adopt(self, plan: Plan) -> None:
        attachment = await adopting.adopt(self._db, plan, self._attachment, self._tell)
        await self._sequencer.follow(attachment)
        self._attachment = attachment
        self._unfit = unfit.Unfit(self._db, plan)

    async def require_schema(self) -> None:
        standing = self._attached().standing

        async def look(db: asyncpg.Connection) -> None:
            await standing.require(db)
            await standing.look_elsewhere(db)

        await self._read(look)
        await self._unfit.look()

    def stopped(self) -> frozenset[str]:
        if self._attachment is None:
            return frozenset()
        standing = self._attachment.standing
        return standing.stopped if self._sequencer.is_active else standing.unread

    def troubles(self) -> list[Finding]:
        if self._attachment is None:
            return []
        found = self._attachment.standing.troubles(elsewhere=not self._sequencer.is_active)
        return troubles.told(self._attachment.plan, found)

    def layouts(self) -> Mapping[str, int]:
        return self._attachment.layouts if self._attachment else {}

    # ------------------------------------------------------------ migrations
    async def suspend(self, tables: Collection[str] | None = None) -> frozenset[str]:
        return await self._migration.begin(tables, self._tell)

    async def suspend_script(self, tables: Collection[str] | None = None) -> tuple[str, ...]:
        return await self._read(lambda db: suspending.suspend_script(db, tables))

    async def resume_script(self) -> tuple[str, ...]:
        return suspending.resume_script()

    async def diagnose(self, plan: Plan | None) -> list[Finding]:
        return await diagnosis.diagnose(self._db, plan)

    # ------------------------------------------------------------ sequencer
    async def begin_term(self, term: str) -> Head | None:
        return await self._sequencer.begin_term(self._attached(), term)

    async def take_checkpoint(self, term: str) -> Checkpoint | None:
        await self._unfit.look()
        return await self._sequencer.take_checkpoint(term)

    async def end_term(self, term: str) -> None:
        await self._sequencer.end_term(term)

    async def wait_for_change(self, seconds: float) -> bool:
        return await self._sequencer.wait_for_change(seconds)

    # ------------------------------------------------------------ downloads
    async def seal_key(self) -> bytes:
        async with self._db.transaction() as db:
            return await registry.seal_key(db)

    async def read_head(self) -> Head:
        return await self._read(lambda db: FeedReader(db, self._attached().sql).head())

    async def changed_since(self, checkpoint: int) -> Checkpoint:
        return await self._read(lambda db: FeedReader(db, self._attached().sql).changed_since(checkpoint))

    async def granted(self, claims: Claims) -> frozenset[str]:
        return await self._read_source(lambda db, attached: FeedReader(db, attached.sql).granted(claims))

    async def read_survey(self, claims: Claims, known: Sequence[Cursor]) -> Survey:
        return await self._read_source(lambda db, attached: FeedReader(db, attached.sql).read_survey(claims, known))

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
            lambda db, attached: FeedReader(db, attached.sql).read_cut(
                device, claims, held, cursor, included, added, size
            )
        )

    async def read_page(
        self, claims: Claims, walk: Walk, place: str | None, known: Sequence[Cursor], size: PageSize
    ) -> Page:
        return await self._read_source(
            lambda db, attached: PageReader(db, attached.sql, attached.standing.unread).read_page(
                claims, walk, place, known, size
            ),
            rows=True,
        )

    async def count_rows(self, walk: Walk, seconds_max: float) -> int | None:
        return await self._read_source(
            lambda db, attached: PageReader(db, attached.sql, attached.standing.unread).count_rows(walk, seconds_max),
            rows=True,
        )

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
            lambda db, attached: LapReader(db, attached.sql).read_lap(claims, feed, upto, place, known, size)
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
            lambda db, attached: DeltaReader(db, attached.sql).read(cursor, wanted, connected, users, rows_max)
        )

    async def put_marker(self) -> int:
        marker = int(self._draw()[:15], 16)
        async with self._db.transaction() as db:
            await db.execute("INSERT INTO syncline.marker(id) VALUES($1)", marker)
        self._sequencer.wake()
        return marker

    async def marker_passed(self, marker: int) -> bool:
        async with self._db.transaction() as db:
            return not await db.fetchval("SELECT EXISTS(SELECT FROM syncline.marker WHERE id = $1)", marker)

    # ------------------------------------------------------------ retention
    async def prune(self, term: str, before_us: int) -> bool:
        async with self._db.transaction() as db:
            return await self._retention.step(db, term, before_us)

    # ------------------------------------------------------------ uploads and devices
    async def write(self, work: Callable[[WriteTransaction], Awaitable[T]], claims: Claims | None = None) -> T:
        result = await writing.write(self._db, self._attached(), self._clock, self._writing, work, claims)
        self._sequencer.wake()
        return result

    async def register(
        self, device: str | None, nonce: str | None, user: str, included: int, details: Mapping[str, str]
    ) -> Registration:
        async with self._db.transaction() as db:
            return await registry.Registry(db, self._clock, self._draw).register(device, nonce, user, included, details)

    async def find_device(self, device: str) -> DeviceRow | None:
        async with self._db.transaction() as db:
            return await registry.find_device(db, device)

    # ------------------------------------------------------------ what is counted
    async def count_up(self, counts: Mapping[str, int]) -> None:
        async with self._db.transaction() as db:
            await counting.count_up(db, counts)

    async def counters(self) -> dict[str, int]:
        return await self._read(counting.counters)

    # ------------------------------------------------------------ the office's view
    async def devices(self) -> list[dict[str, Any]]:
        return await self._read(registry.list_devices)

    async def conflicts(self, wanted: RecordFilter) -> list[dict[str, Any]]:
        return await self._read(lambda db: registry.list_conflicts(db, wanted))

    async def rejections(self, wanted: RecordFilter) -> list[dict[str, Any]]:
        return await self._read(lambda db: registry.list_rejections(db, wanted))

    async def describe_scopes(self, plan: Plan, claims: Claims | None = None) -> list[ScopeReport]:
        return await describe_scopes(self._db, plan, claims)
