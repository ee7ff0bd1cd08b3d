"""SQL for memberships: which buckets hold which rows, now and before the batch that waits in the changelog.

The algorithm is that of the design's scope deltas. A path is walked as a chain of CTEs, each step a lookup by the
join columns, from a few keys outward: never a scan of a table. "Before" means: every row as it is now, plus every old
image that the batch holds, in all combinations: what was so at any moment since the last checkpoint, since a page of a
download may have been read at any of them. The order inside a batch is never trusted: a trigger of the company's that
rewrites a row again makes its image arrive first. A combination too many can only add a superfluous remove, which is
harmless: see docs/decisions/0028-before-is-any-moment-since-the-last-checkpoint.md.

Generated once per plan; all statements take their keys from a table or subquery whose columns are called k_1, k_2, …
"""

from __future__ import annotations

from dataclasses import dataclass

from syncline.model.identifiers import literal, quote, quote_list
from syncline.model.schema import Table
from syncline.model.scopes import Path, Plan, Scope, Step, SyncedTable
from syncline.source.sqlite.capture import Capture, captures
from syncline.source.walks import leads_there_twice


def affected_table(table: str) -> str:
    return f"temp.{quote('syncline_affected_' + table)}"


def moved_table(table: str) -> str:
    return f"temp.{quote('syncline_moved_' + table)}"


@dataclass(frozen=True)
class PathSql:
    """For one path: memberships of the keys of `affected_table` (rows: key columns, then bucket key columns), the
    same for one key given as ?1, ?2, …; and per position on the path the keys whose path runs through a moved row."""

    path: Path
    after: str
    before: str
    after_one: str
    through: tuple[tuple[str, str, str], ...]


