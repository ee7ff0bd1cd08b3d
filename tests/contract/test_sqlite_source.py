"""The SQLite source passes the contract of all sources."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.testing.source_contract import SourceContract

T = TypeVar("T")


class SqliteLab:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._host = sqlite3.connect(path, isolation_level=None)
        self._sources: list[SqliteSource] = []

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        return self._host.execute(sql, tuple(parameters)).fetchall()

    def dump_schema(self) -> str:
        return repr(self.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"))

    def open(self) -> SqliteSource:
        self._sources.append(SqliteSource(self._path, inline=True))
        return self._sources[-1]

    def wait(self, awaitable: Awaitable[T]) -> T:
        return drive(awaitable)

    def close(self) -> None:
        for source in self._sources:
            drive(source.close())
        self._host.close()


class TestSqliteSource(SourceContract):
    @pytest.fixture
    def lab(self, tmp_path: Path) -> Iterator[SqliteLab]:  # type: ignore[override]
        lab = SqliteLab(tmp_path / "clinic.db")
        yield lab
        lab.close()
