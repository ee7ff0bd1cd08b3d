"""Processes that die inside any statement: the app with its agent, and the server.

A process that is armed counts SQLite's virtual-machine instructions. With the drawn one it is dead: what is on the disk
at that moment is kept, every statement from then on is interrupted, and whatever the code does about it is thrown away
with its connections: the file begins anew from what was kept.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from syncline.system.trouble import Trouble, trouble_of
from syncline.testing.simulation.disks import (
    Image,
    Mark,
    evaluate_mark,
    mark_of,
    put_image,
    size_of_log,
    take_image,
    tear,
)
from syncline.testing.simulation.short_writes import ending_at
from syncline.testing.world import Determinism, VirtualClock

COMMIT_INSTRUCTIONS = 2
"""A death within so many instructions of a COMMIT is one in which nobody has heard of it: it has some more."""
CONNECTIONS_KEPT = 32
"""So many are remembered before those that were closed are left out."""
BYTES_LEFT = 5_000
"""Before writes are short: in the middle of a page, and of a frame of the log."""


class ProcessDiedError(Exception):
    """Raised by the simulation itself, outside of all code that is tested: `process` is dead."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.name)
        self.process = process


class Process(Determinism):
    """`prepare` for all connections of one process; those that `is_others` names belong to somebody else.

    `role`: what the process was doing, for who counts deaths.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        clock: VirtualClock,
        rng: random.Random,
        is_others: Callable[[sqlite3.Connection], bool] = lambda _: False,
    ) -> None:
        super().__init__(clock, rng)
        self.name = name
        self.path = path
        self.role = name
        self.died_as = ""
        self._is_others = is_others
        self._connections: list[sqlite3.Connection] = []
        self._is_armed = False
        self._left = 0
        self._pages_max: int | None = None
        self._bytes_max: int | None = None
        self._image: Image | None = None
        self._waits_for_commit = False
        self._since_commit: int | None = None
        self._synced = Mark(b"", 0)

    def __call__(self, connection: sqlite3.Connection) -> None:
        super().__call__(connection)
        if self._is_others(connection):
            return
        if len(self._connections) >= CONNECTIONS_KEPT:
            self._connections = self._open_ones()
        self._connections.append(connection)
        if self._is_armed:
            self._watch(connection)
        if self._pages_max is not None:
            self._bound(connection, self._pages_max)

    def _open_ones(self) -> list[sqlite3.Connection]:
        return [connection for connection in self._connections if _is_open(connection)]

    # ------------------------------------------------------------ dying
    @property
    def is_dead(self) -> bool:
        return self._image is not None

    def arm(self, instructions: int, *, in_commit: bool = False) -> None:
        """It dies with so many instructions more, whatever it does then; `in_commit`: at the first commit thereafter,
        which is on the disk when nobody has heard of it, or is not even on the disk if the power goes, too."""
        self._left, self._waits_for_commit, self._since_commit = instructions, in_commit, None
        self._is_armed = True
        for connection in self._open_ones():
            self._watch(connection)

    def disarm(self) -> None:
        if self._is_armed:
            self._is_armed = False
            for connection in self._open_ones():
                connection.set_progress_handler(None, 0)
                connection.set_trace_callback(None)

    def require_alive(self) -> None:
        """ProcessDiedError where it is not."""
        if self.is_dead:
            raise ProcessDiedError(self)

    def _watch(self, connection: sqlite3.Connection) -> None:
        def begin(sql: str) -> None:
            """What is being committed is on no disk before COMMIT has come back."""
            self._since_commit = None
            if not self.is_dead and sql.startswith("COMMIT"):
                self._since_commit, self._synced = 0, mark_of(self.path)

        connection.set_progress_handler(self._count, 1)
        connection.set_trace_callback(begin)

    def _count(self) -> int:
        if self._image is not None:
            return 1
        self._left -= 1
        if self._since_commit is not None:
            self._since_commit += 1
        is_in_commit = self._since_commit is not None and self._since_commit <= COMMIT_INSTRUCTIONS
        if self._left > 0 or (self._waits_for_commit and not is_in_commit):
            return 0
        self._image, self.died_as = take_image(self.path), self.role
        if not is_in_commit:
            self._synced = evaluate_mark(self._image.log)
        return 1

    # ------------------------------------------------------------ the disk
    def fill_disk(self, pages: int) -> None:
        """The file can grow by so many pages and no more."""
        connections = self._open_ones()
        if connections:
            connections[0].set_progress_handler(None, 0)
            (count,) = connections[0].execute("PRAGMA page_count").fetchone()
            self._pages_max = count + pages
            for connection in connections:
                self._bound(connection, self._pages_max)

    def shorten_writes(self) -> None:
        """What the process writes `on_its_disk` ends in the middle, once the log has grown a little more; and so does
        what is folded into the database file behind that place."""
        self._bytes_max = size_of_log(self.path) + BYTES_LEFT

    def on_its_disk(self) -> AbstractContextManager[None]:
        """Around whatever the process writes, as all processes of the simulation are one of the system's."""
        return ending_at(self._bytes_max)

    def free_disk(self) -> None:
        self._bytes_max = None
        if self._pages_max is not None:
            self._pages_max = None
            for connection in self._open_ones():
                self._bound(connection, 4_294_967_294)

    def _bound(self, connection: sqlite3.Connection, pages: int) -> None:
        connection.set_progress_handler(None, 0)
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        if self._is_armed:
            self._watch(connection)

    # ------------------------------------------------------------ beginning anew
    def close_all(self) -> None:
        """The end of a process is the end of its connections."""
        for connection in self._open_ones():
            connection.set_authorizer(None)
            connection.close()
        self._connections.clear()

    def put_disk_back(self, rng: random.Random | None) -> None:
        """After `close_all`, and once nobody else has the file open: the disk as it was at the death; with `rng`, the
        power went, too. The process may begin anew."""
        assert self._image is not None
        put_image(self.path, tear(self._image, self._synced, rng) if rng else self._image)
        self._image, self._is_armed = None, False


def fault_of_disk(error: sqlite3.Error) -> str | None:
    """The fault of a device's disk that this error tells of, if it is one."""
    return {Trouble.DISK_FULL: "full disk of a device", Trouble.DISK_FAILS: "short write"}.get(trouble_of(error))


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018
    except sqlite3.ProgrammingError:
        return False
    return True
