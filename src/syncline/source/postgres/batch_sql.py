"""What a cut computes of one table, in scratch tables of the sequencer's session.

    batch     the changes taken, each with whether it may have moved rows in or out of buckets
    affected  the keys whose rows, or whose path to a bucket, the batch touches
    member    the buckets that hold them now, or did at a moment since the last cut

The planner knows nothing of scratch tables. A LIMIT tells it how many rows a small one holds, so that a cut of a few
rows is a few lookups whatever the host's tables weigh; large ones are analysed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from syncline import limits
from syncline.model.identifiers import quote
from syncline.model.schema import Column
from syncline.source.postgres.capture import Capture
from syncline.source.postgres.layout import TableSql
from syncline.source.postgres.names import object_name, table_sql
from syncline.source.postgres.paths import FEED_KEY_BYTES_MAX, OldImages
from syncline.source.postgres.rows_sql import image_json, key_json

SIZES = (10, 300, 10_000)
"""Up to so many rows a scratch table is named with a LIMIT; a larger one is analysed."""
LARGE = SIZES[-1]

WAITING = ("txid >= $1", "txid = ANY($2::xid8[])")
"""Of a queue's rows those that the last cut's snapshot did not see: from its xmax ($1) on, and what was in progress
then ($2). Each is looked for by itself: an OR of both would be a walk over the whole index, with its dead rows."""

_DIRECT = {"smallint", "integer", "bigint", "boolean", "uuid", "date", "timestamp", "instant"}
_LONG = {"text", "bytes", "json", "jsonb", "xml"}


def size_of(rows: int) -> int | None:
    """The LIMIT that a scratch table of so many rows gets; None for a large one."""
    return next((size for size in SIZES if rows <= size), None)


@dataclass(frozen=True, slots=True)
class Scratch:
    """The scratch tables of one captured table."""

    capture: Capture

    @property
    def batch(self) -> str:
        return self._name("batch")

    @property
    def affected(self) -> str:
        return self._name("affected")

    @property
    def member(self) -> str:
        return self._name("member")

    def _name(self, kind: str) -> str:
        return f"pg_temp.{quote(object_name(kind, self.capture.table))}"

    def create_sql(self) -> str:
        """They empty themselves at every COMMIT. Those of an earlier plan go."""
        capture = self.capture
        keys = ", ".join(capture.key_columns)
        taken = ", ".join(_taken(capture))
        made = (
            (self.batch, f"SELECT {taken}, NULL::boolean AS moved FROM {capture.changelog}"),
            (
                self.affected,
                f'SELECT {keys}, NULL::text COLLATE "C" AS key, NULL::boolean AS news, NULL::boolean AS touched '
                f"FROM {capture.changelog}",
            ),
            (
                self.member,
                'SELECT NULL::text COLLATE "C" AS key, NULL::text COLLATE "C" AS bucket, NULL::boolean AS now',
            ),
        )
        return ";".join(
            f"DROP TABLE IF EXISTS {name}; "
            f"CREATE TEMP TABLE {name.removeprefix('pg_temp.')} ON COMMIT DELETE ROWS AS {query} WITH NO DATA"
            for name, query in made
        )


def limited(rows: str, size: int | None) -> str:
    """A scratch table or subquery, with its size told."""
    return rows if size is None else f"(SELECT * FROM {rows} AS l LIMIT {size})"


def known_line(table: str, alias: str, column: str, same: str, size: int | None) -> str:
    """The join of the one line of a table of the feed's, if it is there, that `same` names. Of few rows each looks its
    own up: nobody has told the planner yet what the tables hold, and it would walk through all lines of a company's
    table for a cut of ten."""
    if size is None:
        return f"LEFT JOIN syncline.{table} AS {alias} ON {same}"
    looked_up = f"SELECT {alias}.{column} FROM syncline.{table} AS {alias} WHERE {same} LIMIT 1"
    return f"LEFT JOIN LATERAL ({looked_up}) AS {alias} ON true"


def waiting_rows(queue: str, columns: str = "*") -> str:
    """A subquery; a row is in one half of it only."""
    return f"({' UNION ALL '.join(f'SELECT {columns} FROM {queue} WHERE {half}' for half in WAITING)})"


# ---------------------------------------------------------------- the batch
def batch_sql(capture: Capture, size: int | None) -> str:
    """Takes what waits (`WAITING`); answers the number of changes, the newest stamp, whether some may have moved rows,
    whether some bring old images, and whether there are touches."""
    taken = ", ".join(_taken(capture))
    differs = _moved(capture)
    joined = f" LEFT JOIN {table_sql(capture.table)} AS t ON {_same_key(capture, 't', 'c')}" if differs else ""
    moved = f"c.op IN ('I', 'D'){''.join(f' OR {condition}' for condition in differs)}"
    columns = ", ".join(f"c.{name}" for name in _taken(capture))
    return (
        f"WITH taken AS (INSERT INTO {Scratch(capture).batch}({taken}, moved) "
        f"SELECT {columns}, c.op <> 'T' AND ({moved}) "
        f"FROM {limited(waiting_rows(capture.changelog), size)} AS c{joined} "
        "RETURNING op, stamp, moved) SELECT count(*) AS changes, max(stamp) AS stamp, "
        "coalesce(bool_or(moved), false) AS moved, coalesce(bool_or(moved AND op IN ('U', 'D')), false) AS old, "
        "coalesce(bool_or(op = 'T'), false) AS touched FROM taken"
    )


def _taken(capture: Capture) -> list[str]:
    return [
        "id",
        "op",
        *capture.key_columns,
        *capture.old_columns,
        *capture.mask_columns,
        "stamp",
        "writer",
    ]


def _moved(capture: Capture) -> list[str]:
    """Conditions, besides new and gone: a join or filter column is other than the row has it now. Else one last_login
    above 100,000 visits would cost a second."""
    if not capture.captured:
        return []
    conditions = [f"t.{quote(capture.key[0])} IS NULL"]
    for name, column in zip(capture.old_columns, capture.captured, strict=True):
        conditions.append(_differs(capture.table.column(column), f"c.{name}", f"t.{quote(column)}"))
    return conditions


def _differs(column: Column, one: str, other: str) -> str:
    """Not every type has an equality, and not every equality means the same text."""
    if column.kind in _DIRECT:
        return f"{one} IS DISTINCT FROM {other}"
    return f'{one}::text COLLATE "C" IS DISTINCT FROM {other}::text COLLATE "C"'


def _same_key(capture: Capture, table: str, keys: str) -> str:
    return " AND ".join(
        f"{table}.{quote(column)} = {keys}.{name}"
        for name, column in zip(capture.key_columns, capture.key, strict=True)
    )


def old_images(capture: Capture, size: int | None) -> str:
    """Every old image in the batch that differs from the row as it is, under the table's own column names."""
    columns = ", ".join(
        f"{capture.old_column(column)} AS {quote(column)}" for column in (*capture.key, *capture.captured)
    )
    return f"(SELECT {columns} FROM {limited(Scratch(capture).batch, size)} AS b WHERE op IN ('U', 'D') AND moved)"


