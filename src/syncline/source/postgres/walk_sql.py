"""SQL for the pages of a walk: rows of one table, in key order, that some wanted buckets hold.

Two ways lead there. *Inward*: from a range of the table's rows, or a list of their keys, to the buckets that hold them,
each step a lookup; what a page costs is bounded by the range, however few of its rows are wanted. *Outward*: from the
wanted buckets to all rows in them; no more rows than those are looked at, but nothing comes in key order.

Everything that a statement is given goes in as parameters, lists as arrays: a read needs neither a session of its own
nor the right to make a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncline.model.identifiers import quote
from syncline.model.schema import Column, Table
from syncline.model.scopes import Path, Plan, SyncedTable, bucket_key, bucket_scope
from syncline.source.postgres.names import table_sql
from syncline.source.postgres.paths import FEED_KEY_BYTES_MAX, filtered
from syncline.source.postgres.rows_sql import key_json, values_list
from syncline.source.postgres.types import bind, cast_sql, value_sql
from syncline.source.walks import leads_there_twice
from syncline.values import Key


class Statement:
    """The parameters of a statement that is being written."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def place(self, value: Any) -> str:
        self.given.append(value)
        return f"${len(self.given)}"


@dataclass(frozen=True)
class Wanted:
    """`names[i]` is the bucket whose place is i; per scope the places, and column by column the keys' texts."""

    names: tuple[str, ...]
    places: Mapping[str, list[int]]
    keys: Mapping[str, list[list[str]]]

    @classmethod
    def of(cls, plan: Plan, buckets: frozenset[str]) -> Wanted:
        names = tuple(sorted(buckets))
        places: dict[str, list[int]] = {}
        keys: dict[str, list[list[str]]] = {}
        for place, bucket in enumerate(names):
            scope = plan.scopes.get(bucket_scope(bucket))
            key = bucket_key(bucket)
            if scope is None or len(key) != len(scope.key):
                continue
            columns = [plan.schema.table(scope.root or "").column(name) for name in scope.key]
            try:
                texts = [as_text(bind(column, value)) for column, value in zip(columns, key, strict=True)]
            except ValueError:
                continue
            places.setdefault(scope.name, []).append(place)
            for listed, text in zip(keys.setdefault(scope.name, [[] for _ in columns]), texts, strict=True):
                listed.append(text)
        return cls(names, places, keys)


def as_text(bound: str | bytes | None) -> str:
    """As an element of a list of texts; ValueError for NULL, which no key holds."""
    if bound is None:
        raise ValueError("a key holds no NULL")
    return f"\\x{bound.hex()}" if isinstance(bound, bytes) else bound


@dataclass(frozen=True)
class Keys:
    """Keys to look at: per key column an array's text."""

    arrays: tuple[str, ...]


