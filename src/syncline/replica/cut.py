"""Collecting the frames of one answer: few in memory, many in the file, and nothing applied before `commit`.

While a download runs no write lock is held but for the moment in which a page, or a chunk of frames, is put aside.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from syncline import limits
from syncline.errors import LimitError, ProtocolError
from syncline.protocol import checks
from syncline.protocol.messages import optional_id
from syncline.replica.stage import Progress, Stage, Tail
from syncline.replica.store import TAIL, Store

MEMORY_ROWS_MAX = 20_000
MEMORY_BYTES_MAX = 8 * 1024 * 1024
"""What is above one of these waits in `syncline_stage`."""


class Frame(dict[str, Any]):
    """A frame that still knows its bytes as they came (packed), so that putting it aside costs nothing."""

    __slots__ = ("packed",)

    def __init__(self, content: dict[str, Any], packed: bytes) -> None:
        super().__init__(content)
        self.packed = packed


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a cut. `buckets_added`: names; `time_us`: the server's time of it. `cursor` None: as it is."""

    cursor: str | None
    checkpoint: int
    buckets_added: tuple[str, ...]
    included: int
    time_us: int
    apply_count: int
    more: bool
    included_id: bytes | None = None

    @classmethod
    def load(cls, frame: dict[str, Any]) -> Commit:
        buckets = frame.get("buckets") or {}
        if type(buckets) is not dict:
            raise checks.bad("buckets", "is not an object")
        added = checks.texts(buckets, "add", limits.BUCKETS_PER_USER_MAX) if "add" in buckets else []
        return cls(
            cursor=checks.optional_text(frame, "cursor"),
            checkpoint=checks.integer(frame, "checkpoint"),
            buckets_added=tuple(added),
            included=checks.integer(frame, "included"),
            time_us=checks.integer(frame, "time"),
            apply_count=checks.integer(frame, "apply_count"),
            more=checks.boolean(frame, "more"),
            included_id=optional_id(frame, "included_id"),
        )


@dataclass
class Cut:
    """What came of an answer so far. `apply_count` is that of the file which it was made for, `pages` how many of its
    pages are durable.

    `stage`: "new" opens a paged download, "resume" goes on with one, "keep" leaves what is staged alone, None throws it
    away. `is_stale`: made for another state of the file, and left aside. `expected`: how many rows the server thinks
    will come; `received`: how many did.
    """

    reset: bool
    expected: int | None
    stage: str | None = None
    apply_count: int | None = None
    is_stale: bool = False
    buckets: tuple[str, ...] = ()
    pages: int = 0
    received: int = 0
    bytes: int = 0
    tail: Tail = field(default_factory=Tail)

    @property
    def is_paged(self) -> bool:
        return self.stage in ("new", "resume")

    @property
    def opening(self) -> tuple[bool, tuple[str, ...]] | None:
        """For the first page of a paged download: whether it is a reset, and its new buckets."""
        return (self.reset, self.buckets) if self.stage == "new" and not self.pages else None


BODY = frozenset({"rows", "remove", "replace", "drop_bucket", "outcome"})
_STAGES = (None, "new", "resume", "keep")


class Collector:
    """Takes frames in the order of docs/protocol.md; `take` answers the finished cut with its commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stage = Stage(store)
        self._has_left_tail = False
        self.cut: Cut | None = None

    def take(self, frame: dict[str, Any]) -> tuple[Cut, Commit] | None:
        kind = frame.get("t")
        if kind == "begin":
            self._begin(frame)
            return None
        cut = self.cut
        if cut is None:
            raise ProtocolError(f'A frame "{kind}" came outside a cut.', code="bad_order")
        if kind == "pause" or (cut.is_stale and kind == "commit"):
            self.abandon()
        elif cut.is_stale:
            pass
        elif kind == "commit":
            return cut, Commit.load(frame)
        elif kind in BODY:
            self._keep(cut, frame)
        elif kind == "stage":
            cut.buckets = tuple(checks.texts(frame, "buckets", limits.BUCKETS_PER_USER_MAX))
        elif kind == "progress":
            self._page(cut, Progress.load(frame))
        else:
            raise ProtocolError(f'A frame of the unknown kind "{kind}" came.', code="bad_frame")
        return None

    def _begin(self, frame: dict[str, Any]) -> None:
        self.abandon()
        if self._has_left_tail:
            self._stage.drop_tail()
            self._has_left_tail = False
        stage = checks.optional_text(frame, "stage")
        if stage not in _STAGES:
            raise checks.bad("stage", f"is none of {', '.join(map(str, _STAGES))}")
        cut = Cut(checks.boolean(frame, "reset"), checks.optional_integer(frame, "rows"), stage)
        if cut.is_paged:
            cut.apply_count = checks.integer(frame, "apply_count")
            cut.is_stale = cut.apply_count != self._store.state().apply_count
        if stage == "resume" and not cut.is_stale:
            job = self._stage.job()
            if job is None:
                raise ProtocolError("The server goes on with a download that is not staged here.", code="bad_order")
            cut.received, cut.bytes, cut.expected = job.rows, job.bytes, job.total_rows
        elif cut.is_paged and not cut.expected:
            cut.expected = None
        self.cut = cut

    def _keep(self, cut: Cut, frame: dict[str, Any]) -> None:
        if "table" in frame and frame["t"] != "outcome":
            self._store.table(frame["table"])
        rows = len(frame["rows"]) if type(frame.get("rows")) is list else 0
        packed = getattr(frame, "packed", None)
        size = len(packed) if packed is not None else 64 * rows
        tail = cut.tail
        tail.frames.append(frame)
        tail.bytes += size
        tail.rows += rows
        cut.received += rows
        cut.bytes += size
        tail.taken += size
        if tail.taken > limits.ANSWER_BYTES_TAKEN_MAX:
            raise LimitError(f"A page of a download is above the limit of {limits.ANSWER_BYTES_TAKEN_MAX} bytes.")
        if tail.rows > MEMORY_ROWS_MAX or tail.bytes > MEMORY_BYTES_MAX:
            self._stage.spill(tail)

    def _page(self, cut: Cut, progress: Progress) -> None:
        if not cut.is_paged:
            raise ProtocolError("The end of a page came outside a paged download.", code="bad_order")
        self._stage.keep_page(cut.tail, progress, cut.opening)
        cut.tail = Tail()
        cut.pages += 1
        cut.received, cut.bytes, cut.expected = progress.rows, progress.bytes, progress.total_rows

    def abandon(self) -> None:
        """Forgets what no token covers of a half received answer."""
        cut, self.cut = self.cut, None
        if cut is None or not cut.tail.is_spilled:
            return
        try:
            self._stage.drop_tail()
        except sqlite3.OperationalError:  # a full disk: before the next answer it is tried again
            self._has_left_tail = True

    def done(self) -> None:
        """The cut was applied, and what was staged with it deleted."""
        self.cut = None


def body_of(stage: Stage, cut: Cut) -> Iterator[dict[str, Any]]:
    """The frames of a cut in their order, one at a time; of a paged one those that were not loaded."""
    if cut.is_paged:
        for _, frame in stage.frames():
            yield frame
        return
    if cut.tail.is_spilled:
        for _, frame in stage.frames(TAIL):
            yield frame
    yield from cut.tail.frames
