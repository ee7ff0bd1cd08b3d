"""The port between the server and a company's database. SQLite, PostgreSQL and MariaDB implement it.

An implementation owns all SQL. What it must do is written down as tests: `syncline.testing.source_contract`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from syncline.errors import SourceError
from syncline.model.merge import Stamp
from syncline.model.schema import Schema
from syncline.model.scopes import Plan, QueryReads
from syncline.protocol.messages import Mutation
from syncline.values import Key, Value

T = TypeVar("T")
Claims = Mapping[str, Any]
Cursor = tuple[str, int]
"""A term, and a checkpoint that it reached."""


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
    asked again for; and of which tables it raised the generation, so that every device gets them whole."""

    head: Head
    buckets: frozenset[str]
    devices: frozenset[str]
    tables: frozenset[str]
    changes: int = 0
    raised: frozenset[str] = frozenset()


class TermLostError(SourceError):
    """Another sequencer took over; this one must stop."""

    code = "term_lost"


# ---------------------------------------------------------------- download
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
    included_id: bytes | None = None
    """The id of the mutation `included`, if it is still known: a copy of the device's file knows another one by it."""
    generation: int = 0
    """As in `Survey`."""
    overflow: bool = False
    """There are more entries than asked for, and none of them is here."""


@dataclass(frozen=True)
class Delta:
    """What is new for everybody since one cursor, all of one snapshot: the exact step to `head` of all who stand there.

    `rows`: bucket -> how many of its entries are new; `entries` are those of the wanted buckets, but for the `large`
    ones. `included`: of the connected devices those with a newer included mutation, its number and its id if known;
    `spoken`: of these the ones that an outcome has to be told to. `granted`: per scope whose grant may now say
    something else what it says to each of the users in order, None where a user's claims lack one that it needs, or it
    fails for that user. Not `valid`: everybody must be told by a cut of their own.
    """

    head: Head
    rows: Mapping[str, int] = field(default_factory=dict)
    entries: tuple[Entries, ...] = ()
    large: frozenset[str] = frozenset()
    included: Mapping[str, tuple[int, bytes | None]] = field(default_factory=dict)
    spoken: frozenset[str] = frozenset()
    granted: Mapping[str, tuple[frozenset[str] | None, ...]] = field(default_factory=dict)
    valid: bool = True


@dataclass(frozen=True)
class Survey:
    """What decides which download a device needs, of one snapshot. `generations`: table -> the checkpoint at which its
    generation was last raised. Not `valid`: one of the cursors is of a lost time, or behind the horizon."""

    head: Head
    granted: frozenset[str] = frozenset()
    generations: Mapping[str, int] = field(default_factory=dict)
    valid: bool = True

    @property
    def generation(self) -> int:
        """The newest of them: as long as it stays, no table has been raised."""
        return max(self.generations.values(), default=0)


