"""The oldest SQLite that a replica runs on, the newest that there is, and one that is too old (P16, P20)."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.neighbours.sqlite_builds import NEWEST, OLDEST, Build, NoBuildError, environment_of

from syncline import Replica, ReplicaError
from syncline.model.program import SQLITE_MIN

ROOT = Path(__file__).parents[2]
REPLICA_TESTS = ("apply", "capture", "cut", "install", "outbox", "own_objects", "stage", "temporary_files")
"""Of tests/replica: what runs the program's SQL and ours."""


def test_the_stated_minimum_is_the_one_that_is_tested() -> None:
    assert OLDEST.version == SQLITE_MIN
    for page in ("README.md", "docs/orms.md"):
        assert f"SQLite {SQLITE_MIN}" in (ROOT / page).read_text(encoding="utf-8"), page


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("build", [OLDEST, NEWEST], ids=["oldest", "newest"])
def test_a_replica_does_all_that_it_does_on_this_sqlite(build: Build) -> None:
    """The replica's own tests, in a process whose SQLite is that one."""
    try:
        environment = environment_of(build)
    except NoBuildError as reason:
        pytest.skip(str(reason))
    kept = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    kept["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    files = [f"tests/replica/test_{name}.py" for name in REPLICA_TESTS]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:xdist", *files]
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "100%" in done.stdout


def test_a_sqlite_that_is_too_old_is_refused_and_nothing_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nurse.db"
    path.write_bytes(b"")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.31.1")
    with pytest.raises(ReplicaError) as caught:
        Replica(path, "https://sync.example.org", "token")
    assert caught.value.code == "sqlite_too_old"
    assert SQLITE_MIN in str(caught.value) and "3.31.1" in str(caught.value) and "newer SQLite" in str(caught.value)
    assert path.read_bytes() == b"" and not (tmp_path / "nurse.db-wal").exists()
