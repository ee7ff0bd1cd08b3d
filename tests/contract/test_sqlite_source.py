"""The SQLite source passes the contract of all sources."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline.testing.company_database import SqliteDatabase
from syncline.testing.contract_shapes import ShapesContract
from syncline.testing.contract_statements import StatementsContract
from syncline.testing.dialect import SQLITE
from syncline.testing.migrating_company import ANNS, MigratingCompany
from syncline.testing.source_contract import SourceContract


class SqliteLab(SqliteDatabase):
    dialect = SQLITE

    def reconnect(self, *settings: str) -> None:
        self.host.close()
        self.host = self.connect()
        for setting in settings:
            self.host.execute(f"PRAGMA {setting}")

    def attach_to_another(self, name: str, *statements: str) -> None:
        self.host.close()
        self.host = sqlite3.connect(self.folder / "another.db", isolation_level=None)
        for statement in statements:
            self.host.execute(statement)
        self.host.execute(f"ATTACH ?1 AS {name}", (str(self.path),))

    def dump_schema(self) -> str:
        return repr(self.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"))


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
