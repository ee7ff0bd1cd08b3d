"""What was read of the source, as the frames that carry it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator

from syncline import limits
from syncline.model.scopes import Plan
from syncline.protocol import frames
from syncline.protocol.cursor import cursor_text
from syncline.protocol.messages import id_text
from syncline.source.port import Cut, Entries, OutcomeRecord, PageRows


def begin_frame(apply_count: int, rows: int, *, reset: bool, stage: str | None) -> bytes:
    """`stage`: "new" where a paged download begins, "resume" where one goes on, "keep" where a cut leaves what is
    staged alone; else None: something staged is thrown away."""
    return frames.dump({"t": "begin", "apply_count": apply_count, "reset": reset, "rows": rows, "stage": stage})


def commit_frame(cut: Cut, added: Collection[str], included: int, apply_count: int, *, more: bool) -> bytes:
    return frames.dump(
        {
            "t": "commit",
            "cursor": cursor_text(cut.head.term, cut.head.checkpoint),
            "checkpoint": cut.head.checkpoint,
            "buckets": {"add": sorted(added)},
            "included": max(cut.included, included),
            "included_id": id_text(cut.included_id),
            "time": cut.head.time_us,
            "apply_count": apply_count,
            "more": more,
        }
    )


def drop_frame(buckets: Iterable[str]) -> bytes:
    return frames.dump({"t": "drop_bucket", "buckets": sorted(buckets)})


def replace_frames(tables: Iterable[str], buckets: Iterable[str]) -> Iterator[bytes]:
    """For these buckets and tables what follows is everything."""
    named = sorted(buckets)
    for table in sorted(tables):
        yield frames.dump({"t": "replace", "table": table, "buckets": named})


def rows_frame(rows: PageRows) -> bytes:
    return frames.dump_row_array(rows.table, rows.layout, rows.buckets, rows.of, rows.images)


def entry_frames(entries: Entries) -> Iterator[bytes]:
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


def outcome_frame(plan: Plan, outcome: OutcomeRecord) -> bytes:
    frame = {
        "t": "outcome",
        "n": outcome.number,
        "kind": outcome.kind,
        "code": outcome.code,
        "reason": outcome.reason,
        "table": outcome.table,
        "key": json.loads(outcome.key),
        "conflicts": _visible_conflicts(plan, outcome.table, outcome.conflicts),
    }
    if outcome.has_state:
        frame["state"] = {"row": json.loads(outcome.state) if outcome.state else None}
    return frames.dump(frame)


def _visible_conflicts(plan: Plan, table: str, conflicts: str) -> list[dict[str, object]]:
    visible = plan.tables[table].columns if table in plan.tables else ()
    found: list[dict[str, object]] = json.loads(conflicts)
    return [conflict for conflict in found if not conflict["column"] or conflict["column"] in visible]
