"""What devices hold of each table, written down, so that a change of it is noticed whoever made it and whenever."""

from __future__ import annotations

import json
from dataclasses import dataclass

from syncline.model.scopes import Path, Plan, SyncedTable


def table_signature(plan: Plan, table: SyncedTable) -> str:
    """Visible columns with their types, key, and every path with the filters on it and the key of its buckets."""
    paths = sorted(_describe(plan, path) for path in table.paths)
    return json.dumps({"columns": _columns(table), "key": table.key, "paths": paths}, ensure_ascii=False)


def layout_text(table: SyncedTable) -> str:
    """What makes a row of another layout: rows of it are refused by devices whose program knows the table otherwise.
    They would hold the rows under keys or types that their next program does away with, rows and all, and their cursor
    would say that they have them."""
    return json.dumps([_columns(table), table.key], ensure_ascii=False)


def _columns(table: SyncedTable) -> list[tuple[str, str, str]]:
    return [(name, table.table.column(name).type, table.table.column(name).collation) for name in table.columns]


def _describe(plan: Plan, path: Path) -> str:
    scope = plan.scopes[path.scope]
    steps = [(step.columns, step.table, step.references) for step in path.steps]
    filters = [(name, scope.filters[name]) for name in path.aliases if name in scope.filters]
    return json.dumps([path.scope, scope.key, steps, filters], ensure_ascii=False)


@dataclass(frozen=True)
class StoredSignature:
    """One that was served. `watched` are the columns that masks in its changelog count, from bit 0."""

    text: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> StoredSignature:
        content = json.loads(text)
        return cls(text, tuple(column[0] for column in content["columns"]), tuple(content["key"]))

    @property
    def watched(self) -> tuple[str, ...]:
        return tuple(column for column in self.columns if column not in self.key)

    def is_other(self, table: SyncedTable | None) -> bool:
        """Whether the columns or masks of what waits in a changelog would be read as something else by this table."""
        return table is not None and (table.key != self.key or table.values != self.watched)
