"""Every driver and ORM at once, at a file that is being synced, with the office writing too (P1, P4, P5)."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.company import SECRET, Company, environment, query, rows_of, wait_for
from tests.neighbours import writers

TABLES = "CREATE TABLE notes(id TEXT PRIMARY KEY, author TEXT NOT NULL, body TEXT NOT NULL, n INTEGER NOT NULL);"
CONFIGURATION = f"""
[source]
url = "sqlite:///clinic.db"
[auth]
secret = "{SECRET}"
[scope.all]
tables = ["notes"]
"""
SQL = "SELECT id, author, body, n FROM notes ORDER BY id"
OPTIONAL = {"command_line": "sqlite3"}


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path, TABLES, CONFIGURATION)
    company.serve()
    yield company
    company.close()


def start(name: str, path: Path) -> subprocess.Popen[str]:
    """A process of its own. Warnings are no errors there: the ORMs have some of their own."""
    command = [sys.executable, writers.__file__, name, str(path)]
    surroundings = environment() | {"PYTHONWARNINGS": "default"}
    return subprocess.Popen(command, env=surroundings, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def test_all_of_them_write_at_once_and_nothing_is_lost(company: Company) -> None:
    """P1, P4, P5: none meets a locked file, no reader waits, and both sides are equal in the end."""
    here = [name for name in writers.WRITERS if shutil.which(OPTIONAL.get(name, sys.executable))]
    replica = company.live("ann")
    running = {name: start(name, replica.path) for name in here}
    written = 0
    with closing(sqlite3.connect(replica.path, timeout=0)) as reader:
        while any(process.poll() is None for process in running.values()):
            reader.execute("SELECT count(*), sum(n) FROM notes").fetchone()  # with no patience at all
            company.execute("INSERT INTO notes VALUES (?, 'office', 'ä🩺', 0)", f"office-{written}")
            written += 1
            time.sleep(0.05)  # the office is no benchmark
    ends = {name: (process.communicate()[1], process.returncode) for name, process in running.items()}
    assert {name: status for name, (_, status) in ends.items()} == dict.fromkeys(here, 0), ends
    wait_for(lambda: replica.status.pending == 0, "the outbox is empty")
    wait_for(lambda: rows_of(replica.path, ["notes"]) == rows_of(company.path, ["notes"]), "both sides are equal")
    found = query(company.path, SQL)
    expected = {(f"{name}-{n}", name, "ä🩺!" if n % 2 else "ä🩺", n) for name in here for n in range(writers.ROWS)}
    assert {row for row in found if row[1] != "office"} == expected
    assert sum(row[1] == "office" for row in found) == written > 0
    assert replica.rejections() == [] and query(replica.path, "PRAGMA integrity_check") == [("ok",)]
    missing = set(writers.WRITERS) - set(here)
    if missing:
        pytest.skip(f"everything else passed; not installed: {', '.join(OPTIONAL[name] for name in missing)}")
