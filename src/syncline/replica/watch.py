"""Live queries: `replica.watch(sql)`. One poller however many there are, and none while there is none.

Asking a file whether somebody committed costs some microseconds (docs/replica.md), so it is asked every 20 ms while
things move, every 100 ms when they do not, and at once after a write or a checkpoint of this process. Which of the
queries that concerns, each finds out by its marks.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from syncline.errors import ReplicaError
from syncline.log import logger
from syncline.replica.live_query import LiveQuery, Parameters, RowFactory
from syncline.system.database import Prepare, open_database

_log = logger("replica.watch")

LOOK_SECONDS = 0.02
LOOK_IDLE_SECONDS = 0.1
IDLE_AFTER_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 1.0
"""After the file could not be asked."""


class Poller:
    """Calls its subscribers when any connection, of any process, has committed. Runs while it has some."""

    def __init__(self, path: str | Path, prepare: Prepare | None = None) -> None:
        self._path = path
        self._prepare = prepare
        self._guard = threading.Lock()
        self._subscribers: dict[int, Callable[[], object]] = {}
        self._number = 0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def thread(self) -> threading.Thread | None:
        return self._thread

    def subscribe(self, notify: Callable[[], object]) -> int:
        """`notify` is called from the poller's thread, or from that of `look_now`'s caller; it must not block."""
        with self._guard:
            self._number += 1
            self._subscribers[self._number] = notify
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="syncline-watch", daemon=True)
                self._thread.start()
            return self._number

    def unsubscribe(self, number: int, *, last_call: bool = False) -> None:
        """`last_call`: once more, for whoever waits to find that it is over."""
        with self._guard:
            notify = self._subscribers.pop(number, None)
            if not self._subscribers:
                self._wake.set()
        if last_call and notify is not None:
            notify()

    def look_now(self) -> None:
        """This process has just committed something."""
        self._notify()

    def join(self, seconds: float) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _notify(self) -> None:
        for notify in list(self._subscribers.values()):
            notify()

    def _is_over(self) -> bool:
        with self._guard:
            self._wake.clear()
            if self._subscribers:
                return False
            self._thread = None
            return True

    def _run(self) -> None:
        while not self._is_over():
            try:
                with closing(open_database(self._path, prepare=self._prepare)) as connection:
                    self._poll(connection)
            except sqlite3.Error as error:
                _log.debug("The file could not be asked: %s", error)
                self._notify()  # a query that runs into the same tells of it
                self._wake.wait(LOOK_AGAIN_SECONDS)

    def _poll(self, connection: sqlite3.Connection) -> None:
        """Until there are no subscribers."""
        known, moved = None, time.monotonic()
        while self._subscribers:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version != known:
                known, moved = version, time.monotonic()
                self._notify()
            is_idle = time.monotonic() - moved > IDLE_AFTER_SECONDS
            self._wake.wait(LOOK_IDLE_SECONDS if is_idle else LOOK_SECONDS)
            self._wake.clear()


class Watch(Iterator[list[Any]]):
    """Yields the rows at once, and again whenever they are others; waits in between.

    Ends with `close`, from any thread, with the `with` block, when it is let go of, or with `replica.stop()`.
    """

    def __init__(self, query: LiveQuery, poller: Poller) -> None:
        self._query = query
        self._poller = poller
        self._due = due = threading.Event()
        self._turn = threading.Lock()
        self._closed = threading.Event()
        self._number = poller.subscribe(due.set)  # not a method of this object, which would then live for ever

    @property
    def tables(self) -> frozenset[str]:
        """The tables that the query reads."""
        return self._query.tables

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> list[Any]:
        with self._turn:
            while not self._closed.is_set():
                self._due.clear()
                try:
                    rows = self._query.look()
                except (ReplicaError, sqlite3.Error):
                    if self._closed.is_set():  # it was broken off
                        break
                    self.close()
                    self._query.close()
                    raise
                if rows is not None:
                    return rows
                while not self._due.wait(1.0):  # in steps: where a wait without end cannot be interrupted
                    pass
            self._query.close()
            raise StopIteration

    def close(self) -> None:
        """The iteration ends; a query that runs is broken off."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._poller.unsubscribe(self._number, last_call=True)
        self._query.interrupt()
        if self._turn.acquire(blocking=False):
            try:
                self._query.close()
            finally:
                self._turn.release()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            self.close()


class Closable(Protocol):
    def close(self) -> None: ...


class Watches:
    """All live queries of one replica."""

    def __init__(self, path: str | Path, prepare: Prepare | None = None) -> None:
        self._path = path
        self._prepare = prepare
        self._open: weakref.WeakSet[Closable] = weakref.WeakSet()
        self.poller = Poller(path, prepare)

    def query(self, sql: str, parameters: Parameters, row_factory: RowFactory | None) -> LiveQuery:
        return LiveQuery(self._path, sql, parameters, prepare=self._prepare, row_factory=row_factory)

    def open(self, sql: str, parameters: Parameters, row_factory: RowFactory | None) -> Watch:
        watch = Watch(self.query(sql, parameters, row_factory), self.poller)
        self.add(watch)
        return watch

    def add(self, watch: Closable) -> None:
        """It is closed when the replica stops; it is not kept alive by that."""
        self._open.add(watch)

    def close_all(self) -> None:
        for watch in list(self._open):
            watch.close()
        self.poller.join(1.0)
