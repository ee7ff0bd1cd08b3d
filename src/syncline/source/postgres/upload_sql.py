"""The statements of an upload, for any number of rows of one table at once.

Rows come as arrays, one per column, which are unnested and cast to the columns' types: a set of one and a set of five
hundred are the same statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from syncline.model.identifiers import literal, quote, quote_list
from syncline.model.schema import Column
from syncline.model.scopes import SyncedTable
from syncline.source.postgres.capture import Capture
from syncline.source.postgres.names import table_sql
from syncline.source.postgres.paths import PathSql, membership_sql
from syncline.source.postgres.rows_sql import values_list
from syncline.source.postgres.types import bind, cast_sql, value_sql
from syncline.values import Key, Value, key_text

BOUND_KEYS_MAX = 10_000


class Rows(NamedTuple):
    """A subquery whose columns `names` are typed values, unnested from parameters `$1` on, so many `parameters`."""

    sql: str
    parameters: int


def unnested(columns: Iterable[tuple[Column, str]], extra: Iterable[tuple[str, str]] = ()) -> Rows:
    """`columns`: (column, name in the subquery); `extra`: (array type, name) of others. `n` counts from 1."""
    wanted = list(columns)
    places, casts, aliases = [], [], []
    for index, (column, name) in enumerate(wanted, 1):
        places.append(f"${index}::{'bytea' if column.kind == 'bytes' else 'text'}[]")
        aliases.append(f"p{index}")
        casts.append(f"{cast_sql(column, f'u.p{index}')} AS {name}")
    for index, (kind, name) in enumerate(extra, len(wanted) + 1):
        places.append(f"${index}::{kind}[]")
        aliases.append(f"p{index}")
        casts.append(f"u.p{index} AS {name}")
    rows = f"unnest({', '.join(places)}) WITH ORDINALITY AS u({', '.join(aliases)}, n)"
    return Rows(f"(SELECT {', '.join(casts)}, u.n FROM {rows})", len(places))


def arrays(columns: Sequence[Column], rows: Sequence[Sequence[Value]]) -> list[list[Any]]:
    """The parameters of `unnested`; ValueError where a value is not of its column's type."""
    return [[bind(column, row[index]) for row in rows] for index, column in enumerate(columns)]


