"""Whether the captured tables still are what a plan was made for.

Every connection looks at `PRAGMA schema_version`; only where it moved is the schema compared. A migration of the
company's may take several transactions, and between them a table may be missing, empty, or without our triggers: what
is computed or read then would reach devices as removed rows.
"""

from __future__ import annotations

import json
import sqlite3

from syncline.errors import SchemaChangedError, SourceBusyError
from syncline.model.scopes import Plan
from syncline.source.generations import grant_tables
from syncline.source.sqlite.generations import has_gaps

_OBJECTS = """
SELECT tbl_name, type, name, sql FROM sqlite_schema
WHERE tbl_name IN (SELECT value FROM json_each(?1))
  AND (type IN ('table', 'index') OR name LIKE 'syncline\\_%' ESCAPE '\\')
UNION ALL SELECT '', type, name, sql FROM sqlite_schema WHERE type = 'view'
UNION ALL SELECT substr(name, 20), type, name, sql FROM sqlite_schema
WHERE type = 'table' AND name LIKE 'syncline\\_changelog\\_%' ESCAPE '\\'
ORDER BY 1, 2, 3
"""
VIEWS = ""
"""Under this name stand all views: a grant may read through one."""


class SchemaMovingError(SourceBusyError):
    """The company's schema is being changed; devices try again."""

    code = "schema_moving"


class Standing:
    """Made when a plan is attached, with the schema as it is then. Used from several threads, each with a connection
    of its own."""

    def __init__(self, connection: sqlite3.Connection, plan: Plan) -> None:
        self._captured = json.dumps(plan.captured_tables, ensure_ascii=False)
        self._granting = frozenset({VIEWS, *grant_tables(plan)}) if any(plan.grant_reads.values()) else frozenset()
        self._version = _schema_version(connection)
        self._objects = self._read(connection)

    def _read(self, connection: sqlite3.Connection) -> dict[str, list[tuple[str, ...]]]:
        found: dict[str, list[tuple[str, ...]]] = {}
        for table, *described in connection.execute(_OBJECTS, (self._captured,)).fetchall():
            found.setdefault(table, []).append(tuple(described))
        return found

    def changed(self, connection: sqlite3.Connection) -> frozenset[str]:
        """The captured tables (and VIEWS) that are other than they were: gone, altered, or their capture is."""
        version = _schema_version(connection)
        if version == self._version:
            return frozenset()
        now = self._read(connection)
        changed = {name for name in {*now, *self._objects} - {VIEWS} if now.get(name) != self._objects.get(name)}
        if not set(self._objects.get(VIEWS, ())) <= set(now.get(VIEWS, ())):  # a new one is read by nobody yet
            changed.add(VIEWS)
        if not changed:
            self._version = version
        return frozenset(changed)

    def require(self, connection: sqlite3.Connection) -> None:
        """SchemaChangedError unless everything stands: what the sequencer looks at before it computes."""
        changed = self.changed(connection)
        if changed:
            what = f'"{max(changed)}"' if any(changed) else "A view"
            raise SchemaChangedError(
                f"{what} is other than when capture was installed.",
                hint="Checkpoints wait until capture fits the schema again.",
            )

    def require_for_writing(self, connection: sqlite3.Connection) -> None:
        """SchemaMovingError while an upload's writes might not be captured, or its SQL not fit."""
        if self.changed(connection):
            raise SchemaMovingError("The schema of the source is being changed.", hint="It is tried again.")

    def require_for_reading(self, connection: sqlite3.Connection, *, rows: bool) -> None:
        """SchemaMovingError while grants cannot be asked; with `rows`, while rows of the company's cannot be read.
        Looked at *after* the reading: versions only grow, so what stands then stood before."""
        changed = self.changed(connection)
        if changed and (rows or changed & self._granting):
            raise SchemaMovingError("The schema of the source is being changed.", hint="It is tried again.")
        if has_gaps(connection):
            raise SchemaMovingError("The next checkpoint has to be taken first.", hint="It is tried again.")

    def forget(self) -> None:
        """Nothing stands: the file may be another one."""
        self._version, self._objects = -1, {}


def _schema_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA schema_version").fetchone()[0])
