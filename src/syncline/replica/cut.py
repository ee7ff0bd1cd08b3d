"""Collecting the frames of one cut: small ones in memory, large ones in the file, and nothing applied before `commit`.

While a download runs no write lock is held but for the moment in which a chunk of frames is put aside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from syncline import limits
from syncline.errors import ProtocolError
from syncline.protocol import checks, frames
from syncline.replica.store import Store
from syncline.system.database import immediate

MEMORY_ROWS_MAX = 5_000
MEMORY_BYTES_MAX = 4 * 1024 * 1024
"""A cut above one of these waits in `syncline_stage`."""


class Frame(dict[str, Any]):
    """A frame that still knows its bytes as they came (packed), so that putting it aside costs nothing."""

    __slots__ = ("packed",)

    def __init__(self, content: dict[str, Any], packed: bytes) -> None:
        super().__init__(content)
        self.packed = packed


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a cut. `buckets_added`: names; `time_us`: the server's time of it."""

    cursor: str
    checkpoint: int
    buckets_added: tuple[str, ...]
    included: int
    time_us: int
    apply_count: int
    more: bool

    @classmethod
    def load(cls, frame: dict[str, Any]) -> Commit:
        buckets = frame.get("buckets") or {}
        if type(buckets) is not dict:
            raise checks.bad("buckets", "is not an object")
        added = checks.texts(buckets, "add", limits.BUCKETS_PER_USER_MAX) if "add" in buckets else []
        return cls(
            cursor=checks.text(frame, "cursor"),
            checkpoint=checks.integer(frame, "checkpoint"),
            buckets_added=tuple(added),
            included=checks.integer(frame, "included"),
            time_us=checks.integer(frame, "time"),
            apply_count=checks.integer(frame, "apply_count"),
            more=checks.boolean(frame, "more"),
        )


@dataclass
class Cut:
    """What came of a cut so far. `expected`: how many rows the server thinks will come; `received`: how many did."""

    reset: bool
    expected: int
    received: int = 0
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    body: list[dict[str, Any]] = field(default_factory=list)
    body_bytes: int = 0
    body_rows: int = 0
    staged: bool = False


BODY = frozenset({"rows", "remove", "drop_bucket"})


class Collector:
    """Takes frames in the order of docs/protocol.md; `take` answers the finished cut with its commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.cut: Cut | None = None

    def take(self, frame: dict[str, Any]) -> tuple[Cut, Commit] | None:
        kind = frame.get("t")
        if kind == "begin":
            self.abandon()
            expected = frame.get("rows")
            self.cut = Cut(checks.boolean(frame, "reset"), expected if type(expected) is int else 0)
            return None
        cut = self.cut
        if cut is None:
            raise ProtocolError(f'A frame "{kind}" came outside a cut.', code="bad_order")
        if kind == "commit":
            return cut, Commit.load(frame)
        if kind == "outcome":
            cut.outcomes.append(dict(frame))
        elif kind in BODY:
            self._keep(cut, frame)
        elif kind == "progress":
            cut.expected = max(cut.expected, checks.integer(frame, "of"))
        else:
            raise ProtocolError(f'A frame of the unknown kind "{kind}" came.', code="bad_frame")
        return None

    def _keep(self, cut: Cut, frame: dict[str, Any]) -> None:
        rows = len(frame["rows"]) if type(frame.get("rows")) is list else 0
        packed = getattr(frame, "packed", None)
        cut.body.append(frame)
        cut.body_bytes += len(packed) if packed is not None else 64 * rows
        cut.body_rows += rows
        cut.received += rows
        if cut.body_rows > MEMORY_ROWS_MAX or cut.body_bytes > MEMORY_BYTES_MAX:
            self._stage(cut)

    def _stage(self, cut: Cut) -> None:
        chunks = [(getattr(frame, "packed", None) or b"\0" + frames.dump(frame),) for frame in cut.body]
        with immediate(self._store.connection):
            self._store.connection.executemany("INSERT INTO syncline_stage (frame) VALUES (?)", chunks)
        cut.staged = True
        cut.body, cut.body_bytes, cut.body_rows = [], 0, 0

    def abandon(self) -> None:
        """Forgets a half received cut."""
        if self.cut is not None and self.cut.staged:
            with immediate(self._store.connection):
                self._store.connection.execute("DELETE FROM syncline_stage")
        self.cut = None

    def done(self) -> None:
        """The cut was applied, and what was staged with it deleted."""
        self.cut = None


def body_of(store: Store, cut: Cut) -> Iterator[dict[str, Any]]:
    """The frames of a cut in their order, one at a time."""
    if cut.staged:
        last = 0
        while True:
            row = store.connection.execute(
                "SELECT n, frame FROM syncline_stage WHERE n > ? ORDER BY n LIMIT 1", (last,)
            ).fetchone()
            if row is None:
                break
            last = row[0]
            yield json.loads(frames.unpack(row[1]))  # it was checked when it came
    yield from cut.body
