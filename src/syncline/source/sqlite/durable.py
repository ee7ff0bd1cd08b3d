"""Commits that are durable before anybody hears of them, with SQLite's write lock free while the disk is waited for.

A commit with `synchronous = FULL` waits for the disk inside the lock, and every host program with it. In WAL mode
`NORMAL` keeps the file as whole: a power loss takes the newest commits away, and never one without all after it. So
ours commit with NORMAL, and the log is synced afterwards, before what was done is told (docs/decisions/0023).
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from syncline.errors import SourceBusyError, SourceError

_NORMAL, _FULL = 1, 2
_sync_data = getattr(os, "fdatasync", os.fsync)
"""What SQLite itself calls."""


def relax(connection: sqlite3.Connection) -> None:
    """Outside a transaction: commits of this connection no longer wait for the disk, if the file is in WAL mode. Who
    has set less than FULL has said that nothing is to be waited for."""
    if _is_wal(connection) and _level(connection) >= _FULL:
        connection.execute("PRAGMA synchronous = NORMAL")


class Log:
    """The WAL of a SQLite file. Shared by all threads.

    SourceBusyError where there is none to sync; SourceError, from then on always, where the disk refuses: what it
    failed to write once it may take for written the next time.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{os.path.realpath(path)}-wal")  # SQLite, too, puts it beside what a link points at
        self._known: tuple[int, int] | None = None
        self._fault: OSError | None = None

    def sync(self, connection: sqlite3.Connection) -> None:
        """All that the connection has committed is on the disk when this returns."""
        if not _is_wal(connection):  # deprovisioned: the change of the mode has synced everything
            connection.execute("PRAGMA synchronous = FULL")
        elif _level(connection) == _NORMAL:
            self._sync()

    def _sync(self) -> None:
        if self._fault is None:
            try:
                handle = os.open(self._path, os.O_RDWR)
            except OSError as error:
                raise SourceBusyError(f'"{self._path}" cannot be opened: {error.strerror}.') from error
            try:
                _sync_data(handle)
                self._sync_name(handle)
            except OSError as error:
                self._fault = error
            finally:
                os.close(handle)
        if self._fault is not None:
            raise SourceError(
                f'The disk failed to write "{self._path}": {self._fault.strerror}.',
                hint="Check the disk, then restart the server.",
                code="source_sync_failed",
            )

    def _sync_name(self, handle: int) -> None:
        """A file is lost with its entry in the folder: SQLite leaves that to the first sync of whoever made it."""
        found = os.fstat(handle)
        identity = (found.st_dev, found.st_ino)
        if identity != self._known and os.name == "posix":
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        self._known = identity


def _is_wal(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")


def _level(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA synchronous").fetchone()[0])
