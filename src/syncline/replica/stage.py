"""A long download while it comes in: what of it is durable, and the token with which it goes on.

Rows of tables that were empty when it began are loaded (`replica/load.py`); all other frames wait in `syncline_stage`
in their order. Each page, the frames up to a `progress`, is made durable in one transaction together with its token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from syncline import limits
from syncline.errors import ProtocolError
from syncline.protocol import checks, frames
from syncline.protocol.cursor import digest_of
from syncline.protocol.messages import Stage as StageRequest
from syncline.replica.load import BucketIds, Loader, drop_loads, empty_tables
from syncline.replica.store import DELETE_TAIL, TAIL, Store
from syncline.system.database import immediate

BUCKETS_MAX = limits.BUCKETS_PER_USER_MAX


@dataclass(frozen=True, slots=True)
class Job:
    """What is staged. `put`: rows in the loaded tables; `rows`, `bytes` and `total_rows` as the server counts."""

    token: str
    is_reset: bool
    put: int
    loading: frozenset[str]
    rows: int
    bytes: int
    total_rows: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The end of a page. `lost`: buckets of the download that are no longer granted."""

    token: str
    rows: int
    bytes: int
    total_rows: int | None
    lost: tuple[str, ...]

    @classmethod
    def load(cls, frame: dict[str, Any]) -> Progress:
        return cls(
            token=checks.text(frame, "token", limits.STAGE_TOKEN_CHARACTERS_MAX),
            rows=checks.integer(frame, "rows"),
            bytes=checks.integer(frame, "bytes"),
            total_rows=checks.optional_integer(frame, "total_rows"),
            lost=tuple(checks.texts(frame, "lost", BUCKETS_MAX)) if frame.get("lost") else (),
        )


@dataclass
class Tail:
    """The frames since the last page or `begin`: in memory, and the earlier ones of many as the last ones in the
    file. `bytes`, `rows`: of those in memory; `taken`: bytes of all."""

    frames: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0
    rows: int = 0
    taken: int = 0
    is_spilled: bool = False


