"""What a program may do to the file: its own tables and ours, nothing else of the app's or of the machine's.

SQLite asks the guard for every table, function and action of a statement when it compiles it, triggers included. An
app's own triggers on synced tables may do what they like: they are the app's, not the program's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from syncline.model.identifiers import PREFIX

_DEFINITIONS = frozenset(
    {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_DROP_TEMP_TABLE,
        sqlite3.SQLITE_DROP_VIEW,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
    }
)
"""Actions whose first argument is a table."""

_ATTACHED = frozenset(
    {
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_DROP_INDEX,
        sqlite3.SQLITE_DROP_TEMP_INDEX,
        sqlite3.SQLITE_DROP_TRIGGER,
    }
)
"""Actions with the object's name first and its table second."""

_CATALOG = frozenset({"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema", "sqlite_sequence"})
_FUNCTIONS = {
    *("abs", "coalesce", "count", "hex", "ifnull", "iif", "json_object", "julianday", "length", "lower", "max", "min"),
    *("nullif", "quote", "randomblob", "round", "strftime", "substr", "sum", "total", "trim", "typeof", "upper"),
    *("current_date", "current_time", "current_timestamp"),  # newer SQLites ask for these defaults, too
}


class Guard:
    """Installed once per connection; strict only while the program's SQL is compiled."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._tables: frozenset[str] = frozenset()
        self._strict = False
        self.refused = ""
        connection.set_authorizer(self._authorize)

    def allow(self, tables: set[str]) -> None:
        """The synced tables, besides everything that is named syncline_*."""
        self._tables = frozenset(name.lower() for name in tables)

    @contextmanager
    def strict(self) -> Iterator[None]:
        before, self._strict = self._strict, True
        try:
            yield
        finally:
            self._strict = before

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        if not self._strict or self._is_allowed(action, first or "", second or "", trigger):
            return sqlite3.SQLITE_OK
        self.refused = f"action {action} on {first or second or 'the file'}"
        return sqlite3.SQLITE_DENY

    def _is_allowed(self, action: int, first: str, second: str, trigger: str | None) -> bool:
        if trigger and not trigger.lower().startswith(PREFIX):
            return True
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return True
        if action == sqlite3.SQLITE_FUNCTION:
            return second.lower() in _FUNCTIONS
        if action == sqlite3.SQLITE_REINDEX:
            return self._is_ours(first) or first.startswith("sqlite_autoindex_")
        if action in _DEFINITIONS:
            return self._is_known(first) or first.lower() in _CATALOG
        if action in _ATTACHED:
            ours = first.lower().startswith((PREFIX, "sqlite_autoindex_"))
            return ours and self._is_known(second)
        return False

    def _is_ours(self, name: str) -> bool:
        return name.lower().startswith(PREFIX)

    def _is_known(self, name: str) -> bool:
        return self._is_ours(name) or name.lower() in self._tables