@dataclass(frozen=True, slots=True)
class PageSize:
    """A page ends with what passes one of these."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class Walk:
    """Which rows the pages of a job bring: all tables of `buckets`, and of the `replaced` tables also those of `held`.

    `start` is the head that the first page saw; None asks for the first page.
    """

    buckets: frozenset[str]
    replaced: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    start: Cursor | None = None


@dataclass(frozen=True, slots=True)
class PageRows:
    """Rows of one table in key order: `images` is one JSON array of them. `of[i]` is the index, or the indexes, into
    `buckets` for row i; None where there is only one bucket. The walk may go on from `place`."""

    table: str
    layout: int
    buckets: tuple[str, ...]
    of: tuple[int | tuple[int, ...], ...] | None
    images: bytes
    count: int
    place: str


@dataclass(frozen=True)
class Page:
    """Rows of one snapshot, of buckets that were granted in it, table by table in key order. `next` is where the walk
    goes on, None at its end. `exact`: nothing waited in the queue; where the last page is not, a marker must pass."""

    survey: Survey
    exact: bool
    rows: tuple[PageRows, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Since:
    """Which entries are wanted: those of `buckets` after a checkpoint."""

    buckets: frozenset[str]
    after: int


@dataclass(frozen=True)
class LapPage:
    """Entries up to the checkpoint `upto`, read in one snapshot. What is changed meanwhile moves beyond it."""

    survey: Survey
    entries: tuple[Entries, ...]
    upto: int
    next: str | None


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
    """The database refused a write for the data's fault: `code` and a `reason` that names no row's values.

    `place`: which mutation of the prepared group it is about, where that is not the one being judged. `may_pass_later`:
    in a group it may be all right once what comes after it is written too.
    """

    def __init__(self, code: str, reason: str, *, place: int | None = None, may_pass_later: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.place = place
        self.may_pass_later = may_pass_later


class PiecemealError(Exception):
    """What was written together did not end as it would have one by one: roll back to the savepoint, and go one by
    one."""


class TransactionLostError(Exception):
    """The database gave the whole transaction up for the data's fault, at COMMIT or in a trigger: start again from its
    first group, each group in a transaction of its own; one that fails alone is refused with `refusal`."""

    def __init__(self, refusal: SourceRefusedError) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class UploadPace:
    """How uploads are cut for a source. A transaction ends at the next group's end when it has lasted `hold_seconds`:
    others may be waiting for what it locks. Neighbouring unmarked mutations are tried in runs of as many as lately took
    that long, from `run_min` to `run_max`, beginning with `run_first`. `together`: a run is judged and written as a
    set, and halved where that fails."""

    hold_seconds: float
    run_min: int
    run_first: int
    run_max: int
    together: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A group of mutations in the source's own words: keys and values as it would give them back. `waves`: their places
    in the order in which to judge them; no wave has two of one row. `respelled`: numbers of those that the device wrote
    in other words."""

    mutations: tuple[Mutation, ...]
    waves: tuple[tuple[int, ...], ...]
    respelled: frozenset[int] = frozenset()


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

    async def prepare(self, mutations: Sequence[Mutation], *, together: bool) -> Prepared:
        """A group begins. `together`: its writes may be held back and done at once at the end of a wave; PiecemealError
        comes then for whatever goes wrong. SourceRefusedError, with its place, for a value that is not of its column's
        type."""
        ...

    async def begin_wave(self, mutations: Sequence[Mutation]) -> None:
        """These prepared ones are judged next: lock and read what they are about."""
        ...

    def same(self, table: str, column: str, a: Value, b: Value) -> bool:
        """Whether two values are equal in the source: 1.5 and 1.50 are, in a column of decimals."""
        ...

    async def read_row(self, table: str, key: Key) -> RowRead:
        """The row and, in the same statement, its stamps with waiting changes folded over them (rule 12)."""
        ...

    async def write_row(self, table: str, key: Key, operation: str, values: Mapping[str, Value], stamp: Stamp) -> bool:
        """Insert, update or delete; SourceRefusedError for the data's fault. False if nothing was changed."""
        ...

    async def buckets_of(self, table: str, key: Key) -> frozenset[str]:
        """The buckets that hold the row now."""
        ...

    async def made_since(self, table: str, stamp: Stamp) -> list[Key]:
        """Keys of the rows that came to be by this transaction's writes of this stamp and later ones of its writer,
        also by what the company's rules and cascades made of them."""
        ...

    async def touch(self, table: str, key: Key, columns: Iterable[str] = (), stamp: Stamp | None = None) -> None:
        """Have the next cut refresh the key's image; raise the stamps of `columns` to `stamp`."""
        ...

    async def defer_constraints(self) -> None:
        """For the rest of this transaction foreign keys are checked at its end (TransactionLostError), or a group's."""
        ...

    async def savepoint(self) -> None: ...

    async def release(self) -> None:
        """SourceRefusedError where a constraint that waited for the end of the group refuses it."""
        ...

    async def rollback_to_savepoint(self) -> None: ...

    async def record(self, device: DeviceRow, outcome: StoredOutcome) -> None: ...

    async def finish_device(self, device: DeviceRow, last: int, last_stamp_us: int, floor: int) -> None: ...

    def elapsed_seconds(self) -> float:
        """How long this transaction has been holding what others may wait for."""
        ...


# ---------------------------------------------------------------- reports
@dataclass(frozen=True)
class ProvisionReport:
    """`created`: tables newly under capture; `unchanged`: those that already were; `statements`: the script; `anew`:
    those that every device gets whole with the next checkpoint."""

    created: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    statements: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with an installation, what to do about it, and a stable code. With `is_note` nothing is wrong:
    it is good to know."""

    what: str
    remedy: str
    code: str
    is_note: bool = False


@dataclass(frozen=True)
class ExampleDownload:
    """What one user's first download of a scope brings: `bytes` of rows as JSON, before compression."""

    claims: Claims
    buckets: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class ScopeReport:
    """What `check` says of one scope. `keyless_rows`: table -> rows whose key holds NULL, which sync to nobody.
    `example` is None where no user was found or named whom the grant knows. `estimated`: tables too large to be
    counted, of which the database's own estimate of all rows stands in `tables`; `largest_bucket` is not known then.
    `warnings`: what kept it from being told."""

    scope: str
    tables: dict[str, int]
    buckets: int
    largest_bucket: str | None = None
    largest_rows: int = 0
    keyless_rows: dict[str, int] = field(default_factory=dict)
    example: ExampleDownload | None = None
    estimated: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registration:
    """What `hello` decides about a device (DESIGN.md section 7, identity)."""

    device: str
    number: int
    nonce: str
    identity: str
    last: int
    reoffer_sent: bool
    last_id: bytes | None = None


@dataclass(frozen=True)
class RecordFilter:
    user: str | None = None
    device: str | None = None
    limit: int = 1000


class Source(Protocol):
    """One database. Methods raise SourceError and its kin for what is wrong with the database itself."""

    kind: str
    pace: UploadPace

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

    async def adopt(self, plan: Plan) -> None:
        """Like `attach`, for a plan made anew after the schema changed: where capture does not fit it any more it is
        put back first, if this process may do so, and tables of which changes may have been missed get a new
        generation at the next checkpoint. SchemaChangedError where it has to wait or be done by a person."""
        ...

    async def require_schema(self) -> None:
        """SchemaChangedError where the captured tables are not what `attach` saw."""
        ...

    def stopped(self) -> frozenset[str]:
        """Captured tables of which nothing is taken, while all else goes on: their capture is lost, and this process
        may not put it back."""
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

    # the office's view
    async def devices(self) -> list[dict[str, Any]]: ...

    async def conflicts(self, wanted: RecordFilter) -> list[dict[str, Any]]: ...

    async def rejections(self, wanted: RecordFilter) -> list[dict[str, Any]]: ...

    async def describe_scopes(self, plan: Plan, claims: Claims | None = None) -> list[ScopeReport]:
        """What `check` tells; for the user with these claims, or one that is found."""
        ...