class WalkSql:
    """Statements for one table. Each method writes into a `Statement` of its own."""

    def __init__(self, plan: Plan, synced: SyncedTable, wanted: Wanted) -> None:
        self._plan = plan
        self._synced = synced
        self._table = synced.table
        self._wanted = wanted
        self.paths = [path for path in synced.paths if path.scope in wanted.places]
        self._key = [synced.table.column(name) for name in synced.key]

    @property
    def is_simple(self) -> bool:
        """One path, which leads each row to one bucket: nothing has to be merged."""
        return len(self.paths) == 1 and not leads_there_twice(self._plan, self.paths[0])

    @property
    def has_whole_scope(self) -> bool:
        """A bucket of everybody's holds all the rows there are."""
        return any(not self._plan.scopes[path.scope].key for path in self.paths)

    @property
    def is_indexed(self) -> bool:
        """Whether each step on the ways is a lookup."""
        for path in self.paths:
            tables = [self._plan.schema.table(name) for name in path.aliases]
            for step, inner, outer in zip(path.steps, tables, tables[1:], strict=False):
                if not (inner.has_index_on(step.columns) and outer.has_index_on(step.references)):
                    return False
        return True

    # ------------------------------------------------------------ keys
    def _keys(self, prefix: str) -> str:
        return ", ".join(f"{prefix}{quote(column.name)}" for column in self._key)

    def _named(self, prefix: str) -> str:
        """The key under names of ours: a column of the company's may be called whatever else stands beside it."""
        return ", ".join(f"{prefix}{quote(column.name)} AS k_{number}" for number, column in enumerate(self._key, 1))

    @property
    def _names(self) -> str:
        return ", ".join(f"k_{number}" for number in range(1, len(self._key) + 1))

    def _same_key(self, one: str, other: str) -> str:
        """`other` has it under names of ours."""
        return " AND ".join(f"{one}{quote(column.name)} = {other}k_{n}" for n, column in enumerate(self._key, 1))

    def _beyond(self, statement: Statement, prefix: str, operator: str, key: Key) -> str:
        """Compared as a row, so that the key's index serves it."""
        places = [
            cast_sql(column, statement.place(bind(column, value))) for column, value in zip(self._key, key, strict=True)
        ]
        return f"({self._keys(prefix)}) {operator} ({', '.join(places)})"

    def bound(self, statement: Statement, after: Key | None, rows: int) -> str:
        """The values of the last key of a range of so many rows; nothing where there are fewer."""
        where = f" WHERE {self._beyond(statement, 't0.', '>', after)}" if after else ""
        keys = self._keys("t0.")
        return (
            f"SELECT {values_list(self._table, self._synced.key, 'k.')} FROM (SELECT {keys} FROM "
            f"{table_sql(self._table)} AS t0{where} ORDER BY {keys} LIMIT 1 OFFSET {rows - 1}) AS k"
        )

    # ------------------------------------------------------------ inward
    def in_range(self, statement: Statement, after: Key | None, upto: Key | None, rows: int) -> str:
        """Rows of a range, of which there are at most so many: the number tells the planner that they are few."""
        conditions = [self._beyond(statement, "t.", ">", after)] if after else []
        conditions += [self._beyond(statement, "t.", "<=", upto)] if upto else []
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        base = f"(SELECT t.* FROM {table_sql(self._table)} AS t{where} ORDER BY {self._keys('t.')} LIMIT {rows})"
        return self._inward(statement, base)

    def of_keys(self, statement: Statement, keys: Keys, after: Key | None) -> str:
        """Rows with the listed keys that are still there."""
        arrays = ", ".join(f"{statement.place(array)}::text::text[]" for array in keys.arrays)
        listed = ", ".join(f"k_{number}" for number in range(1, len(self._key) + 1))
        same = " AND ".join(
            f"t.{quote(column.name)} = {cast_sql(column, f'l.k_{number}')}"
            for number, column in enumerate(self._key, 1)
        )
        where = f" WHERE {self._beyond(statement, 't.', '>', after)}" if after else ""
        base = (
            f"(SELECT t.* FROM unnest({arrays}) AS l({listed}) JOIN {table_sql(self._table)} AS t ON {same}{where} "
            "OFFSET 0)"
        )
        return self._inward(statement, base)

    def _inward(self, statement: Statement, base: str) -> str:
        """Place, or places, then the visible columns' values, in key order."""
        columns = values_list(self._table, self._synced.columns, "t0.")
        if self.is_simple:
            (path,) = self.paths
            source, place = self._from_rows(statement, path, base)
            return f"SELECT {place}, {columns} FROM {source} ORDER BY {self._keys('t0.')}"
        members = " UNION ALL ".join(
            f"SELECT {self._named('t0.')}, {place} AS place FROM {source}"
            for source, place in (self._from_rows(statement, path, "base") for path in self.paths)
        )
        return (
            f"WITH base AS MATERIALIZED {base}, "
            f"members AS (SELECT {self._names}, array_agg(DISTINCT place) AS places "
            f"FROM ({members}) AS m GROUP BY {self._names}) "
            f"SELECT m.places, {columns} FROM base AS t0 JOIN members AS m ON {self._same_key('t0.', 'm.')} "
            f"ORDER BY {self._keys('t0.')}"
        )

    def _from_rows(self, statement: Statement, path: Path, base: str) -> tuple[str, str]:
        """(sources joined, the expression that names the bucket's place)."""
        scope = self._plan.scopes[path.scope]
        sources = [f"{filtered(scope, path.table, base)} AS t0"]
        for at in range(1, len(path.aliases)):
            sources.append(f"{self._rows(path, at)} AS t{at} ON {' AND '.join(self._meets(path, at - 1))}")
        wanted, on = self._buckets(statement, path)
        return " JOIN ".join([*sources, f"{wanted} ON {on}"]), "w.place"

    # ------------------------------------------------------------ outward
    def all_rows(self, statement: Statement, after: Key | None) -> str:
        """Like `in_range`, of everything in the wanted buckets."""
        if self.is_simple:
            (path,) = self.paths
            columns = values_list(self._table, self._synced.columns, "t0.")
            source = self._from_buckets(statement, path, after)
            return f"SELECT w.place, {columns} FROM {source} ORDER BY {self._keys('t0.')}"
        columns = values_list(self._table, self._synced.columns, "t0.")
        members = " UNION ALL ".join(
            f"SELECT {self._named('t0.')}, w.place FROM {self._from_buckets(statement, path, after)}"
            for path in self.paths
        )
        return (
            f"WITH members AS MATERIALIZED (SELECT {self._names}, array_agg(DISTINCT place) AS places "
            f"FROM ({members}) AS m GROUP BY {self._names}) SELECT m.places, {columns} FROM members AS m "
            f"JOIN {table_sql(self._table)} AS t0 ON {self._same_key('t0.', 'm.')} ORDER BY {self._keys('t0.')}"
        )

    def keys(self, statement: Statement, after: Key | None) -> str:
        """The keys (k_1, …) of everything in the wanted buckets, each once."""
        selects = [
            f"SELECT {self._named('t0.')} FROM {self._from_buckets(statement, path, after)}" for path in self.paths
        ]
        return selects[0] if self.is_simple else " UNION ".join(selects)

    def count(self, statement: Statement, after: Key | None, rows_max: int | None = None) -> str:
        limit = f" LIMIT {rows_max}" if rows_max is not None else ""
        return f"SELECT count(*) FROM (SELECT FROM ({self.keys(statement, after)}) AS k{limit}) AS k"

    def listing(self, statement: Statement, after: Key | None, rows: int, keys_max: int) -> str:
        """The first keys in key order, in lists of so many: an array's text per key column, then the JSON of the last
        key, then how many there are."""
        numbers = range(1, len(self._key) + 1)
        texts = [f"({value_sql(column, f'k.k_{number}')})::text" for number, column in enumerate(self._key, 1)]
        lists = ", ".join(f"array_agg({text} ORDER BY k.n)::text AS list_{n}" for n, text in enumerate(texts, 1))
        names = ", ".join(f"r.list_{number}" for number in numbers)
        lasts = ", ".join(f"(array_agg(k.k_{number} ORDER BY k.n DESC))[1] AS last_{number}" for number in numbers)
        last = ", ".join(f"r.last_{number} AS {quote(column.name)}" for number, column in enumerate(self._key, 1))
        order = ", ".join(f"k.k_{number}" for number in numbers)
        return (
            f"SELECT {names}, {key_json(self._table, self._synced.key, 'last.')}, r.size FROM ("
            f"SELECT {lists}, {lasts}, count(*) AS size, (k.n - 1) / {rows} AS list FROM ("
            f"SELECT k.*, row_number() OVER (ORDER BY {order}) AS n FROM ({self.keys(statement, after)}) AS k "
            f"ORDER BY {order} LIMIT {keys_max}) AS k GROUP BY (k.n - 1) / {rows}) AS r "
            f"CROSS JOIN LATERAL (SELECT {last}) AS last ORDER BY r.list"
        )

    def _from_buckets(self, statement: Statement, path: Path, after: Key | None) -> str:
        wanted, on = self._buckets(statement, path)
        last = len(path.steps)
        sources = [wanted, f"{self._rows(path, last)} AS t{last} ON {on}"]
        for at in range(last - 1, -1, -1):
            sources.append(f"{self._rows(path, at)} AS t{at} ON {' AND '.join(self._meets(path, at))}")
        where = f" WHERE {self._beyond(statement, 't0.', '>', after)}" if after else ""
        return " JOIN ".join(sources) + where

    # ------------------------------------------------------------ both
    def _rows(self, path: Path, at: int) -> str:
        table = self._plan.schema.table(path.aliases[at])
        return filtered(self._plan.scopes[path.scope], table.name, table_sql(table))

    @staticmethod
    def _meets(path: Path, at: int) -> Iterator[str]:
        """How the row at a position leads to the next one."""
        step = path.steps[at]
        for own, other in zip(step.columns, step.references, strict=True):
            yield f"t{at}.{quote(own)} = t{at + 1}.{quote(other)}"

    def _buckets(self, statement: Statement, path: Path) -> tuple[str, str]:
        """The wanted buckets as `w`, and which row at the path's end belongs to which."""
        scope, last = self._plan.scopes[path.scope], len(path.steps)
        places = f"{statement.place(self._wanted.places[scope.name])}::int4[]"
        if not scope.key:
            return f"unnest({places}) AS w(place)", "true"
        root = self._plan.schema.table(scope.root or "")
        columns = [root.column(name) for name in scope.key]
        lists = ", ".join(f"{statement.place(texts)}::text[]" for texts in self._wanted.keys[scope.name])
        names = ", ".join(f"k_{number}" for number in range(1, len(columns) + 1))
        casts = ", ".join(
            f"{cast_sql(column, f'u.k_{number}')} AS k_{number}" for number, column in enumerate(columns, 1)
        )
        on = " AND ".join(f"t{last}.{quote(column.name)} = w.k_{number}" for number, column in enumerate(columns, 1))
        return f"(SELECT u.place, {casts} FROM unnest({places}, {lists}) AS u(place, {names})) AS w", on


def waiting_sql(changelogs: Sequence[str]) -> str:
    """Whether anything waits that the next cut will take. What an earlier cut saw has a lower transaction id."""
    queues = [*changelogs, "syncline.gap"]
    looks = " OR ".join(f"EXISTS (SELECT FROM {queue} q WHERE q.txid >= c.cut_xmin)" for queue in queues)
    return f"SELECT coalesce((SELECT {looks} FROM syncline.checkpoint c), true)"


def fits_feed(names: Sequence[str], key: str) -> bool:
    """Whether the feed can hold the row's line in each of these buckets: one that is in no feed is on no device."""
    return max(len(name.encode()) for name in names) + len(key.encode()) <= FEED_KEY_BYTES_MAX


def is_long(column: Column) -> bool:
    """Whether a key column may hold so much text that a line of the feed cannot."""
    return column.kind in ("text", "char", "bytes", "numeric", "trimmed", "bits", "other") or column.kind.endswith("[]")


def key_columns(table: Table) -> list[Column]:
    return [table.column(name) for name in table.key]