def moved_keys(capture: Capture, size: int | None) -> str:
    keys = ", ".join(capture.key_columns)
    return f"(SELECT DISTINCT {keys} FROM {limited(Scratch(capture).batch, size)} AS b WHERE moved)"


# ---------------------------------------------------------------- affected rows and their buckets
def affected_sql(table: TableSql, size: int | None, moved: Mapping[str, str], old: OldImages) -> str:
    """`size` of the table's own batch, 0 if it has none; `moved`: table -> subquery with the keys of moved rows."""
    capture = table.capture
    keys = ", ".join(capture.key_columns)
    sources = []
    if size != 0:
        sources.append(
            f"SELECT {keys}, op <> 'T' AS news, op = 'T' AS touched FROM {limited(Scratch(capture).batch, size)} AS b"
        )
    for path in table.paths:
        for position, alias in enumerate(path.path.aliases):
            if position and alias in moved:
                through = path.through(position, moved[alias], old)
                sources.append(f"SELECT {keys}, true, false FROM ({through}) AS p")
    grouped = ", ".join(f"a.{name}" for name in capture.key_columns)
    return (
        f"INSERT INTO {Scratch(capture).affected}({keys}, key, news, touched) "
        f"SELECT {grouped}, {_key_text(capture, 'a')}, a.news, a.touched FROM (SELECT {keys}, bool_or(news) AS news, "
        f"bool_or(touched) AS touched FROM ({' UNION ALL '.join(sources)}) AS f({keys}, news, touched) "
        f"GROUP BY {keys}) AS a{_named(capture, 'a')}"
    )


