"""Folding the stamps of a batch over those kept, in SQL: what `source.stamps.fold_changes` does, a million rows at a
time.

Of a key's changes only three things count: the last insert or delete (`reset`), which clears all columns; the newest
stamp of each column among the updates and touches after it; and the newest delete of all. So the order of ids matters
within a key only, and never across transactions.
"""

from __future__ import annotations

from syncline.model.identifiers import literal
from syncline.source.postgres.batch_sql import Scratch, limited
from syncline.source.postgres.capture import MASK_BITS, Capture

_PAIR = "'[' || {x}[1] || ',' || {x}[2] || ']'"


def fold_sql(capture: Capture, size: int | None) -> str:
    """A query of `key` and `stamps` (the text of RowStamps), one row per key in the batch; $2 is the table's name.
    `size` of the batch; `affected` holds its keys."""
    scratch = Scratch(capture)
    same = " AND ".join(f"b.{name} = a.{name}" for name in capture.key_columns)
    batch = (
        f"SELECT a.key, b.id, b.op, ARRAY[coalesce(b.stamp, 0), coalesce(b.writer, 0)] AS stamp"
        f"{''.join(f', b.{name}' for name in capture.mask_columns)} "
        f"FROM {limited(scratch.batch, size)} AS b JOIN {scratch.affected} AS a ON {same}"
    )
    return f"""
WITH change AS MATERIALIZED ({batch}),
life AS (
  SELECT key, max(id) FILTER (WHERE op IN ('I', 'D')) AS reset, max(stamp) FILTER (WHERE op = 'D') AS died
  FROM change GROUP BY key),
kept AS (
  SELECT r.key, r.stamps::jsonb AS stamps FROM life AS l
  JOIN syncline.row_state AS r ON r.table_name = $2::text AND r.key = l.key WHERE r.stamps IS NOT NULL),
state AS MATERIALIZED (
  SELECT l.key, l.reset, greatest(l.died, {_stored("k.stamps -> 'd'")}) AS died,
    CASE WHEN l.reset IS NULL THEN {_stored("k.stamps -> 'b'")} WHEN c.op = 'I' THEN c.stamp END AS born,
    CASE WHEN l.reset IS NULL THEN k.stamps -> 'c' END AS columns
  FROM life AS l LEFT JOIN change AS c ON c.id = l.reset LEFT JOIN kept AS k ON k.key = l.key),
raised AS (
  {_raised(capture)}
  UNION ALL SELECT s.key, e.key, {_stored("e.value")} FROM state AS s CROSS JOIN LATERAL jsonb_each(s.columns) AS e
  WHERE s.columns IS NOT NULL),
newest AS (SELECT key, name, max(stamp) AS stamp FROM raised GROUP BY key, name),
named AS (
  SELECT s.key, string_agg(to_json(n.name)::text || ':' || {_PAIR.format(x="n.stamp")}, ',' ORDER BY n.name) AS columns
  FROM newest AS n JOIN state AS s ON s.key = n.key WHERE s.born IS NULL OR n.stamp > s.born GROUP BY s.key)
SELECT s.key, '{{' || concat_ws(',', '"b":' || {_PAIR.format(x="s.born")}, '"d":' || {_PAIR.format(x="s.died")},
  '"c":{{' || n.columns || '}}') || '}}' AS stamps
FROM state AS s LEFT JOIN named AS n ON n.key = s.key"""


def _stored(pair: str) -> str:
    """A pair of numbers out of the kept JSON; NULL where there is none."""
    return f"CASE WHEN {pair} IS NOT NULL THEN ARRAY[(({pair}) ->> 0)::bigint, (({pair}) ->> 1)::bigint] END"


def _raised(capture: Capture) -> str:
    """key, name and newest stamp of every column that an update or touch after the key's reset has written."""
    selects = []
    for word, mask in enumerate(capture.mask_columns):
        columns = capture.watched[word * MASK_BITS : (word + 1) * MASK_BITS]
        values = ", ".join(f"({1 << bit}::bigint, {literal(name)})" for bit, name in enumerate(columns))
        selects.append(
            "SELECT c.key, v.name, c.stamp FROM change AS c JOIN state AS s ON s.key = c.key "
            f"JOIN (VALUES {values}) AS v(bit, name) ON c.{mask} & v.bit <> 0 "
            "WHERE c.op IN ('U', 'T') AND (s.reset IS NULL OR c.id > s.reset)"
        )
    return " UNION ALL ".join(selects)