class Stage:
    """Everything but `request`, `keep_page` and `spill` runs inside the caller's transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def job(self) -> Job | None:
        row = self._store.connection.execute(
            "SELECT token, reset, put, loading, rows, bytes, total_rows FROM syncline_job"
        ).fetchone()
        if row is None:
            return None
        token, reset, put, loading, *counts = row
        return Job(token, bool(reset), put, frozenset(json.loads(loading)), *counts)

    def request(self, with_buckets: bool) -> StageRequest | None:
        """What the next download says of it."""
        job = self.job()
        if job is None:
            return None
        names = self.listed()
        return StageRequest(job.token, digest_of(names), tuple(names) if with_buckets else None)

    def listed(self) -> list[str]:
        """The new buckets that it brings, lost ones left out."""
        rows = self._store.connection.execute("SELECT name FROM syncline_job_bucket WHERE listed ORDER BY name")
        return [name for (name,) in rows.fetchall()]

    # ------------------------------------------------------------ pages
    def open(self, reset: bool, buckets: Iterable[str]) -> None:
        """A new download, in the place of what was staged."""
        self.discard()
        loading = json.dumps(empty_tables(self._store), ensure_ascii=False)
        self._store.connection.execute(
            "INSERT INTO syncline_job (id, token, reset, frames, put, loading, rows, bytes) "
            "VALUES (1, '', ?, 0, 0, ?, 0, 0)",
            (int(reset), loading),
        )
        ids = BucketIds(self._store)
        for name in buckets:
            ids.of(name, listed=True)

    def keep_page(self, tail: Tail, progress: Progress, opening: tuple[bool, tuple[str, ...]] | None) -> None:
        """Makes a page durable, in a transaction of its own. `opening`: it is the first one; whether the download is a
        reset, and its buckets."""
        with immediate(self._store.connection):
            if opening is not None:
                self.open(*opening)
            try:
                self.add(tail)
            except OverflowError as error:
                raise ProtocolError("An integer beyond 64 bits came as a plain number.", code="bad_value") from error
            if progress.lost:
                self.forget_buckets(progress.lost)
            self._store.connection.execute(
                "UPDATE syncline_job SET token = ?, rows = ?, bytes = ?, total_rows = ?",
                (progress.token, progress.rows, progress.bytes, progress.total_rows),
            )
            # An answer that was made for an earlier page is none for this state of the file (rule 18).
            self._store.connection.execute("UPDATE syncline_state SET apply_count = apply_count + 1")

    def add(self, tail: Tail) -> None:
        """Loads the frames of the tail, or keeps them; from now on they are covered."""
        job = self.job()
        if job is None:
            raise ProtocolError("A page came of a download that was not opened.", code="bad_order")
        db = self._store.connection
        loader = Loader(self._store, job.loading, BucketIds(self._store))
        if tail.is_spilled:
            for number, frame in self.frames(TAIL):
                if loader.take(frame):
                    db.execute("DELETE FROM syncline_stage WHERE n = ?", (number,))
        self._keep([frame for frame in tail.frames if not loader.take(frame)])
        db.execute(
            "UPDATE syncline_job SET put = put + ?, frames = (SELECT coalesce(max(n), 0) FROM syncline_stage)",
            (loader.put,),
        )

    def spill(self, tail: Tail) -> None:
        """Moves the tail from memory into the file, in a transaction of its own."""
        with immediate(self._store.connection):
            self._keep(tail.frames)
        tail.is_spilled = True
        tail.frames, tail.bytes, tail.rows = [], 0, 0

    def _keep(self, kept: list[dict[str, Any]]) -> None:
        chunks = [(getattr(frame, "packed", None) or _packed(frame),) for frame in kept]
        self._store.connection.executemany("INSERT INTO syncline_stage (frame) VALUES (?)", chunks)

    def frames(self, of: str = "SELECT n, frame FROM syncline_stage") -> Iterator[tuple[int, dict[str, Any]]]:
        """The kept frames in their order, one at a time, with their numbers. `of` is TAIL, or all."""
        last = -1
        while True:
            row = self._store.connection.execute(
                f"SELECT n, frame FROM ({of}) WHERE n > ? ORDER BY n LIMIT 1", (last,)
            ).fetchone()
            if row is None:
                return
            last = row[0]
            yield last, json.loads(frames.unpack(row[1]))  # it was checked when it came

    # ------------------------------------------------------------ what leaves
    def forget_buckets(self, names: Iterable[str]) -> None:
        """These buckets are no longer granted: what is staged of them alone goes, and leaves no trace."""
        gone = set(names)
        job = self.job()
        if job is None or not gone:
            return
        db = self._store.connection
        ids = BucketIds(self._store)
        erased = Loader(self._store, job.loading, ids).forget([ids.of(name) for name in sorted(gone)])
        for number, frame in self.frames():
            left = without_buckets(frame, gone)
            if left is None:
                db.execute("DELETE FROM syncline_stage WHERE n = ?", (number,))
            elif left is not frame:
                db.execute("UPDATE syncline_stage SET frame = ? WHERE n = ?", (_packed(left), number))
            erased = erased or left is not frame
        db.executemany("DELETE FROM syncline_job_bucket WHERE name = ?", [(name,) for name in gone])
        if erased:
            db.execute("UPDATE syncline_state SET purge_pending = 1")

    def discard(self) -> None:
        """Throws away what is staged, if anything is; the tail of the answer that is coming in stays."""
        db = self._store.connection
        if self.job() is None:
            return
        db.execute("DELETE FROM syncline_stage WHERE n <= (SELECT frames FROM syncline_job)")
        self._clear()

    def clear(self) -> None:
        """Everything has been applied."""
        self._store.connection.execute("DELETE FROM syncline_stage")
        self._clear()

    def _clear(self) -> None:
        """Older pages of the file may hold what has left the download on its way: rows that moved away, lost
        buckets."""
        db = self._store.connection
        drop_loads(self._store)
        if db.execute("DELETE FROM syncline_job").rowcount:
            db.execute("UPDATE syncline_state SET purge_pending = 1")
        db.execute("DELETE FROM syncline_job_bucket")

    def drop_tail(self) -> None:
        """In a transaction of its own: frames that no token covers."""
        with immediate(self._store.connection):
            self._store.connection.execute(DELETE_TAIL)


def _packed(frame: dict[str, Any]) -> bytes:
    return b"\0" + frames.dump(frame)


def without_buckets(frame: dict[str, Any], gone: set[str]) -> dict[str, Any] | None:
    """The frame without what it says of these buckets: itself where it says nothing of them, None where nothing else
    is left."""
    kind = frame["t"]
    if kind == "remove":
        return None if frame.get("bucket") in gone else frame
    if kind not in ("rows", "replace") or not gone & set(frame["buckets"]):
        return frame
    kept = [place for place, name in enumerate(frame["buckets"]) if name not in gone]
    if not kept:
        return None
    names = [frame["buckets"][place] for place in kept]
    if kind == "replace":
        return {**frame, "buckets": names}
    fresh = {place: number for number, place in enumerate(kept)}
    rows, of = [], []
    for row, places in zip(frame["rows"], frame["of"], strict=True):
        held = [fresh[place] for place in ([places] if type(places) is int else places) if place in fresh]
        if held:
            rows.append(row)
            of.append(held[0] if len(held) == 1 else held)
    return {**frame, "buckets": names, "of": of, "rows": rows} if rows else None
