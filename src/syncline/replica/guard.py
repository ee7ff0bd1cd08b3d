"""What a program may do to the file: its own tables and ours, nothing else of the app's or of the machine's.

SQLite asks the guard for every table, function and action of a statement when it compiles it, triggers and views
included. What a program defines may define and nothing else; what it runs may read and write its tables and ours, and
define nothing. Its triggers and views are looked at whoever runs them here; on the app's own connections nobody looks,
so triggers stand on synced tables alone, where `install` compiles each of them once. An app's own triggers on synced
tables may do what they like: they are the app's, not the program's. Everything else was tried in the sandbox before.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from syncline.model.identifiers import PREFIX

_ROWS = frozenset({sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_TABLES = frozenset({sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_TEMP_TABLE})
_INDEXES = frozenset({sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_TEMP_INDEX})

_CATALOG = frozenset({"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"})
"""Definitions are written there, and by definitions alone."""

_PROGRAMS = f"{PREFIX}program"
"""What stands there is run as our own: no program writes another one."""

_FUNCTIONS = {
    *("abs", "coalesce", "count", "hex", "ifnull", "iif", "json_object", "julianday", "length", "lower", "max", "min"),
    *("nullif", "quote", "randomblob", "round", "strftime", "substr", "sum", "total", "trim", "typeof", "upper"),
    *("current_date", "current_time", "current_timestamp"),  # newer SQLites ask for these defaults, too
}


class _Mode(enum.Enum):
    OURS = "ours"
    RUNNING = "running"
    DEFINING = "defining"


class Guard:
    """Installed once per connection. What is compiled outside `strict` and `defining` is our own."""

    def __init__(self, connection: sqlite3.Connection, *, is_alone: bool = False) -> None:
        """`is_alone`: nothing of the app's is there, and no trigger is taken for its."""
        self._is_alone = is_alone
        self._tables: frozenset[str] = frozenset()
        self._mode = _Mode.OURS
        self.refused = ""
        # One statement asks hundreds of times, and mostly what was asked before.
        self._known_answer = lru_cache(4_000)(self._is_allowed)
        connection.set_authorizer(self._authorize)

    def allow(self, tables: set[str]) -> None:
        """The synced tables, besides everything that is named syncline_*."""
        lowered = frozenset(name.lower() for name in tables)
        if lowered != self._tables:
            self._tables = lowered
            self._known_answer.cache_clear()

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Statements of the program are run."""
        yield from self._in(_Mode.RUNNING)

    @contextmanager
    def defining(self) -> Iterator[None]:
        """The program's tables, indexes, triggers and views are made."""
        yield from self._in(_Mode.DEFINING)

    def _in(self, mode: _Mode) -> Iterator[None]:
        before, self._mode = self._mode, mode
        try:
            yield
        finally:
            self._mode = before

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        if self._known_answer(self._mode, action, first or "", second or "", trigger or ""):
            return sqlite3.SQLITE_OK
        self.refused = f"action {action} on {first or second or 'the file'}"
        return sqlite3.SQLITE_DENY

    def _is_allowed(self, mode: _Mode, action: int, first: str, second: str, trigger: str) -> bool:
        """`trigger`: the innermost trigger, view or part of a query that asks. What the program's own queries call
        their parts was looked at in the sandbox."""
        if trigger:
            is_apps = not self._is_ours(trigger) and not self._is_alone
            return is_apps or self._may_run(action, first, second)
        if mode is _Mode.OURS:
            return True
        return (self._may_run if mode is _Mode.RUNNING else self._may_define)(action, first, second)

    def _may_run(self, action: int, first: str, second: str) -> bool:
        if action in _ROWS:
            return self._is_known(first) and first.lower() != _PROGRAMS
        if action == sqlite3.SQLITE_FUNCTION:
            return second.lower() in _FUNCTIONS
        return action == sqlite3.SQLITE_SELECT

    def _may_define(self, action: int, first: str, second: str) -> bool:
        """No SELECT: a definition would copy with it."""
        if action in _ROWS:
            return first.lower() in _CATALOG or (action == sqlite3.SQLITE_READ and self._is_known(first))
        if action in _TABLES:
            return self._is_known(first)
        if action == sqlite3.SQLITE_CREATE_VIEW:
            return self._is_ours(first)
        if action == sqlite3.SQLITE_CREATE_TRIGGER:
            return self._is_ours(first) and second.lower() in self._tables
        if action in _INDEXES:
            return self._is_ours_or_automatic(first) and self._is_known(second)
        if action == sqlite3.SQLITE_REINDEX:
            return self._is_ours_or_automatic(first)
        return action == sqlite3.SQLITE_FUNCTION and second.lower() in _FUNCTIONS

    def _is_ours_or_automatic(self, index: str) -> bool:
        return self._is_ours(index) or index.startswith("sqlite_autoindex_")

    def _is_ours(self, name: str) -> bool:
        return name.lower().startswith(PREFIX)

    def _is_known(self, name: str) -> bool:
        return self._is_ours(name) or name.lower() in self._tables