@dataclass
class UploadSql:
    """Of one table. All take arrays of keys first."""

    synced: SyncedTable
    capture: Capture
    paths: tuple[PathSql, ...]
    _writes: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    _bound: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @cached_property
    def place(self) -> str:
        return table_sql(self.synced.table)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return self.synced.table.column_names

    @cached_property
    def key(self) -> list[Column]:
        return [self.synced.table.column(name) for name in self.synced.key]

    def described(self, names: Iterable[str]) -> list[Column]:
        return [self.synced.table.column(name) for name in names]

    def _keys(self, *extra: tuple[str, str]) -> Rows:
        return unnested(zip(self.key, self.capture.key_columns, strict=True), extra)

    def _same_key(self, prefix: str, other: str = "v") -> str:
        """The table's row `prefix` and the key in `other`."""
        pairs = zip(self.synced.key, self.capture.key_columns, strict=True)
        return " AND ".join(f"{prefix}.{quote(column)} = {other}.{name}" for column, name in pairs)

    def _same_entry(self, prefix: str, other: str = "v") -> str:
        return " AND ".join(f"{prefix}.{name} = {other}.{name}" for name in self.capture.key_columns)

    # ------------------------------------------------------------ reading
    def lock(self, strength: str) -> str:
        """In key order, so that two uploads never wait for each other over the rows of one table."""
        order = ", ".join(f"t.{quote(column)}" for column in self.synced.key)
        return (
            f"SELECT FROM {self.place} AS t JOIN {self._keys().sql} AS v ON {self._same_key('t')} "
            f"ORDER BY {order} FOR {strength} OF t"
        )

    @cached_property
    def read(self) -> str:
        """Keys, key texts -> n, whether the row is there, its stamps, the changes of it that wait, its values."""
        capture = self.capture
        keys = ", ".join(f"c.{name}" for name in capture.key_columns)
        masks = "".join(f", c.{name}" for name in capture.mask_columns)
        values = values_list(self.synced.table, self.columns, "t.")
        return (
            f"WITH v AS MATERIALIZED {self._keys(('text', 'key_text')).sql}, w AS ("
            f"SELECT {keys}, json_agg(json_build_array(c.op, c.stamp, c.writer{masks}) ORDER BY c.id)::text AS changes "
            f"FROM {capture.changelog} AS c JOIN v ON {self._same_entry('c')} "
            f"WHERE c.txid >= coalesce((SELECT cut_xmin FROM syncline.checkpoint), '0') GROUP BY {keys}) "
            f"SELECT v.n, t.{quote(self.synced.key[0])} IS NOT NULL, s.stamps, w.changes, {values} FROM v "
            f"LEFT JOIN {self.place} AS t ON {self._same_key('t')} "
            f"LEFT JOIN syncline.row_state AS s ON s.table_name = {literal(self.synced.name)} "
            f"AND s.key = v.key_text LEFT JOIN w ON {self._same_entry('w')}"
        )

    @cached_property
    def buckets(self) -> list[str]:
        """One per path: keys -> n, bucket."""
        keys, same = self._keys().sql, self._same_entry("m")
        return [
            f"WITH v AS MATERIALIZED {keys} SELECT DISTINCT v.n, m.bucket "
            f"FROM v JOIN ({membership_sql(path, '(SELECT * FROM v)')}) AS m ON {same} WHERE m.bucket IS NOT NULL"
            for path in self.paths
        ]

    # ------------------------------------------------------------ writing
    def insert(self, columns: tuple[str, ...]) -> str:
        if ("I", columns) not in self._writes:
            names = (*self.synced.key, *columns)
            rows = unnested((column, f"c_{index}") for index, column in enumerate(self.described(names)))
            self._writes["I", columns] = (
                f"INSERT INTO {self.place}({quote_list(names)}) OVERRIDING SYSTEM VALUE "
                f"SELECT {', '.join(f'v.c_{index}' for index in range(len(names)))} FROM {rows.sql} AS v ORDER BY v.n"
            )
        return self._writes["I", columns]

    def update(self, columns: tuple[str, ...]) -> str:
        if ("U", columns) not in self._writes:
            named = [(column, f"c_{index}") for index, column in enumerate(self.described(columns))]
            rows = unnested([*zip(self.key, self.capture.key_columns, strict=True), *named])
            sets = ", ".join(f"{quote(column.name)} = v.{name}" for column, name in named)
            self._writes["U", columns] = (
                f"UPDATE {self.place} AS t SET {sets} FROM {rows.sql} AS v WHERE {self._same_key('t')}"
            )
        return self._writes["U", columns]

    @cached_property
    def delete(self) -> str:
        return f"DELETE FROM {self.place} AS t USING {self._keys().sql} AS v WHERE {self._same_key('t')}"

    @cached_property
    def restamp(self) -> str:
        """Keys, stamps, then the stamp and the writer that capture was given: every change that it noted of these rows
        gets the stamp of its own mutation, and is answered as the place of its key. Nobody can tell the planner how
        many it has noted: a full join is never a loop in a loop."""
        rows = self._keys(("bigint", "stamp"))
        stamp, writer = rows.parameters + 1, rows.parameters + 2
        noted = (
            f"SELECT q.ctid AS place, q.* FROM {self.capture.changelog} AS q WHERE q.txid = pg_current_xact_id() "
            f"AND q.stamp = ${stamp}::bigint AND q.writer = ${writer}::bigint AND q.op <> 'T'"
        )
        return (
            f"UPDATE {self.capture.changelog} AS c SET stamp = f.stamp FROM (SELECT e.place, v.stamp, v.n "
            f"FROM ({noted}) AS e FULL JOIN {rows.sql} AS v ON {self._same_entry('e')} OFFSET 0) AS f "
            "WHERE c.ctid = f.place AND f.stamp IS NOT NULL RETURNING f.n"
        )

    @cached_property
    def made(self) -> str:
        """Writer, stamp -> the keys of the rows that this transaction has made for it since then."""
        described = zip(self.key, self.capture.key_columns, strict=True)
        return (
            f"SELECT {', '.join(value_sql(column, f'c.{name}') for column, name in described)} "
            f"FROM {self.capture.changelog} AS c WHERE c.txid = pg_current_xact_id() AND c.op = 'I' "
            "AND c.writer = $1::bigint AND c.stamp >= $2::bigint"
        )

    @cached_property
    def touch(self) -> str:
        """Keys, stamps, writers, then the words of the mask."""
        masks = [("bigint", name) for name in self.capture.mask_columns]
        rows = self._keys(("bigint", "stamp"), ("bigint", "writer"), *masks)
        names = [*self.capture.key_columns, "stamp", "writer", *self.capture.mask_columns]
        return (
            f"INSERT INTO {self.capture.changelog}(op, {', '.join(names)}) "
            f"SELECT 'T', {', '.join(f'v.{name}' for name in names)} FROM {rows.sql} AS v ORDER BY v.n"
        )

    def key_arrays(self, keys: Sequence[Key]) -> list[list[Any]]:
        """The same keys come again in each statement of a wave: they are bound once."""
        if len(self._bound) > BOUND_KEYS_MAX:
            self._bound.clear()
        bound = [self._bound_key(key) for key in keys]
        return [list(each) for each in zip(*bound, strict=True)] if bound else [[] for _ in self.key]

    def _bound_key(self, key: Key) -> tuple[Any, ...]:
        text = key_text(key)
        found = self._bound.get(text)
        if found is None:
            found = tuple(bind(column, value) for column, value in zip(self.key, key, strict=True))
            self._bound[text] = found
        return found


def cast_back(column: Column) -> str:
    """Values of one column -> how the source gives them back, in order."""
    rows = unnested([(column, "c_0")])
    return f"SELECT {value_sql(column, 'v.c_0')} FROM {rows.sql} AS v ORDER BY v.n"
