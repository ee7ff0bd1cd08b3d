"""From an exact read of the source to the frames that carry it (PROTOCOL_MODEL rules 16 to 18)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from syncline import limits
from syncline.model.scopes import Plan
from syncline.protocol import frames
from syncline.protocol.cursor import cursor_text, digest_of, parse_cursor
from syncline.protocol.messages import Download
from syncline.source.port import BucketRows, Claims, Cut, Entries, Snapshot, Source

MarkerWait = Callable[[], Awaitable[None]]
"""Returns when the sequencer has taken everything that was committed before the call."""


class BucketsNeededError(Exception):
    """The digest names a list of buckets that the server cannot know; the device has to send the list."""


@dataclass(frozen=True)
class Position:
    """Where a device stands: what its next cut starts from."""

    cursor: tuple[str, int] | None
    held: frozenset[str]
    included: int
    apply_count: int
    is_reset: bool = False


@dataclass(frozen=True)
class CutFrames:
    """One cut as JSON frames, and where the device stands once it has applied it. `is_empty`: only the cursor moves."""

    frames: tuple[bytes, ...]
    position: Position
    is_empty: bool
    more: bool
    checkpoint: int
    time_us: int


class Downloads:
    """Reads cuts. Holds no state of a device."""

    def __init__(self, source: Source, plan: Plan, wait_for_marker: MarkerWait) -> None:
        self._source = source
        self._plan = plan
        self._wait_for_marker = wait_for_marker

    async def position(self, claims: Claims, request: Download) -> Position:
        """Where the device says that it stands; BucketsNeededError if its digest cannot be resolved."""
        cursor = parse_cursor(request.cursor)
        if cursor is None:
            return Position(None, frozenset(), request.included, request.apply_count, is_reset=True)
        if request.buckets is not None:
            held = frozenset(request.buckets)
        else:
            granted = await self._source.granted(claims)
            candidates = (granted, frozenset[str]())
            matching = [held for held in candidates if digest_of(held) == request.digest]
            if not matching:
                raise BucketsNeededError
            held = matching[0]
        return Position(cursor, held, request.included, request.apply_count)

    async def next_cut(self, device: str, claims: Claims, position: Position) -> CutFrames:
        """The exact cut at the newest checkpoint, as what is new since `position`."""
        granted = await self._source.granted(claims)
        snapshot = await self._snapshot(granted - position.held)
        cut = await self._source.read_cut(device, claims, position.held, position.cursor, position.included, snapshot)
        if not cut.valid:  # a cursor of a lost time: everything anew
            fresh = Position(None, frozenset(), position.included, position.apply_count, is_reset=True)
            return await self.next_cut(device, claims, fresh)
        return self._frames(position, snapshot, cut)

    async def _snapshot(self, buckets: frozenset[str]) -> Snapshot | None:
        if not buckets:
            return None
        snapshot = await self._source.read_snapshot(buckets)
        if not snapshot.exact:
            await self._wait_for_marker()
        return snapshot

    def _frames(self, position: Position, snapshot: Snapshot | None, cut: Cut) -> CutFrames:
        dropped = position.held - cut.granted
        added = (snapshot.buckets & cut.granted) - position.held if snapshot else frozenset[str]()
        more = bool(cut.granted - position.held - added)
        body = [*self._body(snapshot, cut, added, dropped)]
        count = sum(len(rows.rows) for rows in snapshot.rows) if snapshot else 0
        count += sum(len(entries.rows) for entries in cut.entries)
        opening = {"t": "begin", "apply_count": position.apply_count, "reset": position.is_reset, "rows": count}
        closing = {
            "t": "commit",
            "cursor": cursor_text(cut.head.term, cut.head.checkpoint),
            "checkpoint": cut.head.checkpoint,
            "buckets": {"add": sorted(added)},
            "included": max(cut.included, position.included),
            "time": cut.head.time_us,
            "apply_count": position.apply_count,
            "more": more,
        }
        standing = Position(
            cursor=(cut.head.term, cut.head.checkpoint),
            held=(position.held - dropped) | added,
            included=cut.included,
            apply_count=position.apply_count + 1,
        )
        quiet = not body and not added and not position.is_reset and cut.included <= position.included
        return CutFrames(
            frames=(frames.dump(opening), *body, frames.dump(closing)),
            position=standing,
            is_empty=quiet,
            more=more,
            checkpoint=cut.head.checkpoint,
            time_us=cut.head.time_us,
        )

    def _body(
        self, snapshot: Snapshot | None, cut: Cut, added: frozenset[str], dropped: frozenset[str]
    ) -> Iterator[bytes]:
        if dropped:
            yield frames.dump({"t": "drop_bucket", "buckets": sorted(dropped)})
        if snapshot:
            yield from _snapshot_frames(snapshot, cut, added)
        for entries in cut.entries:
            yield from _entry_frames(entries)
        for outcome in cut.outcomes:
            frame = {
                "t": "outcome",
                "n": outcome.number,
                "kind": outcome.kind,
                "code": outcome.code,
                "reason": outcome.reason,
                "table": outcome.table,
                "key": json.loads(outcome.key),
                "conflicts": self._visible_conflicts(outcome.table, outcome.conflicts),
            }
            if outcome.has_state:
                frame["state"] = {"row": json.loads(outcome.state) if outcome.state else None}
            yield frames.dump(frame)

    def _visible_conflicts(self, table: str, conflicts: str) -> list[dict[str, object]]:
        visible = self._plan.tables[table].columns if table in self._plan.tables else ()
        found: list[dict[str, object]] = json.loads(conflicts)
        return [conflict for conflict in found if not conflict["column"] or conflict["column"] in visible]


def _snapshot_frames(snapshot: Snapshot, cut: Cut, added: frozenset[str]) -> Iterator[bytes]:
    """A snapshot row whose bucket's feed names its key since the snapshot is left out: only the entry counts (rule
    17)."""
    newer: set[tuple[str, str, str]] = set()
    for entries in cut.entries:
        if entries.bucket in added:
            newer.update((entries.table, entries.bucket, key) for key in (*entries.keys, *entries.removed))
    for chunk in snapshot.rows:
        plain = not newer and added >= snapshot.buckets
        yield from _chunk_frames(chunk if plain else _without(chunk, newer, added))


def _without(chunk: BucketRows, newer: set[tuple[str, str, str]], added: frozenset[str]) -> BucketRows:
    kept = []
    for key, row, of in zip(chunk.keys, chunk.rows, chunk.of, strict=True):
        places = tuple(
            place
            for place in of
            if chunk.buckets[place] in added and (chunk.table, chunk.buckets[place], key) not in newer
        )
        if places:
            kept.append((key, row, places))
    keys, rows, of_kept = zip(*kept, strict=True) if kept else ((), (), ())
    return BucketRows(chunk.table, chunk.layout, chunk.buckets, of_kept, keys, rows)


def _chunk_frames(chunk: BucketRows) -> Iterator[bytes]:
    if not chunk.rows:
        return
    of: list[int | list[int]] = [places[0] if len(places) == 1 else list(places) for places in chunk.of]
    single = len(chunk.buckets) == 1
    yield frames.dump_rows(chunk.table, chunk.layout, list(chunk.buckets), None if single else of, list(chunk.rows))


def _entry_frames(entries: Entries) -> Iterator[bytes]:
    for rows in _pieces(entries.rows):
        yield frames.dump_rows(entries.table, entries.layout, [entries.bucket], None, rows)
    for keys in _pieces(entries.removed):
        head = json.dumps({"t": "remove", "table": entries.table, "bucket": entries.bucket}, ensure_ascii=False)
        yield f'{head[:-1]},"keys":[{",".join(keys)}]}}'.encode()


def _pieces(rows: tuple[str, ...]) -> Iterator[list[str]]:
    piece: list[str] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += len(row)
        if size > limits.ROWS_FRAME_BYTES_TARGET or len(piece) >= limits.ROWS_PER_FRAME_MAX:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