class PathBuilder:
    """Builds the statements of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._captures = captures(plan)

    def build(self, table: SyncedTable) -> list[PathSql]:
        return [self._path(path) for path in table.paths]

    def _path(self, path: Path) -> PathSql:
        affected = affected_table(path.table)
        own = self._captures[path.table]
        one = f"(SELECT {', '.join(f'?{index} AS {name}' for index, name in enumerate(own.key_columns, 1))})"
        through = []
        for position, alias in enumerate(path.aliases):
            if position:
                through.append(
                    (alias, self._back(path, position, before=False), self._back(path, position, before=True))
                )
        return PathSql(
            path=path,
            after=self._forward(path, affected, before=False),
            before=self._forward(path, affected, before=True),
            after_one=self._forward(path, one, before=False),
            through=tuple(through),
        )

    # ------------------------------------------------------------ membership
    def _forward(self, path: Path, keys: str, *, before: bool) -> str:
        scope = self._plan.scopes[path.scope]
        own = self._captures[path.table]
        ctes = []
        previous, previous_columns = f"{keys} AS f", list(zip(own.key_columns, own.key, strict=True))
        joins = [(f"f.{name}", column) for name, column in previous_columns]
        for position, alias in enumerate(path.aliases):
            if position:
                step = path.steps[position - 1]
                joins = [(f"f.j_{index}", column) for index, column in enumerate(step.references, 1)]
            leaving = self._leaving(path, position, scope)
            carried = [f"f.{name}" for name in own.key_columns]
            branches = [self._current(scope, alias, carried, leaving, previous, joins)]
            if before:
                branches.append(self._old(scope, alias, carried, leaving, previous, joins))
            names = [*own.key_columns, *(f"j_{index}" for index in range(1, len(leaving) + 1))]
            ctes.append(f"f{position}({', '.join(names)}) AS ({' UNION '.join(branches)})")
            previous = f"f{position} AS f"
        return f"WITH {', '.join(ctes)} SELECT DISTINCT * FROM f{len(path.aliases) - 1}"

    @staticmethod
    def _leaving(path: Path, position: int, scope: Scope) -> tuple[str, ...]:
        """Which columns of the table at this position the next step needs: its join columns, or at the end the
        bucket's."""
        return path.steps[position].columns if position < len(path.steps) else scope.key

    def _current(
        self,
        scope: Scope,
        table: str,
        carried: list[str],
        leaving: tuple[str, ...],
        previous: str,
        joins: list[tuple[str, str]],
    ) -> str:
        return self._images(table, filtered(scope, table, quote(table)), carried, leaving, previous, joins)

    def _old(
        self,
        scope: Scope,
        table: str,
        carried: list[str],
        leaving: tuple[str, ...],
        previous: str,
        joins: list[tuple[str, str]],
    ) -> str:
        """One image of those that look alike here: else a row that changed a thousand times in the batch, above a
        thousand others that did, would count a million times."""
        capture = self._captures[table]
        needed = dict.fromkeys([*leaving, *(column for _, column in joins), *capture.table.nullable_key])
        rows = f"(SELECT DISTINCT {quote_list(needed)} FROM {filtered(scope, table, old_images(capture))})"
        return self._images(table, rows, carried, leaving, previous, joins)

    def _images(
        self,
        table: str,
        rows: str,
        carried: list[str],
        leaving: tuple[str, ...],
        previous: str,
        joins: list[tuple[str, str]],
    ) -> str:
        columns = ", ".join([*carried, *(f"t.{quote(column)}" for column in leaving)])
        conditions = [f"t.{quote(column)} = {left}" for left, column in joins]
        conditions += has_whole_key(self._captures[table].table, "t.")
        return f"SELECT {columns} FROM {previous} CROSS JOIN {rows} AS t WHERE {' AND '.join(conditions)}"

    # ------------------------------------------------------------ rows whose path runs through a moved row
    def _back(self, path: Path, position: int, *, before: bool) -> str:
        """From the moved rows at `position` back to the path's own rows: their keys."""
        scope = self._plan.scopes[path.scope]
        capture = self._captures[path.aliases[position]]
        step = path.steps[position - 1]
        moved = moved_table(capture.table.name)
        wanted = ", ".join(f"t.{quote(column)}" for column in step.references)
        same_key = " AND ".join(
            f"t.{quote(column)} = m.{name}" for name, column in zip(capture.key_columns, capture.key, strict=True)
        )
        images = old_images(capture) if before else quote(capture.table.name)
        names = [f"j_{index}" for index in range(1, len(step.references) + 1)]
        ctes = [
            f"b{position}({', '.join(names)}) AS (SELECT DISTINCT {wanted} FROM {moved} AS m "
            f"CROSS JOIN {images} AS t WHERE {same_key})"
        ]
        for at in range(position - 1, -1, -1):
            ctes.append(self._step_back(scope, path, at, before=before))
        return f"WITH {', '.join(ctes)} SELECT DISTINCT * FROM b0"

    def _step_back(self, scope: Scope, path: Path, at: int, *, before: bool) -> str:
        capture = self._captures[path.aliases[at]]
        step: Step = path.steps[at]
        leaving = path.steps[at - 1].references if at else capture.key
        names = [f"j_{index}" for index in range(1, len(leaving) + 1)]
        joins = [(f"f.j_{index}", column) for index, column in enumerate(step.columns, 1)]
        branches = [self._current(scope, capture.table.name, [], leaving, f"b{at + 1} AS f", joins)]
        if before:
            branches.append(self._old(scope, capture.table.name, [], leaving, f"b{at + 1} AS f", joins))
        return f"b{at}({', '.join(names)}) AS ({' UNION '.join(branches)})"


def has_whole_key(table: Table, prefix: str) -> list[str]:
    """Conditions: SQLite lets a primary key hold NULL, and such a row cannot be told from others. It is as if it were
    not there, for what hangs on it too."""
    return [f"{prefix}{quote(column)} IS NOT NULL" for column in table.nullable_key]


def filtered(scope: Scope, table: str, rows: str) -> str:
    """Rows, or those of them that pass the scope's filter for the table. Bare column names in the filter mean the
    table's own, so it stands in a subquery of its own."""
    where = scope.filters.get(table)
    return f"(SELECT * FROM {rows} WHERE ({where}))" if where else rows


