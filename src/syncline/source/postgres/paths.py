"""SQL for memberships: which buckets hold which rows, now and before the batch that a cut takes.

The algorithm is that of the design's scope deltas. A path is walked as a chain of CTEs, each step a lookup by the
join columns, from the keys outward. "Before" means every row as it is now, plus every old image that the batch holds,
in all combinations: see docs/decisions/0028-before-is-any-moment-since-the-last-checkpoint.md.

Keys come from a subquery whose columns are called k_1, k_2, …; buckets and key texts are made in SQL, so that rows
need not pass through Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from syncline.model.identifiers import literal, quote
from syncline.model.schema import Table
from syncline.model.scopes import Path, Plan, Scope
from syncline.source.postgres.names import table_sql
from syncline.source.postgres.rows_sql import key_json, values_list
from syncline.source.postgres.types import cast_sql

FEED_KEY_BYTES_MAX = 2_400
"""Of a bucket's name and a key's text together, in UTF-8: a line of a b-tree holds 2,704 bytes, of which some are for
the table's name. A longer one is in no feed, and its row on no device."""

OldImages = Mapping[str, str]
"""Table -> a subquery with the old images that the batch holds of it, under the table's own column names."""


@dataclass(frozen=True)
class PathSql:
    path: Path
    plan: Plan

    @cached_property
    def after_one(self) -> str:
        """For one key, given as $1, $2, … (`types.bind`): the values of the buckets' keys (`types.value_of`)."""
        table = self._at(0)
        places = ", ".join(
            f"{cast_sql(table.column(column), f'${index}')} AS k_{index}" for index, column in enumerate(table.key, 1)
        )
        root = self._at(len(self.path.steps))
        values = values_list(root, self._scope.key, "t.")
        return self._walk(f"(SELECT {places})", (), values, {})

    @property
    def _scope(self) -> Scope:
        return self.plan.scopes[self.path.scope]

    def membership(self, keys: str, carried: Sequence[str], old: OldImages | None = None) -> str:
        """`keys` is a subquery with k_1, … and the columns `carried`; the answer's columns are those and `bucket`. With
        `old`: at any moment since the last cut."""
        root = self._at(len(self.path.steps))
        bucket = f"{literal(self.path.scope)} || {key_json(root, self._scope.key, 't.')}"
        old = old or {}
        past = {name: images for name, images in old.items() if name in self.path.aliases}
        return self._walk(keys, carried, f"{bucket} AS bucket", past)

    def through(self, position: int, moved: str, old: OldImages) -> str:
        """The keys (k_1, …) of the path's own rows whose path runs, or ran, at `position` through one of the rows whose
        keys the subquery `moved` holds."""
        step = self.path.steps[position - 1]
        table = self._at(position)
        wanted = ", ".join(f"t.{quote(column)} AS j_{index}" for index, column in enumerate(step.references, 1))
        same_key = " AND ".join(f"t.{quote(column)} = m.k_{index}" for index, column in enumerate(table.key, 1))
        branches = [f"SELECT {wanted} FROM {moved} AS m JOIN {table_sql(table)} AS t ON {same_key}"]
        if table.name in old:
            branches.append(f"SELECT {wanted} FROM {old[table.name]} AS t")
        ctes = [f"b{position} AS ({united(branches)})"]
        ctes += [f"b{at} AS ({self._step_back(at, old)})" for at in range(position - 1, -1, -1)]
        return f"WITH {', '.join(ctes)} SELECT * FROM b0"

    # ------------------------------------------------------------ the walk
    def _at(self, position: int) -> Table:
        return self.plan.schema.table(self.path.aliases[position])

    def _rows(self, position: int, old: OldImages, needed: Sequence[str]) -> list[str]:
        """What a row at this position may be taken from, each passing the scope's filter. Of old images that look alike
        in the columns `needed` one: else a row that changed a thousand times in the batch, above a thousand others that
        did, would count a million times."""
        table = self._at(position)
        found = [filtered(self._scope, table.name, table_sql(table))]
        if table.name in old:
            columns = ", ".join(map(quote, dict.fromkeys(needed)))
            images = filtered(self._scope, table.name, old[table.name])
            found.append(f"(SELECT DISTINCT {columns} FROM {images} AS own)")
        return found

    def _walk(self, keys: str, carried: Sequence[str], answer: str, old: OldImages) -> str:
        last = len(self.path.steps)
        joins = [(f"f.k_{index}", column) for index, column in enumerate(self._at(0).key, 1)]
        previous, ctes = keys, []
        brought = [f"f.{name}" for name in carried]
        for position in range(last):
            step = self.path.steps[position]
            leaving = [f"t.{quote(column)} AS j_{index}" for index, column in enumerate(step.columns, 1)]
            branches = self._branches(position, [*brought, *leaving], step.columns, previous, joins, old)
            ctes.append(f"f{position} AS ({united(branches)})")
            previous = f"f{position}"
            joins = [(f"f.j_{index}", column) for index, column in enumerate(step.references, 1)]
        whole = [f"t.{quote(column)} IS NOT NULL" for column in self._scope.key]
        branches = self._branches(last, [*brought, answer], self._scope.key, previous, joins, old, whole)
        chain = f"WITH {', '.join(ctes)} " if ctes else ""
        return f"{chain}{' UNION ALL '.join(branches)}"

    def _branches(
        self,
        position: int,
        columns: Sequence[str],
        leaving: Sequence[str],
        previous: str,
        joins: Sequence[tuple[str, str]],
        old: OldImages,
        conditions: Sequence[str] = (),
    ) -> list[str]:
        on = " AND ".join([*(f"t.{quote(column)} = {left}" for left, column in joins), *conditions])
        needed = [*leaving, *(column for _, column in joins)]
        return [
            f"SELECT {', '.join(columns)} FROM {previous} AS f JOIN {rows} AS t ON {on}"
            for rows in self._rows(position, old, needed)
        ]

    def _step_back(self, at: int, old: OldImages) -> str:
        step = self.path.steps[at]
        names, letter = (self.path.steps[at - 1].references, "j") if at else (self._at(0).key, "k")
        leaving = [f"t.{quote(column)} AS {letter}_{index}" for index, column in enumerate(names, 1)]
        joins = [(f"f.j_{index}", column) for index, column in enumerate(step.columns, 1)]
        return united(self._branches(at, leaving, names, f"b{at + 1}", joins, old))


def united(branches: Sequence[str]) -> str:
    """Rows as they are, or together with old images: then each once."""
    return " UNION ".join(branches)


def membership_sql(path: PathSql, keys: str) -> str:
    """k_1, … and `bucket`, of the keys in the subquery `keys`, as the tables are now; a pair may come repeatedly."""
    names = [f"k_{index}" for index in range(1, len(path.plan.schema.table(path.path.table).key) + 1)]
    return path.membership(keys, names)


def filtered(scope: Scope, table: str, rows: str) -> str:
    """Rows, or those of them that pass the scope's filter for the table. Bare column names in the filter mean the
    table's own, so it stands in a subquery of its own; and on lines of its own, for it may end with a comment."""
    where = scope.filters.get(table)
    return f"(SELECT * FROM {rows} AS own WHERE (\n{where}\n))" if where else rows


def fits_feed_sql(bucket: str, key: str) -> str:
    """Whether the feed can hold a line with this bucket's name and this key's text."""
    return f"octet_length({bucket}) + octet_length({key}) <= {FEED_KEY_BYTES_MAX}"
