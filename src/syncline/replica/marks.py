"""What tells a live query, at the price of a few look-ups, that none of its tables changed.

A synced table changes in two ways only. A local writer's change goes into the table's outbox, so the highest number
there grows; numbers are given back only together with a new epoch. A checkpoint is applied, and writes down which
tables it touched (`note_changed`). The mark of a synced table is both, and the schema's version with it: a new program,
and a wipe, make tables anew. For any other table, the app's own and our private ones, nothing is known but that some
transaction was committed: `PRAGMA data_version`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, TypeAlias

from syncline.model.identifiers import PREFIX, literal, quote
from syncline.replica.store import Store

Mark: TypeAlias = tuple[Any, ...]
_PART_TABLES = 500
"""SQLite takes 2,000 columns a SELECT."""


def note_changed(store: Store, tables: Iterable[str]) -> None:
    """Inside the apply's transaction: the rows of these tables may have changed."""
    store.connection.executemany(
        "INSERT OR REPLACE INTO syncline_changed (table_name, apply_count) SELECT ?, apply_count FROM syncline_state",
        [(table,) for table in tables],
    )


class Marks:
    """The marks of one query. `names`: the tables that it reads, as SQLite spells them."""

    def __init__(self, connection: sqlite3.Connection, names: Iterable[str]) -> None:
        self._connection = connection
        self.synced, self.others = _divide(connection, names)

    def read(self) -> Mark:
        """Equal marks: no table of the query has changed in between. One read transaction of its own, or the caller's.

        The versions are read before the rows: a commit in between is noticed once too often, never missed.
        """
        db = self._connection
        found: list[Any] = [db.execute("PRAGMA schema_version").fetchone()[0]]
        if self.others:
            found.append(db.execute("PRAGMA data_version").fetchone()[0])
        for start in range(0, len(self.synced), _PART_TABLES):
            found += db.execute(_mark_sql(self.synced[start : start + _PART_TABLES])).fetchone()
        return tuple(found)


def _divide(connection: sqlite3.Connection, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The synced ones, and the others. A view is neither: SQLite names the tables that it reads beside it."""
    kinds = dict(connection.execute("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall())
    wanted = [name for name in sorted(set(names)) if kinds.get(name) != "view"]
    synced = [name for name in wanted if kinds.get(_OUTBOX + name) == "table"]
    return synced, [name for name in wanted if name not in synced]


_OUTBOX = f"{PREFIX}outbox_"


def _mark_sql(tables: list[str]) -> str:
    parts = []
    for table in tables:
        parts.append(f"(SELECT max(seq) FROM {quote(_OUTBOX + table)})")
        parts.append(f"(SELECT apply_count FROM syncline_changed WHERE table_name = {literal(table)})")
    return f"SELECT (SELECT epoch FROM syncline_state), {', '.join(parts)}"
