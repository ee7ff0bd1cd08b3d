"""Nothing is told before it is on the disk, and the disk is not waited for inside the write lock (P1, P15)."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.contract.test_sqlite_source import SqliteLab

from syncline.errors import SourceError
from syncline.model.merge import Stamp
from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig
from syncline.source.port import WriteTransaction
from syncline.source.sqlite import durable
from syncline.source.sqlite.source import SqliteSource
from syncline.testing.contract_lab import Company
from syncline.testing.world import Determinism


class TracedLab(SqliteLab):
    """`events`: the COMMITs of the source's connections and the syncs of the log, in their order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, journal: str = "wal") -> None:
        super().__init__(folder, journal)
        self.events: list[str] = []
        self.sync_error: OSError | None = None
        self._theirs = sqlite3.connect(folder / "clinic.db", isolation_level=None, timeout=0)
        monkeypatch.setattr(durable, "_sync_data", self._sync)

    def _sync(self, handle: int) -> None:
        assert os.path.samestat(os.fstat(handle), (self.folder / "clinic.db-wal").stat())
        self._theirs.execute("BEGIN IMMEDIATE")  # fails where the lock is still held
        self._theirs.execute("ROLLBACK")
        if self.sync_error:
            raise self.sync_error
        self.events.append("sync")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        in_write = [False]

        def trace(sql: str) -> None:
            if sql == "COMMIT" and in_write[0]:
                self.events.append("COMMIT")
            in_write[0] = sql == "BEGIN IMMEDIATE" or (in_write[0] and sql != "COMMIT")

        connection.set_trace_callback(trace)

    def open(self, world: Determinism | None = None) -> SqliteSource:
        self._sources.append(SqliteSource(self.path, inline=True, journal=self._journal, prepare=self._prepare))
        return self._sources[-1]

    def close(self) -> None:
        self._theirs.close()
        super().close()


@contextmanager
def serving(lab: TracedLab) -> Iterator[Company]:
    tables = ["CREATE TABLE things(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO things VALUES(1, 'a')"]
    with (
        closing(lab),
        closing(Company(lab, tables, PlanConfig((ScopeConfig("all", {"things": TableConfig()}),)))) as company,
    ):
        lab.events.clear()
        yield company


async def write_b(tx: WriteTransaction) -> str:
    await tx.write_row("things", (1,), "U", {"v": "b"}, Stamp(1, 1))
    return "done"


def test_whatever_is_told_was_synced_after_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = TracedLab(tmp_path, monkeypatch)
    with serving(lab) as company:

        def events() -> list[str]:
            told, lab.events = lab.events, []
            return told

        assert company.wait(company.source.write(write_b)) == "done"
        assert events() == ["COMMIT", "sync"]
        assert company.wait(company.source.take_checkpoint("term-1"))
        assert events() == ["COMMIT", "sync"]
        company.wait(company.source.register(None, None, "ann", 0, {}))
        assert events() == ["COMMIT", "sync"]
        company.wait(company.source.put_marker())
        assert events() == ["COMMIT", "sync"]
        assert company.wait(company.source.take_checkpoint("term-1"))
        assert events() == ["COMMIT", "sync"]
        assert company.wait(company.source.take_checkpoint("term-1")) is None
        assert events() == []


def test_what_the_disk_does_not_take_is_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the next: a disk that failed once may say yes the second time and have nothing."""
    lab = TracedLab(tmp_path, monkeypatch)
    with serving(lab) as company:
        for lab.sync_error in (OSError(errno.EIO, "Input/output error"), None):
            with pytest.raises(SourceError) as refused:
                company.wait(company.source.write(write_b))
            assert refused.value.error_code == "source_sync_failed"
        with pytest.raises(SourceError):
            company.wait(company.source.take_checkpoint("term-1"))


def test_a_rollback_journal_is_synced_by_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`[source] journal = "keep"`: there NORMAL may cost the whole file."""
    lab = TracedLab(tmp_path, monkeypatch, journal="keep")
    levels: list[int] = []

    async def look(tx: WriteTransaction) -> None:
        levels.append(company.source._db._open[company.source._db.writer].execute("PRAGMA synchronous").fetchone()[0])  # type: ignore[attr-defined]
        await write_b(tx)

    with serving(lab) as company:
        company.wait(company.source.write(look))
        assert (lab.events, levels) == (["COMMIT"], [2])


def test_a_file_that_is_deprovisioned_and_provisioned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves WAL mode, and comes back to it, on the same connection."""
    lab = TracedLab(tmp_path, monkeypatch)
    with serving(lab) as company:
        lab._theirs.close()
        lab.host.close()
        company.wait(company.source.end_term("term-1"))
        assert company.wait(company.source.deprovision())
        lab.reconnect()
        assert lab.execute("PRAGMA journal_mode") == [("delete",)]
        lab._theirs = sqlite3.connect(tmp_path / "clinic.db", isolation_level=None, timeout=0)
        company.wait(company.source.provision(company.plan))
        company.wait(company.source.attach(company.plan))
        lab.events.clear()
        assert company.wait(company.source.write(write_b)) == "done"
        assert lab.events == ["COMMIT", "sync"]
