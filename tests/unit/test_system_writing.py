"""Waiting for SQLite's write lock: soon after it is free, and not for ever."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncline.system import writing
from syncline.system.database import immediate, open_database
from syncline.system.writing import begin_write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (n INTEGER)")
    return tmp_path / "a.db"


@pytest.fixture
def ours(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_database(path, busy_seconds=5.0)) as db:
        yield db


def test_a_lock_that_is_free_for_an_instant_is_met(path: Path, ours: sqlite3.Connection) -> None:
    """Somebody writes without a pause: each of our writes gets in between two of theirs."""
    ended = threading.Event()

    def write_densely() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as theirs:
            while not ended.is_set():
                theirs.execute("INSERT INTO t VALUES (1)")

    thread = threading.Thread(target=write_densely)
    thread.start()
    try:
        for _ in range(20):
            with immediate(ours):
                ours.execute("INSERT INTO t VALUES (2)")
    finally:
        ended.set()
        thread.join()
    assert ours.execute("SELECT count(*) FROM t WHERE n = 2").fetchone() == (20,)


def test_looking_begins_dense_and_grows_rare(
    path: Path, ours: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, naps = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(writing.time, "sleep", sleep)
    monkeypatch.setattr(writing.time, "monotonic", lambda: now[0])
    with closing(sqlite3.connect(path, isolation_level=None)) as theirs:
        theirs.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            begin_write(ours)
    assert naps[0] < 0.001 and naps[-1] == writing.LOOK_SECONDS and 4.9 < now[0] < 5.1


def test_the_connections_own_patience_is_as_it_was(path: Path, ours: sqlite3.Connection) -> None:
    begin_write(ours)
    ours.execute("ROLLBACK")
    assert ours.execute("PRAGMA busy_timeout").fetchone() == (5000,)
    with pytest.raises(sqlite3.OperationalError, match="within a transaction"), immediate(ours):
        begin_write(ours)
    assert ours.execute("PRAGMA busy_timeout").fetchone() == (5000,) and not ours.in_transaction