def _key_text(capture: Capture, keys: str) -> str:
    return key_json(capture.table, capture.key, f"{keys}_key.")


def _named(capture: Capture, keys: str) -> str:
    """A join that names the columns k_1, … of `keys` as the table's own, for `_key_text`."""
    columns = ", ".join(
        f"{keys}.{name} AS {quote(column)}" for name, column in zip(capture.key_columns, capture.key, strict=True)
    )
    return f" CROSS JOIN LATERAL (SELECT {columns}) AS {keys}_key"


def member_sql(table: TableSql, size: int | None, old: OldImages) -> str:
    """`size` of `affected`. Answers how many were too long for the feed."""
    scratch = Scratch(table.capture)
    keys = limited(scratch.affected, size)
    sources = []
    for path in table.paths:
        sources.append(f"SELECT key, bucket, true FROM ({path.membership(keys, ('key',))}) AS p")
        if any(alias in old for alias in path.path.aliases):
            sources.append(f"SELECT key, bucket, false FROM ({path.membership(keys, ('key',), old)}) AS p")
    return (
        f"INSERT INTO {scratch.member}(key, bucket, now) SELECT key, bucket, bool_or(now) "
        f"FROM ({' UNION ALL '.join(sources)}) AS m(key, bucket, now) GROUP BY key, bucket"
    )


def too_long_sql(capture: Capture) -> str:
    """Rows whose key or bucket no line of the feed can hold: they leave the scratch tables. Answers their keys."""
    scratch = Scratch(capture)
    longest = (
        f"SELECT key FROM {scratch.member} GROUP BY key "
        f"HAVING max(octet_length(bucket)) + octet_length(key) > {FEED_KEY_BYTES_MAX}"
    )
    return (
        f"WITH long AS ({longest} UNION SELECT key FROM {scratch.affected} "
        f"WHERE octet_length(key) > {FEED_KEY_BYTES_MAX}), "
        f"gone AS (DELETE FROM {scratch.member} AS m USING long WHERE m.key = long.key), "
        f"left_out AS (DELETE FROM {scratch.affected} AS a USING long WHERE a.key = long.key RETURNING a.key) "
        "SELECT left(key, 200) AS key, octet_length(key) AS bytes FROM left_out"
    )


def has_long_sql(capture: Capture) -> str:
    scratch = Scratch(capture)
    return (
        f"SELECT EXISTS(SELECT FROM {scratch.member} "
        f"WHERE octet_length(bucket) + octet_length(key) > {FEED_KEY_BYTES_MAX}) OR EXISTS("
        f"SELECT FROM {scratch.affected} WHERE octet_length(key) > {FEED_KEY_BYTES_MAX})"
    )


# ---------------------------------------------------------------- what the feed gets
def entries_sql(table: TableSql, size: int | None) -> str:
    """$1 the checkpoint, $2 the table's name; answers the buckets. A mere touch is news for the toucher alone.

    Nobody else writes these lines, so those that are there are found first and updated in their place: ON CONFLICT
    would lock each of them by a write of its own, and give each new one a token and take it back."""
    scratch = Scratch(table.capture)
    same = "e.bucket = m.bucket AND e.table_name = $2::text AND e.key = m.key"
    return (
        "WITH news AS MATERIALIZED (SELECT m.bucket, m.key, "
        "CASE WHEN m.now THEN 'P' ELSE 'R' END::\"char\" AS op, e.ctid AS place "
        f"FROM {limited(scratch.affected, size)} AS a JOIN {scratch.member} AS m ON m.key = a.key "
        f"{known_line('entry', 'e', 'ctid', same, size)} "
        "WHERE a.news ORDER BY m.bucket, m.key), "  # neighbours in the index, one after the other
        "renewed AS (UPDATE syncline.entry AS e SET op = n.op, checkpoint = $1::bigint FROM news AS n "
        "WHERE e.ctid = n.place), "
        "made AS (INSERT INTO syncline.entry(bucket, table_name, key, op, checkpoint) "
        "SELECT bucket, $2::text, key, op, $1::bigint FROM news WHERE place IS NULL) "
        "SELECT DISTINCT bucket FROM news"
    )


