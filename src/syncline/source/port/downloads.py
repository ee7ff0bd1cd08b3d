"""What devices are told: cuts, pages, and who may hold what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from syncline.source.port.terms import Head

Claims = Mapping[str, Any]
Cursor = tuple[str, int]
"""A term, and a checkpoint that it reached."""


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
