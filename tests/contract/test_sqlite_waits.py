"""A SQLite file that stays in rollback-journal mode: there a reader makes every writer wait, so ours must be short."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

from tests.contract.test_sqlite_source import SqliteLab

from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig
from syncline.testing.contract_lab import Company

ROWS = 20_000


class Host(threading.Thread):
    """A program that writes all the time, with SQLite's usual patience; `errors` holds what it was refused."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.ending = threading.Event()
        self.writes = 0
        self.errors: list[str] = []

    def run(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            while not self.ending.wait(0.001):
                try:
                    db.execute("UPDATE things SET n = n + 1 WHERE id = 1")
                    self.writes += 1
                except sqlite3.OperationalError as error:
                    self.errors.append(str(error))


def test_a_host_writes_on_while_a_device_downloads(tmp_path: Path) -> None:
    """P15: `[source] journal = "keep"`."""
    with contextlib.closing(SqliteLab(tmp_path, journal="keep")) as lab:
        company = Company(
            lab,
            [
                "CREATE TABLE things(id INTEGER PRIMARY KEY, n INTEGER, v TEXT)",
                f"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {ROWS}) "
                "INSERT INTO things SELECT i, 0, 'row ' || i FROM c",
            ],
            PlanConfig((ScopeConfig("all", {"things": TableConfig()}),)),
        )
        host = Host(tmp_path / "clinic.db")
        with contextlib.closing(company):
            host.start()
            phone = company.new_phone("ann")
            try:
                phone.hello()
                before = host.writes
                phone.download()
                during = host.writes - before
            finally:
                host.ending.set()
                host.join()
            assert lab.execute("PRAGMA journal_mode") == [("delete",)]
            assert (during > 0, host.errors) == (True, [])
            company.agrees(phone, things="1 = 1")