def images_sql(table: TableSql, size: int | None, stamps: str | None) -> str:
    """$1 the checkpoint, $2 the table's name. The image of every affected row that some bucket holds; `stamps`: a
    subquery with key and stamps, of the rows that have changed. A row above what a frame can carry gets no image."""
    scratch = Scratch(table.capture)
    synced = table.synced
    image = image_json(synced.table, synced.columns, "t.")
    sizes = _sizes(table)
    fits = f" AND {sizes} <= {limits.ROW_BYTES_MAX}" if sizes else ""
    image = f"CASE WHEN a.held{fits} THEN {image} END"
    held = f"(SELECT key, bool_or(now) AS now FROM {scratch.member} GROUP BY key)"
    rows = (
        f"(SELECT a.*, coalesce(m.now, false) AS held, w.ctid AS place "
        f"FROM {limited(scratch.affected, size)} AS a LEFT JOIN {held} AS m ON m.key = a.key "
        f"{known_line('row_state', 'w', 'ctid', 'w.table_name = $2::text AND w.key = a.key', size)})"
    )
    folded = f" LEFT JOIN ({stamps}) AS s ON s.key = a.key" if stamps else ""
    told = "s.stamps" if stamps else "NULL"
    return (
        f"WITH news AS MATERIALIZED (SELECT a.key, a.place, {image} AS image, {told}::text AS stamps "
        f"FROM {rows} AS a "
        f"LEFT JOIN {table_sql(synced.table)} AS t ON a.held AND {_same_key(table.capture, 't', 'a')}{folded} "
        f"WHERE a.held OR {told} IS NOT NULL OR a.place IS NOT NULL ORDER BY a.key), "
        f"renewed AS (UPDATE syncline.row_state AS r SET layout = {table.layout}, image = n.image, "
        "checkpoint = $1::bigint, stamps = coalesce(n.stamps, r.stamps) FROM news AS n WHERE r.ctid = n.place) "
        "INSERT INTO syncline.row_state(table_name, key, layout, image, stamps, checkpoint) "
        f"SELECT $2::text, key, {table.layout}, image, stamps, $1::bigint FROM news WHERE place IS NULL"
    )


def _sizes(table: TableSql) -> str:
    """Bytes of the values that may be long, as far as that is known without reading them."""
    parts = []
    for name in table.synced.columns:
        column = table.synced.table.column(name)
        if column.kind in ("text", "bytes"):
            parts.append(f"coalesce(octet_length(t.{quote(name)}), 0)")
        elif column.kind in _LONG or column.kind.endswith("[]") or column.kind not in _SHORT:
            parts.append(f"coalesce(pg_column_size(t.{quote(name)}), 0)")
    return " + ".join(parts)


_SHORT = {
    *_DIRECT,
    "oid",
    "real",
    "double",
    "numeric",
    "trimmed",
    "money",
    "time",
    "interval",
}


def truths_sql(table: TableSql, size: int | None) -> str:
    """$1 the checkpoint, $2 the table's name: which buckets hold each touched row."""
    scratch = Scratch(table.capture)
    return (
        "INSERT INTO syncline.truth(table_name, key, buckets, checkpoint) SELECT $2::text, a.key, "
        "'[' || coalesce(string_agg(to_json(m.bucket)::text, ', ' ORDER BY m.bucket), '') || ']', $1::bigint "
        f"FROM {limited(scratch.affected, size)} AS a LEFT JOIN {scratch.member} AS m ON m.key = a.key AND m.now "
        "WHERE a.touched GROUP BY a.key "
        "ON CONFLICT (table_name, key) DO UPDATE SET buckets = excluded.buckets, checkpoint = excluded.checkpoint"
    )
