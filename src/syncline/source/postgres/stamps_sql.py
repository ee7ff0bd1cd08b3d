"""Folding the stamps of a batch over those kept, in SQL: what `source.stamps.fold_changes` does, a million rows at a
time.

Of a key's changes only three things count: the last insert or delete (`reset`), which clears all columns; the newest
stamp of each column among the updates and touches after it; and the newest delete of all. So the order of ids matters
within a key only, and never across transactions.
"""

from __future__ import annotations

import json

from syncline.model.identifiers import literal
from syncline.source.postgres.batch_sql import Scratch, known_line, limited
from syncline.source.postgres.capture import MASK_BITS, Capture

_UPDATED = "op IN ('U', 'T') AND (reset IS NULL OR id > reset)"


def fold_sql(capture: Capture, size: int | None) -> str:
    """A query of `key` and `stamps` (the text of RowStamps), one row per key in the batch; $2 is the table's name.
    `size` of the batch; `affected` holds its keys. Every step is one pass over sorted rows or a lookup by key: nobody
    can tell the planner how many keys a step brings, and a join of two steps would be a loop in a loop. OFFSET 0: what
    a step has computed is not computed again by those that name it."""
    scratch = Scratch(capture)
    same = " AND ".join(f"b.{name} = a.{name}" for name in capture.key_columns)
    columns = sorted(enumerate(capture.watched), key=lambda column: column[1])
    newest = "".join(f", max(stamp) FILTER (WHERE {_UPDATED} AND {_is_in_mask(at)}) AS c_{at}" for at, _ in columns)
    raised = "".join(
        f", greatest(l.c_{at}, {_stored(f'l.columns -> {literal(name)}')}) AS c_{at}" for at, name in columns
    )
    listed = ", ".join(
        f"CASE WHEN c_{at} > coalesce(born, '{{}}') THEN {_json_name(name)} || {_pair(f'c_{at}')} END"
        for at, name in columns
    )
    masks = "".join(f", b.{name}" for name in capture.mask_columns)
    return f"""
WITH change AS (
  SELECT a.key, b.id, b.op, ARRAY[coalesce(b.stamp, 0), coalesce(b.writer, 0)] AS stamp{masks},
    max(b.id) FILTER (WHERE b.op IN ('I', 'D')) OVER (PARTITION BY a.key) AS reset
  FROM {limited(scratch.batch, size)} AS b JOIN {scratch.affected} AS a ON {same}),
life AS (
  SELECT key, min(reset) AS reset, max(stamp) FILTER (WHERE op = 'D') AS died,
    max(stamp) FILTER (WHERE op = 'I' AND id = reset) AS born{newest}
  FROM change GROUP BY key),
known AS (
  SELECT l.*, r.stamps::jsonb AS stamps
  FROM life AS l {known_line("row_state", "r", "stamps", "r.table_name = $2::text AND r.key = l.key", size)} OFFSET 0),
kept AS (
  SELECT k.*, greatest(k.died, {_stored("k.stamps -> 'd'")}) AS ended,
    CASE WHEN k.reset IS NULL THEN {_stored("k.stamps -> 'b'")} ELSE k.born END AS began,
    CASE WHEN k.reset IS NULL THEN k.stamps -> 'c' END AS columns
  FROM known AS k OFFSET 0),
state AS (SELECT l.key, l.ended AS died, l.began AS born{raised} FROM kept AS l OFFSET 0)
SELECT key, '{{' || concat_ws(',', '"b":' || {_pair("born")}, '"d":' || {_pair("died")},
  '"c":{{' || nullif(array_to_string(ARRAY[{listed}]::text[], ','), '') || '}}') || '}}' AS stamps
FROM state"""


def _is_in_mask(at: int) -> str:
    return f"m_{at // MASK_BITS} & {1 << (at % MASK_BITS)}::bigint <> 0"


def _json_name(name: str) -> str:
    return literal(f"{json.dumps(name, ensure_ascii=False)}:")


def _pair(stamp: str) -> str:
    return f"'[' || {stamp}[1] || ',' || {stamp}[2] || ']'"


def _stored(pair: str) -> str:
    """A pair of numbers out of the kept JSON; NULL where there is none."""
    return f"CASE WHEN {pair} IS NOT NULL THEN ARRAY[(({pair}) ->> 0)::bigint, (({pair}) ->> 1)::bigint] END"