def old_images(capture: Capture) -> str:
    """Every old image in the batch, under the table's own column names."""
    columns = ", ".join(
        f"{capture.old_column(column)} AS {quote(column)}" for column in (*capture.key, *capture.captured)
    )
    return f"(SELECT {columns} FROM {capture.changelog} WHERE op IN ('U', 'D', 'R'))"


def moved_sql(capture: Capture) -> str:
    """Fills `moved_table`: batch rows that are new, gone, or whose join or filter columns changed (else one
    last_login above 100,000 visits would cost a second)."""
    same_key = " AND ".join(
        f"t.{quote(column)} = c.{name}" for name, column in zip(capture.key_columns, capture.key, strict=True)
    )
    changed = [
        f"c.{name} IS NOT t.{quote(column)} COLLATE BINARY"
        for name, column in zip(capture.old_columns, capture.captured, strict=True)
    ]
    conditions = ["c.op IN ('I', 'D')", f"t.{quote(capture.key[0])} IS NULL", *changed]
    selected = ", ".join(f"c.{name}" for name in capture.key_columns)
    return (
        f"INSERT OR IGNORE INTO {moved_table(capture.table.name)} SELECT {selected} "
        f"FROM {capture.changelog} AS c LEFT JOIN {quote(capture.table.name)} AS t ON {same_key} "
        f"WHERE c.op <> 'T' AND ({' OR '.join(conditions)}) GROUP BY {selected}"
    )


def temp_tables_sql(capture: Capture) -> list[str]:
    """The sequencer's scratch tables; typeless key columns hold values exactly."""
    keys = ", ".join(capture.key_columns)
    statements = []
    for name in (affected_table(capture.table.name), moved_table(capture.table.name)):
        statements.append(f"DROP TABLE IF EXISTS {name}")
        statements.append(f"CREATE TEMP TABLE {name.removeprefix('temp.')}({keys}, UNIQUE({keys}))")
    return statements


def snapshot_sql(plan: Plan, table: SyncedTable, scope_names: frozenset[str]) -> str | None:
    """All rows of the table in the buckets listed in temp.syncline_wanted(scope, k_1…, place), in key order: place,
    then the key columns, then the visible ones."""
    selects = []
    distinct = False
    for path in table.paths:
        if path.scope in scope_names:
            selects.append(_snapshot_path(plan, path, table))
            distinct = distinct or leads_there_twice(plan, path)
    if not selects:
        return None
    order = ", ".join(str(index) for index in range(2, 2 + len(table.key)))
    if len(selects) == 1 and distinct:  # UNION does it for several
        return f"SELECT DISTINCT * FROM ({selects[0]}) ORDER BY {order}, 1"
    return f"{' UNION '.join(selects)} ORDER BY {order}, 1"


def _snapshot_path(plan: Plan, path: Path, table: SyncedTable) -> str:
    scope, last = plan.scopes[path.scope], len(path.steps)
    at_each = [plan.schema.table(name) for name in path.aliases]
    root = filtered(scope, path.aliases[last], quote(path.aliases[last]))
    rows = [f"temp.syncline_wanted AS w CROSS JOIN {root} AS t{last}"]
    conditions = [f"w.scope = {literal(scope.name)}", *has_whole_key(at_each[last], f"t{last}.")]
    conditions += [f"t{last}.{quote(column)} = w.k_{index}" for index, column in enumerate(scope.key, 1)]
    for at in range(last - 1, -1, -1):
        step = path.steps[at]
        rows.append(f"CROSS JOIN {filtered(scope, path.aliases[at], quote(path.aliases[at]))} AS t{at}")
        conditions += [
            f"t{at}.{quote(own)} = t{at + 1}.{quote(other)}"
            for own, other in zip(step.columns, step.references, strict=True)
        ]
        conditions += has_whole_key(at_each[at], f"t{at}.")
    columns = f"w.place, {quote_list(table.key, 't0.')}, {quote_list(table.columns, 't0.')}"
    return f"SELECT {columns} FROM {' '.join(rows)} WHERE {' AND '.join(conditions)}"
