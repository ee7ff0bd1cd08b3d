"""One query whose rows are asked for again and again: runs only where one of its tables changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from syncline.errors import ReplicaError
from syncline.replica.marks import Mark, Marks
from syncline.system.database import Prepare, open_database

Parameters: TypeAlias = "Sequence[Any] | Mapping[str, Any]"
RowFactory: TypeAlias = "Callable[[sqlite3.Cursor, tuple[Any, ...]], Any]"

_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


class LiveQuery:
    """For one thread at a time, but for `interrupt`. Which tables the query reads, SQLite says when it compiles it:
    through views, common table expressions and subqueries.

    ReplicaError, from the constructor on: `bad_query` for what SQLite cannot run, `query_writes` for what would write.
    """

    def __init__(
        self,
        path: str | Path,
        sql: str,
        parameters: Parameters = (),
        *,
        prepare: Prepare | None = None,
        row_factory: RowFactory | None = None,
    ) -> None:
        self._sql = sql
        self._parameters = _copied(sql, parameters)
        self._row_factory = row_factory
        self._tables: set[str] = set()
        self._is_compiling = False
        self._refused = False
        self._mark: Mark | None = None
        self._rows: list[tuple[Any, ...]] | None = None
        self._connection = open_database(path, prepare=prepare)
        try:
            self._connection.set_authorizer(self._authorize)
            self._refuse_writing(self._run(f"EXPLAIN {sql}"))
            self._marks = Marks(self._connection, self._tables)
        except BaseException:
            self.close()
            raise

    @property
    def tables(self) -> frozenset[str]:
        """The tables that it reads; views are resolved."""
        return frozenset((*self._marks.synced, *self._marks.others))

    def look(self) -> list[Any] | None:
        """The rows; None where they are those of the last time."""
        if not self._is_due():
            return None
        known = len(self._tables)
        self._connection.execute("BEGIN")
        try:
            mark = self._read_mark()
            rows = self._run(self._sql)
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if len(self._tables) != known:  # a view was made anew, and reads other tables now
            self._marks = Marks(self._connection, self._tables)
            mark = ()
        before, self._mark, self._rows = self._rows, mark, rows
        if before is not None and _same_rows(before, rows):
            return None
        factory = self._row_factory
        if factory is None:
            return list(rows)  # the receiver may change its list
        return [factory(self._cursor, row) for row in rows]

    def interrupt(self) -> None:
        """From any thread: a query that runs ends with an error."""
        try:
            self._connection.interrupt()
        except sqlite3.ProgrammingError:  # closed meanwhile
            pass

    def close(self) -> None:
        """May be called twice."""
        try:
            self._connection.set_authorizer(None)
        except sqlite3.ProgrammingError:
            return
        self._connection.close()

    def _is_due(self) -> bool:
        return self._mark is None or self._read_mark() != self._mark

    def _read_mark(self) -> Mark:
        try:
            return self._marks.read()
        except sqlite3.OperationalError:  # a table of it syncs no longer, or the file was wiped
            self._marks = Marks(self._connection, self._tables)
            return self._marks.read()

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        self._is_compiling, self._refused = True, False
        try:
            self._cursor = self._connection.execute(sql, self._parameters)
            return self._cursor.fetchall()
        except (sqlite3.Error, sqlite3.Warning, OverflowError, TypeError, ValueError) as error:
            if self._refused:
                raise _writes() from error
            raise ReplicaError(f"The query cannot be run: {error}.", code="bad_query") from error
        finally:
            self._is_compiling = False

    @staticmethod
    def _refuse_writing(explained: list[tuple[Any, ...]]) -> None:
        """VACUUM is nothing that the authorizer is asked about."""
        for _, opcode, _, second, *_ in explained:
            if opcode == "Vacuum" or (opcode == "Transaction" and second):
                raise _writes()

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if not self._is_compiling:
            return sqlite3.SQLITE_OK
        if action not in _READING:
            self._refused = True
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_READ and first:
            self._tables.add(first)
        return sqlite3.SQLITE_OK


def _writes() -> ReplicaError:
    return ReplicaError(
        "A live query only reads; this one would write, or change a setting.",
        hint="Write through replica.connect() or replica.transaction().",
        code="query_writes",
    )


def _copied(sql: str, parameters: Parameters) -> Parameters:
    if not isinstance(sql, str):
        raise ReplicaError(f"A query is text, not {type(sql).__name__}.", code="bad_query")
    if isinstance(parameters, Mapping):
        return dict(parameters)
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Sequence):
        raise ReplicaError(
            f"The parameters of a query are a tuple, a list or a mapping, not {type(parameters).__name__}.",
            hint="For one parameter write (value,).",
            code="bad_query",
        )
    return tuple(parameters)


def _same_rows(before: list[tuple[Any, ...]], now: list[tuple[Any, ...]]) -> bool:
    """1, 1.0 and True are equal for Python, and not the same value."""
    return before == now and list(map(type, chain.from_iterable(before))) == list(map(type, chain.from_iterable(now)))
