"""The transaction of an upload, and what may come of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from syncline.model.merge import Stamp
from syncline.protocol.messages import Mutation
from syncline.source.port.downloads import Claims
from syncline.values import Key, Value


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

    async def grants_moved(self) -> bool:
        """Whether this transaction, by its own writes or by what they set off, has changed a table that grants read
        since `granted` was last asked."""
        ...

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
