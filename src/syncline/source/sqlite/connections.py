"""The connections of a SQLite source, each on a thread of its own, and what happens when the file is replaced."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from syncline.errors import SourceBusyError, SourceError
from syncline.source.sqlite import durable
from syncline.source.sqlite.threads import InlineWorker, ThreadWorker, Worker
from syncline.source.sqlite.writing import BUSY_SECONDS
from syncline.system.database import Prepare, open_database
from syncline.system.trouble import Trouble, trouble_of

T = TypeVar("T")
READERS = 4
_OF_REPLICA = """
SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('syncline_state', 'syncline_parked')
"""
PAGERS = 2
"""Connections for the pages of large downloads, so that no small read stands behind one."""


class Connections:
    """`writer`, `sequencing`, `reading` and `paging` are the workers. `replaced` is called, between two pieces of work,
    when the path names another file than before."""

    def __init__(self, path: Path, prepare: Prepare | None, *, inline: bool, replaced: Callable[[], None]) -> None:
        if not path.is_file():
            raise SourceError(f'There is no database file "{path}".', hint="Check [source] url.", code="source_missing")
        self._path = path
        self._log = durable.Log(path)
        self._prepare = prepare
        self._replaced = replaced
        make: Callable[[str], Worker] = (lambda name: InlineWorker()) if inline else ThreadWorker
        self.writer, self.sequencing = make("writer"), make("sequencer")
        self.reading = [make(f"reader-{number}") for number in range(1 if inline else READERS)]
        self.paging = [make(f"pager-{number}") for number in range(1 if inline else PAGERS)]
        self._all = (self.writer, self.sequencing, *self.reading, *self.paging)
        self._open: dict[Worker, sqlite3.Connection] = {}
        self._identity: tuple[int, int] | None = None
        self._reopening = asyncio.Lock()

    async def run(self, worker: Worker, work: Callable[[sqlite3.Connection], T]) -> T:
        """The work on the worker's connection; SourceError and its kin for what is wrong with the database. What it has
        committed is durable when this returns."""
        await self._reopen_if_replaced()
        writes = worker in (self.writer, self.sequencing)

        def call() -> T:
            try:
                connection = self._connection(worker)
                if not writes:
                    return work(connection)
                durable.relax(connection)
                before = connection.total_changes
                result = work(connection)
                if connection.total_changes != before:
                    self._log.sync(connection)
                return result
            except sqlite3.DatabaseError as error:
                if type(error) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
                    raise  # a constraint's, which the caller knows how to tell
                raise source_error(error) from error

        return await worker.run(call)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """On the reader with the least to do."""
        return await self.run(min(self.reading, key=lambda worker: worker.waiting), work)

    def _connection(self, worker: Worker) -> sqlite3.Connection:
        if worker not in self._open:
            self.require_same_file()
            connection = None
            try:
                connection = open_database(self._path, busy_seconds=BUSY_SECONDS, prepare=self._prepare)
                in_memory = worker not in self.paging  # lists of keys may be as long as a table
                connection.execute(f"PRAGMA temp_store = {'MEMORY' if in_memory else 'FILE'}")
                (of_replica,) = connection.execute(_OF_REPLICA).fetchone()
            except sqlite3.DatabaseError as error:
                if connection is not None:
                    connection.close()
                raise opening_error(error, self._path) from error
            if of_replica == 2:
                connection.close()
                raise SourceError(
                    f'"{self._path}" is a device\'s file: it holds a copy of what one user may see.',
                    hint="Name the company's own database in [source] url.",
                    code="source_is_replica",
                )
            if worker is self.writer:
                connection.execute("PRAGMA foreign_keys = ON")
            self._open[worker] = connection
        return self._open[worker]

    # ------------------------------------------------------------ another file under the same path
    def require_same_file(self) -> None:
        """SourceBusyError where the path names another file than the connections have open."""
        found = _identity_of(self._path)
        if self._identity not in (None, found):
            raise SourceBusyError("The source's file was replaced.", hint="It is tried again.", code="source_replaced")
        self._identity = found

    async def _reopen_if_replaced(self) -> None:
        """All connections are closed before one is opened anew: a WAL belongs to the file that is gone."""
        if self._identity in (None, _identity_of(self._path)):
            return
        async with self._reopening:
            if self._identity == _identity_of(self._path):
                return
            for worker in self._all:
                if worker in self._open:
                    await worker.run(partial(_abandon, self._open.pop(worker)))
            self._identity = None
            self._replaced()

    # ------------------------------------------------------------ the end
    async def close_readers(self) -> None:
        """All but the writer's; they are opened again when they are needed."""
        for worker in self._all:
            if worker is not self.writer and worker in self._open:
                await worker.run(self._open.pop(worker).close)

    async def close(self) -> None:
        for worker in self._all:
            if worker in self._open:
                await worker.run(self._open[worker].close)
            worker.close()


def _abandon(connection: sqlite3.Connection) -> None:
    """Close a connection to a file that has another one in its place by now, and leave that one's log alone if this
    Python can say so: SQLite names a log by its path."""
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
    connection.close()


def _identity_of(path: Path) -> tuple[int, int] | None:
    """By which a file is known whatever its path says; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def opening_error(error: sqlite3.DatabaseError, path: Path) -> SourceError:
    """Why a connection could not be had."""
    if trouble_of(error) not in (Trouble.CANNOT_OPEN, Trouble.NOT_A_DATABASE, Trouble.OTHER):
        return source_error(error)
    return SourceError(
        f'"{path}" cannot be opened as a SQLite database: {error}.',
        hint="Is it one, and may this user read and write the file and its folder?",
        code="source_unreadable",
    )


def source_error(error: sqlite3.DatabaseError) -> SourceError:
    """What it means for whoever waits: only what may pass by itself, or once it is mended, is a SourceBusyError."""
    trouble = trouble_of(error)
    if trouble is Trouble.BUSY:
        return SourceBusyError(f"The source database is held by another program ({error}).", hint="It is tried again.")
    if trouble is Trouble.DISK_FULL:
        return SourceBusyError("The disk of the source database is full.", hint="Make room.", code="source_disk_full")
    if trouble is Trouble.READ_ONLY:
        return SourceBusyError(
            f"The source database cannot be written: {error}.",
            hint="Give the server's user the right to write the file and its folder.",
            code="source_read_only",
        )
    if trouble in (Trouble.CORRUPT, Trouble.NOT_A_DATABASE):
        return SourceError(
            f"The source database is damaged: {error}.",
            hint="Stop the server, keep a copy, and restore a backup or use .recover of the sqlite3 command.",
            code="source_corrupt",
        )
    if trouble is Trouble.CANNOT_OPEN:
        return SourceError(
            f"A file of the source database, or beside it, cannot be opened: {error}.",
            hint="May this user read and write the file and its folder?",
            code="source_unreadable",
        )
    return SourceError(f"The source database refused a statement: {error}.")
