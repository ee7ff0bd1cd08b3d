"""Which rows a change names as its parents: those that it hangs on by a foreign key, or by a path of its scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from syncline.model.scopes import Plan, SyncedTable
from syncline.protocol.messages import Mutation
from syncline.values import Key, Value

Link = tuple[str, tuple[str, ...]]
"""Parent table, and own columns in the order of the parent's key."""

_Declared = tuple[tuple[str, ...], str, tuple[str, ...]]
"""Own columns, parent table, the parent's columns."""


class Parents:
    """Of a plan's tables. Links that do not name a whole key are left out: no one row is meant by them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._all: dict[str, frozenset[Link]] = {}

    def named(self, table: SyncedTable, mutation: Mutation) -> list[tuple[str, Key]]:
        """(table, key) of every parent that an insert or update names."""
        if table.name not in self._all:
            keys = ((key.columns, key.table, key.references) for key in table.table.foreign_keys)
            self._all[table.name] = frozenset(self._links([*keys, *_steps(table)]))
        return list(_values(self._all[table.name], mutation))

    def named_by_paths(self, table: SyncedTable, mutation: Mutation) -> list[tuple[str, Key]]:
        """Those of them by which it belongs to a bucket."""
        return list(_values(frozenset(self._links(_steps(table))), mutation))

    def _links(self, declared: Iterable[_Declared]) -> Iterator[Link]:
        for columns, parent, references in declared:
            key = self._plan.tables[parent].key if parent in self._plan.tables else ()
            if key and set(key) == set(references):
                by_reference = dict(zip(references, columns, strict=True))
                yield parent, tuple(by_reference[name] for name in key)


def _steps(table: SyncedTable) -> list[_Declared]:
    return [(step.columns, step.table, step.references) for path in table.paths for step in path.steps[:1]]


def _values(links: Iterable[Link], mutation: Mutation) -> Iterator[tuple[str, Key]]:
    if mutation.operation == "D":
        return
    written: dict[str, Value] = {}
    if mutation.operation == "I":
        written.update(zip(mutation.key_columns, mutation.key, strict=True))
    written.update((column, new) for column, (new, _) in mutation.changes.items())
    for parent, columns in sorted(links):
        key: Key = tuple(written.get(column) for column in columns)
        if None not in key:
            yield parent, key
