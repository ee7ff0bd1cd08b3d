"""SQL for the pages of a walk: rows of one table, in key order, that some wanted buckets hold.

Two ways lead there. *Inward*: from a range of the table's rows to the buckets that hold them, each step a lookup; what
a page costs is bounded by the range, however few of its rows are wanted. *Outward*: from the wanted buckets to the
keys of all rows in them; no more rows than those are looked at, but nothing comes in key order.

Wanted buckets stand in one temporary table per scope: its key columns k_1, k_2, … with the root's types, and `place`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from syncline.model.identifiers import quote, quote_list
from syncline.model.scopes import Path, Plan, SyncedTable
from syncline.source.sqlite.paths import filtered, has_whole_key
from syncline.source.walks import leads_there_twice

Wanted = Mapping[str, str]
"""Scope -> its temporary table of wanted buckets."""


class WalkSql:
    """Statements for one table. `listing` is a temporary table of keys to look at, None for the table itself."""

    def __init__(self, plan: Plan, table: SyncedTable, wanted: Wanted, listing: str | None = None) -> None:
        self._plan = plan
        self._table = table
        self._wanted = wanted
        self._listing = listing
        self._paths = [path for path in table.paths if path.scope in wanted]
        self._width = len(table.key)

    @property
    def is_simple(self) -> bool:
        """One path, which leads each row to one bucket: nothing has to be merged."""
        return len(self._paths) == 1 and not leads_there_twice(self._plan, self._paths[0])

    @property
    def _keys(self) -> list[str]:
        """The key columns that order and bound a page."""
        if self._listing:
            return [f"l.k_{index}" for index in range(1, self._width + 1)]
        return [f"t0.{quote(column)}" for column in self._table.key]

    # ------------------------------------------------------------ a range of keys
    def bound(self, *, is_first: bool) -> str:
        """The last key of a range of ?n rows: after the key ?1, …, or from the beginning."""
        source = f"{self._listing} AS l" if self._listing else f"{quote(self._table.name)} AS t0"
        conditions = ["1"] if self._listing else ["1", *has_whole_key(self._table.table, "t0.")]
        if not is_first:
            conditions.append(self._compare(">", 1))
        offset = 1 if is_first else self._width + 1
        keys = ", ".join(self._keys)
        where = " AND ".join(conditions)
        return f"SELECT {keys} FROM {source} WHERE {where} ORDER BY {keys} LIMIT 1 OFFSET ?{offset}"

    def _compare(self, operator: str, first: int) -> str:
        """The unary plus leaves the parameter without an affinity of its own, whatever it is bound as."""
        places = ", ".join(f"+?{index}" for index in range(first, first + self._width))
        keys = ", ".join(self._keys)
        return f"({keys}) {operator} ({places})" if self._width > 1 else f"{keys} {operator} {places}"

    def _range(self, *, is_first: bool, is_last: bool) -> list[str]:
        conditions = ["1"]
        if not is_first:
            conditions.append(self._compare(">", 1))
        if not is_last:
            conditions.append(self._compare("<=", 1 if is_first else self._width + 1))
        return conditions

    # ------------------------------------------------------------ inward
    def rows(self, *, is_first: bool, is_last: bool) -> str:
        """Of a simple table: place, then the visible columns, in key order."""
        (path,) = self._paths
        source, conditions, place = self._inward(path)
        conditions += self._range(is_first=is_first, is_last=is_last)
        columns = quote_list(self._table.columns, "t0.")
        where, keys = " AND ".join(conditions), ", ".join(self._keys)
        return f"SELECT {place}, {columns} FROM {source} WHERE {where} ORDER BY {keys}"

    def memberships(self, *, is_first: bool, is_last: bool) -> str:
        """Place, then the key, each once; in no order."""
        selects = []
        for path in self._paths:
            source, conditions, place = self._inward(path)
            conditions += self._range(is_first=is_first, is_last=is_last)
            keys = quote_list(self._table.key, "t0.")
            selects.append(f"SELECT DISTINCT {place}, {keys} FROM {source} WHERE {' AND '.join(conditions)}")
        return " UNION ".join(selects)

    def all_rows(self, *, is_first: bool, is_last: bool) -> str:
        """0, then the visible columns of every row of the range, wanted or not, in key order."""
        conditions = self._range(is_first=is_first, is_last=is_last)
        conditions += has_whole_key(self._table.table, "t0.")
        sources = self._base(quote(self._table.name), conditions)
        columns = quote_list(self._table.columns, "t0.")
        where, keys = " AND ".join(conditions), ", ".join(self._keys)
        return f"SELECT 0, {columns} FROM {' CROSS JOIN '.join(sources)} WHERE {where} ORDER BY {keys}"

    def _base(self, rows: str, conditions: list[str]) -> list[str]:
        if not self._listing:
            return [f"{rows} AS t0"]
        conditions += [f"t0.{quote(column)} = l.k_{index}" for index, column in enumerate(self._table.key, 1)]
        return [f"{self._listing} AS l", f"{rows} AS t0"]

    def _inward(self, path: Path) -> tuple[str, list[str], str]:
        """(sources, conditions, the expression that names the bucket's place)."""
        scope = self._plan.scopes[path.scope]
        conditions = self._whole_keys(path)
        sources = self._base(filtered(scope, path.table, quote(path.table)), conditions)
        for at, step in enumerate(path.steps, 1):
            sources.append(f"{filtered(scope, step.table, quote(step.table))} AS t{at}")
            conditions += [
                f"t{at}.{quote(other)} = t{at - 1}.{quote(own)}"
                for own, other in zip(step.columns, step.references, strict=True)
            ]
        if scope.key:
            last = len(path.steps)
            sources.append(f"{self._wanted[scope.name]} AS w")
            conditions += [f"w.k_{index} = t{last}.{quote(column)}" for index, column in enumerate(scope.key, 1)]
            return " CROSS JOIN ".join(sources), conditions, "w.place"
        return " CROSS JOIN ".join(sources), conditions, f"(SELECT place FROM {self._wanted[scope.name]})"

    def _whole_keys(self, path: Path) -> list[str]:
        """What hangs on a row whose key holds NULL is as if it were not there."""
        tables = [self._plan.schema.table(name) for name in path.aliases]
        return ["1", *(each for at, table in enumerate(tables) for each in has_whole_key(table, f"t{at}."))]

    # ------------------------------------------------------------ outward
    def keys(self) -> str:
        """The keys of all rows that wanted buckets hold; some may come twice unless the table is simple."""
        return " UNION ALL ".join(self._outward(path) for path in self._paths)

    def distinct_keys(self) -> str:
        if self.is_simple:
            return self.keys()
        return " UNION ".join(f"SELECT * FROM ({self._outward(path)})" for path in self._paths)

    def _outward(self, path: Path) -> str:
        scope = self._plan.scopes[path.scope]
        last = len(path.steps)
        sources = [f"{self._wanted[scope.name]} AS w"]
        conditions = self._whole_keys(path)
        for at, table in reversed(list(enumerate(path.aliases))):
            sources.append(f"{filtered(scope, table, quote(table))} AS t{at}")
            conditions += list(self._meets(path, at))
        conditions += [f"t{last}.{quote(column)} = w.k_{index}" for index, column in enumerate(scope.key, 1)]
        keys = quote_list(self._table.key, "t0.")
        return f"SELECT {keys} FROM {' CROSS JOIN '.join(sources)} WHERE {' AND '.join(conditions)}"

    @staticmethod
    def _meets(path: Path, at: int) -> Iterator[str]:
        if at < len(path.steps):
            step = path.steps[at]
            for own, other in zip(step.columns, step.references, strict=True):
                yield f"t{at}.{quote(own)} = t{at + 1}.{quote(other)}"


def listing_sql(name: str, types: Sequence[str]) -> str:
    """A temporary table of keys with the types, and so the order, of the table's own."""
    columns = [f"k_{index} {kind}".strip() for index, kind in enumerate(types, 1)]
    keys = ", ".join(f"k_{index}" for index in range(1, len(types) + 1))
    return f"CREATE TEMP TABLE {name.removeprefix('temp.')}({', '.join(columns)}, PRIMARY KEY({keys})) WITHOUT ROWID"
