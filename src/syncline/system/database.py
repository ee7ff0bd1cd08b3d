"""Opening SQLite files, and carrying text that is not UTF-8 through Python's driver."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote as quote_url

from syncline.system.writing import begin_write
from syncline.values import RawText

Prepare = Callable[[sqlite3.Connection], None]
"""Called with every connection that is opened: the simulator puts its clock and its randomness in here."""


def open_database(
    path: str | Path,
    *,
    create: bool = False,
    read_only: bool = False,
    busy_seconds: float = 5.0,
    prepare: Prepare | None = None,
) -> sqlite3.Connection:
    """A connection in autocommit mode (transactions are written out), usable from any one thread at a time."""
    mode = "ro" if read_only else "rwc" if create else "rw"
    connection = sqlite3.connect(
        f"file:{quote_url(str(path))}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=1000,
    )
    connection.execute("PRAGMA temp_store = MEMORY")  # no row stays behind in a temporary file of the system's
    if prepare:
        prepare(connection)
    return connection


def text_or_raw(data: bytes) -> str | RawText:
    """A `text_factory` for files that hold text which is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return RawText(data)


def fetch_all(
    connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> list[tuple[Any, ...]]:
    """All rows. Text that is not UTF-8 comes as RawText: the slow way is taken only where the fast one fails."""
    sql = with_raw_text(sql, parameters)
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if "UTF-8" not in str(error):
            raise
    connection.text_factory = text_or_raw
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.text_factory = str


_TOKENS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\?(\d+)""")


def with_raw_text(sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> str:
    """SQL with numbered parameters (`?1`) in which those that are RawText are bound as text, not as BLOBs."""
    if isinstance(parameters, Mapping) or RawText not in map(type, parameters):
        return sql
    raw = {str(number) for number, value in enumerate(parameters, 1) if type(value) is RawText}
    return _TOKENS.sub(lambda found: f"CAST({found[0]} AS TEXT)" if found[1] in raw else found[0], sql)


def execute(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
    """Like `connection.execute`, for SQL with numbered parameters of which some may be RawText."""
    return connection.execute(with_raw_text(sql, parameters), parameters)


@contextmanager
def immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction. It never starts as a read: turning one into a write fails at once when somebody wrote."""
    begin_write(connection)
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
