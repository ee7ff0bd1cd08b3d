"""The port between the server and a company's database. SQLite, PostgreSQL and MariaDB implement it.

An implementation owns all SQL. What it must do is written down as tests: `syncline.testing.source_contract`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from syncline.model.merge import Stamp
from syncline.model.schema import Schema
from syncline.model.scopes import Plan, QueryReads
from syncline.values import Key, Value

T = TypeVar("T")
Claims = Mapping[str, Any]


# ---------------------------------------------------------------- sequencer
@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint: its number, the term of the sequencer that took it, and the source's time then (µs)."""

    term: str
    checkpoint: int
    time_us: int


@dataclass(frozen=True)
class Checkpoint:
    """What taking one changed: which buckets got entries, which devices were included, which tables grants must be
    asked again for."""

    head: Head
    buckets: frozenset[str]
    devices: frozenset[str]
    tables: frozenset[str]
    changes: int = 0


# ---------------------------------------------------------------- download
@dataclass(frozen=True, slots=True)
class BucketRows:
    """Rows of one table as canonical JSON images in key order; `of[i]` lists the indexes into `buckets` of row i."""

    table: str
    layout: int
    buckets: tuple[str, ...]
    of: tuple[tuple[int, ...], ...]
    keys: tuple[str, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entries:
    """What the feed says of one (bucket, table): `rows` put, with their `keys`, and the keys `removed`."""

    table: str
    layout: int
    bucket: str
    keys: tuple[str, ...]
    rows: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutcomeRecord:
    """What became of a mutation. With `has_state`, `state` is the row's image at the cut, or None: absent for the
    user."""

    number: int
    kind: str
    code: str
    reason: str
    table: str
    key: str
    conflicts: str
    state: str | None = None
    has_state: bool = False


@dataclass(frozen=True)
class Cut:
    """One exact read: everything in it is the state at `head`."""

    head: Head
    included: int
    granted: frozenset[str]
    entries: tuple[Entries, ...]
    outcomes: tuple[OutcomeRecord, ...]
    valid: bool = True


@dataclass(frozen=True)
class Snapshot:
    """All rows of some buckets, read in one transaction that saw checkpoint `after`.

    `exact`: nothing waited in the queue then, so it *is* the cut at `after`. Otherwise a marker must pass first.
    """

    after: int
    exact: bool
    buckets: frozenset[str]
    rows: tuple[BucketRows, ...]


# ---------------------------------------------------------------- upload
@dataclass(frozen=True, slots=True)
class RowRead:
    """A row as the upload's transaction sees it: visible and hidden columns, and when each was last written."""

    values: dict[str, Value] | None
    stamps: dict[str, Stamp]
    born: Stamp | None
    died: Stamp | None
    buckets: frozenset[str]


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """`newest_us`: the newest time that this source ever gave a stamp or a cut; its clock never falls behind it."""

    device: str
    number: int
    user: str
    last: int
    last_stamp_us: int
    newest_us: int = 0


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """One mutation's outcome as it is stored, with what the office's records need. `kind`: applied, merged, rejected,
    duplicate; `code` says more of a merged one: gone, reborn."""

    number: int
    id: bytes | None
    kind: str
    code: str
    reason: str
    table: str
    operation: str
    key: Key
    stamp_us: int
    values: dict[str, Value] | None = None
    conflicts: tuple[ConflictRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ConflictRecord:
    """`kind`: won (the device overwrote somebody unseen), lost (its value was left out), gone, reborn, delete."""

    column: str
    kind: str
    rule: str
    base: Value
    server: Value
    device: Value
    row: dict[str, Value] | None = None


class SourceRefusedError(Exception):
    """The database refused a write for the data's fault: `code` and a `reason` that names no row's values."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class TransactionLostError(Exception):
    """The database gave the whole transaction up for the data's fault, at COMMIT or in a trigger: start again from its
    first group, each group in a transaction of its own; one that fails alone is refused with `refusal`."""

    def __init__(self, refusal: SourceRefusedError) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class WriteTransaction(Protocol):
    """One transaction of an upload. Everything that it did is committed together, or nothing."""

    async def lock_device(self, device: str) -> DeviceRow | None: ...

    async def known_ids(self, ids: Iterable[bytes]) -> dict[bytes, str]:
        """Of these mutation ids those ever stored, with the device that sent them."""
        ...

    async def rejected_insert(self, device: str, table: str, key: Key, above: int) -> int | None:
        """The number of the device's last insert of this key, of those numbered above `above`, if it was rejected."""
        ...

    async def id_of_number(self, device: str, number: int) -> bytes | None: ...

    async def granted(self, claims: Claims) -> frozenset[str]: ...

    async def read_row(self, table: str, key: Key) -> RowRead:
        """The row and, in the same statement, its stamps with waiting changes folded over them (rule 12)."""
        ...

    async def write_row(self, table: str, key: Key, operation: str, values: Mapping[str, Value], stamp: Stamp) -> bool:
        """Insert, update or delete; SourceRefusedError for the data's fault. False if nothing was changed."""
        ...

    async def buckets_of(self, table: str, key: Key) -> frozenset[str]:
        """The buckets that hold the row now."""
        ...

    async def touch(self, table: str, key: Key, columns: Iterable[str] = (), stamp: Stamp | None = None) -> None:
        """Have the next cut refresh the key's image; raise the stamps of `columns` to `stamp`."""
        ...

    async def savepoint(self) -> None: ...

    async def release(self) -> None: ...

    async def rollback_to_savepoint(self) -> None: ...

    async def record(self, device: DeviceRow, outcome: StoredOutcome) -> None: ...

    async def finish_device(self, device: DeviceRow, last: int, last_stamp_us: int, floor: int) -> None: ...

    def elapsed_seconds(self) -> float:
        """How long this transaction has been holding what others may wait for."""
        ...


# ---------------------------------------------------------------- reports
@dataclass(frozen=True)
class ProvisionReport:
    """`created`: tables newly under capture; `unchanged`: those that already were; `statements`: the script."""

    created: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    statements: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScopeReport:
    """What `check` says of one scope. `example`: a bucket, its rows and bytes as downloaded."""

    scope: str
    tables: dict[str, int]
    buckets: int
    largest_bucket: str | None = None
    largest_rows: int = 0


@dataclass(frozen=True)
class Registration:
    """What `hello` decides about a device (DESIGN.md section 7, identity)."""

    device: str
    number: int
    nonce: str
    identity: str
    last: int
    reoffer_sent: bool


@dataclass(frozen=True)
class RecordFilter:
    user: str | None = None
    device: str | None = None
    limit: int = 1000


class Source(Protocol):
    """One database. Methods raise SourceError and its kin for what is wrong with the database itself."""

    kind: str

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

    async def deprovision(self) -> bool:
        """Remove every trace; False if there was none."""
        ...

    async def provision_script(self, plan: Plan) -> tuple[str, ...]: ...

    async def pending_provision(self, plan: Plan) -> list[str]:
        """What `provision` would change, in words; empty if nothing."""
        ...

    async def attach(self, plan: Plan) -> None:
        """Get ready to serve the plan; NotProvisionedError or SchemaChangedError if capture does not fit it."""
        ...

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
    async def read_head(self) -> Head: ...

    async def changed_since(self, checkpoint: int) -> Checkpoint:
        """What has changed after a checkpoint, for gateways that tail the feed."""
        ...

    async def granted(self, claims: Claims) -> frozenset[str]: ...

    async def read_cut(
        self,
        device: str,
        claims: Claims,
        held: frozenset[str],
        cursor: tuple[str, int] | None,
        included: int,
        snapshot: Snapshot | None,
    ) -> Cut:
        """Head, grants, the entries of held buckets after the cursor and of the snapshot's buckets after the snapshot,
        outcomes: all of one snapshot. Not `valid` if the source does not know the cursor."""
        ...

    async def read_snapshot(self, buckets: frozenset[str]) -> Snapshot: ...

    async def put_marker(self) -> int: ...

    async def marker_passed(self, marker: int) -> bool: ...

    # uploads and devices
    async def write(self, work: Callable[[WriteTransaction], Awaitable[T]]) -> T:
        """Run `work` in one write transaction and commit; what it raises rolls everything back."""
        ...

    async def register(
        self, device: str | None, nonce: str | None, user: str, included: int, details: Mapping[str, str]
    ) -> Registration: ...

    async def find_device(self, device: str) -> DeviceRow | None: ...

    # the office's view
    async def devices(self) -> list[dict[str, Any]]: ...

    async def conflicts(self, wanted: RecordFilter) -> list[dict[str, Any]]: ...

    async def rejections(self, wanted: RecordFilter) -> list[dict[str, Any]]: ...

    async def describe_scopes(self, plan: Plan) -> list[ScopeReport]: ...
