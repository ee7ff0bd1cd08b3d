"""The port itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from syncline.model.schema import Schema
from syncline.model.scopes import Plan, QueryReads
from syncline.source.port.downloads import (
    Claims,
    Cursor,
    Cut,
    Delta,
    LapPage,
    Page,
    PageSize,
    Since,
    Survey,
    Walk,
)
from syncline.source.port.reports import (
    Finding,
    ProvisionReport,
    RecordFilter,
    Registration,
    Removal,
    ScopeReport,
)
from syncline.source.port.terms import Checkpoint, Head
from syncline.source.port.uploads import (
    DeviceRow,
    UploadPace,
    WriteTransaction,
)

T = TypeVar("T")


class Source(Protocol):
    """One database. Methods raise SourceError and its kin for what is wrong with the database itself."""

    kind: str
    pace: UploadPace
    stops_single_tables: bool
    """Whether it serves a plan with tables and grants that are `unfit`, without them."""

    async def introspect(self) -> Schema: ...

    async def reads_of_query(self, query: str) -> QueryReads:
        """Which tables and columns a query reads, views resolved; ConfigError if it does not parse or would write."""
        ...

    async def reads_of_filter(self, table: str, where: str) -> QueryReads: ...

    async def close(self) -> None: ...

    # provisioning
    async def provision(self, plan: Plan) -> ProvisionReport:
        """Install capture for the plan; idempotent; takes off what the plan no longer needs."""
        ...

    async def deprovision(self) -> Removal:
        """Remove every trace, but for what the answer says is left."""
        ...

    async def provision_script(self, plan: Plan) -> tuple[str, ...]: ...

    async def pending_provision(self, plan: Plan) -> list[str]:
        """What `provision` would change, in words; empty if nothing."""
        ...

    async def attach(self, plan: Plan) -> None:
        """Get ready to serve the plan; NotProvisionedError or SchemaChangedError if capture does not fit it."""
        ...

    async def adopt(self, plan: Plan) -> None:
        """Like `attach`, for a plan made anew after the schema changed: where capture does not fit it any more it is
        put back first, if this process may do so, and tables of which changes may have been missed get a new
        generation at the next checkpoint. SchemaChangedError where it has to wait or be done by a person."""
        ...

    async def require_schema(self) -> None:
        """SchemaChangedError where the captured tables are not what `attach` saw."""
        ...

    def stopped(self) -> frozenset[str]:
        """Captured tables of which nothing is taken, while all else goes on: `troubles` says why."""
        ...

    def troubles(self) -> list[Finding]:
        """Why nothing is taken of those tables, with the remedies; also grants that cannot be asked."""
        ...

    def layouts(self) -> Mapping[str, int]:
        """Synced table -> number of the layout that its images have; empty before `attach`."""
        ...

    # migrations
    async def suspend(self, tables: Collection[str] | None = None) -> frozenset[str]:
        """Take capture off these tables (None: all), so that a migration may change them, until `provision` puts it
        back; what is written meanwhile is noticed. The answer: the tables that it was taken off."""
        ...

    async def diagnose(self, plan: Plan | None) -> list[Finding]:
        """What is wrong, for `doctor`; with a plan, also whether capture fits it."""
        ...

    async def suspend_script(self, tables: Collection[str] | None = None) -> tuple[str, ...]: ...

    async def resume_script(self) -> tuple[str, ...]: ...

    # sequencer
    async def begin_term(self, term: str) -> Head | None:
        """Become the one active sequencer, or None while another one is."""
        ...

    async def take_checkpoint(self, term: str) -> Checkpoint | None:
        """Take everything that waits and make it the next checkpoint; None if nothing was due."""
        ...

    async def end_term(self, term: str) -> None: ...

    async def wait_for_change(self, seconds: float) -> bool:
        """Return when somebody committed, or after `seconds`; True if there may be work."""
        ...

    # downloads
    async def seal_key(self) -> bytes:
        """64 random bytes that every process of this source gets, and nobody else: drawn once per installation, gone
        with `deprovision`."""
        ...

    async def read_head(self) -> Head: ...

    async def changed_since(self, checkpoint: int) -> Checkpoint:
        """What has changed after a checkpoint, for gateways that tail the feed."""
        ...

    async def granted(self, claims: Claims) -> frozenset[str]: ...

    async def read_survey(self, claims: Claims, known: Sequence[Cursor]) -> Survey:
        """Not `valid` unless the source knows each of these cursors and still has every entry after them."""
        ...

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
        """Head, grants, the entries of held buckets after the cursor, those of `added`, outcomes: all
        of one snapshot. Not `valid` if the source does not know the cursor; `overflow` if there are more
        entries than `size`."""
        ...

    async def read_page(
        self, claims: Claims, walk: Walk, place: str | None, known: Sequence[Cursor], size: PageSize
    ) -> Page:
        """The rows of a walk from `place` on (None: from its beginning), with grants and memberships as they are in the
        page's own snapshot. Not `valid` also where `place` means nothing to the source. Whoever asks again with the
        same walk and place, hours later or of another process, gets what is there then."""
        ...

    async def read_lap(
        self,
        claims: Claims,
        feed: Sequence[Since],
        upto: int | None,
        place: str | None,
        known: Sequence[Cursor],
        size: PageSize,
    ) -> LapPage:
        """Entries of granted buckets up to `upto` (None: up to the head of this snapshot), from `place` on."""
        ...

    async def count_rows(self, walk: Walk, seconds_max: float) -> int | None:
        """How many rows a walk will bring, about; None if that takes too long."""
        ...

    async def read_delta(
        self,
        cursor: tuple[str, int],
        wanted: Container[str],
        connected: Mapping[str, int],
        users: Sequence[Claims],
        rows_max: int,
    ) -> Delta:
        """What is new since `cursor`. `connected`: device -> its included number at the cursor; `users`: whom to ask
        grants for, where they may have changed; a bucket with more than `rows_max` new entries is large."""
        ...

    async def put_marker(self) -> int: ...

    async def marker_passed(self, marker: int) -> bool: ...

    # retention
    async def prune(self, term: str, before_us: int) -> bool:
        """One short write transaction of the sequencer's: forget something of what is older, and note the horizon
        first. False when nothing is left to forget."""
        ...

    # uploads and devices
    async def write(self, work: Callable[[WriteTransaction], Awaitable[T]], claims: Claims | None = None) -> T:
        """Run `work` in one write transaction and commit; what it raises rolls everything back. It may be run again in
        another one where the database gave the first up. `claims`: whose writes they are, for the company's rules."""
        ...

    async def register(
        self, device: str | None, nonce: str | None, user: str, included: int, details: Mapping[str, str]
    ) -> Registration: ...

    async def find_device(self, device: str) -> DeviceRow | None: ...

    # what is counted
    async def count_up(self, counts: Mapping[str, int]) -> None:
        """Add to counters that all processes of this source share and that outlive them, in one short transaction."""
        ...

    async def counters(self) -> dict[str, int]:
        """All that were ever counted up."""
        ...

    # the office's view
    async def devices(self) -> list[dict[str, Any]]: ...

    async def conflicts(self, wanted: RecordFilter) -> list[dict[str, Any]]: ...

    async def rejections(self, wanted: RecordFilter) -> list[dict[str, Any]]: ...

    async def describe_scopes(self, plan: Plan, claims: Claims | None = None) -> list[ScopeReport]:
        """What `check` tells; for the user with these claims, or one that is found."""
        ...
