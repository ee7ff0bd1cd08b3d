"""The company's database as tests reach it, and the one on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from syncline.source.port import Source
from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.testing.world import Determinism

T = TypeVar("T")


class CompanyDatabase(Protocol):
    """One empty database. `execute` is the host's own connection, in autocommit unless it says BEGIN. Whoever made it
    closes it, and with it every source that it opened."""

    folder: Path
    """For the files of devices."""
    loop: asyncio.AbstractEventLoop | None
    """Which its sources run on; None where any will do, or none at all."""

    has_many_writers: bool

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]: ...

    def begin_beside(self, sql: str, parameters: Iterable[Any]) -> Callable[[], None]:
        """One of many writers: a transaction on a connection of its own, with this statement in it. What is answered
        commits it."""
        ...

    def open(self, world: Determinism | None = None) -> Source:
        """A source on this database. With `world`, it takes the time from `world.clock` and what it draws from
        `world.draw`, and from now on capture stamps what the host writes with that clock's time, too."""
        ...

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Run a coroutine of the source."""
        ...

    def close(self) -> None: ...


class SqliteDatabase:
    """A SQLite file, and sources that run in the caller's own thread."""

    has_many_writers = False

    def __init__(self, folder: Path, journal: str = "wal") -> None:
        self.folder = folder
        self.path = folder / "clinic.db"
        self.loop: asyncio.AbstractEventLoop | None = None
        self._journal = journal
        self._world: Determinism | None = None
        self._sources: list[SqliteSource] = []
        self.host = self.connect()

    def connect(self) -> sqlite3.Connection:
        """A connection as the host has one."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        if self._world:
            self._world(connection)
        return connection

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        return self.host.execute(sql, tuple(parameters)).fetchall()

    def begin_beside(self, sql: str, parameters: Iterable[Any]) -> Callable[[], None]:
        raise NotImplementedError("SQLite has one writer at a time.")

    def open(self, world: Determinism | None = None) -> SqliteSource:
        if world is None:
            source = SqliteSource(self.path, journal=self._journal, inline=True)
        else:
            self._world = world
            world(self.host)
            source = SqliteSource(
                self.path, journal=self._journal, clock=world.clock, draw=world.draw, prepare=world, inline=True
            )
        self._sources.append(source)
        return source

    def wait(self, awaitable: Awaitable[T]) -> T:
        return drive(awaitable)

    def close(self) -> None:
        for source in self._sources:
            drive(source.close())
        self.host.close()


def statements_of(script: str) -> list[str]:
    """The single statements of a script in SQLite's words."""
    found, begun = [], ""
    for part in script.split(";"):
        begun += f"{part};"
        if sqlite3.complete_statement(begun):
            found.append(begun.strip("; \n"))
            begun = ""
    return [statement for statement in found if statement]
