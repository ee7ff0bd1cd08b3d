"""The SQLite source passes the contract of all sources."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from syncline.source.sqlite.source import SqliteSource
from syncline.source.sqlite.threads import drive
from syncline.testing.contract_lab import Dialect
from syncline.testing.contract_migrations import ANNS, MigratingCompany
from syncline.testing.contract_shapes import ShapesContract
from syncline.testing.contract_statements import StatementsContract
from syncline.testing.source_contract import SourceContract

T = TypeVar("T")

SQLITE = Dialect(
    "sqlite",
    has_replace=True,
    has_without_rowid=True,
    has_strict=True,
    has_typeless_columns=True,
    has_null_keys=True,
    has_virtual_tables=True,
    has_attach=True,
)


class SqliteLab:
    dialect = SQLITE

    def __init__(self, folder: Path, journal: str = "wal") -> None:
        self.folder = folder
        self._path = folder / "clinic.db"
        self._journal = journal
        self._host = sqlite3.connect(self._path, isolation_level=None)
        self._sources: list[SqliteSource] = []

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        return self._host.execute(sql, tuple(parameters)).fetchall()

    def reconnect(self, *settings: str) -> None:
        self._host.close()
        self._host = sqlite3.connect(self._path, isolation_level=None)
        for setting in settings:
            self._host.execute(f"PRAGMA {setting}")

    def attach_to_another(self, name: str, *statements: str) -> None:
        self._host.close()
        self._host = sqlite3.connect(self.folder / "another.db", isolation_level=None)
        for statement in statements:
            self._host.execute(statement)
        self._host.execute(f"ATTACH ?1 AS {name}", (str(self._path),))

    def dump_schema(self) -> str:
        return repr(self.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"))

    def open(self) -> SqliteSource:
        self._sources.append(SqliteSource(self._path, inline=True, journal=self._journal))
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
        lab = SqliteLab(tmp_path)
        yield lab
        lab.close()

    def test_a_column_dropped_where_sqlite_does_not_look_at_triggers(self, company: MigratingCompany) -> None:
        """P15, P20: writes to the table fail until the server, which is at it at once, has put capture back."""
        ann = company.phone("ann")
        company.execute("PRAGMA legacy_alter_table = ON", "ALTER TABLE visits DROP COLUMN summary")
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            company.execute("UPDATE visits SET status = 'missed'")
        company.checkpoint()
        company.execute("SELECT 1 FROM visits")  # else SQLite's own idea of the schema is the old one
        company.execute("UPDATE visits SET status = 'missed' WHERE id = 'v-bo'")
        company.agrees(ann, ANNS)
        company.nothing_was_taken_away()

    def test_sqlite_refuses_to_drop_a_column_that_capture_names(self, company: MigratingCompany) -> None:
        """P15: the company's statement fails, says why, and has changed nothing."""
        with pytest.raises(sqlite3.OperationalError, match="error in trigger syncline_"):
            company.execute("ALTER TABLE visits DROP COLUMN summary")
        assert company.take_checkpoint() is None


class TestSqliteSourceWithARollbackJournal(StatementsContract, ShapesContract):
    """`[source] journal = "keep"` on a file that is not in WAL mode."""

    @pytest.fixture
    def lab(self, tmp_path: Path) -> Iterator[SqliteLab]:  # type: ignore[override]
        lab = SqliteLab(tmp_path, journal="keep")
        yield lab
        lab.close()
